//! Every app that this agent runs, by environment and name. Owns the data folder: nobody else may use
//! it meanwhile, and what an earlier agent left running there is ended before anything starts.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    net::IpAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    account::Account,
    journal::Journal,
    ledger,
    name::Name,
    router::Limits,
    site::{self, Bounds, Order, RollbackOrder, Site},
    target::{Mark, Targets},
};

/// How this agent deploys.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of ledgers, releases, logs and forensics.
    pub data: PathBuf,
    /// Address that routers listen on.
    pub listen: IpAddr,
    /// Host in the endpoints that people are told.
    pub advertise: String,
    /// Ports of routers, unless a task names one.
    pub router_ports: RangeInclusive<u16>,
    /// Folder of secrets: `<environment>/<NAME>`, one value a file.
    pub secrets: Option<PathBuf>,
    /// Checkouts that are kept per app, besides those that can be gone back to.
    pub kept_releases: usize,
    /// Bounds of each router.
    pub router_limits: Limits,
}

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system does not let us.
    #[error("cannot use the data folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Two agents would fight over ports, processes and ledgers.
    #[error("another agent uses the data folder {}", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

/// The data folder, claimed.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    owner: String,
    _lock: Flock<File>,
}

impl Claim {
    /// Claims a data folder until this is dropped.
    pub fn take(folder: &Path) -> Result<Self, Error> {
        let refused = |source| Error::Folder {
            path: folder.to_owned(),
            source,
        };
        fs::create_dir_all(folder).map_err(refused)?;
        let file = File::create(folder.join("lock")).map_err(refused)?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| Error::InUse {
                path: folder.to_owned(),
            })?;
        let path = folder.join("owner");
        let owner = match fs::read_to_string(&path) {
            Ok(owner) if !owner.trim().is_empty() => owner.trim().to_owned(),
            Ok(_) | Err(_) => {
                let owner = Uuid::now_v7().to_string();
                fs::write(&path, &owner).map_err(refused)?;
                owner
            }
        };
        Ok(Self {
            folder: folder.to_owned(),
            owner,
            _lock: lock,
        })
    }

    /// Identifies the folder on whatever runs for it.
    pub fn owner(&self) -> &str {
        &self.owner
    }
}

/// Every app that this agent runs.
#[derive(Debug)]
pub struct Sites {
    settings: Arc<Settings>,
    targets: Arc<Targets>,
    tracker: TaskTracker,
    known: Mutex<HashMap<(Name, Name), Arc<Site>>>,
    /// One deployment per environment at a time.
    environments: Mutex<HashMap<Name, Arc<tokio::sync::Mutex<()>>>>,
    _claim: Claim,
}

impl Sites {
    /// Ends what an earlier agent left running, and begins to close the books on deployments that
    /// it did not finish and to bring back what was live. A ledger that cannot be read keeps its
    /// own app down and is told in the log; the others come up.
    pub async fn open(settings: Settings, targets: Targets, claim: Claim) -> Result<Self, Error> {
        let sites = Self {
            settings: Arc::new(settings),
            targets: Arc::new(targets),
            tracker: TaskTracker::new(),
            known: Mutex::default(),
            environments: Mutex::default(),
            _claim: claim,
        };
        let recorded = sites.with_ledger();
        let marks: Vec<Mark> = recorded
            .iter()
            .flat_map(|(_, _, folder)| site::take_marks(folder))
            .collect();
        let ended = sites.targets.end_leftovers(&marks).await;
        if ended > 0 {
            tracing::info!(count = ended, "ended what an earlier agent left running");
        }
        for (environment, app, _) in recorded {
            match sites.site(&environment, &app).await {
                Ok(site) => site.recover(),
                Err(error) => {
                    tracing::error!(%environment, %app, %error, "an app cannot be brought back");
                }
            }
        }
        Ok(sites)
    }

    /// The app, known or new.
    pub async fn site(&self, environment: &Name, app: &Name) -> Result<Arc<Site>, ledger::Error> {
        let key = (environment.clone(), app.clone());
        if let Some(site) = lock(&self.known).get(&key) {
            return Ok(Arc::clone(site));
        }
        let folder = self.folder(environment, app);
        let site = Site::open(
            environment.clone(),
            app.clone(),
            folder,
            Arc::clone(&self.settings),
            Arc::clone(&self.targets),
            self.tracker.clone(),
        )
        .await?;
        let site = Arc::new(site);
        // Somebody may have opened it meanwhile; the first one stays.
        Ok(Arc::clone(lock(&self.known).entry(key).or_insert(site)))
    }

