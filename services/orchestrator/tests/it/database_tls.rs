//! The modes of TLS to a PostgreSQL that takes nothing else.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use tempfile::TempDir;

use orchestrator::store::Store;
use service_runtime::tls::authority::{Authority, Subject};

const START_WITHIN: Duration = Duration::from_secs(30);

/// A cluster on loopback, with a certificate for `localhost`.
struct Server {
    folder: TempDir,
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = kill(pid, Signal::SIGQUIT);
        let _ = self.child.wait();
    }
}

// `None`: the machine has only what comes without programs of its own.
fn binaries() -> Option<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|folder| folder.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

// PostgreSQL refuses to run as root.
fn account() -> Option<User> {
    Uid::effective()
        .is_root()
        .then(|| {
            User::from_name("postgres")
                .unwrap()
                .or(User::from_name("nobody").unwrap())
        })
        .flatten()
}

fn program(folder: &Path, name: &str, account: Option<&User>) -> Command {
    let mut command = Command::new(folder.join(name));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(account) = account {
        command
            .uid(account.uid.as_raw())
            .gid(account.gid.as_raw())
            .current_dir("/");
    }
    command
}

impl Server {
    fn start() -> Option<Self> {
        let binaries = binaries()?;
        let account = account();
        let folder = TempDir::new().unwrap();
        let path = folder.path();
        let (authority, ca) = Authority::create("test", time::Duration::HOUR).unwrap();
        let subject = Subject {
            common_name: "postgres".to_owned(),
            hosts: vec!["localhost".to_owned()],
            ..Subject::default()
        };
        let issued = authority.issue(&subject, time::Duration::HOUR).unwrap();
        let (_, stranger) = Authority::create("stranger", time::Duration::HOUR).unwrap();
        for (name, text) in [
            ("ca.crt", &ca.certificate),
            ("stranger.crt", &stranger.certificate),
            ("server.crt", &issued.certificate),
            ("server.key", &issued.key),
        ] {
            let file = path.join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
            own(&file, account.as_ref());
        }
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        own(path, account.as_ref());
        let cluster = path.join("cluster");
        let made = program(&binaries, "initdb", account.as_ref())
            .args([
                "-A",
                "trust",
                "-U",
                "agentic",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(&cluster)
            .status()
            .unwrap();
        assert!(made.success());
        std::fs::write(
            cluster.join("pg_hba.conf"),
            "hostssl all all 127.0.0.1/32 trust\nhostssl all all ::1/128 trust\n",
        )
        .unwrap();
        // Free a moment ago; whoever takes it meanwhile makes the start fail, not the test pass.
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port.local_addr().unwrap().port();
        let child = program(&binaries, "postgres", account.as_ref())
            .arg("-D")
            .arg(&cluster)
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
                "-c",
                "ssl=on",
            ])
            .args(["-c", &format!("port={port}")])
            .args(["-c", &format!("unix_socket_directories={}", path.display())])
            .args([
                "-c",
                &format!("ssl_cert_file={}", path.join("server.crt").display()),
            ])
            .args([
                "-c",
                &format!("ssl_key_file={}", path.join("server.key").display()),
            ])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self {
            folder,
            child,
            port,
        })
    }

    async fn answers(&self, host: &str, options: &str) -> Result<(), String> {
        let url = format!("postgres://agentic@{host}:{}/postgres?{options}", self.port);
        let store = Store::new(&url, 2).map_err(|error| chain(&error))?;
        store.ping().await.map_err(|error| chain(&error))
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

fn own(path: &Path, account: Option<&User>) {
    if let Some(account) = account {
        chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw())).unwrap();
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

#[tokio::test]
async fn each_mode_of_tls_to_the_database_does_what_libpq_says() {
    let server = Server::start();
    let reason = "there is no PostgreSQL below /usr/lib/postgresql";
    if !testkit::requirement::is_given(server.is_some(), "POSTGRES", reason) {
        return;
    }
    let server = server.unwrap();
    let begun = Instant::now();
    while let Err(error) = server.answers("localhost", "sslmode=require").await {
        assert!(begun.elapsed() < START_WITHIN, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (ours, stranger) = (server.file("ca.crt"), server.file("stranger.crt"));
    let with = |mode: &str, file: &str| format!("sslmode={mode}&sslrootcert={file}");
    for (host, options) in [
        ("127.0.0.1", "sslmode=require".to_owned()),
        ("127.0.0.1", with("require", &ours)),
        ("127.0.0.1", with("verify-ca", &ours)),
        ("localhost", with("verify-full", &ours)),
    ] {
        let answer = server.answers(host, &options).await;
        assert!(answer.is_ok(), "{host} {options}: {answer:?}");
    }
    for (host, options, word) in [
        ("localhost", "sslmode=disable".to_owned(), "no encryption"),
        ("localhost", with("require", &stranger), "UnknownIssuer"),
        ("localhost", with("verify-ca", &stranger), "UnknownIssuer"),
        ("localhost", with("verify-full", &stranger), "UnknownIssuer"),
        (
            "localhost",
            "sslmode=verify-full".to_owned(),
            "UnknownIssuer",
        ),
        (
            "127.0.0.1",
            with("verify-full", &ours),
            "not valid for name",
        ),
        ("localhost", with("verify-full", "/nowhere"), "/nowhere"),
    ] {
        let said = server.answers(host, &options).await.unwrap_err();
        assert!(said.contains(word), "{host} {options}: {said}");
    }
}
