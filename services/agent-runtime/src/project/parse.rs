//! Strict YAML: a document becomes exactly the type that was asked for, or an error that names file, line
//! and what was probably meant. Bounded against files made to exhaust a parser.

use serde::de::DeserializeOwned;
use serde_saphyr::{Error as YamlError, MessageFormatter as _, UserMessageFormatter};

/// Largest description that is read, in bytes.
pub(super) const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// How alike two keys must be (Jaro–Winkler, 0 to 1) for one to be offered for the other.
const ALIKE: f64 = 0.75;

/// What is wrong with a project's description of itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {problem}")]
pub struct DescriptionError {
    /// File, relative to the root of the repository.
    pub file: String,
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// What is wrong, one sentence.
    pub problem: String,
}

impl DescriptionError {
    pub(super) fn whole_file(file: &str, problem: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 1,
            column: 1,
            problem: problem.into(),
        }
    }
}

/// Parses `content` of `file`. An empty file is refused: it says nothing, not even its version.
pub(super) fn parse<T: DeserializeOwned>(
    file: &str,
    content: &[u8],
) -> Result<T, DescriptionError> {
    if content.len() > MAX_DOCUMENT_BYTES {
        let problem = format!("is larger than {MAX_DOCUMENT_BYTES} bytes");
        return Err(DescriptionError::whole_file(file, problem));
    }
    let text = std::str::from_utf8(content).map_err(|error| {
        let before = &content[..error.valid_up_to()];
        DescriptionError {
            file: file.to_owned(),
            line: before.split(|byte| *byte == b'\n').count() as u64,
            column: 1,
            problem: "is not UTF-8 text".to_owned(),
        }
    })?;
    if text.trim().is_empty() {
        return Err(DescriptionError::whole_file(
            file,
            "is empty; it begins with `version: 1`",
        ));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 50_000,
            max_nodes: 20_000,
            max_depth: 32,
            max_aliases: 100,
            max_anchors: 100,
            max_documents: 1,
            max_total_scalar_bytes: 4 * MAX_DOCUMENT_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 8,
        },
        merge_keys: serde_saphyr::MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| describe(file, &error))
}

