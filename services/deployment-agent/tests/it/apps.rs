//! Real apps to deploy: one Python program whose vices are chosen by a variable.

use std::{collections::BTreeMap, path::Path, time::Duration};

use deployment_agent::{
    journal::Journal,
    site::{Bounds, Source},
    spec::{HttpCheck, ProbeRule, Ready, RestartRule, Spec, TargetKind},
    strategy::Failure,
};
use futures::future::BoxFuture;

/// The app. `VERSION` is what `/` answers; `VICE` is what is wrong with it.
pub const APP: &str = r#"
import os, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

version, vice = os.environ.get("VERSION", "1"), os.environ.get("VICE", "")
if vice == "exits":
    sys.exit("no configuration for the database")
if vice == "later ones crash":
    try:
        os.close(os.open("first", os.O_CREAT | os.O_EXCL))
        vice = ""
    except FileExistsError:
        vice = "crashes"
print("starting version", version, flush=True)
crash_after = threading.Event()

class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, body):
        body = body.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.do_GET()

    def do_GET(self):
        if self.path == "/health":
            if vice == "unhealthy":
                return self.answer(500, "database is away")
            if vice == "sick later" and crash_after.is_set():
                return self.answer(500, "queue is full")
            return self.answer(200, "healthy")
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            while True:
                self.wfile.write(b"5\r\ntick\n\r\n")
                self.wfile.flush()
                time.sleep(0.02)
        if self.path == "/environment":
            return self.answer(200, "\n".join(f"{k}={v}" for k, v in os.environ.items()))
        if vice == "fails requests":
            return self.answer(500, "cannot read orders")
        if vice in ("crashes", "sick later"):
            crash_after.set()
        if vice == "eats memory":
            App.eaten = b"x" * (200 * 1024 * 1024)
        self.answer(200, version)

class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

if vice == "never ready":
    time.sleep(600)
port = int(os.environ.get("FIXED_PORT") or os.environ["PORT"])
server = Server((os.environ.get("HOST", "127.0.0.1"), port), App)
print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
if vice == "crashes":
    def crash():
        crash_after.wait()
        time.sleep(0.2)
        print("fatal: lost the connection to the database", flush=True)
        os._exit(7)
    threading.Thread(target=crash, daemon=True).start()
server.serve_forever()
"#;

/// Writes the app into the release.
pub struct Files;

impl Source for Files {
    fn prepare<'a>(
        &'a self,
        folder: &'a Path,
        _spec: &'a mut Spec,
        _journal: &'a mut Journal,
        _bounds: &'a Bounds,
    ) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(async move {
            let checkout = folder.join("checkout");
            tokio::fs::create_dir_all(&checkout).await.unwrap();
            tokio::fs::write(checkout.join("app.py"), APP)
                .await
                .unwrap();
            Ok("the app was written".to_owned())
        })
    }
}

/// A release that cannot be made.
pub struct Broken;

impl Source for Broken {
    fn prepare<'a>(
        &'a self,
        _folder: &'a Path,
        _spec: &'a mut Spec,
        _journal: &'a mut Journal,
        _bounds: &'a Bounds,
    ) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(async { Err(Failure::sick("pip install failed with exit code 1")) })
    }
}

/// A version of the app, with a vice or without.
pub fn spec(version: &str, vice: &str) -> Spec {
    let commit = format!("{version:0>40}");
    Spec {
        commit,
        target: TargetKind::Process,
        command: vec!["python3".into(), "-u".into(), "app.py".into()],
        image: None,
        port_variable: "PORT".into(),
        container_port: None,
        environment: BTreeMap::from([
            ("VERSION".to_owned(), version.to_owned()),
            ("VICE".to_owned(), vice.to_owned()),
        ]),
        secrets: Vec::new(),
        ready: Ready::Http(HttpCheck {
            path: "/health".into(),
            status: 200,
            contains: None,
        }),
        smoke: Vec::new(),
        ready_within: Duration::from_secs(20),
        probe: ProbeRule {
            interval: Duration::from_millis(100),
            timeout: Duration::from_secs(2),
            successes: 2,
            failures: 3,
            latency_below: None,
        },
        restart: RestartRule {
            limit: 2,
            window: Duration::from_mins(1),
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_millis(100),
        },
        stop_within: Duration::from_secs(5),
        drain: Duration::from_secs(5),
        bake: Duration::from_millis(600),
        memory_limit: None,
        desired_count: 1,
        irreversible_migration: false,
    }
}
