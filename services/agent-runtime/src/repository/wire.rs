//! Repository errors as callers of an agent are told them. Exhaustive, so that a new error needs an answer.

use std::time::Duration;

use contracts::{error::Error as WireError, error_reason::ErrorReason};

use super::{Error, Rejection};

/// When an unreachable repository is worth another try.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl From<Error> for WireError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::InvalidUrl { reason, .. } => {
                Self::invalid_field("context.repository.url", reason)
            }
            Error::InvalidPath { .. } => Self::invalid_field("path", message),
            Error::InvalidReference { .. } => {
                Self::invalid_field("context.repository.branch", message)
            }
            Error::Unrelated { .. } => {
                Self::invalid_field("context.repository.base_commit", message)
            }
            Error::RepositoryNotFound { .. }
            | Error::AuthenticationFailed { .. }
            | Error::NotTrusted { .. } => Self::new(ErrorReason::RepositoryNotFound, message),
            Error::RefNotFound { .. } | Error::NoDefaultBranch { .. } | Error::Ambiguous { .. } => {
                Self::new(ErrorReason::RefNotFound, message)
            }
            Error::Unreachable { .. }
            | Error::TimedOut { .. }
            | Error::Rejected {
                rejection: Rejection::Locked { .. },
                ..
            } => Self::new(ErrorReason::RepositoryUnreachable, message).retry_after(RETRY_AFTER),
            Error::Rejected { .. } => Self::new(ErrorReason::PushRejected, message),
            Error::TooLarge { .. } => Self::new(ErrorReason::CapabilityMissing, message),
            Error::Git { .. } | Error::Object { .. } | Error::Io { .. } => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(error = message, cause, "repository work broke");
                Self::new(ErrorReason::Infrastructure, message)
            }
            Error::Cancelled { .. } => Self::new(ErrorReason::Cancelled, message),
        }
    }
}
