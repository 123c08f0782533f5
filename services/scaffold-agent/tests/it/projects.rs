//! Every built-in template as a real project: rendered, built, tested, started, asked and stopped, by the commands
//! that it declares for the other agents, with text in it that tries to get out.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use agent_runtime::{
    process::{Command, Ending, Finished, LogStream, OutputSink},
    project::{
        Argv, Coverage, DESCRIPTION_FILE, Description, Folder, GATES_FILE, GatePolicy, Metric,
        Name, StartBy,
    },
};
use scaffold_agent::template::{Catalog, Subject};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

/// Long enough for a cold compiler on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);

/// Would be seen wherever it is taken for something else than text.
const HOSTILE: &str = "\"; raise SystemExit(9) #'''\"\"\"`${process.exit(9)}`\\\n*/ panic!(); /* </title>\
                       <script>alert(1)</script> {{ 7 * 7 }} {% raw %} \u{202e}gpj.exe %s %n & \u{0} é🙂";

fn hostile() -> Subject {
    let requirements =
        format!("```\n</code><script>alert(1)</script>\n`````\n# Heading\n{HOSTILE}");
    // YAML takes the name for a boolean if it may.
    Subject::new(
        "true",
        HOSTILE,
        &requirements,
        &[HOSTILE.to_owned(), "- [x](javascript:1)".to_owned()],
    )
}

/// A project of a template, in a folder of its own.
struct Project {
    folder: TempDir,
    description: Description,
}

