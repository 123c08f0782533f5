//! After `101 Switching Protocols`: bytes both ways until one side ends or the backend is cut off.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::Hold;

/// Joins the two upgraded connections; holds the backend's pass, so that draining waits for the stream.
pub(super) async fn join(hold: Hold, client: OnUpgrade, backend: OnUpgrade) {
    let copied = async {
        let (client, backend) = futures::future::try_join(client, backend).await?;
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
            tracing::debug!(%error, "upgraded stream ended badly");
        }
        Ok::<_, hyper::Error>(())
    };
    tokio::select! {
        biased;
        () = hold.pass.cut().cancelled() => hold.pass.count(super::counters::Counters::cut),
        ended = copied => if let Err(error) = ended {
            tracing::debug!(%error, "upgrade failed");
        },
    }
}
