//! Makes new, empty repositories. Refuses to know what goes into them.

use std::path::Path;

use super::{Error, push::check_reference};

/// Makes an empty bare repository whose HEAD is `default_branch`. A folder that is there already must be
/// empty.
pub async fn create_bare(path: &Path, default_branch: &str) -> Result<(), Error> {
    check_reference(&format!("refs/heads/{default_branch}"))?;
    let path = path.to_owned();
    let branch = default_branch.to_owned();
    let joined = tokio::task::spawn_blocking(move || {
        let mut options = git2::RepositoryInitOptions::new();
        options
            .bare(true)
            .no_reinit(true)
            .mkdir(true)
            .mkpath(true)
            .external_template(false)
            .initial_head(&branch);
        if std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::Io {
                action: "create a repository in",
                path,
                source: std::io::Error::from(std::io::ErrorKind::DirectoryNotEmpty),
            });
        }
        git2::Repository::init_opts(&path, &options)
            .map(drop)
            .map_err(Error::object("create a bare repository"))
    })
    .await;
    joined.unwrap_or(Err(Error::Cancelled {
        action: "create a bare repository",
    }))
}
