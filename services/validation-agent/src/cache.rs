//! Remembers results that are a function of their inputs: under a digest of tool, arguments and input tree. An
//! entry that is damaged, or that somebody else wrote, is no entry. Knows nothing of what it keeps.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use ring::{hmac, rand::SecureRandom as _};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Larger entries are not kept.
const MAXIMUM_ENTRY_BYTES: u64 = 4 * 1024 * 1024;
/// More entries than this are thinned out, oldest first.
const MAXIMUM_ENTRIES: usize = 5_000;
/// Part of every digest: entries of another form are never met.
const FORM: &str = "validation-cache-1";

/// The cache could not be opened.
#[derive(Debug, Error)]
pub enum CacheError {
    /// Its folder.
    #[error("making the cache folder {path}")]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Its key.
    #[error("reading or making the cache key {path}")]
    Key {
        /// Which one.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// What a result is a function of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheKey(String);

impl CacheKey {
    /// Digest of everything that a result depends on, in order.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        for part in std::iter::once(FORM).chain(parts) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Self(hex::encode(hash.finalize()))
    }
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    value: String,
    tag: String,
}

/// A folder of results.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    key: hmac::Key,
}

impl Cache {
    /// Opens the cache below `folder`, which is made when it is not there.
    pub fn open(folder: &Path) -> Result<Self, CacheError> {
        let entries = folder.join("entries");
        fs::create_dir_all(&entries).map_err(|source| CacheError::Folder {
            path: entries.clone(),
            source,
        })?;
        let path = folder.join("cache.key");
        let secret = read_or_make_key(&path).map_err(|source| CacheError::Key { path, source })?;
        Ok(Self {
            folder: entries,
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
        })
    }

    /// What is kept under that key; anything wrong with it is as good as nothing.
    pub fn get<T: DeserializeOwned>(&self, key: &CacheKey) -> Option<T> {
        let path = self.path(key);
        let metadata = fs::symlink_metadata(&path).ok()?;
        if !metadata.is_file() || metadata.len() > MAXIMUM_ENTRY_BYTES {
            return None;
        }
        let entry: Entry = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let tag = hex::decode(&entry.tag).ok()?;
        let told = signed(&entry.key, &entry.value);
        if entry.key != key.0 || hmac::verify(&self.key, told.as_bytes(), &tag).is_err() {
            tracing::warn!(path = %path.display(), "ignored a cache entry that is not ours");
            return None;
        }
        serde_json::from_str(&entry.value).ok()
    }

    /// Keeps a result. A cache that cannot be written is no reason to fail: it is logged.
    pub fn put<T: Serialize>(&self, key: &CacheKey, value: &T) {
        if let Err(error) = self.write(key, value) {
            tracing::warn!(%error, "a result was not cached");
        }
    }

    fn write<T: Serialize>(&self, key: &CacheKey, value: &T) -> io::Result<()> {
        let value = serde_json::to_string(value)?;
        let tag = hmac::sign(&self.key, signed(&key.0, &value).as_bytes());
        let entry = Entry {
            key: key.0.clone(),
            value,
            tag: hex::encode(tag),
        };
        let bytes = serde_json::to_vec(&entry)?;
        if bytes.len() as u64 > MAXIMUM_ENTRY_BYTES {
            return Ok(());
        }
        self.thin_out();
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&bytes)?;
        file.persist(self.path(key)).map_err(|error| error.error)?;
        Ok(())
    }

    fn path(&self, key: &CacheKey) -> PathBuf {
        self.folder.join(&key.0)
    }

    /// Removes the older half when there are too many.
    fn thin_out(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut files: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        if files.len() < MAXIMUM_ENTRIES {
            return;
        }
        files.sort();
        for (_, path) in files.iter().take(files.len() / 2) {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(%error, path = %path.display(), "an old cache entry stays");
            }
        }
    }
}

fn signed(key: &str, value: &str) -> String {
    format!("{key}\n{value}")
}

fn read_or_make_key(path: &Path) -> io::Result<Vec<u8>> {
    let mut secret = [0_u8; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| io::Error::other("the system gives no random bytes"))?;
    match fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(mut file) => {
            file.write_all(&secret)?;
            file.sync_all()?;
            Ok(secret.to_vec())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let kept = fs::read(path)?;
            if kept.len() == secret.len() {
                return Ok(kept);
            }
            // Cut off when it was written: what was signed with it is lost, and nothing else.
            fs::remove_file(path)?;
            read_or_make_key(path)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Cache, CacheKey, Entry};

    #[test]
    fn what_was_kept_is_found_again_also_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let key = CacheKey::of(["cargo", "test"]);
        Cache::open(folder.path()).unwrap().put(&key, &"passed");
        let again = Cache::open(folder.path()).unwrap();
        assert_eq!(again.get::<String>(&key).as_deref(), Some("passed"));
        assert_eq!(again.get::<String>(&CacheKey::of(["cargotest"])), None);
        assert_eq!(again.get::<u64>(&key), None);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(CacheKey::of(["ab", "c"]), CacheKey::of(["a", "bc"]));
    }

    #[test]
    fn entries_that_are_not_ours_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let key = CacheKey::of(["a"]);
        let other = CacheKey::of(["b"]);
        cache.put(&key, &"failed");
        let path = cache.path(&key);
        let entry: Entry = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();

        let forged = Entry {
            value: "\"passed\"".into(),
            key: entry.key.clone(),
            tag: entry.tag.clone(),
        };
        fs::write(&path, serde_json::to_vec(&forged).unwrap()).unwrap();
        assert_eq!(cache.get::<String>(&key), None, "edited");

        let moved = Entry {
            value: entry.value.clone(),
            key: entry.key.clone(),
            tag: entry.tag.clone(),
        };
        fs::write(cache.path(&other), serde_json::to_vec(&moved).unwrap()).unwrap();
        assert_eq!(cache.get::<String>(&other), None, "moved");

        for garbage in [&b""[..], b"{", b"null", &[0xff; 64]] {
            fs::write(&path, garbage).unwrap();
            assert_eq!(cache.get::<String>(&key), None, "{garbage:?}");
        }
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(cache.path(&other), &path).unwrap();
        assert_eq!(cache.get::<String>(&key), None, "a link");
    }

    #[test]
    fn a_cut_off_key_is_replaced_and_its_entries_are_lost() {
        let folder = tempfile::tempdir().unwrap();
        let key = CacheKey::of(["a"]);
        Cache::open(folder.path()).unwrap().put(&key, &1_u64);
        fs::write(folder.path().join("cache.key"), b"short").unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        assert_eq!(cache.get::<u64>(&key), None);
        cache.put(&key, &2_u64);
        assert_eq!(cache.get::<u64>(&key), Some(2));
    }
}
