//! Log events on their way to a collector, each with its span; and what must not go, or be told too often.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use tracing::callsite::Identifier;
use tracing::dispatcher::{Dispatch, WeakDispatch};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

/// How often a complaint of the exporter is told while its collector is away.
pub(super) const COMPLAINS_EVERY: Duration = Duration::from_mins(10);

// What the exporter is made of. Whatever of it is not for the exporter goes no other way.
const EXPORTER: [&str; 9] = [
    "h2",
    "hyper",
    "mio",
    "opentelemetry",
    "rustls",
    "tokio_rustls",
    "tonic",
    "tower",
    "want",
];

/// Everything down to this level, but for the exporter's own calls: what tells of them would never end.
pub(super) fn all_but_exporter(level: LevelFilter) -> Targets {
    let off = EXPORTER.map(|target| (target, LevelFilter::OFF));
    Targets::new().with_default(level).with_targets(off)
}

/// Makes log records of events.
pub(super) struct LogsLayer {
    bridge: OpenTelemetryTracingBridge<SdkLoggerProvider, SdkLogger>,
    dispatch: OnceLock<WeakDispatch>,
}

impl LogsLayer {
    pub(super) fn new(logs: &SdkLoggerProvider) -> Self {
        Self {
            bridge: OpenTelemetryTracingBridge::new(logs),
            dispatch: OnceLock::new(),
        }
    }

    // The log's own filter may know nothing of the span, so this asks the registry.
    fn span(&self, event: &Event<'_>) -> Option<SpanContext> {
        let dispatch = self.dispatch.get()?.upgrade()?;
        let registry = dispatch.downcast_ref::<Registry>()?;
        let current = registry.current_span();
        let id = match event.parent() {
            Some(parent) => parent,
            None if event.is_contextual() => current.id()?,
            None => return None,
        };
        let mut spans = registry.span(id)?.scope();
        spans.find_map(|span| {
            let context = tracing_opentelemetry::get_otel_context(&span.id(), &dispatch)?;
            Some(context.span().span_context().clone())
        })
    }
}

impl<S> Layer<S> for LogsLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        // There is one for a process.
        let _ = self.dispatch.set(dispatch.downgrade());
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // The bridge takes the span of the thread's OpenTelemetry context, which spans of `tracing` do not set.
        let _within = self.span(event).map(|span| {
            opentelemetry::Context::map_current(|current| current.with_remote_span_context(span))
                .attach()
        });
        self.bridge.on_event(event, context);
    }
}

/// Lets each complaint of the exporter through once in a while: a collector that is away for a day would fill the
/// log with them.
pub(super) struct Seldom {
    every: Duration,
    told: Mutex<HashMap<Identifier, Instant>>,
}

impl Seldom {
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every,
            told: Mutex::default(),
        }
    }
}

impl<S> Filter<S> for Seldom {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_complaint(metadata) {
            Interest::sometimes()
        } else {
            Interest::always()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // Without one, a filter beside this would lose its own.
        Some(LevelFilter::TRACE)
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if !is_complaint(metadata) {
            return true;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let last = told.get(&metadata.callsite());
        let is_due = last.is_none_or(|last| now.duration_since(*last) >= self.every);
        if is_due {
            told.insert(metadata.callsite(), now);
        }
        is_due
    }
}

// Who asks for more than this is looking for something.
fn is_complaint(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("opentelemetry") && *metadata.level() <= Level::INFO
}

#[cfg(test)]
mod tests;
