//! Cuts a text into its tests: where each begins and ends, what it asserts, and whether it runs.

use super::language::{self, Forms, LITERAL};

/// Longest assertion that is read, in lines.
const ASSERTION_LINES: usize = 40;

/// One test.
#[derive(Debug, Default)]
pub(super) struct Test {
    /// Its name.
    pub(super) name: String,
    /// Class, module or block that it stands in.
    pub(super) container: String,
    /// Line, from 1.
    pub(super) line: u32,
    /// What it asserts, in order.
    pub(super) assertions: Vec<Assertion>,
    /// What keeps it from running: on it, in it, or on what it stands in.
    pub(super) skip_count: u32,
    /// Bare returns: an early one ends the test before it asserts anything.
    pub(super) return_count: u32,
}

/// One assertion.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assertion {
    /// On one line.
    pub(super) text: String,
    /// What is compared and with what, without the names of what is under test.
    pub(super) essence: (String, Vec<String>),
}

/// The tests of one file.
#[derive(Debug, Default)]
pub(super) struct TestFile {
    /// In order.
    pub(super) tests: Vec<Test>,
    /// What keeps tests from running and belongs to no single one.
    pub(super) skip_count: u32,
    /// Where the last such thing stands.
    pub(super) skip_line: u32,
    /// Calls that end the test process on the spot.
    pub(super) exit_count: u32,
    /// Where the last of them stands.
    pub(super) exit_line: u32,
}

/// Reads a text; none when the language is not known.
pub(super) fn tests(path: &str, text: &str) -> Option<TestFile> {
    let forms = language::of(path)?;
    let lines: Vec<&str> = text.lines().collect();
    let mut reading = Reading {
        forms,
        is_rust: path
            .rsplit_once('.')
            .is_some_and(|(_, extension)| extension == "rs"),
        is_python: path
            .rsplit_once('.')
            .is_some_and(|(_, extension)| extension == "py"),
        file: TestFile::default(),
        containers: Vec::new(),
        open: None,
        pending_skips: 0,
        pending_line: 0,
        attribute_lines: 0,
        is_marked: false,
    };
    for (at, line) in lines.iter().enumerate() {
        reading.line(line, at as u32 + 1, lines.get(at..).unwrap_or_default());
    }
    reading.settle_pending();
    Some(reading.file)
}

struct Container {
    indent: usize,
    name: String,
    skip_count: u32,
}

struct Reading {
    forms: &'static Forms,
    is_rust: bool,
    is_python: bool,
    file: TestFile,
    containers: Vec<Container>,
    /// Indentation of the test that is being read.
    open: Option<usize>,
    /// Skips on decorators and attributes, for what follows.
    pending_skips: u32,
    pending_line: u32,
    /// Lines of a decorator or attribute that are still to come.
    attribute_lines: usize,
    /// An attribute said that a test follows.
    is_marked: bool,
}

