//! Told apart: a tool that is not there or too old, a program that the commit does not have, and a machine that
//! broke. Reads what runners say; runs nothing.

use agent_runtime::process::ProcessError;

use crate::reports::Ending;

/// Why a program did not run; breaks of this machine stay errors.
pub(super) fn not_run(error: ProcessError) -> Result<Ending, ProcessError> {
    match error {
        ProcessError::ProgramNotFound { program } | ProcessError::NotExecutable { program, .. }
            if program.contains('/') && !program.starts_with('/') =>
        {
            Ok(Ending::Absent(program))
        }
        ProcessError::ProgramNotFound { program }
        | ProcessError::NotExecutable { program, .. }
        | ProcessError::InterpreterNotFound { program, .. } => Ok(Ending::NotFound(program)),
        ProcessError::DirectoryMissing { directory } => {
            Ok(Ending::Absent(directory.display().to_string()))
        }
        ProcessError::EmptyArgv
        | ProcessError::Home { .. }
        | ProcessError::Start { .. }
        | ProcessError::Abandoned { .. } => Err(error),
    }
}

/// The tool that a runner did not find, as runners say it.
pub(super) fn missing_tool(argv: &[String], ending: &Ending, output: &str) -> Option<String> {
    let Ending::Exited(code) = ending else {
        return None;
    };
    if *code == 0 {
        return None;
    }
    if let [_, flag, module, ..] = argv
        && flag == "-m"
        && output.contains(&format!("No module named {module}\n"))
    {
        return Some(format!("python module {module}"));
    }
    let lines = || output.lines().map(str::trim);
    if let Some(component) = lines().find_map(|line| {
        let rest = line.strip_prefix("error: '")?;
        let (name, rest) = rest.split_once('\'')?;
        rest.starts_with(" is not installed for the toolchain")
            .then_some(name)
    }) {
        return Some(component.to_owned());
    }
    if let Some(verb) = lines().find_map(|line| line.strip_prefix("error: no such command: `")) {
        return Some(format!("cargo {}", verb.trim_end_matches('`')));
    }
    if let Some(line) = lines().find(|line| wants_newer_toolchain(line)) {
        return Some(
            line.trim_start_matches("error: ")
                .trim_end_matches(':')
                .to_owned(),
        );
    }
    if output.contains("npx canceled due to missing packages") {
        return argv.get(2).cloned();
    }
    if *code == 127 {
        let named = lines().find_map(|line| {
            line.strip_suffix(": not found")
                .or_else(|| line.strip_suffix(": command not found"))
        });
        return named.map(|line| line.rsplit(": ").next().unwrap_or(line).to_owned());
    }
    None
}

/// What tools say when the project asks for a newer toolchain than there is.
fn wants_newer_toolchain(line: &str) -> bool {
    (line.starts_with("error: rustc ")
        && line.contains(" is not supported by the following package"))
        || (line.starts_with("error: package `")
            && line.contains(" cannot be built because it requires rustc "))
        || (line.starts_with("go: ") && line.contains(" requires go >= "))
        || (line.starts_with("ERROR: Package ") && line.contains(" requires a different Python: "))
        || line.starts_with("npm error code EBADENGINE")
}

#[cfg(test)]
mod tests {
    use super::{Ending, missing_tool};

    #[test]
    fn runners_that_miss_their_tool_are_told_from_failures() {
        let argv = |line: &str| line.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
        let missing = |command: &str, code, output: &str| {
            missing_tool(&argv(command), &Ending::Exited(code), output)
        };
        assert!(
            missing(
                "python3 -m pytest",
                1,
                "/usr/bin/python3: No module named pytest\n"
            )
            .is_some()
        );
        assert!(
            missing(
                "cargo clippy",
                1,
                "error: 'cargo-clippy' is not installed for the toolchain 'x'.\n"
            )
            .is_some()
        );
        assert!(
            missing(
                "cargo build",
                101,
                "error: rustc 1.95.0 is not supported by the following packages:\n"
            )
            .is_some_and(|tool| tool.starts_with("rustc 1.95.0"))
        );
        assert!(missing("cargo deny", 101, "error: no such command: `deny`\n").is_some());
        assert_eq!(
            missing("npm run build", 127, "sh: 1: tsc: not found\n").as_deref(),
            Some("tsc")
        );
        assert!(missing("python3 -m pytest", 1, "E   No module named shop\n").is_none());
        assert!(missing("npm run build", 1, "x: not found\n").is_none());
        assert!(missing("python3 -m pytest", 0, "No module named pytest\n").is_none());
    }
}
