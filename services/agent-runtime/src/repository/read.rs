//! Reads commits, trees and files. Bounded: a file or a tree beyond what agents can work with is an error.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::PathBuf};

use super::{CallerGone, CommitId, Error, Repository, TreePath};

/// Largest file that is read into memory, in bytes.
const LARGEST_FILE: usize = 64 * 1024 * 1024;
/// Most files of one tree.
pub(super) const MOST_FILES: usize = 500_000;

/// What an entry of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// An ordinary file.
    File,
    /// A file with the executable bit.
    Executable,
    /// A symbolic link; its content is where it points to.
    Link,
    /// A commit of another repository.
    Submodule,
}

impl FileKind {
    /// The kind's mode in a git tree.
    pub fn mode(self) -> u32 {
        match self {
            Self::File => 0o100_644,
            Self::Executable => 0o100_755,
            Self::Link => 0o120_000,
            Self::Submodule => 0o160_000,
        }
    }
}

/// One file of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeFile {
    /// Where it is. Not necessarily a path that may be checked out: see [`TreePath::parse`].
    pub path: PathBuf,
    /// What it is.
    pub kind: FileKind,
    /// Its content's id; a submodule's commit.
    pub id: git2::Oid,
}

/// What a commit says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitSummary {
    /// The commit.
    pub id: CommitId,
    /// Its tree.
    pub tree: git2::Oid,
    /// Its parents, first parent first.
    pub parents: Vec<CommitId>,
    /// The author's name.
    pub author_name: String,
    /// The author's address.
    pub author_email: String,
    /// When it was written, in seconds since 1970.
    pub author_time: i64,
    /// When it was committed, in seconds since 1970.
    pub commit_time: i64,
    /// The whole message.
    pub message: String,
}

impl Repository {
    /// A file's content at a commit; none when there is no file at that path. A link gives its target.
    pub async fn read_file(
        &self,
        commit: CommitId,
        path: &TreePath,
    ) -> Result<Option<Vec<u8>>, Error> {
        let path = path.clone();
        self.with_objects("read a file", move |objects, _| {
            let tree = tree_of(objects, commit)?;
            let entry = match tree.get_path(path.as_path()) {
                Ok(entry) => entry,
                Err(error) if error.code() == git2::ErrorCode::NotFound => return Ok(None),
                Err(error) => return Err(Error::object("read a file")(error)),
            };
            if entry.kind() != Some(git2::ObjectType::Blob) {
                return Ok(None);
            }
            let store = objects.odb().map_err(Error::object("read a file"))?;
            let (size, _) = store
                .read_header(entry.id())
                .map_err(Error::object("read a file"))?;
            if size > LARGEST_FILE {
                return Err(Error::TooLarge {
                    what: path.to_string(),
                    limit: format!("{LARGEST_FILE} bytes"),
                });
            }
            let blob = objects
                .find_blob(entry.id())
                .map_err(Error::object("read a file"))?;
            Ok(Some(blob.content().to_vec()))
        })
        .await
    }

    /// All files of a commit, in tree order.
    pub async fn tree(&self, commit: CommitId) -> Result<Vec<TreeFile>, Error> {
        self.with_objects("list a tree", move |objects, gone| {
            let tree = tree_of(objects, commit)?;
            let mut files = Vec::new();
            walk(objects, &tree, gone, &mut |file| {
                files.push(file);
                Ok(())
            })?;
            Ok(files)
        })
        .await
    }

    /// What a commit says about itself.
    pub async fn commit_summary(&self, commit: CommitId) -> Result<CommitSummary, Error> {
        self.with_objects("read a commit", move |objects, _| {
            summary(objects, commit.oid())
        })
        .await
    }

    /// The commits of `head` that `base` does not contain, newest first, at most `limit`; more is an error.
    pub async fn commits_between(
        &self,
        base: Option<CommitId>,
        head: CommitId,
        limit: usize,
    ) -> Result<Vec<CommitSummary>, Error> {
        let action = "list commits";
        self.with_objects(action, move |objects, gone| {
            let mut walk = objects.revwalk().map_err(Error::object(action))?;
            walk.set_sorting(git2::Sort::TOPOLOGICAL | git2::Sort::TIME)
                .and_then(|()| walk.push(head.oid()))
                .map_err(Error::object(action))?;
            if let Some(base) = base {
                walk.hide(base.oid()).map_err(Error::object(action))?;
            }
            let mut commits = Vec::new();
            for id in walk {
                gone.check(action)?;
                if commits.len() == limit {
                    return Err(Error::TooLarge {
                        what: format!("the history up to {head}"),
                        limit: format!("{limit} commits"),
                    });
                }
                commits.push(summary(objects, id.map_err(Error::object(action))?)?);
            }
            Ok(commits)
        })
        .await
    }
}

pub(super) fn tree_of(
    objects: &git2::Repository,
    commit: CommitId,
) -> Result<git2::Tree<'_>, Error> {
    objects
        .find_commit(commit.oid())
        .and_then(|commit| commit.tree())
        .map_err(Error::object("read a commit"))
}

fn summary(objects: &git2::Repository, id: git2::Oid) -> Result<CommitSummary, Error> {
    let commit = objects
        .find_commit(id)
        .map_err(Error::object("read a commit"))?;
    let author = commit.author();
    Ok(CommitSummary {
        id: id.into(),
        tree: commit.tree_id(),
        parents: commit.parent_ids().map(CommitId::from).collect(),
        author_name: String::from_utf8_lossy(author.name_bytes()).into_owned(),
        author_email: String::from_utf8_lossy(author.email_bytes()).into_owned(),
        author_time: author.when().seconds(),
        commit_time: commit.time().seconds(),
        message: String::from_utf8_lossy(commit.message_bytes()).into_owned(),
    })
}

/// Calls `each` for every file of `tree`, in tree order. Trees that nest beyond any real path are an error.
pub(super) fn walk(
    objects: &git2::Repository,
    tree: &git2::Tree<'_>,
    gone: &CallerGone,
    each: &mut dyn FnMut(TreeFile) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut count = 0;
    walk_into(objects, tree, gone, &PathBuf::new(), 0, &mut count, each)
}

fn walk_into(
    objects: &git2::Repository,
    tree: &git2::Tree<'_>,
    gone: &CallerGone,
    at: &std::path::Path,
    depth: usize,
    count: &mut usize,
    each: &mut dyn FnMut(TreeFile) -> Result<(), Error>,
) -> Result<(), Error> {
    gone.check("walk a tree")?;
    if depth > 200 {
        return Err(Error::TooLarge {
            what: format!("the tree at {}", at.display()),
            limit: "200 nested folders".to_owned(),
        });
    }
    for entry in tree {
        let path = at.join(OsStr::from_bytes(entry.name_bytes()));
        let kind = match entry.filemode() {
            0o040_000 => {
                let below = objects
                    .find_tree(entry.id())
                    .map_err(Error::object("read a tree"))?;
                walk_into(objects, &below, gone, &path, depth + 1, count, each)?;
                continue;
            }
            0o120_000 => FileKind::Link,
            0o160_000 => FileKind::Submodule,
            mode if mode & 0o111 != 0 => FileKind::Executable,
            _ => FileKind::File,
        };
        *count += 1;
        if *count > MOST_FILES {
            return Err(Error::TooLarge {
                what: "the tree".to_owned(),
                limit: format!("{MOST_FILES} files"),
            });
        }
        each(TreeFile {
            path,
            kind,
            id: entry.id(),
        })?;
    }
    Ok(())
}
