//! Typed ids. Ours are UUIDv7: unique without asking anybody, and sorted by time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new one, later than all before it.
            #[allow(clippy::new_without_default, reason = "a new id is never a default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(
    /// A workflow.
    WorkflowId
);
id!(
    /// A task: a stage handed to an agent, over all its attempts.
    TaskId
);
id!(
    /// One running instance of an agent type.
    InstanceId
);
id!(
    /// A decision.
    DecisionId
);
id!(
    /// A clarification.
    ClarificationId
);
id!(
    /// A stored artifact.
    ArtifactId
);
id!(
    /// A pipeline that somebody stored.
    PipelineId
);
id!(
    /// A bearer token.
    TokenId
);
