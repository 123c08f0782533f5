//! How a check's command is made to say what it did: a JUnit report and coverage from the tools that can write
//! them, else the form in which its output is read. Knows tools by their names; runs nothing.

use std::path::{Path, PathBuf};

use agent_runtime::project::{CheckKind, Coverage as DeclaredCoverage, PlannedCheck};

/// Where the tests of a run are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestSource {
    /// A JUnit file that the run writes.
    Junit(PathBuf),
    /// What the run prints, in this form.
    Output(OutputForm),
}

/// Whose output it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputForm {
    /// `cargo test`
    Cargo,
    /// `go test -json`
    GoJson,
    /// unittest or pytest
    Python,
    /// A JavaScript runner
    Node,
    /// Somebody's: every form is tried.
    Any,
}

/// Where the coverage of a run is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoverageSource {
    /// LCOV file.
    Lcov(PathBuf),
    /// Cobertura file.
    Cobertura(PathBuf),
    /// Go's cover profile.
    GoProfile(PathBuf),
}

impl CoverageSource {
    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Lcov(path) | Self::Cobertura(path) | Self::GoProfile(path) => path,
        }
    }
}

/// A command that says what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instrumented {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Where its tests are read from; `None`: it is not about tests.
    pub tests: Option<TestSource>,
    /// Where its coverage is read from.
    pub coverage: Option<CoverageSource>,
}

/// Instruments a check. `checkout` is where it runs, `folder` a place of ours for reports, `node` the version of Node.
pub fn instrument(
    check: &PlannedCheck,
    checkout: &Path,
    folder: &Path,
    node: Option<(u32, u32)>,
) -> Instrumented {
    let mut argv = check.step.command.as_slice().to_vec();
    let declared_tests = check
        .report
        .as_ref()
        .map(|report| TestSource::Junit(checkout.join(report.junit.as_str())));
    let mut coverage = check.coverage.as_ref().map(|coverage| match coverage {
        DeclaredCoverage::Lcov(path) => CoverageSource::Lcov(checkout.join(path.as_str())),
        DeclaredCoverage::Cobertura(path) => {
            CoverageSource::Cobertura(checkout.join(path.as_str()))
        }
    });
    if check.kind != CheckKind::Tests || declared_tests.is_some() {
        return Instrumented {
            argv,
            tests: declared_tests,
            coverage,
        };
    }
    let program = argv
        .first()
        .map_or("", |program| program.rsplit('/').next().unwrap_or(program))
        .to_owned();
    let original = argv.clone();
    let words: Vec<&str> = original.iter().skip(1).map(String::as_str).collect();
    let tests = match (program.as_str(), words.as_slice()) {
        ("cargo", [verb, ..]) if matches!(*verb, "test" | "t") => {
            TestSource::Output(OutputForm::Cargo)
        }
        ("go", ["test", ..]) => {
            let profile = folder.join(format!("{}.cover", check.name));
            let mut extra = vec!["-json".to_owned()];
            if coverage.is_none() && !words.iter().any(|word| word.contains("coverprofile")) {
                extra.push(format!("-coverprofile={}", profile.display()));
                coverage = Some(CoverageSource::GoProfile(profile));
            }
            if !words.contains(&"-json") {
                argv.splice(2..2, extra);
            }
            TestSource::Output(OutputForm::GoJson)
        }
        ("pytest" | "py.test", rest) => pytest(&mut argv, rest, 1, check, folder),
        (_, ["-m", "pytest", rest @ ..]) if program.starts_with("python") => {
            pytest(&mut argv, rest, 3, check, folder)
        }
        (_, ["-m", "unittest", ..]) if program.starts_with("python") => {
            TestSource::Output(OutputForm::Python)
        }
        ("node", ["--test", rest @ ..]) if node.is_some_and(reports) && !names_reporter(rest) => {
            let report = folder.join(format!("{}.junit.xml", check.name));
            let mut extra = reporter("spec", "stdout");
            extra.extend(reporter("junit", &report.display().to_string()));
            if coverage.is_none() {
                let file = folder.join(format!("{}.lcov", check.name));
                extra.push("--experimental-test-coverage".to_owned());
                extra.extend(reporter("lcov", &file.display().to_string()));
                coverage = Some(CoverageSource::Lcov(file));
            }
            argv.splice(2..2, extra);
            TestSource::Junit(report)
        }
        (
            "node" | "npm" | "npx" | "yarn" | "pnpm" | "bun" | "deno" | "mocha" | "jest" | "vitest",
            _,
        ) => TestSource::Output(OutputForm::Node),
        _ => TestSource::Output(OutputForm::Any),
    };
    Instrumented {
        argv,
        tests: Some(tests),
        coverage,
    }
}

