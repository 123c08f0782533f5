//! What `Cargo.toml` and its neighbours tell.

use std::path::Path;

use super::{CheckKind, Ecosystem, Language, View};

const LANGUAGE: Option<Language> = Some(Language::Rust);

/// Most benchmarks that are looked into.
const MAX_BENCHMARKS_READ: usize = 50;

pub(super) fn detect(view: &View<'_>) -> Option<Ecosystem> {
    let manifest = view.toml("Cargo.toml")?;
    let locked = view.has("Cargo.lock");
    let cargo = |verb: &[&'static str], rest: &[&'static str], origin: &str| {
        let mut argv = vec!["cargo"];
        argv.extend(verb);
        if locked {
            argv.push("--locked");
        }
        argv.extend(rest);
        view.step(LANGUAGE, &argv, origin)
    };
    // `--all-targets` takes the benchmarks in, where those of `#![feature(test)]` build with no stable compiler.
    let targets: &[&str] = if has_unstable_benchmarks(view) {
        &["--bins", "--tests", "--examples"]
    } else {
        &["--all-targets"]
    };
    let on_targets = |verb| [&[verb, "--workspace"], targets].concat();
    let mut checks = Vec::new();
    let mut add = |kind, step| checks.extend(Some(kind).zip(step));
    add(
        CheckKind::Build,
        cargo(&on_targets("build"), &[], "Cargo.toml"),
    );
    add(
        CheckKind::Tests,
        cargo(&["test", "--workspace"], &["--no-fail-fast"], "Cargo.toml"),
    );
    let clippy = view
        .first(&["clippy.toml", ".clippy.toml"])
        .map(str::to_owned)
        .or_else(|| {
            let lints = |table: &toml::Table| table.get("lints")?.get("clippy").map(|_| ());
            lints(&manifest)
                .or_else(|| lints(manifest.get("workspace")?.as_table()?))
                .map(|()| "Cargo.toml lints.clippy".to_owned())
        });
    if let Some(origin) = clippy {
        add(CheckKind::Lint, cargo(&on_targets("clippy"), &[], &origin));
    }
    if let Some(origin) = view.first(&["rustfmt.toml", ".rustfmt.toml"]) {
        add(
            CheckKind::Format,
            view.step(LANGUAGE, &["cargo", "fmt", "--all", "--check"], origin),
        );
    }
    let dependencies = cargo(&["fetch"], &[], "Cargo.toml").map(super::Step::online);
    Some(Ecosystem {
        language: LANGUAGE,
        manifest: view.origin("Cargo.toml"),
        dependencies: dependencies.filter(|_| has_dependencies(&manifest)),
        checks,
    })
}

/// Whether a benchmark asks for what only a nightly compiler has.
fn has_unstable_benchmarks(view: &View<'_>) -> bool {
    view.files()
        .filter(|path| path.starts_with("benches/") || path.contains("/benches/"))
        .filter(|path| Path::new(path).extension().is_some_and(|end| end == "rs"))
        .take(MAX_BENCHMARKS_READ)
        .filter_map(|path| view.text(path))
        .any(|text| {
            text.lines()
                .any(|line| line.trim_start().starts_with("#![feature("))
        })
}

/// Whether anything must be fetched. Members of a workspace may depend on what the root does not name.
fn has_dependencies(manifest: &toml::Table) -> bool {
    const TABLES: [&str; 4] = [
        "dependencies",
        "dev-dependencies",
        "build-dependencies",
        "target",
    ];
    let filled = |name: &&str| {
        manifest
            .get(*name)
            .and_then(toml::Value::as_table)
            .is_some_and(|table| !table.is_empty())
    };
    manifest.contains_key("workspace") || TABLES.iter().any(filled)
}
