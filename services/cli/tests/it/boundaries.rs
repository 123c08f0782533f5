//! Who may know whom, held over what cargo itself says about the workspace.

#![allow(
    clippy::expect_used,
    reason = "what cargo says has the documented shape, or the test fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

const SERVICES: [&str; 6] = [
    "orchestrator",
    "scaffold-agent",
    "validation-agent",
    "e2e-agent",
    "integration-agent",
    "deployment-agent",
];

// What each crate may know of ours, outside of tests.
const KNOWS: [(&str, &[&str]); 11] = [
    ("contracts", &[]),
    ("service-runtime", &["contracts"]),
    ("agent-runtime", &["contracts", "service-runtime"]),
    ("testkit", &["contracts", "service-runtime"]),
    ("orchestrator", &["contracts", "service-runtime"]),
    ("scaffold-agent", &AGENT_KNOWS),
    ("validation-agent", &AGENT_KNOWS),
    ("e2e-agent", &AGENT_KNOWS),
    ("integration-agent", &AGENT_KNOWS),
    ("deployment-agent", &AGENT_KNOWS),
    (
        "cli",
        &[
            "contracts",
            "service-runtime",
            "agent-runtime",
            "orchestrator",
            "scaffold-agent",
            "validation-agent",
            "e2e-agent",
            "integration-agent",
            "deployment-agent",
        ],
    ),
];

const AGENT_KNOWS: [&str; 3] = ["contracts", "service-runtime", "agent-runtime"];

// Who may name each outside system. A name that ends with `*` stands for all that begin so.
const OUTSIDE: [(&str, &[&str]); 11] = [
    ("tokio-postgres*", &["orchestrator", "testkit"]),
    ("deadpool*", &["orchestrator", "testkit"]),
    ("refinery*", &["orchestrator", "testkit"]),
    ("postgres*", &["orchestrator", "testkit"]),
    ("sqlx*", &[]),
    ("git2", &["agent-runtime", "integration-agent"]),
    ("libgit2-sys", &["agent-runtime", "integration-agent"]),
    ("gix*", &["agent-runtime", "integration-agent"]),
    ("bollard*", &["agent-runtime", "deployment-agent"]),
    ("aws-*", &["deployment-agent"]),
    ("object_store", &["orchestrator"]),
];

// One TLS and one crypto library.
const BANNED: [&str; 8] = [
    "openssl",
    "openssl-sys",
    "native-tls",
    "aws-lc-rs",
    "aws-lc-sys",
    "aws-lc-fips-sys",
    "boring",
    "boring-sys",
];

const ONCE: [&str; 9] = [
    "tonic", "prost", "hyper", "h2", "http", "tower", "rustls", "tokio", "ring",
];

const NO_NAMES: [&str; 5] = ["common", "util", "helpers", "core", "types"];

/// A crate of ours and what it names in its manifest.
struct Crate {
    folder: PathBuf,
    normal: BTreeSet<String>,
    build: BTreeSet<String>,
    dev: BTreeSet<String>,
}

/// The workspace as cargo sees it.
struct Workspace {
    crates: BTreeMap<String, Crate>,
    // Of everything in the tree that is built here.
    versions: BTreeMap<String, BTreeSet<String>>,
}

static WORKSPACE: LazyLock<Workspace> = LazyLock::new(read);

fn read() -> Workspace {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "host-tuple", "--manifest-path"])
        .arg(manifest)
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {said}");
    parse(&serde_json::from_slice(&output.stdout).expect("JSON"))
}

fn parse(metadata: &Value) -> Workspace {
    let members: BTreeSet<&str> = list(&metadata["workspace_members"]).map(text).collect();
    let resolved: BTreeSet<&str> = list(&metadata["resolve"]["nodes"])
        .map(|node| text(&node["id"]))
        .collect();
    let mut workspace = Workspace {
        crates: BTreeMap::new(),
        versions: BTreeMap::new(),
    };
    for package in list(&metadata["packages"]) {
        let name = text(&package["name"]).to_owned();
        if resolved.contains(text(&package["id"])) {
            let version = text(&package["version"]).to_owned();
            let versions = workspace.versions.entry(name.clone()).or_default();
            versions.insert(version);
        }
        if members.contains(text(&package["id"])) {
            let of_kind = |kind: Option<&str>| {
                list(&package["dependencies"])
                    .filter(|dependency| dependency["kind"].as_str() == kind)
                    .map(|dependency| text(&dependency["name"]).to_owned())
                    .collect()
            };
            let manifest = Path::new(text(&package["manifest_path"]));
            let member = Crate {
                folder: manifest.parent().expect("a folder").to_owned(),
                normal: of_kind(None),
                build: of_kind(Some("build")),
                dev: of_kind(Some("dev")),
            };
            workspace.crates.insert(name, member);
        }
    }
    workspace
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

impl Workspace {
    // Each crate with what of ours it names, tests apart.
    fn wrong_acquaintances(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, member) in &self.crates {
            let Some((_, may_know)) = KNOWS.iter().find(|(known, _)| known == name) else {
                wrong.push(format!("{name} has no place in the order of crates"));
                continue;
            };
            let ours = member.normal.union(&member.build);
            for known in ours.filter(|other| self.crates.contains_key(*other)) {
                if !may_know.contains(&known.as_str()) {
                    wrong.push(format!("{name} knows {known}"));
                }
            }
        }
        wrong
    }

    // Tests may know the test kit beside what their crate knows; only whole-mesh tests know more.
    fn wrong_acquaintances_of_tests(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, member) in &self.crates {
            for known in &member.dev {
                let is_service = SERVICES.contains(&known.as_str()) || known == "cli";
                if is_service && name != "cli" {
                    wrong.push(format!("tests of {name} know {known}"));
                }
            }
        }
        wrong
    }

    fn strangers(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, member) in &self.crates {
            let named = member.normal.iter().chain(&member.build).chain(&member.dev);
            for dependency in named {
                for (pattern, may) in OUTSIDE {
                    let is_it = match pattern.strip_suffix('*') {
                        Some(beginning) => dependency.starts_with(beginning),
                        None => dependency == pattern,
                    };
                    if is_it && !may.contains(&name.as_str()) {
                        wrong.push(format!("{name} uses {dependency}"));
                    }
                }
            }
        }
        wrong
    }
}

