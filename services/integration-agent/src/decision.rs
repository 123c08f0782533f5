//! The question that a person is asked about a merge that nobody could prove, and how an answer is known to
//! be about this very merge.

use sha2::{Digest as _, Sha256};

use crate::{
    checks::CheckRun,
    conflict::{Choice, Conflict, Side, bounded_text, is_binary},
    ladder::{Rung, Verdict},
};

/// Most bytes of what is shown.
const DETAIL_LIMIT: usize = 60 * 1024;
/// Most lines of one side that are shown.
const LINES_SHOWN: usize = 60;

/// What a person is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// One sentence.
    pub question: String,
    /// What is shown: Markdown.
    pub detail: String,
    /// What the answer is bound to.
    pub digest: String,
    /// The answers that are possible beside no.
    pub choices: Vec<&'static str>,
}

/// An answer that was given, perhaps to another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// What it is bound to.
    pub digest: String,
    /// What was chosen.
    pub choice: String,
    /// Who chose.
    pub actor: String,
}

/// The answer that takes the target's side.
pub const OURS: &str = "ours";
/// The answer that takes the source's side.
pub const THEIRS: &str = "theirs";
/// The answer that takes the merge as it is.
pub const AS_IT_IS: &str = "as-it-is";

impl Question {
    /// The latest approval that is about this question.
    pub fn answer<'a>(&self, approvals: &'a [Approval]) -> Option<&'a Approval> {
        approvals
            .iter()
            .rev()
            .find(|approval| approval.digest == self.digest)
    }

    /// Which side shall be taken. The digest is over both sides of each conflict, so that it holds as long as
    /// these are the same, wherever the branches are by then.
    pub fn about_conflicts(
        objects: &git2::Repository,
        conflicts: &[Conflict],
        source: &str,
        target: &str,
    ) -> Self {
        let open: Vec<_> = conflicts
            .iter()
            .filter(|conflict| conflict.is_open())
            .collect();
        let paths: Vec<_> = open
            .iter()
            .take(3)
            .map(|conflict| conflict.path.display().to_string())
            .collect();
        let more = open.len().saturating_sub(paths.len());
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let mut detail = format!(
            "`{source}` and `{target}` disagree about {}. **{OURS}** keeps what `{target}` has in each \
             place, **{THEIRS}** takes what `{source}` has.\n",
            counted(open.len(), "place"),
        );
        let mut hash = Sha256::new();
        for conflict in &open {
            let entry = format!(
                "{}\0{:?}\0{:?}\0{:?}\0{:?}\n",
                conflict.path.display(),
                conflict.kind,
                conflict.base.as_ref().map(key),
                conflict.ours.as_ref().map(key),
                conflict.theirs.as_ref().map(key),
            );
            hash.update(entry.as_bytes());
            show(objects, conflict, source, target, &mut detail);
        }
        Self {
            question: format!(
                "{source} conflicts with {target} in {}{more}: whose side shall be taken?",
                paths.join(", ")
            ),
            detail,
            digest: format!("sha256:{}", hex::encode(hash.finalize())),
            choices: vec![OURS, THEIRS],
        }
    }

    /// Whether a merge that failed a rung, or could not be proven, shall be taken all the same. The digest is
    /// over the merged tree and what was not seen to hold.
    pub fn about_rungs(
        rungs: &[Rung],
        tree: git2::Oid,
        checks: &[CheckRun],
        patch: &str,
        source: &str,
        target: &str,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(tree.to_string().as_bytes());
        let mut detail =
            format!("The merge of `{source}` into `{target}` has the tree `{tree}`.\n\n");
        for rung in rungs {
            let line = format!("* **{}**: {} — {}\n", rung.name, rung.verdict, rung.reason);
            detail.push_str(&line);
            hash.update(format!("\n{}: {}", rung.name, rung.verdict).as_bytes());
        }
        let reason = rungs.first().map_or("", |rung| rung.reason.as_str());
        // What programs print is shown, and not part of what the answer is bound to: it has times in it.
        for run in checks.iter().filter(|run| run.verdict != Verdict::Passed) {
            detail.push_str(&["\nThe end of what `", &run.name, "` printed:\n\n"].concat());
            fenced(&mut detail, &run.last_lines, LINES_SHOWN);
        }
        detail.push_str("\nWhat the target would get:\n\n");
        fenced(&mut detail, patch, usize::MAX);
        Self {
            question: format!(
                "The merge of {source} into {target} is not proven ({reason}): shall it be taken as it is?"
            ),
            detail,
            digest: format!("sha256:{}", hex::encode(hash.finalize())),
            choices: vec![AS_IT_IS],
        }
    }
}

