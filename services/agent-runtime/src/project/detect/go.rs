//! What `go.mod` and its neighbours tell.

use super::{CheckKind, Ecosystem, Language, Step, View};

const LANGUAGE: Option<Language> = Some(Language::Go);

pub(super) fn detect(view: &View<'_>) -> Option<Ecosystem> {
    let module = view.text("go.mod")?;
    let mut checks = Vec::new();
    let mut add = |kind, argv: &[&str], origin: &str| {
        checks.extend(Some(kind).zip(view.step(LANGUAGE, argv, origin)));
    };
    add(CheckKind::Build, &["go", "build", "./..."], "go.mod");
    add(CheckKind::Types, &["go", "vet", "./..."], "go.mod");
    add(CheckKind::Tests, &["go", "test", "./..."], "go.mod");
    let linter = [
        ".golangci.yml",
        ".golangci.yaml",
        ".golangci.toml",
        ".golangci.json",
    ];
    if let Some(origin) = view.first(&linter) {
        add(CheckKind::Lint, &["golangci-lint", "run"], origin);
    }
    let requires = module
        .lines()
        .any(|line| line.trim_start().starts_with("require"));
    let dependencies = view.step(LANGUAGE, &["go", "mod", "download"], "go.mod");
    Some(Ecosystem {
        language: LANGUAGE,
        manifest: view.origin("go.mod"),
        dependencies: dependencies.map(Step::online).filter(|_| requires),
        checks,
    })
}
