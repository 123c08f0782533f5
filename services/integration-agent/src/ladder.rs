//! What a merge must prove before anybody gets it. Each rung is one look at the merge; none of them trusts
//! that git called it clean.

use std::fmt;

pub mod form;
pub mod regions;

/// What came of a look: three verdicts, never two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Seen to hold.
    Passed,
    /// Seen not to hold.
    Failed,
    /// Not seen either way.
    NotProven,
}

/// Which look it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// No conflict markers; what parsed on both sides parses.
    Form,
    /// Nothing changed that no side changed.
    Regions,
    /// The checks of both sides pass.
    Checks,
    /// Each side's hunk is needed by one of its own tests.
    Hunks,
    /// The target moved, and only from where it was.
    Publish,
}

/// One rung of the ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Which look it was.
    pub name: Name,
    /// What came of it.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub reason: String,
}

impl Rung {
    /// A rung that holds.
    pub fn passed(name: Name, reason: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Passed,
            reason: reason.into(),
        }
    }

    /// A rung that does not hold.
    pub fn failed(name: Name, reason: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Failed,
            reason: reason.into(),
        }
    }

    /// A rung of which we do not know.
    pub fn not_proven(name: Name, reason: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::NotProven,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "markers",
            Self::Regions => "regions",
            Self::Checks => "checks",
            Self::Hunks => "hunks",
            Self::Publish => "publish",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "PASSED",
            Self::Failed => "FAILED",
            Self::NotProven => "NOT_PROVEN",
        })
    }
}
