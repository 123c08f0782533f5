//! Which Python packages must be installed before anything can run: what the project needs, what its tests
//! need, and the checkers that it configures, in the versions that it names.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::View;

/// Names that projects give to what their tests need, the usual ones first.
const TEST_NAMES: [&str; 5] = ["tests", "test", "testing", "dev", "development"];

/// Most packages that are named to the installer, and longest name with its conditions.
const MAX_REQUIREMENTS: usize = 200;
const MAX_REQUIREMENT_BYTES: usize = 300;

/// How deep groups may include each other.
const MAX_DEPTH: usize = 8;

/// Arguments for the installer, and where they come from.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) arguments: Vec<String>,
    pub(super) origins: Vec<String>,
}

impl Wanted {
    fn add(&mut self, arguments: impl IntoIterator<Item = String>, origin: String) {
        let before = self.arguments.len();
        for argument in arguments {
            if self.arguments.len() < MAX_REQUIREMENTS && !self.arguments.contains(&argument) {
                self.arguments.push(argument);
            }
        }
        if self.arguments.len() > before {
            self.origins.push(origin);
        }
    }

    /// Bare names get the version of the lock file: with a newer tool, the same tests may fail.
    fn pin(&mut self, view: &View<'_>) {
        let is_bare = |argument: &str| {
            argument
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        if !self.arguments.iter().any(|argument| is_bare(argument)) {
            return;
        }
        let Some((file, versions)) = locked(view) else {
            return;
        };
        let mut pinned = false;
        for argument in &mut self.arguments {
            if is_bare(argument)
                && let Some(version) = versions.get(&plain_name(argument))
            {
                *argument = format!("{argument}=={version}");
                pinned = true;
            }
        }
        if pinned {
            self.origins.push(file.to_owned());
        }
    }

    fn names(&self, tool: &str) -> bool {
        self.arguments
            .iter()
            .any(|argument| is_named(argument, tool))
    }
}

/// A list of requirements that the project keeps somewhere.
enum Group {
    Strings(Vec<String>),
    File(String),
}

struct Named {
    name: String,
    origin: String,
    group: Group,
}

/// What to install for the project itself, for its tests where it has any, and for these checkers.
pub(super) fn wanted(
    view: &View<'_>,
    project: &Table,
    tests: Option<&str>,
    tools: &[&str],
) -> Wanted {
    let mut wanted = Wanted::default();
    if view
        .text("requirements.txt")
        .is_some_and(|text| lines(&text).next().is_some())
    {
        wanted.add(
            [file_argument("requirements.txt")],
            "requirements.txt".to_owned(),
        );
    }
    if let Some(origin) = installable(view, project) {
        // Editable, so that what runs is the checkout itself, with its compiled parts and its metadata.
        wanted.add(["--editable=.".to_owned()], origin);
    }
    let groups = groups(view, project);
    let for_tests = tests.and_then(|_| {
        TEST_NAMES
            .iter()
            .find_map(|name| groups.iter().find(|group| group.name == *name))
    });
    if let Some(group) = for_tests {
        wanted.add(group.arguments(), group.origin.clone());
    }
    let runner = tests.filter(|runner| *runner == "pytest");
    for tool in runner.iter().chain(tools) {
        let named_already = for_tests.is_some_and(|group| group.naming(view, tool).is_some());
        if named_already || wanted.names(tool) {
            continue;
        }
        let found = groups
            .iter()
            .find_map(|group| Some((group, group.naming(view, tool)?)));
        match found {
            Some((group, arguments)) => wanted.add(arguments, group.origin.clone()),
            // The project's tests say themselves that they are for it.
            None if runner == Some(*tool) => {
                wanted.add([(*tool).to_owned()], "its tests".to_owned());
            }
            None => {}
        }
    }
    wanted.pin(view);
    wanted
}

/// The versions that lock files of the project name, by name; a package with several versions has none here.
fn locked(view: &View<'_>) -> Option<(&'static str, BTreeMap<String, String>)> {
    let file = view.first(&["uv.lock", "poetry.lock", "pdm.lock", "pylock.toml"])?;
    let lock = view.toml(file)?;
    let packages = lock.get("package").or_else(|| lock.get("packages"))?;
    let mut versions: BTreeMap<String, Option<String>> = BTreeMap::new();
    for package in packages.as_array()? {
        let text = |key| package.get(key).and_then(Value::as_str);
        let (Some(name), Some(version)) = (text("name"), text("version")) else {
            continue;
        };
        let version = version.to_owned();
        versions
            .entry(plain_name(name))
            .and_modify(|known| *known = known.take().filter(|known| *known == version))
            .or_insert(Some(version));
    }
    let single = |(name, version): (String, Option<String>)| Some((name, version?));
    Some((file, versions.into_iter().filter_map(single).collect()))
}

/// As PEP 503 compares names.
fn plain_name(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// Whether the project itself must be installed: it needs packages, or is imported from where nobody finds it.
fn installable(view: &View<'_>, project: &Table) -> Option<String> {
    let declared = project
        .get("project")
        .and_then(|project| project.get("dependencies")?.as_array())
        .is_some_and(|list| !list.is_empty());
    if declared {
        return Some("pyproject.toml project.dependencies".to_owned());
    }
    for file in ["setup.py", "setup.cfg"] {
        if view
            .text(file)
            .is_some_and(|text| text.contains("install_requires"))
        {
            return Some(format!("{file} install_requires"));
        }
    }
    let packaged = project.contains_key("project") || view.has("setup.py");
    let in_source_folder = view.files().any(|path| {
        path.strip_prefix("src/")
            .is_some_and(|rest| rest.ends_with("/__init__.py"))
    });
    (packaged && in_source_folder).then(|| "src".to_owned())
}

fn groups(view: &View<'_>, project: &Table) -> Vec<Named> {
    let mut groups = Vec::new();
    if let Some(table) = project.get("dependency-groups").and_then(Value::as_table) {
        for name in table.keys() {
            groups.push(Named {
                name: name.to_ascii_lowercase(),
                origin: format!("pyproject.toml dependency-groups.{name}"),
                group: Group::Strings(resolved(table, name, MAX_DEPTH)),
            });
        }
    }
    let extras = project
        .get("project")
        .and_then(|project| project.get("optional-dependencies")?.as_table());
    for (name, list) in extras.into_iter().flatten() {
        groups.push(Named {
            name: name.to_ascii_lowercase(),
            origin: format!("pyproject.toml optional-dependencies.{name}"),
            group: Group::Strings(strings(list)),
        });
    }
    for path in view.files() {
        if let Some(name) = requirements_file(path) {
            groups.push(Named {
                name,
                origin: path.to_owned(),
                group: Group::File(path.to_owned()),
            });
        }
    }
    groups
}

/// `requirements/tests.txt`, `requirements-dev.txt`, `test-requirements.txt`: what the file is for.
fn requirements_file(path: &str) -> Option<String> {
    let stem = path.strip_suffix(".txt")?.to_ascii_lowercase();
    let name = stem
        .strip_prefix("requirements/")
        .or_else(|| stem.strip_prefix("requirements-"))
        .or_else(|| stem.strip_prefix("requirements_"))
        .or_else(|| stem.strip_suffix("-requirements"))?;
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

/// A group with what it includes (PEP 735).
fn resolved(table: &Table, name: &str, depth: usize) -> Vec<String> {
    let Some(list) = table.get(name).and_then(Value::as_array) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in list {
        if let Some(requirement) = entry.as_str() {
            found.push(requirement.to_owned());
        } else if depth > 0
            && let Some(name) = entry.get("include-group").and_then(Value::as_str)
        {
            found.extend(resolved(table, name, depth - 1));
        }
        found.truncate(MAX_REQUIREMENTS);
    }
    sound(found)
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    sound(
        list.filter_map(|entry| entry.as_str().map(str::to_owned))
            .collect(),
    )
}

/// Only what no command line takes for an option.
fn sound(requirements: Vec<String>) -> Vec<String> {
    requirements
        .into_iter()
        .filter(|text| {
            text.starts_with(|first: char| first.is_ascii_alphanumeric())
                && text.len() <= MAX_REQUIREMENT_BYTES
                && !text.chars().any(char::is_control)
        })
        .collect()
}

fn file_argument(path: &str) -> String {
    format!("--requirement={path}")
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Whether a requirement such as `pytest>=8; python_version > "3"` is for `tool`.
fn is_named(requirement: &str, tool: &str) -> bool {
    let end = requirement
        .find(|character: char| !character.is_ascii_alphanumeric() && !"-_.".contains(character))
        .unwrap_or(requirement.len());
    requirement[..end].eq_ignore_ascii_case(tool)
}

impl Named {
    fn arguments(&self) -> Vec<String> {
        match &self.group {
            Group::Strings(strings) => strings.clone(),
            Group::File(path) => vec![file_argument(path)],
        }
    }

    /// What to install to have `tool`, if this group names it.
    fn naming(&self, view: &View<'_>, tool: &str) -> Option<Vec<String>> {
        match &self.group {
            Group::Strings(strings) => {
                let found = strings.iter().find(|text| is_named(text, tool))?;
                Some(vec![found.clone()])
            }
            Group::File(path) => {
                let text = view.text(path)?;
                let found = lines(&text).find(|line| is_named(line, tool))?;
                // One line is enough, unless it goes on or points elsewhere.
                let plain = sound(vec![
                    found.split(" #").next().unwrap_or(found).trim().to_owned(),
                ]);
                if plain.is_empty() || found.ends_with('\\') {
                    return Some(vec![file_argument(path)]);
                }
                Some(plain)
            }
        }
    }
}
