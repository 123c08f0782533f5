//! A served agent, a project in a repository, and one task carried to its result.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use agent_runtime::serve::AgentConfig;
use contracts::{
    e2e::{
        E2eResult, E2eTask, ExecuteRequest, e2e_service_client::E2eServiceClient, execute_response,
    },
    task::{self, TaskContext, Verdict},
};
use e2e_agent::{Config, Settings};
use tempfile::TempDir;
use testkit::repository::{Commit, Repository};
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, transport::Channel};

/// An app that serves HTTP on `$PORT`: `/health`, `/` with the text `shop`, `/json`, `/slow`, 404 for the rest.
pub const SERVER: &str = r#"
import http.server, json, os, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path
        if path == "/slow":
            time.sleep(0.3)
        pages = {"/": (200, "text/html", b"<h1>shop</h1>"), "/health": (200, "text/plain", b"ok"),
                 "/slow": (200, "text/plain", b"late"), "/broken": (500, "text/plain", b"oh no"),
                 "/json": (200, "application/json", json.dumps({"items": [{"name": "tea", "price": 3}]}).encode())}
        status, kind, body = pages.get(path, (404, "text/plain", b"none"))
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(201)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        print("request", self.path, flush=True)

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
print("listening", flush=True)
server.serve_forever()
"#;

/// Describes an app that is started with `start`, ready on `/health`, with further lines.
pub fn description(start: &str, within: &str, rest: &str) -> String {
    format!(
        "version: 1\napp:\n  start: {{command: {start}}}\n  ready: {{http: {{path: /health}}, within: {within}}}\n  \
         stop_within: 2s\n{rest}"
    )
}

/// A running agent that works alone.
pub struct ServedAgent {
    client: E2eServiceClient<Channel>,
    data: TempDir,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl ServedAgent {
    pub async fn start() -> Self {
        service_runtime::tls::install_crypto();
        let data = TempDir::new().unwrap();
        let secrets = data.path().join("secrets");
        std::fs::create_dir_all(secrets.join("development")).unwrap();
        std::fs::write(secrets.join("development/TOKEN"), "hidden value\n").unwrap();
        let config = Config {
            agent: AgentConfig {
                address: SocketAddr::from(([127, 0, 0, 1], 0)),
                http_address: None,
                tls: service_runtime::tls::Tls::default(),
                http_tls: false,
                enrolment: None,
                advertise: None,
                orchestrator_url: None,
                token: None,
                slot_count: 4,
                data: data.path().join("e2e"),
                shutdown_grace: Duration::from_secs(5),
                reflection: false,
                registry: None,
            },
            e2e: Settings {
                cache: data.path().join("cache"),
                secrets: Some(secrets),
            },
        };
        let stop = CancellationToken::new();
        let (bound, address) = oneshot::channel();
        let token = stop.clone();
        let serving = TaskTracker::new().spawn(async move {
            e2e_agent::serve(config, Some(bound), token).await.unwrap();
        });
        let address = address.await.unwrap();
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let client = E2eServiceClient::new(channel);
        Self {
            client,
            data,
            stop,
            serving,
        }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }

    pub fn client(&self) -> E2eServiceClient<Channel> {
        self.client.clone()
    }

    /// Folder that the agent keeps everything in.
    pub fn data(&self) -> PathBuf {
        self.data.path().join("e2e")
    }

    /// Runs one task to its result.
    pub async fn run(&self, context: TaskContext, task: E2eTask) -> Result<E2eResult, Status> {
        let request = ExecuteRequest {
            context: Some(context),
            task: Some(task),
        };
        let mut stream = self.client.clone().execute(request).await?.into_inner();
        let mut result = None;
        while let Some(message) = stream.message().await? {
            assert!(result.is_none(), "something comes after the result");
            match message.payload.unwrap() {
                execute_response::Payload::Event(_) => {}
                execute_response::Payload::Result(last) => result = Some(last),
            }
        }
        Ok(result.expect("a stream ends with a result"))
    }
}

/// What a project's only commit tells, by a task that leaves everything to the project.
pub async fn tested(files: &[(&str, &str)]) -> Tested {
    tested_with(files, E2eTask::default()).await
}

pub async fn tested_with(files: &[(&str, &str)], task: E2eTask) -> Tested {
    let agent = ServedAgent::start().await;
    let repository = Repository::with_files(files.iter().copied()).unwrap();
    let result = agent.run(context(&repository, "", ""), task).await.unwrap();
    let tested = Tested::new(result, agent.data());
    agent.stop().await;
    tested
}

/// What a change on top of a base tells.
pub async fn tested_change(base: &[(&str, &str)], change: Commit, task: E2eTask) -> Tested {
    let agent = ServedAgent::start().await;
    let mut repository = Repository::with_files(base.iter().copied()).unwrap();
    let first = repository.resolve("main").unwrap();
    let head = repository.commit(change).unwrap();
    let result = agent
        .run(context(&repository, &first, &head), task)
        .await
        .unwrap();
    let tested = Tested::new(result, agent.data());
    agent.stop().await;
    tested
}

pub fn context(repository: &Repository, base: &str, head: &str) -> TaskContext {
    TaskContext {
        repository: Some(task::Repository {
            url: repository.url(),
            base_commit: base.to_owned(),
            head_commit: head.to_owned(),
            ..task::Repository::default()
        }),
        ..TaskContext::default()
    }
}

/// A result, easier to ask.
pub struct Tested {
    pub result: E2eResult,
    artifacts: BTreeMap<String, String>,
}

impl Tested {
    fn new(result: E2eResult, _data: PathBuf) -> Self {
        let outcome = result.outcome.as_ref().unwrap();
        let artifacts = outcome
            .artifacts
            .iter()
            .map(|artifact| {
                let path = artifact.uri.strip_prefix("file://").unwrap();
                let bytes = std::fs::read(path).unwrap();
                (
                    artifact.name.clone(),
                    String::from_utf8_lossy(&bytes).into_owned(),
                )
            })
            .collect();
        Self { result, artifacts }
    }

    pub fn verdict(&self) -> Verdict {
        self.result.outcome.as_ref().unwrap().verdict()
    }

    pub fn summary(&self) -> &str {
        &self.result.outcome.as_ref().unwrap().summary
    }

    pub fn artifact(&self, name: &str) -> &str {
        self.artifacts
            .get(name)
            .unwrap_or_else(|| panic!("no {name} among {:?}", self.artifacts.keys()))
    }

    pub fn artifact_names(&self) -> Vec<&str> {
        self.artifacts.keys().map(String::as_str).collect()
    }

    pub fn app(&self) -> &contracts::e2e::AppRun {
        self.result.app.as_ref().unwrap()
    }

    pub fn suite(&self, name: &str) -> &contracts::e2e::SuiteResult {
        self.result
            .suites
            .iter()
            .find(|suite| suite.name == name)
            .unwrap()
    }

    #[track_caller]
    pub fn assert(&self, verdict: Verdict, parts: &[&str]) {
        assert_eq!(
            self.verdict(),
            verdict,
            "{} {:#?}",
            self.summary(),
            self.result.suites
        );
        for part in parts {
            assert!(
                self.summary().contains(part),
                "{:?} lacks {part:?}",
                self.summary()
            );
        }
    }
}
