//! Small projects of every kind, and what is found in them.

mod python;

use crate::project::{Project, plan::DescriptionOrigin, source::Fixture};

pub(super) fn read(files: &[(&str, &str)]) -> Project {
    Project::read(&Fixture::new(files)).unwrap()
}

/// Names, commands and origins of the checks, one per line.
pub(super) fn checks(project: &Project) -> Vec<String> {
    project
        .checks
        .iter()
        .map(|check| {
            format!(
                "{}: {} <- {}",
                check.name, check.step.command, check.step.origin
            )
        })
        .collect()
}

pub(super) fn start(project: &Project) -> Option<String> {
    let start = project.app.as_ref()?.start.as_ref()?;
    Some(format!("{:?} <- {}", start.value.by, start.origin))
}

#[test]
fn nothing_is_found_in_nothing() {
    let project = read(&[("README.md", "# hello")]);
    assert!(project.languages.is_empty());
    assert!(project.checks.is_empty());
    assert_eq!(project.kind(), "library");
    assert_eq!(project.description_origin, DescriptionOrigin::Detected);
}

#[test]
fn a_rust_library_is_built_and_tested_with_its_lock_file() {
    let project = read(&[
        (
            "Cargo.toml",
            "[package]\nname = \"x\"\n[dependencies]\nserde = \"1\"\n[lints.clippy]\npedantic = \"warn\"\n",
        ),
        ("Cargo.lock", ""),
        ("rustfmt.toml", ""),
        ("src/lib.rs", ""),
    ]);
    assert_eq!(
        checks(&project),
        [
            "build: cargo build --workspace --all-targets --locked <- Cargo.toml",
            "lint: cargo clippy --workspace --all-targets --locked <- Cargo.toml lints.clippy",
            "format: cargo fmt --all --check <- rustfmt.toml",
            "tests: cargo test --workspace --locked --no-fail-fast <- Cargo.toml",
        ]
    );
    assert_eq!(
        project.dependencies[0].command.to_string(),
        "cargo fetch --locked"
    );
    assert!(project.dependencies[0].network);
    assert_eq!(start(&project), None);
}

#[test]
fn benchmarks_for_a_nightly_compiler_are_left_out() {
    let with = |bench| {
        let project = read(&[
            ("Cargo.toml", "[package]\nname = \"x\"\n"),
            ("src/lib.rs", ""),
            ("benches/parse.rs", bench),
        ]);
        checks(&project).remove(0)
    };
    assert_eq!(
        with("#![feature(test)]\nextern crate test;\n"),
        "build: cargo build --workspace --bins --tests --examples <- Cargo.toml"
    );
    assert_eq!(
        with("use criterion::Criterion;\n"),
        "build: cargo build --workspace --all-targets <- Cargo.toml"
    );
}

#[test]
fn a_rust_project_without_dependencies_fetches_nothing_and_lints_nothing_undeclared() {
    let project = read(&[
        ("Cargo.toml", "[package]\nname = \"x\"\n"),
        ("src/lib.rs", ""),
    ]);
    assert!(project.dependencies.is_empty());
    assert_eq!(checks(&project).len(), 2);
}

#[test]
fn a_rust_server_that_reads_its_port_is_an_app() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\naxum = \"0.8\"\n";
    let main = "fn main() { std::env::var(\"PORT\"); }";
    let server = read(&[("Cargo.toml", manifest), ("src/main.rs", main)]);
    assert!(start(&server).unwrap().contains("src/main.rs"));
    let tool = read(&[
        ("Cargo.toml", "[package]\nname = \"x\"\n"),
        ("src/main.rs", main),
    ]);
    assert_eq!(start(&tool), None);
}

#[test]
fn node_runs_the_scripts_that_the_package_has() {
    let project = read(&[
        (
            "package.json",
            r#"{"scripts": {"test": "jest", "build": "tsc", "lint": "eslint ."}, "devDependencies": {"jest": "1"}}"#,
        ),
        ("package-lock.json", "{}"),
    ]);
    assert_eq!(
        checks(&project),
        [
            "build: npm run build <- package.json scripts.build",
            "lint: npm run lint <- package.json scripts.lint",
            "tests: npm run test <- package.json scripts.test",
        ]
    );
    assert_eq!(
        project.dependencies[0].command.to_string(),
        "npm ci --no-audit --no-fund"
    );
}

