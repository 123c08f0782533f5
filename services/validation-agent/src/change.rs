//! Reads a change out of the repository: texts before and after for the judge, added lines for coverage, and
//! every new blob of every commit for the secret scan. Judges nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    sync::Arc,
};

use agent_runtime::repository::{ChangeKind, CommitId, Error as RepositoryError, Repository};
use thiserror::Error;

use crate::{
    judge::ChangedFile,
    secrets::{Scanner, Secret},
};

/// Larger files are not read as text by the judge: their digest stands for them.
const MAXIMUM_TEXT_BYTES: usize = 2 * 1024 * 1024;
/// Larger files are not scanned for secrets; that they were not is said.
const MAXIMUM_SCANNED_BYTES: usize = 32 * 1024 * 1024;
/// More commits than this are not one change.
const MAXIMUM_COMMITS: usize = 10_000;
/// Path under which the message of a commit is scanned.
const MESSAGE_PATH: &str = "(commit message)";

/// The change could not be read.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// An object of the repository.
    #[error("reading {what} of the repository")]
    Object {
        /// Which one.
        what: String,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn object<E: std::error::Error + Send + Sync + 'static>(
    what: impl Into<String>,
) -> impl FnOnce(E) -> ChangeError {
    let what = what.into();
    move |source| ChangeError::Object {
        what,
        source: Box::new(source),
    }
}

/// Whether two commits have the same files.
pub async fn is_same_tree(
    repository: &Repository,
    one: CommitId,
    other: CommitId,
) -> Result<bool, RepositoryError> {
    let one = repository.commit_summary(one).await?;
    let other = repository.commit_summary(other).await?;
    Ok(one.tree == other.tree)
}

/// Every changed file with its texts.
pub async fn texts(
    repository: &Repository,
    base: CommitId,
    head: CommitId,
) -> Result<Vec<ChangedFile>, ChangeError> {
    let paths = repository.changed_paths(Some(base), head).await?;
    repository
        .with_objects("read the changed files", move |objects, gone| {
            let tree = |commit: CommitId| {
                objects
                    .find_commit(commit.oid())
                    .and_then(|commit| commit.tree())
                    .map_err(object(format!("commit {commit}")))
            };
            let (base, head) = (tree(base)?, tree(head)?);
            let text = |at_base: bool, path: &Path| -> Result<Option<String>, ChangeError> {
                let Ok(entry) = (if at_base { &base } else { &head }).get_path(path) else {
                    return Ok(None);
                };
                // A submodule is a commit of another repository: its id stands for it.
                let Ok(blob) = objects.find_blob(entry.id()) else {
                    return Ok(Some(format!("commit {}", entry.id())));
                };
                let content = blob.content();
                if content.len() > MAXIMUM_TEXT_BYTES || content.contains(&0) {
                    return Ok(Some(format!("binary {}", entry.id())));
                }
                Ok(Some(String::from_utf8_lossy(content).into_owned()))
            };
            let mut files = Vec::with_capacity(paths.len());
            for changed in paths {
                gone.check("read the changed files")?;
                let old = changed.old_path.as_deref().unwrap_or(&changed.path);
                let before = match changed.kind {
                    ChangeKind::Added => None,
                    ChangeKind::Modified
                    | ChangeKind::Deleted
                    | ChangeKind::Renamed
                    | ChangeKind::TypeChanged => text(true, old)?,
                };
                let after = match changed.kind {
                    ChangeKind::Deleted => None,
                    ChangeKind::Modified
                    | ChangeKind::Added
                    | ChangeKind::Renamed
                    | ChangeKind::TypeChanged => text(false, &changed.path)?,
                };
                files.push(ChangedFile {
                    path: changed.path.to_string_lossy().into_owned(),
                    old_path: changed
                        .old_path
                        .as_ref()
                        .map(|path| path.to_string_lossy().into_owned()),
                    before,
                    after,
                });
            }
            Ok(files)
        })
        .await
}

/// Added and changed lines by path, binary files left out.
pub async fn added_lines(
    repository: &Repository,
    base: CommitId,
    head: CommitId,
) -> Result<BTreeMap<String, BTreeSet<u32>>, RepositoryError> {
    let files = repository.diff(Some(base), head).await?;
    Ok(files
        .into_iter()
        .filter(|file| !file.is_binary && !file.added.is_empty())
        .map(|file| {
            let path = file.change.path.to_string_lossy().into_owned();
            (path, file.added.into_iter().flatten().collect())
        })
        .collect())
}

