//! Logs, traces and metrics of a process. Traces leave it only when a collector is named.

use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, ValueEnum};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::redaction::CleanWriter;

/// How long the end of a process waits for its collector.
pub const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// JSON unless standard error is a terminal.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Terminal,
}

// Telemetry settings. (A doc comment here would become the command's own description.)
#[derive(Debug, Clone, Args)]
pub struct TelemetryArgs {
    /// Log filter, such as `info` or `orchestrator=debug,warn`.
    #[arg(
        long,
        env = "AGENTIC_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
    /// How log lines look.
    #[arg(long, env = "AGENTIC_LOG_FORMAT", default_value = "auto", value_enum)]
    pub log_format: LogFormat,
    /// OTLP collector (gRPC), such as `http://127.0.0.1:4317`. Left out: no traces leave the process.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter does not parse.
    #[error("log filter {filter:?}")]
    Filter {
        /// What was given.
        filter: String,
        /// Cause.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The exporter refused its settings.
    #[error("OTLP exporter")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The metrics reader refused its settings.
    #[error("metrics reader")]
    Metrics(#[from] opentelemetry_sdk::error::OTelSdkError),
    /// Somebody set up telemetry before.
    #[error("telemetry is set up already")]
    Again(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps telemetry running; flushes when dropped.
#[derive(Debug)]
pub struct Telemetry {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    registry: prometheus::Registry,
}

impl Telemetry {
    /// What `/metrics` shows.
    pub fn registry(&self) -> prometheus::Registry {
        self.registry.clone()
    }

    /// Sends what is still held, and ends. A collector that is away or slow gets
    /// [`FLUSH_WITHIN`]: it must not keep a process from ending.
    pub fn flush(&self) {
        let _ = self.traces.shutdown_with_timeout(FLUSH_WITHIN);
        let _ = self.metrics.shutdown_with_timeout(FLUSH_WITHIN);
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Sets up telemetry for the process. Once.
pub fn start(service: &'static str, args: &TelemetryArgs) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_new(&args.log).map_err(|source| TelemetryError::Filter {
        filter: args.log.clone(),
        source,
    })?;
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();

    global::set_text_map_propagator(TraceContextPropagator::new());
    let mut traces = SdkTracerProvider::builder().with_resource(resource.clone());
    if let Some(endpoint) = &args.otlp_endpoint {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .build()?;
        traces = traces.with_batch_exporter(exporter);
    }
    let traces = traces.build();
    global::set_tracer_provider(traces.clone());

    let registry = prometheus::Registry::new();
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .build()?;
    let metrics = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(reader)
        .build();
    global::set_meter_provider(metrics.clone());

    let json = match args.log_format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Terminal => false,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(|| CleanWriter(std::io::stderr()));
    let lines = if json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed()
    } else {
        lines.with_target(false).boxed()
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(
            tracing_opentelemetry::layer()
                .with_tracer(traces.tracer("agentic"))
                // Nobody asks a span of the mesh for its line, its thread or its idle time, and each
                // costs as much as the span itself.
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_context_activation(false)
                // The exporter's own calls must not make spans about themselves.
                .with_filter(EnvFilter::new(
                    "info,h2=off,hyper=off,tonic=off,tower=off,opentelemetry=off",
                )),
        )
        .try_init()?;
    Ok(Telemetry {
        traces,
        metrics,
        registry,
    })
}
