//! Keeps one bare copy per repository URL, fetched with all its branches and tags. A copy that a crash left
//! half made is finished or made anew; one URL is worked on by one process at a time, others in parallel.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    Error, Inner, Repository, RepositoryUrl,
    git::{Git, failure},
};

/// The file that is there while git writes into a copy: found at the next opening, it says that a process
/// died in between.
const WRITING: &str = "agentic-writing";
/// Where we keep the repository's own HEAD, which a bare copy cannot hold when it is detached.
pub(super) const REMOTE_HEAD: &str = "refs/agentic/HEAD";

/// How a [`RepositoryCache`] works.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// The git program, by name or path.
    pub git: String,
    /// How long any one git command may take, a first clone included.
    pub deadline: Duration,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            git: "git".to_owned(),
            deadline: Duration::from_mins(10),
        }
    }
}

/// Our copies of repositories, in one folder.
#[derive(Clone, Debug)]
pub struct RepositoryCache {
    folder: PathBuf,
    git: Git,
    turns: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// The references of a repository, as it lists them.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The branch that HEAD names (`refs/heads/…`), if it names one.
    pub(super) head_branch: Option<String>,
    /// Name and object of each reference; `HEAD` included, peeled tags not.
    pub(super) references: HashMap<String, String>,
}

impl RepositoryCache {
    /// A cache in `folder`, with default settings.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self::with_settings(folder, CacheSettings::default())
    }

    /// A cache in `folder`.
    pub fn with_settings(folder: impl Into<PathBuf>, settings: CacheSettings) -> Self {
        Self {
            folder: folder.into(),
            git: Git {
                program: settings.git,
                deadline: settings.deadline,
            },
            turns: Arc::default(),
        }
    }

    /// Opens the repository at `url`, with everything it has now. Dropping the future stops git.
    pub async fn open(&self, url: &str) -> Result<Repository, Error> {
        self.open_url(RepositoryUrl::parse(url)?).await
    }

    /// As [`open`](Self::open), for a URL that is parsed already.
    pub async fn open_url(&self, url: RepositoryUrl) -> Result<Repository, Error> {
        if let Some(path) = url.local_path()
            && !path.is_dir()
        {
            return Err(Error::RepositoryNotFound {
                url: url.to_string(),
                detail: "no such folder".to_owned(),
            });
        }
        let key = url.cache_key();
        let turn = self.turn(&key);
        let _turn = turn.lock().await;
        fs::create_dir_all(&self.folder).map_err(Error::io("create", &self.folder))?;
        let guard = self.folder.join(format!("{key}.lock"));
        let folder = self.folder.join(format!("{key}.git"));
        let _exclusive = exclusive(&guard, self.git.deadline).await?;
        let repository = Repository {
            inner: Arc::new(Inner {
                url,
                folder,
                guard,
                git: self.git.clone(),
            }),
        };
        repository.bring_up_to_date().await?;
        Ok(repository)
    }

    fn turn(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(key.to_owned()).or_default())
    }
}

impl Repository {
    /// Fetches again: after a push of somebody else, for instance.
    pub async fn refresh(&self) -> Result<(), Error> {
        let _exclusive = exclusive(&self.inner.guard, self.inner.git.deadline).await?;
        self.bring_up_to_date().await
    }

    /// The repository's references as they are now, without fetching.
    pub(super) async fn list(&self, patterns: &[&str]) -> Result<Listing, Error> {
        let mut arguments = vec!["ls-remote", "--symref", "--", self.inner.url.as_str()];
        arguments.extend(patterns);
        let finished = self
            .inner
            .git
            .run("ls-remote", None, &self.inner.url, arguments)
            .await?;
        if !finished.status.success() {
            return Err(failure("ls-remote", &self.inner.url, &finished));
        }
        Ok(parse_listing(&finished.text()))
    }

