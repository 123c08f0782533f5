//! Follows one workflow's events without gap or repeat, over broken connections and restarts of
//! the mesh. Knows nothing of how events are shown.

use std::time::Duration;

use contracts::client::{Retry, is_broken};
use contracts::orchestrator::watch_workflow_response::Payload;
use contracts::orchestrator::{
    Clarification, Decision, WatchWorkflowRequest, WatchWorkflowResponse, Workflow, WorkflowEvent,
};
use tokio::time::Instant;
use tonic::{Code, Request, Status, Streaming};

use crate::error::Error;
use crate::mesh::Mesh;
use crate::progress::{Applied, OpenDecision, Progress};
use crate::words;

// The mesh says something at least every 15 s (contract.md); three missed ones mean that it is gone
// though the connection looks alive.
const SILENCE: Duration = Duration::from_secs(45);
// After the event that ends a workflow the mesh closes the stream; one that does not is not waited for.
const AFTER_END: Duration = Duration::from_secs(2);
// A connection that lived this long was a good one: what breaks it is a new break.
const GOOD: Duration = Duration::from_secs(5);
const RETRY: Retry = Retry {
    attempts: u32::MAX,
    initial: Duration::from_millis(100),
    longest: Duration::from_secs(3),
};

/// What a watcher tells.
#[derive(Debug)]
pub enum Seen {
    /// The next event; it is part of `progress` already.
    Event(Box<WorkflowEvent>),
    /// Everything up to now was seen.
    CaughtUp,
    /// The mesh went away and is looked for. Said once per break.
    Broken(String),
    /// The workflow is over.
    End,
}

/// Follows one workflow.
pub struct Watcher {
    mesh: Mesh,
    workflow_id: String,
    progress: Progress,
    within: Duration,
    stream: Option<Streaming<WatchWorkflowResponse>>,
    // When this connection first said something.
    heard: Option<Instant>,
    broken: Option<Break>,
    news: Option<String>,
    // A gap was seen after this sequence once before.
    gap_after: Option<i64>,
}

struct Break {
    since: Instant,
    attempt: u32,
    // Not tried again before.
    wake: Instant,
}

impl Watcher {
    /// Follows a workflow that is known to exist, from after an event. `within` bounds how long it
    /// may be without the mesh.
    pub fn new(mesh: Mesh, workflow_id: String, after: i64, within: Duration) -> Self {
        Self {
            mesh,
            workflow_id,
            progress: Progress::after(after),
            within,
            stream: None,
            heard: None,
            broken: None,
            news: None,
            gap_after: None,
        }
    }

    /// What is known so far.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Which workflow.
    pub fn workflow_id(&self) -> &str {
        &self.workflow_id
    }

    /// The mesh, where it was last found.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Takes over what is known from elsewhere, for a watch that begins in the middle.
    pub fn learn(
        &mut self,
        workflow: &Workflow,
        decisions: Vec<Decision>,
        open: Vec<Clarification>,
    ) {
        self.progress.take_workflow(workflow);
        for decision in decisions {
            let asked = OpenDecision {
                stage: decision.stage,
                request: decision.request.unwrap_or_default(),
            };
            self.progress.decisions.insert(decision.decision_id, asked);
        }
        for one in open {
            self.progress
                .clarifications
                .insert(one.clarification_id, one.question);
        }
    }

