//! The course of one task: start the app at the change, run every suite, look again at what failed, ask the
//! base about what is in question, judge. Knows no wire format.

use agent_runtime::{
    process::Finished, project::Project, reporter::Reporter, repository::CommitId,
};
use contracts::{error::Error, error_reason::ErrorReason, task::Verdict};

use crate::{
    app::how_it_ended,
    bench::{Bench, BenchFailure, Remains, Workshop},
    endpoints,
    evidence::Evidence,
    judgement::{self, BaseLook, Judgement},
    plan::{Plan, StartPlan},
    subject::Subject,
    suites::{self, Doubt, PlannedSuite, SuiteKind},
    tally::{At, Tally},
};

/// How often the base is asked about a flaky test before it counts as steady there.
const BASE_LOOKS: usize = 3;

/// What a task has to work with.
pub struct Examination<'a> {
    /// What will be started and tested.
    pub plan: &'a Plan,
    /// How the app starts.
    pub start: &'a StartPlan,
    /// The commits; none: an app that runs already, and nothing else.
    pub subject: Option<(&'a Subject, &'a Project)>,
    /// Where everything happens.
    pub workshop: &'a Workshop,
    /// Who is told.
    pub reporter: &'a Reporter,
}

/// One suite, counted and judged.
pub struct SuiteOutcome {
    /// What was run.
    pub suite: PlannedSuite,
    /// What was seen.
    pub tally: Tally,
    /// Why that cannot be believed.
    pub doubt: Option<Doubt>,
    /// The judgement.
    pub judgement: Judgement,
    /// Wall time of its runs at the change.
    pub duration: std::time::Duration,
    /// Whether it ran at all.
    pub started: bool,
}

/// How the app behaved.
#[derive(Default)]
pub struct AppOutcome {
    /// Time from start to ready.
    pub ready_after: Option<std::time::Duration>,
    /// How its process ended; none: there was none, or it is not ours.
    pub finished: Option<Finished>,
    /// Whether it ended because we stopped it.
    pub stopped_by_us: bool,
}

/// What came of a task.
pub struct Examined {
    /// The judgement of the whole.
    pub judgement: Judgement,
    /// Every suite.
    pub suites: Vec<SuiteOutcome>,
    /// The app.
    pub app: AppOutcome,
    /// Slowest twentieth of the endpoint checks, in milliseconds.
    pub p95_latency_ms: Option<f64>,
    /// Programs that ran, and artifacts.
    pub evidence: Evidence,
}

