//! What came of a task, so that a repeated one is answered and not done again.

use serde::{Deserialize, Serialize};

use crate::{account::Account, verdict::Verdict};

/// A finished task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRecord {
    /// Idempotency key.
    pub key: String,
    /// The attempt that finished.
    pub attempt: u32,
    /// What came of it.
    pub account: Account,
}

impl TaskRecord {
    /// Whether this answers the given attempt. A later attempt after a failure is a wish to try
    /// again; after a success there is nothing left to do.
    pub fn answers(&self, attempt: u32) -> bool {
        self.account.verdict == Verdict::Passed || attempt <= self.attempt
    }
}
