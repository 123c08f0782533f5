//! The protobuf JSON mapping, by reflection over the compiled contract.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, SerializeOptions};

/// Why a message and its JSON do not go together.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The message is not part of the compiled contract.
    #[error("{0} is not part of the contract")]
    UnknownMessage(String),
    /// The JSON does not fit the message.
    #[error("{message}: {problem}")]
    Malformed {
        /// Message.
        message: String,
        /// What does not fit.
        problem: String,
    },
}

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(crate::DESCRIPTORS).ok());

/// The compiled contract.
///
/// # Errors
///
/// Never in a build whose build script succeeded.
pub fn pool() -> Result<&'static DescriptorPool, JsonError> {
    POOL.as_ref()
        .ok_or_else(|| JsonError::UnknownMessage("the contract".to_owned()))
}

pub(crate) fn dynamic<M: Name>() -> Result<DynamicMessage, JsonError> {
    let name = M::full_name();
    let descriptor = pool()?
        .get_message_by_name(&name)
        .ok_or(JsonError::UnknownMessage(name))?;
    Ok(DynamicMessage::new(descriptor))
}

/// A message as a JSON value.
pub fn to_value<M: Message + Name>(message: &M) -> Result<serde_json::Value, JsonError> {
    let malformed = |problem: String| JsonError::Malformed {
        message: M::full_name(),
        problem,
    };
    let mut dynamic = dynamic::<M>()?;
    dynamic
        .merge(message.encode_to_vec().as_slice())
        .map_err(|error| malformed(error.to_string()))?;
    dynamic
        .serialize_with_options(
            serde_json::value::Serializer,
            &SerializeOptions::new().skip_default_fields(true),
        )
        .map_err(|error| malformed(error.to_string()))
}

/// A message as one line of JSON.
pub fn to_line<M: Message + Name>(message: &M) -> Result<String, JsonError> {
    Ok(to_value(message)?.to_string())
}

/// A message from a JSON value. Unknown fields are refused.
pub fn from_value<M: Message + Name + Default>(value: serde_json::Value) -> Result<M, JsonError> {
    let malformed = |problem: String| JsonError::Malformed {
        message: M::full_name(),
        problem,
    };
    let descriptor = dynamic::<M>()?;
    let descriptor = prost_reflect::ReflectMessage::descriptor(&descriptor);
    let read = DynamicMessage::deserialize_with_options(
        descriptor,
        value,
        &DeserializeOptions::new().deny_unknown_fields(true),
    )
    .map_err(|error| malformed(error.to_string()))?;
    M::decode(read.encode_to_vec().as_slice()).map_err(|error| malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::orchestrator::{CreateWorkflowRequest, StageTask, WorkflowType, stage_task};
    use crate::scaffold::ScaffoldTask;

    #[test]
    fn a_message_round_trips_through_json() {
        let request = CreateWorkflowRequest {
            r#type: WorkflowType::App.into(),
            name: "shop".into(),
            parameters: [(
                "scaffold".to_owned(),
                StageTask {
                    task: Some(stage_task::Task::Scaffold(ScaffoldTask {
                        template: "python-http".into(),
                        ..ScaffoldTask::default()
                    })),
                },
            )]
            .into(),
            timeout: Some(prost_types::Duration {
                seconds: 90,
                nanos: 0,
            }),
            ..CreateWorkflowRequest::default()
        };
        let value = to_value(&request).unwrap();
        assert_eq!(value["type"], json!("WORKFLOW_TYPE_APP"));
        assert_eq!(value["timeout"], json!("90s"));
        assert_eq!(
            value["parameters"]["scaffold"]["scaffold"]["template"],
            json!("python-http")
        );
        assert_eq!(from_value::<CreateWorkflowRequest>(value).unwrap(), request);
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = from_value::<CreateWorkflowRequest>(json!({"nome": "shop"}))
            .unwrap_err()
            .to_string();
        assert!(error.contains("nome"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused() {
        assert!(from_value::<CreateWorkflowRequest>(json!({"name": 7})).is_err());
        assert!(
            from_value::<CreateWorkflowRequest>(json!({"type": "WORKFLOW_TYPE_HOAX"})).is_err()
        );
    }
}
