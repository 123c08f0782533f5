//! Reads tests and assertions out of source text well enough to see which are gone, skipped, or ask for something
//! else. A reading of common forms in five languages, no parser; what it does not recognise it does not report.

use std::{
    collections::{BTreeMap, HashSet},
    sync::LazyLock,
};

use regex::Regex;

use super::{Class, JudgeChange, list};

/// Longest assertion that is read, in lines.
const ASSERTION_LINES: usize = 40;

struct Language {
    extensions: &'static [&'static str],
    /// Where a test begins; its name is the first group.
    test: &'static str,
    /// Where an assertion begins.
    assertion: &'static str,
    /// What keeps a test from running.
    skip: &'static str,
}

const LANGUAGES: &[Language] = &[
    Language {
        extensions: &["py"],
        test: r"^\s*(?:async\s+)?def\s+(test\w*)\s*\(",
        assertion: r"^\s*(?:assert\b|with\s+(?:pytest\.raises|self\.assert\w+)|(?:self|cls)\.(?:assert\w+|fail)\s*\(|pytest\.fail\b)",
        skip: r"@\s*(?:unittest\.)?(?:skip\w*|expectedFailure)\b|\bpytest\.(?:mark\.(?:skip|skipif|xfail)|skip|xfail|importorskip)\b|\bself\.skipTest\b|\bSkipTest\b|__test__\s*=\s*False|collect_ignore",
    },
    Language {
        extensions: &["rs"],
        test: r"^\s*(?:pub\s+)?(?:async\s+)?fn\s+(\w+)\s*\(",
        assertion: r"(?:^|\s)(?:debug_)?(?:assert|assert_eq|assert_ne|assert_matches|prop_assert\w*|panic|unreachable)!\s*[\(\[{]|#\[should_panic|\binsta::assert\w*!",
        skip: r"#\[ignore|#\[cfg_attr\([^)]*ignore|#\[cfg\((?:any\(\)|not\(test\))\)\]",
    },
    Language {
        extensions: &["js", "mjs", "cjs", "ts", "mts", "cts", "jsx", "tsx"],
        test: r#"^\s*(?:await\s+)?(?:test|it|specify|t\.test|Deno\.test)(?:\.\w+)*\s*\(\s*(?:"([^"]*)"|'([^']*)'|`([^`]*)`)"#,
        assertion: r"(?:^|\s|=>\s*|\()(?:await\s+)?(?:expect\s*\(|assert(?:\.\w+)*\s*\(|t\.(?:is|not|equal|same|deepEqual|true|false|truthy|falsy|throws|ok|assert\.\w+)\s*\(|should\.)|\.should\.",
        skip: r"\b(?:test|it|describe|suite|specify|context)\.(?:skip|todo|only|failing|fails)\b|\bx(?:it|describe|test|specify)\s*\(|\bf(?:it|describe)\s*\(|\bskip\s*:\s*(?:true|['\x22`])|\btodo\s*:\s*(?:true|['\x22`])|\bonly\s*:\s*true|\b(?:t|this)\.skip\s*\(",
    },
    Language {
        extensions: &["go"],
        test: r"^func\s+((?:Test|Fuzz|Example)\w*)\s*\(",
        assertion: r"\b\w+\.(?:Error|Errorf|Fatal|Fatalf|Fail|FailNow)\s*\(|\b(?:require|assert)\.\w+\s*\(",
        skip: r"\b\w+\.(?:Skip|Skipf|SkipNow)\s*\(|^//go:build\s+ignore|^//\s*\+build\s+ignore",
    },
    Language {
        extensions: &["java", "kt", "cs", "rb", "php", "swift", "scala"],
        test: r#"^\s*(?:public\s+|private\s+)?(?:void|fun|func|function|def|async Task|Task)\s+(test\w*|`[^`]+`)\s*\(|^\s*(?:it|test)\s+["']([^"']+)["']"#,
        assertion: r"(?:^|\s)(?:Assert(?:ions)?\.\w+|assert\w*|verify|expect|XCTAssert\w*|\$this->assert\w+)\s*[\( ]",
        skip: r"@(?:Disabled|Ignore|Ignored)\b|\[Ignore|\[Fact\(Skip|\bxit\b|\bpending\b|markTestSkipped|XCTSkip",
    },
];

