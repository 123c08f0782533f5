//! Turns what people write into the protobuf JSON of a message, by reflection: short names of enum
//! values, `5m` for durations, and the nearest field for a wrong one. Knows no message by name.

mod scalar;

use contracts::parse::nearest;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use scalar::{duration, enum_value, integer, number, sort};

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

fn is_text(field: &FieldDescriptor) -> bool {
    !field.is_list() && !field.is_map() && matches!(field.kind(), Kind::String)
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
mod tests;
