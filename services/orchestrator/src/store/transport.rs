//! TLS to the database, by the connection string's `sslmode`.

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// `None`: the connection needs no TLS, because it stays on this machine or was told so.
pub(super) fn tls(config: &Config) -> Option<MakeRustlsConnect> {
    let local = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name == "127.0.0.1" || name == "::1",
    });
    let mode = config.get_ssl_mode();
    if mode == SslMode::Disable || (local && mode == SslMode::Prefer) {
        return None;
    }
    Some(MakeRustlsConnect::with_webpki_roots())
}
