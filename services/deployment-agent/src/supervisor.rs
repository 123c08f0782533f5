//! Keeps one instance running: starts it, waits until it is ready, puts it behind the router, watches
//! its health, starts it again within limits, and takes it out without cutting its requests off.
//! Knows nothing about deployments; whoever wants to judge an instance reads its status.

mod readiness;
mod restarts;
mod status;
mod supervision;

use std::{path::PathBuf, sync::Arc};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

pub use self::status::{Phase, Status};
use crate::{
    instance_log::InstanceLog,
    router::{Group, Router},
    spec::Spec,
    target::{End, Target},
};

/// What the instances of one revision have in common.
#[derive(Debug)]
pub struct Crew {
    /// Environment that the app is deployed to.
    pub environment: String,
    /// The app.
    pub app: String,
    /// Number of the revision, which is also its group at the router.
    pub revision: Group,
    /// What to run.
    pub spec: Arc<Spec>,
    /// The checkout that it runs from.
    pub folder: PathBuf,
    /// Folder of the instances' logs.
    pub logs: PathBuf,
    /// Folder of the marks of what runs.
    pub marks: PathBuf,
    /// Variables whose values must not be written down.
    pub secrets: Vec<(String, String)>,
    /// Where instances run.
    pub target: Arc<dyn Target>,
    /// Where their traffic comes from.
    pub router: Arc<Router>,
    /// The revision has proved itself before: an instance that does not get ready at once is
    /// started again like one that crashed later.
    pub proven: bool,
}

/// A supervised instance. Dropping it stops it in the background.
#[derive(Debug)]
pub struct Instance {
    number: u32,
    revision: Group,
    log: Arc<InstanceLog>,
    status: watch::Receiver<Status>,
    stop: CancellationToken,
}

/// How an instance was taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Requests and streams that were cut at the drain deadline.
    pub cut_count: usize,
    /// How its last run ended. None: it was not running.
    pub end: Option<End>,
}

impl Instance {
    /// Starts an instance and its supervision, which lives on the tracker.
    pub fn start(crew: Arc<Crew>, number: u32, tracker: &TaskTracker) -> std::io::Result<Self> {
        let path = crew.logs.join(format!("{}-{number}.log", crew.revision));
        let log = Arc::new(InstanceLog::open(&path)?);
        let (publish, status) = watch::channel(Status::default());
        let stop = CancellationToken::new();
        let revision = crew.revision;
        let supervision = supervision::Supervision {
            crew,
            number,
            log: Arc::clone(&log),
            status: publish,
            stop: stop.clone(),
        };
        // The instance outlives the task that started it. As a child it would hold the task's span
        // open as long; so it only names it as its parent.
        let span = tracing::info_span!(
            parent: None,
            "instance",
            otel.name = format!("instance {number} of revision {revision}"),
        );
        if let Err(error) = span.set_parent(Span::current().context()) {
            tracing::debug!(%error, "an instance has no trace");
        }
        tracker.spawn(supervision.run().instrument(span));
        Ok(Self {
            number,
            revision,
            log,
            status,
            stop,
        })
    }

    /// Which of the instances of its revision, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its revision.
    pub fn revision(&self) -> Group {
        self.revision
    }

    /// What it prints.
    pub fn log(&self) -> &InstanceLog {
        &self.log
    }

    /// How it is now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// A view on its status that tells of changes.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until it takes traffic. An error says why it never will.
    pub async fn ready(&self) -> Result<(), String> {
        let mut status = self.status.clone();
        let settled = status
            .wait_for(|status| status.phase != Phase::Starting)
            .await;
        match settled.map(|status| (status.phase, status.problem.clone())) {
            Ok((Phase::Ready, _)) => Ok(()),
            Ok((_, Some(problem))) => Err(problem),
            Ok((_, None)) | Err(_) => Err("it was stopped before it was ready".to_owned()),
        }
    }

    /// Takes it out of the traffic, waits for its requests, and stops it. Bounded by the drain and
    /// stop times of its revision.
    pub async fn stop(&self) -> Stopped {
        self.stop.cancel();
        let mut status = self.status.clone();
        let over = status.wait_for(|status| status.phase.is_over()).await;
        match over {
            Ok(status) => Stopped {
                cut_count: status.cut_count,
                end: status.end.clone(),
            },
            Err(_) => Stopped {
                cut_count: 0,
                end: None,
            },
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
