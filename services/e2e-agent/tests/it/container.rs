//! Apps that are containers, with a real engine. The image is made of one static program.

use std::{fs, path::Path, process::Command};

use contracts::task::Verdict;
use tempfile::TempDir;

use crate::agent::{Tested, tested};

/// Serves HTTP on `0.0.0.0:$PORT`; `check` asks it, as the image's health check.
const SERVER: &str = r#"
use std::{env, io::{Read, Write}, net::{TcpListener, TcpStream}, process};
fn main() {
    let port = env::var("PORT").unwrap_or_default();
    match env::args().nth(1).as_deref() {
        Some("check") => process::exit(i32::from(TcpStream::connect(format!("127.0.0.1:{port}")).is_err())),
        Some("fail") => { eprintln!("no database"); process::exit(7) }
        _ => {}
    }
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).unwrap();
    println!("listening");
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let body = env::var("GREETING").unwrap_or_default();
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    }
}
"#;

struct Image {
    name: String,
}

impl Image {
    fn build(label: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let source = folder.path().join("server.rs");
        fs::write(&source, SERVER).unwrap();
        run(Command::new("rustc")
            .args([
                "--edition=2024",
                "-O",
                "-C",
                "target-feature=+crt-static",
                "-C",
                "strip=symbols",
                "-o",
            ])
            .arg(folder.path().join("server"))
            .arg(&source));
        let dockerfile = "FROM scratch\nCOPY server /server\n\
             HEALTHCHECK --interval=1s --timeout=2s CMD [\"/server\", \"check\"]\nENTRYPOINT [\"/server\"]\n";
        fs::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
        let name = format!("agentic-e2e-test-{label}:{}", std::process::id());
        run(Command::new("docker")
            .args(["build", "--quiet", "--tag", &name])
            .arg(folder.path()));
        Self { name }
    }

    fn containers(&self) -> String {
        let filter = format!("ancestor={}", self.name);
        run(Command::new("docker").args(["ps", "--all", "--quiet", "--filter", &filter]))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(["rmi", "--force", &self.name])
            .output();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

async fn with_start(start: &str, ready: &str, files: &[(&str, &str)]) -> Tested {
    let yaml = format!(
        "version: 1\napp:\n  start: {{{start}, environment: {{GREETING: hello}}}}\n  ready: {{{ready}, within: 60s}}\n  \
         endpoints: [{{path: /, contains: hello}}]\n"
    );
    let mut all = vec![(".agentic/project.yaml", yaml.as_str())];
    all.extend(files);
    tested(&all).await
}

#[tokio::test]
async fn a_container_is_started_tested_and_removed() {
    testkit::require!(Docker);
    testkit::require!(Cargo);
    let image = Image::build("image");
    for ready in [
        "tcp: true",
        "http: {path: /}",
        "log: listening",
        "docker_health: true",
    ] {
        let tested = with_start(&format!("image: '{}'", image.name), ready, &[]).await;
        tested.assert(Verdict::Passed, &["1 tests passed"]);
        assert_eq!(image.containers(), "", "{ready}");
    }
}

#[tokio::test]
async fn a_container_that_ends_at_once_failed_and_one_without_image_proves_nothing() {
    testkit::require!(Docker);
    testkit::require!(Cargo);
    let image = Image::build("compose");
    let compose = |command: &str| {
        format!(
            "version: '3'\nservices:\n  web:\n    image: {}\n    command: [{command}]\n    ports: ['127.0.0.1:${{PORT}}:${{PORT}}']\n    \
             environment: {{PORT: '${{PORT}}', GREETING: '${{GREETING}}'}}\n",
            image.name
        )
    };
    if Path::new("/usr/bin/docker-compose").exists() {
        let good = with_start(
            "compose: c.yaml",
            "http: {path: /}",
            &[("c.yaml", &compose("serve"))],
        )
        .await;
        good.assert(Verdict::Passed, &[]);
        let healthy = with_start(
            "compose: c.yaml",
            "docker_health: true",
            &[("c.yaml", &compose("serve"))],
        )
        .await;
        healthy.assert(Verdict::Passed, &[]);
        let bad = with_start(
            "compose: c.yaml",
            "http: {path: /}",
            &[("c.yaml", &compose("fail"))],
        )
        .await;
        bad.assert(
            Verdict::Failed,
            &["ended before it was ready", "no database"],
        );
        assert_eq!(image.containers(), "");
    }
    let missing = with_start("image: 'agentic-no-such-image:1'", "tcp: true", &[]).await;
    missing.assert(
        Verdict::NotProven,
        &[
            "the engine did not start the container",
            "agentic-no-such-image",
        ],
    );
}
