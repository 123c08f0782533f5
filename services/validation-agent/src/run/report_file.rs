//! Report files of a run: what was there before does not count, and neither does what is no plain file of the
//! checkout. Knows no format.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use agent_runtime::test_report::{MAXIMUM_REPORT_BYTES, ReportError};

/// Clocks of file systems run behind by a little.
const SLACK: Duration = Duration::from_secs(1);

/// Where a run will leave a report.
pub(super) struct ReportPath {
    path: PathBuf,
    roots: [PathBuf; 2],
    was_there: bool,
}

impl ReportPath {
    /// Takes away what is there: a report that the commit brings, or an earlier run left, is none.
    pub(super) fn clear(path: &Path, checkout: &Path, reports: &Path) -> Self {
        let was_there = fs::symlink_metadata(path).is_ok();
        if was_there && let Err(error) = fs::remove_file(path) {
            tracing::warn!(%error, path = %path.display(), "an old report stays");
        }
        Self {
            path: path.to_owned(),
            roots: [checkout.to_owned(), reports.to_owned()],
            was_there,
        }
    }

    /// What the run that began at `started` left.
    pub(super) fn read(&self, started: SystemTime) -> Result<Vec<u8>, ReportError> {
        let absent = || {
            if self.was_there {
                ReportError::Stale
            } else {
                ReportError::Missing
            }
        };
        let Ok(found) = fs::symlink_metadata(&self.path) else {
            return Err(absent());
        };
        if !found.is_file() {
            return Err(ReportError::Unparsable("it is not a plain file".into()));
        }
        let place = self
            .path
            .parent()
            .and_then(|folder| fs::canonicalize(folder).ok());
        let is_inside = |place: &PathBuf| {
            self.roots
                .iter()
                .filter_map(|root| fs::canonicalize(root).ok())
                .any(|root| place.starts_with(root))
        };
        if !place.as_ref().is_some_and(is_inside) {
            return Err(ReportError::Unparsable(
                "it lies outside the checkout".into(),
            ));
        }
        if found
            .modified()
            .is_ok_and(|written| written + SLACK < started)
        {
            return Err(ReportError::Stale);
        }
        if found.len() > MAXIMUM_REPORT_BYTES as u64 {
            return Err(ReportError::TooLarge);
        }
        fs::read(&self.path).map_err(|error| ReportError::Unparsable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::symlink,
        path::Path,
        time::{Duration, SystemTime},
    };

    use super::{ReportError, ReportPath};

    fn clear(path: &Path) -> ReportPath {
        ReportPath::clear(path, path.parent().unwrap(), path.parent().unwrap())
    }

    #[test]
    fn only_what_the_run_wrote_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.xml");
        assert_eq!(
            clear(&path).read(SystemTime::now()),
            Err(ReportError::Missing)
        );
        fs::write(&path, "committed").unwrap();
        let report = clear(&path);
        assert_eq!(report.read(SystemTime::now()), Err(ReportError::Stale));
        fs::write(&path, "new").unwrap();
        assert_eq!(report.read(SystemTime::now()), Ok(b"new".to_vec()));
        let old = SystemTime::now() - Duration::from_hours(1);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
        assert_eq!(report.read(SystemTime::now()), Err(ReportError::Stale));
    }

    #[test]
    fn links_and_places_outside_are_refused() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("report.xml"), "x").unwrap();
        let path = folder.path().join("report.xml");
        let report = clear(&path);
        symlink(outside.path().join("report.xml"), &path).unwrap();
        assert!(matches!(
            report.read(SystemTime::now()),
            Err(ReportError::Unparsable(_))
        ));
        let through = folder.path().join("out/report.xml");
        symlink(outside.path(), folder.path().join("out")).unwrap();
        let report = ReportPath::clear(&through, folder.path(), folder.path());
        fs::write(outside.path().join("report.xml"), "x").unwrap();
        assert!(matches!(
            report.read(SystemTime::now()),
            Err(ReportError::Unparsable(_))
        ));
    }
}