impl Project {
    fn render(template: &str, subject: &Subject) -> Self {
        let catalog = Catalog::load(None).unwrap();
        let template = catalog.get(template).unwrap();
        let values = template.manifest().resolve(&BTreeMap::new()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for file in template.render(subject, &values).unwrap() {
            let path = folder.path().join(file.path.as_path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file.content).unwrap();
        }
        let read = |place: &str| fs::read(folder.path().join(place)).unwrap();
        let description = Description::parse(&read(DESCRIPTION_FILE)).unwrap();
        GatePolicy::parse(&read(GATES_FILE)).unwrap();
        Self {
            folder,
            description,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn read(&self, place: &str) -> String {
        fs::read_to_string(self.path().join(place)).unwrap()
    }

    fn gates(&self, metric: Metric) -> bool {
        let policy = GatePolicy::parse(self.read(GATES_FILE).as_bytes()).unwrap();
        policy
            .gates
            .iter()
            .any(|gate| gate.metric == metric && !gate.advisory)
    }

    fn command(&self, argv: &Argv) -> Command {
        Command::new(argv.as_slice())
            .directory(self.path())
            .timeout(PATIENCE)
    }

    async fn run(&self, argv: &[&str]) -> Finished {
        let argv = Argv::parse(argv.iter().map(|&word| word.to_owned()).collect()).unwrap();
        self.command(&argv).run().await.unwrap()
    }

    /// Runs a declared check; it must pass.
    async fn check(&self, name: &str) {
        let check = &self.description.checks[&Name::parse(name).unwrap()];
        let finished = self.command(&check.command).run().await.unwrap();
        assert!(
            finished.is_success(),
            "{name}: {}\n{}",
            finished.ending,
            finished.last_lines(60)
        );
        assert_eq!(
            finished.left_behind_count, 0,
            "{name} left processes behind"
        );
        if let Some(report) = &check.report {
            let report = self.read(report.junit.as_str());
            assert!(report.matches("<testcase").count() >= 14, "{report}");
            assert!(
                !report.contains("<failure") && !report.contains("<error"),
                "{report}"
            );
        }
        if let Some(Coverage::Lcov(path)) = &check.coverage {
            let (covered, total) = lcov(&self.read(path.as_str()));
            assert!(total > 60, "only {total} lines are counted");
            assert!(
                covered * 100 >= total * 80,
                "{covered} of {total} lines are covered"
            );
            assert!(
                self.gates(Metric::LineCoveragePercent),
                "coverage is measured and not gated"
            );
        }
    }

    /// Starts the app as it says, asks every endpoint that it declares, and stops it.
    async fn serve(&self) {
        let app = self.description.app.as_ref().unwrap();
        let start = app.start.as_ref().unwrap();
        let StartBy::Command(argv) = &start.by else {
            panic!("it does not start by a command")
        };
        let (lines, mut output) = mpsc::channel(1000);
        let sink: Arc<dyn OutputSink> = Arc::new(move |_: LogStream, line: &str| {
            let _ = lines.try_send(line.to_owned());
        });
        let running = self
            .command(argv)
            .environment(start.port_variable.as_str(), "0")
            .sink(sink)
            .start()
            .unwrap();
        let port = timeout(PATIENCE, async {
            loop {
                let line = output.recv().await.expect("it ended before it listened");
                if let Some(url) = line.strip_prefix("listening on http://127.0.0.1:") {
                    return url.parse::<u16>().unwrap();
                }
            }
        })
        .await
        .expect("it does not listen");
        for endpoint in &app.endpoints {
            let path = &endpoint.path;
            let (status, body) = ask(port, &endpoint.method, path).await;
            assert_eq!(status, endpoint.status, "{path}");
            if let Some(expected) = &endpoint.contains {
                assert!(body.contains(expected.as_str()), "{path}: {body}");
            }
        }
        let (_, page) = ask(port, "GET", "/").await;
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("<h1>true</h1>"), "{page}");
        let shown = "&lt;script&gt;alert(1)&lt;&#x2f;script&gt; {{ 7 * 7 }} {% raw %}";
        assert!(page.contains(shown), "{page}");
        let finished = running.stop(Duration::from_secs(10)).await.unwrap();
        assert_eq!(
            finished.ending,
            Ending::Exited(0),
            "{}",
            finished.last_lines(20)
        );
        assert!(
            finished.stdout.text().ends_with("stopped\n"),
            "{}",
            finished.last_lines(5)
        );
    }

    /// What every template promises, whatever its language.
    fn assert_sound(&self) {
        let readme = self.read("README.md");
        let (before, block) = readme
            .split_once("``````text\n")
            .expect("a fence longer than the text's");
        assert!(!before.contains("<script"), "{readme}");
        assert!(block.ends_with("\n``````\n"), "{readme}");
        let dockerfile = self.read("Dockerfile");
        assert!(dockerfile.contains("\nUSER 65532:65532\n"), "{dockerfile}");
        assert!(dockerfile.contains("\nHEALTHCHECK "), "{dockerfile}");
        for newer in ["# syntax", "<<", "--mount", "--chmod", "--link"] {
            assert!(!dockerfile.contains(newer), "{dockerfile}");
        }
        for metric in [
            Metric::CriticalVulnerabilityCount,
            Metric::HighVulnerabilityCount,
        ] {
            assert!(self.gates(metric));
        }
    }
}

/// Covered and executable lines of a report.
fn lcov(report: &str) -> (usize, usize) {
    let counts: Vec<&str> = report
        .lines()
        .filter_map(|line| line.strip_prefix("DA:")?.split(',').nth(1))
        .collect();
    (
        counts.iter().filter(|&&count| count != "0").count(),
        counts.len(),
    )
}

async fn ask(port: u16, method: &str, path: &str) -> (u16, String) {
    let asking = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    let answer = timeout(Duration::from_secs(20), asking)
        .await
        .expect("no answer");
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[test]
fn what_the_agents_will_run_is_what_the_project_declares() {
    for (template, language) in [
        ("python-http", "python"),
        ("static-site", "python"),
        ("node-http", "node"),
        ("rust-http", "rust"),
    ] {
        let project = Project::render(template, &hostile());
        let plan = agent_runtime::project::Project::read(&Folder::open(project.path()).unwrap());
        let explained = plan.unwrap().explain();
        assert_eq!(explained.kind, "app", "{template}");
        let languages: Vec<_> = explained
            .languages
            .iter()
            .map(|line| line.what.as_str())
            .collect();
        assert_eq!(languages, [language], "{template}");
        for line in &explained.validation {
            // Nothing is guessed, so nothing may need a tool that a bare machine does not have.
            assert!(line.origin.contains("project.yaml"), "{template}: {line:?}");
        }
        let has = |wanted: &str| {
            explained
                .validation
                .iter()
                .any(|line| line.subject == wanted)
        };
        assert!(has("build") && has("tests"), "{template}");
        assert_eq!(has("dependencies"), template == "rust-http", "{template}");
    }
}

#[tokio::test]
async fn a_python_service_builds_is_tested_and_serves() {
    let project = Project::render("python-http", &hostile());
    project.assert_sound();
    testkit::require!(Python);
    project.check("build").await;
    project.check("tests").await;
    project.serve().await;
}

#[tokio::test]
async fn a_static_site_builds_is_tested_and_serves() {
    let project = Project::render("static-site", &hostile());
    project.assert_sound();
    testkit::require!(Python);
    project.check("build").await;
    project.check("tests").await;
    project.serve().await;
}

#[tokio::test]
async fn a_node_service_builds_is_tested_and_serves() {
    let project = Project::render("node-http", &hostile());
    project.assert_sound();
    let package: serde_json::Value = serde_json::from_str(&project.read("package.json")).unwrap();
    assert_eq!(package["name"], "true");
    assert_eq!(package["description"], hostile().description);
    testkit::require!(Node);
    project.check("build").await;
    project.check("tests").await;
    project.serve().await;
}

#[tokio::test]
async fn a_rust_service_builds_is_tested_and_serves() {
    let project = Project::render("rust-http", &hostile());
    project.assert_sound();
    testkit::require!(Cargo);
    project.check("build").await;
    project.check("tests").await;
    project.serve().await;
    let metadata = project
        .run(&[
            "cargo",
            "metadata",
            "--offline",
            "--locked",
            "--no-deps",
            "--format-version=1",
        ])
        .await;
    let metadata: serde_json::Value = serde_json::from_str(&metadata.stdout.text()).unwrap();
    assert_eq!(
        metadata["packages"][0]["description"],
        hostile().description
    );
    // What comes with most toolchains, and what validation finds by itself then.
    for (version, check) in [
        (
            ["cargo", "fmt", "--version"],
            &["cargo", "fmt", "--check"][..],
        ),
        (
            ["cargo", "clippy", "--version"],
            &[
                "cargo",
                "clippy",
                "--offline",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
        ),
    ] {
        if project.run(&version).await.is_success() {
            let finished = project.run(check).await;
            assert!(
                finished.is_success(),
                "{check:?}: {}",
                finished.last_lines(60)
            );
        } else {
            eprintln!("SKIPPED: {check:?} is not part of this toolchain");
        }
    }
}

#[tokio::test]
async fn every_name_makes_a_crate() {
    testkit::require!(Cargo);
    let long = format!("a{}", "-9".repeat(31));
    for name in [
        "a",
        "a-",
        "test",
        "core",
        "std",
        "fn",
        "build",
        "deps",
        "con",
        "proc-macro",
        "app",
        "server",
        &long,
    ] {
        let project = Project::render("rust-http", &Subject::new(name, "", "", &[]));
        let finished = project
            .run(&["cargo", "check", "--offline", "--locked", "--quiet"])
            .await;
        assert!(finished.is_success(), "{name}: {}", finished.last_lines(20));
    }
}

#[tokio::test]
async fn a_broken_project_fails_its_own_checks() {
    testkit::require!(Python);
    let project = Project::render("python-http", &hostile());
    let server = project
        .read("app/server.py")
        .replace("\"status\": \"ok\"", "\"status\": \"no\"");
    fs::write(project.path().join("app/server.py"), server).unwrap();
    let finished = project.run(&["python3", "-m", "tests"]).await;
    assert_eq!(
        finished.ending,
        Ending::Exited(1),
        "{}",
        finished.last_lines(20)
    );
    assert!(project.read("junit.xml").contains("<failure"));

    for file in fs::read_dir(project.path().join("tests")).unwrap() {
        let path = file.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("test_")
        {
            fs::remove_file(path).unwrap();
        }
    }
    let finished = project.run(&["python3", "-m", "tests"]).await;
    assert_eq!(
        finished.ending,
        Ending::Exited(1),
        "no test at all is no success"
    );
}
