//! Throw-away folders with the files of one commit, made by walking its tree: fresh file times, no filters,
//! no hooks, nothing that is not in the commit. Removed on drop, whatever was written there.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, Permissions},
    io::Write as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{
    CallerGone, CommitId, Error, FileKind, Repository, TreeFile, TreePath, links,
    read::{tree_of, walk},
};

/// What a checkout may contain.
#[derive(Clone, Debug)]
pub struct CheckoutSettings {
    /// Whether the folder becomes a git repository of its own (with the commit's history and the tags), for
    /// projects whose build or tests call git. It reads our copy's objects and cannot write them.
    pub with_git: bool,
    /// Most bytes of all files together; more is an error.
    pub byte_limit: u64,
}

impl Default for CheckoutSettings {
    fn default() -> Self {
        Self {
            with_git: false,
            byte_limit: 8 * 1024 * 1024 * 1024,
        }
    }
}

/// A folder with the files of one commit.
#[derive(Debug)]
pub struct Checkout {
    folder: Option<TempDir>,
    path: PathBuf,
    commit: CommitId,
    report: Report,
}

#[derive(Debug, Default)]
struct Report {
    submodules: Vec<PathBuf>,
    escaping_links: Vec<PathBuf>,
    refused_paths: Vec<PathBuf>,
    file_count: usize,
    byte_count: u64,
}

impl Checkout {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The commit whose files it has.
    pub fn commit(&self) -> CommitId {
        self.commit
    }

    /// Submodules: empty folders here, because they are other repositories.
    pub fn submodules(&self) -> &[PathBuf] {
        &self.report.submodules
    }

    /// Links of the commit that lead out of it, or in circles. They are not in the folder.
    pub fn escaping_links(&self) -> &[PathBuf] {
        &self.report.escaping_links
    }

    /// Paths of the commit that no checkout may have (such as `.git/config`). They are not in the folder.
    pub fn refused_paths(&self) -> &[PathBuf] {
        &self.report.refused_paths
    }

    /// How many files and links were written.
    pub fn file_count(&self) -> usize {
        self.report.file_count
    }

    /// How many bytes the files have together.
    pub fn byte_count(&self) -> u64 {
        self.report.byte_count
    }

    /// Moves the folder to `place`, where it stays. `place` must not exist, and be on the same file system as the
    /// folder that the checkout was made in.
    pub fn keep(mut self, place: &Path) -> Result<(), Error> {
        fs::rename(&self.path, place).map_err(Error::io("create", place))?;
        if let Some(folder) = self.folder.take() {
            // Nothing is left to remove.
            let _ = folder.keep();
        }
        Ok(())
    }

    /// The place of `path` in the folder, if following it does not lead out of the folder.
    pub fn resolve(&self, path: &TreePath) -> Result<PathBuf, Error> {
        let mut at = self.path.clone();
        for part in path.as_path().components() {
            at.push(part);
            match fs::canonicalize(&at) {
                Ok(real) if real.starts_with(&self.path) => {}
                Ok(_) => {
                    return Err(Error::InvalidPath {
                        path: path.to_string(),
                        reason: "it leads out of the checkout through a link",
                    });
                }
                // Not there yet: unless it is a link to nowhere, which a write would follow.
                Err(_) if fs::symlink_metadata(&at).is_ok() => {
                    return Err(Error::InvalidPath {
                        path: path.to_string(),
                        reason: "it goes through a link that leads nowhere",
                    });
                }
                Err(_) => {}
            }
        }
        Ok(at)
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            remove(folder);
        }
    }
}

impl Repository {
    /// Writes the files of `commit` into a new folder below `into`.
    pub async fn checkout(
        &self,
        commit: CommitId,
        into: &Path,
        settings: CheckoutSettings,
    ) -> Result<Checkout, Error> {
        let into = into.to_owned();
        self.with_objects("check out", move |objects, gone| {
            fs::create_dir_all(&into).map_err(Error::io("create", &into))?;
            let folder = tempfile::Builder::new()
                .prefix("checkout-")
                .tempdir_in(&into)
                .map_err(Error::io("create a folder in", &into))?;
            // Compared with real paths later.
            let path = fs::canonicalize(folder.path()).map_err(Error::io("find", folder.path()))?;
            let mut checkout = Checkout {
                folder: Some(folder),
                path,
                commit,
                report: Report::default(),
            };
            fill(objects, &mut checkout, &settings, gone)?;
            if settings.with_git {
                make_repository(objects, &checkout)?;
            }
            Ok(checkout)
        })
        .await
    }
}