    /// The next thing to know. Cancel safe: what was not returned comes again.
    pub async fn next(&mut self) -> Result<Seen, Error> {
        loop {
            if let Some(news) = self.news.take() {
                return Ok(Seen::Broken(news));
            }
            let Some(stream) = &mut self.stream else {
                self.connect().await?;
                continue;
            };
            let over = self.progress.finished;
            let patience = if over { AFTER_END } else { SILENCE };
            let message = tokio::time::timeout(patience, stream.message()).await;
            match message {
                Ok(Ok(Some(message))) => {
                    if let Some(seen) = self.take(message)? {
                        return Ok(seen);
                    }
                }
                _ if over => return Ok(Seen::End),
                Ok(Ok(None)) => {
                    self.lose(&Status::unavailable(
                        "the stream ended before the workflow did",
                    ))?;
                }
                Ok(Err(status)) => self.lose(&status)?,
                Err(_) => self.lose(&Status::unavailable("nothing was heard for 45 s"))?,
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Error> {
        if let Some(broken) = &self.broken {
            tokio::time::sleep_until(broken.wake).await;
            // A local mesh may have come back at another address.
            match self.mesh.find_again() {
                Ok(mesh) => self.mesh = mesh,
                Err(error) => return self.wait(&error, None),
            }
        }
        let request = Request::new(WatchWorkflowRequest {
            workflow_id: self.workflow_id.clone(),
            after_sequence: self.progress.sequence,
        });
        let mut client = self.mesh.workflows();
        let answer = client.watch_workflow(request);
        match tokio::time::timeout(contracts::client::UNARY_DEADLINE, answer).await {
            Ok(Ok(stream)) => {
                self.stream = Some(stream.into_inner());
                Ok(())
            }
            Ok(Err(status)) => self.lose(&status),
            Err(_) => self.lose(&Status::unavailable("no answer within 20 s")),
        }
    }

    fn take(&mut self, message: WatchWorkflowResponse) -> Result<Option<Seen>, Error> {
        self.heard.get_or_insert_with(Instant::now);
        let event = match message.payload {
            Some(Payload::Event(event)) => event,
            Some(Payload::CaughtUp(_)) => return Ok(Some(Seen::CaughtUp)),
            Some(Payload::KeepAlive(_)) | None => return Ok(None),
        };
        if event.workflow_id != self.workflow_id {
            return Err(Error::Answer(format!(
                "an event of workflow {:?} came on the watch of {}",
                event.workflow_id, self.workflow_id
            )));
        }
        match self.progress.apply(&event) {
            Applied::New => {
                self.gap_after = None;
                self.broken = None;
                Ok(Some(Seen::Event(Box::new(event))))
            }
            Applied::Repeated => Ok(None),
            Applied::Gap => {
                let after = self.progress.sequence;
                // Once may be a replica that is behind; twice is a log with a hole.
                if self.gap_after == Some(after) {
                    return Err(Error::Answer(format!(
                        "event {} came after event {after}: the log has a gap",
                        event.sequence
                    )));
                }
                self.gap_after = Some(after);
                self.lose(&Status::unavailable("an event was missing"))?;
                Ok(None)
            }
        }
    }

    fn lose(&mut self, status: &Status) -> Result<(), Error> {
        let error = self.mesh.error(status);
        let (again, delay) = if let Error::Refused(refused) = &error {
            let again = matches!(
                refused.code(),
                Code::Unavailable | Code::ResourceExhausted | Code::Aborted
            );
            (again, refused.retry_after)
        } else {
            (is_broken(status), None)
        };
        if again {
            self.wait(&error, delay)
        } else {
            Err(error)
        }
    }

    // Tries again later, unless it has been too long.
    fn wait(&mut self, error: &Error, delay: Option<Duration>) -> Result<(), Error> {
        let now = Instant::now();
        self.stream = None;
        if self
            .heard
            .take()
            .is_some_and(|heard| now.duration_since(heard) >= GOOD)
        {
            self.broken = None;
        }
        let (since, attempt) = match &self.broken {
            Some(broken) => (broken.since, broken.attempt.saturating_add(1)),
            None => {
                self.news = Some(
                    error
                        .to_string()
                        .lines()
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                );
                (now, 1)
            }
        };
        let away = now.duration_since(since);
        if away >= self.within {
            return Err(Error::Unreachable {
                problem: format!(
                    "the mesh has been away for {}: {error}",
                    words::duration(away)
                ),
                advice: format!(
                    "The workflow goes on when the mesh is back; watch it with `agentic watch {}`.",
                    self.workflow_id
                ),
            });
        }
        let delay = RETRY
            .delay(attempt)
            .max(delay.unwrap_or_default())
            .min(self.within.saturating_sub(away));
        self.broken = Some(Break {
            since,
            attempt,
            wake: now + delay,
        });
        Ok(())
    }
}
