//! Files that configure what judges: policy, checks, CI, test runners, linters, build profiles, and what check
//! commands name. For manifests with many purposes only the judging sections count.

use std::collections::{BTreeMap, BTreeSet};

use super::{BaseJudge, ChangedFile, Class, JudgeChange};

const CI_FILES: &[&str] = &[
    ".gitlab-ci.yml",
    ".travis.yml",
    ".drone.yml",
    "Jenkinsfile",
    "azure-pipelines.yml",
    "appveyor.yml",
    ".appveyor.yml",
    "bitbucket-pipelines.yml",
    ".pre-commit-config.yaml",
    "codecov.yml",
    ".codecov.yml",
    "cloudbuild.yaml",
];
const CI_FOLDERS: &[&str] = &[
    ".github/",
    ".circleci/",
    ".buildkite/",
    ".ci/",
    ".gitlab/",
    ".woodpecker/",
    ".forgejo/",
    ".gitea/",
];

/// Whole files that configure a runner, linter, formatter, type checker or toolchain, wherever they stand.
const CONFIGURATION_FILES: &[&str] = &[
    "pytest.ini",
    ".pytest.ini",
    "tox.ini",
    "noxfile.py",
    ".coveragerc",
    "mypy.ini",
    ".mypy.ini",
    "ruff.toml",
    ".ruff.toml",
    ".flake8",
    ".pylintrc",
    "pylintrc",
    "pyrightconfig.json",
    ".bandit",
    "unittest.cfg",
    "nose2.cfg",
    ".mocharc.js",
    ".mocharc.cjs",
    ".mocharc.json",
    ".mocharc.yml",
    ".mocharc.yaml",
    ".nycrc",
    ".nycrc.json",
    ".c8rc",
    ".c8rc.json",
    ".eslintrc",
    ".eslintrc.js",
    ".eslintrc.cjs",
    ".eslintrc.json",
    ".eslintrc.yml",
    ".eslintignore",
    ".prettierrc",
    ".prettierignore",
    "biome.json",
    "biome.jsonc",
    "tslint.json",
    "tsconfig.json",
    "babel.config.js",
    ".babelrc",
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".pnp.cjs",
    "turbo.json",
    "nx.json",
    "lerna.json",
    "clippy.toml",
    ".clippy.toml",
    "rustfmt.toml",
    ".rustfmt.toml",
    "rust-toolchain",
    "rust-toolchain.toml",
    "deny.toml",
    "tarpaulin.toml",
    ".golangci.yml",
    ".golangci.yaml",
    ".golangci.toml",
    "staticcheck.conf",
    ".semgrepignore",
    ".gitleaks.toml",
    ".gitleaksignore",
    ".trivyignore",
    ".python-version",
    ".nvmrc",
    ".node-version",
];
const CONFIGURATION_STEMS: &[&str] = &[
    "jest.config.",
    "vitest.config.",
    "vitest.workspace.",
    "karma.conf.",
    "playwright.config.",
    "cypress.config.",
    "ava.config.",
    "eslint.config.",
    "prettier.config.",
    "wdio.conf.",
    "jest.setup.",
    "vitest.setup.",
];
const CONFIGURATION_PATHS: &[&str] = &[
    ".cargo/config",
    ".cargo/config.toml",
    ".cargo/audit.toml",
    ".config/nextest.toml",
    ".mvn/jvm.config",
    ".mvn/maven.config",
];

/// Sections of INI-like and TOML manifests that judge, by their beginning.
const PYTHON_SECTIONS: &[&str] = &[
    "tool.pytest",
    "tool.coverage",
    "tool.ruff",
    "tool.mypy",
    "tool.black",
    "tool.isort",
    "tool.flake8",
    "tool.pylint",
    "tool.tox",
    "tool.nox",
    "tool.hatch.envs",
    "tool.pyright",
    "tool.basedpyright",
    "tool:pytest",
    "pytest",
    "coverage:",
    "flake8",
    "mypy",
    "pylint",
    "pycodestyle",
    "testenv",
    "tox",
    "aliases",
    "tool.poe",
    "tool.taskipy",
    "tool.pdm.scripts",
];
const CARGO_SECTIONS: &[&str] = &[
    "lib",
    "[test",
    "[bin",
    "profile.",
    "lints",
    "workspace.lints",
    "patch.",
    "package.metadata.nextest",
];
const PACKAGE_KEYS: &[&str] = &[
    "jest",
    "mocha",
    "nyc",
    "c8",
    "ava",
    "vitest",
    "tap",
    "eslintConfig",
    "prettier",
    "type",
    "imports",
    "babel",
];

pub(super) fn classify(file: &ChangedFile, base: &BaseJudge) -> Option<JudgeChange> {
    let paths = [Some(file.path.as_str()), file.old_path.as_deref()];
    paths
        .into_iter()
        .flatten()
        .find_map(|path| classify_path(path, file, base))
}

