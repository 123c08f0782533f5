//! `agentic certs`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use service_runtime::tls::{Files, Identity, Tls};

use crate::command::{Ended, agentic, end};

/// Runs the verb on a folder.
pub async fn certs(folder: &Path, more: &[&str]) -> Result<Ended> {
    let mut command = agentic(folder);
    command
        .arg("certs")
        .arg("--folder")
        .arg(folder.join("certs"))
        .args(more);
    end(command).await
}

/// The files of a service.
pub fn files(folder: &Path, name: &str) -> Files {
    let path = |kind: &str| folder.join(format!("certs/{name}.{kind}"));
    Files {
        own: Some((path("crt"), path("key"))),
        authorities: Some(folder.join("certs/ca.crt")),
    }
}

#[tokio::test]
async fn certificates_for_every_service_are_made_for_their_owner_alone() -> Result<()> {
    let home = tempfile::tempdir()?;
    let ended = certs(home.path(), &["--host", "mesh.example.com", "--json"]).await?;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let lines = ended.json()?;
    assert_eq!(lines.len(), 8);
    assert!(ended.out.contains("mesh.example.com"));
    for entry in std::fs::read_dir(home.path().join("certs"))? {
        let mode = entry?.metadata()?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    for (name, identity) in [
        ("orchestrator", "spiffe://agentic/orchestrator"),
        ("e2e-agent", "spiffe://agentic/agent/e2e"),
        ("deployment-agent", "spiffe://agentic/agent/deployment"),
    ] {
        let tls = Tls::read(files(home.path(), name))?;
        assert_eq!(tls.identity(), Some(identity.parse::<Identity>()?));
    }
    assert_eq!(Tls::read(files(home.path(), "edge"))?.identity(), None);
    Ok(())
}

#[tokio::test]
async fn nothing_is_overwritten_unless_it_is_asked_for() -> Result<()> {
    let home = tempfile::tempdir()?;
    let read = |name: &str| std::fs::read_to_string(home.path().join("certs").join(name));
    assert_eq!(certs(home.path(), &[]).await?.code, 0);
    let (authority, leaf) = (read("ca.crt")?, read("orchestrator.crt")?);
    let again = certs(home.path(), &[]).await?;
    assert_eq!(again.code, 2);
    assert!(again.err.contains("is there already"), "{}", again.err);
    assert_eq!(read("orchestrator.crt")?, leaf);

    assert_eq!(certs(home.path(), &["--renew"]).await?.code, 0);
    assert_eq!(read("ca.crt")?, authority);
    assert_ne!(read("orchestrator.crt")?, leaf);
    Tls::read(files(home.path(), "orchestrator"))?;

    assert_eq!(certs(home.path(), &["--force"]).await?.code, 0);
    assert_ne!(read("ca.crt")?, authority);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_a_certificate_is_refused_in_one_sentence() -> Result<()> {
    let home = tempfile::tempdir()?;
    for (arguments, word) in [
        (&["--lifetime", "1s"][..], "--lifetime"),
        (&["--host", "münchen.example"], "certificate"),
        (&["--renew"], "ca.crt"),
    ] {
        let ended = certs(home.path(), arguments).await?;
        assert_ne!(ended.code, 0, "{arguments:?}");
        assert!(ended.err.contains(word), "{arguments:?}: {}", ended.err);
    }
    Ok(())
}