#[test]
fn node_without_test_script_uses_the_built_in_runner_where_there_are_tests() {
    let placeholder = r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}"#;
    let without = read(&[("package.json", placeholder), ("index.js", "")]);
    assert!(checks(&without).is_empty());
    assert!(without.dependencies.is_empty());
    let with = read(&[("package.json", placeholder), ("lib/a.test.js", "")]);
    assert_eq!(checks(&with), ["tests: node --test <- lib/a.test.js"]);
}

#[test]
fn node_is_an_app_only_when_its_start_script_serves() {
    let app = read(&[
        (
            "package.json",
            r#"{"scripts": {"start": "node ./server.js"}}"#,
        ),
        ("server.js", "http.createServer(handle)"),
    ]);
    assert!(start(&app).unwrap().contains("scripts.start"));
    let library = read(&[(
        "package.json",
        r#"{"scripts": {"start": "tsdx watch"}, "devDependencies": {"express": "1"}}"#,
    )]);
    assert_eq!(start(&library), None);
}

#[test]
fn go_is_built_vetted_and_tested() {
    let project = read(&[
        ("go.mod", "module x\n\nrequire y v1\n"),
        ("main.go", "package main"),
    ]);
    assert_eq!(
        checks(&project),
        [
            "build: go build ./... <- go.mod",
            "types: go vet ./... <- go.mod",
            "tests: go test ./... <- go.mod",
        ]
    );
    assert_eq!(project.dependencies.len(), 1);
}

