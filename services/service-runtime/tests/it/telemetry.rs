//! What leaves a process over OTLP, as a collector receives it.

mod process;
mod receiver;

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use process::{CONTROL, PART, SECRET, SECRET_OF_A_WORK};
use receiver::{Receiver, Sent, attribute, text};

const PATIENCE: Duration = Duration::from_mins(1);

struct Ended {
    log: String,
    sent: Sent,
}

// A process that plays this part.
fn command(part: &str, endpoint: &str, log: File) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "telemetry::process::process"])
        .args(["--ignored", "--nocapture"])
        .env(PART, part)
        .env("AGENTIC_LOG_FORMAT", "json")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_BLRP_SCHEDULE_DELAY", "20")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true);
    command
}

fn start(part: &str, filter: &str, endpoint: &str, log: File) -> Child {
    let mut command = command(part, endpoint, log);
    command.env("AGENTIC_LOG", filter).spawn().unwrap()
}

async fn end(mut child: Child) {
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    let status = ended.expect("it ends").unwrap();
    assert!(status.success(), "{status}");
}

// Lets a process play this part to its end.
async fn play(part: &str, filter: &str) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let receiver = Receiver::start().await;
    let log = File::create(&path).unwrap();
    end(start(part, filter, receiver.endpoint(), log)).await;
    Ended {
        log: fs::read_to_string(path).unwrap(),
        sent: receiver.sent(),
    }
}

fn assert_hidden(ended: &Ended) {
    let json = serde_json::to_string(SECRET).unwrap();
    let url: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let base64 = STANDARD_NO_PAD.encode(SECRET);
    // Behind one byte, without what it shares with its neighbours.
    let shifted = STANDARD_NO_PAD.encode(format!("x{SECRET}"));
    let shifted = &shifted[2..shifted.len() - 2];
    for form in [SECRET, &json[1..json.len() - 1], &url, &base64, shifted] {
        assert!(!ended.sent.holds(form), "{form} was sent");
        assert!(!ended.log.contains(form), "{form} is in {}", ended.log);
    }
    assert!(!ended.sent.holds(SECRET_OF_A_WORK));
    assert!(!ended.log.contains(SECRET_OF_A_WORK), "{}", ended.log);
    assert!(ended.sent.holds(CONTROL));
    assert!(ended.log.contains(CONTROL), "{}", ended.log);
}

#[tokio::test]
async fn no_secret_leaves_in_spans_and_logs() {
    let ended = play("tells", "info").await;
    assert_hidden(&ended);

    let spans = ended.sent.spans();
    let [span] = spans[..] else {
        panic!("{spans:?}");
    };
    assert_eq!(span.name, format!("work on [secret PLANTED] and {CONTROL}"));
    let status = span.status.as_ref().unwrap();
    let description = format!("{CONTROL}, but not [secret PLANTED]");
    assert_eq!(status.message, description);
    assert_eq!(attribute(&span.attributes, "attribute"), "[secret PLANTED]");
    assert_eq!(attribute(&span.attributes, "control"), CONTROL);
    let said = "said [secret PLANTED] of [secret OF THE WORK]";
    let names: Vec<_> = span.events.iter().map(|event| &event.name).collect();
    assert!(names.iter().any(|name| *name == said), "{names:?}");
    let event = "event [secret PLANTED]";
    assert!(names.iter().any(|name| *name == event), "{names:?}");
    let link = &span.links[0].attributes;
    assert_eq!(attribute(link, "field"), "[secret PLANTED]");

    let record = ended.sent.log(said);
    assert_eq!(attribute(&record.attributes, "control"), CONTROL);
    let record = ended.sent.log("in fields");
    assert_eq!(record.severity_number(), SeverityNumber::Warn);
    assert_eq!(record.trace_id, span.trace_id);
    assert_eq!(record.span_id, span.span_id);
    for (key, value) in [
        ("field", "[secret PLANTED]"),
        ("debug", "[\"[secret PLANTED]\"]"),
        ("json", "\"[secret PLANTED]\""),
        ("url", "[secret PLANTED]"),
        ("of_a_work", "[secret OF THE WORK]"),
        ("control", CONTROL),
    ] {
        assert_eq!(attribute(&record.attributes, key), value, "{key}");
    }
    assert_eq!(record.attributes.len(), 10, "{:?}", record.attributes);
}

