//! The command line as people type it. Wrong flags end with 2, wrong variables with 64.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser};
use contracts::parse::is_slug;
use service_runtime::config;
use service_runtime::telemetry::{LogFormat, TelemetryArgs};
use service_runtime::tls::TlsArgs;

use crate::exit::Exit;
use crate::output::Color;
use crate::verb::Verb;

const AFTER_HELP: &str = "\
Examples:
  agentic up --detach
  agentic run --type app --template python-http --name shop
  agentic run --type change --repository . --source my-branch --target main
  agentic watch shop

Exit codes:
  0 succeeded · 1 failed · 2 usage · 3 not proven · 4 mesh not reachable
  10 waits for a person (with --no-input) · 64 bad configuration · 130 interrupted";

/// Takes software work through scaffold, validation, e2e, integration and deployment.
#[derive(Debug, Parser)]
#[command(name = "agentic", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Arguments {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What holds for every verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Address of the orchestrator. Left out: the mesh that `agentic up` runs on the data folder.
    #[arg(
        long,
        global = true,
        env = "AGENTIC_ORCHESTRATOR_URL",
        value_name = "URL"
    )]
    pub orchestrator: Option<String>,
    /// Folder of a local mesh.
    #[arg(long, global = true, env = "AGENTIC_DATA", value_name = "FOLDER", default_value_os_t = config::default_data())]
    pub data: PathBuf,
    /// File with the bearer token to show.
    #[arg(long, global = true, env = "AGENTIC_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How the mesh is known, and who calls it.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Namespace of the workflows, pipelines and questions that are meant. Left out: `default`.
    #[arg(long, global = true, env = "AGENTIC_NAMESPACE", value_name = "NAME", value_parser = namespace)]
    pub namespace: Option<String>,
    /// Print one JSON object per line, in the protobuf JSON mapping.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but results and errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Ask nobody: where a person is needed, end with 10.
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Colours.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub color: Color,
    /// Set and not empty: no colours (https://no-color.org).
    #[arg(
        long,
        global = true,
        hide = true,
        env = "NO_COLOR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1"
    )]
    pub no_color: Option<String>,
}

fn namespace(name: &str) -> Result<String, String> {
    if is_slug(name) {
        Ok(name.to_owned())
    } else {
        Err("is not a lower-case letter followed by at most 62 letters, digits or '-'".to_owned())
    }
}

/// The command with everything that holds for all of its verbs.
pub fn command() -> Command {
    TelemetryArgs::augment_args(Arguments::command().next_help_heading("Telemetry")).mut_args(
        |argument| match argument.get_id().as_str() {
            "log" | "log_format" | "otlp_endpoint" | "otlp_ca" => {
                argument.global(true).hide_short_help(true)
            }
            _ => argument,
        },
    )
}

/// Reads the command line and the environment. What is wrong is printed.
pub fn parse(arguments: &[OsString]) -> Result<(Arguments, TelemetryArgs), Exit> {
    let command = command();
    let matches = command
        .clone()
        .try_get_matches_from(arguments)
        .map_err(|error| {
            // Nothing can be done about a standard error that does not take it.
            let _ = error.print();
            if !error.use_stderr() {
                Exit::Succeeded
            } else if is_of_environment(&command, arguments) {
                Exit::Configuration
            } else {
                Exit::Usage
            }
        })?;
    refuse_address(&matches)?;
    let names = std::env::vars_os().map(|(name, _)| name);
    config::refuse_unknown_variables(&known(&command), names).map_err(|error| {
        let _ = clap::Error::raw(
            clap::error::ErrorKind::ValueValidation,
            format!("{error}\n"),
        )
        .print();
        Exit::Configuration
    })?;
    let read = Arguments::from_arg_matches(&matches).and_then(|arguments| {
        let telemetry = TelemetryArgs::from_arg_matches(&matches)?;
        Ok((arguments, telemetry))
    });
    let (arguments, telemetry) = read.map_err(|error| {
        let _ = error.print();
        Exit::Usage
    })?;
    let telemetry = if arguments.verb.is_service() {
        telemetry
    } else {
        quiet_telemetry(telemetry, &matches)
    };
    Ok((arguments, telemetry))
}

