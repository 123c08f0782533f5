//! The folders of one cluster: where its files, socket and log are, and the lock that keeps a second process out.
//! It knows nothing of how the server is run.
//!
//! ```text
//! <folder>/lock           held by the process that runs the cluster
//! <folder>/postgres.log   the server's log
//! <folder>/location       only if root runs us from a folder that no other account reaches: the home below
//! <home>/cluster/         the server's data folder; <home> is <folder>, or what `location` says
//! <home>/socket/          the Unix socket, unless its path would be too long for one
//! ```

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process,
};

use tracing::info;

use super::{
    account::{Account, make_searchable},
    error::Error,
};

/// Longest folder of a socket: `sun_path` has 104 bytes on macOS and 108 on Linux, with `/.s.PGSQL.5432` and a final zero in it.
const SOCKET_FOLDER_BYTES: usize = 104 - "/.s.PGSQL.5432".len() - 1;

/// Where clusters go that root keeps in a folder closed to everybody else.
pub(super) const SHARED_HOME: &str = "/var/lib/agentic";

/// The folders of one cluster, ours alone while this lives.
#[derive(Debug)]
pub(super) struct Layout {
    folder: PathBuf,
    home: PathBuf,
    cluster: PathBuf,
    // Held for its lock, which the kernel releases however this process ends.
    _lock: File,
}

/// The folder of the server's socket.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    temporary: bool,
}

impl Socket {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder, if nothing but this socket needs it.
    pub(super) fn to_remove(&self) -> Option<&Path> {
        self.temporary.then_some(self.path.as_path())
    }
}

impl Layout {
    /// Makes the folder if it is missing, takes its lock, and finds the cluster's place.
    pub(super) fn open(folder: &Path, account: Option<&Account>) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::folder("make", folder))?;
        let folder = folder
            .canonicalize()
            .map_err(Error::folder("find", folder))?;
        let lock = take_lock(&folder)?;
        let home = find_home(&folder, account)?;
        Ok(Self {
            cluster: home.join("cluster"),
            folder,
            home,
            _lock: lock,
        })
    }

    /// The folder that was asked for.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server's data folder. Its last step is no link, so that processes can be told by it.
    pub(super) fn cluster(&self) -> &Path {
        &self.cluster
    }

    /// The folder beside the cluster in which a new one grows before it takes the cluster's name.
    pub(super) fn new_cluster(&self) -> PathBuf {
        self.home.join("cluster.new")
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.join("postgres.log")
    }

    pub(super) fn is_initialised(&self) -> bool {
        self.cluster.exists()
    }

    /// Major version of PostgreSQL that made the cluster; `None` when there is no cluster yet.
    pub(super) fn cluster_version(&self) -> Result<Option<String>, Error> {
        if !self.is_initialised() {
            return Ok(None);
        }
        let path = self.cluster.join("PG_VERSION");
        let version = fs::read_to_string(&path).map_err(Error::folder("read", &path))?;
        Ok(Some(version.trim().to_owned()))
    }

    /// Makes an empty folder for the socket, beside the cluster, or under the temporary folder where the path would be too long.
    pub(super) fn prepare_socket(&self, account: Option<&Account>) -> Result<Socket, Error> {
        let near = self.home.join("socket");
        match fs::remove_dir_all(&near) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::folder("empty", near)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let socket = if can_hold_socket(&near) {
            make_private(&near, account)?;
            Socket {
                path: near,
                temporary: false,
            }
        } else {
            Socket {
                path: make_temporary(account)?,
                temporary: true,
            }
        };
        Ok(socket)
    }
}

/// Makes a folder that only its owner enters, and gives it to the account.
pub(super) fn make_private(path: &Path, account: Option<&Account>) -> Result<(), Error> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(Error::folder("make", path))?;
    account.map_or(Ok(()), |account| account.own(path))
}

fn can_hold_socket(folder: &Path) -> bool {
    // A comma would read as a list of hosts in a connection string.
    folder
        .to_str()
        .is_some_and(|text| text.len() <= SOCKET_FOLDER_BYTES && !text.contains(','))
}

