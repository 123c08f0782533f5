//! Where a project's files are read from: a folder on disk, or the tree of a commit. Links are never
//! followed, and nothing is read beyond the limit that the reader sets.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

/// Most files that are looked at. A larger tree is cut off, and only detection can notice.
const MAX_FILES: usize = 200_000;

/// Deepest folder that is looked at.
const MAX_DEPTH: usize = 64;

/// Folders that hold what tools made, or what others wrote.
const IGNORED_FOLDERS: [&str; 7] = [
    ".git",
    "node_modules",
    "target",
    "__pycache__",
    ".venv",
    "venv",
    ".tox",
];

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing, or a folder.
    Absent,
    /// A link, a submodule, a socket: nothing that holds text of the project itself.
    Irregular,
    /// A file of more bytes than the reader wants.
    TooLarge,
    /// A file.
    Bytes(Vec<u8>),
}

/// A tree of files.
pub trait Source {
    /// Every regular file with a UTF-8 name, with `/` between the parts of its path.
    fn files(&self) -> &BTreeSet<String>;

    /// What is at `path`, if it has at most `limit` bytes.
    fn read(&self, path: &str, limit: usize) -> io::Result<Content>;
}

/// A checkout on disk.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    files: BTreeSet<String>,
}

impl Folder {
    /// Lists the files under `root`. Folders of git and of package managers are left out.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::read_dir(&root)?;
        let files = walkdir::WalkDir::new(&root)
            .follow_links(false)
            .max_depth(MAX_DEPTH)
            .into_iter()
            .filter_entry(|entry| {
                let ignored = entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| IGNORED_FOLDERS.contains(&name));
                entry.depth() == 0 || !(entry.file_type().is_dir() && ignored)
            })
            // What cannot be listed cannot be part of the project.
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_file())
            .filter_map(|entry| {
                let path = entry.path().strip_prefix(&root).ok()?.to_str()?;
                Some(path.to_owned())
            })
            .take(MAX_FILES)
            .collect();
        Ok(Self { root, files })
    }
}

impl Source for Folder {
    fn files(&self) -> &BTreeSet<String> {
        &self.files
    }

    fn read(&self, path: &str, limit: usize) -> io::Result<Content> {
        let mut place = self.root.clone();
        // No part of the path may be a link that leads somewhere else.
        for part in Path::new(path) {
            place.push(part);
            match fs::symlink_metadata(&place) {
                Ok(found) if found.is_symlink() => return Ok(Content::Irregular),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Content::Absent);
                }
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    return Ok(Content::Absent);
                }
                Err(error) => return Err(error),
            }
        }
        let found = fs::metadata(&place)?;
        if found.is_dir() {
            return Ok(Content::Absent);
        }
        if !found.is_file() {
            return Ok(Content::Irregular);
        }
        if found.len() > limit as u64 {
            return Ok(Content::TooLarge);
        }
        fs::read(&place).map(Content::Bytes)
    }
}

/// The tree of a commit.
pub struct GitTree<'r> {
    objects: &'r git2::Repository,
    files: BTreeSet<String>,
    entries: BTreeMap<String, (git2::Oid, bool)>,
}

impl<'r> GitTree<'r> {
    /// Lists the files of `commit`.
    pub fn of_commit(
        objects: &'r git2::Repository,
        commit: git2::Oid,
    ) -> Result<Self, git2::Error> {
        let tree = objects.find_commit(commit)?.tree()?;
        let mut files = BTreeSet::new();
        let mut entries = BTreeMap::new();
        let mut stack = vec![(String::new(), tree)];
        while let Some((prefix, tree)) = stack.pop() {
            for entry in &tree {
                let Ok(name) = entry.name() else { continue };
                let path = format!("{prefix}{name}");
                match entry.filemode() {
                    0o040_000 => {
                        let shallow = path.matches('/').count() < MAX_DEPTH;
                        if shallow && !IGNORED_FOLDERS.contains(&name) {
                            stack.push((format!("{path}/"), objects.find_tree(entry.id())?));
                        }
                    }
                    0o120_000 | 0o160_000 => {
                        entries.insert(path, (entry.id(), false));
                    }
                    _ => {
                        files.insert(path.clone());
                        entries.insert(path, (entry.id(), true));
                    }
                }
            }
            if files.len() > MAX_FILES {
                break;
            }
        }
        Ok(Self {
            objects,
            files,
            entries,
        })
    }
}

