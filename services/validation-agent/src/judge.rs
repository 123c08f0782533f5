//! Which parts of a change judge the change: its policy, its checks, CI, the configuration and start of test
//! runners, and tests that are gone, skipped or ask for less. Knows texts before and after, no git and no verdict:
//! a person decides about what is found here.

mod configuration;
mod named_files;
mod startup;
mod test_code;

use std::collections::{BTreeSet, HashMap};

pub use self::{named_files::files_named_by, test_code::is_test_path};

/// In what way a part of the change judges it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// `.agentic/gates.yaml`.
    Policy,
    /// `.agentic/project.yaml`.
    ProjectDescription,
    /// Continuous integration.
    Ci,
    /// Configuration of a test runner, linter or build.
    RunnerConfiguration,
    /// What a check command names.
    CheckCommand,
    /// Code that starts beside the tests.
    StartupCode,
    /// A test that is no more.
    TestDeleted,
    /// A test that no longer runs.
    TestSkipped,
    /// A test that asks for less, or for something else.
    TestWeakened,
}

impl Class {
    /// As reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy edited",
            Self::ProjectDescription => "project description edited",
            Self::Ci => "CI edited",
            Self::RunnerConfiguration => "runner configuration edited",
            Self::CheckCommand => "check command edited",
            Self::StartupCode => "start-up code edited",
            Self::TestDeleted => "test deleted",
            Self::TestSkipped => "test skipped",
            Self::TestWeakened => "test weakened",
        }
    }

    /// Rule id for findings.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Policy => "judge:policy",
            Self::ProjectDescription => "judge:project",
            Self::Ci => "judge:ci",
            Self::RunnerConfiguration => "judge:runner-configuration",
            Self::CheckCommand => "judge:check-command",
            Self::StartupCode => "judge:startup-code",
            Self::TestDeleted => "judge:test-deleted",
            Self::TestSkipped => "judge:test-skipped",
            Self::TestWeakened => "judge:test-weakened",
        }
    }
}

/// One file of the change, as text on both sides. Binary files have no text on either.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedFile {
    /// Where it is now, or was, if it is gone.
    pub path: String,
    /// Where it was before a rename.
    pub old_path: Option<String>,
    /// Its text at the base; `None`: it was not there.
    pub before: Option<String>,
    /// Its text at the head; `None`: it is gone.
    pub after: Option<String>,
}

/// A part of the change that judges the change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JudgeChange {
    /// In what way.
    pub class: Class,
    /// Which file.
    pub path: String,
    /// Line, from 1; 0: the file as a whole.
    pub line: u32,
    /// What exactly, for people.
    pub detail: String,
}

impl JudgeChange {
    /// One line for people.
    pub fn describe(&self) -> String {
        let line = if self.line > 0 {
            format!(":{}", self.line)
        } else {
            String::new()
        };
        format!(
            "{}: {}{line}: {}",
            self.class.name(),
            self.path,
            self.detail
        )
    }
}

/// What of the base judges, beyond what every repository has.
#[derive(Debug, Clone, Default)]
pub struct BaseJudge {
    /// Files that the base's check commands name.
    pub named_files: BTreeSet<String>,
    /// Whether the base has checks at all: where it has none, the change is a new app and brings its own.
    pub has_checks: bool,
    /// Whether the base has a policy file.
    pub has_policy: bool,
}

/// Every part of the change that judges the change, in a fixed order.
pub fn classify(files: &[ChangedFile], base: &BaseJudge) -> Vec<JudgeChange> {
    let mut found = Vec::new();
    if !base.has_checks && !base.has_policy {
        return found;
    }
    for file in files {
        found.extend(configuration::classify(file, base));
        found.extend(startup::classify(file));
    }
    found.extend(classify_tests(files));
    found.sort();
    found.dedup();
    found
}

fn classify_tests(files: &[ChangedFile]) -> Vec<JudgeChange> {
    let mut found = Vec::new();
    // How many tests of a name the whole change lacks: one that moved to another file is not gone.
    let mut balance: HashMap<String, i64> = HashMap::new();
    for file in files {
        let old_path = file.old_path.as_deref().unwrap_or(&file.path);
        for name in names(old_path, file.before.as_deref()) {
            *balance.entry(name).or_default() += 1;
        }
        for name in names(&file.path, file.after.as_deref()) {
            *balance.entry(name).or_default() -= 1;
        }
    }
    let missing: HashMap<String, u32> = balance
        .into_iter()
        .filter_map(|(name, count)| {
            Some((name, u32::try_from(count).ok().filter(|count| *count > 0)?))
        })
        .collect();
    for file in files {
        let old_path = file.old_path.as_deref().unwrap_or(&file.path);
        if let Some(after) = &file.after {
            found.extend(test_code::ends_the_run(
                &file.path,
                file.before.as_deref(),
                after,
            ));
        }
        let Some(before) = &file.before else { continue };
        let Some(after) = &file.after else {
            let gone: Vec<String> = names(old_path, Some(before))
                .into_iter()
                .filter(|name| missing.contains_key(name))
                .collect();
            if !gone.is_empty() || test_code::is_expectation_file(old_path) {
                found.push(JudgeChange {
                    class: Class::TestDeleted,
                    path: old_path.to_owned(),
                    line: 0,
                    detail: if gone.is_empty() {
                        "expected output is gone".to_owned()
                    } else {
                        format!("the file is gone, with {}", list(&gone))
                    },
                });
            }
            continue;
        };
        if test_code::is_expectation_file(&file.path) && before != after {
            found.push(JudgeChange {
                class: Class::TestWeakened,
                path: file.path.clone(),
                line: 0,
                detail: "expected output is another".to_owned(),
            });
        }
        found.extend(test_code::compare(&file.path, before, after, &missing));
    }
    found
}

fn names(path: &str, text: Option<&str>) -> Vec<String> {
    text.map(|text| test_code::names(path, text))
        .unwrap_or_default()
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