#[test]
fn a_makefile_fills_in_what_nothing_else_covers() {
    let only = read(&[(
        "Makefile",
        "A := b\nall: x\n\ttouch x\ntest: all\n\t./run\n.PHONY: test\n",
    )]);
    assert_eq!(
        checks(&only),
        [
            "build: make all <- Makefile all",
            "tests: make test <- Makefile test"
        ]
    );
    let beside = read(&[("Makefile", "test:\nlint:\n"), ("go.mod", "module x")]);
    let lines = checks(&beside);
    assert!(
        lines.contains(&"lint: make lint <- Makefile lint".to_owned()),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"tests: go test ./... <- go.mod".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn several_languages_get_names_of_their_own() {
    let project = read(&[
        ("go.mod", "module x"),
        ("package.json", r#"{"scripts": {"test": "jest"}}"#),
    ]);
    let names: Vec<&str> = project
        .checks
        .iter()
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(names, ["build", "types", "tests", "tests-node"]);
}

#[test]
fn modules_below_a_bare_root_are_found_and_run_in_their_folder() {
    let project = read(&[
        ("backend/go.mod", "module x"),
        ("web/package.json", r#"{"scripts": {"test": "x"}}"#),
    ]);
    let lines: Vec<String> = project
        .checks
        .iter()
        .map(|check| {
            format!(
                "{} in {}",
                check.name,
                check.step.directory.as_ref().unwrap()
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "build in backend",
            "types in backend",
            "tests in backend",
            "tests-web in web"
        ]
    );
}

#[test]
fn procfile_and_dockerfile_say_how_an_app_starts() {
    let heroku = read(&[("Procfile", "worker: x\nweb: gunicorn app -b :$PORT\n")]);
    assert!(start(&heroku).unwrap().ends_with("<- Procfile web"));
    let docker = read(&[
        ("shop/__main__.py", ""),
        (
            "Dockerfile",
            "FROM python\nEXPOSE 8000\nCMD [\"python\", \"-m\", \"shop\"]\n",
        ),
    ]);
    assert!(
        start(&docker).unwrap().contains("python3"),
        "{:?}",
        start(&docker)
    );
    let tool = read(&[
        ("shop/__main__.py", ""),
        (
            "Dockerfile",
            "FROM python\nCMD [\"python\", \"-m\", \"shop\"]\n",
        ),
    ]);
    assert_eq!(start(&tool), None);
}

#[test]
fn a_static_site_is_served() {
    assert!(
        start(&read(&[("index.html", "<p>")]))
            .unwrap()
            .ends_with("<- index.html")
    );
    assert_eq!(
        start(&read(&[("index.html", "<p>"), ("go.mod", "module x")])),
        None
    );
}

#[test]
fn what_is_declared_replaces_by_name_and_adds() {
    let yaml = "version: 1\ndependencies: {command: [./fetch]}\nchecks:\n  tests: {command: [./run-tests], timeout: 10s}\n  smoke: {command: [./smoke]}\n";
    let project = read(&[
        (".agentic/project.yaml", yaml),
        ("go.mod", "module x\nrequire y v1"),
    ]);
    assert_eq!(
        checks(&project),
        [
            "build: go build ./... <- go.mod",
            "types: go vet ./... <- go.mod",
            "tests: ./run-tests <- .agentic/project.yaml checks.tests",
            "smoke: ./smoke <- .agentic/project.yaml checks.smoke",
        ]
    );
    assert_eq!(project.dependencies.len(), 1);
    assert_eq!(project.dependencies[0].command.to_string(), "./fetch");
    assert_eq!(project.description_origin, DescriptionOrigin::Head);
}

#[test]
fn the_base_decides_what_is_declared() {
    let base = Fixture::new(&[(
        ".agentic/project.yaml",
        "version: 1\nchecks: {tests: {command: [strict]}}\n",
    )]);
    let head = Fixture::new(&[(
        ".agentic/project.yaml",
        "version: 1\nchecks: {tests: {command: ['true']}}\n",
    )]);
    let judged = Project::read_judged_by(Some(&base), &head).unwrap();
    assert_eq!(
        checks(&judged),
        ["tests: strict <- .agentic/project.yaml checks.tests"]
    );
    assert_eq!(judged.description_origin, DescriptionOrigin::Base);
    let empty = Fixture::new(&[]);
    let new = Project::read_judged_by(Some(&empty), &head).unwrap();
    assert_eq!(new.description_origin, DescriptionOrigin::Head);
    let gone = Project::read_judged_by(Some(&base), &empty).unwrap();
    assert_eq!(checks(&gone).len(), 1);
}

#[test]
fn a_wrong_description_is_an_error_and_never_ignored() {
    let wrong = Fixture::new(&[(".agentic/project.yaml", "version: 1\nchekcs: {}\n")]);
    let error = Project::read(&wrong).unwrap_err();
    assert!(error.to_string().contains("project.yaml:2:1"), "{error}");
    let huge = "x".repeat(1 << 20);
    let huge = Fixture::new(&[(".agentic/project.yaml", huge.as_str())]);
    assert!(
        Project::read(&huge)
            .unwrap_err()
            .to_string()
            .contains("larger")
    );
}

#[test]
fn hostile_manifests_tell_nothing_and_harm_nobody() {
    let deep_json = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_toml = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let long_line = "a:".repeat(400_000);
    let project = read(&[
        ("package.json", deep_json.as_str()),
        ("Cargo.toml", deep_toml.as_str()),
        ("pyproject.toml", deep_toml.as_str()),
        ("Makefile", long_line.as_str()),
        ("--help.py", ""),
        ("Dockerfile", "CMD [\nEXPOSE"),
        ("Procfile", "web:"),
    ]);
    for check in &project.checks {
        let argv = check.step.command.as_slice();
        assert!(
            !argv.iter().any(|argument| argument == "--help.py"),
            "{argv:?}"
        );
    }
}

#[test]
fn an_explanation_says_what_runs_and_from_where() {
    let yaml = "version: 1\napp:\n  start: {command: [./serve]}\n  ready: {http: {path: /health}}\n  endpoints: [{path: /}]\ne2e:\n  suites: [{name: api, hurl: ['e2e/*.hurl']}]\nenvironments:\n  production: {target: process, strategy: blue_green}\n";
    let explanation = read(&[(".agentic/project.yaml", yaml), ("go.mod", "module x")]).explain();
    assert_eq!(explanation.kind, "app");
    let lines: Vec<String> = explanation
        .e2e
        .iter()
        .map(|line| format!("{}: {}", line.subject, line.what))
        .collect();
    assert_eq!(
        lines,
        [
            "start: ./serve (port in PORT)",
            "ready: /health answers 200, within 30s",
            "endpoint: GET / answers 200",
            "api: hurl e2e/*.hurl",
        ]
    );
    assert_eq!(explanation.validation[0].what, "go build ./...");
    assert_eq!(explanation.deployment[0].what, "process, blue_green");
    serde_json::to_string(&explanation).unwrap();
}
