//! Merges two commits in memory, with git's own merge machinery working on objects only: no work tree is
//! ever touched, and the answer is that of `git merge` with its defaults, attributes included. Knows nothing
//! of branches and of what is done about conflicts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use agent_runtime::repository::{self, CommitId, Repository};
use git2::Oid;

use crate::conflict::{Conflict, Kind, is_binary, side_in};

mod listing;

use self::listing::{Listing, UnknownListing};

/// Length of the conflict markers when they are to be read by us: long enough never to be content.
pub(crate) const LONG_MARKERS: usize = 61;

/// Git's defaults, said aloud.
const DEFAULTS: [&str; 6] = [
    "merge.renames=true",
    "merge.directoryRenames=conflict",
    "merge.conflictStyle=merge",
    "merge.renormalize=false",
    "merge.renameLimit=7000",
    "diff.renames=true",
];

/// Why a merge could not be made. A conflict is not an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something about the repository.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// Reading or writing objects failed.
    #[error("could not {action}")]
    Object {
        /// What was being done.
        action: &'static str,
        /// The cause.
        #[source]
        source: git2::Error,
    },
    /// A file of ours could not be written.
    #[error("could not write {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The two commits share no history.
    #[error("the two commits share no history")]
    Unrelated,
    /// The installed git cannot merge without a work tree.
    #[error("git 2.38 or newer is needed to merge ({detail})")]
    GitTooOld {
        /// What git said.
        detail: String,
    },
    /// Git failed.
    #[error("git merge-tree failed: {detail}")]
    Git {
        /// What git said.
        detail: String,
    },
    /// Git printed something new.
    #[error(transparent)]
    Listing(#[from] UnknownListing),
}

impl Error {
    pub(crate) fn object(action: &'static str) -> impl FnOnce(git2::Error) -> Self {
        move |source| Self::Object { action, source }
    }
}

/// Two commits to be merged.
#[derive(Clone, Copy, Debug)]
pub struct Sides {
    /// The ancestor to compare with; none: what their histories say.
    pub base: Option<CommitId>,
    /// The target's side.
    pub ours: CommitId,
    /// The source's side.
    pub theirs: CommitId,
}

/// How conflicts look in the merged files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Markers {
    /// As people know them.
    Usual,
    /// So that a program cannot take content for them.
    Unmistakable,
}

/// A merge, clean or not.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The merged tree. Files in conflict have markers in it.
    pub tree: Oid,
    /// The disagreements, by path.
    pub conflicts: Vec<Conflict>,
    /// Paths whose lines come from both sides.
    pub content_merged: Vec<PathBuf>,
    /// The base that the sides were compared with.
    pub base: CommitId,
}

