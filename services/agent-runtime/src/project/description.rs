//! `.agentic/project.yaml`: how a project describes itself, exactly as it is written. What it leaves out
//! is somebody else's to detect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    parse::{DescriptionError, parse},
    value::{Argv, ConfinedPath, Name, Period, Variable},
};

mod app;
mod endpoint;
mod environment;
mod ready;
mod suite;

pub use self::{
    app::{App, Start, StartBy},
    endpoint::{Endpoint, Request},
    environment::{Environment, ProbeSettings, Strategy, TargetKind},
    ready::{HttpReady, Ready, ReadyBy, log_pattern},
    suite::{Browser, E2e, Suite, SuiteBy},
};

/// Where the description is, relative to the root of the repository.
pub const DESCRIPTION_FILE: &str = ".agentic/project.yaml";

/// How a project describes itself to the agents.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Version of this format: 1.
    pub version: FormatVersion,
    /// The app, if the project is one: how it starts, when it is ready and what it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<App>,
    /// Installs what the project depends on; the one step that may use the network by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<Dependencies>,
    /// Checks by name: they add to what detection finds, or replace it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<Name, Check>,
    /// What is tested against the running app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e: Option<E2e>,
    /// Environments by name: where and how the app is deployed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<Name, Environment>,
}

impl Description {
    /// Parses the content of [`DESCRIPTION_FILE`].
    pub fn parse(content: &[u8]) -> Result<Self, DescriptionError> {
        parse(DESCRIPTION_FILE, content)
    }
}

/// The version of the format. There is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "u32", into = "u32")]
#[cfg_attr(test, schemars(extend("const" = 1)))]
pub struct FormatVersion;

impl TryFrom<u32> for FormatVersion {
    type Error = String;

    fn try_from(version: u32) -> Result<Self, String> {
        match version {
            1 => Ok(Self),
            other => Err(format!(
                "version {other} is not known here; this is version 1"
            )),
        }
    }
}

impl From<FormatVersion> for u32 {
    fn from(FormatVersion: FormatVersion) -> Self {
        1
    }
}

/// Installs what the project depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Dependencies {
    /// Program and arguments.
    pub command: Argv,
    /// Folder to run it in; the root of the repository if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<ConfinedPath>,
    /// Limit; the agent's own if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Whether it may use the network; yes if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<bool>,
}

/// One check of the source: `build`, `types`, `lint`, `format`, `tests`, or any other name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Program and arguments.
    pub command: Argv,
    /// Folder to run it in; the root of the repository if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<ConfinedPath>,
    /// Variables that it is run with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<Variable, String>,
    /// Limit; 300 s if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Whether it needs the network; no if left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub network: bool,
    /// Where it leaves its test report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// Where it leaves its coverage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
}

/// A test report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// JUnit XML file that the command writes.
    pub junit: ConfinedPath,
}

/// A coverage report, in one of two formats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// LCOV tracefile that the command writes.
    Lcov(ConfinedPath),
    /// Cobertura XML file that the command writes.
    Cobertura(ConfinedPath),
}