fn describe(file: &str, error: &YamlError) -> DescriptionError {
    let location = error.location();
    DescriptionError {
        file: file.to_owned(),
        line: location.map_or(1, |place| place.line().max(1)),
        column: location.map_or(1, |place| place.column().max(1)),
        problem: problem(error),
    }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's other errors describe themselves, and there are seventy"
)]
fn problem(error: &YamlError) -> String {
    match error {
        YamlError::WithSnippet { error, .. } | YamlError::AliasError { error, .. } => {
            problem(error)
        }
        YamlError::SerdeUnknownField {
            field, expected, ..
        } => {
            format!(
                "unknown key `{}`; {}",
                shown(field),
                suggestion(field, expected)
            )
        }
        YamlError::SerdeUnknownVariant {
            variant, expected, ..
        } => {
            format!(
                "unknown value `{}`; {}",
                shown(variant),
                suggestion(variant, expected)
            )
        }
        YamlError::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
        YamlError::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{}` appears twice", shown(key))
        }
        other => UserMessageFormatter.format_message(other).into_owned(),
    }
}

fn suggestion(given: &str, known: &[&str]) -> String {
    if let Some(nearest) = nearest(given, known) {
        return format!("did you mean `{nearest}`?");
    }
    let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
    if known.is_empty() {
        "nothing is known here".to_owned()
    } else {
        format!("known are {}", known.join(", "))
    }
}

/// The known word that `given` was probably meant to be.
pub(super) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|word| (strsim::jaro_winkler(given, word), *word))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, word)| word)
}

/// What came from a file and goes into a message: short, and nothing that moves a cursor.
fn shown(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(64)
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect();
    if text.chars().nth(64).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use crate::project::{Description, DescriptionError, GatePolicy};

    fn refused(yaml: &str) -> DescriptionError {
        Description::parse(yaml.as_bytes()).expect_err(yaml)
    }

    #[test]
    fn the_example_of_the_documentation_is_understood() {
        let yaml = r#"
version: 1
app:
  start: {command: [python3, -m, shop], port_variable: PORT, environment: {DEBUG: 1}, secrets: [DATABASE_URL]}
  ready: {http: {path: /health, status: 200}, within: 30s}
  stop_within: 10s
  endpoints: [{method: GET, path: /, status: 200, contains: shop}]
dependencies: {command: [pip, install, -r, requirements.txt]}
checks:
  tests: {command: [python3, -m, pytest], timeout: 300s, report: {junit: report.xml}, coverage: {lcov: lcov.info}}
e2e:
  suites: [{name: api, hurl: ["e2e/*.hurl"]}, {name: browser, playwright: e2e, browsers: [chromium]}, {name: other, command: [./smoke], report: {junit: smoke.xml}}]
environments:
  production: {target: process, strategy: blue_green, bake: 5s, drain: 10s, memory_limit: 512MiB, probe: {interval: 1s, timeout: 2s, successes: 2, failures: 3, latency_below: 500ms}, irreversible_migration: true}
"#;
        let description = Description::parse(yaml.as_bytes()).unwrap();
        // What was understood says the same when it is written down and read again.
        let json = serde_json::to_string(&description).unwrap();
        assert_eq!(Description::parse(json.as_bytes()).unwrap(), description);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_nearest_key() {
        let error = refused("version: 1\napp:\n  start:\n    comand: [x]\n");
        assert_eq!((error.line, error.column), (4, 5));
        assert_eq!(
            error.to_string(),
            ".agentic/project.yaml:4:5: unknown key `comand`; did you mean `command`?"
        );
        let error = refused("version: 1\nzzz: 1\n");
        assert_eq!(error.line, 2);
        assert!(
            error.problem.contains("known are `version`, `app`"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_value_is_refused_with_the_nearest_one() {
        let error = refused("version: 1\nenvironments:\n  production:\n    strategy: bluegreen\n");
        assert_eq!(error.line, 4);
        assert!(error.problem.contains("`blue_green`"), "{error}");
        let error =
            GatePolicy::parse(b"version: 1\ngates:\n  - {metric: line_coverage, at_least: 80}\n")
                .unwrap_err();
        assert_eq!(
            (error.file.as_str(), error.line),
            (".agentic/gates.yaml", 3)
        );
        assert!(error.problem.contains("`line_coverage_percent`"), "{error}");
    }

    #[test]
    fn wrong_values_are_refused_where_they_are() {
        for (yaml, line, part) in [
            ("version: 2\n", 1, "version 2"),
            ("app: {}\n", 1, "`version` is missing"),
            ("version: 1\napp:\n  stop_within: 10\n", 3, "unit"),
            ("version: 1\napp:\n  stop_within: [10s]\n", 3, ""),
            (
                "version: 1\napp:\n  ready:\n    tcp: true\n    within: 11m\n",
                4,
                "10m",
            ),
            (
                "version: 1\nchecks:\n  tests:\n    command: pytest\n",
                4,
                "",
            ),
            (
                "version: 1\nchecks:\n  tests:\n    command: [../x]\n",
                4,
                "leaves the repository",
            ),
            (
                "version: 1\nchecks:\n  tests:\n    command: [x]\n    report: {junit: /tmp/x}\n",
                5,
                "relative",
            ),
            (
                "version: 1\napp:\n  ready: {log: '(unclosed'}\n",
                3,
                "regular expression",
            ),
            (
                "version: 1\napp:\n  endpoints:\n    - path: /\n    - path: nowhere\n",
                5,
                "from `/`",
            ),
            ("version: 1\nversion: 1\n", 2, "twice"),
            ("version: 1\napp: {}\napp: {}\n", 3, "twice"),
        ] {
            let error = refused(yaml);
            assert!(error.problem.contains(part), "{yaml}: {error}");
            assert_eq!(error.line, line, "{yaml}: {error}");
        }
    }

    #[test]
    fn rules_between_keys_are_held() {
        for (yaml, part) in [
            (
                "version: 1\napp: {start: {command: [x], url: 'http://a'}}",
                "exactly one",
            ),
            ("version: 1\napp: {start: {url: 'ftp://a'}}", "URL"),
            ("version: 1\napp: {start: {image: '--privileged'}}", "image"),
            (
                "version: 1\napp: {start: {command: [x], environment: {A: b}, secrets: [A]}}",
                "secret",
            ),
            (
                "version: 1\napp: {start: {command: [x], environment: {PORT: 1}}}",
                "PORT",
            ),
            ("version: 1\napp: {ready: {tcp: false}}", "exactly one"),
            (
                "version: 1\ne2e: {suites: [{name: a, command: [x]}, {name: a, command: [y]}]}",
                "two suites",
            ),
            (
                "version: 1\ne2e: {suites: [{name: a, hurl: []}]}",
                "no files",
            ),
            (
                "version: 1\ne2e: {suites: [{name: a, command: [x], browsers: [firefox]}]}",
                "belongs",
            ),
            ("version: 1\nenvironments: {p: {steps: [10]}}", "canary"),
            (
                "version: 1\nenvironments: {p: {strategy: canary, steps: [50, 10]}}",
                "larger",
            ),
            (
                "version: 1\nenvironments: {p: {probe: {successes: 0}}}",
                "1 to 100",
            ),
        ] {
            let error = refused(yaml);
            assert!(error.problem.contains(part), "{yaml}: {error}");
        }
        for (yaml, part) in [
            (
                "version: 1\ngates: [{metric: line_coverage_percent, at_least: 101}]",
                "0 to 100",
            ),
            (
                "version: 1\ngates: [{metric: new_secret_count, at_most: -1}]",
                "0 or more",
            ),
            (
                "version: 1\ngates: [{metric: new_secret_count, at_most: .nan}]",
                "0 or more",
            ),
            (
                "version: 1\ngates: [{metric: new_secret_count, at_most: 1, minimum_lines: 3}]",
                "belongs",
            ),
            (
                "version: 1\nwaivers: [{finding: a, owner: b, reason: c, until: 2027-02-30}]",
                "date",
            ),
        ] {
            let error = GatePolicy::parse(yaml.as_bytes()).expect_err(yaml);
            assert!(error.problem.contains(part), "{yaml}: {error}");
        }
    }

    #[test]
    fn hostile_documents_are_refused_quickly() {
        let deep = format!(
            "version: 1\napp: {}{}",
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        let mut bomb = String::from("version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..20 {
            let alias = format!("*a{}", level - 1);
            let line = format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", "));
            bomb.push_str(&line);
        }
        let aliased = format!(
            "version: 1\nchecks:\n  a: &a {{command: [x]}}\n{}",
            (0..1000)
                .map(|n| format!("  b{n}: *a\n"))
                .collect::<Vec<_>>()
                .concat()
        );
        let huge = format!("version: 1\n#{}\n", "x".repeat(1 << 20));
        let started = std::time::Instant::now();
        for yaml in [
            deep.as_str(),
            bomb.as_str(),
            aliased.as_str(),
            huge.as_str(),
            "",
            "  \n",
            "- 1",
            "version: 1\n---\nversion: 1\n",
            "version: 1\n<<: {app: {}}\n",
            "version: !!python/object:os.system 1\n",
            "{{{{{",
            "\u{0}",
        ] {
            let error = refused(yaml);
            assert!(error.line >= 1 && error.problem.len() < 2000, "{error}");
        }
        assert!(
            Description::parse(b"version: 1\n\xff\xfe")
                .unwrap_err()
                .problem
                .contains("UTF-8")
        );
        assert!(started.elapsed().as_secs() < 10);
    }

    #[test]
    fn messages_carry_no_control_characters_from_the_file() {
        let error = refused("version: 1\n\"\\e[2Jx\": 1\n");
        assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
    }
}
