//! From what people call a commit (branch, tag, id, reference) to the commit. Never guesses between two.

use super::{
    CommitId, Error, Repository,
    cache::{REMOTE_HEAD, exclusive},
    commit_id::is_full,
    git::failure,
    push::check_reference,
};

/// Shortest abbreviation of a commit id that is looked up, as in git.
const SHORTEST_ID: usize = 4;

impl Repository {
    /// The commit that `name` stands for: `HEAD`, a branch, a tag, `refs/…`, or a full or short commit id.
    /// A full id or a reference outside branches and tags is fetched when it is not there.
    pub async fn resolve(&self, name: &str) -> Result<CommitId, Error> {
        let wanted = name.to_owned();
        let url = self.inner.url.to_string();
        let found = self
            .with_objects("look up a commit", move |objects, _| {
                lookup(objects, &url, &wanted)
            })
            .await?;
        match found {
            Some(commit) => Ok(commit),
            None => self.fetch_single(name).await,
        }
    }

    /// The branch that the repository's HEAD names, without `refs/heads/`.
    pub async fn default_branch(&self) -> Result<String, Error> {
        let url = self.inner.url.to_string();
        let local = self.inner.url.local_path().map(ToOwned::to_owned);
        self.with_objects("read the default branch", move |objects, _| {
            let head = symbolic_head(objects);
            // An empty repository lists no HEAD; on this machine we can look.
            let head = head.or_else(|| symbolic_head(&git2::Repository::open(local?).ok()?));
            head.ok_or(Error::NoDefaultBranch { url })
        })
        .await
    }

    /// Whether the repository has no commit on any branch.
    pub async fn is_empty(&self) -> Result<bool, Error> {
        self.with_objects("look for branches", |objects, _| {
            let mut branches = objects
                .references_glob("refs/heads/*")
                .map_err(Error::object("look for branches"))?;
            Ok(branches.next().is_none())
        })
        .await
    }

    /// Where a reference of the repository points now, asked afresh; none when it does not exist.
    pub async fn remote_tip(&self, reference: &str) -> Result<Option<CommitId>, Error> {
        check_reference(reference)?;
        let listing = self.list(&[reference]).await?;
        listing
            .references
            .get(reference)
            .map(|id| {
                id.parse().map_err(|_| Error::Git {
                    action: "ls-remote",
                    detail: format!("unsupported object id {id} (only SHA-1 repositories)"),
                })
            })
            .transpose()
    }

    /// The best common ancestor of two commits.
    pub async fn merge_base(&self, left: CommitId, right: CommitId) -> Result<CommitId, Error> {
        self.with_objects("find the merge base", move |objects, _| {
            match objects.merge_base(left.oid(), right.oid()) {
                Ok(base) => Ok(base.into()),
                Err(error) if error.code() == git2::ErrorCode::NotFound => Err(Error::Unrelated {
                    left: left.to_string(),
                    right: right.to_string(),
                }),
                Err(error) => Err(Error::object("find the merge base")(error)),
            }
        })
        .await
    }

    /// Whether `descendant` is `ancestor` or contains it in its history.
    pub async fn contains(&self, descendant: CommitId, ancestor: CommitId) -> Result<bool, Error> {
        self.with_objects("compare histories", move |objects, _| {
            contains(objects, descendant, ancestor)
        })
        .await
    }