/// A secret with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedSecret {
    /// What was found.
    pub secret: Secret,
    /// In which file, or the message of a commit.
    pub path: String,
    /// Which commit brings it; `None`: the tree that was judged alone.
    pub commit: Option<CommitId>,
}

/// What the secret scan saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretScan {
    /// Secrets that the base does not have.
    pub secrets: Vec<PlacedSecret>,
    /// Texts that were scanned.
    pub scanned_count: u64,
    /// Commits that were walked.
    pub commit_count: u64,
    /// Files that are too large to be scanned.
    pub too_large: Vec<String>,
}

/// Scans everything that the commits of base..head bring, whether or not a later one removes it; without a base, all
/// files of the head. What the base's files have already is not new.
pub async fn scan_for_secrets(
    repository: &Repository,
    scanner: Arc<Scanner>,
    base: Option<CommitId>,
    head: CommitId,
) -> Result<SecretScan, ChangeError> {
    let commits = match base {
        Some(_) => {
            repository
                .commits_between(base, head, MAXIMUM_COMMITS)
                .await?
        }
        None => Vec::new(),
    };
    let whole = base.is_none();
    let ids: Vec<CommitId> = if whole {
        vec![head]
    } else {
        commits.iter().map(|commit| commit.id).collect()
    };
    repository
        .with_objects("scan for secrets", move |objects, gone| {
            let mut walk = Walk {
                scanner: &scanner,
                scan: SecretScan::default(),
                seen: HashSet::new(),
                found: HashSet::new(),
            };
            // Oldest first, so that a secret is placed where it came in.
            for id in ids.into_iter().rev() {
                let commit = objects
                    .find_commit(id.oid())
                    .map_err(object(format!("commit {id}")))?;
                let tree = commit.tree().map_err(object(format!("commit {id}")))?;
                let parent = match commit.parent(0) {
                    Ok(parent) if !whole => {
                        Some(parent.tree().map_err(object(format!("parent of {id}")))?)
                    }
                    _ => None,
                };
                let diff = objects
                    .diff_tree_to_tree(parent.as_ref(), Some(&tree), None)
                    .map_err(object(format!("changes of {id}")))?;
                let place = (!whole).then_some(id);
                for delta in diff.deltas() {
                    gone.check("scan for secrets")?;
                    let file = delta.new_file();
                    let (Some(path), true) = (file.path(), file.exists()) else {
                        continue;
                    };
                    let path = path.to_string_lossy().into_owned();
                    if let Ok(blob) = objects.find_blob(file.id()) {
                        walk.blob(file.id().to_string(), &path, blob.content(), place);
                    }
                }
                if !whole {
                    let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
                    walk.text(MESSAGE_PATH, &message, place);
                    walk.scan.commit_count += 1;
                }
            }
            let mut scan = walk.scan;
            if let (Some(base), false) = (base, scan.secrets.is_empty()) {
                let tree = objects
                    .find_commit(base.oid())
                    .and_then(|commit| commit.tree())
                    .map_err(object(format!("commit {base}")))?;
                let known = known_at_base(&scanner, &scan.secrets, |path| {
                    let entry = tree.get_path(Path::new(path)).ok()?;
                    Some(objects.find_blob(entry.id()).ok()?.content().to_vec())
                });
                scan.secrets
                    .retain(|found| !known.contains(&found.secret.identity));
                if !scan.secrets.is_empty() {
                    let all = objects
                        .diff_tree_to_tree(None, Some(&tree), None)
                        .map_err(object(format!("files of {base}")))?;
                    for delta in all.deltas() {
                        gone.check("scan for secrets")?;
                        let file = delta.new_file();
                        let (Some(path), Ok(blob)) = (file.path(), objects.find_blob(file.id()))
                        else {
                            continue;
                        };
                        if blob.content().len() > MAXIMUM_SCANNED_BYTES {
                            continue;
                        }
                        let known: HashSet<String> = scanner
                            .scan(&path.to_string_lossy(), &readable(blob.content()))
                            .into_iter()
                            .map(|secret| secret.identity)
                            .collect();
                        scan.secrets
                            .retain(|found| !known.contains(&found.secret.identity));
                        if scan.secrets.is_empty() {
                            break;
                        }
                    }
                }
            }
            Ok(scan)
        })
        .await
}

