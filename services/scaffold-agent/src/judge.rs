//! What of a change touches its own judge: gate policy, CI, the configuration of test runners, and tests that are
//! gone, skipped or assert less. Whether that is right is for a person to say.

use agent_runtime::repository::{ChangeKind, ChangedPath, Error, TreePath};

use crate::{publication::kind_of, source::Source};

/// Folders whose every file judges changes.
const FOLDERS: [&str; 6] = [
    ".agentic",
    ".github",
    ".gitlab",
    ".circleci",
    ".buildkite",
    ".config",
];
/// Files that judge changes, wherever they are.
const FILES: [&str; 24] = [
    ".gitlab-ci.yml",
    "Jenkinsfile",
    "azure-pipelines.yml",
    ".travis.yml",
    "bitbucket-pipelines.yml",
    "conftest.py",
    "sitecustomize.py",
    "usercustomize.py",
    "pytest.ini",
    "tox.ini",
    "setup.cfg",
    ".coveragerc",
    "noxfile.py",
    "jest.config.js",
    "jest.config.ts",
    "vitest.config.js",
    "vitest.config.ts",
    ".mocharc.json",
    ".nycrc",
    "codecov.yml",
    "tarpaulin.toml",
    "playwright.config.js",
    "playwright.config.ts",
    "Makefile",
];
/// Words that a check is made of.
const ASSERTIONS: [&str; 5] = ["assert", "expect(", "should", "require.", "t.Error"];
/// Words that take a test out.
const SKIPS: [&str; 10] = [
    "#[ignore",
    "skip",
    "xfail",
    ".only(",
    "xit(",
    "xdescribe(",
    "todo(",
    "t.Skip",
    "should_panic",
    "@Disabled",
];

/// One file that touches the judge, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// Which file.
    pub path: String,
    /// What about it.
    pub what: &'static str,
}

/// What of a change touches its judge. A new project brings its own judge, so there only what was there counts.
pub async fn touches(
    before: &Source,
    after: &Source,
    changed: &[ChangedPath],
    is_new_project: bool,
) -> Result<Vec<Touch>, Error> {
    let mut found = Vec::new();
    for change in changed {
        if is_new_project && change.kind == ChangeKind::Added {
            continue;
        }
        let path = change.path.display().to_string();
        let old = change
            .old_path
            .as_ref()
            .map_or_else(|| path.clone(), |old| old.display().to_string());
        let what = if judges(&path) || judges(&old) {
            Some("decides whether changes are good")
        } else if kind_of(&old) == "test" {
            test_touch(before, after, change, &old).await?
        } else {
            None
        };
        found.extend(what.map(|what| Touch { path, what }));
    }
    Ok(found)
}

fn judges(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    (path.contains('/') && FOLDERS.contains(&first)) || FILES.contains(&name)
}

async fn test_touch(
    before: &Source,
    after: &Source,
    change: &ChangedPath,
    old: &str,
) -> Result<Option<&'static str>, Error> {
    match change.kind {
        ChangeKind::Added => return Ok(None),
        ChangeKind::Deleted => return Ok(Some("is a test that is gone")),
        ChangeKind::TypeChanged => return Ok(Some("is a test that became something else")),
        ChangeKind::Modified | ChangeKind::Renamed => {}
    }
    let (old, new) = (text(before, old).await?, text(after, &change.path).await?);
    let fewer = |words: &[&str]| count(&new, words) < count(&old, words);
    let more = |words: &[&str]| count(&new, words) > count(&old, words);
    Ok(if fewer(&ASSERTIONS) {
        Some("is a test that asserts less")
    } else if more(&SKIPS) {
        Some("is a test that skips more")
    } else {
        None
    })
}

async fn text(source: &Source, path: impl AsRef<std::path::Path>) -> Result<String, Error> {
    let content = match TreePath::parse(path) {
        Ok(path) => source.content(&path).await?,
        Err(_) => None,
    };
    Ok(String::from_utf8_lossy(&content.unwrap_or_default()).into_owned())
}

fn count(text: &str, words: &[&str]) -> usize {
    text.lines()
        .filter(|line| words.iter().any(|word| line.contains(word)))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_judge_are_known() {
        for path in [
            ".agentic/gates.yaml",
            ".github/workflows/ci.yaml",
            "tests/conftest.py",
            "Jenkinsfile",
            "setup.cfg",
        ] {
            assert!(judges(path), "{path}");
        }
        for path in [
            "src/agentic/x",
            "app/server.py",
            "github/x",
            ".githubx/y",
            "README.md",
        ] {
            assert!(!judges(path), "{path}");
        }
    }
}
