//! Which checks run on a change, and which of them stop it: the base's, completed by what the head adds. Runs
//! nothing and reads no files.

use agent_runtime::project::{CheckKind, DescriptionOrigin, PlannedCheck, Project, Step};
use thiserror::Error;

/// Checks of our own, beside the project's.
pub const OWN_CHECKS: [&str; 3] = ["secrets", "coverage", "vulnerabilities"];

/// A check to run.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The project's check.
    pub check: PlannedCheck,
    /// Whether anything but PASSED stops the change.
    pub blocking: bool,
}

/// Everything to run.
#[derive(Debug, Clone, Default)]
pub struct CheckPlan {
    /// What installs dependencies, in order.
    pub dependencies: Vec<Step>,
    /// The project's checks, in order.
    pub checks: Vec<Planned>,
    /// Names that were asked for; empty: all.
    pub asked: Vec<String>,
    /// Remarks for people.
    pub notes: Vec<String>,
}

/// A check that was asked for and is not there.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("there is no check `{asked}`; there are {}", .known.join(", "))]
pub struct UnknownCheck {
    /// As asked.
    pub asked: String,
    /// What there is.
    pub known: Vec<String>,
}

impl CheckPlan {
    /// Plans the checks of `head`, which was read with the base's description; `base` is the base as it stands alone.
    pub fn new(
        base: Option<&Project>,
        head: &Project,
        asked: &[String],
    ) -> Result<Self, UnknownCheck> {
        let mut plan = Self {
            dependencies: head.dependencies.clone(),
            asked: asked.to_vec(),
            ..Self::default()
        };
        let detected_at_base = base
            .into_iter()
            .flat_map(|base| &base.checks)
            .filter(|check| !check.declared);
        for check in detected_at_base {
            let same = head.checks.iter().find(|other| other.name == check.name);
            let chosen = match same {
                Some(other) if other.declared || is_same_command(other, check) => other,
                Some(_) => {
                    plan.notes.push(format!(
                        "`{}` runs as on the base commit ({}), not as the change would have it",
                        check.name, check.step.origin
                    ));
                    check
                }
                None => {
                    plan.notes.push(format!(
                        "`{}` is a check of the base commit ({})",
                        check.name, check.step.origin
                    ));
                    check
                }
            };
            plan.add(chosen);
        }
        for check in &head.checks {
            if !plan
                .checks
                .iter()
                .any(|planned| planned.check.name == check.name)
            {
                plan.add(check);
            }
        }
        plan.checks
            .sort_by(|a, b| (a.check.kind, &a.check.name).cmp(&(b.check.kind, &b.check.name)));
        plan.notes.push(match (head.description_origin, base) {
            (DescriptionOrigin::Base, _) => "checks as the base commit describes them".to_owned(),
            (DescriptionOrigin::Head, Some(_)) => {
                "the base commit does not describe the project: the change's own description was used".to_owned()
            }
            (DescriptionOrigin::Head, None) => "checks as the commit describes them".to_owned(),
            (DescriptionOrigin::Detected, _) => "checks as they were detected: the project does not describe itself".to_owned(),
        });
        plan.check_names(asked)?;
        Ok(plan)
    }

    fn add(&mut self, check: &PlannedCheck) {
        let blocking = match check.kind {
            CheckKind::Build | CheckKind::Tests => true,
            // A tool's configuration file is no promise that the tool is there and content.
            CheckKind::Types | CheckKind::Lint | CheckKind::Format | CheckKind::Other => {
                check.declared
            }
        };
        self.checks.push(Planned {
            check: check.clone(),
            blocking,
        });
    }

    fn check_names(&self, asked: &[String]) -> Result<(), UnknownCheck> {
        let known: Vec<String> = self
            .checks
            .iter()
            .map(|planned| planned.check.name.to_string())
            .chain(OWN_CHECKS.map(ToOwned::to_owned))
            .collect();
        match asked.iter().find(|name| !known.contains(name)) {
            Some(name) => Err(UnknownCheck {
                asked: name.chars().take(64).collect(),
                known,
            }),
            None => Ok(()),
        }
    }

