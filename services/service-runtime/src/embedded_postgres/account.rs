//! The account that the server runs as: PostgreSQL refuses root, so a root process lends it another one.
//! It knows users, groups and permission bits, and nothing of clusters.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use nix::unistd::{Uid, User};
use tokio::process::Command;

use super::error::Error;

/// Accounts for a root process, the first existing one is taken: `postgres` belongs to no other daemon.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// An unprivileged account of this machine.
#[derive(Clone, Debug)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account to lend, or `None` when this process is unprivileged already.
    pub(super) fn choose(named: Option<&str>) -> Result<Option<Self>, Error> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let candidates = named.map_or_else(|| CANDIDATES.to_vec(), |name| vec![name]);
        for name in &candidates {
            let user = User::from_name(name).map_err(|source| Error::Account {
                name: (*name).to_owned(),
                source,
            })?;
            if let Some(user) = user.filter(|user| !user.uid.is_root()) {
                return Ok(Some(Self {
                    uid: user.uid.as_raw(),
                    gid: user.gid.as_raw(),
                }));
            }
        }
        Err(Error::NoAccount {
            name: candidates.join("` or `"),
        })
    }

    /// Makes the command run as this account, without any group of ours.
    pub(super) fn lend_to(&self, command: &mut Command) {
        // Rust clears the supplementary groups itself when a root process sets a uid.
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives the path to this account.
    pub(super) fn own(&self, path: &Path) -> Result<(), Error> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(Error::folder("give away", path))
    }

    /// Whether this account may walk to the path: search permission on every folder above it. Access lists are not read, so a
    /// folder opened by one alone counts as closed.
    pub(super) fn reaches(&self, path: &Path) -> bool {
        path.ancestors().skip(1).all(|folder| {
            folder.as_os_str().is_empty()
                || fs::metadata(folder).is_ok_and(|metadata| self.may_search(&metadata))
        })
    }

    fn may_search(&self, metadata: &fs::Metadata) -> bool {
        let mode = metadata.mode();
        if metadata.uid() == self.uid {
            mode & 0o100 != 0
        } else if metadata.gid() == self.gid {
            mode & 0o010 != 0
        } else {
            mode & 0o001 != 0
        }
    }
}

/// Lets others walk through a folder of ours, without seeing what is in it.
pub(super) fn make_searchable(folder: &Path) -> io::Result<()> {
    let mode = fs::metadata(folder)?.permissions().mode();
    fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o011))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::{Account, make_searchable};

    const STRANGER: Account = Account {
        uid: 4_000_000_001,
        gid: 4_000_000_001,
    };

    #[test]
    fn a_closed_folder_is_not_reached_until_it_is_made_searchable() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let inside = folder.path().join("inside");
        assert!(!STRANGER.reaches(&inside));
        make_searchable(folder.path()).unwrap();
        assert!(STRANGER.reaches(&inside));
    }

    #[test]
    fn a_missing_folder_is_not_reached() {
        let folder = tempfile::tempdir().unwrap();
        make_searchable(folder.path()).unwrap();
        assert!(!STRANGER.reaches(&folder.path().join("missing/inside")));
    }
}
