//! `buf curl`: calls by reflection, and refusals out of what it says of them.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use prost::Message;
use serde_json::Value;
use testkit::requirement::peer_program;
use tokio::process::Command;
use tonic_types::pb::{BadRequest, ErrorInfo};

const PATIENCE: Duration = Duration::from_mins(2);

/// Why a call was refused, out of code and details.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    code: String,
    reason: String,
    fields: BTreeSet<String>,
}

impl Refusal {
    /// The one that is expected.
    pub fn of(code: &str, reason: &str, fields: &[&str]) -> Self {
        Self {
            code: code.to_owned(),
            reason: reason.to_owned(),
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
        }
    }

    fn read(said: &Value) -> Result<Self> {
        let mut refusal = Self::of(said["code"].as_str().context("no code")?, "", &[]);
        for detail in said["details"].as_array().into_iter().flatten() {
            let bytes = detail["value"].as_str().context("no value")?;
            let bytes = self::bytes(bytes)?;
            match detail["type"].as_str() {
                Some("google.rpc.ErrorInfo") => {
                    refusal.reason = ErrorInfo::decode(&*bytes)?.reason;
                }
                Some("google.rpc.BadRequest") => {
                    let violations = BadRequest::decode(&*bytes)?.field_violations;
                    refusal.fields = violations.into_iter().map(|wrong| wrong.field).collect();
                }
                other => anyhow::bail!("details of type {other:?}"),
            }
        }
        Ok(refusal)
    }
}

/// A server, by address alone.
pub struct Server {
    address: String,
}

impl Server {
    /// The one at an address out of JSON.
    pub fn at(address: &Value) -> Result<Self> {
        let address = address.as_str().context("no address")?.to_owned();
        Ok(Self { address })
    }

    /// What it lists, by a version of reflection.
    pub async fn services(&self, reflection: &str) -> Result<BTreeSet<String>> {
        let arguments = ["--reflect-protocol", reflection, "--list-services"];
        let (listed, problem) = curl(&arguments, &self.address).await?;
        anyhow::ensure!(problem.is_empty(), "{problem}");
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// All messages of the answer.
    pub async fn call(&self, method: &str, request: &Value) -> Result<Vec<Value>> {
        let (answer, problem) = self.curl(method, request).await?;
        anyhow::ensure!(problem.is_empty(), "{method}: {problem}");
        let messages = serde_json::Deserializer::from_str(&answer).into_iter();
        Ok(messages.collect::<Result<_, _>>()?)
    }

    /// Why it refuses.
    pub async fn refusal(&self, method: &str, request: &Value) -> Result<Refusal> {
        let (answer, problem) = self.curl(method, request).await?;
        anyhow::ensure!(answer.is_empty(), "{method} {request} answered {answer}");
        let said = serde_json::from_str(&problem).with_context(|| problem.clone())?;
        Refusal::read(&said)
    }

    async fn curl(&self, method: &str, request: &Value) -> Result<(String, String)> {
        let url = format!("{}/{method}", self.address);
        curl(&["--data", &request.to_string()], &url).await
    }
}

/// Bytes out of JSON, padded or not.
pub fn bytes(text: &str) -> Result<Vec<u8>> {
    Ok(BASE64_STANDARD_NO_PAD.decode(text.trim_end_matches('='))?)
}

// What it wrote to standard output and standard error.
async fn curl(arguments: &[&str], url: &str) -> Result<(String, String)> {
    let output = Command::new(peer_program("buf"))
        .args(["curl", "--protocol", "grpc", "--http2-prior-knowledge"])
        .args(arguments)
        .arg(url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await??;
    Ok((
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    ))
}
