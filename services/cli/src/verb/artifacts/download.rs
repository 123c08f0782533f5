//! Downloads artifacts: every byte is checked against size and digest before a file gets its name,
//! and no name leads out of the folder.

use std::io::Write;
use std::path::{Component, Path, PathBuf};

use contracts::orchestrator::{DownloadArtifactRequest, StoredArtifact};
use contracts::task::Artifact;
use sha2::{Digest, Sha256};
use tonic::Request;

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::Mesh;
use crate::output::{Output, clean};
use crate::words;

// contract.md: an artifact has at most 1 GiB.
const LARGEST: i64 = 1024 * 1024 * 1024;

/// Writes the artifacts below the folder, or the one to standard output.
pub async fn download(
    mesh: &Mesh,
    chosen: &[StoredArtifact],
    folder: &Path,
    output: &Output,
) -> Result<Exit, Error> {
    if folder == Path::new("-") {
        let [stored] = chosen else {
            return Err(Error::Usage(format!(
                "--output -: {} match; name one",
                words::count(chosen.len(), "artifact")
            )));
        };
        let artifact = stored.artifact.clone().unwrap_or_default();
        // Nothing is printed before it is known to be right.
        let mut file = tempfile::tempfile().map_err(|source| Error::System {
            doing: "cannot make a temporary file",
            source,
        })?;
        fetch(mesh, &artifact, &mut file).await?;
        copy_to(output, &mut file)?;
        return Ok(Exit::Succeeded);
    }
    if chosen.is_empty() {
        output.note("no artifacts");
    }
    for stored in chosen {
        let artifact = stored.artifact.clone().unwrap_or_default();
        let path = place(folder, stored, chosen)?;
        save(mesh, &artifact, &path).await?;
        if output.is_json() {
            output.message(stored)?;
        } else {
            output.line(clean(&path.display().to_string()))?;
        }
    }
    Ok(Exit::Succeeded)
}

// <folder>/<stage>/<name>; artifacts of several attempts get one more folder.
fn place(folder: &Path, stored: &StoredArtifact, all: &[StoredArtifact]) -> Result<PathBuf, Error> {
    let name = stored.artifact.as_ref().map_or("", |a| a.name.as_str());
    let twins = all
        .iter()
        .filter(|other| {
            other.stage == stored.stage && other.artifact.as_ref().is_some_and(|a| a.name == name)
        })
        .count();
    let mut path = folder.join(inside(&stored.stage, true)?);
    if twins > 1 {
        path.push(format!("attempt-{}", stored.attempt));
    }
    Ok(path.join(inside(name, false)?))
}

// A path that stays where it is put.
fn inside(name: &str, may_be_empty: bool) -> Result<PathBuf, Error> {
    let path = Path::new(name);
    let safe = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
        && !name.chars().any(char::is_control)
        && !name.ends_with('/')
        && (may_be_empty || !name.is_empty());
    if safe {
        Ok(path.to_owned())
    } else {
        Err(Error::Answer(format!(
            "{name:?} is no name for an artifact or a stage"
        )))
    }
}

async fn save(mesh: &Mesh, artifact: &Artifact, path: &Path) -> Result<(), Error> {
    let failed = |source| Error::File {
        doing: "cannot write",
        path: path.to_owned(),
        source,
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    fetch(mesh, artifact, file.as_file_mut()).await?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

async fn fetch(mesh: &Mesh, artifact: &Artifact, file: &mut std::fs::File) -> Result<(), Error> {
    let name = clean(&artifact.name);
    if artifact.size_bytes < 0 || artifact.size_bytes > LARGEST {
        return Err(Error::Answer(format!(
            "artifact {name} has {} bytes",
            artifact.size_bytes
        )));
    }
    let request = DownloadArtifactRequest {
        digest: artifact.digest.clone(),
        ..DownloadArtifactRequest::default()
    };
    let mut stream = mesh
        .artifacts()
        .download_artifact(Request::new(request))
        .await
        .map_err(|status| mesh.error(&status))?
        .into_inner();
    let mut hash = Sha256::new();
    let mut left = artifact.size_bytes;
    while let Some(message) = stream
        .message()
        .await
        .map_err(|status| mesh.error(&status))?
    {
        left -= i64::try_from(message.chunk.len()).unwrap_or(i64::MAX);
        if left < 0 {
            return Err(Error::Answer(format!(
                "artifact {name} is longer than its {} bytes",
                artifact.size_bytes
            )));
        }
        hash.update(&message.chunk);
        file.write_all(&message.chunk)
            .map_err(|source| Error::File {
                doing: "cannot write",
                path: PathBuf::from(&name),
                source,
            })?;
    }
    let digest = format!("sha256:{}", hex::encode(hash.finalize()));
    if left != 0 || digest != artifact.digest {
        return Err(Error::Answer(format!(
            "artifact {name} came with digest {digest}, {left} bytes short; its digest is {}",
            artifact.digest
        )));
    }
    Ok(())
}

fn copy_to(output: &Output, file: &mut std::fs::File) -> Result<(), Error> {
    use std::io::{Read, Seek};
    let failed = |source| Error::System {
        doing: "cannot read a temporary file",
        source,
    };
    file.rewind().map_err(failed)?;
    let mut chunk = vec![0; contracts::CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk).map_err(failed)?;
        if count == 0 {
            return Ok(());
        }
        output.bytes(&chunk[..count])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(stage: &str, attempt: i32, name: &str) -> StoredArtifact {
        StoredArtifact {
            stage: stage.into(),
            attempt,
            artifact: Some(Artifact {
                name: name.into(),
                ..Artifact::default()
            }),
            ..StoredArtifact::default()
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for hostile in [
            "",
            "..",
            "../x",
            "/etc/passwd",
            "a/../../x",
            "a/",
            "a\nb",
            "./a/..",
        ] {
            let artifact = stored("e2e", 1, hostile);
            assert!(
                place(Path::new("out"), &artifact, std::slice::from_ref(&artifact)).is_err(),
                "{hostile:?}"
            );
        }
        let hostile_stage = stored("../../x", 1, "a");
        assert!(place(Path::new("out"), &hostile_stage, &[]).is_err());
    }

    #[test]
    fn attempts_do_not_overwrite_each_other() {
        let all = [
            stored("e2e", 1, "app.log"),
            stored("e2e", 2, "app.log"),
            stored("e2e", 1, "a/b"),
        ];
        let paths: Vec<_> = all
            .iter()
            .map(|one| place(Path::new("out"), one, &all).unwrap())
            .collect();
        assert_eq!(paths[0], Path::new("out/e2e/attempt-1/app.log"));
        assert_eq!(paths[1], Path::new("out/e2e/attempt-2/app.log"));
        assert_eq!(paths[2], Path::new("out/e2e/a/b"));
    }
}
