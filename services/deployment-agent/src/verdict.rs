//! The three verdicts, as the ledger and the accounts keep them.

use serde::{Deserialize, Serialize};

/// Never two: what was not seen either way is no pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Seen to hold.
    Passed,
    /// Seen not to hold.
    Failed,
    /// Not seen either way.
    NotProven,
}
