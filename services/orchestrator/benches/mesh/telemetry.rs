//! What telemetry costs: the same load, with and without a collector that takes everything.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, StreamBody};
use testkit::loopback::LoopbackServer;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::service::Routes;

use crate::load;
use crate::machine::{Machine, SLOTS};
use crate::report::{Report, Row};

const CONCURRENCY: usize = 64;
// One after the other, so that what the machine does besides hits both.
const ROUNDS: usize = 4;
const TIME: Duration = Duration::from_secs(6);

/// A collector that reads nothing of what it takes: what it costs is not the mesh's.
struct Collector {
    server: LoopbackServer,
    bytes: Arc<AtomicUsize>,
}

impl Collector {
    async fn start() -> Self {
        let bytes = Arc::new(AtomicUsize::new(0));
        let count = bytes.clone();
        let take = move |request: http::Request<axum::body::Body>| {
            let count = count.clone();
            async move {
                let body = request.into_body().collect().await;
                let length = body.map_or(0, |body| body.to_bytes().len());
                count.fetch_add(length, Ordering::Relaxed);
                Ok::<_, Infallible>(nothing())
            }
        };
        let router = axum::Router::new().fallback_service(tower::service_fn(take));
        let server = LoopbackServer::start(Routes::from(router)).await.unwrap();
        Self { server, bytes }
    }
}

// An empty message, which every answer of a collector may be.
fn nothing() -> Response<Body> {
    use http_body::Frame;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [
        Frame::data(Bytes::from_static(&[0; 5])),
        Frame::trailers(trailers),
    ];
    let body = StreamBody::new(futures::stream::iter(frames.map(Ok::<_, Infallible>)));
    let mut response = Response::new(Body::new(body));
    let kind = HeaderValue::from_static("application/grpc");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    response
}

/// How much slower, and how much more work for the orchestrator.
pub async fn overhead(machine: &Machine, report: &mut Report) {
    let collector = Collector::start().await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.server.url());
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(one(machine, &[]).await);
        with.push(one(machine, std::slice::from_ref(&endpoint)).await);
    }
    let bytes = collector.bytes.load(Ordering::Relaxed);
    assert!(bytes > 1_000_000, "the collector got {bytes} bytes");
    let [(rate, cpu), (rate_with, cpu_with)] = [without, with].map(mean);
    report.add(
        Row::new(
            "telemetry_overhead",
            100.0 * (1.0 - rate_with / rate),
            "% slower",
        )
        .floor(rate)
        .target("≤ 5 %")
        .note(format!(
            "traces, metrics and logs over OTLP at {CONCURRENCY} at a time; CPU per workflow: {cpu:.2} ms orchestrator without, {cpu_with:.2} ms with"
        )),
    );
}

// Workflows a second, and milliseconds of the orchestrator for each.
async fn one(machine: &Machine, environment: &[(&str, String)]) -> (f64, f64) {
    machine.clear().await;
    let orchestrator = machine.orchestrator_with(&[], environment).await;
    let _agents = machine.agents(&orchestrator, SLOTS).await;
    load::throughput(&orchestrator.channel, CONCURRENCY, Duration::from_secs(2)).await;
    let (before, begin) = (orchestrator.cpu(), Instant::now());
    let rate = load::throughput(&orchestrator.channel, CONCURRENCY, TIME).await;
    let count = rate * begin.elapsed().as_secs_f64();
    let cpu = orchestrator.cpu().saturating_sub(before);
    (rate, cpu.as_secs_f64() * 1000.0 / count)
}

fn mean(measured: Vec<(f64, f64)>) -> (f64, f64) {
    let count = measured.len() as f64;
    let (rates, cpu) = measured
        .into_iter()
        .fold((0.0, 0.0), |(rates, cpus), (rate, cpu)| {
            (rates + rate, cpus + cpu)
        });
    (rates / count, cpu / count)
}
