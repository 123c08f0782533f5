//! Why a program could not be run. A program that ran and failed is no error here.

use std::{io, path::PathBuf};

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// No argument vector at all.
    #[error("nothing to run: the argument vector is empty")]
    EmptyArgv,
    /// The tool is not there: a missing tool is never a verdict about the project.
    #[error("`{program}` is not installed: it is neither a file nor in PATH")]
    ProgramNotFound {
        /// The program as it was named.
        program: String,
    },
    /// There is a file of that name, which cannot be run.
    #[error("`{program}` ({path}) is not an executable file")]
    NotExecutable {
        /// The program as it was named.
        program: String,
        /// The file that was found.
        path: PathBuf,
    },
    /// The script's first line names a program that is not there.
    #[error("the interpreter named in the first line of `{program}` ({path}) is not installed")]
    InterpreterNotFound {
        /// The program as it was named.
        program: String,
        /// The file that was found.
        path: PathBuf,
    },
    /// The working directory is not there.
    #[error("the working directory {directory} does not exist")]
    DirectoryMissing {
        /// The directory.
        directory: PathBuf,
    },
    /// No folder could be made to stand in for `HOME`.
    #[error("cannot make a home folder for `{program}`")]
    Home {
        /// The program as it was named.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused to start it.
    #[error("cannot start `{program}`")]
    Start {
        /// The program as it was named.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The runtime shut down before the program was over; the tree was killed.
    #[error("`{program}` was abandoned because this process is shutting down")]
    Abandoned {
        /// The program as it was named.
        program: String,
    },
}

impl ProcessError {
    /// Whether the tool is missing on this machine, so that nothing was learnt about the project.
    pub fn is_tool_missing(&self) -> bool {
        match self {
            Self::ProgramNotFound { .. } | Self::InterpreterNotFound { .. } => true,
            Self::EmptyArgv
            | Self::NotExecutable { .. }
            | Self::DirectoryMissing { .. }
            | Self::Home { .. }
            | Self::Start { .. }
            | Self::Abandoned { .. } => false,
        }
    }
}
