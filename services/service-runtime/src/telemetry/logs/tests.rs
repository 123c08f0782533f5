use std::io::{self, Write};
use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt;

use super::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// The lines that a collector's absence makes.
fn told(every: Duration) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
    let lines = lines.with_filter(Seldom::new(every));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
        for round in 0..3 {
            tracing::error!(target: "opentelemetry_sdk", round, "export failed");
            tracing::warn!(target: "opentelemetry-otlp", round, "retries exhausted");
            tracing::debug!(target: "opentelemetry_sdk", round, "exporting");
            tracing::error!(round, "of the process itself");
        }
    });
    let bytes = log.0.lock().unwrap().clone();
    let text = String::from_utf8(bytes).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn a_complaint_of_the_exporter_is_told_once_in_a_while() {
    let lines = told(Duration::from_hours(1));
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("export failed"), 1, "{lines:?}");
    assert_eq!(count("retries exhausted"), 1, "{lines:?}");
    assert_eq!(count("exporting"), 3, "{lines:?}");
    assert_eq!(count("of the process itself"), 3, "{lines:?}");
    assert_eq!(told(Duration::ZERO).len(), 12);
}
