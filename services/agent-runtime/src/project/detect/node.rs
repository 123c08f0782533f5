//! What `package.json` and its neighbours tell.

use serde_json::Value;

use super::{CheckKind, Ecosystem, Language, Step, View};

const LANGUAGE: Option<Language> = Some(Language::Node);

/// What `npm init` writes where there are no tests.
const NO_TESTS: &str = "no test specified";

pub(super) fn detect(view: &View<'_>) -> Option<Ecosystem> {
    let package = view.json("package.json")?;
    package.as_object()?;
    let manager = Manager::of(view);
    let mut checks = Vec::new();
    let mut add = |kind, argv: &[&str], origin: &str| {
        checks.extend(Some(kind).zip(view.step(LANGUAGE, argv, origin)));
    };
    let scripts: [(CheckKind, &[&str]); 5] = [
        (CheckKind::Build, &["build"]),
        (
            CheckKind::Types,
            &[
                "typecheck",
                "type-check",
                "types",
                "check-types",
                "check:types",
            ],
        ),
        (CheckKind::Lint, &["lint"]),
        (
            CheckKind::Format,
            &[
                "format:check",
                "check:format",
                "format-check",
                "check-format",
                "prettier:check",
            ],
        ),
        (CheckKind::Tests, &["test"]),
    ];
    for (kind, names) in scripts {
        let found = names
            .iter()
            .find(|name| script(&package, name).is_some_and(|command| !command.contains(NO_TESTS)));
        if let Some(name) = found {
            let argv = [manager.program(), "run", name];
            add(kind, &argv, &format!("package.json scripts.{name}"));
        }
    }
    let has = |kind| checks.iter().any(|(found, _)| *found == kind);
    let (typed, tested) = (has(CheckKind::Types), has(CheckKind::Tests));
    if !typed && view.has("tsconfig.json") && depends_on(&package, &["typescript"]) {
        let argv = ["npx", "--no-install", "tsc", "--noEmit"];
        checks.extend(Some(CheckKind::Types).zip(view.step(LANGUAGE, &argv, "tsconfig.json")));
    }
    if !tested && let Some(file) = view.files().find(|path| is_test(path)) {
        let step = view.step(LANGUAGE, &["node", "--test"], file);
        checks.extend(Some(CheckKind::Tests).zip(step));
    }
    Some(Ecosystem {
        language: LANGUAGE,
        manifest: view.origin("package.json"),
        dependencies: has_dependencies(&package)
            .then(|| {
                view.step(LANGUAGE, manager.install(), manager.lock_file())
                    .map(Step::online)
            })
            .flatten(),
        checks,
    })
}

/// Which program installs packages and runs scripts.
#[derive(Clone, Copy)]
enum Manager {
    NpmLocked,
    Npm,
    Yarn,
    Pnpm,
}

impl Manager {
    fn of(view: &View<'_>) -> Self {
        match view.first(&[
            "package-lock.json",
            "npm-shrinkwrap.json",
            "pnpm-lock.yaml",
            "yarn.lock",
        ]) {
            Some("pnpm-lock.yaml") => Self::Pnpm,
            Some("yarn.lock") => Self::Yarn,
            Some(_) => Self::NpmLocked,
            None => Self::Npm,
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::NpmLocked | Self::Npm => "npm",
            Self::Yarn => "yarn",
            Self::Pnpm => "pnpm",
        }
    }

    fn install(self) -> &'static [&'static str] {
        match self {
            Self::NpmLocked => &["npm", "ci", "--no-audit", "--no-fund"],
            Self::Npm => &[
                "npm",
                "install",
                "--no-audit",
                "--no-fund",
                "--no-package-lock",
            ],
            Self::Yarn => &["yarn", "install", "--frozen-lockfile"],
            Self::Pnpm => &["pnpm", "install", "--frozen-lockfile"],
        }
    }

    fn lock_file(self) -> &'static str {
        match self {
            Self::NpmLocked => "package-lock.json",
            Self::Npm => "package.json dependencies",
            Self::Yarn => "yarn.lock",
            Self::Pnpm => "pnpm-lock.yaml",
        }
    }
}

/// A script of the package.
pub(super) fn script<'p>(package: &'p Value, name: &str) -> Option<&'p str> {
    package.get("scripts")?.get(name)?.as_str()
}

/// Whether the package names one of these among its dependencies.
pub(super) fn depends_on(package: &Value, names: &[&str]) -> bool {
    DEPENDENCIES
        .iter()
        .filter_map(|table| package.get(table)?.as_object())
        .any(|table| names.iter().any(|name| table.contains_key(*name)))
}

const DEPENDENCIES: [&str; 4] = [
    "dependencies",
    "devDependencies",
    "optionalDependencies",
    "peerDependencies",
];

fn has_dependencies(package: &Value) -> bool {
    let filled = |table: &&str| {
        package
            .get(*table)
            .and_then(Value::as_object)
            .is_some_and(|table| !table.is_empty())
    };
    package.get("workspaces").is_some() || DEPENDENCIES.iter().any(filled)
}

/// What `node --test` would run (Node's documentation, "Running tests from the command line").
fn is_test(path: &str) -> bool {
    let Some((stem, extension)) = path.rsplit_once('.') else {
        return false;
    };
    if !matches!(extension, "js" | "mjs" | "cjs") {
        return false;
    }
    let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    let in_test_folder = folder.split('/').any(|part| part == "test");
    in_test_folder
        || name == "test"
        || name.starts_with("test-")
        || [".test", "-test", "_test"]
            .iter()
            .any(|end| name.ends_with(end))
}
