//! Short forms, wrong names, wrong values.

use serde_json::json;

use super::*;

fn pipeline(value: Value) -> Result<Value, String> {
    let descriptor = contracts::json::pool()
        .unwrap()
        .get_message_by_name("agentic.orchestrator.v1.Pipeline")
        .unwrap();
    message(&descriptor, value, "").map_err(|misfit| misfit.to_string())
}

#[test]
fn short_forms_become_the_protobuf_mapping() {
    let fit = pipeline(json!({"name": "x", "stages": [{
        "name": "merge",
        "needs": ["validation", {"stage": "e2e", "condition": "completed"}],
        "timeout": "5m",
        "weight": "3",
        "task": {"integration": {"merge": {"strategy": "fast-forward", "runChecks": "no"}}},
    }]}))
    .unwrap();
    let stage = &fit["stages"][0];
    assert_eq!(stage["needs"][0], json!({"stage": "validation"}));
    assert_eq!(
        stage["needs"][1]["condition"],
        json!("NEED_CONDITION_COMPLETED")
    );
    assert_eq!(stage["timeout"], json!("300.000000000s"));
    let merge = &stage["task"]["integration"]["merge"];
    assert_eq!(merge["strategy"], json!("MERGE_STRATEGY_FAST_FORWARD"));
    assert_eq!(merge["run_checks"], json!(false));
    let read: contracts::orchestrator::Pipeline = contracts::json::from_value(fit).unwrap();
    assert_eq!(read.stages[0].weight, 3);
}

#[test]
fn a_wrong_name_is_refused_with_its_place_and_the_nearest() {
    let error = pipeline(json!({"stages": [{"name": "a", "tiemout": "5m"}]})).unwrap_err();
    assert_eq!(
        error,
        "stages[0]: there is no \"tiemout\"; did you mean \"timeout\"?"
    );
    let error = pipeline(json!({"stages": [{"needs": [{"stage": "a", "condition": "suceeded"}]}]}))
        .unwrap_err();
    assert!(
        error.starts_with("stages[0].needs[0].condition: "),
        "{error}"
    );
    assert!(error.contains("did you mean \"succeeded\"?"), "{error}");
}

#[test]
fn values_of_the_wrong_sort_are_refused() {
    for bad in [
        json!({"stages": [{"timeout": 5}]}),
        json!({"stages": [{"timeout": "-5s"}]}),
        json!({"stages": [{"weight": "many"}]}),
        json!({"stages": [{"weight": 1.5}]}),
        json!({"stages": [{"needs": [7]}]}),
        json!({"stages": "merge"}),
        json!({"stages": [{"optional": "perhaps"}]}),
        json!({"stages": [{"decision": "unspecified"}]}),
        json!({"name": ["x"]}),
        json!([1]),
        json!({"pipeline_id": "a", "pipelineId": "b"}),
    ] {
        assert!(pipeline(bad.clone()).is_err(), "{bad}");
    }
}
