//! After a start: closes the books on deployments that an earlier agent did not finish, and brings
//! what was live back on the port it had.

use std::{net::SocketAddr, path::Path, sync::Arc};

use tokio::sync::OwnedMutexGuard;

use super::{Site, State, releases};
use crate::{fleet::Fleet, ledger::RevisionState, router, target::Mark};

/// Folder of the marks of what runs, in an app's folder.
pub(super) const MARKS_FOLDER: &str = "running";

/// Reads and removes the marks of what an earlier agent ran.
pub fn take_marks(site: &Path) -> Vec<Mark> {
    let Ok(entries) = std::fs::read_dir(site.join(MARKS_FOLDER)) else {
        return Vec::new();
    };
    let mut marks = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        match std::fs::read(&path).map(|text| serde_json::from_slice(&text)) {
            Ok(Ok(mark)) => marks.push(mark),
            // Half-written when the agent died; the owner in the environment still finds it.
            Ok(Err(error)) => tracing::warn!(path = %path.display(), %error, "unreadable mark"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "unreadable mark"),
        }
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove a mark");
        }
    }
    marks
}

impl Site {
    /// Brings back what was live, in the background: whoever wants to deploy waits for it. What
    /// cannot be brought back is told to clients and in the log. Must be the first thing that
    /// happens to the app.
    pub fn recover(self: &Arc<Self>) {
        let Ok(state) = Arc::clone(&self.state).try_lock_owned() else {
            return;
        };
        let site = Arc::clone(self);
        self.tracker
            .spawn(async move { site.recover_with(state).await });
    }

    /// Waits until what was live is back, or known not to come back.
    pub async fn settled(&self) {
        drop(self.state.lock().await);
    }

    async fn recover_with(&self, mut state: OwnedMutexGuard<State>) {
        let interrupted = state.ledger.interrupted();
        for number in &interrupted {
            state.ledger.given_up(
                *number,
                RevisionState::Interrupted,
                "the agent stopped while it was deployed",
            );
        }
        if !interrupted.is_empty()
            && let Err(error) = state.ledger.save().await
        {
            tracing::error!(app = %self.app, %error, "cannot write down what was interrupted");
        }
        if let Err(problem) = self.bring_up(&mut state).await {
            tracing::error!(
                app = %self.app, environment = %self.environment, %problem,
                "what was live does not come back"
            );
            self.router.set_vacant_reason(problem);
        }
    }

    async fn bring_up(&self, state: &mut State) -> Result<(), String> {
        let Some(live) = state.ledger.live().cloned() else {
            return Ok(());
        };
        self.reopen(state)
            .await
            .map_err(|error| error.to_string())?;
        let number = live.number;
        if !releases::is_kept(&self.folder, &state.ledger, number) {
            return Err(format!("the release of revision {number} is gone"));
        }
        let crew = self
            .crew(number, live.spec, true)
            .map_err(|missing| missing.to_string())?;
        let mut fleet = Fleet::new(crew);
        self.router.set_shares(&[(number, 1)]);
        self.router
            .set_vacant_reason(format!("revision {number} is being started"));
        let completed = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err("the agent is shutting down".to_owned()),
            completed = fleet.complete(&self.tracker) => completed,
        };
        // Supervision goes on starting what is not ready yet, within its limits.
        state.live = Some(fleet);
        completed.map_err(|problem| format!("revision {number} does not come back: {problem}"))
    }

    /// Listens on the remembered port.
    pub(super) async fn reopen(&self, state: &mut State) -> Result<(), router::Error> {
        if state.address.is_some() {
            return Ok(());
        }
        if let Some(port) = state.ledger.port {
            let address = SocketAddr::new(self.settings.listen, port);
            let address = self.router.listen(address).await?;
            self.remember_port(state, address);
        }
        Ok(())
    }
}