// Refused here, where it is known whether it was typed or configured.
fn refuse_address(matches: &ArgMatches) -> Result<(), Exit> {
    let Some(address) = matches.get_one::<String>("orchestrator") else {
        return Ok(());
    };
    if address.starts_with("http://") || address.starts_with("https://") {
        return Ok(());
    }
    let problem = format!(
        "--orchestrator (AGENTIC_ORCHESTRATOR_URL): {address:?} is not an address such as http://127.0.0.1:50051\n"
    );
    let _ = clap::Error::raw(clap::error::ErrorKind::ValueValidation, problem).print();
    match matches.value_source("orchestrator") {
        Some(ValueSource::CommandLine) => Err(Exit::Usage),
        _ => Err(Exit::Configuration),
    }
}

// A client's own log is not what the person came for.
fn quiet_telemetry(mut telemetry: TelemetryArgs, matches: &ArgMatches) -> TelemetryArgs {
    let is_default = |name: &str| matches.value_source(name) == Some(ValueSource::DefaultValue);
    if is_default("log") {
        "error".clone_into(&mut telemetry.log);
    }
    if is_default("log_format") {
        telemetry.log_format = LogFormat::Terminal;
    }
    telemetry
}

// The same arguments are fine when the environment is not looked at.
fn is_of_environment(command: &Command, arguments: &[OsString]) -> bool {
    without_environment(command.clone())
        .try_get_matches_from(arguments)
        .is_ok()
}

fn without_environment(command: Command) -> Command {
    command
        .mut_args(|argument| argument.env(clap::builder::Resettable::Reset))
        .mut_subcommands(without_environment)
}

// Variables of the services may be set where the command runs, too.
fn known(command: &Command) -> Command {
    command.clone().subcommands([
        orchestrator::config::Arguments::command().name("service-orchestrator"),
        scaffold_agent::config::Cli::command().name("service-scaffold"),
        validation_agent::config::Cli::command().name("service-validation"),
        e2e_agent::config::Cli::command().name("service-e2e"),
        integration_agent::config::Cli::command().name("service-integration"),
        deployment_agent::config::Cli::command().name("service-deployment"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(command: &Command, look: &mut impl FnMut(&Command)) {
        look(command);
        for inner in command.get_subcommands() {
            walk(inner, look);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_explains_itself_with_examples() {
        walk(&command(), &mut |command| {
            let name = command.get_name().to_owned();
            assert!(command.get_about().is_some(), "{name} has no description");
            if !command.has_subcommands() {
                let help = command
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(
                    help.contains("Examples:\n  agentic "),
                    "{name} has no examples"
                );
            }
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{name} --{} has no help",
                    argument.get_id()
                );
            }
        });
    }

    #[test]
    fn the_examples_in_the_help_are_valid() {
        let mut count = 0;
        walk(&command(), &mut |inner| {
            let help = inner
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            for line in help
                .lines()
                .filter_map(|line| line.strip_prefix("  agentic "))
            {
                let line = line.split(" | ").next().unwrap_or(line);
                let line = line.split(" > ").next().unwrap_or(line);
                let words = split(line);
                let read = command()
                    .try_get_matches_from(std::iter::once("agentic".to_owned()).chain(words));
                assert!(read.is_ok(), "agentic {line}: {}", read.unwrap_err());
                count += 1;
            }
        });
        assert!(count > 30, "{count}");
    }

    // Words as a shell would see them; single quotes only.
    fn split(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in line.chars() {
            match (c, quoted) {
                ('\'', _) => quoted = !quoted,
                (' ', false) => words.push(String::new()),
                _ => words.last_mut().unwrap().push(c),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }
}