#[test]
fn no_service_knows_a_service_and_only_the_command_knows_them_all() {
    assert_eq!(WORKSPACE.wrong_acquaintances(), Vec::<String>::new());
    let cli = &WORKSPACE.crates["cli"].normal;
    for service in SERVICES {
        assert!(cli.contains(service), "{service}");
    }
}

#[test]
fn tests_of_one_service_do_without_the_others() {
    assert_eq!(
        WORKSPACE.wrong_acquaintances_of_tests(),
        Vec::<String>::new()
    );
}

#[test]
fn the_test_kit_is_for_tests_only() {
    for (name, member) in &WORKSPACE.crates {
        assert!(!member.normal.contains("testkit"), "{name}");
        assert!(!member.build.contains("testkit"), "{name}");
    }
    let users = WORKSPACE
        .crates
        .values()
        .filter(|member| member.dev.contains("testkit"));
    assert!(users.count() > SERVICES.len(), "the kit is used");
}

#[test]
fn each_outside_system_is_known_where_it_may_be() {
    assert_eq!(WORKSPACE.strangers(), Vec::<String>::new());
    for (name, dependency) in [
        ("orchestrator", "tokio-postgres"),
        ("agent-runtime", "git2"),
        ("deployment-agent", "bollard"),
    ] {
        let normal = &WORKSPACE.crates[name].normal;
        assert!(normal.contains(dependency), "{name}: {dependency}");
    }
}

#[test]
fn there_is_one_crypto_library_and_one_of_each_network_library() {
    for name in BANNED {
        assert!(!WORKSPACE.versions.contains_key(name), "{name}");
    }
    for name in ONCE {
        let versions = &WORKSPACE.versions[name];
        assert_eq!(versions.len(), 1, "{name}: {versions:?}");
    }
}

#[test]
fn folders_have_the_names_of_their_crates() {
    for (name, member) in &WORKSPACE.crates {
        assert_eq!(member.folder.file_name().unwrap(), name.as_str());
        assert_eq!(
            member.folder.parent().unwrap().file_name().unwrap(),
            "services"
        );
    }
}

#[test]
fn every_crate_and_module_says_what_it_is_for() {
    let mut vague = Vec::new();
    for (name, member) in &WORKSPACE.crates {
        if NO_NAMES.contains(&name.as_str()) {
            vague.push(member.folder.clone());
        }
        for file in sources(&member.folder) {
            let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap();
            if NO_NAMES.contains(&stem) || file.file_name().unwrap() == "mod.rs" {
                vague.push(file);
            }
        }
    }
    assert_eq!(vague, Vec::<PathBuf>::new());
}

// The folders, too: a module may be declared in place of a file.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for part in ["src", "tests", "benches", "examples"] {
        walk(&folder.join(part), &mut found);
    }
    assert!(!found.is_empty(), "{}", folder.display());
    found
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

// The rules above are able to fail.
#[test]
fn a_workspace_that_crosses_the_lines_is_found_out() {
    let dependency =
        |name: &str, kind: Option<&str>| serde_json::json!({"name": name, "kind": kind});
    let package = |name: &str, dependencies: &[Value]| {
        serde_json::json!({
            "name": name, "id": name, "version": "1.0.0", "dependencies": dependencies,
            "manifest_path": format!("/w/services/{name}/Cargo.toml"),
        })
    };
    let metadata = serde_json::json!({
        "workspace_members": ["contracts", "e2e-agent", "orchestrator", "helpers"],
        "resolve": {"nodes": [{"id": "contracts"}]},
        "packages": [
            package("contracts", &[dependency("e2e-agent", Some("build"))]),
            package("e2e-agent", &[
                dependency("tokio-postgres", Some("dev")),
                dependency("aws-sdk-ecs", None),
                dependency("contracts", None),
                dependency("orchestrator", Some("dev")),
            ]),
            package("orchestrator", &[dependency("tokio-postgres", None)]),
            package("helpers", &[]),
        ],
    });
    let workspace = parse(&metadata);
    assert_eq!(
        workspace.wrong_acquaintances(),
        [
            "contracts knows e2e-agent",
            "helpers has no place in the order of crates"
        ]
    );
    assert_eq!(
        workspace.wrong_acquaintances_of_tests(),
        ["tests of e2e-agent know orchestrator"]
    );
    assert_eq!(
        workspace.strangers(),
        [
            "e2e-agent uses aws-sdk-ecs",
            "e2e-agent uses tokio-postgres"
        ]
    );
}