struct Reader {
    extensions: &'static [&'static str],
    test: Regex,
    assertion: Regex,
    skip: Regex,
}

static READERS: LazyLock<Vec<Reader>> = LazyLock::new(|| {
    LANGUAGES
        .iter()
        .filter_map(|language| {
            Some(Reader {
                extensions: language.extensions,
                test: Regex::new(language.test).ok()?,
                assertion: Regex::new(language.assertion).ok()?,
                skip: Regex::new(language.skip).ok()?,
            })
        })
        .collect()
});

static LITERAL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|\b\d[\d_]*(?:\.\d+)?\b|\b(?:True|False|None|true|false|null|nil|undefined)\b"#).ok()
});

#[derive(Default)]
struct Test {
    line: u32,
    assertions: Vec<Assertion>,
    /// Bare returns: an early one ends the test before it asserts anything.
    return_count: u32,
}

#[derive(Clone, PartialEq, Eq)]
struct Assertion {
    line: u32,
    text: String,
}

impl Assertion {
    /// What is compared and with what, without the names of what is under test.
    fn essence(&self) -> (String, Vec<String>) {
        let kind: String = self
            .text
            .chars()
            .take_while(|c| !matches!(c, '(' | ' ' | '[' | '{'))
            .collect();
        let operators = [
            "==", "!=", "<=", ">=", " < ", " > ", " not ", " in ", " is ", " and ", " or ",
        ];
        let mut essence: Vec<String> = LITERAL
            .as_ref()
            .map(|literal| {
                literal
                    .find_iter(&self.text)
                    .map(|found| found.as_str().to_owned())
                    .collect()
            })
            .unwrap_or_default();
        essence.extend(
            operators
                .iter()
                .filter(|operator| self.text.contains(*operator))
                .map(|o| (*o).to_owned()),
        );
        // `expect(x).toBe(1)`: the matcher is part of the kind.
        let matcher = self
            .text
            .rsplit_once(").")
            .map(|(_, rest)| rest.split('(').next().unwrap_or_default());
        (format!("{kind} {}", matcher.unwrap_or_default()), essence)
    }
}

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

/// Names of the tests in a text.
pub(super) fn names(path: &str, text: &str) -> Vec<String> {
    let Some(reader) = reader(path) else {
        return Vec::new();
    };
    tests(reader, path, text).into_keys().collect()
}