/// The secrets that the base has at the same paths: by far the commonest place.
fn known_at_base(
    scanner: &Scanner,
    secrets: &[PlacedSecret],
    read: impl Fn(&str) -> Option<Vec<u8>>,
) -> HashSet<String> {
    let paths: BTreeSet<&str> = secrets.iter().map(|found| found.path.as_str()).collect();
    paths
        .into_iter()
        .filter_map(|path| Some((path, read(path)?)))
        .filter(|(_, content)| content.len() <= MAXIMUM_SCANNED_BYTES)
        .flat_map(|(path, content)| scanner.scan(path, &readable(&content)))
        .map(|secret| secret.identity)
        .collect()
}

struct Walk<'a> {
    scanner: &'a Scanner,
    scan: SecretScan,
    seen: HashSet<(String, String)>,
    found: HashSet<(String, String)>,
}

impl Walk<'_> {
    fn blob(&mut self, id: String, path: &str, content: &[u8], commit: Option<CommitId>) {
        if !self.seen.insert((id, path.to_owned())) {
            return;
        }
        if content.len() > MAXIMUM_SCANNED_BYTES {
            self.scan.too_large.push(path.to_owned());
            return;
        }
        self.text(path, &readable(content), commit);
    }

    fn text(&mut self, path: &str, text: &str, commit: Option<CommitId>) {
        self.scan.scanned_count += 1;
        for secret in self.scanner.scan(path, text) {
            if self
                .found
                .insert((path.to_owned(), secret.identity.clone()))
            {
                self.scan.secrets.push(PlacedSecret {
                    secret,
                    path: path.to_owned(),
                    commit,
                });
            }
        }
    }
}

