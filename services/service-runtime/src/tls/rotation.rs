//! Notices new certificate files and puts them to use: new handshakes have them, connections go on.

use std::time::{Duration, SystemTime};

use opentelemetry::global;
use opentelemetry::metrics::Gauge;
use tokio_util::sync::CancellationToken;

use super::Tls;

// Three calls of stat: nothing next to what a certificate that is noticed late can cost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

struct Instruments {
    not_after: Gauge<f64>,
    broken: Gauge<u64>,
}

impl Tls {
    /// Watches the files until the token is cancelled.
    pub async fn watch(self, shutdown: CancellationToken) {
        let Some(shared) = self.shared.clone() else {
            return;
        };
        let instruments = instruments();
        instruments.show(&self);
        let mut used = shared.begun.clone();
        let mut seen = shared.files.stamp();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = shared.files.stamp();
            let settled = now == seen;
            seen = now;
            // Several files never change in one moment: not before they have come to rest.
            if !settled || seen == used {
                continue;
            }
            used = seen.clone();
            match self.reload() {
                Ok(()) => tracing::info!(files = ?shared.files, "new TLS certificates are in use"),
                Err(error) => {
                    tracing::error!(%error, "new TLS certificates cannot be used: the old ones stay");
                }
            }
            instruments.show(&self);
        }
    }
}

fn instruments() -> Instruments {
    let meter = global::meter("agentic");
    Instruments {
        not_after: meter
            .f64_gauge("agentic.tls.certificate.not_after")
            .with_unit("s")
            .with_description("When the certificate in use ends, in seconds since 1970")
            .build(),
        broken: meter
            .u64_gauge("agentic.tls.certificate.broken")
            .with_description("1: the newest certificate files cannot be used, and older ones are")
            .build(),
    }
}

impl Instruments {
    fn show(&self, tls: &Tls) {
        if let Some(end) = tls.not_after() {
            let since = end.duration_since(SystemTime::UNIX_EPOCH);
            self.not_after
                .record(since.unwrap_or_default().as_secs_f64(), &[]);
        }
        self.broken.record(u64::from(tls.broken().is_some()), &[]);
    }
}