impl Reading {
    fn line(&mut self, line: &str, number: u32, rest: &[&str]) {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            return;
        }
        let indent = line.len() - line.trim_start().len();
        self.close(trimmed, indent);
        let is_attribute =
            self.attribute_lines > 0 || trimmed.starts_with('@') || trimmed.starts_with("#[");
        if is_attribute {
            self.attribute_lines = match self.attribute_lines {
                0 => statement_lines(rest) - 1,
                more => more - 1,
            };
        }
        let is_comment =
            trimmed.starts_with("//") || (trimmed.starts_with('#') && !trimmed.starts_with("#["));
        if is_comment && !trimmed.starts_with("//go:build") && !trimmed.starts_with("// +build") {
            return;
        }
        if self.forms.exit.is_match(line) {
            self.file.exit_count += 1;
            self.file.exit_line = number;
        }
        self.is_marked |= self.is_rust && is_test_attribute(trimmed);
        let skips = u32::from(self.forms.skip.is_match(line) && !self.runs_alone(line, number));
        if let Some(captures) = self.forms.container.captures(line) {
            let name = captures.get(1).map_or("", |name| name.as_str()).to_owned();
            let inherited = self
                .containers
                .last()
                .map_or(0, |container| container.skip_count);
            let skip_count = inherited + skips + std::mem::take(&mut self.pending_skips);
            self.containers.push(Container {
                indent,
                name,
                skip_count,
            });
            return;
        }
        if let Some(name) = self.test_name(line) {
            self.begin(name, indent, number, skips);
            self.assertion(line, rest);
            return;
        }
        if is_attribute {
            self.pending_skips += skips;
            self.pending_line = number;
            return;
        }
        self.settle_pending();
        let Some(test) = self.open.and_then(|_| self.file.tests.last_mut()) else {
            if skips > 0 {
                self.file.skip_count += skips;
                self.file.skip_line = number;
            }
            return;
        };
        test.skip_count += skips;
        test.return_count += u32::from(matches!(trimmed, "return" | "return;"));
        self.assertion(line, rest);
    }

    /// Ends tests and containers that a line stands outside of.
    fn close(&mut self, trimmed: &str, indent: usize) {
        let is_outside = |begin: usize| {
            if self.is_python {
                let starts = ["def ", "class ", "async ", "@", "if __name__"];
                indent <= begin && starts.iter().any(|start| trimmed.starts_with(start))
            } else {
                indent < begin || (indent == begin && !trimmed.starts_with([')', ']']))
            }
        };
        if self.open.is_some_and(is_outside) {
            self.open = None;
        }
        while self
            .containers
            .last()
            .is_some_and(|container| is_outside(container.indent))
        {
            self.containers.pop();
        }
    }

    fn test_name(&self, line: &str) -> Option<String> {
        if self.is_rust && !self.is_marked {
            return None;
        }
        let captures = self.forms.test.captures(line)?;
        captures
            .iter()
            .skip(1)
            .flatten()
            .next()
            .map(|name| name.as_str().to_owned())
    }

    fn begin(&mut self, name: String, indent: usize, line: u32, skips: u32) {
        let container: Vec<&str> = self
            .containers
            .iter()
            .map(|container| container.name.as_str())
            .collect();
        let inherited = self
            .containers
            .last()
            .map_or(0, |container| container.skip_count);
        self.file.tests.push(Test {
            name,
            container: container.join("::"),
            line,
            skip_count: inherited + skips + std::mem::take(&mut self.pending_skips),
            ..Test::default()
        });
        self.open = Some(indent);
        self.is_marked = false;
    }

    /// One that runs alone keeps all others from running, and is itself run.
    fn runs_alone(&mut self, line: &str, number: u32) -> bool {
        let forms = [".only(", ".only`", "fit(", "fdescribe(", "only: true"];
        let alone = forms.iter().any(|form| line.contains(form)) && self.forms.skip.is_match(line);
        if alone {
            self.file.skip_count += 1;
            self.file.skip_line = number;
        }
        alone
    }

    /// Attributes that no test follows belong to the file.
    fn settle_pending(&mut self) {
        let skips = std::mem::take(&mut self.pending_skips);
        if skips > 0 {
            self.file.skip_count += skips;
            self.file.skip_line = self.pending_line;
        }
    }

    fn assertion(&mut self, line: &str, rest: &[&str]) {
        let Some(test) = self.open.and_then(|_| self.file.tests.last_mut()) else {
            return;
        };
        if self.forms.assertion.is_match(line) {
            let statement = statement(rest);
            let essence = essence(&statement);
            test.assertions.push(Assertion {
                text: statement,
                essence,
            });
        }
    }
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

/// One statement, on one line.
fn statement(lines: &[&str]) -> String {
    let own = lines.get(..statement_lines(lines)).unwrap_or_default();
    own.iter()
        .flat_map(|line| line.split_whitespace())
        .collect::<Vec<_>>()
        .join(" ")
}

/// How many lines a statement has, at least one: up to where its brackets close. Brackets in texts do not count.
fn statement_lines(lines: &[&str]) -> usize {
    let mut depth = 0_i64;
    for (at, line) in lines.iter().take(ASSERTION_LINES).enumerate() {
        let mut quote = None;
        let mut is_escaped = false;
        for character in line.chars() {
            match (quote, character) {
                _ if is_escaped => is_escaped = false,
                (Some(_), '\\') => is_escaped = true,
                (Some(open), close) if open == close => quote = None,
                (None, '"' | '\'' | '`') => quote = Some(character),
                (None, '(' | '[' | '{') => depth += 1,
                (None, ')' | ']' | '}') => depth -= 1,
                (Some(_) | None, _) => {}
            }
        }
        if depth <= 0 && !line.trim_end().ends_with('\\') {
            return at + 1;
        }
    }
    lines.len().clamp(1, ASSERTION_LINES)
}

fn essence(text: &str) -> (String, Vec<String>) {
    let kind: String = text
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
                .find_iter(text)
                .map(|found| found.as_str().to_owned())
                .collect()
        })
        .unwrap_or_default();
    essence.extend(
        operators
            .iter()
            .filter(|operator| text.contains(*operator))
            .map(|o| (*o).to_owned()),
    );
    // `expect(x).toBe(1)`: the matcher is part of the kind.
    let matcher = text
        .rsplit_once(").")
        .map(|(_, rest)| rest.split('(').next().unwrap_or_default());
    (format!("{kind} {}", matcher.unwrap_or_default()), essence)
}
