//! What of a checkout goes to a builder: everything that `.dockerignore` does not leave out, as a tar
//! with the same bytes for the same files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use globset::{GlobBuilder, GlobMatcher};

/// Largest `.dockerignore`.
const MAX_IGNORE_BYTES: u64 = 256 * 1024;

/// Writes the build context of a folder into a temporary file.
pub(super) fn pack(folder: &Path, dockerfile: &str) -> io::Result<tempfile::NamedTempFile> {
    let ignore = Ignore::read(folder, dockerfile)?;
    let file = tempfile::NamedTempFile::new()?;
    let mut archive = tar::Builder::new(io::BufWriter::new(file.reopen()?));
    archive.follow_symlinks(false);
    archive.mode(tar::HeaderMode::Deterministic);
    let mut entries: Vec<PathBuf> = walkdir::WalkDir::new(folder)
        .min_depth(1)
        .follow_links(false)
        .into_iter()
        .map(|entry| Ok(entry?.into_path()))
        .collect::<io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let Ok(relative) = path.strip_prefix(folder) else {
            continue;
        };
        let found = fs::symlink_metadata(&path)?;
        let is_special = !(found.is_file() || found.is_dir() || found.is_symlink());
        if is_special || ignore.leaves_out(relative) {
            continue;
        }
        archive.append_path_with_name(&path, relative)?;
    }
    archive
        .into_inner()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_data()?;
    Ok(file)
}

/// The rules of a `.dockerignore`: the last one that matches a path or a folder above it decides.
#[derive(Debug, Default)]
struct Ignore {
    rules: Vec<(GlobMatcher, bool)>,
    /// Never left out, or nothing could be built.
    always: Vec<PathBuf>,
}

impl Ignore {
    fn read(folder: &Path, dockerfile: &str) -> io::Result<Self> {
        let path = folder.join(".dockerignore");
        let text = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() <= MAX_IGNORE_BYTES => {
                fs::read_to_string(&path)?
            }
            Ok(_) => {
                return Err(io::Error::other(
                    ".dockerignore is no file of at most 256 KiB",
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        Self::parse(&text, dockerfile).map_err(io::Error::other)
    }

    fn parse(text: &str, dockerfile: &str) -> Result<Self, globset::Error> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let rules = lines
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (pattern, negated) = match line.strip_prefix('!') {
                    Some(rest) => (rest.trim(), true),
                    None => (line, false),
                };
                let pattern = pattern.trim_start_matches("./").trim_matches('/');
                let glob = GlobBuilder::new(pattern).literal_separator(true).build()?;
                Ok((glob.compile_matcher(), negated))
            })
            .collect::<Result<_, globset::Error>>()?;
        let always = vec![PathBuf::from(dockerfile), PathBuf::from(".dockerignore")];
        Ok(Self { rules, always })
    }

    fn leaves_out(&self, path: &Path) -> bool {
        if self.always.iter().any(|kept| kept.starts_with(path)) {
            return false;
        }
        let mut left_out = false;
        for (rule, negated) in &self.rules {
            if path
                .ancestors()
                .filter(|part| *part != Path::new(""))
                .any(|part| rule.is_match(part))
            {
                left_out = !negated;
            }
        }
        // A folder that is left out may hold files that are not, so only files are judged strictly.
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(rules: &str, path: &str) -> bool {
        Ignore::parse(rules, "Dockerfile")
            .unwrap()
            .leaves_out(Path::new(path))
    }

    #[test]
    fn patterns_are_anchored_and_cover_what_is_below() {
        assert!(left_out("target", "target/debug/app"));
        assert!(!left_out("target", "crates/target/app"));
        assert!(left_out("**/target", "crates/target/app"));
        assert!(left_out("*.log", "a.log"));
        assert!(!left_out("*.log", "logs/a.log"));
        assert!(left_out("# a comment\n\n /secrets/ ", "secrets/key"));
    }

    #[test]
    fn the_last_matching_rule_decides_and_the_dockerfile_always_goes() {
        assert!(!left_out("*.md\n!README.md", "README.md"));
        assert!(left_out("!README.md\n*.md", "README.md"));
        assert!(!left_out("*", "Dockerfile"));
        assert!(left_out("*", "app.py"));
        assert!(!left_out("*\n!app", "app/main.py"));
    }

    #[test]
    fn the_same_files_give_the_same_bytes_without_links_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("app")).unwrap();
        fs::write(folder.path().join("Dockerfile"), "FROM scratch\n").unwrap();
        fs::write(folder.path().join("app/main"), "text").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        let pack = || fs::read(pack(folder.path(), "Dockerfile").unwrap().path()).unwrap();
        let first = pack();
        assert_eq!(first, pack());
        let mut archive = tar::Archive::new(first.as_slice());
        let mut paths = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let is_link = entry.header().entry_type().is_symlink();
            paths.push((
                entry.path().unwrap().display().to_string(),
                is_link,
                entry.size(),
            ));
        }
        let expected = [
            ("Dockerfile", false, 13),
            ("app", false, 0),
            ("app/main", false, 4),
            ("link", true, 0),
        ];
        let expected = expected.map(|(path, link, size)| (path.to_owned(), link, size));
        assert_eq!(paths, expected);
    }
}
