//! Logs, traces and metrics of a process. They leave it only when a collector is named, and without secrets.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::redaction::CleanWriter;

use logs::{COMPLAINS_EVERY, LogsLayer, Seldom, all_but_exporter};
use providers::{Collector, Providers};

mod clean;
mod logs;
mod panics;
mod providers;

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
    /// OTLP collector (gRPC), such as `http://127.0.0.1:4317` or `https://collector.example:4317`. Left out or empty: no
    /// telemetry leaves the process.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Authorities that vouch for an https collector, a PEM file. Left out or empty: the public ones.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CERTIFICATE", value_name = "FILE")]
    pub otlp_ca: Option<PathBuf>,
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
    /// The authorities of the collector cannot be read.
    #[error("authorities of the collector, {}", .file.display())]
    Authorities {
        /// What was given.
        file: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
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

impl TelemetryArgs {
    // An empty variable is one that is not set (OpenTelemetry specification, environment variables).
    fn collector(&self) -> Result<Option<Collector>, TelemetryError> {
        let Some(endpoint) = &self.otlp_endpoint else {
            return Ok(None);
        };
        if endpoint.is_empty() {
            return Ok(None);
        }
        let mut collector = Collector {
            endpoint: endpoint.clone(),
            authorities: None,
        };
        if let Some(file) = &self.otlp_ca
            && !file.as_os_str().is_empty()
        {
            let pem = std::fs::read(file).map_err(|source| TelemetryError::Authorities {
                file: file.clone(),
                source,
            })?;
            collector.authorities = Some(pem);
        }
        Ok(Some(collector))
    }

    fn filter(&self) -> Result<EnvFilter, TelemetryError> {
        let read = || Ok(EnvFilter::try_new(&self.log)?.add_directive(panics::DIRECTIVE.parse()?));
        read().map_err(|source| TelemetryError::Filter {
            filter: self.log.clone(),
            source,
        })
    }

    fn is_json(&self) -> bool {
        match self.log_format {
            LogFormat::Auto => !std::io::stderr().is_terminal(),
            LogFormat::Json => true,
            LogFormat::Terminal => false,
        }
    }
}

/// Keeps telemetry running; flushes when dropped.
#[derive(Debug)]
pub struct Telemetry {
    providers: Providers,
}

impl Telemetry {
    /// What `/metrics` shows.
    pub fn registry(&self) -> prometheus::Registry {
        self.providers.registry.clone()
    }

    /// Sends what is still held, and ends. A collector that is away or slow gets
    /// [`FLUSH_WITHIN`]: it must not keep a process from ending.
    pub fn flush(&self) {
        if !self.providers.end(FLUSH_WITHIN) {
            tracing::warn!(within = ?FLUSH_WITHIN, "the collector has not taken all telemetry");
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Sets up telemetry for the process. Once.
pub fn start(service: &'static str, args: &TelemetryArgs) -> Result<Telemetry, TelemetryError> {
    let lines = lines(args.is_json()).with_filter(args.filter()?.and(Seldom::new(COMPLAINS_EVERY)));
    let providers = Providers::new(service, args.collector()?.as_ref())?;
    providers.install();
    let told = tracing_subscriber::registry()
        .with(lines)
        .with(spans(&providers.traces));
    match &providers.logs {
        Some(logs) => told.with(sent(logs, args.filter()?)).try_init()?,
        None => told.try_init()?,
    }
    panics::report();
    Ok(Telemetry { providers })
}

// The log on standard error.
fn lines<S>(json: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(|| CleanWriter(std::io::stderr()));
    if json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed()
    } else {
        lines.with_target(false).boxed()
    }
}

fn spans<S>(traces: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer()
        .with_tracer(traces.tracer("agentic"))
        // Nobody asks a span of the mesh for its line, its thread or its idle time, and each
        // costs as much as the span itself.
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(all_but_exporter(LevelFilter::INFO))
}

// The log for the collector.
fn sent<S>(logs: &SdkLoggerProvider, filter: EnvFilter) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    LogsLayer::new(logs).with_filter(filter.and(all_but_exporter(LevelFilter::TRACE)))
}
