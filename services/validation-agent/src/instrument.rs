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
    /// What turns the coverage that was measured into that file, once the command is over.
    pub convert: Option<Vec<String>>,
}

/// What of the toolchain decides how a check is instrumented.
#[derive(Debug, Clone, Copy, Default)]
pub struct Abilities {
    /// Version of Node.
    pub node: Option<(u32, u32)>,
    /// Whether the Python at hand has the `coverage` module, and the project is set up for it without using it itself.
    pub python_coverage: bool,
}

/// Instruments a check. `checkout` is where it runs, `folder` a place of ours for reports.
pub fn instrument(
    check: &PlannedCheck,
    checkout: &Path,
    folder: &Path,
    abilities: Abilities,
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
            convert: None,
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
        ("node", ["--test", rest @ ..])
            if abilities.node.is_some_and(reports) && !names_reporter(rest) =>
        {
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
    let convert =
        if abilities.python_coverage && coverage.is_none() && program.starts_with("python") {
            let (convert, file) = python_coverage(&mut argv, check, folder);
            coverage = convert.is_some().then_some(CoverageSource::Lcov(file));
            convert
        } else {
            None
        };
    Instrumented {
        argv,
        tests: Some(tests),
        coverage,
        convert,
    }
}

/// Runs a module under `coverage`: the command becomes `python3 -m coverage run … -m module …`.
fn python_coverage(
    argv: &mut Vec<String>,
    check: &PlannedCheck,
    folder: &Path,
) -> (Option<Vec<String>>, PathBuf) {
    let file = folder.join(format!("{}.lcov", check.name));
    let [python, flag, ..] = argv.as_slice() else {
        return (None, file);
    };
    if flag != "-m" {
        return (None, file);
    }
    let measured = format!(
        "--data-file={}",
        folder.join(format!("{}.coverage", check.name)).display()
    );
    let module = ["-m", "coverage"].map(ToOwned::to_owned);
    let mut convert = vec![python.clone()];
    convert.extend(module.clone());
    convert.extend([
        "lcov".to_owned(),
        measured.clone(),
        "-o".to_owned(),
        file.display().to_string(),
    ]);
    let run = ["run".to_owned(), "--branch".to_owned(), measured];
    argv.splice(1..1, module.into_iter().chain(run));
    (Some(convert), file)
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

    use super::{Abilities, CoverageSource, Instrumented, OutputForm, TestSource, instrument};

    fn instrumented(check: &str, abilities: Abilities) -> Instrumented {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(".agentic")).unwrap();
        let description = format!("version: 1\nchecks:\n  tests: {check}\n");
        fs::write(folder.path().join(".agentic/project.yaml"), description).unwrap();
        let project = Project::read(&Folder::open(folder.path()).unwrap()).unwrap();
        instrument(
            &project.checks[0],
            Path::new("/c"),
            Path::new("/r"),
            abilities,
        )
    }

    fn node(version: (u32, u32)) -> Abilities {
        Abilities {
            node: Some(version),
            ..Abilities::default()
        }
    }

    #[test]
    fn declared_reports_are_taken_as_they_are() {
        let found = instrumented(
            "{command: [python3, -m, pytest], report: {junit: a.xml}, coverage: {lcov: b.info}}",
            Abilities::default(),
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
        let found = instrumented("{command: [python3, -m, pytest, -x]}", Abilities::default());
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
        let found = instrumented("{command: [node, --test, test]}", node((20, 20)));
        assert_eq!(
            found.tests,
            Some(TestSource::Junit("/r/tests.junit.xml".into()))
        );
        assert_eq!(found.argv.last().unwrap(), "test");
        let found = instrumented("{command: [go, test, ./...]}", Abilities::default());
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
            let found = instrumented(&format!("{{command: {command}}}"), node((18, 0)));
            assert_eq!(found.tests, Some(TestSource::Output(form)), "{command}");
        }
    }

    #[test]
    fn python_is_measured_where_the_project_is_set_up_for_it() {
        let abilities = Abilities {
            python_coverage: true,
            ..Abilities::default()
        };
        let found = instrumented("{command: [python3, -m, unittest, -v]}", abilities);
        assert_eq!(
            found.argv.join(" "),
            "python3 -m coverage run --branch --data-file=/r/tests.coverage -m unittest -v"
        );
        assert_eq!(
            found.coverage,
            Some(CoverageSource::Lcov("/r/tests.lcov".into()))
        );
        assert_eq!(
            found.convert.unwrap().join(" "),
            "python3 -m coverage lcov --data-file=/r/tests.coverage -o /r/tests.lcov"
        );
        assert_eq!(found.tests, Some(TestSource::Output(OutputForm::Python)));
        let declared = "{command: [python3, -m, pytest], coverage: {lcov: own.info}}";
        assert_eq!(instrumented(declared, abilities).convert, None);
    }
}
