//! Reads what git prints about a merge (`merge-tree --write-tree -z --messages`). Pure.

use std::{collections::BTreeMap, ffi::OsStr, os::unix::ffi::OsStrExt as _, path::PathBuf};

use git2::Oid;

use crate::conflict::{Conflict, Kind, Side};

/// Mode of a submodule in a git tree.
const SUBMODULE: u32 = 0o160_000;
/// Mode of a symbolic link in a git tree.
const LINK: u32 = 0o120_000;

/// What git printed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// The merged tree; with conflict markers in it where sides disagree.
    pub(super) tree: Oid,
    /// The unmerged entries of the index.
    entries: Vec<Entry>,
    /// What git says about single paths.
    messages: Vec<Message>,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    blob: Oid,
    stage: usize,
    path: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
struct Message {
    paths: Vec<PathBuf>,
    kind: String,
    text: String,
}

/// The sides of one path: base, ours, theirs.
type Stages = [Option<Side>; 3];

/// Git printed something that we do not understand.
#[derive(Debug, thiserror::Error)]
#[error("git printed an unknown merge listing: {0}")]
pub struct UnknownListing(&'static str);

impl Listing {
    pub(super) fn parse(output: &[u8]) -> Result<Self, UnknownListing> {
        let mut tokens = output.split(|&byte| byte == 0);
        let tree = tokens
            .next()
            .and_then(|token| std::str::from_utf8(token).ok())
            .and_then(|token| token.trim().parse().ok())
            .ok_or(UnknownListing("no tree"))?;
        let mut entries = Vec::new();
        for token in tokens.by_ref() {
            if token.is_empty() {
                break;
            }
            entries.push(entry(token)?);
        }
        let mut messages = Vec::new();
        while let Some(count) = tokens.next() {
            if count.iter().all(u8::is_ascii_whitespace) {
                break;
            }
            messages.push(message(count, &mut tokens)?);
        }
        Ok(Self {
            tree,
            entries,
            messages,
        })
    }

    /// Paths whose content git merged line by line, in conflict or not.
    pub(super) fn content_merged(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> = self
            .messages
            .iter()
            .filter(|message| message.kind == "Auto-merging")
            .flat_map(|message| message.paths.iter().cloned())
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// The disagreements, by path.
    pub(super) fn conflicts(&self) -> Vec<Conflict> {
        let mut stages: BTreeMap<PathBuf, Stages> = BTreeMap::new();
        for entry in &self.entries {
            let side = Side {
                path: entry.path.clone(),
                blob: entry.blob,
                mode: entry.mode,
            };
            stages.entry(entry.path.clone()).or_default()[entry.stage - 1] = Some(side);
        }
        let mut conflicts = Vec::new();
        let complaints: Vec<_> = self
            .messages
            .iter()
            .filter(|message| message.kind.starts_with("CONFLICT"))
            .collect();
        for complaint in &complaints {
            let joined = match complaint.kind.as_str() {
                "CONFLICT (rename/rename)" => two_names(complaint, &mut stages),
                "CONFLICT (directory rename suggested)" => moved_folder(complaint, &mut stages),
                _ => None,
            };
            conflicts.extend(joined);
        }
        for (path, sides) in stages {
            let about: Vec<_> = complaints
                .iter()
                .filter(|complaint| complaint.paths.contains(&path))
                .copied()
                .collect();
            conflicts.push(single(path, sides, &about));
        }
        for complaint in complaints {
            let Some(path) = complaint.paths.first() else {
                continue;
            };
            let known = conflicts
                .iter()
                .any(|conflict| complaint.paths.iter().any(|path| mentions(conflict, path)));
            if !known {
                conflicts.push(Conflict {
                    path: path.clone(),
                    kind: Kind::Rename,
                    base: None,
                    ours: None,
                    theirs: None,
                    unmerged: Vec::new(),
                    explanation: explanation(complaint),
                    resolution: None,
                });
            }
        }
        conflicts.sort_by(|left, right| left.path.cmp(&right.path));
        conflicts
    }
}

fn mentions(conflict: &Conflict, path: &PathBuf) -> bool {
    conflict.path == *path
        || conflict.unmerged.contains(path)
        || [&conflict.base, &conflict.ours, &conflict.theirs]
            .into_iter()
            .flatten()
            .any(|side| side.path == *path)
}

fn entry(token: &[u8]) -> Result<Entry, UnknownListing> {
    let broken = UnknownListing("an unmerged entry");
    let tab = token.iter().position(|&byte| byte == b'\t');
    let Some(tab) = tab else { return Err(broken) };
    let Ok(head) = std::str::from_utf8(&token[..tab]) else {
        return Err(broken);
    };
    let mut fields = head.split(' ');
    let mode = fields
        .next()
        .and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let blob = fields.next().and_then(|blob| blob.parse().ok());
    let stage = fields.next().and_then(|stage| stage.parse().ok());
    match (mode, blob, stage) {
        (Some(mode), Some(blob), Some(stage @ 1..=3)) => Ok(Entry {
            mode,
            blob,
            stage,
            path: PathBuf::from(OsStr::from_bytes(&token[tab + 1..])),
        }),
        _ => Err(broken),
    }
}

fn message<'a>(
    count: &[u8],
    tokens: &mut impl Iterator<Item = &'a [u8]>,
) -> Result<Message, UnknownListing> {
    let broken = || UnknownListing("a message");
    // A message's text ends with a line end, which git prints after the terminating NUL of it or before.
    let count: usize = std::str::from_utf8(count)
        .ok()
        .and_then(|count| count.trim().parse().ok())
        .filter(|&count| count < 1000)
        .ok_or_else(broken)?;
    let mut paths = Vec::with_capacity(count);
    for _ in 0..count {
        let path = tokens.next().ok_or_else(broken)?;
        paths.push(PathBuf::from(OsStr::from_bytes(path)));
    }
    let mut text = || {
        tokens
            .next()
            .map(|token| String::from_utf8_lossy(token).trim().to_owned())
            .ok_or_else(broken)
    };
    Ok(Message {
        paths,
        kind: text()?,
        text: text()?,
    })
}

/// One file that both sides renamed: git lists three paths, people see one conflict.
fn two_names(complaint: &Message, stages: &mut BTreeMap<PathBuf, Stages>) -> Option<Conflict> {
    let [old, left, right] = complaint.paths.as_slice() else {
        return None;
    };
    let only = |path: &PathBuf, stage: usize| {
        let sides = stages.get(path)?;
        let alone = sides.iter().flatten().count() == 1;
        sides[stage].clone().filter(|_| alone)
    };
    let base = only(old, 0)?;
    let (ours, theirs) = match (only(left, 1), only(right, 2)) {
        (Some(ours), Some(theirs)) => (ours, theirs),
        _ => (only(right, 1)?, only(left, 2)?),
    };
    let mut unmerged = vec![old.clone(), ours.path.clone(), theirs.path.clone()];
    unmerged.sort();
    for path in &unmerged {
        stages.remove(path);
    }
    Some(Conflict {
        path: old.clone(),
        kind: Kind::Rename,
        explanation: format!(
            "renamed to {} here and to {} there",
            ours.path.display(),
            theirs.path.display()
        ),
        base: Some(base),
        ours: Some(ours),
        theirs: Some(theirs),
        unmerged,
        resolution: None,
    })
}

/// A file that one side added to a folder which the other side renamed.
fn moved_folder(complaint: &Message, stages: &mut BTreeMap<PathBuf, Stages>) -> Option<Conflict> {
    let [new, old] = complaint.paths.as_slice() else {
        return None;
    };
    let (added, added_here) = match stages.get(new)? {
        [None, Some(side), None] => (side.clone(), true),
        [None, None, Some(side)] => (side.clone(), false),
        _ => return None,
    };
    stages.remove(new);
    let kept = Side {
        path: old.clone(),
        ..added.clone()
    };
    let (ours, theirs) = if added_here {
        (kept, added)
    } else {
        (added, kept)
    };
    let place = |here| if here { "here" } else { "there" };
    Some(Conflict {
        path: new.clone(),
        kind: Kind::Rename,
        base: None,
        explanation: format!(
            "{} was added {} to a folder that was renamed {}: shall it move to {}?",
            old.display(),
            place(added_here),
            place(!added_here),
            new.display()
        ),
        ours: Some(ours),
        theirs: Some(theirs),
        unmerged: vec![new.clone()],
        resolution: None,
    })
}

fn single(path: PathBuf, sides: Stages, about: &[&Message]) -> Conflict {
    let kind = kind_of(&sides, about);
    let [base, ours, theirs] = sides;
    let explanation = match kind {
        Kind::Content => "both sides changed the same lines".to_owned(),
        Kind::Add => "both sides added it, differently".to_owned(),
        Kind::Mode => "the sides disagree about its mode".to_owned(),
        Kind::Binary => "both sides changed it, and it cannot be merged by lines".to_owned(),
        Kind::Submodule => "both sides moved the submodule".to_owned(),
        Kind::Driver => "it needs a merge program that is not here".to_owned(),
        Kind::Delete if ours.is_none() => "removed here, changed there".to_owned(),
        Kind::Delete => "changed here, removed there".to_owned(),
        Kind::Type | Kind::Rename => about.first().map_or_else(
            || "the sides disagree about what it is".to_owned(),
            |complaint| explanation(complaint),
        ),
    };
    Conflict {
        unmerged: vec![path.clone()],
        path,
        kind,
        base,
        ours,
        theirs,
        explanation,
        resolution: None,
    }
}

fn kind_of(sides: &Stages, about: &[&Message]) -> Kind {
    let said = |part: &str| about.iter().any(|complaint| complaint.kind.contains(part));
    let modes = || sides.iter().flatten().map(|side| side.mode);
    if modes().any(|mode| mode == SUBMODULE) {
        return Kind::Submodule;
    }
    if said("file/directory") || said("distinct modes") || said("distinct types") {
        return Kind::Type;
    }
    if said("modify/delete") {
        return Kind::Delete;
    }
    if said("rename") {
        return if said("rename/delete") {
            Kind::Delete
        } else {
            Kind::Rename
        };
    }
    match sides {
        [_, None, Some(_) | None] | [_, Some(_), None] => Kind::Delete,
        [base, Some(ours), Some(theirs)] => {
            if ours.blob == theirs.blob {
                Kind::Mode
            } else if said("binary") || modes().any(|mode| mode == LINK) {
                Kind::Binary
            } else if base.is_none() {
                Kind::Add
            } else {
                Kind::Content
            }
        }
    }
}

/// Git's own sentence without its prefix.
fn explanation(complaint: &Message) -> String {
    let text = complaint.text.as_str();
    let text = text.split_once("): ").map_or(text, |(_, rest)| rest);
    text.chars().take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";
    const TREE: &str = "3808e7978056ba452d6a74f5bfb2c97ee51b8aad";

    fn conflicts_of(listing: &str) -> Vec<Conflict> {
        let listing = listing
            .replace('|', "\0")
            .replace("TREE", TREE)
            .replace("ONE", ONE)
            .replace("TWO", TWO);
        Listing::parse(listing.as_bytes()).unwrap().conflicts()
    }

    #[test]
    fn a_clean_merge_has_no_conflicts() {
        let listing = format!("{TREE}\0\x001\0k\0Auto-merging\0Auto-merging k\n\0");
        let listing = Listing::parse(listing.as_bytes()).unwrap();
        assert_eq!(listing.tree.to_string(), TREE);
        assert!(listing.conflicts().is_empty());
        assert_eq!(listing.content_merged(), [PathBuf::from("k")]);
        let bare = Listing::parse(format!("{TREE}\0").as_bytes()).unwrap();
        assert!(bare.conflicts().is_empty());
    }

    #[test]
    fn two_renames_of_one_file_are_one_conflict() {
        let conflicts = conflicts_of(
            "TREE|100644 ONE 1\tx|100644 ONE 2\ty|100644 ONE 3\tz||3|x|y|z|CONFLICT (rename/rename)|CONFLICT (rename/rename): x renamed to y in a1 and to z in a2.\n|",
        );
        let [conflict] = conflicts.as_slice() else {
            panic!("{conflicts:?}");
        };
        assert_eq!(conflict.kind, Kind::Rename);
        assert_eq!(conflict.unmerged.len(), 3);
        assert_eq!(conflict.ours.as_ref().unwrap().path, PathBuf::from("y"));
        assert_eq!(conflict.theirs.as_ref().unwrap().path, PathBuf::from("z"));
    }

    #[test]
    fn a_file_added_to_a_renamed_folder_knows_both_places() {
        let conflicts = conflicts_of(
            "TREE|100644 ONE 3\te/new||2|e/new|d/new|CONFLICT (directory rename suggested)|CONFLICT (file location): d/new added\n|",
        );
        let [conflict] = conflicts.as_slice() else {
            panic!("{conflicts:?}");
        };
        assert_eq!(conflict.kind, Kind::Rename);
        assert_eq!(conflict.ours.as_ref().unwrap().path, PathBuf::from("e/new"));
        assert_eq!(
            conflict.theirs.as_ref().unwrap().path,
            PathBuf::from("d/new")
        );
    }

    #[test]
    fn a_conflict_without_index_entries_is_one_too() {
        let conflicts = conflicts_of(
            "TREE||1|d|CONFLICT(directory rename unclear split)|CONFLICT (directory rename split): Unclear where to rename d to\n|",
        );
        assert_eq!(conflicts.len(), 1);
        assert_eq!(conflicts[0].path, PathBuf::from("d"));
        assert!(conflicts[0].explanation.starts_with("Unclear"));
    }

    #[test]
    fn kinds_are_told_apart() {
        for (listing, kind) in [
            (
                "TREE|100644 ONE 1\tk|100644 TWO 2\tk|100644 TREE 3\tk||1|k|CONFLICT (contents)|x\n|",
                Kind::Content,
            ),
            (
                "TREE|100644 TWO 2\tk|100644 TREE 3\tk||1|k|CONFLICT (contents)|x\n|",
                Kind::Add,
            ),
            (
                "TREE|100644 TWO 2\tk|100755 TWO 3\tk||1|k|CONFLICT (contents)|x\n|",
                Kind::Mode,
            ),
            (
                "TREE|100644 ONE 1\tk|100644 TWO 2\tk||1|k|CONFLICT (modify/delete)|x\n|",
                Kind::Delete,
            ),
            (
                "TREE|100644 ONE 1\tk|100644 TWO 3\tk||2|k|j|CONFLICT (rename/delete)|x\n|",
                Kind::Delete,
            ),
            (
                "TREE|160000 ONE 1\tk|160000 TWO 2\tk|160000 TREE 3\tk||1|k|CONFLICT (submodule)|x\n|",
                Kind::Submodule,
            ),
            (
                "TREE|100644 ONE 2\tp~h||2|p~h|p|CONFLICT (file/directory)|x\n|",
                Kind::Type,
            ),
            (
                "TREE|100644 ONE 1\tk|100644 TWO 2\tk|100644 TREE 3\tk||1|k|CONFLICT (binary)|x\n|1|k|CONFLICT (contents)|x\n|",
                Kind::Binary,
            ),
        ] {
            let conflicts = conflicts_of(listing);
            assert_eq!(conflicts.len(), 1, "{listing}");
            assert_eq!(conflicts[0].kind, kind, "{listing}");
        }
    }

    #[test]
    fn broken_listings_are_refused() {
        for listing in [
            "",
            "nonsense\0",
            &format!("{TREE}\0100644 x 2\tp\0"),
            &format!("{TREE}\0\0nine\0"),
        ] {
            assert!(Listing::parse(listing.as_bytes()).is_err(), "{listing:?}");
        }
    }
}