/// Merges two commits in memory.
pub async fn merge(
    repository: &Repository,
    sides: Sides,
    markers: Markers,
) -> Result<Merged, Error> {
    let base = match sides.base {
        Some(base) => base,
        None => match repository.merge_base(sides.ours, sides.theirs).await {
            Err(repository::Error::Unrelated { .. }) => return Err(Error::Unrelated),
            base => base?,
        },
    };
    let (ours, theirs) = match sides.base {
        None => (sides.ours, sides.theirs),
        Some(base) => stand_ins(repository, base, sides).await?,
    };
    let attributes = attributes_of(repository, sides.ours).await?;
    let mut arguments: Vec<String> = DEFAULTS
        .iter()
        .flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()])
        .collect();
    if markers == Markers::Unmistakable {
        let file = attributes.path().join(".git-markers");
        let line = format!("* conflict-marker-size={LONG_MARKERS}\n");
        fs::write(&file, line).map_err(|source| Error::Io {
            path: file.clone(),
            source,
        })?;
        arguments.push("-c".to_owned());
        arguments.push(format!("core.attributesFile={}", file.display()));
    }
    arguments.extend(["merge-tree", "--write-tree", "-z", "--messages"].map(str::to_owned));
    arguments.extend([ours.to_string(), theirs.to_string()]);
    let output = repository
        .plumbing("merge-tree", Some(attributes.path()), &arguments, None)
        .await?;
    let listing = match output.code {
        Some(0 | 1) => Listing::parse(&output.stdout)?,
        Some(129) => {
            return Err(Error::GitTooOld {
                detail: output.stderr,
            });
        }
        _ if output.stderr.contains("unrelated histories") => return Err(Error::Unrelated),
        _ => {
            return Err(Error::Git {
                detail: output.stderr,
            });
        }
    };
    // Git may complain about a path and then find that nothing is left to disagree about.
    let conflicts = if output.code == Some(0) {
        Vec::new()
    } else {
        listing.conflicts()
    };
    if output.code == Some(1) && conflicts.is_empty() {
        return Err(Error::Git {
            detail: format!("a conflict without a path: {}", output.stderr),
        });
    }
    let content_merged = listing.content_merged();
    let drivers = unknown_drivers(repository, attributes.path(), &content_merged).await?;
    let context = Sides {
        base: Some(base),
        ..sides
    };
    let conflicts = repository
        .with_objects("read a merge", move |objects, _| {
            let mut conflicts = refine(objects, context, conflicts, drivers)?;
            // Git tells files that had to make way by the side that they come from.
            for conflict in &mut conflicts {
                strip_label(conflict, &[ours.to_string(), theirs.to_string()]);
            }
            conflicts.sort_by(|left, right| left.path.cmp(&right.path));
            Ok::<_, Error>(conflicts)
        })
        .await?;
    Ok(Merged {
        tree: listing.tree,
        conflicts,
        content_merged,
        base,
    })
}

/// Commits with the sides' trees whose one common ancestor is `base`: that is how git is told which base to
/// take (its option for it is newer than the git of some systems).
async fn stand_ins(
    repository: &Repository,
    base: CommitId,
    sides: Sides,
) -> Result<(CommitId, CommitId), Error> {
    repository
        .with_objects("prepare a merge", move |objects, _| {
            let action = "prepare a merge";
            let signature =
                git2::Signature::new("merge", "merge@localhost", &git2::Time::new(0, 0))
                    .map_err(Error::object(action))?;
            let root = objects
                .find_commit(base.oid())
                .map_err(Error::object(action))?;
            let stand_in = |side: CommitId| -> Result<CommitId, Error> {
                let tree = objects
                    .find_commit(side.oid())
                    .and_then(|commit| commit.tree())
                    .map_err(Error::object(action))?;
                objects
                    .commit(None, &signature, &signature, "merge side", &tree, &[&root])
                    .map(CommitId::from)
                    .map_err(Error::object(action))
            };
            Ok((stand_in(sides.ours)?, stand_in(sides.theirs)?))
        })
        .await
}

/// A folder with nothing but the attribute files of a commit: git reads attributes from a work tree.
async fn attributes_of(
    repository: &Repository,
    commit: CommitId,
) -> Result<tempfile::TempDir, Error> {
    let files: Vec<_> = repository
        .tree(commit)
        .await?
        .into_iter()
        .filter(|file| {
            file.path
                .file_name()
                .is_some_and(|name| name == ".gitattributes")
        })
        .filter(|file| {
            matches!(
                file.kind,
                repository::FileKind::File | repository::FileKind::Executable
            )
        })
        .filter(|file| repository::TreePath::parse(&file.path).is_ok())
        .collect();
    repository
        .with_objects("read attributes", move |objects, _| {
            let folder = tempfile::tempdir().map_err(|source| Error::Io {
                path: std::env::temp_dir(),
                source,
            })?;
            for file in files {
                let blob = objects
                    .find_blob(file.id)
                    .map_err(Error::object("read attributes"))?;
                let path = folder.path().join(&file.path);
                let write = || {
                    if let Some(parent) = path.parent() {
                        fs::create_dir_all(parent)?;
                    }
                    fs::write(&path, blob.content())
                };
                write().map_err(|source| Error::Io {
                    path: path.clone(),
                    source,
                })?;
            }
            Ok(folder)
        })
        .await
}