    async fn fetch_single(&self, name: &str) -> Result<CommitId, Error> {
        let not_found = || Error::RefNotFound {
            url: self.inner.url.to_string(),
            reference: name.to_owned(),
        };
        let source = if is_full(name) || name.starts_with("refs/") {
            name.to_owned()
        } else {
            // `origin/feature` in somebody's own clone.
            format!("refs/remotes/{name}")
        };
        if !is_full(name) {
            check_reference(&source).map_err(|_| not_found())?;
            let listing = self.list(&[&source]).await?;
            if !listing.references.contains_key(&source) {
                return Err(not_found());
            }
        }
        let target = format!("refs/agentic/fetched/{}", source.replace("refs/", ""));
        let refspec = format!("+{source}:{target}");
        {
            let _exclusive = exclusive(&self.inner.guard, self.inner.git.deadline).await?;
            let url = &self.inner.url;
            let arguments = [
                "fetch",
                "--quiet",
                "--no-write-fetch-head",
                "--no-tags",
                "--update-shallow",
                "--",
                url.as_str(),
                &refspec,
            ];
            let folder = Some(self.inner.folder.as_path());
            let finished = self.inner.git.run("fetch", folder, url, arguments).await?;
            if !finished.status.success() {
                let error = failure("fetch", url, &finished);
                // "not our ref", in several wordings.
                let unknown = matches!(error, Error::Git { .. } | Error::RepositoryNotFound { .. });
                return Err(if is_full(name) && unknown {
                    not_found()
                } else {
                    error
                });
            }
        }
        let url = self.inner.url.to_string();
        let fetched = self
            .with_objects("look up a commit", move |objects, _| {
                lookup(objects, &url, &target)
            })
            .await?;
        fetched.ok_or_else(not_found)
    }
}

pub(super) fn contains(
    objects: &git2::Repository,
    descendant: CommitId,
    ancestor: CommitId,
) -> Result<bool, Error> {
    if descendant == ancestor {
        return Ok(true);
    }
    objects
        .graph_descendant_of(descendant.oid(), ancestor.oid())
        .map_err(Error::object("compare histories"))
}

fn symbolic_head(objects: &git2::Repository) -> Option<String> {
    let head = objects.find_reference("HEAD").ok()?;
    let target = head.symbolic_target().ok()??;
    target.strip_prefix("refs/heads/").map(ToOwned::to_owned)
}

fn lookup(objects: &git2::Repository, url: &str, name: &str) -> Result<Option<CommitId>, Error> {
    if name == "HEAD" {
        return reference(objects, REMOTE_HEAD);
    }
    if is_full(name) {
        return object(objects, name);
    }
    if name.starts_with("refs/") {
        return reference(objects, name);
    }
    let mut found = Vec::new();
    for prefix in ["refs/heads/", "refs/tags/"] {
        found.extend(reference(objects, &format!("{prefix}{name}"))?);
    }
    let ambiguous = || Error::Ambiguous {
        url: url.to_owned(),
        reference: name.to_owned(),
    };
    match found.as_slice() {
        [] => {}
        [first, rest @ ..] if rest.iter().all(|other| other == first) => return Ok(Some(*first)),
        _ => return Err(ambiguous()),
    }
    let hexadecimal = name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hexadecimal || !(SHORTEST_ID..40).contains(&name.len()) {
        return Ok(None);
    }
    match objects.find_commit_by_prefix(name) {
        Ok(commit) => Ok(Some(commit.id().into())),
        Err(error) if error.code() == git2::ErrorCode::Ambiguous => Err(ambiguous()),
        Err(_) => Ok(None),
    }
}

fn reference(objects: &git2::Repository, name: &str) -> Result<Option<CommitId>, Error> {
    let action = "look up a reference";
    match objects.find_reference(name) {
        Ok(reference) => match reference.peel_to_commit() {
            Ok(commit) => Ok(Some(commit.id().into())),
            // A tag of a tree or a file.
            Err(error) if is_no_commit(&error) => Ok(None),
            Err(error) => Err(Error::object(action)(error)),
        },
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Error::object(action)(error)),
    }
}

fn object(objects: &git2::Repository, id: &str) -> Result<Option<CommitId>, Error> {
    let action = "look up a commit";
    let Ok(oid) = id.parse::<git2::Oid>() else {
        return Ok(None);
    };
    match objects.find_object(oid, None) {
        Ok(object) => match object.peel_to_commit() {
            Ok(commit) => Ok(Some(commit.id().into())),
            Err(error) if is_no_commit(&error) => Ok(None),
            Err(error) => Err(Error::object(action)(error)),
        },
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Error::object(action)(error)),
    }
}

fn is_absent(error: &git2::Error) -> bool {
    matches!(
        error.code(),
        git2::ErrorCode::NotFound | git2::ErrorCode::InvalidSpec
    )
}

fn is_no_commit(error: &git2::Error) -> bool {
    matches!(
        error.code(),
        git2::ErrorCode::Peel | git2::ErrorCode::InvalidSpec
    )
}