fn fill(
    objects: &git2::Repository,
    checkout: &mut Checkout,
    settings: &CheckoutSettings,
    gone: &CallerGone,
) -> Result<(), Error> {
    let action = "read a file";
    let tree = tree_of(objects, checkout.commit)?;
    let store = objects.odb().map_err(Error::object(action))?;
    let root = checkout.path.clone();
    let report = &mut checkout.report;
    let mut links = BTreeMap::new();
    walk(objects, &tree, gone, &mut |file: TreeFile| {
        if TreePath::parse(&file.path).is_err() {
            report.refused_paths.push(file.path);
            return Ok(());
        }
        let place = root.join(&file.path);
        if file.kind == FileKind::Submodule {
            fs::create_dir_all(&place).map_err(Error::io("create", &place))?;
            report.submodules.push(file.path);
            return Ok(());
        }
        let (size, _) = store.read_header(file.id).map_err(Error::object(action))?;
        report.byte_count += size as u64;
        if report.byte_count > settings.byte_limit {
            return Err(Error::TooLarge {
                what: "the checkout".to_owned(),
                limit: format!("{} bytes", settings.byte_limit),
            });
        }
        let content = store.read(file.id).map_err(Error::object(action))?;
        if file.kind == FileKind::Link {
            links.insert(file.path, PathBuf::from(OsStr::from_bytes(content.data())));
            return Ok(());
        }
        report.file_count += 1;
        write_file(&place, content.data(), file.kind == FileKind::Executable)
    })?;
    // Links come last, so that no file is ever written through one.
    report.escaping_links = links::escaping(&links);
    for (path, target) in &links {
        if report.escaping_links.contains(path) {
            continue;
        }
        let place = root.join(path);
        create_parent(&place)?;
        std::os::unix::fs::symlink(target, &place).map_err(Error::io("create", &place))?;
        report.file_count += 1;
    }
    Ok(())
}

fn write_file(place: &Path, content: &[u8], executable: bool) -> Result<(), Error> {
    create_parent(place)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(if executable { 0o755 } else { 0o644 })
        .open(place)
        .map_err(Error::io("create", place))?;
    file.write_all(content).map_err(Error::io("write", place))
}

fn create_parent(place: &Path) -> Result<(), Error> {
    match place.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(Error::io("create", parent)),
        None => Ok(()),
    }
}

/// Makes the folder a repository whose objects are ours (by git's alternates), at a detached HEAD.
fn make_repository(objects: &git2::Repository, checkout: &Checkout) -> Result<(), Error> {
    let action = "make the checkout a repository";
    let mut options = git2::RepositoryInitOptions::new();
    options.external_template(false).no_reinit(true);
    let own =
        git2::Repository::init_opts(checkout.path(), &options).map_err(Error::object(action))?;
    let alternates = own.path().join("objects/info/alternates");
    create_parent(&alternates)?;
    let mut line = objects.path().join("objects").into_os_string();
    line.push("\n");
    fs::write(&alternates, line.as_bytes()).map_err(Error::io("write", &alternates))?;
    let shallow = objects.path().join("shallow");
    if shallow.exists() {
        let copy = own.path().join("shallow");
        fs::copy(&shallow, &copy).map_err(Error::io("write", &copy))?;
    }
    // Opened again, because the store reads its alternates once.
    let own = git2::Repository::open(checkout.path()).map_err(Error::object(action))?;
    own.set_head_detached(checkout.commit.oid())
        .map_err(Error::object(action))?;
    for tag in objects
        .references_glob("refs/tags/*")
        .map_err(Error::object(action))?
    {
        let tag = tag.map_err(Error::object(action))?;
        if let (Ok(name), Some(id)) = (tag.name(), tag.target()) {
            own.reference(name, id, true, "checkout")
                .map_err(Error::object(action))?;
        }
    }
    let tree = tree_of(&own, checkout.commit)?;
    let mut index = own.index().map_err(Error::object(action))?;
    index
        .read_tree(&tree)
        .and_then(|()| index.write())
        .map_err(Error::object(action))
}

/// Removes a folder although somebody may have taken write permission off folders in it, as some package
/// managers do.
fn remove(folder: TempDir) {
    let path = folder.path().to_owned();
    if folder.close().is_ok() {
        return;
    }
    let folders = walkdir::WalkDir::new(&path)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_dir());
    for entry in folders {
        let _ = fs::set_permissions(entry.path(), Permissions::from_mode(0o700));
    }
    if let Err(error) = fs::remove_dir_all(&path)
        && path.exists()
    {
        tracing::warn!(path = %path.display(), %error, "checkout could not be removed");
    }
}