/// Paths that were merged by lines although their attributes name a program for it, with the program's name.
async fn unknown_drivers(
    repository: &Repository,
    attributes: &Path,
    paths: &[PathBuf],
) -> Result<Vec<(PathBuf, String)>, Error> {
    use std::os::unix::ffi::OsStrExt as _;

    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let mut input = Vec::new();
    for path in paths {
        input.extend_from_slice(path.as_os_str().as_bytes());
        input.push(0);
    }
    let arguments = ["check-attr", "-z", "--stdin", "merge"].map(str::to_owned);
    let output = repository
        .plumbing("check-attr", Some(attributes), &arguments, Some(input))
        .await?;
    if output.code != Some(0) {
        return Err(Error::Git {
            detail: output.stderr,
        });
    }
    let fields: Vec<&[u8]> = output.stdout.split(|&byte| byte == 0).collect();
    let known: [&[u8]; 6] = [
        b"unspecified",
        b"set",
        b"unset",
        b"text",
        b"binary",
        b"union",
    ];
    Ok(fields
        .chunks_exact(3)
        .filter(|field| !known.contains(&field[2]))
        .map(|field| {
            (
                PathBuf::from(std::ffi::OsStr::from_bytes(field[0])),
                String::from_utf8_lossy(field[2]).into_owned(),
            )
        })
        .collect())
}

/// Tells binary from text, and adds the paths that git merged as text for want of their own program.
fn refine(
    objects: &git2::Repository,
    sides: Sides,
    mut conflicts: Vec<Conflict>,
    drivers: Vec<(PathBuf, String)>,
) -> Result<Vec<Conflict>, Error> {
    for conflict in &mut conflicts {
        let textual = matches!(conflict.kind, Kind::Content | Kind::Add);
        if textual && has_binary_side(objects, conflict)? {
            conflict.kind = Kind::Binary;
            "both sides changed it, and it cannot be merged by lines"
                .clone_into(&mut conflict.explanation);
        }
    }
    for (path, driver) in drivers {
        let explanation = format!(
            "its attributes ask for the merge program {driver:?}, which is not registered here"
        );
        if let Some(conflict) = conflicts.iter_mut().find(|conflict| conflict.path == path) {
            conflict.kind = Kind::Driver;
            conflict.explanation = explanation;
            continue;
        }
        let tree = |commit: Option<CommitId>| {
            let commit = objects.find_commit(commit?.oid()).ok()?;
            commit.tree().ok()
        };
        let side = |commit| side_in(&tree(commit)?, &path);
        conflicts.push(Conflict {
            kind: Kind::Driver,
            base: side(sides.base),
            ours: side(Some(sides.ours)),
            theirs: side(Some(sides.theirs)),
            unmerged: vec![path.clone()],
            path,
            explanation,
            resolution: None,
        });
    }
    Ok(conflicts)
}

/// `path~<commit>` is `path` for people.
fn strip_label(conflict: &mut Conflict, labels: &[String]) {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

    for label in labels {
        let bytes = conflict.path.as_os_str().as_bytes();
        let suffix = format!("~{label}");
        if let Some(plain) = bytes.strip_suffix(suffix.as_bytes()) {
            conflict.path = PathBuf::from(std::ffi::OsString::from_vec(plain.to_vec()));
        }
        conflict.explanation = conflict
            .explanation
            .replace(&suffix, "~…")
            .replace(label.as_str(), "one side");
    }
}

fn has_binary_side(objects: &git2::Repository, conflict: &Conflict) -> Result<bool, Error> {
    for side in [&conflict.base, &conflict.ours, &conflict.theirs]
        .into_iter()
        .flatten()
    {
        let blob = objects
            .find_blob(side.blob)
            .map_err(Error::object("read a side of a conflict"))?;
        if is_binary(blob.content()) {
            return Ok(true);
        }
    }
    Ok(false)
}
