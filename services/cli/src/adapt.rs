//! Turns what people write into the protobuf JSON of a message, by reflection: short names of enum
//! values, `5m` for durations, and the nearest field for a wrong one. Knows no message by name.

use contracts::parse::nearest;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

const DURATION: &str = "google.protobuf.Duration";
// Deeper than any message of the contract.
const DEPTH: usize = 32;

/// Why what was written does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if .place.is_empty() { String::new() } else { format!("{}: ", .place) })]
pub struct Misfit {
    /// Where, such as `stages[2].needs`.
    pub place: String,
    /// What is wrong, and what would do.
    pub problem: String,
}

impl Misfit {
    /// What is wrong at a place.
    pub fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            problem: problem.into(),
        }
    }
}

/// The field that a name means, in either spelling.
pub fn field(
    message: &MessageDescriptor,
    name: &str,
    place: &str,
) -> Result<FieldDescriptor, Misfit> {
    if let Some(field) = message
        .get_field_by_name(name)
        .or_else(|| message.get_field_by_json_name(name))
    {
        return Ok(field);
    }
    let names: Vec<String> = message.fields().map(|f| f.name().to_owned()).collect();
    Err(Misfit::new(
        place,
        format!("there is no {name:?}{}", suggestion(name, &names)),
    ))
}

/// The nearest known name, or all of them.
pub fn suggestion(wrong: &str, known: &[String]) -> String {
    match nearest(wrong, known.iter().map(String::as_str)) {
        Some(name) => format!("; did you mean {name:?}?"),
        None if known.is_empty() => String::new(),
        None => format!("; there are {}", known.join(", ")),
    }
}

/// A message.
pub fn message(message: &MessageDescriptor, value: Value, place: &str) -> Result<Value, Misfit> {
    message_at(message, value, place, 0)
}

fn message_at(
    message: &MessageDescriptor,
    value: Value,
    place: &str,
    depth: usize,
) -> Result<Value, Misfit> {
    if depth > DEPTH {
        return Err(Misfit::new(place, "nested too deep"));
    }
    if message.full_name() == DURATION {
        return duration(value, place);
    }
    if message.full_name().starts_with("google.protobuf.") {
        return Ok(value);
    }
    let object = match value {
        Value::Object(object) => object,
        // A need and its like, which are a name and a nuance: the name alone will do.
        Value::String(text)
            if message.fields().len() <= 2
                && message.fields().next().is_some_and(|f| is_text(&f)) =>
        {
            let first = message.fields().next().map(|f| f.name().to_owned());
            first
                .map(|name| Map::from_iter([(name, Value::String(text))]))
                .unwrap_or_default()
        }
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)) => {
            return Err(Misfit::new(
                place,
                format!("{} is not a set of fields", sort(&other)),
            ));
        }
    };
    let mut fit = Map::new();
    for (name, value) in object {
        let field = field(message, &name, place)?;
        let inner = join(place, field.name());
        if value.is_null() {
            continue;
        }
        let value = any(&field, value, &inner, depth + 1)?;
        if fit.insert(field.name().to_owned(), value).is_some() {
            return Err(Misfit::new(inner, "is given twice"));
        }
    }
    Ok(Value::Object(fit))
}

fn any(field: &FieldDescriptor, value: Value, place: &str, depth: usize) -> Result<Value, Misfit> {
    if field.is_map() {
        let Value::Object(object) = value else {
            return Err(Misfit::new(place, format!("{} is not a map", sort(&value))));
        };
        let Kind::Message(entry) = field.kind() else {
            return Err(Misfit::new(place, "is not a map"));
        };
        let values = entry.map_entry_value_field();
        return object
            .into_iter()
            .map(|(key, value)| {
                let fit = one(&values, value, &join(place, &key), depth)?;
                Ok((key, fit))
            })
            .collect::<Result<Map<_, _>, _>>()
            .map(Value::Object);
    }
    if field.is_list() {
        let items = match value {
            Value::Array(items) => items,
            single @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_)) => vec![single],
        };
        return items
            .into_iter()
            .enumerate()
            .map(|(index, item)| one(field, item, &format!("{place}[{index}]"), depth))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array);
    }
    one(field, value, place, depth)
}