impl Examination<'_> {
    /// Runs the task. An error means that nothing is known because we were stopped.
    pub async fn run(&self) -> Result<Examined, Error> {
        let mut evidence = Evidence::default();
        self.reporter.progress(5.0, "start", "starting the app");
        let head = self
            .subject
            .map(|(subject, project)| (&subject.repository, project, subject.head));
        let (opened, remains) = Bench::open(self.workshop, head, self.start, "head").await;
        let log = remains.log.clone();
        evidence.keep_runs(remains.runs);
        let mut bench = match opened {
            Ok(bench) => bench,
            Err(failure) => {
                evidence
                    .keep_app_log("app.log", log.as_deref(), self.reporter)
                    .await;
                return self.not_started(failure, evidence).await;
            }
        };
        let ready_after = bench.app().ready_after();
        self.reporter.progress(
            25.0,
            "test",
            format!("the app is ready after {} ms", ready_after.as_millis()),
        );

        let mut outcomes: Vec<SuiteOutcome> = self
            .plan
            .suites
            .iter()
            .cloned()
            .map(SuiteOutcome::new)
            .collect();
        let died = self.test(&mut bench, &mut outcomes, &mut evidence).await?;
        let p95_latency_ms = if died.is_none() {
            self.latency(&bench).await
        } else {
            None
        };
        let log = std::sync::Arc::clone(bench.log());
        let ended = bench.app().ended();
        let finished = bench.close().await;
        self.stopped()?;
        evidence
            .keep_app_log("app.log", Some(&*log), self.reporter)
            .await;

        self.reporter
            .progress(75.0, "compare", "asking the base about what is in question");
        let base = self.ask_base(&mut outcomes, &mut evidence).await?;
        for outcome in &mut outcomes {
            outcome.judgement = judgement::suite(&outcome.tally, outcome.doubt.as_ref(), &base);
            if !outcome.started {
                outcome.judgement =
                    Judgement::new(Verdict::NotProven, "not run: the app had ended");
            }
        }
        let mut whole = judgement::whole(
            outcomes
                .iter()
                .map(|outcome| (outcome.suite.name.as_str(), &outcome.judgement)),
        );
        if let Some((during, ended)) = &died {
            whole = Judgement::new(
                Verdict::Failed,
                format!(
                    "during `{during}`, the app {}: {}",
                    how_it_ended(ended),
                    ended.last_lines(5)
                ),
            );
        }
        self.reporter.progress(95.0, "judge", whole.reason.clone());
        Ok(Examined {
            judgement: whole,
            suites: outcomes,
            app: AppOutcome {
                ready_after: Some(ready_after),
                stopped_by_us: ended.is_none() && finished.is_some(),
                finished: ended.or(finished),
            },
            p95_latency_ms,
            evidence,
        })
    }

    /// Runs every suite, and again what failed: at once, and at the end. Says during which suite the app ended.
    async fn test(
        &self,
        bench: &mut Bench,
        outcomes: &mut [SuiteOutcome],
        evidence: &mut Evidence,
    ) -> Result<Option<(String, Finished)>, Error> {
        let count = outcomes.len().max(1);
        for (index, outcome) in outcomes.iter_mut().enumerate() {
            let percent = 25.0 + 40.0 * index as f64 / count as f64;
            self.reporter
                .progress(percent, "test", format!("suite {}", outcome.suite.name));
            outcome.started = true;
            self.once(bench, outcome, At::Head, None, evidence).await?;
            if let Some(ended) = bench.app().ended() {
                return Ok(Some((outcome.suite.name.clone(), ended)));
            }
            let failed = outcome.tally.never_passed();
            if self.plan.retries > 0 && outcome.doubt.is_none() && !failed.is_empty() {
                self.once(bench, outcome, At::Head, Some(&failed), evidence)
                    .await?;
            }
            if let Some(ended) = bench.app().ended() {
                return Ok(Some((outcome.suite.name.clone(), ended)));
            }
        }
        self.reporter
            .progress(65.0, "test", "looking again at what failed");
        for _ in 1..self.plan.retries {
            for outcome in outcomes.iter_mut() {
                let failed = outcome.tally.never_passed();
                if outcome.doubt.is_some() || failed.is_empty() {
                    continue;
                }
                self.once(bench, outcome, At::Head, Some(&failed), evidence)
                    .await?;
                if let Some(ended) = bench.app().ended() {
                    return Ok(Some((outcome.suite.name.clone(), ended)));
                }
            }
        }
        Ok(None)
    }

    /// One run of one suite, counted.
    async fn once(
        &self,
        bench: &mut Bench,
        outcome: &mut SuiteOutcome,
        at: At,
        only: Option<&[String]>,
        evidence: &mut Evidence,
    ) -> Result<(), Error> {
        let (place, round) = bench.place().map_err(|error| {
            Error::new(
                ErrorReason::Infrastructure,
                format!("no folder for reports: {error}"),
            )
        })?;
        let started = std::time::Instant::now();
        let run = suites::run(&outcome.suite, &place, only).await;
        if at == At::Head {
            outcome.duration += started.elapsed();
        }
        self.stopped()?;
        evidence.keep_runs(run.runs);
        let folder = format!("{}/{}-{round}", bench.label(), outcome.suite.name);
        evidence
            .keep_reports(&folder, run.reports, self.reporter)
            .await;
        // A first run that cannot be believed spoils the suite; a later one only adds nothing.
        let first = outcome.tally.tests().is_empty();
        match (run.doubt, at) {
            (Some(doubt), At::Head) if first => {
                outcome.tally.add(at, run.seen);
                outcome.doubt = Some(doubt);
            }
            (Some(_), _) => {}
            (None, _) => outcome.tally.add(at, run.seen),
        }
        Ok(())
    }

    async fn latency(&self, bench: &Bench) -> Option<f64> {
        let questions = self
            .plan
            .suites
            .iter()
            .find_map(|suite| match &suite.kind {
                SuiteKind::Endpoints(questions) => Some(questions),
                SuiteKind::Hurl(_) | SuiteKind::Playwright { .. } | SuiteKind::Command { .. } => {
                    None
                }
            })?;
        endpoints::p95_latency(questions, bench.app().base_url()).await
    }

    async fn ask_base(
        &self,
        outcomes: &mut [SuiteOutcome],
        evidence: &mut Evidence,
    ) -> Result<BaseLook, Error> {
        let needed = outcomes
            .iter()
            .any(|outcome| outcome.doubt.is_none() && !outcome.tally.in_question().is_empty());
        if !needed {
            return Ok(BaseLook::NotNeeded);
        }
        let Some((subject, base)) = self.base() else {
            return Ok(BaseLook::NoBase);
        };
        let (opened, remains) = self.open_base(subject, base).await?;
        evidence.keep_runs(remains.runs);
        let mut bench = match opened {
            Ok(bench) => bench,
            Err(failure) => return Ok(BaseLook::Unavailable(first_line(&failure.to_string()))),
        };
        for outcome in outcomes
            .iter_mut()
            .filter(|outcome| outcome.doubt.is_none())
        {
            let names = outcome.tally.in_question();
            let mut looks = 0;
            while looks < BASE_LOOKS && needs_look(&outcome.tally, looks) {
                looks += 1;
                self.once(&mut bench, outcome, At::Base, Some(&names), evidence)
                    .await?;
            }
        }
        bench.close().await;
        self.stopped()?;
        Ok(BaseLook::Looked)
    }

    /// The app did not start. A start that was only detected is a guess: it counts against the change only when
    /// it works at the base.
    async fn not_started(
        &self,
        failure: BenchFailure,
        mut evidence: Evidence,
    ) -> Result<Examined, Error> {
        self.stopped()?;
        let (judgement, finished) = match failure {
            BenchFailure::Cancelled => return Err(cancelled()),
            BenchFailure::NotProven(reason) => (Judgement::new(Verdict::NotProven, reason), None),
            BenchFailure::Broken(reason) => (Judgement::new(Verdict::Failed, reason), None),
            BenchFailure::App { reason, finished } => {
                let judgement = match &self.start.guessed_from {
                    None => Judgement::new(Verdict::Failed, format!("the app {reason}")),
                    Some(origin) => self.wrong_guess(origin, &reason, &mut evidence).await?,
                };
                (judgement, finished.map(|finished| *finished))
            }
        };
        let mut suites: Vec<SuiteOutcome> = self
            .plan
            .suites
            .iter()
            .cloned()
            .map(SuiteOutcome::new)
            .collect();
        for outcome in &mut suites {
            outcome.judgement =
                Judgement::new(Verdict::NotProven, "not run: the app was not ready");
        }
        Ok(Examined {
            judgement,
            suites,
            app: AppOutcome {
                finished,
                ..AppOutcome::default()
            },
            p95_latency_ms: None,
            evidence,
        })
    }

    async fn wrong_guess(
        &self,
        origin: &str,
        reason: &str,
        evidence: &mut Evidence,
    ) -> Result<Judgement, Error> {
        let guess = format!("how it starts is not declared, only detected from {origin}");
        let declare = "declare `app.start` in .agentic/project.yaml";
        let Some((subject, base)) = self.base() else {
            return Ok(Judgement::new(
                Verdict::NotProven,
                format!("{guess}; {declare}; the app {reason}"),
            ));
        };
        let (opened, remains) = self.open_base(subject, base).await?;
        evidence.keep_runs(remains.runs);
        match opened {
            Ok(bench) => {
                bench.close().await;
                let text = format!("the app {reason}; at the base it starts in the same way");
                Ok(Judgement::new(Verdict::Failed, text))
            }
            Err(_) => Ok(Judgement::new(
                Verdict::NotProven,
                format!(
                    "{guess}, and it does not work at the base either; {declare}; the app {reason}"
                ),
            )),
        }
    }

    fn base(&self) -> Option<(&Subject, CommitId)> {
        let (subject, _) = self.subject?;
        Some((subject, subject.base?))
    }

    async fn open_base(
        &self,
        subject: &Subject,
        base: CommitId,
    ) -> Result<(Result<Bench, BenchFailure>, Remains), Error> {
        let project = Project::of_commits(&subject.repository, None, base).await;
        let opened = match project {
            Ok(project) => {
                let commit = Some((&subject.repository, &project, base));
                Bench::open(self.workshop, commit, self.start, "base").await
            }
            Err(error) => {
                let failure = BenchFailure::NotProven(error.to_string());
                (
                    Err(failure),
                    Remains {
                        runs: Vec::new(),
                        log: None,
                    },
                )
            }
        };
        self.stopped()?;
        Ok(opened)
    }

    fn stopped(&self) -> Result<(), Error> {
        if self.workshop.cancel.is_cancelled() {
            Err(cancelled())
        } else {
            Ok(())
        }
    }
}

impl SuiteOutcome {
    fn new(suite: PlannedSuite) -> Self {
        Self {
            suite,
            tally: Tally::default(),
            doubt: None,
            judgement: Judgement::new(Verdict::NotProven, "not run"),
            duration: std::time::Duration::ZERO,
            started: false,
        }
    }
}

/// One look tells whether a test fails at the base; that one is flaky there may take more.
fn needs_look(tally: &Tally, looks: usize) -> bool {
    use contracts::e2e::TestStatus;
    let questions = tally.in_question();
    if looks == 0 {
        return !questions.is_empty();
    }
    tally.tests().iter().any(|test| {
        test.status() == TestStatus::Flaky && test.ran_at_base() && !test.fails_at_base()
    })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn cancelled() -> Error {
    Error::new(ErrorReason::Cancelled, "the task was cancelled")
}
