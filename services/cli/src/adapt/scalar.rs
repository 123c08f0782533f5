//! Single values as people write them.

use contracts::parse::nearest;
use prost_reflect::EnumDescriptor;
use serde_json::Value;

use super::Misfit;

/// A value of an enum, by its full or its short name.
pub fn enum_value(values: &EnumDescriptor, value: Value, place: &str) -> Result<Value, Misfit> {
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

/// A time span.
pub fn duration(value: Value, place: &str) -> Result<Value, Misfit> {
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

/// A number, also when it is written as text.
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A whole number, also when it is written as text.
pub fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from)),
        Value::String(text) => text.trim().replace('_', "").parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A value, named so that a person recognises it.
pub fn sort(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a set of fields".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}
