//! Every gate is seen to fail, to pass and to be not proven.

use time::{Date, Month};

use super::{
    Gate, Measurements, Merged, Metric, Number, Operator, PolicyError, Waiver, built_in, judge,
    merge,
};
use crate::verdict::Verdict;

fn today() -> Date {
    Date::from_calendar_date(2026, Month::March, 1).unwrap()
}

fn only(gate: Gate) -> Merged {
    Merged {
        gates: vec![gate],
        ..Merged::default()
    }
}

fn measured(metric: Metric, value: f64) -> Measurements {
    let mut measurements = Measurements::default();
    measurements.measured(metric, value, "test");
    measurements
}

#[test]
fn every_metric_and_operator_is_seen_red_and_green() {
    for &metric in Metric::ALL {
        for (operator, red, green) in [
            ("at_least", 49.9, 50.0),
            ("at_most", 50.1, 50.0),
            ("above", 50.0, 50.1),
            ("below", 50.0, 49.9),
            ("equals", 49.0, 50.0),
        ] {
            let policy = only(Gate::named(metric.name(), operator, 50.0).unwrap());
            let red = &judge(&policy, &measured(metric, red), today())[0];
            assert!(
                red.verdict == Verdict::Failed && red.stops(),
                "{metric} {operator}"
            );
            let green = &judge(&policy, &measured(metric, green), today())[0];
            assert!(
                green.verdict == Verdict::Passed && !green.stops(),
                "{metric} {operator}"
            );
            let missing = &judge(&policy, &Measurements::default(), today())[0];
            assert!(
                missing.verdict == Verdict::NotProven && missing.stops(),
                "{metric}"
            );
        }
    }
}

#[test]
fn an_advisory_gate_never_stops() {
    let policy = only(
        Gate::named("p95_latency_ms", "below", 500.0)
            .unwrap()
            .with_advisory(true),
    );
    let failed = &judge(&policy, &measured(Metric::P95LatencyMs, 900.0), today())[0];
    assert!(failed.verdict == Verdict::Failed && !failed.stops());
    let missing = &judge(&policy, &Measurements::default(), today())[0];
    assert!(missing.verdict == Verdict::NotProven && !missing.stops());
}

#[test]
fn the_built_in_policy_stops_only_what_is_bad() {
    let policy = merge(Vec::new(), Vec::new()).unwrap();
    let mut ordinary = measured(Metric::TestsExecutedCount, 12.0);
    ordinary.measured(Metric::NewSecretCount, 0.0, "secrets");
    assert!(
        judge(&policy, &ordinary, today())
            .iter()
            .all(|gate| !gate.stops())
    );
    for (metric, bad) in [
        (Metric::TestsExecutedCount, 0.0),
        (Metric::NewSecretCount, 1.0),
        (Metric::CriticalVulnerabilityCount, 1.0),
        (Metric::HighVulnerabilityCount, 2.0),
        (Metric::NewCodeLineCoveragePercent, 79.9),
    ] {
        let mut worse = ordinary.clone();
        worse.new_code_line_count = Some(20);
        worse.measured(metric, bad, "test");
        let stopping: Vec<_> = judge(&policy, &worse, today())
            .into_iter()
            .filter(super::GateResult::stops)
            .collect();
        assert_eq!(stopping.len(), 1, "{metric}");
        assert_eq!(stopping[0].gate.metric, metric);
    }
    for metric in [Metric::TestsExecutedCount, Metric::NewSecretCount] {
        let mut unknown = ordinary.clone();
        unknown.values.remove(&metric);
        assert!(
            judge(&policy, &unknown, today())
                .iter()
                .any(super::GateResult::stops),
            "{metric}"
        );
    }
}

#[test]
fn few_changed_lines_say_nothing() {
    let policy = merge(Vec::new(), Vec::new()).unwrap();
    let mut measurements = measured(Metric::NewCodeLineCoveragePercent, 0.0);
    measurements.new_code_line_count = Some(19);
    let results = judge(&policy, &measurements, today());
    let coverage = results
        .iter()
        .find(|result| result.gate.metric == Metric::NewCodeLineCoveragePercent)
        .unwrap();
    assert!(coverage.verdict == Verdict::NotProven && !coverage.stops());
    assert!(coverage.reason.contains("19"));
}

