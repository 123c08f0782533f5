//! Exemplars: of each bucket of a latency histogram, the trace that fell into it last, so that a slow call leads
//! to its trace. Neither the OpenTelemetry SDK nor the Prometheus crate keeps them; only OpenMetrics shows them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::KeyValue;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

/// What OpenMetrics text is called (OpenMetrics 1.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

// As many series as the OpenTelemetry SDK keeps of one instrument.
const SERIES: usize = 2000;

type Series = (&'static str, Vec<(String, String)>);

struct Exemplar {
    trace_id: String,
    value: f64,
    time: SystemTime,
}

// By the number of the bucket.
static KEPT: LazyLock<Mutex<HashMap<Series, BTreeMap<usize, Exemplar>>>> =
    LazyLock::new(Mutex::default);

/// A measurement of a histogram, by its name in `/metrics`, was made within a trace.
pub fn keep(
    name: &'static str,
    attributes: &[KeyValue],
    bounds: &[f64],
    value: f64,
    trace_id: String,
) {
    if trace_id.is_empty() {
        return;
    }
    let mut labels: Vec<_> = attributes
        .iter()
        .map(|attribute| {
            let key = attribute.key.as_str().replace('.', "_");
            (key, attribute.value.to_string())
        })
        .collect();
    labels.sort_unstable();
    let bucket = bounds.partition_point(|bound| *bound < value);
    let exemplar = Exemplar {
        trace_id,
        value,
        time: SystemTime::now(),
    };
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let series = (name, labels);
    if kept.len() < SERIES || kept.contains_key(&series) {
        kept.entry(series).or_default().insert(bucket, exemplar);
    }
}

/// Metrics as OpenMetrics text, with what exemplars are kept.
pub fn open_metrics(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for family in families {
        write_family(&mut text, family);
    }
    text.push_str("# EOF\n");
    text
}

fn write_family(text: &mut String, family: &MetricFamily) {
    let name = family.name();
    let (name, kind) = match family.get_field_type() {
        MetricType::COUNTER => (name.trim_end_matches("_total"), "counter"),
        MetricType::GAUGE => (name, "gauge"),
        MetricType::HISTOGRAM => (name, "histogram"),
        // Nothing of ours has these.
        MetricType::SUMMARY | MetricType::UNTYPED => return,
    };
    let _ = writeln!(text, "# TYPE {name} {kind}");
    let _ = writeln!(text, "# HELP {name} {}", escaped(family.help()));
    for metric in family.get_metric() {
        let labels = labels(metric);
        match family.get_field_type() {
            MetricType::COUNTER => {
                let value = metric.get_counter().get_value();
                let _ = writeln!(text, "{name}_total{} {value:?}", braced(&labels));
            }
            MetricType::GAUGE => {
                let value = metric.get_gauge().get_value();
                let _ = writeln!(text, "{name}{} {value:?}", braced(&labels));
            }
            MetricType::HISTOGRAM => write_histogram(text, name, metric, &labels),
            MetricType::SUMMARY | MetricType::UNTYPED => {}
        }
    }
}

fn write_histogram(text: &mut String, name: &str, metric: &Metric, labels: &[String]) {
    let histogram = metric.get_histogram();
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let exemplars = kept
        .iter()
        .find(|((kept, of), _)| *kept == name && is_of(metric.get_label(), of))
        .map(|(_, exemplars)| exemplars);
    let infinite = std::iter::once((f64::INFINITY, histogram.get_sample_count()));
    let buckets = histogram
        .get_bucket()
        .iter()
        .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
        .filter(|(bound, _)| bound.is_finite())
        .chain(infinite);
    for (number, (bound, count)) in buckets.enumerate() {
        let bound = if bound.is_finite() {
            format!("{bound:?}")
        } else {
            "+Inf".to_owned()
        };
        let mut labels = labels.to_vec();
        labels.push(format!("le=\"{bound}\""));
        let _ = write!(text, "{name}_bucket{} {count}", braced(&labels));
        if let Some(exemplar) = exemplars.and_then(|exemplars| exemplars.get(&number)) {
            let time = exemplar.time.duration_since(UNIX_EPOCH).unwrap_or_default();
            let (id, value, time) = (&exemplar.trace_id, exemplar.value, time.as_secs_f64());
            let _ = write!(text, " # {{trace_id=\"{id}\"}} {value:?} {time:.3}");
        }
        text.push('\n');
    }
    let labels = braced(labels);
    let _ = writeln!(text, "{name}_sum{labels} {:?}", histogram.get_sample_sum());
    let _ = writeln!(
        text,
        "{name}_count{labels} {}",
        histogram.get_sample_count()
    );
}

// Labels beyond those of the measurement say which instrumentation it is.
fn is_of(labels: &[LabelPair], kept: &[(String, String)]) -> bool {
    let mut own: Vec<_> = labels
        .iter()
        .filter(|label| !label.name().starts_with("otel_scope_"))
        .map(|label| (label.name(), label.value()))
        .collect();
    own.sort_unstable();
    own.len() == kept.len()
        && own
            .iter()
            .zip(kept)
            .all(|((name, value), (kept, of))| name == kept && value == of)
}

fn labels(metric: &Metric) -> Vec<String> {
    let pairs = metric.get_label().iter();
    pairs
        .map(|label| format!("{}=\"{}\"", label.name(), escaped(label.value())))
        .collect()
}

fn braced(labels: &[String]) -> String {
    if labels.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", labels.join(","))
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use opentelemetry::metrics::MeterProvider;
    use opentelemetry_sdk::metrics::SdkMeterProvider;

    use super::*;

    const BOUNDS: [f64; 2] = [0.5, 2.0];

    #[test]
    fn a_bucket_names_the_trace_that_fell_into_it_last() {
        let registry = prometheus::Registry::new();
        let reader = opentelemetry_prometheus::exporter().with_registry(registry.clone());
        let reader = reader.without_target_info().build().unwrap();
        let meters = SdkMeterProvider::builder().with_reader(reader).build();
        let meter = meters.meter("test");
        let histogram = meter.f64_histogram("test.exemplars").with_unit("s");
        let histogram = histogram.with_boundaries(BOUNDS.to_vec()).build();
        let attributes = [KeyValue::new("rpc.method", "a \"b\"\\\n")];
        for (value, trace_id) in [(0.25, "aa"), (0.5, "bb"), (3.0, "cc"), (1.0, "")] {
            histogram.record(value, &attributes);
            keep(
                "test_exemplars_seconds",
                &attributes,
                &BOUNDS,
                value,
                trace_id.to_owned(),
            );
        }
        // Another series has none of them.
        histogram.record(1.0, &[KeyValue::new("rpc.method", "other")]);
        meter.u64_counter("test.calls").build().add(3, &[]);

        let text = open_metrics(&registry.gather())
            .replace("{otel_scope_name=\"test\"}", "")
            .replace("otel_scope_name=\"test\",", "")
            .replace(",otel_scope_name=\"test\"", "");
        let lines: Vec<_> = text
            .lines()
            // When it was is not told in advance.
            .map(
                |line| match line.split_once("} 0.5 ").or(line.split_once("} 3.0 ")) {
                    Some((before, _)) => before,
                    None => line,
                },
            )
            .collect();
        let label = r#"rpc_method="a \"b\"\\\n""#;
        for expected in [
            format!(r#"test_exemplars_seconds_bucket{{{label},le="0.5"}} 2 # {{trace_id="bb""#),
            format!(r#"test_exemplars_seconds_bucket{{{label},le="2.0"}} 3"#),
            format!(r#"test_exemplars_seconds_bucket{{{label},le="+Inf"}} 4 # {{trace_id="cc""#),
            format!("test_exemplars_seconds_sum{{{label}}} 4.75"),
            format!("test_exemplars_seconds_count{{{label}}} 4"),
            r#"test_exemplars_seconds_bucket{rpc_method="other",le="2.0"} 1"#.to_owned(),
            "# TYPE test_calls counter".to_owned(),
            "test_calls_total 3.0".to_owned(),
        ] {
            assert!(lines.contains(&expected.as_str()), "{expected}\n{text}");
        }
        assert_eq!(lines.last(), Some(&"# EOF"));
    }
}
