//! Turns signals into one cancellation token.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A token that is cancelled at SIGTERM or SIGINT. A second signal ends the process at once.
pub fn on_signal(tasks: &TaskTracker) -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let asked = token.clone();
    tasks.spawn(async move {
        tokio::select! {
            biased;
            () = asked.cancelled() => return,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        asked.cancel();
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("asked a second time, stopping at once");
        std::process::exit(130);
    });
    tasks.close();
    Ok(token)
}
