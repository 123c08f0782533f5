//! What was found about a project, from where, and what each agent will run: for people who want to know
//! before they hand over work.

use serde::Serialize;

use super::{
    description::{ReadyBy, StartBy, SuiteBy, TargetKind},
    detect::Step,
    plan::{AppPlan, Project},
};

/// One line of the explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// What it is about, such as `tests` or `ready`.
    pub subject: String,
    /// What was found or will be done.
    pub what: String,
    /// Where it comes from.
    pub origin: String,
}

/// What was found about a project, and what each agent will run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `app` or `library`.
    pub kind: String,
    /// Where the declared part came from: `base`, `head`, `detected`.
    pub description_origin: String,
    /// Languages.
    pub languages: Vec<Explained>,
    /// What the validation agent will run, in order.
    pub validation: Vec<Explained>,
    /// What the end-to-end agent will do.
    pub e2e: Vec<Explained>,
    /// What the integration agent will run on a merge: the same checks.
    pub integration: Vec<Explained>,
    /// Where and how the deployment agent will deploy.
    pub deployment: Vec<Explained>,
}

impl Project {
    /// Explains what was found and what each agent will run.
    pub fn explain(&self) -> Explanation {
        let checks: Vec<Explained> = self
            .dependencies
            .iter()
            .map(|step| explained("dependencies", command(step), &step.origin))
            .chain(self.checks.iter().map(|check| {
                explained(
                    check.name.as_str(),
                    command(&check.step),
                    &check.step.origin,
                )
            }))
            .collect();
        Explanation {
            kind: self.kind().to_owned(),
            description_origin: self.description_origin.as_str().to_owned(),
            languages: self
                .languages
                .iter()
                .map(|found| explained("language", found.value.as_str(), &found.origin))
                .collect(),
            integration: checks.clone(),
            validation: checks,
            e2e: self
                .app
                .as_ref()
                .map(|app| self.e2e(app))
                .unwrap_or_default(),
            deployment: self.deployment(),
        }
    }

    fn e2e(&self, app: &AppPlan) -> Vec<Explained> {
        let mut lines = Vec::new();
        match &app.start {
            Some(start) => {
                let what = match &start.value.by {
                    StartBy::Command(argv) => {
                        format!("{argv} (port in {})", start.value.port_variable)
                    }
                    StartBy::Image(image) => format!("container of {image}"),
                    StartBy::Compose(file) => format!("services of {file}"),
                    StartBy::Url(address) => format!("runs already at {address}"),
                };
                lines.push(explained("start", what, &start.origin));
            }
            None => lines.push(explained("start", "nobody says how: not proven", "")),
        }
        let ready = match &app.ready.value.by {
            ReadyBy::Http(http) => format!("{} answers {}", http.path, http.status),
            ReadyBy::Tcp => "its port accepts connections".to_owned(),
            ReadyBy::Log(pattern) => format!("it prints a line like {pattern}"),
            ReadyBy::DockerHealth => "its container is healthy".to_owned(),
        };
        let ready = format!("{ready}, within {}", app.ready.value.within);
        lines.push(explained("ready", ready, &app.ready.origin));
        let from = ".agentic/project.yaml";
        for endpoint in &app.endpoints {
            let what = format!(
                "{} {} answers {}",
                endpoint.method, endpoint.path, endpoint.status
            );
            lines.push(explained(
                "endpoint",
                what,
                &format!("{from} app.endpoints"),
            ));
        }
        for suite in &self.suites {
            let what = match &suite.by {
                SuiteBy::Hurl(files) => {
                    let files: Vec<String> = files.iter().map(ToString::to_string).collect();
                    format!("hurl {}", files.join(" "))
                }
                SuiteBy::Playwright { folder, browsers } => {
                    let browsers: Vec<String> = browsers.iter().map(ToString::to_string).collect();
                    format!("playwright tests in {folder} on {}", browsers.join(", "))
                }
                SuiteBy::Command { argv, .. } => argv.to_string(),
            };
            lines.push(explained(
                suite.name.as_str(),
                what,
                &format!("{from} e2e.suites"),
            ));
        }
        lines
    }

    fn deployment(&self) -> Vec<Explained> {
        self.environments
            .iter()
            .map(|(name, environment)| {
                let target = environment
                    .target
                    .map_or("the default target", TargetKind::as_str);
                let strategy = environment
                    .strategy
                    .map(|strategy| format!(", {}", strategy.as_str()));
                explained(
                    name.as_str(),
                    target.to_owned() + &strategy.unwrap_or_default(),
                    &format!(".agentic/project.yaml environments.{name}"),
                )
            })
            .collect()
    }
}

fn explained(subject: &str, what: impl Into<String>, origin: &str) -> Explained {
    Explained {
        subject: subject.to_owned(),
        what: what.into(),
        origin: origin.to_owned(),
    }
}

fn command(step: &Step) -> String {
    let variables = step
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let directory = step.directory.iter().map(|folder| format!("(in {folder})"));
    let parts: Vec<String> = variables
        .chain([step.command.to_string()])
        .chain(directory)
        .collect();
    parts.join(" ")
}
