//! Why a verb did not do what was asked, in words for the person who typed it, and the exit code
//! that goes with it. Knows no verb.

use std::path::PathBuf;

use contracts::client::is_broken;
use tonic::{Code, Status};

use crate::exit::Exit;

/// What somebody does about it.
const NO_CREDENTIAL: &str = "Show a token that is good with --token-file FILE (AGENTIC_TOKEN_FILE). An administrator makes one: \
     `agentic token create NAME --role ROLE --output FILE`.";

/// Why a verb did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// A variable or a file that configures the command is wrong.
    #[error("{0}")]
    Configuration(String),
    /// No mesh answers.
    #[error("{problem}\n{advice}")]
    Unreachable {
        /// What was tried, and what came of it.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// The mesh does not know who calls, or no longer.
    #[error("{0}\n{NO_CREDENTIAL}")]
    Unauthenticated(contracts::error::Error),
    /// The mesh said no, in the shape of the contract.
    #[error("{0}")]
    Refused(contracts::error::Error),
    /// Something between us and the mesh, or a foreign server, said no.
    #[error("the server at {address} answered {code:?}: {message}")]
    Foreign {
        /// Where.
        address: String,
        /// Its code.
        code: Code,
        /// Its message.
        message: String,
    },
    /// The answer contradicts the contract.
    #[error("the server's answer makes no sense: {0}")]
    Answer(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// A file or folder.
    #[error("{doing} {}: {source}", .path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Writing to standard output failed; a reader that left is no news to anybody.
    #[error("cannot write: {0}")]
    Output(#[source] std::io::Error),
    /// The process lacks something from the operating system.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Cause.
        source: std::io::Error,
    },
    /// A message does not go with its JSON.
    #[error(transparent)]
    Json(#[from] contracts::json::JsonError),
    /// The person pressed Ctrl-C.
    #[error("{0}")]
    Interrupted(String),
    /// It did not work out, and the sentence says why.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// Exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Configuration(_) => Exit::Configuration,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Refused(error) if error.code() == Code::InvalidArgument => Exit::Usage,
            Self::Refused(error) if error.code() == Code::Unavailable => Exit::Unreachable,
            Self::Unauthenticated(_)
            | Self::Refused(_)
            | Self::Foreign { .. }
            | Self::Answer(_)
            | Self::NotFound(_)
            | Self::File { .. }
            | Self::Output(_)
            | Self::System { .. }
            | Self::Json(_)
            | Self::Failed(_) => Exit::Failed,
            Self::Interrupted(_) => Exit::Interrupted,
        }
    }

    /// Nobody reads any more, so there is nobody to tell.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// What a status means. `advice` says what to do when nobody answered.
    pub fn from_status(status: &Status, address: &str, advice: &str) -> Self {
        if let Some(error) = contracts::error::Error::from_status(status) {
            if error.code() == Code::Unauthenticated {
                return Self::Unauthenticated(error);
            }
            return Self::Refused(error);
        }
        if is_broken(status) {
            return Self::Unreachable {
                problem: format!("no mesh answers at {address}: {}", innermost(status)),
                advice: advice.to_owned(),
            };
        }
        Self::Foreign {
            address: address.to_owned(),
            code: status.code(),
            message: status.message().to_owned(),
        }
    }

    /// Whether the mesh has no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
            || matches!(self, Self::Refused(error) if error.code() == Code::NotFound)
    }
}

fn innermost(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if std::error::Error::source(status).is_none() {
        return status.message().to_owned();
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use contracts::error_reason::ErrorReason;

    use super::*;

    #[test]
    fn codes_of_the_server_become_exit_codes() {
        for (reason, expected) in [
            (ErrorReason::InvalidField, Exit::Usage),
            (ErrorReason::WorkflowNotFound, Exit::Failed),
            (ErrorReason::DatabaseUnavailable, Exit::Unreachable),
            (ErrorReason::Draining, Exit::Unreachable),
            (ErrorReason::WorkflowState, Exit::Failed),
        ] {
            let status = contracts::error::Error::new(reason, "x").into();
            let error = Error::from_status(&status, "http://h", "do");
            assert_eq!(error.exit(), expected, "{reason:?}");
        }
    }

    #[test]
    fn a_foreign_refusal_is_told_as_such() {
        let error = Error::from_status(&Status::unimplemented("no"), "http://h", "do");
        assert_eq!(error.exit(), Exit::Failed);
        assert!(error.to_string().contains("http://h"), "{error}");
        let gone = Error::from_status(&Status::unavailable("connection refused"), "http://h", "do");
        assert_eq!(gone.exit(), Exit::Unreachable);
        assert!(gone.to_string().ends_with("do"), "{gone}");
    }
}
