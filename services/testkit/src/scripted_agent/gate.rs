//! A gate in a script: work waits in front of it until the test opens it, and the test can wait until work is there.

use std::sync::Arc;

use tokio::sync::watch;

/// A gate, closed at first. Copies are the same gate.
#[derive(Debug, Clone)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
    arrived: Arc<watch::Sender<usize>>,
}

impl Gate {
    /// A closed gate.
    #[allow(
        clippy::new_without_default,
        reason = "a default gate would not say that it is closed"
    )]
    pub fn new() -> Self {
        Self {
            open: Arc::new(watch::Sender::new(false)),
            arrived: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Lets everything through, now and later.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until work has come to the gate so many times in all.
    pub async fn reached(&self, times: usize) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self
            .arrived
            .subscribe()
            .wait_for(|arrived| *arrived >= times)
            .await;
    }

    pub(super) async fn pass(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}
