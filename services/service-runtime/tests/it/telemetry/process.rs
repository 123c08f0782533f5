//! What the processes do whose telemetry is looked at: it can be set up only once in a process.

use std::env;
use std::io;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::Parser;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, KeyValue, StringValue, Value, global};
use service_runtime::redaction::{self, Secrets};
use service_runtime::telemetry::{self, FLUSH_WITHIN, TelemetryArgs};
use tokio::task::JoinSet;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Says which of them to be.
pub const PART: &str = "TELEMETRY_PART";
/// Registered by the process.
pub const SECRET: &str = "pl\"anted/ <é>+& value";
/// Registered by a work that ends before anything is sent.
pub const SECRET_OF_A_WORK: &str = "the value that only one work knows";
/// Nobody hides it.
pub const CONTROL: &str = "control value that nobody hides";

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

/// What a command line says of telemetry.
pub fn settings(arguments: &[&str]) -> TelemetryArgs {
    let arguments = ["process"].iter().chain(arguments);
    Settings::parse_from(arguments).telemetry
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by other tests as a process of its own"]
async fn process() {
    let settings = settings(&[]);
    redaction::process().register("PLANTED", SECRET);
    let telemetry = telemetry::start("told", &settings).unwrap();
    let part = env::var_os(PART).expect("other tests say which part to play");
    match part.to_str().unwrap() {
        "tells" => tells(),
        "panics" => panics().await,
        "counts" => counts(),
        "goes on" => goes_on(),
        other => panic!("{other}"),
    }
    let begun = Instant::now();
    telemetry.flush();
    // The SDK alone would take five seconds for metrics.
    let took = begun.elapsed();
    assert!(took < FLUSH_WITHIN * 2, "it took {took:?} to end");
}

// Secrets wherever there is a place for one.
fn tells() {
    let work = Secrets::new();
    work.register("OF THE WORK", SECRET_OF_A_WORK);
    let name = format!("work on {SECRET} and {CONTROL}");
    let span = tracing::info_span!(
        "work",
        otel.name = name,
        otel.status_code = "error",
        otel.status_description = format!("{CONTROL}, but not {SECRET}"),
        attribute = SECRET,
        control = CONTROL,
    );
    let list = ["a", SECRET, CONTROL].map(StringValue::from).to_vec();
    span.set_attribute("list", Value::Array(Array::String(list)));
    span.add_event(
        format!("event {SECRET}"),
        vec![KeyValue::new("field", SECRET)],
    );
    span.add_link_with_attributes(elsewhere(), vec![KeyValue::new("field", SECRET)]);
    let _within = span.enter();
    tracing::info!(control = CONTROL, "said {SECRET} of {SECRET_OF_A_WORK}");
    tracing::warn!(
        field = SECRET,
        debug = ?[SECRET],
        json = serde_json::to_string(SECRET).unwrap(),
        url = %url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect::<String>(),
        base64 = STANDARD.encode(SECRET),
        base64url = URL_SAFE_NO_PAD.encode(format!("x{SECRET}")),
        bytes = SECRET.as_bytes(),
        of_a_work = SECRET_OF_A_WORK,
        number = 7,
        control = CONTROL,
        "in fields"
    );
    let error = io::Error::other(SECRET);
    tracing::error!(error = &error as &dyn std::error::Error, "of an error");
}

// A span of another process.
fn elsewhere() -> SpanContext {
    SpanContext::new(
        TraceId::from(7),
        SpanId::from(7),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    )
}

async fn panics() {
    let mut tasks = JoinSet::new();
    tasks.spawn(async { panic!("{CONTROL}, but not {SECRET}") });
    assert!(tasks.join_next().await.unwrap().is_err());
}

fn counts() {
    let span = tracing::info_span!("work");
    let _within = span.enter();
    // Of no interest to the log, nor to the trace.
    let _inner = tracing::debug_span!("inner").entered();
    tracing::info!("not told");
    tracing::error!("told");
    global::meter("test")
        .u64_counter("told")
        .build()
        .add(3, &[]);
}

// Until it is told to end.
fn goes_on() {
    tracing::info!("first");
    io::stdin().read_line(&mut String::new()).unwrap();
    tracing::info!("second");
}
