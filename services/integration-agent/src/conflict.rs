//! What two sides could not agree on, in full but bounded. Knows nothing of how it will be resolved.

use std::path::{Path, PathBuf};

use git2::Oid;

/// Most text of one side that is kept, in bytes.
pub const TEXT_LIMIT: usize = 16 * 1024;
/// How far git looks for a NUL byte to tell binary files from text.
const BINARY_PROBE: usize = 8000;

/// What kind of disagreement it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Both sides changed the same lines.
    Content,
    /// Both sides renamed it, or one put a file into a folder that the other renamed.
    Rename,
    /// One side removed what the other changed.
    Delete,
    /// Both sides added it, differently.
    Add,
    /// Same content, different modes.
    Mode,
    /// A file here, a folder or link there.
    Type,
    /// Both sides changed a file that cannot be merged by lines.
    Binary,
    /// Both sides moved a submodule.
    Submodule,
    /// The file asks for a merge program that we do not have.
    Driver,
}

/// One side of a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Where the file is on this side.
    pub path: PathBuf,
    /// Its content.
    pub blob: Oid,
    /// Its git mode.
    pub mode: u32,
}

/// How a conflict was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The target's side.
    Ours,
    /// The source's side.
    Theirs,
}

/// Who settled it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author {
    /// The task said so, before anybody had seen the conflict.
    Task,
    /// A person who was shown both sides.
    Person(String),
}

/// How a conflict was settled, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Which side was taken.
    pub choice: Choice,
    /// By whom.
    pub author: Author,
    /// The file that came of it; none when there is none.
    pub result: Option<Oid>,
}

/// One disagreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The path that people look for.
    pub path: PathBuf,
    /// What kind it is.
    pub kind: Kind,
    /// The common ancestor, if both sides have one.
    pub base: Option<Side>,
    /// The target's side, if it has one.
    pub ours: Option<Side>,
    /// The source's side, if it has one.
    pub theirs: Option<Side>,
    /// Every path that is in conflict because of it, as git's index would list them.
    pub unmerged: Vec<PathBuf>,
    /// One sentence.
    pub explanation: String,
    /// How it was settled; none while it is open.
    pub resolution: Option<Resolution>,
}

impl Conflict {
    /// The side of `choice`; none when the file is not there.
    pub fn side(&self, choice: Choice) -> Option<&Side> {
        match choice {
            Choice::Ours => self.ours.as_ref(),
            Choice::Theirs => self.theirs.as_ref(),
        }
    }

    /// Whether nobody settled it yet.
    pub fn is_open(&self) -> bool {
        self.resolution.is_none()
    }
}

/// Whether git would take content for binary.
pub fn is_binary(content: &[u8]) -> bool {
    content.iter().take(BINARY_PROBE).any(|&byte| byte == 0)
}

/// The text of a blob, at most [`TEXT_LIMIT`] bytes, and whether it was cut. Empty for binary content.
pub fn bounded_text(content: &[u8]) -> (String, bool) {
    if is_binary(content) {
        return (String::new(), false);
    }
    let mut end = content.len().min(TEXT_LIMIT);
    // Not in the middle of a character.
    while end > 0 && end < content.len() && content[end] & 0xC0 == 0x80 {
        end -= 1;
    }
    let text = String::from_utf8_lossy(&content[..end]).into_owned();
    (text, end < content.len())
}

/// The file that a path of `tree` names, as a side.
pub fn side_in(tree: &git2::Tree<'_>, path: &Path) -> Option<Side> {
    let entry = tree.get_path(path).ok()?;
    if entry.kind() == Some(git2::ObjectType::Tree) {
        return None;
    }
    Some(Side {
        path: path.to_owned(),
        blob: entry.id(),
        mode: u32::try_from(entry.filemode()).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        let text = "ü".repeat(TEXT_LIMIT);
        let (shown, cut) = bounded_text(text.as_bytes());
        assert!(cut && shown.len() <= TEXT_LIMIT);
        assert!(shown.chars().all(|c| c == 'ü'));
        assert_eq!(bounded_text(b"short"), ("short".to_owned(), false));
        assert_eq!(bounded_text(b"\0\x01"), (String::new(), false));
    }
}