/// Bytes as text; UTF-16 is told by its byte order mark.
fn readable(content: &[u8]) -> String {
    let wide = |read: fn([u8; 2]) -> u16| {
        let units = content
            .chunks_exact(2)
            .skip(1)
            .map(|pair| read([pair[0], pair[1]]));
        char::decode_utf16(units)
            .map(|unit| unit.unwrap_or('\u{fffd}'))
            .collect()
    };
    match content {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => String::from_utf8_lossy(content).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use agent_runtime::repository::{CommitId, Repository, RepositoryCache};
    use testkit::repository::{Commit, Repository as Fixture};

    use super::{SecretScan, readable, scan_for_secrets, texts};
    use crate::secrets::Scanner;

    static SCANNER: LazyLock<Arc<Scanner>> = LazyLock::new(|| Arc::new(Scanner::new().unwrap()));

    /// A GitHub token, put together here.
    fn token(tail: &str) -> String {
        format!("ghp_{}{tail}", "q7Zk29xVb4LmWt8RpY3sHd6JfGc1")
    }

    async fn open(fixture: &Fixture, folder: &std::path::Path) -> Repository {
        RepositoryCache::new(folder)
            .open(&fixture.url())
            .await
            .unwrap()
    }

    async fn scan(fixture: &Fixture, base: Option<&str>, head: &str) -> SecretScan {
        let folder = tempfile::tempdir().unwrap();
        let repository = open(fixture, folder.path()).await;
        let base = base.map(|base| base.parse::<CommitId>().unwrap());
        scan_for_secrets(&repository, SCANNER.clone(), base, head.parse().unwrap())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_secret_that_a_later_commit_removes_is_found_where_it_came_in() {
        let mut fixture = Fixture::with_files([("a.py", "x = 1\n")]).unwrap();
        let base = fixture
            .commit(Commit::on("main").write("b.py", "y = 1\n"))
            .unwrap();
        let bad = fixture
            .commit(
                Commit::on("main").write("a.py", format!("x = 1\nt = '{}'\n", token("Aa0Bb1Cc"))),
            )
            .unwrap();
        let head = fixture
            .commit(Commit::on("main").write("a.py", "x = 2\n"))
            .unwrap();
        let scan = scan(&fixture, Some(&base), &head).await;
        assert_eq!(scan.secrets.len(), 1);
        assert_eq!(scan.secrets[0].commit.unwrap().to_string(), bad);
        assert_eq!(
            (scan.secrets[0].path.as_str(), scan.secrets[0].secret.line),
            ("a.py", 2)
        );
        assert_eq!(scan.commit_count, 2);
    }

    #[tokio::test]
    async fn a_secret_that_a_merged_parent_brings_is_found() {
        let mut fixture = Fixture::with_files([("a.py", "x = 1\n")]).unwrap();
        let base = fixture
            .commit(Commit::on("main").write("b.py", "y = 1\n"))
            .unwrap();
        let side = fixture
            .commit(
                Commit::on("side")
                    .from(&base)
                    .write("s.py", token("Aa0Bb1Cc")),
            )
            .unwrap();
        let head = fixture
            .commit(Commit::on("main").merging(&side).write("c.py", "z = 1\n"))
            .unwrap();
        assert_eq!(scan(&fixture, Some(&base), &head).await.secrets.len(), 1);
    }

    #[tokio::test]
    async fn what_the_base_has_is_not_new_also_in_another_file() {
        let secret = format!("t = '{}'\n", token("Aa0Bb1Cc"));
        let mut fixture = Fixture::with_files([("old.py", secret.as_str())]).unwrap();
        let base = fixture
            .commit(Commit::on("main").write("b.py", "y = 1\n"))
            .unwrap();
        let head = fixture
            .commit(
                Commit::on("main")
                    .delete("old.py")
                    .write("new.py", format!("# moved\n{secret}")),
            )
            .unwrap();
        assert!(scan(&fixture, Some(&base), &head).await.secrets.is_empty());
        let other = fixture
            .commit(Commit::on("main").write("new.py", token("Zz9Yy8Xx")))
            .unwrap();
        assert_eq!(scan(&fixture, Some(&base), &other).await.secrets.len(), 1);
        // Judged alone, all of the tree counts.
        assert_eq!(scan(&fixture, None, &base).await.secrets.len(), 1);
    }

    #[tokio::test]
    async fn commit_messages_count() {
        let mut fixture = Fixture::with_files([("a.py", "x = 1\n")]).unwrap();
        let base = fixture
            .commit(Commit::on("main").write("b.py", "y = 1\n"))
            .unwrap();
        let head = fixture
            .commit(
                Commit::on("main")
                    .message(&format!("Use {}", token("Aa0Bb1Cc")))
                    .write("b.py", "y = 2\n"),
            )
            .unwrap();
        assert_eq!(scan(&fixture, Some(&base), &head).await.secrets.len(), 1);
    }

    #[tokio::test]
    async fn texts_of_both_sides_are_read() {
        let mut fixture =
            Fixture::with_files([("a.py", "1\n"), ("gone.py", "2\n"), ("bin", "\0")]).unwrap();
        let base = fixture
            .commit(Commit::on("main").write("keep.py", "3\n"))
            .unwrap();
        let head = fixture
            .commit(
                Commit::on("main")
                    .write("a.py", "4\n")
                    .delete("gone.py")
                    .write("new.py", "5\n")
                    .write("bin", "\0\0"),
            )
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let repository = open(&fixture, folder.path()).await;
        let files = texts(&repository, base.parse().unwrap(), head.parse().unwrap())
            .await
            .unwrap();
        let find = |path: &str| {
            let file = files.iter().find(|file| file.path == path).unwrap();
            (file.before.clone(), file.after.clone())
        };
        assert_eq!(find("a.py"), (Some("1\n".into()), Some("4\n".into())));
        assert_eq!(find("gone.py"), (Some("2\n".into()), None));
        assert_eq!(find("new.py"), (None, Some("5\n".into())));
        let (before, after) = find("bin");
        assert!(before != after && before.unwrap().starts_with("binary "));
    }

    #[test]
    fn wide_text_is_read() {
        let wide: Vec<u8> = [0xff, 0xfe]
            .into_iter()
            .chain("ab".encode_utf16().flat_map(u16::to_le_bytes))
            .collect();
        assert_eq!(readable(&wide), "ab");
    }
}
