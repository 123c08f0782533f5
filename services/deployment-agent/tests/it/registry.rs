//! Pushing to a real registry that wants to know who pushes.

use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use contracts::{
    deployment::{Push, deployment_task::Action},
    task::Verdict,
};
use tempfile::TempDir;
use testkit::{repository::Repository, requirement::is_given};

use crate::{
    containers::{BASE, docker, is_ready},
    serving::{Serving, context, execute},
};

/// `shop` with the password `hunter2`, as `htpasswd -B` writes it.
const USERS: &str = "shop:$2y$04$abcdefghijklmnopqrstuuV3duMsC0HpUex6N9qapiuOHHWkwRXVm\n";

/// A registry on a free port; dropping it ends it.
struct Registry {
    child: Child,
    host: String,
    _folder: TempDir,
}

impl Registry {
    fn start() -> Option<Self> {
        let found = agent_runtime::process::find_program("docker-registry");
        if !is_given(
            found.is_some(),
            "REGISTRY",
            "there is no docker-registry program",
        ) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = free.local_addr().unwrap().to_string();
        drop(free);
        std::fs::write(folder.path().join("users"), USERS).unwrap();
        let place = folder.path().display();
        let settings = format!(
            "version: 0.1
storage: {{filesystem: {{rootdirectory: {place}/images}}}}
http: {{addr: \"{host}\"}}
auth: {{htpasswd: {{realm: shop, path: {place}/users}}}}
"
        );
        let file = folder.path().join("settings.yaml");
        std::fs::write(&file, settings).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self {
            child,
            host,
            _folder: folder,
        };
        while TcpStream::connect(&registry.host).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pushed_with_credentials_and_known_by_its_digest() {
    if !is_ready() {
        return;
    }
    let Some(registry) = Registry::start() else {
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("registries.json");
    let auths = |password: &str| {
        let host = &registry.host;
        format!(r#"{{"auths": {{"{host}": {{"username": "shop", "password": "{password}"}}}}}}"#)
    };
    std::fs::write(&file, auths("wrong")).unwrap();
    let file_name = file.to_str().unwrap();
    let agent = Serving::start_with(data.path(), &["--registry-credentials", file_name]).await;
    let repository = Repository::with_files([("README.md", "x")]).unwrap();
    let head = repository.head("main").unwrap().unwrap();
    let target = format!("{}/team/shop:1.0", registry.host);
    let push = || {
        Action::Push(Push {
            image: BASE.into(),
            repository: target.clone(),
        })
    };

    let asked = context("p1", &repository, &head);
    let (_, refused) = execute(agent.address, asked, push()).await.unwrap();
    let outcome = refused.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Failed, "{}", outcome.summary);
    assert!(
        !outcome.summary.contains("wrong"),
        "a password must not be told"
    );

    // Renewed credentials hold from the next push on.
    std::fs::write(&file, auths("hunter2")).unwrap();
    let asked = context("p2", &repository, &head);
    let (_, pushed) = execute(agent.address, asked, push()).await.unwrap();
    let outcome = pushed.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Passed, "{}", outcome.summary);
    let pushed = pushed.push.unwrap();
    let name = format!("{}/team/shop", registry.host);
    assert_eq!(pushed.repository, name);
    assert_eq!(pushed.uri, format!("{name}@{}", pushed.digest));
    // The engine knows the image under that digest now.
    let digests = docker(&["inspect", "--format", "{{.RepoDigests}}", BASE]);
    assert!(digests.contains(&pushed.uri), "{digests}");
    docker(&["image", "rm", &target]);
    agent.stop().await;
}
