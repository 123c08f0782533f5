//! What changed between two commits: paths, and the line numbers that are new. Renames are followed as
//! `git diff` does by default.

use std::{
    ffi::OsStr,
    ops::RangeInclusive,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{CallerGone, CommitId, Error, Repository, read::tree_of};

/// Largest file whose lines are compared, in bytes; above, it counts as binary, as in git.
const LARGEST_TEXT: i64 = 32 * 1024 * 1024;

/// How a path changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Its content or mode changed.
    Modified,
    /// It is gone.
    Deleted,
    /// It was moved, and perhaps changed.
    Renamed,
    /// It became another kind of thing (file, link, submodule).
    TypeChanged,
}

/// One changed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedPath {
    /// Where it is now; where it was, if it is gone.
    pub path: PathBuf,
    /// Where it was before a rename.
    pub old_path: Option<PathBuf>,
    /// How it changed.
    pub kind: ChangeKind,
}

/// The changed lines of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDiff {
    /// The path and how it changed.
    pub change: ChangedPath,
    /// Whether git takes it for binary: then it has no lines.
    pub is_binary: bool,
    /// Runs of new or changed lines, numbered from 1 in the new file, ascending.
    pub added: Vec<RangeInclusive<u32>>,
    /// How many lines are new.
    pub added_count: u64,
    /// How many lines are gone.
    pub removed_count: u64,
}

impl Repository {
    /// The paths that differ between two commits. Without a base, everything is new.
    pub async fn changed_paths(
        &self,
        base: Option<CommitId>,
        head: CommitId,
    ) -> Result<Vec<ChangedPath>, Error> {
        self.with_objects("compare commits", move |objects, _| {
            let diff = compare(objects, base, head)?;
            Ok(diff.deltas().map(|delta| changed(&delta)).collect())
        })
        .await
    }

    /// The lines that differ between two commits. Without a base, everything is new.
    pub async fn diff(
        &self,
        base: Option<CommitId>,
        head: CommitId,
    ) -> Result<Vec<FileDiff>, Error> {
        self.with_objects("compare commits", move |objects, gone| {
            let diff = compare(objects, base, head)?;
            (0..diff.deltas().len())
                .map(|index| file_diff(&diff, index, gone))
                .collect()
        })
        .await
    }

    /// The whole difference as a unified patch, cut after `limit` bytes; says whether it was cut.
    pub async fn patch(
        &self,
        base: Option<CommitId>,
        head: CommitId,
        limit: usize,
    ) -> Result<(String, bool), Error> {
        self.with_objects("compare commits", move |objects, _| {
            let diff = compare(objects, base, head)?;
            let mut text = Vec::new();
            let mut cut = false;
            let printed = diff.print(git2::DiffFormat::Patch, |_, _, line| {
                if matches!(line.origin(), '+' | '-' | ' ') {
                    text.push(line.origin() as u8);
                }
                text.extend_from_slice(line.content());
                cut = text.len() > limit;
                !cut
            });
            match printed {
                Err(error) if error.code() != git2::ErrorCode::User => {
                    Err(Error::object("print a patch")(error))
                }
                _ => {
                    text.truncate(limit);
                    Ok((String::from_utf8_lossy(&text).into_owned(), cut))
                }
            }
        })
        .await
    }
}

fn compare(
    objects: &git2::Repository,
    base: Option<CommitId>,
    head: CommitId,
) -> Result<git2::Diff<'_>, Error> {
    let old = base.map(|base| tree_of(objects, base)).transpose()?;
    let new = tree_of(objects, head)?;
    let mut options = git2::DiffOptions::new();
    options
        .context_lines(3)
        .include_typechange(true)
        .indent_heuristic(true)
        .max_size(LARGEST_TEXT);
    let mut diff = objects
        .diff_tree_to_tree(old.as_ref(), Some(&new), Some(&mut options))
        .map_err(Error::object("compare trees"))?;
    let mut similar = git2::DiffFindOptions::new();
    similar.renames(true).rename_limit(1000);
    diff.find_similar(Some(&mut similar))
        .map_err(Error::object("find renames"))?;
    Ok(diff)
}

fn changed(delta: &git2::DiffDelta<'_>) -> ChangedPath {
    let path_of = |file: git2::DiffFile<'_>| {
        Path::new(OsStr::from_bytes(file.path_bytes().unwrap_or_default())).to_owned()
    };
    let (old, new) = (path_of(delta.old_file()), path_of(delta.new_file()));
    let (kind, path, old_path) = match delta.status() {
        git2::Delta::Added | git2::Delta::Copied => (ChangeKind::Added, new, None),
        git2::Delta::Deleted => (ChangeKind::Deleted, old, None),
        git2::Delta::Renamed => (ChangeKind::Renamed, new, Some(old)),
        git2::Delta::Typechange => (ChangeKind::TypeChanged, new, None),
        git2::Delta::Modified
        | git2::Delta::Unmodified
        | git2::Delta::Ignored
        | git2::Delta::Untracked
        | git2::Delta::Unreadable
        | git2::Delta::Conflicted => (ChangeKind::Modified, new, None),
    };
    ChangedPath {
        path,
        old_path,
        kind,
    }
}

fn file_diff(diff: &git2::Diff<'_>, index: usize, gone: &CallerGone) -> Result<FileDiff, Error> {
    let action = "compare the lines of a file";
    gone.check(action)?;
    let patch = git2::Patch::from_diff(diff, index).map_err(Error::object(action))?;
    let delta = diff.get_delta(index).ok_or(Error::Git {
        action: "diff",
        detail: "a changed file disappeared".to_owned(),
    })?;
    let mut file = FileDiff {
        change: changed(&delta),
        is_binary: delta.flags().is_binary(),
        added: Vec::new(),
        added_count: 0,
        removed_count: 0,
    };
    let Some(patch) = patch else {
        return Ok(file);
    };
    // The flag is only known once the content was loaded.
    file.is_binary = patch.delta().flags().is_binary();
    for hunk in 0..patch.num_hunks() {
        let lines = patch
            .num_lines_in_hunk(hunk)
            .map_err(Error::object(action))?;
        for line in 0..lines {
            let line = patch
                .line_in_hunk(hunk, line)
                .map_err(Error::object(action))?;
            match (line.origin(), line.new_lineno()) {
                ('+', Some(number)) => {
                    file.added_count += 1;
                    extend(&mut file.added, number);
                }
                ('-', _) => file.removed_count += 1,
                _ => {}
            }
        }
    }
    Ok(file)
}

fn extend(ranges: &mut Vec<RangeInclusive<u32>>, number: u32) {
    match ranges.last_mut() {
        Some(last) if *last.end() + 1 == number => *last = *last.start()..=number,
        _ => ranges.push(number..=number),
    }
}