#[tokio::test]
async fn a_panic_of_a_task_is_a_log_record_without_secrets_even_if_the_log_is_off() {
    for filter in ["info", "off"] {
        let ended = play("panics", filter).await;
        assert_hidden(&ended);
        let message = format!("panicked: {CONTROL}, but not [secret PLANTED]");
        let record = ended.sent.log(&message);
        assert_eq!(record.severity_number(), SeverityNumber::Error);
        let location = attribute(&record.attributes, "location");
        assert!(location.contains("process.rs:"), "{location}");
        assert!(ended.log.contains(&message), "{}", ended.log);
    }
}

#[tokio::test]
async fn what_the_log_shows_is_sent_with_its_trace_and_each_measurement_once() {
    let ended = play("counts", "error").await;
    let logs = ended.sent.logs();
    let [(target, record)] = logs[..] else {
        panic!("{logs:?}");
    };
    assert_eq!(target, "it::telemetry::process");
    assert_eq!(text(record.body.as_ref()), "told");
    let spans = ended.sent.spans();
    let [span] = spans[..] else {
        panic!("{spans:?}");
    };
    assert_eq!(span.name, "work");
    assert_eq!(record.trace_id, span.trace_id);
    assert_eq!(record.span_id, span.span_id);

    let metrics = ended.sent.metrics();
    let [metric] = metrics[..] else {
        panic!("{metrics:?}");
    };
    assert_eq!(metric.name, "told");
    let Some(Data::Sum(sum)) = &metric.data else {
        panic!("{metric:?}");
    };
    assert_eq!(sum.data_points.len(), 1);
    assert_eq!(sum.data_points[0].value, Some(Value::AsInt(3)));
}

#[tokio::test]
async fn the_exporter_sends_nothing_about_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let receiver = Receiver::start().await;
    let log = File::create(&path).unwrap();
    let mut child = start("goes on", "trace", receiver.endpoint(), log);
    let has_logs = tokio::time::timeout(PATIENCE, receiver.has_logs()).await;
    has_logs.expect("logs go out by themselves");
    let mut orders = child.stdin.take().unwrap();
    orders.write_all(b"end\n").await.unwrap();
    end(child).await;
    let sent = receiver.sent();
    let targets: Vec<_> = sent.logs().iter().map(|(target, _)| *target).collect();
    assert_eq!(targets, ["it::telemetry::process"; 2]);
    // There was something to tell.
    let log = fs::read_to_string(path).unwrap();
    assert!(log.contains("\"target\":\"h2::"), "{log}");
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_keeps_no_process_from_ending() {
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = free.local_addr().unwrap();
    drop(free);
    for address in [silent.local_addr().unwrap(), away] {
        let log = tempfile::tempfile().unwrap();
        // The process says itself whether it ends in time.
        end(start("counts", "info", &format!("http://{address}"), log)).await;
    }
}

#[tokio::test]
async fn an_empty_endpoint_is_none() {
    let receiver = Receiver::start().await;
    let log = tempfile::tempfile().unwrap();
    let child = command("counts", "", log)
        // Where the exporters would look next.
        .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.endpoint())
        .env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", receiver.endpoint())
        .env("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", receiver.endpoint())
        .spawn()
        .unwrap();
    end(child).await;
    let sent = receiver.sent();
    assert!(sent.spans().is_empty() && sent.metrics().is_empty() && sent.logs().is_empty());
}

#[tokio::test]
async fn a_collector_behind_tls_gets_everything_if_its_authority_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.crt");
    let receiver = Receiver::start_with_tls().await;
    fs::write(&authority, receiver.authority()).unwrap();
    let path = folder.path().join("log");
    // Nobody public vouches for it.
    let log = File::create(&path).unwrap();
    end(start("counts", "info", receiver.endpoint(), log)).await;
    let sent = receiver.sent();
    assert!(sent.spans().is_empty() && sent.metrics().is_empty() && sent.logs().is_empty());
    let said = fs::read_to_string(&path).unwrap();
    assert!(said.contains("\"target\":\"opentelemetry"), "{said}");

    let log = File::create(&path).unwrap();
    let child = command("counts", receiver.endpoint(), log)
        .env("AGENTIC_LOG", "error")
        .env("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority)
        .spawn()
        .unwrap();
    end(child).await;
    let sent = receiver.sent();
    assert_eq!(sent.spans().len(), 1);
    assert_eq!(sent.metrics().len(), 1);
    assert_eq!(sent.logs().len(), 1);
}

#[test]
fn authorities_that_cannot_be_read_are_named() {
    let settings = process::settings(&[
        "--otlp-endpoint=https://127.0.0.1:1",
        "--otlp-ca=/nowhere/ca.crt",
    ]);
    let error = service_runtime::telemetry::start("told", &settings).unwrap_err();
    assert!(error.to_string().contains("/nowhere/ca.crt"), "{error}");
}
