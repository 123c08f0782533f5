//! How one revision follows another. Strategies only say in which order instances start, traffic
//! shifts and instances stop; what a failure leads to is the same for all and decided elsewhere.

mod bake;
mod blue_green;
mod canary;
pub mod change;
mod recreate;
mod rolling;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::change::{Change, Failure, FailureKind};

/// How one revision follows another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Instance by instance: never fewer than before, never more than one too many.
    Rolling,
    /// All new beside all old, then one switch, with the old ones kept until the new ones proved
    /// themselves.
    BlueGreen,
    /// Growing shares of the traffic, each watched and compared with the old revision.
    Canary {
        /// The shares, in order.
        steps: Vec<CanaryStep>,
    },
    /// Old one down, then new one up: for apps that cannot run twice. Nothing answers meanwhile.
    Recreate,
}

/// One share of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryStep {
    /// Share of the new revision, 1 to 100.
    pub weight_percent: u32,
    /// How long it is watched.
    pub bake: Duration,
}

/// What a canary does unless it is told otherwise (contract).
pub const DEFAULT_CANARY_STEPS: [CanaryStep; 3] = [
    CanaryStep {
        weight_percent: 10,
        bake: Duration::from_secs(5),
    },
    CanaryStep {
        weight_percent: 50,
        bake: Duration::from_secs(5),
    },
    CanaryStep {
        weight_percent: 100,
        bake: Duration::from_secs(5),
    },
];

impl Strategy {
    /// Its name in the contract and in project files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::BlueGreen => "blue_green",
            Self::Canary { .. } => "canary",
            Self::Recreate => "recreate",
        }
    }

    /// Whether two revisions run beside each other at any time.
    pub fn overlaps(&self) -> bool {
        !matches!(self, Self::Recreate)
    }

    /// Brings the new revision into the traffic and watches it there. When this returns without an
    /// error, the new revision has proved itself; what is left of the old one may be retired.
    pub async fn carry_out(&self, change: &mut Change<'_>) -> Result<(), Failure> {
        match self {
            Self::Rolling => rolling::carry_out(change).await,
            Self::BlueGreen => blue_green::carry_out(change).await,
            Self::Canary { steps } => canary::carry_out(change, steps).await,
            Self::Recreate => recreate::carry_out(change).await,
        }
    }
}
