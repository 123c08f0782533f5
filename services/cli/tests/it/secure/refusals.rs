//! What people are told when certificates and addresses do not go together.

use std::process::Stdio;

use anyhow::Result;
use tokio::process::Command;

use super::mesh::Mesh;
use crate::command::{Ended, agentic, end};

async fn agents(mesh: &Mesh, url: &str, ca: Option<&str>) -> Result<Ended> {
    let mut command = agentic(mesh.home.path());
    command.args(["--orchestrator", url]);
    if let Some(ca) = ca {
        command.args(["--tls-ca", ca]);
    }
    command.args(["agents", "--json"]);
    end(command).await
}

#[tokio::test]
async fn the_command_reaches_a_mesh_whose_authority_it_knows_and_no_other() -> Result<()> {
    let mesh = Mesh::start("1h").await?;
    let ca = mesh.file("ca.crt");
    let ended = agents(&mesh, &mesh.url(), Some(&ca)).await?;
    assert_eq!(ended.code, 0, "{}", ended.err);

    let unknown = agents(&mesh, &mesh.url(), None).await?;
    assert_eq!(unknown.code, 4, "{}", unknown.err);
    assert!(unknown.err.contains("UnknownIssuer"), "{}", unknown.err);

    let clear = mesh.url().replace("https://", "http://");
    let clear = agents(&mesh, &clear, Some(&ca)).await?;
    assert_eq!(clear.code, 4, "{}", clear.err);

    let missing = agents(&mesh, &mesh.url(), Some("/nowhere/ca.crt")).await?;
    assert_eq!(missing.code, 64, "{}", missing.err);
    assert!(missing.err.contains("/nowhere/ca.crt"), "{}", missing.err);
    Ok(())
}

#[tokio::test]
async fn a_token_is_made_by_the_command() -> Result<()> {
    let mesh = Mesh::start("1h").await?;
    let mut command = agentic(mesh.home.path());
    command
        .args([
            "--orchestrator",
            &mesh.url(),
            "--tls-ca",
            &mesh.file("ca.crt"),
        ])
        .args(["enrol", "--type", "e2e", "--name", "one"]);
    let ended = end(command).await?;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let token = ended.out.trim();
    assert!(token.starts_with("e2e/one:"), "{token}");
    Ok(())
}

#[tokio::test]
async fn an_agent_with_anothers_certificate_does_not_start() -> Result<()> {
    let mesh = Mesh::start("1h").await?;
    let data = tempfile::tempdir()?;
    let certificate = format!("--tls-cert={}", mesh.file("e2e-agent.crt"));
    let key = format!("--tls-key={}", mesh.file("e2e-agent.key"));
    let refused = mesh.scaffold(data.path(), &[&certificate, &key]);
    let said = refused
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(said.contains("spiffe://agentic/agent/e2e"), "{said}");
    Ok(())
}

#[tokio::test]
async fn openssl_agrees_with_the_port_of_an_orchestrator() -> Result<()> {
    let mesh = Mesh::start("1h").await?;
    let output = Command::new("openssl")
        .args(["s_client", "-brief", "-alpn", "h2", "-verify_return_error"])
        .args(["-CAfile", &mesh.file("ca.crt"), "-servername", "localhost"])
        .args(["-verify_hostname", "localhost"])
        .args(["-connect", &mesh.address.to_string()])
        .stdin(Stdio::null())
        .output()
        .await;
    let reason = "there is no openssl";
    if !testkit::requirement::is_given(output.is_ok(), "OPENSSL", reason) {
        return Ok(());
    }
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("Verification: OK"), "{said}");
    assert!(said.contains("TLSv1.3"), "{said}");
    Ok(())
}
