//! Reads tests and assertions out of source text well enough to see which are gone, skipped, or ask for something
//! else. A reading of common forms in several languages, no parser; what it does not recognise it does not report.

mod language;
mod read;

use std::collections::{BTreeMap, HashMap};

use self::read::{Assertion, Test};
use super::{Class, JudgeChange, list};

/// Whether tests usually stand at such a path.
pub fn is_test_path(path: &str) -> bool {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.split('.').next().unwrap_or(name);
    folders.split('/').any(|folder| {
        matches!(
            folder,
            "test" | "tests" | "__tests__" | "spec" | "specs" | "testdata" | "e2e"
        )
    }) || stem.starts_with("test_")
        || stem.ends_with("_test")
        || stem.ends_with("_spec")
        || [".test.", ".spec."].iter().any(|part| name.contains(part))
        || stem.ends_with("Test")
        || stem.ends_with("Tests")
        || matches!(
            name,
            "test.js" | "tests.py" | "test.py" | "test.ts" | "test.mjs" | "tests.rs"
        )
}

/// Whether it holds output that tests compare with.
pub(super) fn is_expectation_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.split('/')
        .any(|folder| matches!(folder, "__snapshots__" | "snapshots" | "golden" | "goldens"))
        || [".snap", ".golden", ".approved.txt", ".stdout.expected"]
            .iter()
            .any(|end| name.ends_with(end))
}

/// Names of the tests in a text, as often as they are there.
pub(super) fn names(path: &str, text: &str) -> Vec<String> {
    read::tests(path, text).map_or_else(Vec::new, |file| {
        file.tests.into_iter().map(|test| test.name).collect()
    })
}

/// Whether a file of tests ends their process on the spot more often than before: then nobody counts what ran.
pub(super) fn ends_the_run(path: &str, before: Option<&str>, after: &str) -> Option<JudgeChange> {
    let new = read::tests(path, after)?;
    let old = before
        .and_then(|before| read::tests(path, before))
        .unwrap_or_default();
    let holds_tests = is_test_path(path) || !new.tests.is_empty();
    (holds_tests && new.exit_count > old.exit_count).then(|| JudgeChange {
        class: Class::TestSkipped,
        path: path.to_owned(),
        line: new.exit_line,
        detail: "the test process can be ended before its tests are counted".to_owned(),
    })
}

/// What became of the tests of one file. `missing` says how many tests of a name the whole change lacks: one that
/// moved to another file is not gone.
pub(super) fn compare(
    path: &str,
    before: &str,
    after: &str,
    missing: &HashMap<String, u32>,
) -> Vec<JudgeChange> {
    let (Some(old), Some(new)) = (read::tests(path, before), read::tests(path, after)) else {
        return Vec::new();
    };
    if old.tests.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut add = |class, line, detail| {
        found.push(JudgeChange {
            class,
            path: path.to_owned(),
            line,
            detail,
        });
    };
    let pairs = pair(&old.tests, &new.tests);
    let mut left: BTreeMap<&str, u32> = BTreeMap::new();
    let gone: Vec<String> = pairs
        .iter()
        .filter(|(_, partner)| partner.is_none())
        .map(|(test, _)| test.name.as_str())
        .filter(|name| {
            let seen = left.entry(name).or_default();
            *seen += 1;
            *seen <= missing.get(*name).copied().unwrap_or(0)
        })
        .map(ToOwned::to_owned)
        .collect();
    if !gone.is_empty() {
        add(
            Class::TestDeleted,
            0,
            format!(
                "{} of {} tests gone: {}",
                gone.len(),
                old.tests.len(),
                list(&gone)
            ),
        );
    }
    if new.skip_count > old.skip_count {
        add(
            Class::TestSkipped,
            new.skip_line,
            "tests of this file are kept from running".to_owned(),
        );
    }
    for (test, partner) in pairs {
        let Some(partner) = partner else { continue };
        if partner.skip_count > test.skip_count {
            add(
                Class::TestSkipped,
                partner.line,
                format!("`{}` is kept from running", test.name),
            );
        }
        if partner.return_count > test.return_count {
            add(
                Class::TestSkipped,
                partner.line,
                format!("`{}` returns early", test.name),
            );
        }
        if let Some(first) = lost(test, partner).first() {
            let verb = if partner.assertions.len() < test.assertions.len() {
                "no longer asserts"
            } else {
                "asserts something else than"
            };
            add(
                Class::TestWeakened,
                partner.line,
                format!("`{}` {verb} `{}`", test.name, shown(&first.text)),
            );
        }
    }
    found
}

/// Every old test with what it is now: the same name in the same place, else the same name, else the same assertions.
fn pair<'a>(old: &'a [Test], new: &'a [Test]) -> Vec<(&'a Test, Option<&'a Test>)> {
    let mut free: Vec<&Test> = new.iter().collect();
    let mut partners: Vec<Option<&Test>> = vec![None; old.len()];
    let rounds: [fn(&Test, &Test) -> bool; 3] = [
        |a, b| a.name == b.name && a.container == b.container,
        |a, b| a.name == b.name,
        |a, b| !a.assertions.is_empty() && lost(a, b).is_empty(),
    ];
    for is_same in rounds {
        for (test, partner) in old.iter().zip(&mut partners) {
            if partner.is_some() {
                continue;
            }
            let nearest = free
                .iter()
                .enumerate()
                .filter(|(_, candidate)| is_same(test, candidate))
                .min_by_key(|(_, candidate)| lost(test, candidate).len())
                .map(|(at, _)| at);
            if let Some(at) = nearest {
                *partner = Some(free.remove(at));
            }
        }
    }
    old.iter().zip(partners).collect()
}

/// Assertions of `old` that `new` has neither word for word nor in essence.
fn lost<'a>(old: &'a Test, new: &Test) -> Vec<&'a Assertion> {
    let mut left: Vec<&Assertion> = new.assertions.iter().collect();
    let mut missing = Vec::new();
    for assertion in &old.assertions {
        match left.iter().position(|other| other.text == assertion.text) {
            Some(at) => {
                left.swap_remove(at);
            }
            None => missing.push(assertion),
        }
    }
    missing.retain(|assertion| {
        match left
            .iter()
            .position(|other| other.essence == assertion.essence)
        {
            Some(at) => {
                left.swap_remove(at);
                false
            }
            None => true,
        }
    });
    missing
}

fn shown(text: &str) -> String {
    const CHARACTERS: usize = 120;
    if text.chars().count() <= CHARACTERS {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(CHARACTERS).collect::<String>())
}

#[cfg(test)]
mod tests;
