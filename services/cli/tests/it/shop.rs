//! A small app with tests, as a repository: what the whole-mesh tests change, break and kill.

use anyhow::Result;
use testkit::repository::{Commit, Repository};

const LIBRARY: &str = "def price():\n    return 2\n";

const TESTS: &str = "\
import unittest

import shop


class Price(unittest.TestCase):
    def test_price(self):
        self.assertEqual(shop.price(), 2)
";

const SERVER: &str = r#"
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"ok" if self.path == "/health" else b"shop"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    address = ("127.0.0.1", int(os.environ["PORT"]))
    http.server.ThreadingHTTPServer(address, Shop).serve_forever()
"#;

/// How long its tests may take, and its start: enough for a busy machine, unless a test waits for
/// the end of it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the tests.
    pub tests: &'static str,
    /// Of the start.
    pub ready: &'static str,
}

impl Limits {
    /// Never met by what works.
    pub const AMPLE: Self = Self {
        tests: "60s",
        ready: "60s",
    };
}

/// A name that no other run of these tests has.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// The app on `main`. `name` is an argument of the app, so that its processes are told apart.
pub fn repository(name: &str, limits: Limits) -> Result<Repository> {
    let mut repository = Repository::empty()?;
    repository.commit(
        Commit::on("main")
            .message("Begin")
            .write(".agentic/project.yaml", description(name, limits))
            .write("shop/__init__.py", LIBRARY)
            .write("shop/__main__.py", server(""))
            .write("test_shop.py", TESTS),
    )?;
    Ok(repository)
}

/// The program of the app, with something to do first.
pub fn server(first: &str) -> String {
    format!("import http.server\nimport os\n{first}\n{SERVER}")
}

/// The library of the app, with something to do first.
pub fn library(first: &str) -> String {
    format!("{first}\n\n{LIBRARY}")
}

fn description(name: &str, limits: Limits) -> String {
    let Limits { tests, ready } = limits;
    format!(
        "\
version: 1
app:
  start: {{command: [python3, -m, shop, {name}], port_variable: PORT}}
  ready: {{http: {{path: /health, status: 200}}, within: {ready}}}
  stop_within: 2s
  endpoints: [{{method: GET, path: /, status: 200, contains: shop}}]
checks:
  tests: {{command: [python3, -m, unittest, discover, -v], timeout: {tests}}}
"
    )
}
