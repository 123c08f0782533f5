//! Reading requests: every wrong field is named at once, with its bound. Building never fails,
//! parsing may.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use crate::error::Error;
use crate::wire_time;

/// Items of a page when the caller names no number.
pub const PAGE_SIZE: i32 = 50;
/// Most items of a page.
pub const PAGE_SIZE_MOST: i32 = 1000;
/// Most labels.
pub const LABEL_COUNT: usize = 64;
/// Most characters of a label's name or value.
pub const LABEL_CHARACTERS: usize = 63;
/// Most characters of a name.
pub const NAME_CHARACTERS: usize = 100;
/// Most bytes of requirements.
pub const REQUIREMENTS_BYTES: usize = 64 * 1024;
/// Most bytes of a request id.
pub const REQUEST_ID_BYTES: usize = 128;
/// Most bytes of a repository URL, and of a ref.
pub const URL_BYTES: usize = 2048;

/// Collects what is wrong with a request.
#[derive(Debug, Default)]
pub struct Fields {
    wrong: Vec<(String, String)>,
}

impl Fields {
    /// Nothing is wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// This field is wrong.
    pub fn wrong(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.wrong.push((field.into(), problem.into()));
    }

    /// The value, if nothing was wrong.
    pub fn finish<T>(self, value: T) -> Result<T, Error> {
        if self.wrong.is_empty() {
            Ok(value)
        } else {
            Err(Error::invalid_fields(self.wrong))
        }
    }

    /// Whether anything was wrong so far.
    pub fn any_wrong(&self) -> bool {
        !self.wrong.is_empty()
    }

    /// Text of at most so many bytes, without NUL.
    pub fn text(&mut self, field: &str, text: &str, bytes: usize) {
        if text.len() > bytes {
            self.wrong(field, format!("has {} bytes, at most {bytes}", text.len()));
        } else if text.contains('\0') {
            self.wrong(field, "contains a NUL character");
        }
    }

    /// Text that must be there.
    pub fn required_text(&mut self, field: &str, text: &str, bytes: usize) {
        if text.trim().is_empty() {
            self.wrong(field, "is required");
        } else {
            self.text(field, text, bytes);
        }
    }

    /// A name for people: 1 to 100 characters, no control characters.
    pub fn name(&mut self, field: &str, name: &str) {
        let count = name.chars().count();
        if name.trim().is_empty() {
            self.wrong(field, "is required");
        } else if count > NAME_CHARACTERS {
            self.wrong(
                field,
                format!("has {count} characters, at most {NAME_CHARACTERS}"),
            );
        } else if name.chars().any(char::is_control) {
            self.wrong(field, "contains control characters");
        }
    }

    /// A name for machines: `[a-z][a-z0-9-]{0,62}`.
    pub fn slug(&mut self, field: &str, name: &str) {
        if !is_slug(name) {
            self.wrong(
                field,
                format!("{name:?} is not a lower-case letter followed by at most 62 letters, digits or '-'"),
            );
        }
    }

    /// Labels.
    pub fn labels(&mut self, field: &str, labels: &HashMap<String, String>) {
        if labels.len() > LABEL_COUNT {
            self.wrong(
                field,
                format!("has {} entries, at most {LABEL_COUNT}", labels.len()),
            );
            return;
        }
        for (name, value) in labels {
            if name.is_empty() {
                self.wrong(field, "has an entry without a name");
            }
            for (what, text) in [("name", name), ("value", value)] {
                let count = text.chars().count();
                if count > LABEL_CHARACTERS || text.chars().any(char::is_control) {
                    let start: String = name
                        .chars()
                        .filter(|c| !c.is_control())
                        .take(LABEL_CHARACTERS)
                        .collect();
                    self.wrong(
                        format!("{field}[{start}]"),
                        format!("its {what} has {count} characters; at most {LABEL_CHARACTERS}, none of them control characters"),
                    );
                }
            }
        }
    }

    /// An id. The value is only meaningful when nothing was wrong.
    pub fn id<T: FromStr>(&mut self, field: &str, text: &str) -> Option<T> {
        if text.is_empty() {
            self.wrong(field, "is required");
            return None;
        }
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let start: String = text.chars().take(64).collect();
            self.wrong(field, format!("{start:?} is not a UUID"));
        }
        parsed
    }

    /// A known, specified value of an enum.
    pub fn required_enum<E: TryFrom<i32> + Default + PartialEq>(
        &mut self,
        field: &str,
        value: i32,
    ) -> E {
        let parsed = self.known_enum::<E>(field, value);
        if parsed == E::default() && value == 0 {
            self.wrong(field, "is required");
        }
        parsed
    }

    /// A known value of an enum; zero is its default.
    pub fn known_enum<E: TryFrom<i32> + Default>(&mut self, field: &str, value: i32) -> E {
        E::try_from(value).unwrap_or_else(|_| {
            self.wrong(field, format!("{value} is not a known value"));
            E::default()
        })
    }

    /// A number of items for a page.
    pub fn page_size(&mut self, size: i32) -> i64 {
        match size {
            0 => i64::from(PAGE_SIZE),
            1..=PAGE_SIZE_MOST => i64::from(size),
            _ => {
                self.wrong(
                    "page_size",
                    format!("{size} is not between 1 and {PAGE_SIZE_MOST}"),
                );
                0
            }
        }
    }

    /// A request id.
    pub fn request_id(&mut self, request_id: &str) {
        self.text("request_id", request_id, REQUEST_ID_BYTES);
    }

    /// A duration within bounds. `None`: it was left out.
    pub fn duration(
        &mut self,
        field: &str,
        duration: Option<prost_types::Duration>,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        let wire = duration?;
        match wire_time::duration(wire) {
            Some(duration) if duration >= least && duration <= most => Some(duration),
            _ => {
                self.wrong(
                    field,
                    format!(
                        "is not between {} s and {} s",
                        least.as_secs_f64(),
                        most.as_secs_f64()
                    ),
                );
                None
            }
        }
    }

    /// A commit in full, or nothing.
    pub fn commit(&mut self, field: &str, commit: &str) {
        if !commit.is_empty() && !is_commit(commit) {
            self.wrong(field, "is not a commit of 40 hexadecimal digits");
        }
    }

    /// A branch, tag or commit, or nothing; nothing that git could take for an option.
    pub fn git_ref(&mut self, field: &str, name: &str) {
        let bad = name.starts_with('-')
            || name.contains("..")
            || name.strip_suffix(".lock").is_some()
            || name
                .chars()
                .any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c));
        if name.len() > URL_BYTES || bad {
            let start: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            self.wrong(
                field,
                format!("{start:?} is not a valid branch, tag or commit"),
            );
        }
    }
}

