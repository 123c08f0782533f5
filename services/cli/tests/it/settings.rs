//! `.env.example` names every setting of every program, with its default and what it is for.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use clap::{Command, CommandFactory};
use service_runtime::config;

struct Setting {
    help: String,
    defaults: Vec<String>,
    programs: Vec<String>,
}

fn programs() -> Vec<Command> {
    vec![
        orchestrator::config::Arguments::command(),
        scaffold_agent::config::Cli::command(),
        validation_agent::config::Cli::command(),
        e2e_agent::config::Cli::command(),
        integration_agent::config::Cli::command(),
        deployment_agent::config::Cli::command(),
        cli::arguments::Arguments::command(),
    ]
}

fn gather(command: &Command, program: &str, settings: &mut BTreeMap<String, Setting>) {
    let home = config::default_data().to_string_lossy().into_owned();
    for argument in command.get_arguments() {
        let Some(name) = argument.get_env().map(|name| name.to_string_lossy()) else {
            continue;
        };
        if !name.starts_with(config::PREFIX) && !name.starts_with("OTEL_") {
            continue;
        }
        let default = argument
            .get_default_values()
            .first()
            .map_or_else(String::new, |value| {
                value
                    .to_string_lossy()
                    .replace(&home, "~/.local/share/agentic")
            });
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let setting = settings
            .entry(name.into_owned())
            .or_insert_with(|| Setting {
                help,
                defaults: Vec::new(),
                programs: Vec::new(),
            });
        if !setting.defaults.contains(&default) {
            setting.defaults.push(default);
        }
        if !setting.programs.iter().any(|known| known == program) {
            setting.programs.push(program.to_owned());
        }
    }
    for verb in command.get_subcommands() {
        gather(verb, program, settings);
    }
}

fn expected() -> String {
    let mut settings = BTreeMap::new();
    for program in programs() {
        gather(&program, program.get_name(), &mut settings);
    }
    let mut text = "# Every setting, its default, and the programs that read it. Each is a flag as well (--help).\n\
                    # An AGENTIC_ variable that a program does not know ends it with code 64.\n\
                    # Two defaults: the first program's, and that of `agentic up`, whose agents share one machine.\n"
        .to_owned();
    for (name, setting) in settings {
        let agents = setting
            .programs
            .iter()
            .filter(|program| program.ends_with("-agent"))
            .count();
        let mut programs = setting.programs.clone();
        if agents == 5 {
            programs.retain(|program| !program.ends_with("-agent"));
            programs.push("every agent".to_owned());
        }
        let programs = programs.join(", ");
        let default = setting.defaults.join(" | ");
        let _ = write!(
            text,
            "\n# {}\n# Read by: {programs}\n#{name}={default}\n",
            setting.help
        );
    }
    text
}

#[test]
fn the_example_file_names_every_setting_with_its_default() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.env.example");
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let expected = expected();
    if found != expected {
        let wanted = testkit::requirement::build_folder().join("env.example");
        std::fs::write(&wanted, expected).unwrap();
        panic!(
            "{} is not what --help says; what it should be is in {}",
            file.display(),
            wanted.display()
        );
    }
}
