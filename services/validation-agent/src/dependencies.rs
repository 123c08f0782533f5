//! Which third-party packages a project has, read from its manifests and lock files. Knows no advisories: it only
//! tells a project that has no dependency at all from one whose dependencies somebody would have to look up.

use std::collections::BTreeSet;

use serde_json::Value;

/// What a project depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inventory {
    /// Manifests were read, and none names a package of somebody else.
    None {
        /// The manifests.
        manifests: Vec<String>,
    },
    /// Packages of others, `ecosystem:name`.
    Some(BTreeSet<String>),
    /// A manifest that cannot be read.
    Unknown(String),
}

/// Reads every manifest; `files` are all paths of the tree.
pub fn inventory<'a>(
    files: impl IntoIterator<Item = &'a str>,
    read: impl Fn(&str) -> Option<String>,
) -> Inventory {
    let mut manifests = Vec::new();
    let mut packages = BTreeSet::new();
    for path in files {
        if path
            .split('/')
            .any(|folder| matches!(folder, "node_modules" | "vendor" | "target" | ".venv"))
        {
            continue;
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        let Some(reader) = reader(name) else { continue };
        let Some(text) = read(path) else {
            return Inventory::Unknown(path.to_owned());
        };
        let Some(found) = reader(&text) else {
            return Inventory::Unknown(path.to_owned());
        };
        manifests.push(path.to_owned());
        packages.extend(found);
    }
    if packages.is_empty() {
        Inventory::None { manifests }
    } else {
        Inventory::Some(packages)
    }
}

type Reader = fn(&str) -> Option<Vec<String>>;

fn reader(name: &str) -> Option<Reader> {
    let is_requirements = name.starts_with("requirements")
        && (name.strip_suffix(".txt").is_some() || name.strip_suffix(".in").is_some());
    match name {
        "Cargo.lock" => Some(cargo_lock),
        "Cargo.toml" => Some(|text| Some(cargo_manifest(text))),
        "package.json" => Some(package_json),
        "package-lock.json" | "npm-shrinkwrap.json" => Some(package_lock),
        "go.mod" => Some(|text| Some(go_mod(text))),
        "pyproject.toml" => Some(|text| Some(pyproject(text))),
        "yarn.lock" | "pnpm-lock.yaml" | "poetry.lock" | "uv.lock" | "Pipfile" | "Pipfile.lock"
        | "Gemfile" | "Gemfile.lock" | "pom.xml" | "build.gradle" | "build.gradle.kts"
        | "composer.json" | "setup.py" | "setup.cfg" | "environment.yml" | "mix.exs"
        | "Package.swift" => Some(|text| Some(any(text))),
        _ if is_requirements => Some(|text| Some(requirements(text))),
        _ => None,
    }
}

/// A manifest whose form is not read here: it names something, as far as we know.
fn any(text: &str) -> Vec<String> {
    if text.trim().is_empty() {
        Vec::new()
    } else {
        vec!["other:unread".to_owned()]
    }
}

/// Packages with a `source` come from elsewhere.
fn cargo_lock(text: &str) -> Option<Vec<String>> {
    let mut packages = Vec::new();
    let mut name = None;
    for line in text.lines().map(str::trim) {
        if line == "[[package]]" {
            name = None;
        } else if let Some(value) = line.strip_prefix("name = ") {
            name = Some(value.trim_matches('"').to_owned());
        } else if line.starts_with("source = ") {
            packages.push(format!("cargo:{}", name.take()?));
        }
    }
    Some(packages)
}

/// Dependencies without `path` and `workspace`.
fn cargo_manifest(text: &str) -> Vec<String> {
    let mut packages = Vec::new();
    let mut in_dependencies = false;
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            in_dependencies = header.ends_with("dependencies");
            if let Some((table, name)) = header.rsplit_once('.')
                && table.ends_with("dependencies")
            {
                packages.push(format!("cargo:{name}"));
            }
        } else if in_dependencies && let Some((name, value)) = line.split_once('=') {
            let name = name.trim();
            let is_ours = value.contains("path") && value.contains('{')
                || value.contains("workspace")
                || name.ends_with(".workspace")
                || name.rsplit('.').next() == Some("path");
            if !is_ours {
                packages.push(format!("cargo:{name}"));
            }
        }
    }
    packages
}

fn package_json(text: &str) -> Option<Vec<String>> {
    let manifest: Value = serde_json::from_str(text).ok()?;
    let manifest = manifest.as_object()?;
    let mut packages = Vec::new();
    for key in [
        "dependencies",
        "devDependencies",
        "optionalDependencies",
        "peerDependencies",
        "bundledDependencies",
    ] {
        let Some(named) = manifest.get(key).and_then(Value::as_object) else {
            continue;
        };
        for (name, version) in named {
            let is_ours = version.as_str().is_some_and(|version| {
                ["file:", "link:", "workspace:"]
                    .iter()
                    .any(|kind| version.starts_with(kind))
            });
            if !is_ours {
                packages.push(format!("npm:{name}"));
            }
        }
    }
    Some(packages)
}

fn package_lock(text: &str) -> Option<Vec<String>> {
    let lock: Value = serde_json::from_str(text).ok()?;
    let packages = lock.get("packages").or_else(|| lock.get("dependencies"));
    let Some(packages) = packages.and_then(Value::as_object) else {
        return Some(Vec::new());
    };
    Some(
        packages
            .iter()
            .filter(|(path, entry)| {
                !path.is_empty() && entry.get("link").is_none_or(|link| link != true)
            })
            .filter(|(path, _)| path.contains("node_modules/") || lock.get("packages").is_none())
            .map(|(path, _)| {
                format!(
                    "npm:{}",
                    path.rsplit("node_modules/").next().unwrap_or(path)
                )
            })
            .collect(),
    )
}

