//! Environments of a project: where its app is deployed, and how one revision follows another.

use serde::{Deserialize, Serialize};

use crate::project::value::{Memory, Period};

/// Where and how the app is deployed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "EnvironmentKeys", into = "EnvironmentKeys")]
pub struct Environment {
    /// Where to.
    pub target: Option<TargetKind>,
    /// How one revision follows another.
    pub strategy: Option<Strategy>,
    /// Shares of the traffic that a canary gets, in percent, growing.
    pub steps: Vec<u8>,
    /// How long each step is watched.
    pub bake: Option<Period>,
    /// How long requests to the old revision may go on.
    pub drain: Option<Period>,
    /// Memory of one instance.
    pub memory_limit: Option<Memory>,
    /// How health is probed.
    pub probe: Option<ProbeSettings>,
    /// The change moves data in a way that the revision before cannot live with.
    pub irreversible_migration: bool,
}

/// Where a deployment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// Processes of the agent's own machine.
    Process,
    /// Containers of a Docker engine.
    Docker,
    /// Amazon ECS.
    Ecs,
}

/// How one revision follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Instance by instance.
    Rolling,
    /// All new beside all old, then one switch.
    BlueGreen,
    /// Growing shares of the traffic.
    Canary,
    /// Old one down, then new one up.
    Recreate,
}

impl TargetKind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
            Self::Ecs => "ecs",
        }
    }
}

impl Strategy {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::BlueGreen => "blue_green",
            Self::Canary => "canary",
            Self::Recreate => "recreate",
        }
    }
}

/// How health is probed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProbeSettings {
    /// Time between two probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Period>,
    /// Limit of one probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Successes in a row that make it healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(range(min = 1, max = 100)))]
    pub successes: Option<u32>,
    /// Failures in a row that make it unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(range(min = 1, max = 100)))]
    pub failures: Option<u32>,
    /// Bound of a probe's latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_below: Option<Period>,
}

/// Where and how the app is deployed.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvironmentKeys {
    /// Where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<TargetKind>,
    /// How one revision follows another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    strategy: Option<Strategy>,
    /// Shares of the traffic that a canary gets, in percent, growing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(inner(range(min = 1, max = 100))))]
    steps: Vec<u8>,
    /// How long each step is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bake: Option<Period>,
    /// How long requests to the old revision may go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drain: Option<Period>,
    /// Memory of one instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_limit: Option<Memory>,
    /// How health is probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    probe: Option<ProbeSettings>,
    /// The change moves data in a way that the revision before cannot live with: nothing is rolled back
    /// without a person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    irreversible_migration: bool,
}

impl TryFrom<EnvironmentKeys> for Environment {
    type Error = String;

    fn try_from(keys: EnvironmentKeys) -> Result<Self, String> {
        if !keys.steps.is_empty() && keys.strategy != Some(Strategy::Canary) {
            return Err("`steps` belongs to `strategy: canary`".into());
        }
        if keys.steps.iter().any(|step| !(1..=100).contains(step))
            || !keys.steps.is_sorted_by(|a, b| a < b)
        {
            return Err(
                "`steps` are percentages from 1 to 100, each larger than the one before".into(),
            );
        }
        if let Some(probe) = &keys.probe
            && [probe.successes, probe.failures]
                .iter()
                .flatten()
                .any(|count| !(1..=100).contains(count))
        {
            return Err("`successes` and `failures` are from 1 to 100".into());
        }
        Ok(Self {
            target: keys.target,
            strategy: keys.strategy,
            steps: keys.steps,
            bake: keys.bake,
            drain: keys.drain,
            memory_limit: keys.memory_limit,
            probe: keys.probe,
            irreversible_migration: keys.irreversible_migration,
        })
    }
}

impl From<Environment> for EnvironmentKeys {
    fn from(environment: Environment) -> Self {
        Self {
            target: environment.target,
            strategy: environment.strategy,
            steps: environment.steps,
            bake: environment.bake,
            drain: environment.drain,
            memory_limit: environment.memory_limit,
            probe: environment.probe,
            irreversible_migration: environment.irreversible_migration,
        }
    }
}
