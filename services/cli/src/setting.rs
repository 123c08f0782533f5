//! `--set stage.name=value`: sets a field of the typed task of a stage, found by reflection. Knows
//! no task by name.

use std::collections::BTreeMap;

use contracts::orchestrator::{Pipeline, StageTask};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use crate::adapt::{self, Misfit};
use crate::error::Error;

/// One `--set`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    path: Vec<String>,
    value: String,
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, value) = text
            .split_once('=')
            .ok_or("is not of the form stage.name=value")?;
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        if path.len() < 2 || path.iter().any(String::is_empty) {
            return Err("is not of the form stage.name=value".to_owned());
        }
        Ok(Self {
            path,
            value: value.to_owned(),
        })
    }
}

impl Setting {
    /// A setting of a stage.
    pub fn new(stage: &str, name: &str, value: &str) -> Self {
        Self {
            path: [stage, name].map(str::to_owned).to_vec(),
            value: value.to_owned(),
        }
    }
}

/// The parameters that the settings mean for the stages of a pipeline.
pub fn parameters(
    settings: &[Setting],
    pipeline: &Pipeline,
) -> Result<std::collections::HashMap<String, StageTask>, Error> {
    let mut by_stage: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for setting in settings {
        let shown = format!("--set {}={}", setting.path.join("."), setting.value);
        place(setting, pipeline, &mut by_stage)
            .map_err(|misfit| Error::Usage(format!("{shown}: {misfit}")))?;
    }
    by_stage
        .into_iter()
        .map(|(stage, task)| {
            let task = contracts::json::from_value(Value::Object(task))
                .map_err(|error| Error::Usage(format!("--set {stage}: {error}")))?;
            Ok((stage.to_owned(), task))
        })
        .collect()
}

fn place<'a>(
    setting: &'a Setting,
    pipeline: &Pipeline,
    by_stage: &mut BTreeMap<&'a str, Map<String, Value>>,
) -> Result<(), Misfit> {
    let (stage, path) = setting
        .path
        .split_first()
        .ok_or_else(|| Misfit::new("", "names no stage"))?;
    let definition = pipeline
        .stages
        .iter()
        .find(|definition| definition.name == *stage)
        .ok_or_else(|| {
            let names: Vec<_> = pipeline.stages.iter().map(|s| s.name.clone()).collect();
            Misfit::new(
                "",
                format!(
                    "there is no stage {stage:?}{}",
                    adapt::suggestion(stage, &names)
                ),
            )
        })?;
    let given = definition.task.clone().unwrap_or_default();
    let set = contracts::json::to_value(&given).map_err(|e| Misfit::new("", e.to_string()))?;
    let kind = contracts::agent::type_name(given.agent_type());
    let outer = contracts::json::pool()
        .ok()
        .and_then(|pool| pool.get_message_by_name("agentic.orchestrator.v1.StageTask"))
        .ok_or_else(|| Misfit::new("", "the contract has no stages"))?;
    let field = adapt::field(&outer, kind, "")?;
    let Kind::Message(task) = field.kind() else {
        return Err(Misfit::new("", "the stage has no task"));
    };
    let root = by_stage.entry(stage.as_str()).or_default();
    let root = object(root, kind)?;
    put(&task, set.get(kind), path, &setting.value, root)
}

