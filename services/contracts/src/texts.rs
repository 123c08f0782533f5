//! Changes every text of a message, however deep, by reflection over the compiled contract.

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MapKey, Value};

use crate::json::{self, JsonError};

/// What is to stand in the place of a text; `None`: it stays.
type Keep<'k> = dyn Fn(&str) -> Option<String> + 'k;

/// Replaces each text of a message. `None`: all stay as they are.
pub fn rewritten<M: Message + Name + Default>(
    message: &M,
    keep: &Keep<'_>,
) -> Result<Option<M>, JsonError> {
    let malformed = |problem: String| JsonError::Malformed {
        message: M::full_name(),
        problem,
    };
    let mut dynamic = json::dynamic::<M>()?;
    dynamic
        .merge(message.encode_to_vec().as_slice())
        .map_err(|error| malformed(error.to_string()))?;
    if !in_message(&mut dynamic, keep) {
        return Ok(None);
    }
    M::decode(dynamic.encode_to_vec().as_slice())
        .map(Some)
        .map_err(|error| malformed(error.to_string()))
}

// True: something was changed.
fn in_message(message: &mut DynamicMessage, keep: &Keep<'_>) -> bool {
    in_values(message.fields_mut().map(|(_, value)| value), keep)
}

fn in_values<'a>(values: impl Iterator<Item = &'a mut Value>, keep: &Keep<'_>) -> bool {
    let mut changed = false;
    for value in values {
        changed |= in_value(value, keep);
    }
    changed
}

fn in_value(value: &mut Value, keep: &Keep<'_>) -> bool {
    match value {
        Value::String(text) => match keep(text) {
            None => false,
            Some(kept) => {
                *text = kept;
                true
            }
        },
        Value::Message(message) => in_message(message, keep),
        Value::List(values) => in_values(values.iter_mut(), keep),
        Value::Map(values) => {
            let mut changed = false;
            let renamed: Vec<_> = values
                .keys()
                .filter_map(|key| match key {
                    MapKey::String(text) => Some((key.clone(), MapKey::String(keep(text)?))),
                    MapKey::Bool(_)
                    | MapKey::I32(_)
                    | MapKey::I64(_)
                    | MapKey::U32(_)
                    | MapKey::U64(_) => None,
                })
                .collect();
            for (old, new) in renamed {
                if let Some(value) = values.remove(&old) {
                    values.insert(new, value);
                    changed = true;
                }
            }
            in_values(values.values_mut(), keep) || changed
        }
        Value::Bool(_)
        | Value::I32(_)
        | Value::I64(_)
        | Value::U32(_)
        | Value::U64(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::Bytes(_)
        | Value::EnumNumber(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::CreateWorkflowRequest;

    #[test]
    fn texts_are_changed_however_deep_and_nothing_else() {
        let request: CreateWorkflowRequest = json::from_value(serde_json::json!({
            "type": "WORKFLOW_TYPE_APP",
            "name": "shop",
            "timeout": "90s",
            "labels": {"a": "hunter2 and hunter2", "hunter2": "b"},
            "parameters": {"scaffold": {"scaffold": {"template": "of hunter2"}}},
        }))
        .unwrap();
        let keep = |text: &str| {
            text.contains("hunter2")
                .then(|| text.replace("hunter2", "…"))
        };
        let kept = rewritten(&request, &keep).unwrap().unwrap();
        assert_eq!(
            json::to_value(&kept).unwrap(),
            serde_json::json!({
                "type": "WORKFLOW_TYPE_APP",
                "name": "shop",
                "timeout": "90s",
                "labels": {"a": "… and …", "…": "b"},
                "parameters": {"scaffold": {"scaffold": {"template": "of …"}}},
            })
        );
        assert!(rewritten(&kept, &keep).unwrap().is_none());
    }
}