fn make_temporary(account: Option<&Account>) -> Result<PathBuf, Error> {
    let configured = env::temp_dir();
    let parent = if can_hold_socket(&configured.join("agentic-pg-xxxxxx"))
        && account.is_none_or(|account| account.reaches(&configured.join("socket")))
    {
        configured
    } else {
        PathBuf::from("/tmp")
    };
    let path = tempfile::Builder::new()
        .prefix("agentic-pg-")
        .tempdir_in(&parent)
        .map_err(Error::folder("make a folder in", parent))?
        .keep();
    account.map_or(Ok(()), |account| account.own(&path))?;
    Ok(path)
}

fn take_lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(Error::folder("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)
                .map_err(Error::folder("read", &path))?;
            return Err(Error::InUse {
                folder: folder.to_path_buf(),
                holder: holder.trim().to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(Error::folder("lock", path)(source)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", process::id()))
        .map_err(Error::folder("write", &path))?;
    Ok(file)
}

/// The folder above the cluster: the one asked for, unless the server's account cannot walk to it.
fn find_home(folder: &Path, account: Option<&Account>) -> Result<PathBuf, Error> {
    let note = folder.join("location");
    match fs::read_to_string(&note) {
        Ok(text) => {
            let location = PathBuf::from(text.trim_end_matches('\n'));
            if location.is_dir() {
                return Ok(location);
            }
            return Err(Error::Lost {
                folder: folder.to_path_buf(),
                location,
            });
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::folder("read", note)(error));
        }
        Err(_) => {}
    }
    let Some(account) = account else {
        return Ok(folder.to_path_buf());
    };
    // The folder itself is ours to open; what is above it is not.
    make_searchable(folder).map_err(Error::folder("open to the server's account", folder))?;
    if account.reaches(&folder.join("cluster")) {
        return Ok(folder.to_path_buf());
    }
    let location = make_shared_home()?;
    fs::write(&note, format!("{}\n", location.display())).map_err(Error::folder("write", note))?;
    info!(
        folder = %folder.display(),
        location = %location.display(),
        "the server's account cannot reach the folder, so the cluster goes elsewhere"
    );
    Ok(location)
}

fn make_shared_home() -> Result<PathBuf, Error> {
    fs::create_dir_all(SHARED_HOME).map_err(Error::folder("make", SHARED_HOME))?;
    let location = tempfile::Builder::new()
        .prefix("postgres-")
        .tempdir_in(SHARED_HOME)
        .map_err(Error::folder("make a folder in", SHARED_HOME))?
        .keep();
    for folder in [Path::new(SHARED_HOME), &location] {
        make_searchable(folder).map_err(Error::folder("open to the server's account", folder))?;
    }
    Ok(location)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Layout, can_hold_socket};
    use crate::embedded_postgres::Error;

    #[test]
    fn a_second_opening_names_the_process_that_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let held = Layout::open(folder.path(), None).unwrap();
        let error = Layout::open(folder.path(), None).unwrap_err();
        assert!(
            matches!(&error, Error::InUse { holder, .. } if *holder == std::process::id().to_string()),
            "{error}"
        );
        drop(held);
        Layout::open(folder.path(), None).unwrap();
    }

    #[test]
    fn a_socket_that_would_not_fit_goes_to_a_short_private_folder() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(100));
        let socket = Layout::open(&long, None)
            .unwrap()
            .prepare_socket(None)
            .unwrap();
        assert!(can_hold_socket(socket.path()));
        assert_eq!(socket.to_remove(), Some(socket.path()));
        fs::remove_dir(socket.path()).unwrap();
    }

    #[test]
    fn a_socket_folder_is_emptied_before_it_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(folder.path(), None).unwrap();
        let first = layout.prepare_socket(None).unwrap();
        fs::write(first.path().join(".s.PGSQL.5432.lock"), "1").unwrap();
        let second = layout.prepare_socket(None).unwrap();
        assert_eq!(first.path(), second.path());
        assert_eq!(fs::read_dir(second.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_comma_in_the_path_is_no_list_of_hosts() {
        assert!(!can_hold_socket(Path::new("/tmp/a,b")));
    }

    #[test]
    fn a_cluster_whose_place_is_gone_is_lost_rather_than_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("location"), "/nonexistent/cluster\n").unwrap();
        assert!(matches!(
            Layout::open(folder.path(), None),
            Err(Error::Lost { .. })
        ));
    }
}
