//! Writes commits into our copy. The same input gives the same commit id; nothing is published here.

use std::os::unix::ffi::OsStrExt as _;

use super::{CommitId, Error, Repository, TreePath};

/// Content for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileWrite {
    /// A file with this content.
    File {
        /// The bytes.
        content: Vec<u8>,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link to this place.
    Link {
        /// What the link says.
        target: String,
    },
    /// Nothing: the file is removed. Removing what is not there is an error.
    Removed,
}

/// A change of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// The path.
    pub path: TreePath,
    /// What shall be there.
    pub write: FileWrite,
}

/// Everything that a commit is made of.
#[derive(Clone, Debug)]
pub struct NewCommit {
    /// The parents; changes apply to the first one's tree, or to an empty tree.
    pub parents: Vec<CommitId>,
    /// The changes. Of two for the same path the later one holds.
    pub changes: Vec<FileChange>,
    /// The message.
    pub message: String,
    /// Who wrote it.
    pub author_name: String,
    /// The author's address.
    pub author_email: String,
    /// When, in seconds since 1970, UTC. Taken from the task, never from the clock, so that the same task
    /// run twice gives the same commit.
    pub time: i64,
}

impl Repository {
    /// Writes a commit into our copy. It is nobody's until it is pushed.
    pub async fn commit(&self, new: NewCommit) -> Result<CommitId, Error> {
        self.with_objects("write a commit", move |objects, gone| {
            gone.check("write a commit")?;
            write(objects, &new)
        })
        .await
    }
}

fn write(objects: &git2::Repository, new: &NewCommit) -> Result<CommitId, Error> {
    let action = "write a commit";
    let parents = new
        .parents
        .iter()
        .map(|parent| objects.find_commit(parent.oid()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::object("read a parent"))?;
    let mut index = git2::Index::new().map_err(Error::object(action))?;
    if let Some(parent) = parents.first() {
        let tree = parent.tree().map_err(Error::object("read a parent"))?;
        index.read_tree(&tree).map_err(Error::object(action))?;
    }
    for change in &new.changes {
        apply(objects, &mut index, change)?;
    }
    let tree = index
        .write_tree_to(objects)
        .and_then(|id| objects.find_tree(id))
        .map_err(Error::object("write a tree"))?;
    let when = git2::Time::new(new.time, 0);
    let signature = git2::Signature::new(&new.author_name, &new.author_email, &when)
        .map_err(Error::object("sign a commit"))?;
    objects
        .commit(
            None,
            &signature,
            &signature,
            &new.message,
            &tree,
            &parents.iter().collect::<Vec<_>>(),
        )
        .map(CommitId::from)
        .map_err(Error::object(action))
}

fn apply(
    objects: &git2::Repository,
    index: &mut git2::Index,
    change: &FileChange,
) -> Result<(), Error> {
    let path = &change.path;
    let (content, mode) = match &change.write {
        FileWrite::File {
            content,
            executable,
        } => (
            content.as_slice(),
            if *executable { 0o100_755 } else { 0o100_644 },
        ),
        FileWrite::Link { target } => (target.as_bytes(), 0o120_000),
        FileWrite::Removed => {
            if index.get_path(path.as_path(), 0).is_none() {
                return Err(Error::InvalidPath {
                    path: path.to_string(),
                    reason: "it is to be removed, and is not there",
                });
            }
            return index
                .remove_path(path.as_path())
                .map_err(Error::object("remove a path"));
        }
    };
    let id = objects
        .blob(content)
        .map_err(Error::object("write a file"))?;
    make_room(index, path)?;
    index
        .add(&git2::IndexEntry {
            ctime: git2::IndexTime::new(0, 0),
            mtime: git2::IndexTime::new(0, 0),
            dev: 0,
            ino: 0,
            mode,
            uid: 0,
            gid: 0,
            file_size: 0,
            id,
            flags: 0,
            flags_extended: 0,
            path: path.as_bytes().to_vec(),
        })
        .map_err(Error::object("add a path"))
}

/// A file may not stand where a folder is, nor below another file: that loses the other one without a word.
fn make_room(index: &git2::Index, path: &TreePath) -> Result<(), Error> {
    let refuse = |reason| {
        Err(Error::InvalidPath {
            path: path.to_string(),
            reason,
        })
    };
    for above in path.as_path().ancestors().skip(1) {
        if !above.as_os_str().is_empty() && index.get_path(above, 0).is_some() {
            return refuse("a file stands where it needs a folder");
        }
    }
    let mut below = path.as_bytes().to_vec();
    below.push(b'/');
    if index
        .find_prefix(std::ffi::OsStr::from_bytes(&below))
        .is_ok()
    {
        return refuse("a folder stands in its place");
    }
    Ok(())
}