impl Source for GitTree<'_> {
    fn files(&self) -> &BTreeSet<String> {
        &self.files
    }

    fn read(&self, path: &str, limit: usize) -> io::Result<Content> {
        let Some((id, is_file)) = self.entries.get(path) else {
            let part_of_link = self.entries.iter().any(|(entry, (_, is_file))| {
                !is_file
                    && path
                        .strip_prefix(entry.as_str())
                        .is_some_and(|rest| rest.starts_with('/'))
            });
            return Ok(if part_of_link {
                Content::Irregular
            } else {
                Content::Absent
            });
        };
        if !is_file {
            return Ok(Content::Irregular);
        }
        let store = self.objects.odb().map_err(io::Error::other)?;
        let (size, _) = store.read_header(*id).map_err(io::Error::other)?;
        if size > limit {
            return Ok(Content::TooLarge);
        }
        let blob = self.objects.find_blob(*id).map_err(io::Error::other)?;
        Ok(Content::Bytes(blob.content().to_vec()))
    }
}

/// Files in memory, for tests.
#[cfg(test)]
pub(super) struct Fixture {
    files: BTreeSet<String>,
    contents: BTreeMap<String, Vec<u8>>,
}

#[cfg(test)]
impl Fixture {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        Self {
            files: files.iter().map(|(path, _)| (*path).to_owned()).collect(),
            contents: files
                .iter()
                .map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec()))
                .collect(),
        }
    }
}

#[cfg(test)]
impl Source for Fixture {
    fn files(&self) -> &BTreeSet<String> {
        &self.files
    }

    fn read(&self, path: &str, limit: usize) -> io::Result<Content> {
        Ok(match self.contents.get(path) {
            None => Content::Absent,
            Some(bytes) if bytes.len() > limit => Content::TooLarge,
            Some(bytes) => Content::Bytes(bytes.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_never_leads_out_of_itself() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::create_dir_all(root.path().join("node_modules/x")).unwrap();
        fs::write(root.path().join("a/b/c"), "text").unwrap();
        fs::write(root.path().join("node_modules/x/y"), "text").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), root.path().join("file"))
            .unwrap();
        let folder = Folder::open(root.path()).unwrap();
        assert_eq!(folder.files().iter().collect::<Vec<_>>(), ["a/b/c"]);
        let read = |path: &str| folder.read(path, 10).unwrap();
        assert_eq!(read("a/b/c"), Content::Bytes(b"text".to_vec()));
        assert_eq!(read("link/secret"), Content::Irregular);
        assert_eq!(read("file"), Content::Irregular);
        assert_eq!(read("a/b"), Content::Absent);
        assert_eq!(read("a/b/c/d"), Content::Absent);
        assert_eq!(folder.read("a/b/c", 3).unwrap(), Content::TooLarge);
        assert!(Folder::open(root.path().join("nowhere")).is_err());
    }

    #[test]
    fn a_commit_is_read_without_a_checkout() {
        let folder = tempfile::tempdir().unwrap();
        let objects = git2::Repository::init(folder.path()).unwrap();
        let text = objects.blob(b"text").unwrap();
        let target = objects.blob(b"/etc/passwd").unwrap();
        let mut inner = objects.treebuilder(None).unwrap();
        inner.insert("c", text, 0o100_644).unwrap();
        inner.insert("link", target, 0o120_000).unwrap();
        let inner = inner.write().unwrap();
        let mut root = objects.treebuilder(None).unwrap();
        root.insert("a", inner, 0o040_000).unwrap();
        let tree = objects.find_tree(root.write().unwrap()).unwrap();
        let author = git2::Signature::now("a", "a@example.org").unwrap();
        let commit = objects
            .commit(None, &author, &author, "m", &tree, &[])
            .unwrap();
        let source = GitTree::of_commit(&objects, commit).unwrap();
        assert_eq!(source.files().iter().collect::<Vec<_>>(), ["a/c"]);
        assert_eq!(
            source.read("a/c", 10).unwrap(),
            Content::Bytes(b"text".to_vec())
        );
        assert_eq!(source.read("a/c", 3).unwrap(), Content::TooLarge);
        assert_eq!(source.read("a/link", 10).unwrap(), Content::Irregular);
        assert_eq!(source.read("a/link/x", 10).unwrap(), Content::Irregular);
        assert_eq!(source.read("a", 10).unwrap(), Content::Absent);
    }
}
