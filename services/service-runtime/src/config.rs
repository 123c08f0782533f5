//! How every process reads its configuration: flags and `AGENTIC_…` variables, checked once,
//! before any socket. A wrong one ends the process with code 64 and one sentence.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser};

use contracts::parse::nearest;

use crate::redaction;

/// Exit code for wrong configuration (`EX_USAGE` of sysexits.h).
pub const EXIT_BAD_CONFIGURATION: u8 = 64;

/// Prefix of our variables.
pub const PREFIX: &str = "AGENTIC_";

// Where a process listens and how it stops. (A doc comment here would become the command's own description.)
#[derive(Debug, Clone, Args)]
pub struct ListenArgs {
    /// Address for gRPC. Clear text is refused on anything but loopback unless --allow-clear-text.
    #[arg(long, env = "AGENTIC_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Listen in clear text on addresses that other machines can reach.
    #[arg(long, env = "AGENTIC_ALLOW_CLEAR_TEXT", default_value_t = false)]
    pub allow_clear_text: bool,
    /// How long calls in flight may go on after a stop was asked for.
    #[arg(long, env = "AGENTIC_SHUTDOWN_GRACE", default_value = "10s", value_parser = humantime::parse_duration)]
    pub shutdown_grace: Duration,
    /// Address for /health/live, /health/ready and /metrics. Left out: none (the orchestrator: 127.0.0.1:3000).
    #[arg(long, env = "AGENTIC_HTTP_LISTEN", value_name = "ADDRESS")]
    pub http_listen: Option<SocketAddr>,
    /// Serve --http-listen with the certificate of --tls-cert, too; callers show none.
    #[arg(long, env = "AGENTIC_HTTP_TLS", default_value_t = false)]
    pub http_tls: bool,
    /// Serve gRPC reflection.
    #[arg(long, env = "AGENTIC_REFLECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub reflection: bool,
}

impl ListenArgs {
    /// The address to listen on, checked. `secure`: there is a certificate to serve with.
    pub fn address(&self, default: SocketAddr, secure: bool) -> Result<SocketAddr, ConfigError> {
        let address = self.listen.unwrap_or(default);
        if secure || address.ip().is_loopback() || self.allow_clear_text {
            Ok(address)
        } else {
            Err(ConfigError::ClearText(address))
        }
    }

    /// The address for HTTP, checked. `secure`: there is a certificate to serve with.
    pub fn http_address(
        &self,
        default: Option<SocketAddr>,
        secure: bool,
    ) -> Result<Option<SocketAddr>, ConfigError> {
        if self.http_tls && !secure {
            let problem = "needs a certificate: --tls-cert, --tls-key and --tls-ca";
            return Err(ConfigError::invalid("--http-tls", problem));
        }
        match self.http_listen.or(default) {
            Some(address)
                if !self.http_tls && !address.ip().is_loopback() && !self.allow_clear_text =>
            {
                Err(ConfigError::ClearHttp(address))
            }
            address => Ok(address),
        }
    }
}

// Where a process keeps things. (A doc comment here would become the command's own description.)
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// Folder for everything that the process keeps.
    #[arg(long, env = "AGENTIC_DATA", value_name = "FOLDER", default_value_os_t = default_data())]
    pub data: PathBuf,
}

/// `$XDG_DATA_HOME/agentic`, else `~/.local/share/agentic`.
pub fn default_data() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .or_else(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("agentic")
}

/// A secret from its file, without the line break that editors and `echo` put behind it. What the
/// process says from now on is without it.
pub fn read_secret(setting: &str, file: &Path) -> Result<String, ConfigError> {
    let wrong =
        |problem: &str| ConfigError::invalid(setting, format!("{}: {problem}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error.to_string()))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(wrong("it is empty"));
    }
    redaction::process().register(setting, secret);
    Ok(secret.to_owned())
}

/// Why a configuration is refused. One sentence each.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Other machines could read along.
    #[error(
        "will not listen in clear text on {0}, which other machines can reach: \
         use --tls-cert, --tls-key and --tls-ca, a loopback address, or --allow-clear-text (AGENTIC_ALLOW_CLEAR_TEXT=true)"
    )]
    ClearText(SocketAddr),
    /// Other machines could read along.
    #[error(
        "will not serve HTTP in clear text on {0}, which other machines can reach: \
         use --http-tls, a loopback address, or --allow-clear-text (AGENTIC_ALLOW_CLEAR_TEXT=true)"
    )]
    ClearHttp(SocketAddr),
    /// A variable of ours that nobody reads.
    #[error("{name} is not a setting{}", .nearest.as_ref().map_or(String::new(), |n| format!("; did you mean {n}?")))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The nearest one that is known.
        nearest: Option<String>,
    },
    /// A setting whose value cannot be.
    #[error("{setting}: {problem}")]
    Invalid {
        /// Setting.
        setting: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl ConfigError {
    /// A setting whose value cannot be.
    pub fn invalid(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            setting: setting.into(),
            problem: problem.into(),
        }
    }
}