/// Whether this is a name for machines: `[a-z][a-z0-9-]{0,62}`.
pub fn is_slug(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|c| c.is_ascii_lowercase())
        && name.len() <= 63
        && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Whether this is a commit in full.
pub fn is_commit(commit: &str) -> bool {
    commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The known name that is nearest to a wrong one, if any is near.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(read: impl FnOnce(&mut Fields)) -> Vec<(String, String)> {
        let mut fields = Fields::new();
        read(&mut fields);
        fields
            .finish(())
            .err()
            .map_or_else(Vec::new, |error| error.fields)
    }

    #[test]
    fn all_wrong_fields_are_named_at_once() {
        let wrong = problems(|fields| {
            fields.name("name", "");
            fields.request_id(&"x".repeat(129));
            fields.page_size(1001);
        });
        let names: Vec<_> = wrong.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(names, ["name", "request_id", "page_size"]);
    }

    #[test]
    fn names_have_bounds() {
        assert!(problems(|f| f.name("n", &"ä".repeat(100))).is_empty());
        assert_eq!(problems(|f| f.name("n", &"ä".repeat(101))).len(), 1);
        assert_eq!(problems(|f| f.name("n", "a\u{7}")).len(), 1);
        assert_eq!(problems(|f| f.name("n", " \t")).len(), 1);
    }

    #[test]
    fn slugs_are_safe_for_hosts_and_branches() {
        for good in ["a", "shop", "a-1", &"a".repeat(63)] {
            assert!(is_slug(good), "{good}");
        }
        for bad in [
            "",
            "A",
            "1a",
            "-a",
            "a_b",
            "a b",
            "a/..",
            "ä",
            &"a".repeat(64),
        ] {
            assert!(!is_slug(bad), "{bad}");
        }
    }

    #[test]
    fn refs_that_git_could_take_for_options_are_refused() {
        for good in ["main", "feature/x", "v1.2", "0123abc", "agentic/1"] {
            assert!(problems(|f| f.git_ref("branch", good)).is_empty(), "{good}");
        }
        for bad in [
            "--upload-pack=x",
            "-b",
            "a..b",
            "a b",
            "a:b",
            "a~1",
            "a^",
            "x.lock",
            "a\nb",
        ] {
            assert_eq!(problems(|f| f.git_ref("branch", bad)).len(), 1, "{bad}");
        }
    }

    #[test]
    fn labels_are_bounded() {
        let many = (0..65).map(|n| (n.to_string(), String::new())).collect();
        assert_eq!(problems(|f| f.labels("labels", &many)).len(), 1);
        let long = [("k".to_owned(), "v".repeat(64))].into();
        assert_eq!(problems(|f| f.labels("labels", &long)).len(), 1);
        let fine = [("k".to_owned(), "v".repeat(63))].into();
        assert!(problems(|f| f.labels("labels", &fine)).is_empty());
    }

    #[test]
    fn durations_are_bounded() {
        let second = Duration::from_secs(1);
        let minute = Duration::from_mins(1);
        let read = |seconds, nanos| {
            let mut fields = Fields::new();
            let wire = Some(prost_types::Duration { seconds, nanos });
            (
                fields.duration("d", wire, second, minute),
                fields.any_wrong(),
            )
        };
        assert_eq!(read(5, 0), (Some(Duration::from_secs(5)), false));
        for (seconds, nanos) in [
            (0, 5),
            (61, 0),
            (-1, 0),
            (5, -1),
            (5, 1_000_000_000),
            (i64::MAX, 0),
        ] {
            assert_eq!(read(seconds, nanos), (None, true), "{seconds} {nanos}");
        }
    }

    #[test]
    fn the_nearest_name_is_offered_only_when_near() {
        assert_eq!(
            nearest("pyhton-http", ["python-http", "rust-http"]),
            Some("python-http")
        );
        assert_eq!(nearest("zzz", ["python-http", "rust-http"]), None);
    }
}