/// The side that an answer names.
pub fn side_of(choice: &str) -> Option<Choice> {
    match choice {
        OURS => Some(Choice::Ours),
        THEIRS => Some(Choice::Theirs),
        _ => None,
    }
}

fn counted(count: usize, thing: &str) -> String {
    if count == 1 {
        format!("1 {thing}")
    } else {
        format!("{count} {thing}s")
    }
}

fn key(side: &Side) -> (String, String, u32) {
    (
        side.path.display().to_string(),
        side.blob.to_string(),
        side.mode,
    )
}

fn show(
    objects: &git2::Repository,
    conflict: &Conflict,
    source: &str,
    target: &str,
    detail: &mut String,
) {
    let title = format!(
        "\n### `{}`\n\n{:?}: {}\n",
        conflict.path.display(),
        conflict.kind,
        conflict.explanation
    );
    if detail.len() + title.len() > DETAIL_LIMIT {
        let cut = "\n… (more conflicts are in the result)\n";
        if !detail.ends_with(cut) {
            detail.push_str(cut);
        }
        return;
    }
    detail.push_str(&title);
    for (name, side) in [
        (
            format!("before (`{target}` and `{source}` parted)"),
            &conflict.base,
        ),
        (format!("{OURS} (`{target}`)"), &conflict.ours),
        (format!("{THEIRS} (`{source}`)"), &conflict.theirs),
    ] {
        let Some(side) = side else {
            detail.push_str(&format_absent(&name));
            continue;
        };
        let path = side.path.display();
        detail.push_str(&["\n", &name, ", `", &path.to_string(), "`:\n\n"].concat());
        match objects.find_blob(side.blob) {
            Ok(blob) if is_binary(blob.content()) => {
                detail.push_str("(binary content)\n");
            }
            Ok(blob) => fenced(detail, &bounded_text(blob.content()).0, LINES_SHOWN),
            Err(_) => detail.push_str("(a commit of another repository)\n"),
        }
    }
}

fn format_absent(name: &str) -> String {
    format!("\n{name}: not there\n")
}

/// Text that may have fences of its own, between longer ones.
fn fenced(detail: &mut String, text: &str, lines: usize) {
    let longest = text
        .lines()
        .map(|line| {
            line.trim_start()
                .bytes()
                .take_while(|&byte| byte == b'`')
                .count()
        })
        .max()
        .unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    detail.push_str(&fence);
    detail.push('\n');
    for (shown, line) in text.lines().enumerate() {
        if shown == lines || detail.len() + line.len() > DETAIL_LIMIT {
            detail.push_str("…\n");
            break;
        }
        detail.push_str(line);
        detail.push('\n');
    }
    detail.push_str(&fence);
    detail.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::Name;

    fn tree() -> git2::Oid {
        "1111111111111111111111111111111111111111".parse().unwrap()
    }

    #[test]
    fn an_answer_holds_only_for_what_was_shown() {
        let rungs = [Rung::failed(Name::Checks, "tests: 1 of 2 tests failed")];
        let question = Question::about_rungs(&rungs, tree(), &[], "+a\n", "topic", "main");
        let approval = Approval {
            digest: question.digest.clone(),
            choice: AS_IT_IS.to_owned(),
            actor: "ada".to_owned(),
        };
        assert!(question.answer(std::slice::from_ref(&approval)).is_some());
        // The same failure in other words is the same question; another one is not.
        let again = [Rung::failed(Name::Checks, "tests: 1 of 3 tests failed")];
        let again = Question::about_rungs(&again, tree(), &[], "+a\n", "topic", "main");
        assert!(again.answer(std::slice::from_ref(&approval)).is_some());
        let worse = [Rung::failed(Name::Regions, "x is lost")];
        let worse = Question::about_rungs(&worse, tree(), &[], "+a\n", "topic", "main");
        assert!(worse.answer(&[approval]).is_none());
    }

    #[test]
    fn shown_text_cannot_break_out_of_its_fence() {
        let mut detail = String::new();
        fenced(&mut detail, "a\n````\nb", 10);
        assert!(
            detail.starts_with("`````\n") && detail.ends_with("\n`````\n"),
            "{detail}"
        );
        let mut detail = String::new();
        fenced(&mut detail, &"line\n".repeat(100), 3);
        assert_eq!(detail, "```\nline\nline\nline\n…\n```\n");
    }
}