    async fn bring_up_to_date(&self) -> Result<(), Error> {
        let folder = &self.inner.folder;
        let listing = self.list(&[]).await?;
        if folder.exists() && self.is_sound().await? {
            match self.fetch_into(folder, &listing).await {
                Ok(()) => return Ok(()),
                // Nothing about the place itself: then it is our copy that git cannot work with.
                Err(Error::Git { detail, .. } | Error::RepositoryNotFound { detail, .. }) => {
                    tracing::warn!(url = %self.inner.url, detail, "repository copy is made anew");
                }
                Err(error) => return Err(error),
            }
        }
        self.make(&listing).await
    }

    /// Makes our copy from nothing, beside its place, and moves it there when it is whole.
    async fn make(&self, listing: &Listing) -> Result<(), Error> {
        let folder = &self.inner.folder;
        let partial = folder.with_extension("partial");
        let broken = folder.with_extension("broken");
        for left_over in [&partial, &broken] {
            remove_if_there(left_over)?;
        }
        let made = partial.clone();
        let joined = tokio::task::spawn_blocking(move || {
            let mut options = git2::RepositoryInitOptions::new();
            options
                .bare(true)
                .mkpath(true)
                .external_template(false)
                .initial_head("main");
            git2::Repository::init_opts(&made, &options).map(drop)
        })
        .await;
        joined
            .map_err(|_| Error::Cancelled {
                action: "create the repository copy",
            })?
            .map_err(Error::object("create the repository copy"))?;
        self.fetch_into(&partial, listing).await?;
        if folder.exists() {
            fs::rename(folder, &broken).map_err(Error::io("set aside", folder))?;
        }
        fs::rename(&partial, folder).map_err(Error::io("put in place", folder))?;
        remove_if_there(&broken)
    }

    async fn fetch_into(&self, folder: &Path, listing: &Listing) -> Result<(), Error> {
        let writing = folder.join(WRITING);
        if !self.is_current(folder, listing).await? {
            fs::write(&writing, b"").map_err(Error::io("write", &writing))?;
            let mut arguments = vec![
                "fetch",
                "--quiet",
                "--no-write-fetch-head",
                "--no-tags",
                "--prune",
                "--update-shallow",
                "--",
                self.inner.url.as_str(),
                "+refs/heads/*:refs/heads/*",
                "+refs/tags/*:refs/tags/*",
            ];
            if listing.references.contains_key("HEAD") {
                arguments.push("+HEAD:refs/agentic/HEAD");
            }
            let url = &self.inner.url;
            let finished = self
                .inner
                .git
                .run("fetch", Some(folder), url, arguments)
                .await?;
            if !finished.status.success() {
                return Err(failure("fetch", url, &finished));
            }
        }
        let head = listing.head_branch.clone();
        let at = folder.to_owned();
        let joined = tokio::task::spawn_blocking(move || record_head(&at, head.as_deref())).await;
        joined.map_err(|_| Error::Cancelled {
            action: "record the default branch",
        })??;
        remove_if_there(&writing)
    }

    /// Whether our copy has exactly the listed branches, tags and HEAD already: then nothing is fetched.
    async fn is_current(&self, folder: &Path, listing: &Listing) -> Result<bool, Error> {
        let folder = folder.to_owned();
        let mut wanted: HashMap<String, String> = listing
            .references
            .iter()
            .filter(|(name, _)| name.starts_with("refs/heads/") || name.starts_with("refs/tags/"))
            .map(|(name, id)| (name.clone(), id.clone()))
            .collect();
        if let Some(id) = listing.references.get("HEAD") {
            wanted.insert(REMOTE_HEAD.to_owned(), id.clone());
        }
        let joined = tokio::task::spawn_blocking(move || {
            let objects = git2::Repository::open_bare(&folder)?;
            let mut count = 0;
            for reference in objects.references()? {
                let reference = reference?;
                let Ok(name) = reference.name() else {
                    return Ok(false);
                };
                if name.starts_with("refs/agentic/") && name != REMOTE_HEAD {
                    continue;
                }
                let Some(id) = reference.target() else {
                    continue;
                };
                if wanted.get(name) != Some(&id.to_string()) {
                    return Ok(false);
                }
                count += 1;
            }
            Ok(count == wanted.len())
        })
        .await;
        let action = "compare the repository copy";
        joined
            .map_err(|_| Error::Cancelled { action })?
            .map_err(Error::object(action))
    }

