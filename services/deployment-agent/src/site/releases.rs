//! The checkouts that revisions run from: made once, kept as long as a revision may be gone back to.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use futures::future::BoxFuture;

use crate::{journal::Journal, ledger::Ledger, site::Bounds, spec::Spec, strategy::Failure};

/// Where the code of a revision comes from.
pub trait Source: Send + Sync {
    /// Puts what the revision runs from into `checkout` of an empty folder, runs what the project
    /// declares to prepare it, and completes the spec with what only that shows (an image that was
    /// built). Returns what was done, in one sentence.
    fn prepare<'a>(
        &'a self,
        folder: &'a Path,
        spec: &'a mut Spec,
        journal: &'a mut Journal,
        bounds: &'a Bounds,
    ) -> BoxFuture<'a, Result<String, Failure>>;
}

/// Folder of the code in the folder of a revision; beside it is what was installed for it.
pub const CHECKOUT_FOLDER: &str = "checkout";

/// The folder of a revision.
pub(super) fn folder(site: &Path, revision: u64, spec: &Spec) -> PathBuf {
    site.join("releases")
        .join(format!("{revision}-{}", spec.short_commit()))
}

/// Whether the revision can be started again.
pub(super) fn is_kept(site: &Path, ledger: &Ledger, revision: u64) -> bool {
    ledger
        .revision(revision)
        .is_some_and(|revision| folder(site, revision.number, &revision.spec).is_dir())
}

/// Removes checkouts and logs of revisions that nobody goes back to, and says which images nobody
/// needs any more. The newest `keep` stay, and so do the live one, the last verified one, and the
/// one to go back to from there.
pub(super) async fn prune(site: &Path, ledger: &Ledger, keep: usize) -> Vec<String> {
    let live = ledger.live().map(|revision| revision.number);
    let mut kept: HashSet<u64> = ledger
        .revisions()
        .iter()
        .rev()
        .take(keep)
        .map(|revision| revision.number)
        .collect();
    kept.extend(live);
    kept.extend(ledger.last_verified(None).map(|revision| revision.number));
    kept.extend(ledger.last_verified(live).map(|revision| revision.number));
    let mut gone = HashSet::new();
    for name in ["releases", "logs"] {
        let folder = site.join(name);
        let Ok(mut entries) = tokio::fs::read_dir(&folder).await else {
            continue;
        };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let file = entry.file_name();
            let number = file
                .to_str()
                .and_then(|file| file.split_once('-'))
                .and_then(|(number, _)| number.parse::<u64>().ok());
            if number.is_some_and(|number| kept.contains(&number)) {
                continue;
            }
            gone.extend(number.filter(|_| name == "releases"));
            let path = entry.path();
            let removed = if path.is_dir() {
                tokio::fs::remove_dir_all(&path).await
            } else {
                tokio::fs::remove_file(&path).await
            };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "cannot remove an old release");
            }
        }
    }
    let images_of = |numbers: &HashSet<u64>| -> HashSet<String> {
        let revisions = ledger
            .revisions()
            .iter()
            .filter(|one| numbers.contains(&one.number));
        revisions
            .filter_map(|revision| revision.spec.image.clone())
            .collect()
    };
    images_of(&gone)
        .difference(&images_of(&kept))
        .cloned()
        .collect()
}
