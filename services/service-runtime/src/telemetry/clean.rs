//! Takes secrets out of spans and log records on their way to a collector: while the work that they tell of still
//! holds its secrets, and before anything keeps them.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::trace::Status;
use opentelemetry::{Array, Context, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord, SdkLoggerProvider};
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

use crate::redaction::{self, InUse};

/// Gives spans on without secrets.
#[derive(Debug)]
pub(super) struct CleanSpans<P>(pub(super) P);

impl<P: SpanProcessor> SpanProcessor for CleanSpans<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.0.on_start(span, context);
    }

    fn on_end(&self, mut span: SpanData) {
        clean_span(&redaction::in_use(), &mut span);
        self.0.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn clean_span(secrets: &InUse, span: &mut SpanData) {
    clean_text(secrets, &mut span.name);
    clean_attributes(secrets, &mut span.attributes);
    for event in &mut span.events.events {
        clean_text(secrets, &mut event.name);
        clean_attributes(secrets, &mut event.attributes);
    }
    for link in &mut span.links.links {
        clean_attributes(secrets, &mut link.attributes);
    }
    if let Status::Error { description } = &mut span.status {
        clean_text(secrets, description);
    }
}

fn clean_attributes(secrets: &InUse, attributes: &mut [KeyValue]) {
    for attribute in attributes {
        if let Value::String(text) = &mut attribute.value {
            clean_string(secrets, text);
        } else if let Value::Array(Array::String(texts)) = &mut attribute.value {
            for text in texts {
                clean_string(secrets, text);
            }
        }
    }
}

fn clean_text(secrets: &InUse, text: &mut Cow<'static, str>) {
    let cleaned = secrets.clean(text);
    if let Cow::Owned(cleaned) = cleaned {
        *text = Cow::Owned(cleaned);
    }
}

fn clean_string(secrets: &InUse, text: &mut StringValue) {
    let cleaned = secrets.clean(text.as_str());
    if let Cow::Owned(cleaned) = cleaned {
        *text = cleaned.into();
    }
}

/// Gives log records on without secrets, until it is shut down.
#[derive(Debug)]
pub(super) struct CleanLogs<P> {
    next: P,
    // Nobody else can make an empty record, and no attribute of a record can be changed.
    blank: SdkLoggerProvider,
    // What is logged after the end is not worth a complaint.
    has_ended: AtomicBool,
}

impl<P> CleanLogs<P> {
    pub(super) fn new(next: P) -> Self {
        Self {
            next,
            blank: SdkLoggerProvider::builder().build(),
            has_ended: AtomicBool::new(false),
        }
    }

    fn clean(&self, secrets: &InUse, record: &mut SdkLogRecord) {
        if let Some(body) = record.body().and_then(|body| cleaned(secrets, body)) {
            record.set_body(body);
        }
        let is_clean = |(_, value): &(_, AnyValue)| cleaned(secrets, value).is_none();
        if !record.attributes_iter().all(is_clean) {
            *record = self.with_clean_attributes(secrets, record);
        }
    }

    fn with_clean_attributes(&self, secrets: &InUse, record: &SdkLogRecord) -> SdkLogRecord {
        let mut clean = self.blank.logger("").create_log_record();
        if let Some(name) = record.event_name() {
            clean.set_event_name(name);
        }
        if let Some(target) = record.target() {
            clean.set_target(target.clone());
        }
        if let Some(timestamp) = record.timestamp() {
            clean.set_timestamp(timestamp);
        }
        if let Some(timestamp) = record.observed_timestamp() {
            clean.set_observed_timestamp(timestamp);
        }
        if let Some(text) = record.severity_text() {
            clean.set_severity_text(text);
        }
        if let Some(number) = record.severity_number() {
            clean.set_severity_number(number);
        }
        if let Some(body) = record.body() {
            clean.set_body(body.clone());
        }
        if let Some(span) = record.trace_context() {
            clean.set_trace_context(span.trace_id, span.span_id, span.trace_flags);
        }
        for (key, value) in record.attributes_iter() {
            let value = cleaned(secrets, value).unwrap_or_else(|| value.clone());
            clean.add_attribute(key.clone(), value);
        }
        clean
    }
}

impl<P: LogProcessor> LogProcessor for CleanLogs<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.clean(&redaction::in_use(), record);
        self.next.emit(record, scope);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.has_ended.store(true, Ordering::Relaxed);
        // Has nothing to end; dropped without, it would say so.
        let _ = self.blank.shutdown_with_timeout(timeout);
        self.next.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        !self.has_ended.load(Ordering::Relaxed) && self.next.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

// `None`: there is nothing to take out.
fn cleaned(secrets: &InUse, value: &AnyValue) -> Option<AnyValue> {
    if let AnyValue::String(text) = value {
        let text = owned(secrets.clean(text.as_str()))?;
        Some(AnyValue::String(text.into()))
    } else if let AnyValue::Bytes(bytes) = value {
        let bytes = owned(secrets.clean_bytes(bytes))?;
        Some(AnyValue::Bytes(Box::new(bytes)))
    } else if let AnyValue::ListAny(values) = value {
        let parts: Vec<_> = values.iter().map(|part| cleaned(secrets, part)).collect();
        parts.iter().any(Option::is_some).then(|| {
            let parts = parts.into_iter().zip(values.iter());
            let parts = parts.map(|(clean, part)| clean.unwrap_or_else(|| part.clone()));
            AnyValue::ListAny(Box::new(parts.collect()))
        })
    } else if let AnyValue::Map(entries) = value {
        let mut clean = None;
        for (key, part) in entries.iter() {
            if let Some(part) = cleaned(secrets, part) {
                let entries = clean.get_or_insert_with(|| entries.clone());
                entries.insert(key.clone(), part);
            }
        }
        clean.map(AnyValue::Map)
    } else {
        None
    }
}

fn owned<T: ToOwned + ?Sized>(text: Cow<'_, T>) -> Option<T::Owned> {
    match text {
        Cow::Borrowed(_) => None,
        Cow::Owned(text) => Some(text),
    }
}
