//! A Prometheus that scrapes a mesh of a test.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_mins(1);

/// One that runs.
pub struct Prometheus {
    child: Child,
    address: String,
    _folder: TempDir,
}

impl Prometheus {
    /// Scrapes a process every second, as if it were an orchestrator and an agent. `None`: this machine has no Prometheus,
    /// which is said.
    pub async fn start(target: &str) -> Result<Option<Self>> {
        testkit::require!(Prometheus, Ok(None));
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("prometheus.yaml");
        let jobs = ["orchestrator", "agent"].map(|job| {
            format!("  - {{job_name: {job}, static_configs: [{{targets: ['{target}']}}]}}\n")
        });
        let text = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n{}",
            jobs.concat()
        );
        std::fs::write(&config, text)?;
        // Free a moment ago: it cannot say which port it was given.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--enable-feature=exemplar-storage")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log"))?)
            .kill_on_drop(true)
            .spawn()?;
        let started = Self {
            child,
            address,
            _folder: folder,
        };
        let ready = async || started.get("/-/ready").await.is_ok();
        started.until("it is ready", ready).await?;
        Ok(Some(started))
    }

    /// Waits for two scrapes that begin after this.
    pub async fn scraped_twice_from_now(&self) -> Result<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let (begin, query) = (now.as_secs_f64(), "timestamp(up{job=\"orchestrator\"})");
        let scraped = async || {
            let answer = self.query(query).await;
            let time = answer.ok().and_then(|answer| {
                let value = answer["data"]["result"][0]["value"][1].as_str()?;
                value.parse::<f64>().ok()
            });
            // Every second.
            time.is_some_and(|time| time > begin + 2.0)
        };
        self.until("it has scraped twice", scraped).await
    }

    /// What it says to a query.
    pub async fn query(&self, query: &str) -> Result<Value> {
        let answer = self
            .get(&format!("/api/v1/query?query={}", encoded(query)))
            .await;
        answer.with_context(|| query.to_owned())
    }

    /// Exemplars of the last minutes.
    pub async fn exemplars(&self, query: &str) -> Result<Vec<Value>> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let (start, end) = (now.as_secs() - 600, now.as_secs() + 60);
        let path = format!(
            "/api/v1/query_exemplars?query={}&start={start}&end={end}",
            encoded(query)
        );
        let answer = self.get(&path).await?;
        let series = answer["data"].as_array().context("no series")?;
        let exemplars = series.iter().filter_map(|one| one["exemplars"].as_array());
        Ok(exemplars.flatten().cloned().collect())
    }

    /// Ends it.
    pub async fn stop(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    async fn until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Result<()> {
        let waited = tokio::time::timeout(PATIENCE, async {
            let mut again = tokio::time::interval(Duration::from_millis(50));
            while !is_so().await {
                again.tick().await;
            }
        });
        waited.await.with_context(|| format!("waited until {what}"))
    }

    // HTTP/1.0: the answer comes in one piece, and ends with the connection.
    async fn get(&self, path: &str) -> Result<Value> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        ensure!(head.contains(" 200 "), "{answer}");
        Ok(serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
