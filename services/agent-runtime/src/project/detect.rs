//! What a project's files tell about it where it does not describe itself: languages, how it is built and
//! tested, and whether and how it starts. Everything found says where it was found. It runs nothing.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    description::{Coverage, Report, Start},
    source::Source,
    value::{Argv, ConfinedPath, Name, Variable},
};

mod app;
mod go;
mod make;
mod node;
mod python;
mod rust;
mod view;

use self::view::View;

/// Most folders of a repository without a manifest at its root that are looked into.
const MAX_MODULES: usize = 16;

/// A language that the project is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// Rust.
    Rust,
    /// Go.
    Go,
    /// Python.
    Python,
    /// JavaScript or TypeScript on Node.
    Node,
}

impl Language {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Go => "go",
            Self::Python => "python",
            Self::Node => "node",
        }
    }
}

/// What a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// It builds.
    Build,
    /// Its types fit.
    Types,
    /// A linter is content.
    Lint,
    /// It is formatted.
    Format,
    /// Its tests pass.
    Tests,
    /// Something of the project's own.
    Other,
}

impl CheckKind {
    /// Its name, which is also the name of the first such check.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Types => "types",
            Self::Lint => "lint",
            Self::Format => "format",
            Self::Tests => "tests",
            Self::Other => "other",
        }
    }

    /// What a declared check of that name looks at.
    pub fn of_name(name: &str) -> Self {
        // A second one of a kind carries a suffix: `tests-web`.
        let stem = name.split('-').next().unwrap_or(name);
        match stem {
            "build" => Self::Build,
            "types" => Self::Types,
            "lint" => Self::Lint,
            "format" => Self::Format,
            "test" | "tests" => Self::Tests,
            _ => Self::Other,
        }
    }
}

/// Something and where it was found, such as `package.json scripts.test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found<T> {
    /// What was found.
    pub value: T,
    /// Where.
    pub origin: String,
}

/// A command to run in the checkout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Program and arguments.
    pub command: Argv,
    /// Folder to run it in; none: the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<ConfinedPath>,
    /// Variables that it is run with.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<Variable, String>,
    /// Limit; none: the agent's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Whether it may use the network.
    pub network: bool,
    /// The language it belongs to; none: it was declared, or belongs to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// Where it comes from.
    pub origin: String,
}

/// A check to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedCheck {
    /// Its name.
    pub name: Name,
    /// What it looks at.
    pub kind: CheckKind,
    /// How it is run.
    #[serde(flatten)]
    pub step: Step,
    /// Where it leaves its test report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// Where it leaves its coverage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// Whether the project declares it, rather than that it was detected.
    pub declared: bool,
}

/// All that was detected.
#[derive(Debug, Default)]
pub(super) struct Detected {
    pub(super) languages: Vec<Found<Language>>,
    pub(super) dependencies: Vec<Step>,
    pub(super) checks: Vec<PlannedCheck>,
    pub(super) start: Option<Found<Start>>,
}

/// What one ecosystem in one folder tells.
#[derive(Debug)]
struct Ecosystem {
    language: Option<Language>,
    manifest: String,
    dependencies: Option<Step>,
    checks: Vec<(CheckKind, Step)>,
}

/// Looks at the root; where it holds no manifest, at the folders below it.
pub(super) fn detect(source: &dyn Source) -> Detected {
    let root = View::root(source);
    let mut detected = Detected::default();
    let at_root = ecosystems(&root);
    let found_at_root = !at_root.is_empty();
    for ecosystem in at_root {
        detected.add(ecosystem, None);
    }
    if !found_at_root {
        for module in root.folders().into_iter().take(MAX_MODULES) {
            for ecosystem in ecosystems(&root.below(&module)) {
                detected.add(ecosystem, Some(&module));
            }
        }
    }
    make::fill_in(&root, &mut detected);
    detected
        .checks
        .sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    detected.start = app::start(&root, &detected);
    detected
}

fn ecosystems(view: &View<'_>) -> Vec<Ecosystem> {
    [rust::detect, go::detect, python::detect, node::detect]
        .into_iter()
        .filter_map(|detect| detect(view))
        .collect()
}

impl Detected {
    fn add(&mut self, ecosystem: Ecosystem, module: Option<&str>) {
        if let Some(language) = ecosystem.language {
            self.languages.push(Found {
                value: language,
                origin: ecosystem.manifest,
            });
        }
        self.dependencies.extend(ecosystem.dependencies);
        for (kind, step) in ecosystem.checks {
            let suffixes = [
                None,
                module.map(str::to_owned),
                step.language.map(|language| language.as_str().to_owned()),
                Some(format!("{}", self.checks.len())),
            ];
            let name = suffixes
                .iter()
                .find_map(|suffix| self.free_name(kind, suffix.as_deref()));
            if let Some(name) = name {
                self.checks.push(PlannedCheck {
                    name,
                    kind,
                    step,
                    report: None,
                    coverage: None,
                    declared: false,
                });
            }
        }
    }

    fn free_name(&self, kind: CheckKind, suffix: Option<&str>) -> Option<Name> {
        let text = match suffix {
            None => kind.as_str().to_owned(),
            Some(suffix) => format!("{}-{}", kind.as_str(), suffix.to_ascii_lowercase()),
        };
        let name = Name::parse(&text).ok()?;
        (!self.checks.iter().any(|check| check.name == name)).then_some(name)
    }
}

#[cfg(test)]
mod tests;
