//! Puts string literals back together that code concatenates: adjacent ones, lists, and variables that are
//! added up. A reading of common habits, no interpreter; knows no secret.

use std::collections::HashMap;

use regex::Regex;

/// Longer literals are data.
const MAXIMUM_LITERAL_BYTES: usize = 4 * 1024;
/// Joined texts are cut here.
const MAXIMUM_JOINED_BYTES: usize = 64 * 1024;

/// Parts put together.
pub(super) struct Joined {
    /// What they say together.
    pub text: String,
    /// Where the first part stood, in bytes.
    pub offset: usize,
}

pub(super) struct Joiner {
    literal: Regex,
    gap: Regex,
    assignment: Regex,
    sum: Regex,
    operand: Regex,
    template: Regex,
}

impl Joiner {
    pub(super) fn new() -> Result<Self, regex::Error> {
        Ok(Self {
            literal: Regex::new(r#""((?:[^"\\\n]|\\.)*)"|'((?:[^'\\\n]|\\.)*)'|`([^`\n]*)`"#)?,
            gap: Regex::new(
                r"^(?:\s|\\|\+|\.|,|&|~|\|\||<>|//[^\n]*\n|#[^\n]*\n|/\*[^*]*\*/|[frbuFRBU])*$",
            )?,
            assignment: Regex::new(
                r#"(?m)\$?\b([A-Za-z_][A-Za-z0-9_]*)(?:\s*:\s*[&A-Za-z][^=\n]{0,40})?\s*:?=\s*[frbu]?(?:"([^"\\\n]*)"|'([^'\\\n]*)')[ \t]*(?:;|,|$|#|//)"#,
            )?,
            sum: Regex::new(
                r#"(?:\$?[A-Za-z_][A-Za-z0-9_]*|"[^"\n]*"|'[^'\n]*')(?:\s*(?:\+|\.|~|&|\.\.)\s*(?:\$?[A-Za-z_][A-Za-z0-9_]*|"[^"\n]*"|'[^'\n]*'))+"#,
            )?,
            operand: Regex::new(r#"\$?([A-Za-z_][A-Za-z0-9_]*)|"([^"\n]*)"|'([^'\n]*)'"#)?,
            template: Regex::new(
                r"(?:\$?\{\s*[A-Za-z_][A-Za-z0-9_]*\s*\}|\$[A-Za-z_][A-Za-z0-9_]*){2,}",
            )?,
        })
    }

    /// Every text that parts of `text` make together.
    pub(super) fn join(&self, text: &str) -> Vec<Joined> {
        let mut joined = self.adjacent(text);
        let names = self.assignments(text);
        if !names.is_empty() {
            for pattern in [&self.sum, &self.template] {
                joined.extend(
                    pattern
                        .find_iter(text)
                        .filter_map(|found| self.resolve(&found, &names)),
                );
            }
        }
        joined
    }

    fn adjacent(&self, text: &str) -> Vec<Joined> {
        let mut joined = Vec::new();
        let mut current: Option<(Joined, usize)> = None;
        let mut end = 0;
        for captures in self.literal.captures_iter(text) {
            let Some(whole) = captures.get(0) else {
                continue;
            };
            let inner = (1..=3)
                .find_map(|group| captures.get(group))
                .map_or("", |inner| inner.as_str());
            let gap = text.get(end..whole.start()).unwrap_or_default();
            end = whole.end();
            match &mut current {
                Some((open, parts))
                    if inner.len() <= MAXIMUM_LITERAL_BYTES
                        && open.text.len() + inner.len() <= MAXIMUM_JOINED_BYTES
                        && self.gap.is_match(gap) =>
                {
                    open.text.push_str(inner);
                    *parts += 1;
                }
                _ => {
                    let next = Joined {
                        text: inner.to_owned(),
                        offset: whole.start(),
                    };
                    if let Some((open, parts)) = current.replace((next, 1))
                        && parts > 1
                    {
                        joined.push(open);
                    }
                }
            }
        }
        joined.extend(
            current
                .filter(|(_, parts)| *parts > 1)
                .map(|(open, _)| open),
        );
        joined
    }

    /// What each name was last set to.
    fn assignments<'a>(&self, text: &'a str) -> HashMap<&'a str, &'a str> {
        self.assignment
            .captures_iter(text)
            .filter_map(|captures| {
                let value = captures.get(2).or_else(|| captures.get(3))?;
                (value.len() <= MAXIMUM_LITERAL_BYTES)
                    .then_some((captures.get(1)?.as_str(), value.as_str()))
            })
            .collect()
    }

    fn resolve(&self, found: &regex::Match<'_>, names: &HashMap<&str, &str>) -> Option<Joined> {
        let mut text = String::new();
        let mut resolved = 0;
        for captures in self.operand.captures_iter(found.as_str()) {
            if let Some(name) = captures.get(1) {
                let Some(value) = names.get(name.as_str()) else {
                    continue;
                };
                text.push_str(value);
                resolved += 1;
            } else if let Some(literal) = captures.get(2).or_else(|| captures.get(3)) {
                text.push_str(literal.as_str());
            }
            if text.len() > MAXIMUM_JOINED_BYTES {
                return None;
            }
        }
        (resolved > 0).then_some(Joined {
            text,
            offset: found.start(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Joiner;

    fn join(text: &str) -> Vec<String> {
        Joiner::new()
            .unwrap()
            .join(text)
            .into_iter()
            .map(|joined| joined.text)
            .collect()
    }

    #[test]
    fn adjacent_literals_are_joined() {
        for text in [
            r#"x = "ab" + "cd""#,
            "x = 'ab' \\\n  'cd'",
            r#"concat!("ab", "cd")"#,
            r#"["ab", "cd"].join("")"#,
            "'ab' . 'cd'",
            "(\"ab\"  # first\n \"cd\")",
        ] {
            assert!(
                join(text).iter().any(|joined| joined.starts_with("abcd")),
                "{text}"
            );
        }
    }

    #[test]
    fn variables_are_added_up() {
        for text in [
            "a = 'ab'\nb = 'cd'\nc = a + b\n",
            "const a: &str = \"ab\";\nlet b = \"cd\";\nf(`${a}${b}`)",
            "A=\"ab\"\nB=\"cd\"\ncurl $A$B\n",
            "a = 'ab'\nx = a + 'cd'\n",
        ] {
            assert!(
                join(text).iter().any(|joined| joined == "abcd"),
                "{text}: {:?}",
                join(text)
            );
        }
    }

    #[test]
    fn literals_of_different_statements_stay_apart() {
        assert!(join("a(\"ab\"); b(\"cd\");").is_empty());
    }
}