fn one(field: &FieldDescriptor, value: Value, place: &str, depth: usize) -> Result<Value, Misfit> {
    match (field.kind(), value) {
        (Kind::Message(message), value) => message_at(&message, value, place, depth),
        (Kind::Enum(values), value) => enum_value(&values, value, place),
        (Kind::String | Kind::Bytes, value @ Value::String(_)) => Ok(value),
        // What looks like a number or a truth value is meant as text where text is wanted.
        (Kind::String, value @ (Value::Number(_) | Value::Bool(_))) => {
            Ok(Value::String(value.to_string()))
        }
        (Kind::Bool, Value::String(text)) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Ok(Value::Bool(true)),
            "false" | "no" | "off" => Ok(Value::Bool(false)),
            _ => Err(Misfit::new(
                place,
                format!("{text:?} is neither true nor false"),
            )),
        },
        (Kind::Bool, Value::Bool(value)) => Ok(Value::Bool(value)),
        (Kind::Double | Kind::Float, value @ (Value::Number(_) | Value::String(_))) => {
            let number = number(&value).filter(|n| n.is_finite());
            number
                .and_then(serde_json::Number::from_f64)
                .map(Value::Number)
                .ok_or_else(|| Misfit::new(place, format!("{} is not a number", sort(&value))))
        }
        (
            Kind::Int32
            | Kind::Int64
            | Kind::Sint32
            | Kind::Sint64
            | Kind::Sfixed32
            | Kind::Sfixed64
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Fixed32
            | Kind::Fixed64,
            value @ (Value::Number(_) | Value::String(_)),
        ) => integer(&value)
            .map(|number| Value::String(number.to_string()))
            .ok_or_else(|| Misfit::new(place, format!("{} is not a whole number", sort(&value)))),
        (_, value) => Err(Misfit::new(
            place,
            format!("{} does not fit here", sort(&value)),
        )),
    }
}

fn enum_value(values: &EnumDescriptor, value: Value, place: &str) -> Result<Value, Misfit> {
    let Value::String(text) = value else {
        return Err(Misfit::new(
            place,
            format!("{} is not a name", sort(&value)),
        ));
    };
    let wanted = text.to_ascii_uppercase().replace(['-', ' '], "_");
    let prefix = prefix(values);
    let short: Vec<String> = values
        .values()
        .filter(|value| value.number() != 0)
        .map(|value| value.name().trim_start_matches(&prefix).to_lowercase())
        .collect();
    for name in [wanted.clone(), format!("{prefix}{wanted}")] {
        if values
            .get_value_by_name(&name)
            .is_some_and(|v| v.number() != 0)
        {
            return Ok(Value::String(name));
        }
    }
    Err(Misfit::new(
        place,
        format!(
            "{text:?} is none of {}{}",
            short.join(", "),
            match nearest(&text.to_lowercase(), short.iter().map(String::as_str)) {
                Some(name) => format!("; did you mean {name:?}?"),
                None => String::new(),
            }
        ),
    ))
}

// `MERGE_STRATEGY_` of `MergeStrategy`: what all its values begin with.
fn prefix(values: &EnumDescriptor) -> String {
    values
        .values()
        .find(|value| value.number() == 0)
        .and_then(|value| value.name().strip_suffix("UNSPECIFIED").map(str::to_owned))
        .unwrap_or_default()
}

fn duration(value: Value, place: &str) -> Result<Value, Misfit> {
    let misfit = |text: &str| {
        Misfit::new(
            place,
            format!("{text} is not a time span such as 30s, 5m or 1h30m"),
        )
    };
    match value {
        Value::String(text) => {
            let span =
                humantime::parse_duration(&text).map_err(|_| misfit(&format!("{text:?}")))?;
            Ok(Value::String(format!(
                "{}.{:09}s",
                span.as_secs(),
                span.subsec_nanos()
            )))
        }
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_)) => Err(misfit(&other.to_string())),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from)),
        Value::String(text) => text.trim().replace('_', "").parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn is_text(field: &FieldDescriptor) -> bool {
    !field.is_list() && !field.is_map() && matches!(field.kind(), Kind::String)
}

fn sort(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a set of fields".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// A place and a name within it.
pub fn join(place: &str, name: &str) -> String {
    if place.is_empty() {
        name.to_owned()
    } else {
        format!("{place}.{name}")
    }
}

#[cfg(test)]
mod tests {
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
        let error =
            pipeline(json!({"stages": [{"needs": [{"stage": "a", "condition": "suceeded"}]}]}))
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
}
