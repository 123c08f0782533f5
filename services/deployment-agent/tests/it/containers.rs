//! What tests with containers need: an engine, and a base image that no registry has to give.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use testkit::requirement::{Thing, is_given, is_met};

/// A base image of this machine's own Python, under a name that claims nothing else.
pub const BASE: &str = "agentic-test-python:1";

/// What the `docker` command answers.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An engine and a base image; none where this machine cannot have them.
pub fn is_ready() -> bool {
    static READY: OnceLock<bool> = OnceLock::new();
    *READY.get_or_init(|| {
        if !is_met(Thing::Docker) {
            return false;
        }
        let known = Command::new("docker")
            .args(["image", "inspect", BASE])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        known.unwrap().success() || import_base().is_some() || {
            is_given(
                false,
                "DOCKER",
                "this machine has no Python to put into an image",
            )
        }
    })
}

fn import_base() -> Option<()> {
    let python = "/usr/bin/python3";
    let stdlib = Command::new(python)
        .args([
            "-I",
            "-c",
            "import sysconfig; print(sysconfig.get_paths()['stdlib'])",
        ])
        .output()
        .ok()?;
    let stdlib = String::from_utf8(stdlib.stdout).ok()?.trim().to_owned();
    let mut paths = vec![python.to_owned(), stdlib, "/bin/sh".to_owned()];
    for program in [python, "/bin/sh"] {
        let libraries = Command::new("ldd").arg(program).output().ok()?;
        let libraries = String::from_utf8(libraries.stdout).ok()?;
        let found = libraries
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        paths.extend(found.map(str::to_owned));
    }
    paths.sort();
    paths.dedup();
    let mut packing = Command::new("tar")
        .args(["-C", "/", "-ch", "--exclude=test", "--exclude=__pycache__"])
        .args(paths.iter().map(|path| path.trim_start_matches('/')))
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let importing = Command::new("docker")
        .args(["import", "-", BASE])
        .stdin(packing.stdout.take()?)
        .stdout(Stdio::null())
        .status()
        .ok()?;
    (packing.wait().ok()?.success() && importing.success()).then_some(())
}

/// Puts the app on the base image.
pub const DOCKERFILE: &str = r#"ARG BASE=agentic-test-python:1
FROM ${BASE}
WORKDIR /srv
COPY . .
ENV HOST=0.0.0.0 PORT=8080 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8080
HEALTHCHECK --interval=1s --timeout=2s CMD ["/usr/bin/python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health')"]
CMD ["/usr/bin/python3", "-u", "app.py"]
"#;

/// Containers of an agent, running or not.
pub fn containers(data: &Path) -> Vec<String> {
    let owner = std::fs::read_to_string(data.join("deployment/owner")).unwrap();
    let filter = format!("label=agentic.owner={owner}");
    let ids = docker(&["ps", "-aq", "--no-trunc", "--filter", &filter]);
    ids.lines().map(str::to_owned).collect()
}
