//! Writes the commits of an integration: the same input gives the same commit, so that doing it twice is
//! doing it once. Knows what stands in a commit, not when one is wanted.

use agent_runtime::repository::CommitId;
use git2::{ObjectType, Oid};

use crate::merge::Error;

/// Names the task that made a commit.
pub const TASK_TRAILER: &str = "Agentic-Task";
/// Names the commit that was integrated.
pub const SOURCE_TRAILER: &str = "Agentic-Source";
/// Names a revert that was taken back in its turn.
pub(crate) const REAPPLIES_TRAILER: &str = "Agentic-Reapplies";
/// Names the commit that was taken back.
pub const REVERTS_TRAILER: &str = "Agentic-Reverts";

/// Who commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name.
    pub name: String,
    /// Mail address.
    pub email: String,
}

/// What is said about an integration in its commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// What the source is called: a branch, or a commit.
    pub source_name: String,
    /// The target branch.
    pub target_name: String,
    /// The work's name, for people. May be empty.
    pub title: String,
    /// The task. May be empty: then a repeated call is another task.
    pub task_id: String,
    /// The workflow. May be empty.
    pub workflow_id: String,
    /// When the task was made, in seconds since 1970: commits are at least as old. From the task, not from
    /// the clock.
    pub task_time: i64,
}

/// A commit to be written.
pub(crate) struct Draft<'a> {
    pub(crate) tree: Oid,
    pub(crate) parents: Vec<CommitId>,
    /// The author's line of another commit; none: the committer.
    pub(crate) author: Option<&'a [u8]>,
    pub(crate) committer: &'a Identity,
    pub(crate) time: i64,
    /// The encoding of a message that is not UTF-8.
    pub(crate) encoding: Option<&'a [u8]>,
    pub(crate) message: &'a [u8],
}

/// Writes a commit byte by byte: the library's own way would not keep a foreign author or encoding as it is.
pub(crate) fn write(objects: &git2::Repository, draft: &Draft<'_>) -> Result<CommitId, Error> {
    let action = "write a commit";
    // Also checks that name and address cannot break out of their line.
    let signature = git2::Signature::new(
        &draft.committer.name,
        &draft.committer.email,
        &git2::Time::new(draft.time, 0),
    )
    .map_err(Error::object("sign a commit"))?;
    let mut own = signature.name_bytes().to_vec();
    own.extend_from_slice(b" <");
    own.extend_from_slice(signature.email_bytes());
    own.extend_from_slice(format!("> {} +0000", draft.time).as_bytes());

    let mut raw = format!("tree {}\n", draft.tree).into_bytes();
    for parent in &draft.parents {
        raw.extend_from_slice(format!("parent {parent}\n").as_bytes());
    }
    for (field, value) in [
        (&b"author"[..], Some(draft.author.unwrap_or(&own))),
        (b"committer", Some(&own[..])),
        (b"encoding", draft.encoding),
    ] {
        if let Some(value) = value {
            raw.extend_from_slice(field);
            raw.push(b' ');
            raw.extend_from_slice(value);
            raw.push(b'\n');
        }
    }
    raw.push(b'\n');
    raw.extend_from_slice(draft.message);
    objects
        .odb()
        .and_then(|store| store.write(ObjectType::Commit, &raw))
        .map(CommitId::from)
        .map_err(Error::object(action))
}

/// The value of a field in a commit's header.
pub(crate) fn header_field(commit: &git2::Commit<'_>, field: &str) -> Option<Vec<u8>> {
    let prefix = format!("{field} ");
    commit
        .raw_header_bytes()
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(prefix.as_bytes()))
        .map(<[u8]>::to_vec)
}

impl Purpose {
    /// The message of a merge commit.
    pub(crate) fn merge_message(&self, source: CommitId) -> String {
        let subject = format!("Merge {} into {}", self.source_name, self.target_name);
        self.with_trailers(&[&subject, &self.title], (SOURCE_TRAILER, source))
    }

    /// The message of a squashed commit; `subjects` are those of the commits in it, oldest first.
    pub(crate) fn squash_message(&self, subjects: &[String], source: CommitId) -> String {
        let only = match subjects {
            [only] => only.clone(),
            _ => String::new(),
        };
        let subject = [&self.title, &only]
            .into_iter()
            .find(|text| !text.is_empty())
            .cloned()
            .unwrap_or_else(|| format!("Integrate {} into {}", self.source_name, self.target_name));
        let body = if subjects.len() > 1 {
            let lines: Vec<_> = subjects.iter().map(|line| format!("* {line}")).collect();
            lines.join("\n")
        } else {
            String::new()
        };
        self.with_trailers(&[&subject, &body], (SOURCE_TRAILER, source))
    }