    /// Whether what is installed is a function of the commit: nothing is, or a lock file says what.
    pub fn is_locked(&self) -> bool {
        self.dependencies.iter().all(|step| {
            let argv = step.command.as_slice();
            let names = |word: &str| argv.iter().any(|argument| argument == word);
            [
                "--locked",
                "--frozen",
                "--frozen-lockfile",
                "--require-hashes",
            ]
            .into_iter()
            .any(names)
                || matches!(argv, [program, verb, ..] if program == "npm" && verb == "ci")
                || matches!(argv, [program, module, ..] if program == "go" && module == "mod")
        })
    }

    /// Whether that check is to run.
    pub fn wants(&self, name: &str) -> bool {
        self.asked.is_empty() || self.asked.iter().any(|asked| asked == name)
    }

    /// The project's checks that are to run.
    pub fn wanted(&self) -> impl Iterator<Item = &Planned> {
        self.checks
            .iter()
            .filter(|planned| self.wants(planned.check.name.as_str()))
    }
}

/// The same program with the same verb in the same folder: only what it is given (files, folders) may be another.
fn is_same_command(one: &PlannedCheck, other: &PlannedCheck) -> bool {
    /// `python3 -m unittest`, `npm run test`, `cargo test --workspace`.
    const VERB: usize = 3;
    let verb = |check: &PlannedCheck| -> Vec<String> {
        check
            .step
            .command
            .as_slice()
            .iter()
            .take(VERB)
            .cloned()
            .collect()
    };
    one.step.directory == other.step.directory && verb(one) == verb(other)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use agent_runtime::project::{Folder, Project};

    use super::CheckPlan;

    fn project(files: &[(&str, &str)]) -> Project {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let place = folder.path().join(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, text).unwrap();
        }
        Project::read(&Folder::open(folder.path()).unwrap()).unwrap()
    }

    const NODE: &str = r#"{"name": "a", "scripts": {"test": "node --test"}}"#;

    fn commands(plan: &CheckPlan) -> Vec<String> {
        plan.checks
            .iter()
            .map(|planned| format!("{} {}", planned.check.name, planned.check.step.command))
            .collect()
    }

    #[test]
    fn a_check_that_the_change_takes_away_runs_all_the_same() {
        let base = project(&[("package.json", NODE)]);
        let head = project(&[("package.json", r#"{"name": "a", "scripts": {}}"#)]);
        let plan = CheckPlan::new(Some(&base), &head, &[]).unwrap();
        assert_eq!(commands(&plan), ["tests npm run test"]);
        assert!(plan.checks[0].blocking);
    }

    #[test]
    fn a_change_may_move_its_files() {
        let base = project(&[
            ("app/__init__.py", ""),
            ("tests/test_a.py", "import unittest\n"),
        ]);
        let head = project(&[
            ("shop/__init__.py", ""),
            ("tests/test_a.py", "import unittest\n"),
        ]);
        let plan = CheckPlan::new(Some(&base), &head, &[]).unwrap();
        assert!(
            commands(&plan).contains(&"build python3 -m compileall -q shop".to_owned()),
            "{:?}",
            commands(&plan)
        );
    }

    #[test]
    fn what_a_change_adds_runs_too() {
        let base = project(&[("package.json", NODE)]);
        let head = project(&[(
            "package.json",
            r#"{"scripts": {"test": "node --test", "lint": "x"}}"#,
        )]);
        let plan = CheckPlan::new(Some(&base), &head, &[]).unwrap();
        assert_eq!(commands(&plan), ["lint npm run lint", "tests npm run test"]);
        assert!(!plan.checks[0].blocking, "detected lint does not stop");
    }

    #[test]
    fn declared_checks_stop_and_unknown_names_are_refused() {
        let head = project(&[(
            ".agentic/project.yaml",
            "version: 1\nchecks:\n  lint: {command: [true]}\n",
        )]);
        let plan = CheckPlan::new(None, &head, &["lint".to_owned()]).unwrap();
        assert!(plan.checks[0].blocking);
        assert!(plan.wants("lint") && !plan.wants("secrets"));
        let refused = CheckPlan::new(None, &head, &["test".to_owned()]).unwrap_err();
        assert!(refused.known.contains(&"secrets".to_owned()));
    }
}
