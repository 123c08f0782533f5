//! The one crypto provider of every process.

/// Installs ring as the process's crypto provider. Called first thing in every `main`; calling it
/// again changes nothing.
pub fn install_crypto() {
    // Fails only when one is installed already: then it is the same, since it is the only one linked.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
