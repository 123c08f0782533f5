//! The files of a draft: those of the commit, with the edits so far on top. Edits are anchored on exact text, stay
//! inside the repository, and never break the form of a file that was well formed.

use std::collections::BTreeMap;

use agent_runtime::repository::{FileChange, FileKind, FileWrite, TreePath};

use super::files::{lines_with, nearest_line, parse};
use crate::{generator::Error, source::Source};

/// Largest file that is read or written.
const FILE_BYTES: usize = 1024 * 1024;
/// Most files of a draft.
const EDIT_COUNT: usize = 500;
/// Most lines that a search gives, and most bytes that it reads.
const MATCHES: usize = 50;
const SEARCH_BYTES: usize = 32 * 1024 * 1024;
/// Most characters of a line that a search gives.
const LINE_CHARACTERS: usize = 300;

/// The files of a draft.
pub(super) struct Workbench<'a> {
    source: &'a Source,
    // `None`: removed.
    edits: BTreeMap<TreePath, Option<String>>,
}

/// A problem of the model's making, told to it in a sentence.
pub(super) type Refusal = String;

impl<'a> Workbench<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self {
            source,
            edits: BTreeMap::new(),
        }
    }

    /// Goes on from edits that were made before.
    pub(super) fn restore(&mut self, changes: &[FileChange]) {
        for change in changes {
            let edit = match &change.write {
                FileWrite::Removed => None,
                // Whatever was kept was text when it was written.
                FileWrite::File { content, .. } => {
                    Some(String::from_utf8_lossy(content).into_owned())
                }
                FileWrite::Link { .. } => continue,
            };
            self.edits.insert(change.path.clone(), edit);
        }
    }

    /// Every path that is there now.
    pub(super) fn paths(&self) -> impl Iterator<Item = &TreePath> {
        let kept = self
            .source
            .files()
            .keys()
            .filter(|path| !self.edits.contains_key(*path));
        let edited = self.edits.iter().filter(|(_, edit)| edit.is_some());
        kept.chain(edited.map(|(path, _)| path))
    }

    /// The text of a file.
    pub(super) async fn read(&self, path: &TreePath) -> Result<Result<String, Refusal>, Error> {
        match self.edits.get(path) {
            Some(Some(text)) => return Ok(Ok(text.clone())),
            Some(None) => return Ok(Err(format!("{path} was deleted"))),
            None => {}
        }
        let Some(content) = self.source.content(path).await? else {
            return Ok(Err(match self.source.files().get(path) {
                Some(_) => {
                    format!("{path} is a link or a submodule, which cannot be read or edited")
                }
                None => format!("{path} does not exist"),
            }));
        };
        if content.len() > FILE_BYTES {
            return Ok(Err(format!(
                "{path} has {} bytes, at most {FILE_BYTES} can be read",
                content.len()
            )));
        }
        Ok(String::from_utf8(content).map_err(|_| format!("{path} is not text in UTF-8")))
    }

    /// Lines that contain the text, with path and number.
    pub(super) async fn search(&self, wanted: &str) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        let mut read = 0;
        let mut paths: Vec<&TreePath> = self.paths().collect();
        paths.sort();
        for path in paths {
            let Ok(text) = self.read(path).await? else {
                continue;
            };
            read += text.len();
            for (number, line) in lines_with(&text, wanted) {
                let line: String = line.trim().chars().take(LINE_CHARACTERS).collect();
                found.push(format!("{path}:{number}: {line}"));
                if found.len() == MATCHES {
                    return Ok(found);
                }
            }
            if read > SEARCH_BYTES {
                break;
            }
        }
        Ok(found)
    }

    /// Puts `new` in the place of `old`, which must be there exactly once. Gives the line.
    pub(super) async fn edit(
        &mut self,
        path: &TreePath,
        old: &str,
        new: &str,
    ) -> Result<Result<usize, Refusal>, Error> {
        let text = match self.read(path).await? {
            Ok(text) => text,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if old.is_empty() {
            return Ok(Err(
                "`old` is empty: say which text to replace, or use `write`".to_owned(),
            ));
        }
        let places: Vec<usize> = text.match_indices(old).map(|(at, _)| at).collect();
        let line_of = |at: usize| text[..at].matches('\n').count() + 1;
        let [at] = places[..] else {
            return Ok(Err(match nearest_line(&text, old) {
                _ if places.len() > 1 => {
                    let lines: Vec<String> = places
                        .iter()
                        .take(10)
                        .map(|&at| line_of(at).to_string())
                        .collect();
                    format!(
                        "`old` is in {path} {} times, at lines {}: take more of what is around it",
                        places.len(),
                        lines.join(", ")
                    )
                }
                Some((number, line)) => {
                    format!(
                        "`old` is not in {path}; the nearest line is {number}: `{}`",
                        line.trim()
                    )
                }
                None => format!("`old` is not in {path}, nor anything like it"),
            }));
        };
        let line = line_of(at);
        let edited = format!("{}{new}{}", &text[..at], &text[at + old.len()..]);
        Ok(self.keep(path, Some(&text), edited).map(|()| line))
    }

    /// Makes a file, or puts other content in one that is there. Says whether it is new.
    pub(super) async fn write(
        &mut self,
        path: &TreePath,
        content: String,
    ) -> Result<Result<bool, Refusal>, Error> {
        let is_there = self.paths().any(|other| other == path);
        if is_there {
            return Ok(match self.read(path).await? {
                Ok(text) => self.keep(path, Some(&text), content).map(|()| false),
                Err(refusal) => Err(refusal),
            });
        }
        let blocking = self.paths().find(|other| {
            other.as_path().starts_with(path.as_path())
                || path.as_path().starts_with(other.as_path())
        });
        if let Some(blocking) = blocking {
            return Ok(Err(format!(
                "{path} cannot be made: {blocking} is in its way"
            )));
        }
        Ok(self.keep(path, None, content).map(|()| true))
    }

    /// Removes a file.
    pub(super) fn delete(&mut self, path: &TreePath) -> Result<(), Refusal> {
        if !self.paths().any(|other| other == path) {
            return Err(format!("{path} does not exist"));
        }
        if self.source.files().contains_key(path) {
            self.edits.insert(path.clone(), None);
        } else {
            self.edits.remove(path);
        }
        Ok(())
    }

    fn keep(&mut self, path: &TreePath, before: Option<&str>, text: String) -> Result<(), Refusal> {
        let name = path.to_string();
        if text.len() > FILE_BYTES {
            return Err(format!(
                "{name} would have {} bytes, at most {FILE_BYTES}",
                text.len()
            ));
        }
        if self.edits.len() >= EDIT_COUNT && !self.edits.contains_key(path) {
            return Err(format!(
                "{EDIT_COUNT} files are changed already, which is the most"
            ));
        }
        // A new file must be well formed, and one that was must stay so.
        let was_sound = before.is_none_or(|before| parse(&name, before).is_ok());
        if was_sound && let Err(problem) = parse(&name, &text) {
            return Err(format!(
                "{name} would be malformed, so nothing was changed: {problem}"
            ));
        }
        self.edits.insert(path.clone(), Some(text));
        Ok(())
    }

    /// What changes, as a commit wants it.
    pub(super) fn changes(&self) -> Vec<FileChange> {
        self.edits
            .iter()
            .map(|(path, edit)| FileChange {
                path: path.clone(),
                write: match edit {
                    None => FileWrite::Removed,
                    Some(text) => FileWrite::File {
                        content: text.clone().into_bytes(),
                        executable: self.source.files().get(path) == Some(&FileKind::Executable),
                    },
                },
            })
            .collect()
    }
}
