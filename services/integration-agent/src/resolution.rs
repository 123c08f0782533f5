//! Settles conflicts by taking one side, where somebody said which. What has no clear "one side" (a file
//! here, a folder there) stays open; nothing is settled by default.

use std::{
    collections::BTreeMap,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use agent_runtime::repository::Repository;
use git2::Oid;

use crate::{
    conflict::{Author, Choice, Conflict, Kind, Resolution, Side},
    hunks,
    merge::{Error, LONG_MARKERS, Markers, Merged, Sides, merge},
};

/// Which side was said to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choices {
    /// Nobody said anything.
    None,
    /// The same side everywhere.
    Everywhere(Choice, Author),
    /// A side for some paths.
    ByPath(BTreeMap<PathBuf, Choice>, Author),
}

impl Choices {
    fn of(&self, conflict: &Conflict) -> Option<(Choice, &Author)> {
        match self {
            Self::None => None,
            Self::Everywhere(choice, author) => Some((*choice, author)),
            Self::ByPath(paths, author) => {
                let choice = paths
                    .get(&conflict.path)
                    .or_else(|| conflict.unmerged.iter().find_map(|path| paths.get(path)))?;
                Some((*choice, author))
            }
        }
    }
}

/// Settles what was decided, and gives the merge as it is then.
pub async fn resolve(
    repository: &Repository,
    sides: Sides,
    mut merged: Merged,
    choices: &Choices,
) -> Result<Merged, Error> {
    let chosen: Vec<Option<(Choice, Author)>> = merged
        .conflicts
        .iter()
        .map(|conflict| {
            choices
                .of(conflict)
                .map(|(choice, author)| (choice, author.clone()))
        })
        .collect();
    let by_lines = merged
        .conflicts
        .iter()
        .zip(&chosen)
        .any(|(conflict, choice)| choice.is_some() && is_by_lines(conflict));
    if chosen.iter().all(Option::is_none) {
        return Ok(merged);
    }
    let marked = if by_lines {
        merge(repository, sides, Markers::Unmistakable).await?.tree
    } else {
        merged.tree
    };
    repository
        .with_objects("resolve conflicts", move |objects, _| {
            let mut tree = Tree::read(objects, merged.tree)?;
            for (conflict, choice) in merged.conflicts.iter_mut().zip(chosen) {
                let Some((choice, author)) = choice else {
                    continue;
                };
                let settled = if is_by_lines(conflict) {
                    tree.take_lines(marked, conflict, choice)?
                } else {
                    tree.take_file(conflict, choice)?
                };
                if let Settled::Yes(result) = settled {
                    conflict.resolution = Some(Resolution {
                        choice,
                        author,
                        result,
                    });
                }
            }
            merged.tree = tree.write()?;
            Ok(merged)
        })
        .await
}

/// Whether git marked disputed lines in one merged file.
fn is_by_lines(conflict: &Conflict) -> bool {
    matches!(conflict.kind, Kind::Content | Kind::Add)
        && conflict.ours.is_some()
        && conflict.theirs.is_some()
}

enum Settled {
    Yes(Option<Oid>),
    No,
}

struct Tree<'a> {
    objects: &'a git2::Repository,
    index: git2::Index,
}

impl<'a> Tree<'a> {
    fn read(objects: &'a git2::Repository, tree: Oid) -> Result<Self, Error> {
        let action = "read the merged tree";
        let tree = objects.find_tree(tree).map_err(Error::object(action))?;
        let mut index = git2::Index::new().map_err(Error::object(action))?;
        index.read_tree(&tree).map_err(Error::object(action))?;
        Ok(Self { objects, index })
    }

    fn write(mut self) -> Result<Oid, Error> {
        self.index
            .write_tree_to(self.objects)
            .map_err(Error::object("write the resolved tree"))
    }

    /// One side's lines in every dispute of the file, the agreed lines as they are.
    fn take_lines(
        &mut self,
        marked: Oid,
        conflict: &Conflict,
        choice: Choice,
    ) -> Result<Settled, Error> {
        let action = "resolve a file";
        let (Some(side), Some(entry)) = (
            conflict.side(choice),
            self.index.get_path(&conflict.path, 0),
        ) else {
            return Ok(Settled::No);
        };
        let content = self
            .objects
            .find_tree(marked)
            .and_then(|tree| tree.get_path(&conflict.path))
            .and_then(|entry| self.objects.find_blob(entry.id()))
            .map_err(Error::object(action))?;
        let own = self
            .objects
            .find_blob(side.blob)
            .map_err(Error::object(action))?;
        let Ok(pieces) = hunks::split(content.content(), LONG_MARKERS) else {
            return Ok(Settled::No);
        };
        // Without a dispute the markers have a length of their own (an attribute): not ours to guess.
        if !pieces
            .iter()
            .any(|piece| matches!(piece, hunks::Piece::Disputed { .. }))
        {
            return Ok(Settled::No);
        }
        let resolved = hunks::join(&pieces, choice, own.content().ends_with(b"\n"));
        let blob = self
            .objects
            .blob(&resolved)
            .map_err(Error::object(action))?;
        self.put(&Side {
            path: conflict.path.clone(),
            blob,
            mode: entry.mode,
        })?;
        Ok(Settled::Yes(Some(blob)))
    }

    /// One side's file as a whole, or its absence.
    fn take_file(&mut self, conflict: &Conflict, choice: Choice) -> Result<Settled, Error> {
        let nothing_known = conflict.ours.is_none() && conflict.theirs.is_none();
        if conflict.kind == Kind::Type || nothing_known {
            return Ok(Settled::No);
        }
        let side = conflict.side(choice);
        if conflict.kind == Kind::Rename
            && let Some(side) = side
            && self.has_markers(side)?
        {
            return Ok(Settled::No);
        }
        for path in &conflict.unmerged {
            self.index
                .remove(path, 0)
                .map_err(Error::object("remove a path"))?;
        }
        match side {
            None => Ok(Settled::Yes(None)),
            Some(side) => {
                self.put(side)?;
                Ok(Settled::Yes(Some(side.blob)))
            }
        }
    }

    /// Of a file renamed twice, git keeps the merged content at both names: with markers, if that is in
    /// dispute as well.
    fn has_markers(&self, side: &Side) -> Result<bool, Error> {
        if side.mode == 0o160_000 {
            return Ok(false);
        }
        let blob = self
            .objects
            .find_blob(side.blob)
            .map_err(Error::object("read a side"))?;
        let marked = blob
            .content()
            .split(|&byte| byte == b'\n')
            .any(|line| hunks::marker(line, 7) == Some(b'<'));
        Ok(marked)
    }

    fn put(&mut self, side: &Side) -> Result<(), Error> {
        self.index
            .add(&git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode: side.mode,
                uid: 0,
                gid: 0,
                file_size: 0,
                id: side.blob,
                flags: 0,
                flags_extended: 0,
                path: bytes_of(&side.path),
            })
            .map_err(Error::object("put a side into the tree"))
    }
}

fn bytes_of(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}
