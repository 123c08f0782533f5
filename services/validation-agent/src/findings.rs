//! Findings: single problems with rule and place, and what makes two of them the same one although lines moved.
//! Reads the common text forms of linters. Knows no tool's options and no policy.

use std::{collections::HashMap, sync::LazyLock};

use regex::Regex;
use sha2::{Digest, Sha256};

/// Findings that one check reports at most.
pub const MAXIMUM_FINDINGS: usize = 200;
/// Longest message, in characters.
const MESSAGE_CHARACTERS: usize = 1_000;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For information.
    Note,
    /// Should be looked at.
    Warning,
    /// Wrong.
    Error,
    /// Wrong and dangerous.
    Critical,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule found it.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence.
    pub message: String,
    /// File, relative to the root of the repository; empty: none.
    pub path: String,
    /// Line, from 1; 0: none.
    pub line: u32,
    /// The same for the same problem, also when lines move.
    pub fingerprint: String,
    /// Tool that found it.
    pub tool: String,
    /// Whether the base does not have it.
    pub is_new: bool,
    /// Who waived it, why, until when.
    pub waiver: Option<String>,
}

impl Finding {
    /// A finding whose snippet is the line that it stands on, or its message where there is no line.
    pub fn new(tool: &str, rule: &str, severity: Severity, message: &str) -> Self {
        Self {
            rule: rule.to_owned(),
            severity,
            message: message.chars().take(MESSAGE_CHARACTERS).collect(),
            path: String::new(),
            line: 0,
            fingerprint: fingerprint(rule, "", message),
            tool: tool.to_owned(),
            is_new: true,
            waiver: None,
        }
    }

    /// At a place; `snippet` is the source there.
    #[must_use]
    pub fn at(mut self, path: &str, line: u32, snippet: Option<&str>) -> Self {
        path.clone_into(&mut self.path);
        self.line = line;
        self.fingerprint = fingerprint(&self.rule, path, snippet.unwrap_or(&self.message));
        self
    }
}

/// Digest of rule, path and snippet; white space does not count.
pub fn fingerprint(rule: &str, path: &str, snippet: &str) -> String {
    let snippet = snippet.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut hash = Sha256::new();
    for part in [rule, path, &snippet] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut digest = hex::encode(hash.finalize());
    digest.truncate(32);
    digest
}

/// Marks what the base has already: as often as the base has it.
pub fn compare_with_base(head: &mut [Finding], base: &[Finding]) {
    let mut known: HashMap<&str, usize> = HashMap::new();
    for finding in base {
        *known.entry(&finding.fingerprint).or_default() += 1;
    }
    for finding in head {
        match known.get_mut(finding.fingerprint.as_str()) {
            Some(count) if *count > 0 => {
                *count -= 1;
                finding.is_new = false;
            }
            _ => finding.is_new = true,
        }
    }
}

struct Forms {
    /// `path:line:column: message`, `path:line: message`
    colons: Option<Regex>,
    /// `path(line,column): error TS1234: message`
    brackets: Option<Regex>,
    /// `warning: message` followed by ` --> path:line:column`
    arrow: Option<Regex>,
    headline: Option<Regex>,
    /// A rule at the end: `[rule]` or a leading code such as `E501`.
    code: Option<Regex>,
}

static FORMS: LazyLock<Forms> = LazyLock::new(|| Forms {
    colons: Regex::new(
        r"^(?P<path>[^\s:][^:\n]{0,300}):(?P<line>\d{1,7})(?::\d{1,7})?:\s*(?P<message>\S.*)$",
    )
    .ok(),
    brackets: Regex::new(
        r"^(?P<path>[^\s(][^(\n]{0,300})\((?P<line>\d{1,7}),\d{1,7}\):\s*(?P<message>\S.*)$",
    )
    .ok(),
    arrow: Regex::new(r"^\s*-->\s*(?P<path>[^:\n]{1,300}):(?P<line>\d{1,7})(?::\d{1,7})?\s*$").ok(),
    headline: Regex::new(
        r"^(?P<level>error|warning)(?:\[(?P<rule>[\w:]+)\])?:\s*(?P<message>\S.*)$",
    )
    .ok(),
    code: Regex::new(r"^(?:(?:error|warning|note|info)\b[: ]*)?(?P<rule>[A-Z]{1,6}\d{2,5})\b").ok(),
});