#[test]
fn what_a_policy_turns_off_is_listed() {
    let own = vec![
        Gate::named("high_vulnerability_count", "at_most", 5.0).unwrap(),
        Gate::named("critical_vulnerability_count", "at_most", 0.0)
            .unwrap()
            .with_advisory(true),
        Gate::named("new_code_line_coverage_percent", "at_least", 90.0).unwrap(),
    ];
    let merged = merge(own, Vec::new()).unwrap();
    assert_eq!(
        merged.replaced,
        [
            "critical_vulnerability_count at_most 0",
            "high_vulnerability_count at_most 0"
        ]
    );
    assert_eq!(merged.gates.len(), 5);
}

#[test]
fn tests_and_secrets_block_whatever_a_policy_names() {
    let own = vec![
        Gate::named("new_secret_count", "at_most", 9.0)
            .unwrap()
            .with_advisory(true),
        Gate::named("tests_executed_count", "at_least", 0.0).unwrap(),
    ];
    let waiver = |name| Waiver::new(name, "someone", "because", today()).unwrap();
    let policy = merge(
        own,
        vec![waiver("new_secret_count"), waiver("tests_executed_count")],
    )
    .unwrap();
    let mut bad = measured(Metric::NewSecretCount, 1.0);
    bad.measured(Metric::TestsExecutedCount, 0.0, "test");
    let stopping = judge(&policy, &bad, today())
        .into_iter()
        .filter(super::GateResult::stops)
        .count();
    assert_eq!(stopping, 2);
}

#[test]
fn a_waiver_holds_until_its_day_and_is_shown() {
    let waiver = Waiver::new("line_coverage_percent", "ada", "old code", today()).unwrap();
    let policy = merge(
        vec![Gate::named("line_coverage_percent", "at_least", 80.0).unwrap()],
        vec![waiver],
    )
    .unwrap();
    let low = measured(Metric::LineCoveragePercent, 10.0);
    let find = |day: Date| {
        judge(&policy, &low, day)
            .into_iter()
            .find(|result| result.gate.metric == Metric::LineCoveragePercent)
            .unwrap()
    };
    let judged = find(today());
    assert!(!judged.stops() && judged.verdict == Verdict::Failed);
    assert!(judged.waiver.unwrap().contains("ada"));
    let later = today().next_day().unwrap();
    assert!(find(later).stops());
    assert_eq!(policy.expired(later).count(), 1);
}

#[test]
fn bad_policies_are_refused() {
    assert!(matches!(
        Gate::named("line_coverage", "at_least", 80.0),
        Err(PolicyError::UnknownMetric {
            nearest: "line_coverage_percent",
            ..
        })
    ));
    assert!(matches!(
        Gate::named("line_coverage_percent", "atleast", 80.0),
        Err(PolicyError::UnknownOperator { .. })
    ));
    for threshold in [101.0, -1.0, f64::NAN] {
        assert!(matches!(
            Gate::named("line_coverage_percent", "at_least", threshold),
            Err(PolicyError::Threshold { .. })
        ));
    }
    let gate = || Gate::named("line_coverage_percent", "at_least", 80.0).unwrap();
    assert!(gate().with_minimum_lines(Some(5)).is_err());
    assert!(merge(vec![gate(), gate()], Vec::new()).is_err());
    assert!(Waiver::new("x", " ", "reason", today()).is_err());
    assert!(Waiver::new("x", "owner", "", today()).is_err());
}

#[test]
fn numbers_are_never_rounded_up_to_a_threshold() {
    assert_eq!(Number(79.996).to_string(), "79.99");
    assert_eq!(Number(80.0).to_string(), "80");
    assert!(!Operator::AtLeast.holds(79.996, 80.0));
    assert_eq!(built_in().len(), 5);
}

#[test]
fn a_measurement_that_is_no_number_is_not_proven() {
    let policy = only(Gate::named("line_coverage_percent", "at_least", 80.0).unwrap());
    let result = &judge(
        &policy,
        &measured(Metric::LineCoveragePercent, f64::NAN),
        today(),
    )[0];
    assert_eq!(result.verdict, Verdict::NotProven);
}