    /// Whether our copy can be worked with. After a crash in the middle of a write this walks all of its
    /// objects; otherwise it looks at what its references point to.
    async fn is_sound(&self) -> Result<bool, Error> {
        let folder = self.inner.folder.clone();
        let joined = tokio::task::spawn_blocking(move || {
            let interrupted = folder.join(WRITING).exists();
            if interrupted {
                remove_stale_locks(&folder);
            }
            (interrupted, has_its_tips(&folder).unwrap_or(false))
        })
        .await;
        let (interrupted, sound) = joined.map_err(|_| Error::Cancelled {
            action: "check the repository copy",
        })?;
        if !sound || !interrupted {
            return Ok(sound);
        }
        let finished = self
            .inner
            .git
            .run_local(
                "fsck",
                &self.inner.folder,
                None,
                [
                    "fsck",
                    "--connectivity-only",
                    "--no-dangling",
                    "--no-progress",
                ],
                None,
            )
            .await?;
        Ok(finished.status.success())
    }
}

/// Takes the lock that keeps other processes off a copy. Released on drop, also by the kernel.
pub(super) async fn exclusive(guard: &Path, deadline: Duration) -> Result<fs::File, Error> {
    let file = fs::File::create(guard).map_err(Error::io("create", guard))?;
    let waiting = async {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(fs::TryLockError::WouldBlock) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(fs::TryLockError::Error(source)) => return Err(source),
            }
        }
    };
    match tokio::time::timeout(deadline, waiting).await {
        Ok(taken) => taken.map_err(Error::io("lock", guard))?,
        Err(_) => {
            return Err(Error::TimedOut {
                action: "wait for another process's fetch",
                after: deadline,
            });
        }
    }
    Ok(file)
}

fn has_its_tips(folder: &Path) -> Result<bool, git2::Error> {
    let objects = git2::Repository::open_bare(folder)?;
    let store = objects.odb()?;
    for reference in objects.references()? {
        let reference = reference?;
        if let Some(id) = reference.target()
            && store.read(id).is_err()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn record_head(folder: &Path, branch: Option<&str>) -> Result<(), Error> {
    let objects = git2::Repository::open_bare(folder).map_err(Error::object("open"))?;
    // A name that cannot exist as a fetched branch stands for "none".
    let branch = branch.unwrap_or("refs/agentic/none");
    objects
        .reference_symbolic("HEAD", branch, true, "follow the repository's HEAD")
        .map(drop)
        .map_err(Error::object("record the default branch"))
}

/// Lock files that a killed git left. Safe only while we hold the copy's own lock.
fn remove_stale_locks(folder: &Path) {
    let locks = walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_entry(|entry| entry.file_name() != "objects")
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "lock"));
    for lock in locks {
        let _ = fs::remove_file(lock.path());
    }
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn parse_listing(text: &str) -> Listing {
    let mut listing = Listing::default();
    for line in text.lines() {
        let Some((left, name)) = line.split_once('\t') else {
            continue;
        };
        match left.strip_prefix("ref: ") {
            Some(target) if name == "HEAD" => listing.head_branch = Some(target.to_owned()),
            Some(_) => {}
            None if name.ends_with("^{}") => {}
            None => {
                listing.references.insert(name.to_owned(), left.to_owned());
            }
        }
    }
    listing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_has_head_and_references_but_no_peeled_tags() {
        let listing = parse_listing(
            "ref: refs/heads/main\tHEAD\n1111\tHEAD\n1111\trefs/heads/main\n2222\trefs/tags/v1\n1111\trefs/tags/v1^{}\n",
        );
        assert_eq!(listing.head_branch.as_deref(), Some("refs/heads/main"));
        assert_eq!(listing.references.len(), 3);
        assert_eq!(listing.references["refs/tags/v1"], "2222");
    }
}
