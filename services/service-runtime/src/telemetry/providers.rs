//! What makes traces, metrics and logs, and sends them to a collector if there is one.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{
    LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
use tonic::transport::{Certificate, ClientTlsConfig};

use super::TelemetryError;
use super::clean::{CleanLogs, CleanSpans};

// What the SDK may take in the background. It complains of less.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where telemetry goes.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) endpoint: String,
    /// Who vouches for it, as PEM; `None`: the public authorities.
    pub(super) authorities: Option<Vec<u8>>,
}

impl Collector {
    fn configure<B: WithExportConfig + WithTonicConfig>(&self, exporter: B) -> B {
        let exporter = exporter.with_endpoint(&self.endpoint);
        // Told about TLS, an exporter uses it whatever the URL says.
        let is_secure = self
            .endpoint
            .get(..8)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        if !is_secure {
            return exporter;
        }
        let tls = ClientTlsConfig::new();
        exporter.with_tls_config(match &self.authorities {
            None => tls.trust_anchors(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
        })
    }
}

/// The providers of a process.
#[derive(Debug)]
pub(super) struct Providers {
    pub(super) traces: SdkTracerProvider,
    pub(super) metrics: SdkMeterProvider,
    /// Without a collector there are none: the log's lines are written by themselves.
    pub(super) logs: Option<SdkLoggerProvider>,
    /// What `/metrics` shows, whether or not metrics are sent.
    pub(super) registry: prometheus::Registry,
}

impl Providers {
    /// With a collector, within a Tokio runtime: its connections live there.
    pub(super) fn new(
        service: &'static str,
        collector: Option<&Collector>,
    ) -> Result<Self, TelemetryError> {
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let registry = prometheus::Registry::new();
        let shown = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()?;
        let mut traces = SdkTracerProvider::builder().with_resource(resource.clone());
        let mut metrics = SdkMeterProvider::builder()
            .with_resource(resource.clone())
            .with_reader(shown);
        let mut logs = None;
        if let Some(collector) = collector {
            traces = traces.with_span_processor(spans_to(collector)?);
            metrics = metrics.with_reader(metrics_to(collector)?);
            let to_collector = SdkLoggerProvider::builder()
                .with_resource(resource)
                .with_log_processor(logs_to(collector)?);
            logs = Some(to_collector.build());
        }
        Ok(Self {
            traces: traces.build(),
            metrics: metrics.build(),
            logs,
            registry,
        })
    }

    /// Everything in the process uses these from now on.
    pub(super) fn install(&self) {
        global::set_text_map_propagator(TraceContextPropagator::new());
        global::set_tracer_provider(self.traces.clone());
        global::set_meter_provider(self.metrics.clone());
    }

    /// Sends what is still held, and ends. False: not all of it in this time.
    pub(super) fn end(&self, within: Duration) -> bool {
        let traces = self.traces.clone();
        let metrics = self.metrics.clone();
        let logs = self.logs.clone();
        let ends: [Box<dyn FnOnce() + Send>; 3] = [
            Box::new(move || drop(traces.shutdown_with_timeout(PATIENCE))),
            Box::new(move || drop(metrics.shutdown_with_timeout(PATIENCE))),
            Box::new(move || drop(logs.map(|logs| logs.shutdown_with_timeout(PATIENCE)))),
        ];
        // All at once, each in a thread of its own: whatever time it is given, the SDK takes five seconds to give up
        // metrics. Those threads end with the process.
        let (running, ended) = mpsc::channel::<()>();
        for end in ends {
            let running = running.clone();
            let work = move || {
                end();
                drop(running);
            };
            // Where there is no thread to be had, there is nothing more to send.
            let _ = thread::Builder::new()
                .name("telemetry".to_owned())
                .spawn(work);
        }
        drop(running);
        ended.recv_timeout(within) == Err(RecvTimeoutError::Disconnected)
    }
}

fn spans_to(collector: &Collector) -> Result<CleanSpans<BatchSpanProcessor>, TelemetryError> {
    let exporter = SpanExporter::builder().with_tonic();
    let exporter = collector.configure(exporter).build()?;
    Ok(CleanSpans(BatchSpanProcessor::builder(exporter).build()))
}

fn metrics_to(collector: &Collector) -> Result<PeriodicReader<MetricExporter>, TelemetryError> {
    let exporter = MetricExporter::builder().with_tonic();
    let exporter = collector.configure(exporter).build()?;
    Ok(PeriodicReader::builder(exporter).build())
}

fn logs_to(collector: &Collector) -> Result<CleanLogs<BatchLogProcessor>, TelemetryError> {
    let exporter = LogExporter::builder().with_tonic();
    let exporter = collector.configure(exporter).build()?;
    let batches = BatchLogProcessor::builder(exporter).build();
    Ok(CleanLogs::new(batches))
}