/// Reads findings out of a linter's or compiler's output; `snippet` gives the source of a line.
pub fn read_output(
    tool: &str,
    output: &str,
    snippet: impl Fn(&str, u32) -> Option<String>,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let mut headline: Option<(Severity, Option<String>, String)> = None;
    for line in output.lines() {
        if findings.len() >= MAXIMUM_FINDINGS {
            break;
        }
        if let Some(captures) = FORMS.headline.as_ref().and_then(|form| form.captures(line)) {
            let severity = if captures
                .name("level")
                .is_some_and(|level| level.as_str() == "error")
            {
                Severity::Error
            } else {
                Severity::Warning
            };
            let rule = captures.name("rule").map(|rule| rule.as_str().to_owned());
            headline = captures
                .name("message")
                .map(|message| (severity, rule, message.as_str().to_owned()));
            continue;
        }
        let arrow = FORMS.arrow.as_ref().and_then(|form| form.captures(line));
        let (captures, message) = if let Some(captures) = arrow {
            let Some(headline) = headline.take() else {
                continue;
            };
            (captures, headline)
        } else {
            let forms = [&FORMS.colons, &FORMS.brackets];
            let Some(captures) = forms
                .into_iter()
                .flatten()
                .find_map(|form| form.captures(line))
            else {
                continue;
            };
            let message = captures
                .name("message")
                .map_or("", |message| message.as_str());
            let severity = if message.to_ascii_lowercase().contains("warning") {
                Severity::Warning
            } else {
                Severity::Error
            };
            let rule = FORMS
                .code
                .as_ref()
                .and_then(|form| form.captures(message))
                .and_then(|code| code.name("rule"))
                .map(|rule| rule.as_str().to_owned());
            (captures, (severity, rule, message.to_owned()))
        };
        let (severity, rule, message) = message;
        let path = captures
            .name("path")
            .map_or("", |path| path.as_str())
            .trim_start_matches("./");
        let number = captures
            .name("line")
            .and_then(|line| line.as_str().parse().ok())
            .unwrap_or(0);
        let Some(source) = snippet(path, number) else {
            continue;
        };
        let rule = rule.unwrap_or_else(|| tool.to_owned());
        findings.push(Finding::new(tool, &rule, severity, &message).at(
            path,
            number,
            Some(&source),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{Finding, Severity, compare_with_base, fingerprint, read_output};

    #[test]
    fn a_finding_is_the_same_when_lines_move() {
        assert_eq!(
            fingerprint("r", "a.py", "x =  1"),
            fingerprint("r", "a.py", "  x = 1\n")
        );
        assert_ne!(fingerprint("r", "a.py", "x"), fingerprint("r", "b.py", "x"));
        assert_ne!(fingerprint("r", "a.py", "x"), fingerprint("s", "a.py", "x"));
    }

    #[test]
    fn the_base_has_a_finding_as_often_as_it_has_it() {
        let finding = || Finding::new("t", "r", Severity::Error, "m").at("a.py", 1, Some("x"));
        let mut head = vec![finding(), finding()];
        compare_with_base(&mut head, &[finding()]);
        assert_eq!(head.iter().filter(|finding| finding.is_new).count(), 1);
    }

    #[test]
    fn the_usual_forms_are_read() {
        let output = "\
warning: unused variable: `x`
  --> src/lib.rs:3:9
   |
error[E0308]: mismatched types
 --> src/main.rs:7:1
./app.py:12:80: E501 line too long (81 > 79 characters)
src/a.ts(4,2): error TS2322: Type 'string' is not assignable to type 'number'.
main.go:9:2: unreachable code
http://localhost:8080: refused
";
        let exists = |path: &str, line| {
            ["src/lib.rs", "src/main.rs", "app.py", "src/a.ts", "main.go"]
                .contains(&path)
                .then(|| format!("{path}{line}"))
        };
        let found: Vec<_> = read_output("lint", output, exists)
            .into_iter()
            .map(|finding| (finding.rule, finding.path, finding.line))
            .collect();
        let expected = [
            ("lint", "src/lib.rs", 3),
            ("E0308", "src/main.rs", 7),
            ("E501", "app.py", 12),
            ("TS2322", "src/a.ts", 4),
            ("lint", "main.go", 9),
        ];
        assert_eq!(
            found,
            expected.map(|(rule, path, line)| (rule.to_owned(), path.to_owned(), line))
        );
    }
}
