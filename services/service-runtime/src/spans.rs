//! One span per incoming call, child of the caller's, and its duration as a metric.

use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::future::BoxFuture;
use opentelemetry::metrics::Histogram;
use opentelemetry::{KeyValue, global};
use tower::{Layer, Service};
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use contracts::trace;

use crate::exemplars;

const BOUNDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    global::meter("agentic")
        .f64_histogram("rpc.server.duration")
        .with_unit("s")
        .with_description("Time until a call was answered, or its stream began")
        .with_boundaries(BOUNDS.to_vec())
        .build()
});

const UNIMPLEMENTED: i64 = tonic::Code::Unimplemented as i64;

/// Adds the span.
#[derive(Debug, Clone, Copy)]
pub struct SpanLayer;

impl<S> Layer<S> for SpanLayer {
    type Service = Spanned<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Spanned { inner }
    }
}

/// A service whose calls run in spans.
#[derive(Debug, Clone)]
pub struct Spanned<S> {
    inner: S,
}

impl<S, B, R> Service<http::Request<B>> for Spanned<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let path = request.uri().path();
        let (service, method) = split(path);
        let span = if unseen(service) {
            tracing::Span::none()
        } else {
            tracing::info_span!(
                "rpc",
                otel.name = &path[1..],
                otel.kind = "server",
                rpc.system = "grpc",
                rpc.service = service,
                rpc.method = method,
                rpc.grpc.status_code = tracing::field::Empty,
            )
        };
        // Fails only without an OpenTelemetry layer: then there is no trace to go on with.
        let _ = span.set_parent(trace::extract(request.headers()));
        let (service, method) = (service.to_owned(), method.to_owned());
        let begin = Instant::now();
        let call = self.inner.call(request);
        let seen = span.clone();
        Box::pin(
            async move {
                let answer = call.await;
                // A call that is answered, or whose stream begins, says so at its end; it has no status yet.
                let status = answer.as_ref().ok().and_then(|response| {
                    let status = response.headers().get("grpc-status")?;
                    status.to_str().ok()?.parse::<i64>().ok()
                });
                if let Some(status) = status {
                    seen.record("rpc.grpc.status_code", status);
                }
                record(begin, service, method, status.unwrap_or(0), &seen);
                answer
            }
            .instrument(span),
        )
    }
}

fn record(begin: Instant, service: String, method: String, status: i64, span: &tracing::Span) {
    // Whoever calls what is not there must not make a label of each of their words.
    let (service, method) = if status == UNIMPLEMENTED {
        ("unknown".to_owned(), "unknown".to_owned())
    } else {
        (service, method)
    };
    let attributes = [
        KeyValue::new("rpc.service", service),
        KeyValue::new("rpc.method", method),
        KeyValue::new("rpc.grpc.status_code", status),
    ];
    let took = begin.elapsed().as_secs_f64();
    DURATION.record(took, &attributes);
    let trace_id = trace::trace_id(&trace::traceparent(span)).to_owned();
    exemplars::keep(
        "rpc_server_duration_seconds",
        &attributes,
        &BOUNDS,
        took,
        trace_id,
    );
}

fn split(path: &str) -> (&str, &str) {
    path.trim_start_matches('/')
        .split_once('/')
        .unwrap_or(("", ""))
}

// Probes and reflection would drown the calls that matter.
fn unseen(service: &str) -> bool {
    service.is_empty() || service.starts_with("grpc.")
}
