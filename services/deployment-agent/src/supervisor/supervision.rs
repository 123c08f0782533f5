//! The loop around one instance.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Crew,
    readiness::{Sickness, pattern, until_ready, until_sick},
    restarts::Restarts,
    status::{Phase, Status},
};
use crate::{
    instance_log::InstanceLog,
    target::{End, Launch, Run},
};

/// An instance that is sick may still finish what it began, but nobody waits long for it.
const SICK_DRAIN: Duration = Duration::from_secs(2);

/// Time for the end of an instance to be known that does not answer any more: a dying one fails its
/// probes first.
const DYING: Duration = Duration::from_secs(2);

pub(super) struct Supervision {
    pub(super) crew: Arc<Crew>,
    pub(super) number: u32,
    pub(super) log: Arc<InstanceLog>,
    pub(super) status: watch::Sender<Status>,
    pub(super) stop: CancellationToken,
}

/// What befell a run that was ready.
enum Trouble {
    Ended(End),
    Sick(Sickness),
}

/// How one run was over.
enum Over {
    Stopped { cut_count: usize, end: Option<End> },
    Problem { text: String, end: Option<End> },
}

impl Supervision {
    pub(super) async fn run(self) {
        let mut restarts = Restarts::new(self.crew.spec.restart.clone());
        let mut was_ready = self.crew.proven;
        loop {
            match self.one_run(&mut was_ready).await {
                Over::Stopped { cut_count, end } => return self.stopped(cut_count, end),
                Over::Problem { text, end } => {
                    self.log.note(&text);
                    self.tell_clients(&text);
                    let wait = if was_ready {
                        restarts.next(Instant::now())
                    } else {
                        None
                    };
                    let Some(wait) = wait else {
                        return self.given_up(was_ready, text, end);
                    };
                    self.status.send_modify(|status| {
                        status.phase = Phase::Restarting;
                        status.restart_count += 1;
                        status.problem = Some(text);
                        status.end = end.or(status.end.take());
                    });
                    tokio::select! {
                        biased;
                        () = self.stop.cancelled() => return self.stopped(0, None),
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// What clients are told when this was the last instance.
    fn tell_clients(&self, problem: &str) {
        let (revision, number) = (self.crew.revision, self.number);
        self.crew.router.set_vacant_reason(format!(
            "instance {number} of revision {revision}: {problem}"
        ));
    }

    fn stopped(&self, cut_count: usize, end: Option<End>) {
        self.status.send_modify(|status| {
            status.phase = Phase::Stopped;
            status.cut_count = cut_count;
            status.end = end.or(status.end.take());
        });
    }

    fn given_up(&self, was_ready: bool, text: String, end: Option<End>) {
        let limit = self.crew.spec.restart.limit;
        self.status.send_modify(|status| {
            status.phase = Phase::Failed;
            status.end = end.or(status.end.take());
            status.problem = Some(if was_ready && limit > 0 {
                format!(
                    "crash loop: given up after {} restarts; {text}",
                    status.restart_count
                )
            } else {
                text
            });
        });
    }

    async fn one_run(&self, was_ready: &mut bool) -> Over {
        let crew = &self.crew;
        let spec = &crew.spec;
        let failed = |text: String, end| Over::Problem { text, end };
        match pattern(spec) {
            Ok(pattern) => self.log.begin_run(pattern),
            Err(error) => return failed(format!("its ready pattern is wrong: {error}"), None),
        }
        let launch = self.launch();
        let launched = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Over::Stopped { cut_count: 0, end: None },
            launched = crew.target.launch(&launch) => launched,
        };
        let run = match launched {
            Ok(run) => run,
            Err(error) => return failed(error_chain(&error), None),
        };
        let _mark = MarkFile::write(crew, self.number, &*run).await;
        let mut ended = run.ended();

        let ready = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            end = &mut ended => return failed(self.early_exit(&end), Some(end)),
            ready = until_ready(spec, &*run, &self.log, &self.status) => Some(ready),
        };
        let address = match ready {
            Some(Ok(address)) => address,
            Some(Err(problem)) => {
                let end = run.stop(spec.stop_within).await;
                return failed(problem, Some(end));
            }
            None => {
                let end = run.stop(spec.stop_within).await;
                return Over::Stopped {
                    cut_count: 0,
                    end: Some(end),
                };
            }
        };

        *was_ready = true;
        let backend = crew.router.attach(crew.revision, address);
        self.status.send_modify(|status| {
            status.phase = Phase::Ready;
            status.address = Some(address);
        });
        let trouble = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            end = &mut ended => Some(Trouble::Ended(end)),
            sickness = until_sick(spec, &*run, address, &self.status) => {
                Some(Trouble::Sick(sickness))
            }
        };
        crew.router.detach(&backend);
        let Some(trouble) = trouble else {
            let drained = backend.drain(spec.drain).await;
            let end = run.stop(spec.stop_within).await;
            return Over::Stopped {
                cut_count: drained.cut_count,
                end: Some(end),
            };
        };
        let text = match &trouble {
            Trouble::Ended(end) => self.ended_by_itself(end),
            Trouble::Sick(sickness) => sickness.text.clone(),
        };
        // Whoever judges the revision must not wait for its requests to drain.
        self.status.send_modify(|status| {
            status.phase = Phase::Restarting;
            status.problem = Some(text.clone());
        });
        // What it still sent may be on its way to the client.
        backend.drain(spec.drain.min(SICK_DRAIN)).await;
        match trouble {
            Trouble::Ended(end) => failed(text, Some(end)),
            Trouble::Sick(sickness) => {
                let dying = if sickness.silent {
                    DYING
                } else {
                    Duration::ZERO
                };
                if let Ok(end) = tokio::time::timeout(dying, &mut ended).await {
                    return failed(self.ended_by_itself(&end), Some(end));
                }
                failed(text, Some(run.stop(spec.stop_within).await))
            }
        }
    }

    fn ended_by_itself(&self, end: &End) -> String {
        format!("it ended by itself: {}", self.told(end))
    }

    fn launch(&self) -> Launch {
        let crew = &self.crew;
        Launch {
            environment: crew.environment.clone(),
            app: crew.app.clone(),
            revision: crew.revision,
            number: self.number,
            spec: Arc::clone(&crew.spec),
            folder: crew.folder.clone(),
            secrets: crew.secrets.clone(),
            log: Arc::clone(&self.log),
        }
    }

    fn early_exit(&self, end: &End) -> String {
        format!("it ended before it was ready: {}", self.told(end))
    }

    /// How it ended and its last words, which mostly say why.
    fn told(&self, end: &End) -> String {
        match self.log.last_own_line() {
            Some(line) => format!("{}; last line of its log: {line}", end.text),
            None => format!("{}; it printed nothing", end.text),
        }
    }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// A file that says what runs, for as long as it runs.
struct MarkFile(PathBuf);

impl MarkFile {
    async fn write(crew: &Crew, number: u32, run: &dyn Run) -> Option<Self> {
        let path = crew.marks.join(format!("{}-{number}.json", crew.revision));
        let written = async {
            tokio::fs::create_dir_all(&crew.marks).await?;
            let text = serde_json::to_vec(&run.mark())?;
            tokio::fs::write(&path, text).await
        };
        match written.await {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                // The owner in the environment still finds it.
                tracing::warn!(path = %path.display(), %error, "cannot write down what runs");
                None
            }
        }
    }
}

impl Drop for MarkFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "cannot remove a mark");
        }
    }
}
