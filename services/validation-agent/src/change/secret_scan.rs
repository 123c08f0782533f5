//! Scans everything that a range of commits brings for secrets. Knows which texts are new; the scanner knows what a
//! secret is.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::Arc,
};

use agent_runtime::repository::{CommitId, Repository};

use super::{ChangeError, object};
use crate::secrets::{Scanner, Secret};

/// Larger files are not scanned for secrets; that they were not is said.
const MAXIMUM_SCANNED_BYTES: usize = 32 * 1024 * 1024;
/// More commits than this are not one change.
const MAXIMUM_COMMITS: usize = 10_000;
/// Path under which the message of a commit is scanned.
const MESSAGE_PATH: &str = "(commit message)";

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
pub(super) fn readable(content: &[u8]) -> String {
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