// Walks down the names and puts the value at the end. `set` is what the pipeline has there.
fn put(
    message: &MessageDescriptor,
    set: Option<&Value>,
    path: &[String],
    value: &str,
    into: &mut Map<String, Value>,
) -> Result<(), Misfit> {
    let Some((name, rest)) = path.split_first() else {
        return Err(Misfit::new("", "names no field"));
    };
    let field = match adapt::field(message, name, "") {
        Ok(field) => field,
        // `deployment.strategy` means `deployment.deploy.strategy` where the pipeline deploys.
        Err(misfit) => {
            let (inner, inner_set) = chosen(message, set).ok_or(misfit.clone())?;
            let Kind::Message(inner_message) = inner.kind() else {
                return Err(misfit);
            };
            if adapt::field(&inner_message, name, "").is_err() {
                return Err(none_of(name, &[message, &inner_message]));
            }
            let into = object(into, inner.name())?;
            return put(&inner_message, Some(inner_set), path, value, into);
        }
    };
    if rest.is_empty() {
        return put_value(&field, value, into);
    }
    let Kind::Message(inner) = field.kind() else {
        return Err(Misfit::new(
            "",
            format!("{name:?} has no fields of its own"),
        ));
    };
    if field.is_map() {
        let key = rest.join(".");
        let fit = adapt::message(
            message,
            Value::Object(Map::from_iter([(
                field.name().to_owned(),
                Value::Object(Map::from_iter([(
                    key.clone(),
                    Value::String(value.to_owned()),
                )])),
            )])),
            "",
        )?;
        let into = object(into, field.name())?;
        if let Some(fit) = fit.get(field.name()).and_then(|map| map.get(&key)) {
            into.insert(key, fit.clone());
        }
        return Ok(());
    }
    if field.is_list() {
        return Err(Misfit::new(
            "",
            format!("{name:?} is a list: give all of it, as JSON or with commas"),
        ));
    }
    let into = object(into, field.name())?;
    put(
        &inner,
        set.and_then(|set| child(set, &field)),
        rest,
        value,
        into,
    )
}

fn put_value(
    field: &FieldDescriptor,
    value: &str,
    into: &mut Map<String, Value>,
) -> Result<(), Misfit> {
    let is_structure =
        matches!(field.kind(), Kind::Message(m) if !m.full_name().starts_with("google.protobuf."));
    let json = if value.starts_with(['[', '{']) {
        serde_json::from_str(value).map_err(|e| Misfit::new("", format!("is not JSON: {e}")))?
    } else if field.is_map() || (is_structure && !field.is_list()) {
        return Err(Misfit::new(
            "",
            format!(
                "{:?} has fields of its own: set one of them, or give JSON",
                field.name()
            ),
        ));
    } else if field.is_list() {
        value
            .split(',')
            .filter(|item| !item.is_empty())
            .map(|item| Value::String(item.trim().to_owned()))
            .collect()
    } else {
        Value::String(value.to_owned())
    };
    let fit = adapt::message(
        field.parent_message(),
        Value::Object(Map::from_iter([(field.name().to_owned(), json)])),
        "",
    )?;
    let Some(fit) = fit.get(field.name()).cloned() else {
        return Err(Misfit::new("", "has no value"));
    };
    if !field.supports_presence() && is_default(&fit) {
        return Err(Misfit::new(
            "",
            format!("{value:?} is what is there when nothing is set; leave it out"),
        ));
    }
    match (into.get_mut(field.name()), fit) {
        (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
        (_, fit) => {
            into.insert(field.name().to_owned(), fit);
        }
    }
    Ok(())
}

// What protobuf cannot tell from a field that was left out.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty() || text == "0",
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

// The one message field that the pipeline has set in a choice of actions.
fn chosen<'a>(
    message: &MessageDescriptor,
    set: Option<&'a Value>,
) -> Option<(FieldDescriptor, &'a Value)> {
    let set = set?;
    message
        .oneofs()
        .filter(|oneof| !oneof.is_synthetic())
        .flat_map(|oneof| oneof.fields().collect::<Vec<_>>())
        .find_map(|field| child(set, &field).map(|value| (field, value)))
}

fn child<'a>(set: &'a Value, field: &FieldDescriptor) -> Option<&'a Value> {
    set.get(field.json_name()).or_else(|| set.get(field.name()))
}

fn none_of(name: &str, messages: &[&MessageDescriptor]) -> Misfit {
    let names: Vec<String> = messages
        .iter()
        .flat_map(|message| message.fields().collect::<Vec<_>>())
        .map(|field| field.name().to_owned())
        .collect();
    Misfit::new(
        "",
        format!("there is no {name:?}{}", adapt::suggestion(name, &names)),
    )
}

fn object<'a>(
    into: &'a mut Map<String, Value>,
    name: &str,
) -> Result<&'a mut Map<String, Value>, Misfit> {
    into.entry(name)
        .or_insert_with(|| Value::Object(Map::new()))
        .as_object_mut()
        .ok_or_else(|| Misfit::new("", format!("{name:?} is set as a whole already")))
}

#[cfg(test)]
mod tests;