fn go_mod(text: &str) -> Vec<String> {
    let mut packages = Vec::new();
    let mut in_block = false;
    for line in text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().trim())
    {
        let required = if let Some(rest) = line.strip_prefix("require") {
            in_block = rest.trim() == "(";
            if in_block { "" } else { rest.trim() }
        } else if line == ")" {
            in_block = false;
            ""
        } else if in_block {
            line
        } else {
            ""
        };
        if let Some(name) = required.split_whitespace().next() {
            packages.push(format!("go:{name}"));
        }
    }
    packages
}

fn requirements(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && !line.starts_with('-') && !line.starts_with('.'))
        .map(|line| {
            let end = line
                .find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c))
                .unwrap_or(line.len());
            format!("python:{}", line.get(..end).unwrap_or(line))
        })
        .collect()
}

/// `dependencies = [...]` of PEP 621, optional ones, and Poetry's tables.
fn pyproject(text: &str) -> Vec<String> {
    let mut packages = Vec::new();
    let mut section = String::new();
    let mut in_list = false;
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
    {
        if line.starts_with('[') && !in_list {
            line.trim_matches(['[', ']']).clone_into(&mut section);
            continue;
        }
        let in_groups =
            section == "project.optional-dependencies" || section == "dependency-groups";
        let in_poetry = section.starts_with("tool.poetry") && section.ends_with("dependencies");
        if in_poetry && let Some((name, _)) = line.split_once('=') {
            if name.trim() != "python" {
                packages.push(format!("python:{}", name.trim()));
            }
            continue;
        }
        let rest = if in_list {
            line
        } else if let Some((key, value)) = line.split_once('=')
            && (section == "project" && key.trim() == "dependencies" || in_groups)
            && value.trim_start().starts_with('[')
        {
            in_list = true;
            value
        } else {
            continue;
        };
        for (at, part) in rest.split(['"', '\'']).enumerate() {
            if at % 2 == 1 {
                packages.extend(requirements(part));
            }
        }
        let outside: String = rest.split(['"', '\'']).step_by(2).collect();
        if outside.contains(']') {
            in_list = false;
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::{Inventory, inventory};

    fn read(path: &str, text: &str) -> Inventory {
        inventory([path], |_| Some(text.to_owned()))
    }

    #[test]
    fn projects_without_dependencies_are_told() {
        for (path, text) in [
            (
                "Cargo.lock",
                "version = 4\n[[package]]\nname = \"shop\"\nversion = \"0.1.0\"\n",
            ),
            (
                "Cargo.toml",
                "[package]\nname = \"shop\"\n[dependencies]\nours = { path = \"../ours\" }\nshared.workspace = true\n",
            ),
            (
                "package.json",
                r#"{"name": "shop", "dependencies": {"ours": "file:../ours"}}"#,
            ),
            (
                "package-lock.json",
                r#"{"packages": {"": {"name": "shop"}}}"#,
            ),
            ("go.mod", "module shop\n\ngo 1.22\n"),
            ("requirements.txt", "# nothing yet\n"),
            (
                "pyproject.toml",
                "[project]\nname = \"shop\"\ndependencies = []\n",
            ),
        ] {
            assert_eq!(
                read(path, text),
                Inventory::None {
                    manifests: vec![path.to_owned()]
                },
                "{path}"
            );
        }
        assert_eq!(
            inventory(["app/main.py"], |_| None),
            Inventory::None {
                manifests: Vec::new()
            }
        );
    }

    #[test]
    fn dependencies_are_named() {
        for (path, text, package) in [
            (
                "Cargo.lock",
                "[[package]]\nname = \"serde\"\nsource = \"registry\"\n",
                "cargo:serde",
            ),
            (
                "Cargo.toml",
                "[dependencies]\nserde = \"1\"\n",
                "cargo:serde",
            ),
            (
                "a/Cargo.toml",
                "[dev-dependencies.serde]\nversion = \"1\"\n",
                "cargo:serde",
            ),
            (
                "package.json",
                r#"{"devDependencies": {"mocha": "^10"}}"#,
                "npm:mocha",
            ),
            (
                "package-lock.json",
                r#"{"packages": {"": {}, "node_modules/ms": {}}}"#,
                "npm:ms",
            ),
            (
                "go.mod",
                "module a\nrequire (\n\tgithub.com/x/y v1.0.0\n)\n",
                "go:github.com/x/y",
            ),
            (
                "go.mod",
                "module a\nrequire github.com/x/y v1.0.0\n",
                "go:github.com/x/y",
            ),
            ("requirements-dev.txt", "pytest>=8\n", "python:pytest"),
            (
                "pyproject.toml",
                "[project]\ndependencies = [\n  \"flask[async]>=2\",\n]\n",
                "python:flask",
            ),
            (
                "pyproject.toml",
                "[tool.poetry.dependencies]\npython = \"^3.11\"\nflask = \"2\"\n",
                "python:flask",
            ),
            ("yarn.lock", "ms@2:\n", "other:unread"),
        ] {
            assert_eq!(
                read(path, text),
                Inventory::Some([package.to_owned()].into()),
                "{path}: {text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        assert_eq!(
            read("package.json", "{"),
            Inventory::Unknown("package.json".into())
        );
        assert_eq!(
            inventory(["go.mod"], |_| None),
            Inventory::Unknown("go.mod".into())
        );
    }
}
