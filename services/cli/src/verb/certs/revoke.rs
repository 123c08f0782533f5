//! `agentic certs revoke`: ends certificates of agents before their time.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use contracts::orchestrator::RevokeCertificatesRequest;
use contracts::orchestrator::revoke_certificates_request::Which;

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::unary;
use crate::output::clean;
use crate::surroundings::Surroundings;

const AFTER_HELP: &str = "\
Every orchestrator refuses the certificate within seconds, and ends the session of an agent that shows it. What was
renewed from it is revoked with it. The agent gets a new one with a new token: `agentic enrol`.

Examples:
  agentic certs revoke --identity spiffe://agentic/agent/e2e/build-host-1
  agentic certs revoke certs/e2e-agent.crt";

/// Arguments of `certs revoke`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RevokeArgs {
    /// File with the certificate, in PEM.
    #[arg(value_name = "FILE", required_unless_present = "identity")]
    file: Option<PathBuf>,
    /// All that were issued for this identity so far.
    #[arg(long, value_name = "URI", conflicts_with = "file")]
    identity: Option<String>,
}

/// Revokes them. Doing it again changes nothing.
pub async fn run(args: RevokeArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let which = match (args.file, args.identity) {
        (Some(path), _) => {
            let pem = fs::read_to_string(&path).map_err(|source| Error::File {
                doing: "cannot read",
                path,
                source,
            })?;
            // A file may hold its key, too, which is nobody else's business.
            let end = pem.find("-----END CERTIFICATE-----").unwrap_or(0);
            let begin = pem.find("-----BEGIN CERTIFICATE-----").unwrap_or(0);
            let own = pem.get(begin..end).unwrap_or_default();
            Which::Certificate(format!("{own}-----END CERTIFICATE-----\n"))
        }
        (None, identity) => Which::Identity(identity.unwrap_or_default()),
    };
    let mesh = surroundings.mesh()?;
    let request = RevokeCertificatesRequest { which: Some(which) };
    let answer = mesh
        .enrolment()
        .revoke_certificates(unary(request))
        .await
        .map_err(|status| mesh.error(&status))?
        .into_inner();
    if surroundings.output.is_json() {
        surroundings.output.message(&answer)?;
    } else {
        for serial in &answer.serials {
            surroundings.output.line(clean(serial))?;
        }
        surroundings
            .output
            .note(format!("revoked for {}", clean(&answer.identity)));
    }
    Ok(Exit::Succeeded)
}