    /// Waits until every app that was live is back, or known not to come back.
    pub async fn settled(&self) {
        let sites: Vec<_> = lock(&self.known).values().cloned().collect();
        futures::future::join_all(sites.iter().map(|site| site.settled())).await;
    }

    /// Ports that other apps have.
    pub fn ports_of_others(&self, environment: &Name, app: &Name) -> Vec<u16> {
        let sites: Vec<_> = lock(&self.known)
            .iter()
            .filter(|((other_environment, other_app), _)| {
                (other_environment, other_app) != (environment, app)
            })
            .map(|(_, site)| Arc::clone(site))
            .collect();
        sites.iter().filter_map(|site| site.port()).collect()
    }

    /// Deploys, when the environment's turn has come. The work goes on to a proper end even if the
    /// caller goes away; to stop it, cancel.
    pub async fn deploy(
        &self,
        environment: &Name,
        app: &Name,
        mut order: Order,
        journal: Journal,
        bounds: &Bounds,
    ) -> Result<Account, site::Error> {
        let site = self.site(environment, app).await?;
        order.ports_of_others = self.ports_of_others(environment, app);
        let within = bounds.clone();
        let work = Box::pin(async move { site.deploy(order, journal, &within).await });
        self.in_turn(environment, bounds, work).await
    }

    /// Takes the live revision back, when the environment's turn has come.
    pub async fn rollback(
        &self,
        environment: &Name,
        app: &Name,
        order: RollbackOrder,
        journal: Journal,
        bounds: &Bounds,
    ) -> Result<Account, site::Error> {
        let site = self.site(environment, app).await?;
        let within = bounds.clone();
        let work = Box::pin(async move { site.rollback(order, journal, &within).await });
        self.in_turn(environment, bounds, work).await
    }

    /// One deployment per environment at a time. Once begun, nothing drops it half-way.
    async fn in_turn<F>(
        &self,
        environment: &Name,
        bounds: &Bounds,
        work: F,
    ) -> Result<Account, site::Error>
    where
        F: Future<Output = Result<Account, site::Error>> + Send + 'static,
    {
        let turns = Arc::clone(
            lock(&self.environments)
                .entry(environment.clone())
                .or_default(),
        );
        let turn = tokio::select! {
            biased;
            () = bounds.cancel.cancelled() => return Err(site::Error::CancelledWhileWaiting),
            () = tokio::time::sleep_until(bounds.deadline) => {
                return Err(site::Error::DeadlineWhileWaiting);
            }
            turn = turns.lock_owned() => turn,
        };
        let working = async move {
            let done = work.await;
            drop(turn);
            done
        };
        let working = self.tracker.spawn(working.in_current_span());
        match working.await {
            Ok(done) => done,
            Err(error) => Err(site::Error::Broken(error)),
        }
    }

    /// How this agent deploys.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Where it can deploy to.
    pub fn targets(&self) -> &Arc<Targets> {
        &self.targets
    }

    /// Stops every app after its requests; the ledgers keep what is live, and the next start brings
    /// it back.
    pub async fn shutdown(&self, grace: Duration) {
        let sites: Vec<_> = lock(&self.known).values().cloned().collect();
        futures::future::join_all(sites.iter().map(|site| site.shutdown())).await;
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!("some instances were still stopping when the grace was over");
        }
    }

    fn folder(&self, environment: &Name, app: &Name) -> PathBuf {
        self.settings
            .data
            .join("environments")
            .join(environment.as_str())
            .join(app.as_str())
    }

    /// Apps that have a ledger.
    fn with_ledger(&self) -> Vec<(Name, Name, PathBuf)> {
        let mut known = Vec::new();
        for (environment, folder) in names_in(&self.settings.data.join("environments")) {
            for (app, folder) in names_in(&folder) {
                if folder.join(site::LEDGER_FILE).is_file() {
                    known.push((environment.clone(), app, folder));
                }
            }
        }
        known
    }
}

fn names_in(folder: &Path) -> Vec<(Name, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some((Name::parse(entry.file_name().to_str()?).ok()?, entry.path())))
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Claim {
    fn drop(&mut self) {
        tracing::debug!(folder = %self.folder.display(), "data folder given up");
    }
}
