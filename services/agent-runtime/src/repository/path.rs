//! Paths inside a repository. A `TreePath` cannot leave the folder it is joined to, nor name git's own.

use std::{
    fmt,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::Error;

/// A relative path made of plain names, as git trees hold them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreePath(PathBuf);

/// The longest path that we write, in bytes (Linux's `PATH_MAX` minus room for the checkout's own).
const LONGEST: usize = 3072;

impl TreePath {
    /// Checks a path from a task, a model or a tree.
    pub fn parse(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = path.as_os_str().as_bytes();
        let refuse = |reason| {
            Err(Error::InvalidPath {
                path: path.to_string_lossy().chars().take(200).collect(),
                reason,
            })
        };
        if bytes.is_empty() {
            return refuse("it is empty");
        }
        if bytes.len() > LONGEST {
            return refuse("it is longer than 3072 bytes");
        }
        if bytes[0] == b'/' {
            return refuse("it must be relative");
        }
        for part in bytes.split(|&byte| byte == b'/') {
            if let Err(reason) = check_name(part) {
                return refuse(reason);
            }
        }
        Ok(Self(path.to_owned()))
    }

    /// The path, relative to the repository's root.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The path as bytes with `/` between its names.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_os_str().as_bytes()
    }
}

impl AsRef<Path> for TreePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Whether one name may stand in a tree that we check out or write.
pub(super) fn check_name(name: &[u8]) -> Result<(), &'static str> {
    match name {
        b"" => Err("it has an empty name in it"),
        b"." | b".." => Err("it must not contain `.` or `..`"),
        _ if name.contains(&0) => Err("it holds a NUL byte"),
        _ if name.contains(&b'/') => Err("a name holds a slash"),
        _ if name.len() > 255 => Err("a name in it is longer than 255 bytes"),
        _ if is_git_folder(name) => Err("it names git's own folder"),
        _ => Ok(()),
    }
}

/// `.git` in the spellings that case-insensitive and Windows file systems take for it.
fn is_git_folder(name: &[u8]) -> bool {
    let name = name.split(|&byte| byte == b':').next().unwrap_or(name);
    let end = name
        .iter()
        .rposition(|&byte| byte != b' ' && byte != b'.')
        .map_or(0, |last| last + 1);
    name[..end].eq_ignore_ascii_case(b".git") || name[..end].eq_ignore_ascii_case(b"git~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_taken() {
        for path in [
            "a",
            "src/main.rs",
            ".gitignore",
            ".github/x",
            "a b/ü",
            "...",
        ] {
            assert!(TreePath::parse(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for path in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../../x",
            "a//b",
            "a/",
            "./a",
            ".git",
            ".git/config",
            "a/.GIT/hooks/x",
            ".git./x",
            ".git /x",
            "git~1/x",
            ".git::$INDEX_ALLOCATION/x",
            "a\0b",
        ] {
            assert!(TreePath::parse(path).is_err(), "{path:?}");
        }
    }
}
