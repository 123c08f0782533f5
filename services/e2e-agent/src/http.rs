//! How we ask apps over HTTP: straight, without proxies, redirects or a memory of earlier answers.

use std::{error::Error as _, time::Duration};

use reqwest::{Client, redirect::Policy};

/// A client whose every request ends within `limit`.
pub fn client(limit: Duration) -> Result<Client, String> {
    Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .timeout(limit)
        // Another process may listen at the same port the next time.
        .pool_max_idle_per_host(0)
        .user_agent(concat!("agentic-e2e/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("no HTTP client: {error}"))
}

/// Why there was no answer, in a few words.
pub fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    if error.source().is_none() {
        error.to_string()
    } else {
        text
    }
}