/// What became of the tests of one file.
pub(super) fn compare(
    path: &str,
    before: &str,
    after: &str,
    appeared: &HashSet<String>,
) -> Vec<JudgeChange> {
    let Some(reader) = reader(path) else {
        return Vec::new();
    };
    let (old, new) = (tests(reader, path, before), tests(reader, path, after));
    if old.is_empty() {
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
    let gone: Vec<String> = old
        .keys()
        .filter(|name| !new.contains_key(*name) && !appeared.contains(*name))
        .cloned()
        .collect();
    // A renamed test is there under another name with all it asked for.
    let renamed = |name: &String| {
        let Some(test) = old.get(name) else {
            return false;
        };
        !test.assertions.is_empty()
            && new.iter().any(|(other, candidate)| {
                !old.contains_key(other) && lost(test, candidate).is_empty()
            })
    };
    let gone: Vec<String> = gone.into_iter().filter(|name| !renamed(name)).collect();
    if !gone.is_empty() {
        add(
            Class::TestDeleted,
            0,
            format!(
                "{} of {} tests gone: {}",
                gone.len(),
                old.len(),
                list(&gone)
            ),
        );
    }
    let skips = |text: &str| {
        text.lines()
            .filter(|line| reader.skip.is_match(line))
            .count()
    };
    if skips(after) > skips(before) {
        let known: HashSet<&str> = before.lines().map(str::trim).collect();
        let line = after
            .lines()
            .position(|line| reader.skip.is_match(line) && !known.contains(line.trim()))
            .map_or(0, |at| at as u32 + 1);
        add(
            Class::TestSkipped,
            line,
            "a test is kept from running".to_owned(),
        );
    }
    for (name, test) in &old {
        let Some(candidate) = new.get(name) else {
            continue;
        };
        if candidate.return_count > test.return_count {
            add(
                Class::TestSkipped,
                candidate.line,
                format!("`{name}` returns early"),
            );
        }
        let lost = lost(test, candidate);
        if let Some(first) = lost.first() {
            let line = if candidate.line > 0 {
                candidate.line
            } else {
                first.line
            };
            let detail = if candidate.assertions.len() < test.assertions.len() {
                format!("`{name}` no longer asserts `{}`", shown(&first.text))
            } else {
                format!(
                    "`{name}` asserts something else than `{}`",
                    shown(&first.text)
                )
            };
            add(Class::TestWeakened, line, detail);
        }
    }
    found
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
            .position(|other| other.essence() == assertion.essence())
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

fn reader(path: &str) -> Option<&'static Reader> {
    let extension = path.rsplit_once('.')?.1;
    READERS
        .iter()
        .find(|reader| reader.extensions.contains(&extension))
}

fn tests(reader: &Reader, path: &str, text: &str) -> BTreeMap<String, Test> {
    let is_rust = path
        .rsplit_once('.')
        .is_some_and(|(_, extension)| extension == "rs");
    let lines: Vec<&str> = text.lines().collect();
    let mut tests: BTreeMap<String, Test> = BTreeMap::new();
    let mut current: Option<String> = None;
    let mut attribute = false;
    for (at, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        if is_rust && is_test_attribute(trimmed) {
            attribute = true;
            current = None;
        }
        let name = reader.test.captures(line).and_then(|captures| {
            captures
                .iter()
                .skip(1)
                .flatten()
                .next()
                .map(|name| name.as_str().to_owned())
        });
        if let Some(name) = name
            && (!is_rust || attribute)
        {
            attribute = false;
            // The same name in another class or module is another test.
            let mut unique = name.clone();
            let mut count = 1;
            while tests.contains_key(&unique) {
                count += 1;
                unique = format!("{name}#{count}");
            }
            tests.insert(
                unique.clone(),
                Test {
                    line: at as u32 + 1,
                    ..Test::default()
                },
            );
            current = Some(unique);
        }
        if let Some(test) = current.as_ref().and_then(|name| tests.get_mut(name))
            && matches!(trimmed.trim_end(), "return" | "return;")
        {
            test.return_count += 1;
        }
        let is_comment =
            trimmed.starts_with("//") || (trimmed.starts_with('#') && !trimmed.starts_with("#["));
        if let Some(test) = current.as_ref().and_then(|name| tests.get_mut(name))
            && !is_comment
            && reader.assertion.is_match(line)
        {
            let text = statement(lines.get(at..).unwrap_or_default());
            test.assertions.push(Assertion {
                line: at as u32 + 1,
                text,
            });
        }
    }
    tests
}

/// `#[test]`, `#[tokio::test]`, `#[rstest]`, `#[test_case(…)]` and their like.
fn is_test_attribute(line: &str) -> bool {
    line.strip_prefix("#[")
        .map(|rest| rest.split(['(', ']']).next().unwrap_or_default().trim())
        .is_some_and(|name| {
            name == "test"
                || name.ends_with("::test")
                || matches!(name, "rstest" | "test_case" | "quickcheck" | "proptest")
        })
}

/// One statement, on one line: up to where its brackets close.
fn statement(lines: &[&str]) -> String {
    let mut text = String::new();
    let mut depth = 0_i64;
    for line in lines.iter().take(ASSERTION_LINES) {
        for character in line.chars() {
            match character {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            }
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(line.trim());
        if depth <= 0 && !line.trim_end().ends_with('\\') {
            break;
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