/// Reads flags and environment.
///
/// On a mistake clap's own sentence is printed and the process ends: 2 for wrong usage of a flag
/// on the command line is kept for the `agentic` command; services end with 64.
pub fn parse<P: Parser>() -> P {
    let command = P::command();
    let matches = command.clone().try_get_matches().unwrap_or_else(|error| {
        let code = if error.use_stderr() {
            i32::from(EXIT_BAD_CONFIGURATION)
        } else {
            0
        };
        let _ = error.print();
        std::process::exit(code)
    });
    if let Err(error) =
        refuse_unknown_variables(&command, std::env::vars_os().map(|(name, _)| name))
    {
        exit_with(&error);
    }
    P::from_arg_matches(&matches).unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(i32::from(EXIT_BAD_CONFIGURATION))
    })
}

/// Prints the one sentence and ends the process with 64.
#[allow(clippy::print_stderr, reason = "telemetry is not up yet")]
pub fn exit_with(error: &dyn std::error::Error) -> ! {
    eprintln!("error: {error}");
    std::process::exit(i32::from(EXIT_BAD_CONFIGURATION))
}

const MARKS: [&str; 3] = [
    "AGENTIC_PROCESS_ID",
    "AGENTIC_PROCESS_FOLDER",
    "AGENTIC_DEPLOYMENT_OWNER",
];

/// Refuses variables with our prefix that no setting of the command, or of its subcommands, reads.
pub fn refuse_unknown_variables(
    command: &clap::Command,
    names: impl Iterator<Item = std::ffi::OsString>,
) -> Result<(), ConfigError> {
    let known = variables(command);
    for name in names {
        let name = name.to_string_lossy();
        // What a test run requires of its machine is for the test kit only.
        if name.starts_with(PREFIX)
            && !name.starts_with("AGENTIC_REQUIRE_")
            // These mark the processes that agents run, and a mesh may be one of them.
            && !MARKS.contains(&name.as_ref())
            && !known.iter().any(|known| *known == name)
        {
            return Err(ConfigError::UnknownVariable {
                nearest: nearest(&name, known.iter().map(String::as_str)).map(str::to_owned),
                name: name.into_owned(),
            });
        }
    }
    Ok(())
}

/// Every variable that a command or one of its subcommands reads.
pub fn variables(command: &clap::Command) -> Vec<String> {
    let mut found: Vec<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_env())
        .map(|name| name.to_string_lossy().into_owned())
        .chain(command.get_subcommands().flat_map(variables))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(Debug, Parser)]
    struct Example {
        #[command(flatten)]
        listen: ListenArgs,
        #[command(flatten)]
        data: DataArgs,
    }

    #[test]
    fn a_misspelt_variable_is_refused_and_the_nearest_named() {
        let names = ["PATH", "AGENTIC_DATA", "AGENTIC_LISTNE"]
            .map(Into::into)
            .into_iter();
        let error = refuse_unknown_variables(&Example::command(), names).unwrap_err();
        assert_eq!(
            error.to_string(),
            "AGENTIC_LISTNE is not a setting; did you mean AGENTIC_LISTEN?"
        );
    }

    #[test]
    fn clear_text_stays_on_loopback() {
        let read = |arguments: &[&str]| Example::try_parse_from(arguments).unwrap().listen;
        let default: SocketAddr = "127.0.0.1:50051".parse().unwrap();
        assert_eq!(read(&["x"]).address(default, false).unwrap(), default);
        let open = ["x", "--listen", "0.0.0.0:1"];
        assert!(read(&open).address(default, false).is_err());
        assert!(
            read(&[&open[..], &["--allow-clear-text"]].concat())
                .address(default, false)
                .is_ok()
        );
        assert!(read(&open).address(default, true).is_ok());
    }

    #[test]
    fn clear_http_stays_on_loopback() {
        let read = |arguments: &[&str]| Example::try_parse_from(arguments).unwrap().listen;
        let port = |arguments: &[&str]| read(arguments).http_address(None, false);
        assert!(port(&["x"]).unwrap().is_none());
        assert!(port(&["x", "--http-listen", "127.0.0.1:1"]).is_ok());
        let open = ["x", "--http-listen", "0.0.0.0:1"];
        assert!(matches!(port(&open), Err(ConfigError::ClearHttp(_))));
        assert!(port(&[&open[..], &["--allow-clear-text"]].concat()).is_ok());
        let said = port(&[&open[..], &["--http-tls"]].concat()).unwrap_err();
        assert!(said.to_string().contains("--tls-cert"), "{said}");
    }

    #[test]
    fn hostile_values_are_refused() {
        for arguments in [
            ["x", "--listen", "nowhere"],
            ["x", "--shutdown-grace", "-1s"],
        ] {
            assert!(Example::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }
}
