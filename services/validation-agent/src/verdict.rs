//! The three verdicts and the one rule for combining them: the worse wins.
//! Knows nothing of checks, gates or reports, which all speak in verdicts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What was seen. Ordered from good to bad, so that `max` is the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Seen to hold.
    Passed,
    /// Not seen either way.
    NotProven,
    /// Seen not to hold.
    Failed,
}

impl Verdict {
    /// The worse of two.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        self.max(other)
    }

    /// As it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::NotProven => "NOT_PROVEN",
            Self::Failed => "FAILED",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A verdict with the sentence that says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What was seen.
    pub verdict: Verdict,
    /// Why, one sentence for people.
    pub reason: String,
}

impl Judgement {
    /// Seen to hold.
    pub fn passed(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Passed,
            reason: reason.into(),
        }
    }

    /// Not seen either way.
    pub fn not_proven(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::NotProven,
            reason: reason.into(),
        }
    }

    /// Seen not to hold.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Failed,
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn the_worse_verdict_wins() {
        assert_eq!(
            Verdict::Passed.worse(Verdict::NotProven),
            Verdict::NotProven
        );
        assert_eq!(Verdict::NotProven.worse(Verdict::Failed), Verdict::Failed);
        assert_eq!(Verdict::Failed.worse(Verdict::Passed), Verdict::Failed);
    }
}
