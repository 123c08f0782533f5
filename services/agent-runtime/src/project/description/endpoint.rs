//! What is asked of the running app, and what it must answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::project::value::Period;

/// One thing to ask of the running app, and what it must answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "EndpointKeys", into = "EndpointKeys")]
pub struct Endpoint {
    /// HTTP method.
    pub method: String,
    /// Path, from `/`, with a query if there is one.
    pub path: String,
    /// What is sent along.
    pub send: Request,
    /// Status expected.
    pub status: u16,
    /// Headers expected, with their exact values.
    pub headers: BTreeMap<String, String>,
    /// Text that the body must contain.
    pub contains: Option<String>,
    /// What a JSON body must have, by JSON path (RFC 9535).
    pub json: BTreeMap<String, serde_json::Value>,
    /// Bound of the time to the whole answer.
    pub latency_below: Option<Period>,
}

/// What is sent along with a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Body, as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// One thing to ask of the running app, and what it must answer.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointKeys {
    /// HTTP method; GET if left out.
    #[serde(default = "default_method")]
    #[cfg_attr(test, schemars(extend("pattern" = "^[A-Z]{1,32}$")))]
    method: String,
    /// Path, from `/`, with a query if there is one.
    #[cfg_attr(test, schemars(extend("pattern" = "^/")))]
    path: String,
    /// What is sent along.
    #[serde(default, skip_serializing_if = "is_empty_request")]
    send: Request,
    /// Status expected; 200 if left out.
    #[serde(default = "default_status")]
    #[cfg_attr(test, schemars(range(min = 100, max = 599)))]
    status: u16,
    /// Headers expected, with their exact values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    /// Text that the body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contains: Option<String>,
    /// What a JSON body must have, by JSON path (RFC 9535), such as `$.items[0].name`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, schemars(extend("propertyNames" = {"pattern": "^\\$"})))]
    json: BTreeMap<String, serde_json::Value>,
    /// Bound of the time to the whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency_below: Option<Period>,
}

fn default_method() -> String {
    "GET".to_owned()
}

fn is_empty_request(request: &Request) -> bool {
    *request == Request::default()
}

impl TryFrom<EndpointKeys> for Endpoint {
    type Error = String;

    fn try_from(keys: EndpointKeys) -> Result<Self, String> {
        let method = &keys.method;
        if method.is_empty()
            || method.len() > 32
            || !method.bytes().all(|byte| byte.is_ascii_uppercase())
        {
            return Err(format!("{method:?} is not an HTTP method in capitals"));
        }
        check_path(&keys.path)?;
        check_status(keys.status)?;
        for (name, value) in keys.headers.iter().chain(&keys.send.headers) {
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            {
                return Err(format!("{name:?} is not the name of a header"));
            }
            if value.chars().any(char::is_control) {
                return Err(format!(
                    "the value of the header `{name}` contains a control character"
                ));
            }
        }
        for path in keys.json.keys() {
            serde_json_path::JsonPath::parse(path)
                .map_err(|error| format!("{path:?} is not a JSON path: {error}"))?;
        }
        Ok(Self {
            method: keys.method,
            path: keys.path,
            send: keys.send,
            status: keys.status,
            headers: keys.headers,
            contains: keys.contains,
            json: keys.json,
            latency_below: keys.latency_below,
        })
    }
}

impl From<Endpoint> for EndpointKeys {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            method: endpoint.method,
            path: endpoint.path,
            send: endpoint.send,
            status: endpoint.status,
            headers: endpoint.headers,
            contains: endpoint.contains,
            json: endpoint.json,
            latency_below: endpoint.latency_below,
        }
    }
}

pub(super) fn default_status() -> u16 {
    200
}

pub(super) fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') || path.starts_with("//") || path.len() > 2048 {
        return Err(format!("{path:?} is not a path from `/`"));
    }
    if path
        .chars()
        .any(|character| character.is_control() || character == ' ')
    {
        return Err(format!("{path:?} contains a space or a control character"));
    }
    Ok(())
}

pub(super) fn check_status(status: u16) -> Result<(), String> {
    if (100..=599).contains(&status) {
        Ok(())
    } else {
        Err(format!("{status} is not an HTTP status"))
    }
}
