//! Every gate is seen to fail, to pass and to be not proven.

use agent_runtime::project::{Gate, GatePolicy, Metric, Operator, Waiver};
use time::{Date, Month};

use super::{GateResult, HeldGate, Measurements, Number, Policy, PolicyError, judge};
use crate::verdict::Verdict;

const METRICS: [Metric; 10] = [
    Metric::TestsExecutedCount,
    Metric::LineCoveragePercent,
    Metric::BranchCoveragePercent,
    Metric::NewCodeLineCoveragePercent,
    Metric::NewSecretCount,
    Metric::CriticalVulnerabilityCount,
    Metric::HighVulnerabilityCount,
    Metric::NewFindingCount,
    Metric::ApiBreakingChangeCount,
    Metric::P95LatencyMs,
];

fn today() -> Date {
    Date::from_calendar_date(2026, Month::March, 1).unwrap()
}

fn gate(metric: Metric, operator: Operator, threshold: f64) -> Gate {
    Gate {
        metric,
        operator,
        threshold,
        minimum_lines: None,
        advisory: false,
        ratchet: false,
    }
}

fn only(rule: Gate) -> Policy {
    let gate = HeldGate {
        rule,
        blocks_when_missing: true,
        is_built_in: false,
    };
    Policy {
        gates: vec![gate],
        ..Policy::default()
    }
}

fn merge(gates: Vec<Gate>, waivers: Vec<Waiver>) -> Policy {
    Policy::merge(GatePolicy {
        gates,
        waivers,
        ..GatePolicy::default()
    })
    .unwrap()
}

fn measured(metric: Metric, value: f64) -> Measurements {
    let mut measurements = Measurements::default();
    measurements.measured(metric, value, "test");
    measurements
}

fn stopping(policy: &Policy, measurements: &Measurements) -> Vec<Metric> {
    judge(policy, measurements, today())
        .into_iter()
        .filter(GateResult::stops)
        .map(|result| result.gate.rule.metric)
        .collect()
}

#[test]
fn every_metric_and_operator_is_seen_red_and_green() {
    for metric in METRICS {
        for (operator, red, green) in [
            (Operator::AtLeast, 49.9, 50.0),
            (Operator::AtMost, 50.1, 50.0),
            (Operator::Above, 50.0, 50.1),
            (Operator::Below, 50.0, 49.9),
            (Operator::Equals, 49.0, 50.0),
        ] {
            let policy = only(gate(metric, operator, 50.0));
            let red = &judge(&policy, &measured(metric, red), today())[0];
            assert!(
                red.verdict == Verdict::Failed && red.stops(),
                "{metric:?} {operator:?}"
            );
            let green = &judge(&policy, &measured(metric, green), today())[0];
            assert!(
                green.verdict == Verdict::Passed && !green.stops(),
                "{metric:?} {operator:?}"
            );
            let missing = &judge(&policy, &Measurements::default(), today())[0];
            assert!(
                missing.verdict == Verdict::NotProven && missing.stops(),
                "{metric:?}"
            );
        }
    }
}

#[test]
fn an_advisory_gate_never_stops() {
    let mut rule = gate(Metric::P95LatencyMs, Operator::Below, 500.0);
    rule.advisory = true;
    let policy = only(rule);
    let failed = &judge(&policy, &measured(Metric::P95LatencyMs, 900.0), today())[0];
    assert!(failed.verdict == Verdict::Failed && !failed.stops());
    let missing = &judge(&policy, &Measurements::default(), today())[0];
    assert!(missing.verdict == Verdict::NotProven && !missing.stops());
}

#[test]
fn the_built_in_policy_stops_only_what_is_bad() {
    let policy = merge(Vec::new(), Vec::new());
    let mut ordinary = measured(Metric::TestsExecutedCount, 12.0);
    ordinary.measured(Metric::NewSecretCount, 0.0, "secrets");
    assert!(stopping(&policy, &ordinary).is_empty());
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
        assert_eq!(stopping(&policy, &worse), [metric]);
    }
    for metric in [Metric::TestsExecutedCount, Metric::NewSecretCount] {
        let mut unknown = ordinary.clone();
        unknown.values.remove(&metric);
        assert_eq!(stopping(&policy, &unknown), [metric]);
    }
}

#[test]
fn few_changed_lines_say_nothing() {
    let policy = merge(Vec::new(), Vec::new());
    for value in [None, Some(0.0)] {
        let mut measurements = Measurements::default();
        if let Some(value) = value {
            measurements.measured(Metric::NewCodeLineCoveragePercent, value, "test");
        }
        measurements.new_code_line_count = Some(19);
        let results = judge(&policy, &measurements, today());
        let coverage = results
            .iter()
            .find(|result| result.gate.rule.metric == Metric::NewCodeLineCoveragePercent)
            .unwrap();
        assert!(coverage.verdict == Verdict::NotProven && !coverage.stops());
        assert!(coverage.reason.contains("19"));
    }
}

