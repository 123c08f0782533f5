//! What will be started and tested: the project's description and what was detected, with what the task says
//! over it. Pure: it reads nothing and starts nothing.

use std::time::Duration;

use agent_runtime::project::{AppPlan, Project, Ready, ReadyBy, Start, StartBy, Suite, SuiteBy};
use contracts::{error::Error, parse::nearest};

use crate::{
    endpoints::Question,
    order::Order,
    suites::{PlannedSuite, SuiteKind},
};

/// Name of the suite that we ask ourselves.
pub const ENDPOINTS: &str = "endpoints";

/// Limit of a suite when nobody says one.
const SUITE_TIMEOUT: Duration = Duration::from_mins(5);

/// How often a failed test is run again when nobody says: at once, and at the end.
const RETRIES: u8 = 2;

/// How long an app may take to stop when nobody says.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What will be started.
#[derive(Debug, Clone)]
pub struct StartPlan {
    /// How.
    pub start: Start,
    /// When it is ready.
    pub ready: Ready,
    /// How long it may take to stop.
    pub stop_within: Duration,
    /// Where the start was detected, if nobody declares it: then it may be wrong.
    pub guessed_from: Option<String>,
}

/// What will be started and tested.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The app; none: nobody says how it starts.
    pub start: Option<StartPlan>,
    /// The suites, in order.
    pub suites: Vec<PlannedSuite>,
    /// How often a failed test is run again.
    pub retries: u8,
    /// Where the description came from: `base`, `head`, `detected` or `task`.
    pub description_source: &'static str,
}

impl Plan {
    /// Puts everything together. A suite or browser that does not exist is refused.
    pub fn make(order: &Order, project: Option<&Project>) -> Result<Self, Error> {
        let app = project.and_then(|project| project.app.as_ref());
        let suites = suites(order, project, app)?;
        let from_task = order.start.is_some() || order.url.is_some();
        Ok(Self {
            start: start(order, app),
            suites,
            retries: order
                .retries
                .or_else(|| project.and_then(|project| project.e2e_retries))
                .unwrap_or(RETRIES),
            description_source: match project {
                Some(project) if !from_task => project.description_origin.as_str(),
                Some(_) | None => "task",
            },
        })
    }
}

fn start(order: &Order, app: Option<&AppPlan>) -> Option<StartPlan> {
    let declared = app.and_then(|app| app.start.as_ref());
    let mut guessed_from = None;
    let mut start = if let Some(argv) = &order.start {
        let mut start = Start::command(argv.clone());
        // What the app needs beside its port does not change with the command.
        if let Some(declared) = declared {
            start = Start {
                by: start.by,
                ..declared.value.clone()
            };
        }
        start
    } else if let Some(url) = &order.url {
        let mut start = declared.map_or_else(|| Start::at(url), |found| found.value.clone());
        start.by = StartBy::Url(url.clone());
        start
    } else {
        let declared = declared?;
        if app.is_some_and(|app| !app.start_declared) {
            guessed_from = Some(declared.origin.clone());
        }
        declared.value.clone()
    };
    if let Some(variable) = &order.port_variable {
        start.port_variable = variable.clone();
    }
    let mut ready = app.map_or_else(Ready::tcp, |app| app.ready.value.clone());
    if let Some(http) = &order.ready {
        ready.by = ReadyBy::Http(http.clone());
    }
    if let Some(within) = order.ready_within {
        ready.within = within;
    }
    Some(StartPlan {
        start,
        ready,
        stop_within: app.map_or(STOP_WITHIN, |app| app.stop_within),
        guessed_from,
    })
}

fn suites(
    order: &Order,
    project: Option<&Project>,
    app: Option<&AppPlan>,
) -> Result<Vec<PlannedSuite>, Error> {
    let declared: &[Suite] = project.map_or(&[], |project| &project.suites);
    let mut known: Vec<&str> = declared.iter().map(|suite| suite.name.as_str()).collect();
    known.push(ENDPOINTS);
    for (index, name) in order.suites.iter().enumerate() {
        if !known.contains(&name.as_str()) {
            let hint = nearest(name, known.iter().copied()).map_or_else(String::new, |nearest| {
                format!("; did you mean `{nearest}`?")
            });
            return Err(Error::invalid_field(
                format!("task.suites[{index}]"),
                format!("the project has no suite `{name}`{hint}"),
            ));
        }
    }
    let wanted =
        |name: &str| order.suites.is_empty() || order.suites.iter().any(|suite| suite == name);
    let timeout = order.suite_timeout.unwrap_or(SUITE_TIMEOUT);
    let mut suites = Vec::new();
    let questions = questions(order, app, declared.is_empty());
    if wanted(ENDPOINTS) && !questions.is_empty() {
        suites.push(PlannedSuite {
            name: ENDPOINTS.to_owned(),
            kind: SuiteKind::Endpoints(questions),
            timeout,
            network: false,
        });
    }
    for suite in declared.iter().filter(|suite| wanted(suite.name.as_str())) {
        for kind in kinds(suite, order) {
            suites.push(PlannedSuite {
                name: suite.name.to_string(),
                kind,
                timeout: suite
                    .timeout
                    .map_or(timeout, agent_runtime::project::Period::get),
                network: suite.network,
            });
        }
    }
    Ok(suites)
}

fn questions(order: &Order, app: Option<&AppPlan>, nothing_else: bool) -> Vec<Question> {
    let declared = if order.endpoints.is_empty() {
        app.map(|app| app.endpoints.clone()).unwrap_or_default()
    } else {
        order.endpoints.clone()
    };
    if declared.is_empty() && nothing_else {
        return vec![Question::AnswersAtAll];
    }
    declared
        .into_iter()
        .map(|endpoint| Question::Declared(Box::new(endpoint)))
        .collect()
}

fn kinds(suite: &Suite, order: &Order) -> Vec<SuiteKind> {
    match &suite.by {
        SuiteBy::Hurl(files) => vec![SuiteKind::Hurl(files.clone())],
        SuiteBy::Command { argv, report } => vec![SuiteKind::Command {
            argv: argv.clone(),
            report: report.clone(),
        }],
        SuiteBy::Playwright { folder, browsers } => {
            let browsers = if order.browsers.is_empty() {
                browsers
            } else {
                &order.browsers
            };
            browsers
                .iter()
                .map(|browser| SuiteKind::Playwright {
                    folder: folder.to_string(),
                    browser: *browser,
                })
                .collect()
        }
    }
}
