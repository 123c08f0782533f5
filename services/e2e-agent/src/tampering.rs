//! Whether a change touches the suites that judge it: end-to-end tests deleted, skipped or weakened. It only
//! points; a person decides.

use std::collections::BTreeMap;

use agent_runtime::{
    project::{FilePattern, Suite, SuiteBy},
    repository::{ChangeKind, CommitId, Error, Repository, TreePath},
};

/// Most changed test files that are read.
const MAX_FILES: usize = 500;

/// Marks that leave tests out, or all others out.
const SKIPPING: [&str; 12] = [
    ".skip(",
    ".only(",
    ".fixme(",
    "test.fail(",
    "xit(",
    "xtest(",
    "xdescribe(",
    "mark.skip",
    "mark.xfail",
    "pytest.skip(",
    "unittest.skip",
    "skip: true",
];

/// Beginnings of lines that hold an expectation in tests of many languages.
const EXPECTING: [&str; 9] = [
    "expect(",
    "await expect",
    "assert",
    "self.assert",
    "test(",
    "it(",
    "def test_",
    "async def test_",
    "func Test",
];

/// What the change did to its own judges, one sentence each.
pub async fn find(
    repository: &Repository,
    base: CommitId,
    head: CommitId,
    suites: &[Suite],
) -> Result<Vec<String>, Error> {
    let scopes: Vec<Scope> = suites.iter().map(Scope::of).collect();
    if scopes.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let changed = repository.changed_paths(Some(base), head).await?;
    for change in changed.into_iter().take(MAX_FILES * 20) {
        let old = change.old_path.as_ref().unwrap_or(&change.path);
        let Some(old) = old.to_str() else { continue };
        let Some(scope) = scopes.iter().find(|scope| scope.covers(old)) else {
            continue;
        };
        if found.len() >= MAX_FILES {
            break;
        }
        let moved_out = change.kind == ChangeKind::Renamed
            && change.path.to_str().is_none_or(|path| !scope.covers(path));
        match change.kind {
            ChangeKind::Added => {}
            ChangeKind::Deleted => found.push(format!("`{old}` is deleted")),
            ChangeKind::Renamed if moved_out => {
                found.push(format!("`{old}` is moved out of its suite"));
            }
            ChangeKind::TypeChanged => found.push(format!("`{old}` is no plain file any more")),
            ChangeKind::Modified | ChangeKind::Renamed => {
                let before = text(repository, base, old).await?;
                let after = text(repository, head, &change.path.to_string_lossy()).await?;
                if let Some(problem) = compare(&before, &after, scope.is_hurl()) {
                    found.push(format!("`{old}` {problem}"));
                }
            }
        }
    }
    Ok(found)
}

enum Scope<'a> {
    Hurl(&'a [FilePattern]),
    Folder(&'a str),
    Files(Vec<String>),
}

impl<'a> Scope<'a> {
    fn of(suite: &'a Suite) -> Self {
        match &suite.by {
            SuiteBy::Hurl(patterns) => Self::Hurl(patterns),
            SuiteBy::Playwright { folder, .. } => Self::Folder(folder.as_str()),
            // Whatever argument names a file of the repository is part of the judge.
            SuiteBy::Command { argv, .. } => Self::Files(
                argv.as_slice()
                    .iter()
                    .map(|argument| argument.trim_start_matches("./").to_owned())
                    .collect(),
            ),
        }
    }

    fn covers(&self, path: &str) -> bool {
        let below = |folder: &str| {
            path.strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        match self {
            Self::Hurl(patterns) => patterns.iter().any(|pattern| pattern.matches(path)),
            Self::Folder(folder) => *folder == "." || below(folder),
            Self::Files(files) => files
                .iter()
                .any(|file| file == path || (!file.is_empty() && below(file))),
        }
    }

    fn is_hurl(&self) -> bool {
        matches!(self, Self::Hurl(_))
    }
}

async fn text(repository: &Repository, commit: CommitId, path: &str) -> Result<String, Error> {
    let bytes = repository
        .read_file(commit, &TreePath::parse(path)?)
        .await?;
    Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
}

/// What is weaker afterwards, if anything is.
fn compare(before: &str, after: &str, hurl: bool) -> Option<String> {
    let marks = |text: &str| {
        SKIPPING
            .iter()
            .map(|mark| text.matches(mark).count())
            .sum::<usize>()
    };
    if marks(after) > marks(before) {
        return Some("leaves tests out that it ran before".to_owned());
    }
    let expectations = if hurl {
        hurl_expectations
    } else {
        code_expectations
    };
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for line in expectations(after) {
        *left.entry(line).or_default() += 1;
    }
    let missing = expectations(before)
        .into_iter()
        .find(|line| match left.get_mut(line) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            Some(_) | None => true,
        });
    missing.map(|line| format!("no longer says `{line}`"))
}

fn code_expectations(text: &str) -> Vec<&str> {
    text.lines()
        .map(str::trim)
        .filter(|line| EXPECTING.iter().any(|begin| line.starts_with(begin)))
        .collect()
}

/// Requests, response lines and everything below `[Asserts]`.
fn hurl_expectations(text: &str) -> Vec<&str> {
    const METHODS: [&str; 7] = [
        "GET ", "POST ", "PUT ", "DELETE ", "PATCH ", "HEAD ", "OPTIONS ",
    ];
    let mut in_asserts = false;
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter(|line| {
            let begins =
                line.starts_with("HTTP") || METHODS.iter().any(|method| line.starts_with(method));
            if begins {
                in_asserts = false;
            } else if line.starts_with('[') {
                in_asserts = *line == "[Asserts]";
                return false;
            }
            begins || in_asserts
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HURL: &str = "GET {{base_url}}/\nHTTP 200\n[Asserts]\nbody contains \"shop\"\n";

    #[test]
    fn hurl_files_are_weaker_when_an_assertion_is_gone_or_changed() {
        for after in [
            "GET {{base_url}}/\nHTTP 200\n",
            "GET {{base_url}}/\nHTTP *\n[Asserts]\nbody contains \"shop\"\n",
            "GET {{base_url}}/\nHTTP 200\n[Asserts]\nbody contains \"\"\n",
            "GET {{base_url}}/\n[Options]\nskip: true\nHTTP 200\n[Asserts]\nbody contains \"shop\"\n",
            "",
        ] {
            assert!(compare(HURL, after, true).is_some(), "{after}");
        }
        let stronger =
            format!("# more\n{HURL}header \"a\" == \"b\"\n\nGET {{{{base_url}}}}/x\nHTTP 404\n");
        assert_eq!(compare(HURL, &stronger, true), None);
    }

    #[test]
    fn code_is_weaker_when_an_expectation_is_gone_or_a_test_is_left_out() {
        let before =
            "test('a', async ({ page }) => {\n  await expect(page).toHaveTitle('shop');\n});\n";
        assert!(
            compare(
                before,
                &before.replace("await expect", "// await expect"),
                false
            )
            .is_some()
        );
        assert!(compare(before, &before.replace("test(", "test.skip("), false).is_some());
        assert!(compare(before, "", false).is_some());
        assert_eq!(
            compare(
                before,
                &format!("// note\n{before}\ntest('b', x);\n"),
                false
            ),
            None
        );
    }
}