    /// The message of a commit that takes `commit` back, whose subject was `subject`, so that the target is as
    /// it was `before`. The beginning is git's own.
    pub(crate) fn revert_message(
        &self,
        subject: &str,
        (commit, before): (CommitId, CommitId),
        is_range: bool,
    ) -> String {
        let subject = format!("Revert \"{subject}\"");
        let body = if is_range {
            format!("This reverts commit {commit}, reversing\nchanges made to {before}.")
        } else {
            format!("This reverts commit {commit}.")
        };
        self.with_trailers(&[&subject, &body, &self.title], (REVERTS_TRAILER, commit))
    }

    /// A message of somebody else with our trailers after it.
    pub(crate) fn add_trailers(&self, message: &[u8], source: CommitId) -> Vec<u8> {
        let mut message = message.to_vec();
        while message.ends_with(b"\n") {
            message.pop();
        }
        let has_trailers = message
            .rsplit(|&byte| byte == b'\n')
            .take_while(|line| !line.is_empty())
            .all(is_trailer);
        let several_paragraphs = message.windows(2).any(|pair| pair == b"\n\n");
        message.extend_from_slice(if has_trailers && several_paragraphs {
            b"\n"
        } else {
            b"\n\n"
        });
        message.extend_from_slice(self.trailers((SOURCE_TRAILER, source)).as_bytes());
        message
    }

    fn with_trailers(&self, paragraphs: &[&String], about: (&str, CommitId)) -> String {
        let mut message = String::new();
        for paragraph in paragraphs {
            let paragraph = paragraph.trim();
            if !paragraph.is_empty() {
                message.push_str(paragraph);
                message.push_str("\n\n");
            }
        }
        message.push_str(&self.trailers(about));
        message
    }

    fn trailers(&self, (name, commit): (&str, CommitId)) -> String {
        let mut text = format!("{name}: {commit}\n");
        for (name, value) in [
            (TASK_TRAILER, &self.task_id),
            ("Agentic-Workflow", &self.workflow_id),
        ] {
            if !value.is_empty() {
                for part in [name, ": ", &value.replace(['\n', '\r'], " "), "\n"] {
                    text.push_str(part);
                }
            }
        }
        text
    }

    /// Whether a message is that of a commit which this very task made of `source`, and which says so by this
    /// trailer.
    pub(crate) fn made(&self, trailer: &str, message: &str, source: CommitId) -> bool {
        let has = |name: &str, value: &str| {
            message.lines().any(|line| {
                line.strip_prefix(name)
                    .and_then(|rest| rest.strip_prefix(": "))
                    == Some(value)
            })
        };
        !self.task_id.is_empty()
            && has(TASK_TRAILER, &self.task_id)
            && has(trailer, &source.to_string())
    }
}

fn is_trailer(line: &[u8]) -> bool {
    let Some(colon) = line.windows(2).position(|pair| pair == b": ") else {
        return false;
    };
    colon > 0
        && line[..colon]
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purpose() -> Purpose {
        Purpose {
            source_name: "topic".to_owned(),
            target_name: "main".to_owned(),
            title: "Add a basket".to_owned(),
            task_id: "0190-task".to_owned(),
            workflow_id: String::new(),
            task_time: 0,
        }
    }

    fn source() -> CommitId {
        "1111111111111111111111111111111111111111".parse().unwrap()
    }

    #[test]
    fn a_message_tells_its_task_and_is_recognised() {
        let purpose = purpose();
        let message = purpose.merge_message(source());
        assert_eq!(
            message,
            format!(
                "Merge topic into main\n\nAdd a basket\n\nAgentic-Source: {}\nAgentic-Task: 0190-task\n",
                source()
            )
        );
        assert!(purpose.made(SOURCE_TRAILER, &message, source()));
        let other = Purpose {
            task_id: "0190-task2".to_owned(),
            ..purpose
        };
        assert!(!other.made(SOURCE_TRAILER, &message, source()));
        let nameless = Purpose {
            task_id: String::new(),
            ..other
        };
        assert!(!nameless.made(SOURCE_TRAILER, &nameless.merge_message(source()), source()));
    }

    #[test]
    fn trailers_join_those_that_are_there() {
        let purpose = purpose();
        let text =
            |message: &[u8]| String::from_utf8(purpose.add_trailers(message, source())).unwrap();
        assert!(text(b"Fix: a thing\n").starts_with("Fix: a thing\n\nAgentic-Source: "));
        assert!(
            text(b"Subject\n\nBody\n\nSigned-off-by: X <x@y>\n")
                .contains("Signed-off-by: X <x@y>\nAgentic-Source: ")
        );
    }

    #[test]
    fn a_squash_lists_what_is_in_it() {
        let purpose = Purpose {
            title: String::new(),
            ..purpose()
        };
        let one = purpose.squash_message(&["Only one".to_owned()], source());
        assert!(one.starts_with("Only one\n\nAgentic-Source"), "{one}");
        let two = purpose.squash_message(&["A".to_owned(), "B".to_owned()], source());
        assert!(
            two.starts_with("Integrate topic into main\n\n* A\n* B\n\n"),
            "{two}"
        );
    }
}
