//! One app in one environment: its router, its ledger, what is live, and the operations on them.
//! Only one operation at a time holds its state; what is asked meanwhile is answered from the ledger.

mod deploy;
mod forensics;
mod health;
mod prerequisites;
mod recover;
mod releases;
mod restore;
mod rollback;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    deploy::Order,
    health::HealthAccount,
    recover::take_marks,
    releases::{CHECKOUT_FOLDER, Source},
    rollback::{RollbackOrder, RollbackSubject},
};
use crate::{
    fleet::Fleet,
    ledger::{self, Ledger},
    name::Name,
    router::Router,
    sites::Settings,
    spec::Spec,
    strategy::{Failure, change::stopped},
    supervisor::Crew,
    target::Targets,
};

/// The ledger's file in an app's folder.
pub const LEDGER_FILE: &str = "ledger.json";
/// Time that clients have to finish when the agent stops.
const ROUTER_GRACE: Duration = Duration::from_secs(5);

/// Why an operation could not even be told about in an account.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// Somebody stopped the task while it waited for its turn; nothing was done.
    #[error("cancelled while it waited for another deployment of the environment")]
    CancelledWhileWaiting,
    /// The task's time ran out while it waited for its turn; nothing was done.
    #[error("the deadline passed while it waited for another deployment of the environment")]
    DeadlineWhileWaiting,
    /// The operation ended in a way that it should not.
    #[error("the deployment broke off; the ledger says how far it came")]
    Broken(#[source] tokio::task::JoinError),
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    ShuttingDown,
}

/// One app in one environment.
#[derive(Debug)]
pub struct Site {
    environment: Name,
    app: Name,
    folder: PathBuf,
    settings: Arc<Settings>,
    targets: Arc<Targets>,
    tracker: TaskTracker,
    router: Arc<Router>,
    /// Copy of the ledger's port for whoever cannot wait for the state. Zero: none.
    port: AtomicU16,
    state: Arc<tokio::sync::Mutex<State>>,
    /// The agent stops: nothing is brought up any more.
    stop: CancellationToken,
}

/// What an operation holds while it works.
#[derive(Debug)]
struct State {
    ledger: Ledger,
    live: Option<Fleet>,
    /// Where the router listens.
    address: Option<SocketAddr>,
    /// Shut down; nothing is started any more.
    over: bool,
}

/// What bounds an operation.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Somebody wants it stopped.
    pub cancel: CancellationToken,
    /// When it must be over.
    pub deadline: Instant,
}

impl Bounds {
    /// Returns when the operation must not go on.
    pub async fn passed(&self) -> Failure {
        stopped(&self.cancel, self.deadline).await
    }
}

impl Site {
    /// Opens the books of an app. Nothing runs yet.
    pub async fn open(
        environment: Name,
        app: Name,
        folder: PathBuf,
        settings: Arc<Settings>,
        targets: Arc<Targets>,
        tracker: TaskTracker,
    ) -> Result<Self, ledger::Error> {
        let path = folder.join(LEDGER_FILE);
        let ledger = Ledger::open(&path, environment.as_str(), app.as_str()).await?;
        let router = Arc::new(Router::new(settings.router_limits.clone()));
        Ok(Self {
            port: AtomicU16::new(ledger.port.unwrap_or_default()),
            state: Arc::new(tokio::sync::Mutex::new(State {
                ledger,
                live: None,
                address: None,
                over: false,
            })),
            stop: CancellationToken::new(),
            environment,
            app,
            folder,
            settings,
            targets,
            tracker,
            router,
        })
    }

    /// Port of its router, once it had one.
    pub fn port(&self) -> Option<u16> {
        Some(self.port.load(Ordering::Relaxed)).filter(|port| *port != 0)
    }

    /// The environment.
    pub fn environment(&self) -> &Name {
        &self.environment
    }

    /// The app.
    pub fn app(&self) -> &Name {
        &self.app
    }

    /// Its folder, which forensics are relative to.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its router.
    pub fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// The ledger as it is on disk, also while a deployment runs.
    pub async fn ledger(&self) -> Result<Ledger, ledger::Error> {
        let path = self.folder.join(LEDGER_FILE);
        Ledger::open(&path, self.environment.as_str(), self.app.as_str()).await
    }

    /// Where the app answers, if its router listens.
    pub fn endpoint(&self, port: u16) -> String {
        format!("http://{}:{port}", self.settings.advertise)
    }

    /// Stops what is live after its requests. The ledger keeps it, and the next start brings it back.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let mut state = self.state.lock().await;
        state.over = true;
        self.router.set_vacant_reason("the agent is shutting down");
        if let Some(mut live) = state.live.take() {
            live.stop().await;
        }
        self.router.shutdown(ROUTER_GRACE).await;
    }

    /// Waits for the state; nothing was done when this fails.
    async fn turn(&self, bounds: &Bounds) -> Result<tokio::sync::MutexGuard<'_, State>, Error> {
        let state = tokio::select! {
            biased;
            () = bounds.cancel.cancelled() => return Err(Error::CancelledWhileWaiting),
            () = tokio::time::sleep_until(bounds.deadline) => {
                return Err(Error::DeadlineWhileWaiting);
            }
            state = self.state.lock() => state,
        };
        if state.over {
            Err(Error::ShuttingDown)
        } else {
            Ok(state)
        }
    }

    fn crew(
        &self,
        revision: u64,
        spec: Spec,
        proven: bool,
    ) -> Result<Crew, prerequisites::Missing> {
        let secrets = prerequisites::read_secrets(&self.settings, &self.environment, &spec)?;
        let target = self
            .targets
            .get(spec.target)
            .map_err(prerequisites::Missing::Target)?;
        Ok(Crew {
            environment: self.environment.to_string(),
            app: self.app.to_string(),
            revision,
            folder: releases::folder(&self.folder, revision, &spec).join(releases::CHECKOUT_FOLDER),
            spec: Arc::new(spec),
            logs: self.folder.join("logs"),
            marks: self.folder.join(recover::MARKS_FOLDER),
            secrets,
            target,
            router: Arc::clone(&self.router),
            proven,
        })
    }

    fn remember_port(&self, state: &mut State, address: SocketAddr) {
        state.address = Some(address);
        state.ledger.port = Some(address.port());
        self.port.store(address.port(), Ordering::Relaxed);
    }
}