/// Since when `node --test` writes JUnit and LCOV.
fn reports((major, minor): (u32, u32)) -> bool {
    major > 21 || (major == 21 && minor >= 7) || (major == 20 && minor >= 12)
}

fn names_reporter(words: &[&str]) -> bool {
    words.iter().any(|word| word.starts_with("--test-reporter"))
}

fn reporter(name: &str, destination: &str) -> Vec<String> {
    vec![
        format!("--test-reporter={name}"),
        format!("--test-reporter-destination={destination}"),
    ]
}

fn pytest(
    argv: &mut Vec<String>,
    rest: &[&str],
    at: usize,
    check: &PlannedCheck,
    folder: &Path,
) -> TestSource {
    if rest
        .iter()
        .any(|word| word.starts_with("--junit") || *word == "--collect-only" || *word == "--co")
    {
        return TestSource::Output(OutputForm::Python);
    }
    let report = folder.join(format!("{}.junit.xml", check.name));
    argv.insert(at, format!("--junitxml={}", report.display()));
    TestSource::Junit(report)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use agent_runtime::project::{Folder, Project};

    use super::{CoverageSource, Instrumented, OutputForm, TestSource, instrument};

    fn instrumented(check: &str, node: Option<(u32, u32)>) -> Instrumented {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(".agentic")).unwrap();
        let description = format!("version: 1\nchecks:\n  tests: {check}\n");
        fs::write(folder.path().join(".agentic/project.yaml"), description).unwrap();
        let project = Project::read(&Folder::open(folder.path()).unwrap()).unwrap();
        instrument(&project.checks[0], Path::new("/c"), Path::new("/r"), node)
    }

    #[test]
    fn declared_reports_are_taken_as_they_are() {
        let found = instrumented(
            "{command: [python3, -m, pytest], report: {junit: a.xml}, coverage: {lcov: b.info}}",
            None,
        );
        assert_eq!(found.argv, ["python3", "-m", "pytest"]);
        assert_eq!(found.tests, Some(TestSource::Junit("/c/a.xml".into())));
        assert_eq!(
            found.coverage,
            Some(CoverageSource::Lcov("/c/b.info".into()))
        );
    }

    #[test]
    fn tools_that_can_write_a_report_write_it_outside_the_checkout() {
        let found = instrumented("{command: [python3, -m, pytest, -x]}", None);
        assert_eq!(
            found.argv,
            [
                "python3",
                "-m",
                "pytest",
                "--junitxml=/r/tests.junit.xml",
                "-x"
            ]
        );
        let found = instrumented("{command: [node, --test, test]}", Some((20, 20)));
        assert_eq!(
            found.tests,
            Some(TestSource::Junit("/r/tests.junit.xml".into()))
        );
        assert_eq!(found.argv.last().unwrap(), "test");
        let found = instrumented("{command: [go, test, ./...]}", None);
        assert_eq!(
            found.argv,
            [
                "go",
                "test",
                "-json",
                "-coverprofile=/r/tests.cover",
                "./..."
            ]
        );
    }

    #[test]
    fn other_tools_are_read_by_their_output() {
        for (command, form) in [
            ("[cargo, test, --workspace]", OutputForm::Cargo),
            ("[python3, -m, unittest]", OutputForm::Python),
            ("[npm, run, test]", OutputForm::Node),
            ("[node, --test]", OutputForm::Node),
            ("[make, test]", OutputForm::Any),
        ] {
            let found = instrumented(&format!("{{command: {command}}}"), Some((18, 0)));
            assert_eq!(found.tests, Some(TestSource::Output(form)), "{command}");
        }
    }
}
