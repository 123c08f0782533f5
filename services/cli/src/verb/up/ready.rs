//! When a mesh is ready: every agent that was started is connected and was called back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use contracts::agent::type_name;
use contracts::orchestrator::{AgentState, ListAgentsRequest};
use serde_json::{Value, json};
use service_runtime::tls::TlsArgs;

use super::agents::Listening;
use crate::error::Error;
use crate::mesh::file::MeshFile;
use crate::mesh::{Mesh, Place, call};
use crate::output::{Output, Paint, clean};
use crate::words;

// An agent is called back within milliseconds of connecting; nobody is told when.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// A mesh that is about to be ready.
#[derive(Debug)]
pub struct Ready {
    /// Where the orchestrator answers.
    pub address: String,
    /// Where its HTTP port is.
    pub http: Option<String>,
    /// Its agents.
    pub agents: Vec<Listening>,
    /// File with a token that may ask for them.
    pub token_file: PathBuf,
}

impl Ready {
    /// Waits until every agent takes work. The caller bounds the time.
    pub async fn wait(self) -> Result<Self, Error> {
        let mesh = Mesh::find(Place {
            orchestrator: Some(self.address.clone()),
            data: PathBuf::new(),
            token_file: Some(self.token_file.clone()),
            tls: TlsArgs::default(),
            namespace: None,
        })?;
        loop {
            let request = ListAgentsRequest {
                page_size: 1000,
                ..ListAgentsRequest::default()
            };
            let known = call!(mesh, agents.list_agents(request))?.agents;
            let is_ready = |agent: &Listening| {
                let address = format!("http://{}", agent.address);
                known
                    .iter()
                    .any(|known| known.address == address && known.state() == AgentState::Ready)
            };
            if self.agents.iter().all(is_ready) {
                return Ok(self);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// What is left in the data folder.
    pub fn mesh_file(&self) -> MeshFile {
        MeshFile {
            address: self.address.clone(),
            http: self.http.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// That it is ready, for programs.
    pub fn told(&self, data: &Path, database: &str, took: Duration) -> Value {
        let agents: Vec<_> = self
            .agents
            .iter()
            .map(|agent| {
                json!({
                    "agentType": type_name(agent.agent_type),
                    "address": format!("http://{}", agent.address),
                })
            })
            .collect();
        json!({
            "address": self.address,
            "http": self.http,
            "pid": std::process::id(),
            "data": data,
            "database": database,
            "agents": agents,
            "readySeconds": took.as_secs_f64(),
        })
    }
}

/// That a mesh is ready, for people.
pub fn show(ready: &Value, output: &Output) -> Result<(), Error> {
    let painter = output.painter();
    let text = |value: &Value| clean(value.as_str().unwrap_or_default());
    let took = ready["readySeconds"].as_f64().unwrap_or_default();
    let took = Duration::try_from_secs_f64(took).unwrap_or_default();
    output.line(format!(
        "{} at {} in {} (process {})",
        painter.paint(Paint::Good, "mesh ready"),
        painter.paint(Paint::Strong, &text(&ready["address"])),
        words::duration(took),
        ready["pid"]
    ))?;
    let agents = ready["agents"].as_array().into_iter().flatten();
    let lines = ["http", "data", "database"]
        .map(|name| (name.to_owned(), text(&ready[name])))
        .into_iter()
        .chain(agents.map(|agent| (text(&agent["agentType"]), text(&agent["address"]))));
    for (name, value) in lines {
        output.line(format!(
            "  {} {value}",
            painter.paint(Paint::Faint, &format!("{name:<12}"))
        ))?;
    }
    Ok(())
}
