//! The app of a project and how it starts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Endpoint, Ready};
use crate::project::value::{Argv, ConfinedPath, Period, Variable};

/// The app that the project is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct App {
    /// How it starts. Left out: detected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// When it is ready. Left out: when its port accepts connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// How long it may take to stop after SIGTERM; 10 s if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_within: Option<Period>,
    /// What it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
}

/// How the app starts: exactly one of `command`, `image`, `compose`, `url`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "StartKeys", into = "StartKeys")]
pub struct Start {
    /// What is started.
    pub by: StartBy,
    /// Variable that tells the app its port.
    pub port_variable: Variable,
    /// Further variables.
    pub environment: BTreeMap<Variable, String>,
    /// Names of variables whose values come from the environment's secret store.
    pub secrets: Vec<Variable>,
}

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartBy {
    /// A program.
    Command(Argv),
    /// A container of an image.
    Image(String),
    /// The services of a Compose file.
    Compose(ConfinedPath),
    /// Nothing: it runs already, here.
    Url(String),
}

impl Start {
    /// Starts a program that is told its port in `PORT`.
    pub fn command(argv: Argv) -> Self {
        Self {
            by: StartBy::Command(argv),
            port_variable: default_port_variable(),
            environment: BTreeMap::new(),
            secrets: Vec::new(),
        }
    }
}

impl Start {
    /// Starts nothing: the app runs already.
    pub fn at(url: &str) -> Self {
        Self {
            by: StartBy::Url(url.to_owned()),
            port_variable: default_port_variable(),
            environment: BTreeMap::new(),
            secrets: Vec::new(),
        }
    }
}

/// How the app starts: exactly one of `command`, `image`, `compose`, `url`.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(extend("oneOf" = [{"required": ["command"]}, {"required": ["image"]}, {"required": ["compose"]}, {"required": ["url"]}])))]
pub(crate) struct StartKeys {
    /// Program and arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Argv>,
    /// Container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// Compose file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compose: Option<ConfinedPath>,
    /// Base URL of an app that runs already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Variable that tells the app its port; `PORT` if left out.
    #[serde(default = "default_port_variable")]
    port_variable: Variable,
    /// Further variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    environment: BTreeMap<Variable, String>,
    /// Names of variables whose values come from the environment's secret store, never from this file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Variable>,
}

fn default_port_variable() -> Variable {
    Variable::port()
}

impl TryFrom<StartKeys> for Start {
    type Error = String;

    fn try_from(keys: StartKeys) -> Result<Self, String> {
        let by = match (keys.command, keys.image, keys.compose, keys.url) {
            (Some(argv), None, None, None) => StartBy::Command(argv),
            (None, Some(image), None, None) => StartBy::Image(image_name(image)?),
            (None, None, Some(file), None) => StartBy::Compose(file),
            (None, None, None, Some(address)) => StartBy::Url(http_url(address)?),
            _ => {
                return Err(
                    "`start` has exactly one of `command`, `image`, `compose`, `url`".into(),
                );
            }
        };
        if let Some(both) = keys
            .secrets
            .iter()
            .find(|name| keys.environment.contains_key(*name))
        {
            return Err(format!("`{both}` is both a secret and a plain variable"));
        }
        if keys.environment.contains_key(&keys.port_variable) {
            return Err(format!(
                "`{}` is the port's variable and cannot be set",
                keys.port_variable
            ));
        }
        Ok(Self {
            by,
            port_variable: keys.port_variable,
            environment: keys.environment,
            secrets: keys.secrets,
        })
    }
}

impl From<Start> for StartKeys {
    fn from(start: Start) -> Self {
        let mut keys = Self {
            command: None,
            image: None,
            compose: None,
            url: None,
            port_variable: start.port_variable,
            environment: start.environment,
            secrets: start.secrets,
        };
        match start.by {
            StartBy::Command(argv) => keys.command = Some(argv),
            StartBy::Image(image) => keys.image = Some(image),
            StartBy::Compose(file) => keys.compose = Some(file),
            StartBy::Url(address) => keys.url = Some(address),
        }
        keys
    }
}

/// A name that no command line can take for an option.
fn image_name(image: String) -> Result<String, String> {
    let sound = image.starts_with(|first: char| first.is_ascii_alphanumeric())
        && image.len() <= 512
        && image
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte));
    if sound {
        Ok(image)
    } else {
        Err(format!("{image:?} is not the name of an image"))
    }
}

fn http_url(address: String) -> Result<String, String> {
    match url::Url::parse(&address) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => {
            Ok(address)
        }
        Ok(_) | Err(_) => Err(format!("{address:?} is not an http or https URL")),
    }
}
