//! A project as agents see it: what it declares, completed by what detection finds, every part with its
//! origin. It decides nothing about verdicts.

use std::{collections::BTreeMap, io, time::Duration};

use serde::Serialize;

use super::{
    description::{
        Check, DESCRIPTION_FILE, Description, Endpoint, Environment, Ready, Start, Suite,
    },
    detect::{CheckKind, Found, Language, PlannedCheck, Step, detect},
    gates::{GATES_FILE, GatePolicy},
    parse::{DescriptionError, MAX_DOCUMENT_BYTES},
    source::{Content, Source},
    value::Name,
};

/// How long an app may take to stop when nothing is said.
const DEFAULT_STOP_WITHIN: Duration = Duration::from_secs(10);

/// Why a project cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The project's own description is wrong.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// The commit cannot be read.
    #[error("cannot read the tree of commit {commit}")]
    Commit {
        /// Which commit.
        commit: String,
        /// What git said.
        source: git2::Error,
    },
    /// The repository cannot be read.
    #[error(transparent)]
    Repository(#[from] crate::repository::Error),
    /// The files cannot be read.
    #[error("cannot read {file}")]
    Unreadable {
        /// Which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Where the declared part of a project came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DescriptionOrigin {
    /// From the base commit, out of the reach of the change.
    Base,
    /// From the change itself: the base has none.
    Head,
    /// There is none: everything was detected.
    Detected,
}

impl DescriptionOrigin {
    /// Its name, as results carry it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Head => "head",
            Self::Detected => "detected",
        }
    }
}

/// The app that a project is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AppPlan {
    /// How it starts, and where that was found; none: it is an app, and nobody said how it starts.
    pub start: Option<Found<Start>>,
    /// Whether the project declares the start, rather than that it was detected: a guess may be wrong.
    pub start_declared: bool,
    /// When it is ready.
    pub ready: Found<Ready>,
    /// How long it may take to stop.
    pub stop_within: Duration,
    /// What it answers.
    pub endpoints: Vec<Endpoint>,
}

/// A project: what it declares, completed by what was detected.
#[derive(Debug, Clone, Serialize)]
pub struct Project {
    /// Where the declared part came from.
    pub description_origin: DescriptionOrigin,
    /// Languages.
    pub languages: Vec<Found<Language>>,
    /// What installs its dependencies, in order.
    pub dependencies: Vec<Step>,
    /// Its checks, in the order in which they make sense.
    pub checks: Vec<PlannedCheck>,
    /// The app; none: a library.
    pub app: Option<AppPlan>,
    /// Suites against the running app.
    pub suites: Vec<Suite>,
    /// How often a failed end-to-end test is run again; none: the agent's own number.
    pub e2e_retries: Option<u8>,
    /// Environments by name.
    pub environments: BTreeMap<Name, Environment>,
}

impl Project {
    /// Reads a project that stands alone.
    pub fn read(tree: &dyn Source) -> Result<Self, ProjectError> {
        Self::read_judged_by(None, tree)
    }

    /// Reads a change: what is declared comes from `base`, and only where that has none, from `head`.
    pub fn read_judged_by(
        base: Option<&dyn Source>,
        head: &dyn Source,
    ) -> Result<Self, ProjectError> {
        let (description, origin) = declared(base, head, DESCRIPTION_FILE, Description::parse)?;
        Ok(Self::complete(
            description.unwrap_or_default(),
            origin,
            head,
        ))
    }

    /// Whether the project starts and serves.
    pub fn is_app(&self) -> bool {
        self.app.is_some()
    }