#[test]
fn what_a_policy_turns_off_is_listed() {
    let mut advisory = gate(Metric::CriticalVulnerabilityCount, Operator::AtMost, 0.0);
    advisory.advisory = true;
    let policy = merge(
        vec![
            gate(Metric::HighVulnerabilityCount, Operator::AtMost, 5.0),
            advisory,
            gate(Metric::NewCodeLineCoveragePercent, Operator::AtLeast, 90.0),
        ],
        Vec::new(),
    );
    assert_eq!(
        policy.replaced,
        [
            "critical_vulnerability_count at_most 0",
            "high_vulnerability_count at_most 0"
        ]
    );
    assert_eq!(policy.gates.len(), 5);
}

#[test]
fn tests_and_secrets_block_whatever_a_policy_names() {
    let mut lenient = gate(Metric::NewSecretCount, Operator::AtMost, 9.0);
    lenient.advisory = true;
    let waiver = |name: &str| Waiver {
        finding: name.into(),
        owner: "someone".into(),
        reason: "because".into(),
        until: today(),
    };
    let policy = merge(
        vec![
            lenient,
            gate(Metric::TestsExecutedCount, Operator::AtLeast, 0.0),
        ],
        vec![waiver("new_secret_count"), waiver("tests_executed_count")],
    );
    let mut bad = measured(Metric::NewSecretCount, 1.0);
    bad.measured(Metric::TestsExecutedCount, 0.0, "test");
    assert_eq!(
        stopping(&policy, &bad),
        [Metric::TestsExecutedCount, Metric::NewSecretCount]
    );
}

#[test]
fn a_waiver_holds_until_its_day_and_is_shown() {
    let waiver = Waiver {
        finding: "line_coverage_percent".into(),
        owner: "ada".into(),
        reason: "old code".into(),
        until: today(),
    };
    let policy = merge(
        vec![gate(Metric::LineCoveragePercent, Operator::AtLeast, 80.0)],
        vec![waiver],
    );
    let low = measured(Metric::LineCoveragePercent, 10.0);
    let find = |day: Date| {
        judge(&policy, &low, day)
            .into_iter()
            .find(|result| result.gate.rule.metric == Metric::LineCoveragePercent)
            .unwrap()
    };
    let judged = find(today());
    assert!(!judged.stops() && judged.verdict == Verdict::Failed);
    assert!(judged.waiver.unwrap().contains("ada"));
    let later = today().next_day().unwrap();
    assert!(find(later).stops());
    assert_eq!(policy.expired(later).len(), 1);
    assert!(policy.expired(today()).is_empty());
}

#[test]
fn a_ratchet_never_lets_it_get_worse() {
    let mut rule = gate(Metric::LineCoveragePercent, Operator::AtLeast, 50.0);
    rule.ratchet = true;
    let policy = only(rule);
    let mut measurements = measured(Metric::LineCoveragePercent, 70.0);
    assert_eq!(
        judge(&policy, &measurements, today())[0].verdict,
        Verdict::NotProven
    );
    measurements
        .at_base
        .insert(Metric::LineCoveragePercent, 71.0);
    assert_eq!(
        judge(&policy, &measurements, today())[0].verdict,
        Verdict::Failed
    );
    measurements
        .at_base
        .insert(Metric::LineCoveragePercent, 70.0);
    assert_eq!(
        judge(&policy, &measurements, today())[0].verdict,
        Verdict::Passed
    );
}

#[test]
fn a_policy_that_says_the_same_twice_is_refused() {
    let rule = || gate(Metric::LineCoveragePercent, Operator::AtLeast, 80.0);
    let refused = Policy::merge(GatePolicy {
        gates: vec![rule(), rule()],
        ..GatePolicy::default()
    });
    assert!(matches!(refused, Err(PolicyError::Duplicate { .. })));
    let range = vec![
        rule(),
        gate(Metric::LineCoveragePercent, Operator::AtMost, 99.0),
    ];
    assert_eq!(merge(range, Vec::new()).gates.len(), 7);
}

#[test]
fn numbers_are_never_rounded_up_to_a_threshold() {
    assert_eq!(Number(79.996).to_string(), "79.99");
    assert_eq!(Number(80.0).to_string(), "80");
}

#[test]
fn a_measurement_that_is_no_number_is_not_proven() {
    let policy = only(gate(Metric::LineCoveragePercent, Operator::AtLeast, 80.0));
    let result = &judge(
        &policy,
        &measured(Metric::LineCoveragePercent, f64::NAN),
        today(),
    )[0];
    assert_eq!(result.verdict, Verdict::NotProven);
}
