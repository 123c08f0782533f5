//! The HTTP port of a process: liveness, readiness, metrics.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::future::BoxFuture;
use prometheus::{Encoder, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::exemplars;
use crate::tls::Tls;
use crate::tls::accept::HttpListener;

/// Answers whether the process can do its work: `Err` says in one sentence why not.
pub type Readiness = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The routes. What browsers make of them is as little as can be; pages of `origins` may read them.
pub fn router(
    readiness: Readiness,
    registry: Option<prometheus::Registry>,
    origins: Vec<HeaderValue>,
) -> Router {
    let routes = Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(move || ready(readiness.clone())))
        .route(
            "/metrics",
            get(move |headers: HeaderMap| async move { metrics(registry.as_ref(), &headers) }),
        );
    let routes = if origins.is_empty() {
        routes
    } else {
        let origins = AllowOrigin::list(origins);
        routes.layer(
            CorsLayer::new()
                .allow_methods([Method::GET])
                .allow_origin(origins),
        )
    };
    GUARDS.into_iter().fold(routes, |routes, (name, value)| {
        routes.layer(SetResponseHeaderLayer::if_not_present(name, value))
    })
}

// Nothing here is for framing, running, guessing at, or keeping.
const GUARDS: [(HeaderName, HeaderValue); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// An origin, such as `https://console.example`, as browsers send it.
pub fn origin(text: &str) -> Result<HeaderValue, String> {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .filter(|host| !host.is_empty() && !host.contains(['/', '*', '?', '#', '@', ' ']));
    let value = host.and_then(|_| HeaderValue::from_str(text).ok());
    value.ok_or_else(|| format!("{text:?} is not an origin such as https://console.example"))
}

/// Serves the routes until the token is cancelled; with TLS where there is a certificate.
pub async fn serve(
    listener: TcpListener,
    tls: Tls,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(HttpListener::new(listener, tls)?, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

async fn ready(readiness: Readiness) -> Response {
    match readiness().await {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

fn metrics(registry: Option<&prometheus::Registry>, headers: &HeaderMap) -> Response {
    let Some(registry) = registry else {
        return (StatusCode::NOT_FOUND, "this process keeps no metrics\n").into_response();
    };
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|accepted| accepted.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains("application/openmetrics-text")) {
        let text = exemplars::open_metrics(&registry.gather());
        return ([(header::CONTENT_TYPE, exemplars::CONTENT_TYPE)], text).into_response();
    }
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => (
            [(header::CONTENT_TYPE, encoder.format_type().to_owned())],
            text,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn headers(origins: &[&str], from: &str) -> axum::http::HeaderMap {
        let origins = origins.iter().map(|text| origin(text).unwrap()).collect();
        let ready: Readiness = Arc::new(|| Box::pin(async { Ok(()) }));
        let request = Request::get("/health/ready")
            .header(header::ORIGIN, from)
            .body(Body::empty())
            .unwrap();
        let answer = router(ready, None, origins).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.headers().clone()
    }

    #[tokio::test]
    async fn pages_of_other_origins_read_nothing_unless_they_are_named() {
        let page = "https://console.example";
        let read = |headers: axum::http::HeaderMap| {
            headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).cloned()
        };
        assert_eq!(read(headers(&[], page).await), None);
        assert_eq!(read(headers(&[page], page).await).unwrap(), page);
        assert_eq!(read(headers(&[page], "https://evil.example").await), None);
        for wrong in [
            "*",
            "console.example",
            "https://",
            "https://a/b",
            "https://*.a",
            "null",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn every_answer_tells_browsers_to_keep_their_hands_off() {
        let headers = headers(&[], "https://a.example").await;
        for (name, value) in GUARDS {
            assert_eq!(headers.get(&name), Some(&value), "{name}");
        }
    }
}