    /// What the project is, as results carry it: `app` or `library`.
    pub fn kind(&self) -> &'static str {
        if self.is_app() { "app" } else { "library" }
    }

    fn complete(description: Description, origin: DescriptionOrigin, head: &dyn Source) -> Self {
        let detected = detect(head);
        let mut checks = detected.checks;
        for (name, check) in description.checks {
            let planned = declared_check(name, check);
            // A declared check replaces the detected one of its name.
            checks.retain(|other| other.name != planned.name);
            checks.push(planned);
        }
        checks.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        let dependencies = match description.dependencies {
            None => detected.dependencies,
            Some(declared) => vec![Step {
                command: declared.command,
                directory: declared.directory,
                environment: BTreeMap::new(),
                timeout: declared.timeout.map(super::value::Period::get),
                network: declared.network.unwrap_or(true),
                language: None,
                origin: format!("{DESCRIPTION_FILE} dependencies"),
            }],
        };
        let e2e = description.e2e.unwrap_or_default();
        Self {
            description_origin: origin,
            languages: detected.languages,
            dependencies,
            checks,
            app: app(description.app, detected.start),
            suites: e2e.suites,
            e2e_retries: e2e.retries,
            environments: description.environments,
        }
    }
}

impl GatePolicy {
    /// Reads the policy of a change: from `base`, and only where that has none, from `head`. None: the project
    /// sets no rules of its own.
    pub fn read_judged_by(
        base: Option<&dyn Source>,
        head: &dyn Source,
    ) -> Result<(Option<Self>, DescriptionOrigin), ProjectError> {
        declared(base, head, GATES_FILE, Self::parse)
    }
}

type Parse<T> = fn(&[u8]) -> Result<T, DescriptionError>;

fn declared<T>(
    base: Option<&dyn Source>,
    head: &dyn Source,
    file: &str,
    parse: Parse<T>,
) -> Result<(Option<T>, DescriptionOrigin), ProjectError> {
    if let Some(base) = base
        && let Some(content) = content(base, file)?
    {
        return Ok((Some(parse(&content)?), DescriptionOrigin::Base));
    }
    match content(head, file)? {
        Some(content) => Ok((Some(parse(&content)?), DescriptionOrigin::Head)),
        None => Ok((None, DescriptionOrigin::Detected)),
    }
}

fn content(tree: &dyn Source, file: &str) -> Result<Option<Vec<u8>>, ProjectError> {
    let content =
        tree.read(file, MAX_DOCUMENT_BYTES)
            .map_err(|source| ProjectError::Unreadable {
                file: file.to_owned(),
                source,
            })?;
    let wrong = |problem: String| Err(DescriptionError::whole_file(file, problem).into());
    match content {
        Content::Absent => Ok(None),
        Content::Bytes(bytes) => Ok(Some(bytes)),
        Content::Irregular => wrong("is not a regular file".to_owned()),
        Content::TooLarge => wrong(format!("is larger than {MAX_DOCUMENT_BYTES} bytes")),
    }
}

fn declared_check(name: Name, check: Check) -> PlannedCheck {
    PlannedCheck {
        kind: CheckKind::of_name(name.as_str()),
        step: Step {
            command: check.command,
            directory: check.directory,
            environment: check.environment,
            timeout: check.timeout.map(super::value::Period::get),
            network: check.network,
            language: None,
            origin: format!("{DESCRIPTION_FILE} checks.{name}"),
        },
        name,
        report: check.report,
        coverage: check.coverage,
        declared: true,
    }
}

fn app(declared: Option<super::App>, detected: Option<Found<Start>>) -> Option<AppPlan> {
    let Some(declared) = declared else {
        return detected.map(|start| AppPlan {
            start: Some(start),
            start_declared: false,
            ready: Found {
                value: Ready::tcp(),
                origin: "default".to_owned(),
            },
            stop_within: DEFAULT_STOP_WITHIN,
            endpoints: Vec::new(),
        });
    };
    let start_declared = declared.start.is_some();
    let start = declared.start.map(|start| Found {
        value: start,
        origin: format!("{DESCRIPTION_FILE} app.start"),
    });
    let ready = match declared.ready {
        Some(ready) => Found {
            value: ready,
            origin: format!("{DESCRIPTION_FILE} app.ready"),
        },
        None => Found {
            value: Ready::tcp(),
            origin: "default".to_owned(),
        },
    };
    Some(AppPlan {
        start: start.or(detected),
        start_declared,
        ready,
        stop_within: declared
            .stop_within
            .map_or(DEFAULT_STOP_WITHIN, super::value::Period::get),
        endpoints: declared.endpoints,
    })
}