fn classify_path(path: &str, file: &ChangedFile, base: &BaseJudge) -> Option<JudgeChange> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let action = match (&file.before, &file.after) {
        (None, _) => "is new",
        (_, None) => "is gone",
        _ => "is another",
    };
    let whole = |class| Some((class, action.to_owned()));
    let found = match path {
        ".agentic/gates.yaml" | ".agentic/gates.yml" => {
            (base.has_policy || base.has_checks).then(|| (Class::Policy, action.to_owned()))
        }
        ".agentic/project.yaml" | ".agentic/project.yml" => base
            .has_checks
            .then(|| (Class::ProjectDescription, action.to_owned())),
        _ if CI_FILES.contains(&name)
            || CI_FOLDERS.iter().any(|folder| path.starts_with(folder)) =>
        {
            whole(Class::Ci)
        }
        _ if base.named_files.contains(path) => Some((
            Class::CheckCommand,
            format!("{action}, and a check of the base runs it"),
        )),
        _ if CONFIGURATION_FILES.contains(&name)
            || CONFIGURATION_PATHS
                .iter()
                .any(|known| path == *known || path.ends_with(&format!("/{known}")))
            || CONFIGURATION_STEMS
                .iter()
                .any(|stem| name.starts_with(stem)) =>
        {
            whole(Class::RunnerConfiguration)
        }
        _ => sections(name, file).map(|changed| (Class::RunnerConfiguration, changed)),
    };
    found.map(|(class, detail)| JudgeChange {
        class,
        path: path.to_owned(),
        line: 0,
        detail,
    })
}

/// What changed in the judging sections of a manifest that exists on both sides.
fn sections(name: &str, file: &ChangedFile) -> Option<String> {
    let before = file.before.as_deref()?;
    let after = file.after.as_deref().unwrap_or_default();
    let changed = match name {
        "pyproject.toml" | "setup.cfg" => {
            changed_sections(before, after, PYTHON_SECTIONS, |_, _| true)
        }
        "Cargo.toml" => {
            let mut changed =
                changed_sections(before, after, CARGO_SECTIONS, decides_what_is_tested);
            changed.extend(workspace_narrowed(before, after));
            changed
        }
        "package.json" => changed_scripts(before, after),
        _ => return None,
    };
    (!changed.is_empty()).then(|| format!("changed: {}", changed.join(", ")))
}

/// Of what describes a target, only what decides which tests it has.
fn decides_what_is_tested(section: &str, line: &str) -> bool {
    let key = line.split(['=', '.']).next().unwrap_or_default().trim();
    !matches!(section, "lib" | "[bin" | "[test")
        || matches!(
            key,
            "test" | "doctest" | "harness" | "path" | "required-features"
        )
}

fn changed_sections(
    before: &str,
    after: &str,
    judging: &[&str],
    counts: fn(&str, &str) -> bool,
) -> Vec<String> {
    let read = |text: &str| -> BTreeMap<String, String> {
        let mut sections: BTreeMap<String, String> = BTreeMap::new();
        let mut current = None;
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                let header = header.0.trim().trim_matches('"').to_owned();
                current = judging
                    .iter()
                    .any(|known| header.starts_with(known))
                    .then_some(header);
            } else if let Some(header) = current.as_ref().filter(|header| counts(header, line)) {
                let section = sections.entry(header.clone()).or_default();
                section.push_str(line);
                section.push('\n');
            }
        }
        sections
    };
    let (before, after) = (read(before), read(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| format!("[{}]", name.trim_start_matches('[')))
        .collect()
}

/// Members that a workspace no longer has: their tests no longer run.
fn workspace_narrowed(before: &str, after: &str) -> Option<String> {
    let read = |text: &str| -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut members, mut left_out) = (BTreeSet::new(), BTreeSet::new());
        let (mut in_workspace, mut key) = (false, String::new());
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') && !line.starts_with("[\"") {
                in_workspace = line == "[workspace]";
            }
            if !in_workspace {
                continue;
            }
            if let Some((name, _)) = line.split_once('=') {
                name.trim().clone_into(&mut key);
            }
            let values = line.split('"').skip(1).step_by(2).map(ToOwned::to_owned);
            match key.as_str() {
                "members" => members.extend(values),
                "exclude" | "default-members" => left_out.extend(values),
                _ => {}
            }
        }
        (members, left_out)
    };
    let (before, after) = (read(before), read(after));
    (!before.0.is_subset(&after.0) || before.1 != after.1).then(|| "[workspace] members".to_owned())
}

fn changed_scripts(before: &str, after: &str) -> Vec<String> {
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    let (before, after) = (read(before), read(after));
    let null = serde_json::Value::Null;
    let mut changed: Vec<String> = PACKAGE_KEYS
        .iter()
        .filter(|key| before.get(key) != after.get(key))
        .map(|key| (*key).to_owned())
        .collect();
    let scripts = |value: &serde_json::Value| {
        value
            .get("scripts")
            .unwrap_or(&null)
            .as_object()
            .cloned()
            .unwrap_or_default()
    };
    let (before, after) = (scripts(&before), scripts(&after));
    for (name, script) in &before {
        if after.get(name) != Some(script) {
            changed.push(format!("scripts.{name}"));
        }
    }
    // A new hook runs around a script that is there already.
    for name in after.keys().filter(|name| !before.contains_key(*name)) {
        let hooked = name
            .strip_prefix("pre")
            .or_else(|| name.strip_prefix("post"));
        if hooked.is_some_and(|hooked| before.contains_key(hooked))
            || matches!(
                name.as_str(),
                "install" | "preinstall" | "postinstall" | "prepare"
            )
        {
            changed.push(format!("scripts.{name}"));
        }
    }
    changed
}
