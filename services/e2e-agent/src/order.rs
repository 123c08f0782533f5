//! What a task asks for, checked field by field. Knows no project: what is left out is filled in later.

use std::time::Duration;

use agent_runtime::project::{Argv, Browser, Endpoint, HttpReady, Period, Request, Variable};
use contracts::{
    e2e::{self, E2eTask},
    error::Error,
    parse::Fields,
};

/// Bounds of the contract.
const READY_MOST: Duration = Duration::from_mins(10);
const SUITE_MOST: Duration = Duration::from_hours(1);
const RETRIES_MOST: i32 = 3;
const ENDPOINTS_MOST: usize = 200;

/// What a task asks for.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// What to start instead of what the project says.
    pub start: Option<Argv>,
    /// Variable of the port.
    pub port_variable: Option<Variable>,
    /// What shows that the app is ready.
    pub ready: Option<HttpReady>,
    /// How long it may take.
    pub ready_within: Option<Period>,
    /// What to ask instead of what the project says.
    pub endpoints: Vec<Endpoint>,
    /// Which suites; empty: all.
    pub suites: Vec<String>,
    /// Which browsers; empty: what the project says.
    pub browsers: Vec<Browser>,
    /// How often a failed test is run again.
    pub retries: Option<u8>,
    /// An app that runs already.
    pub url: Option<String>,
    /// Limit of a suite that declares none.
    pub suite_timeout: Option<Duration>,
}

impl Order {
    /// Checks a task. Every wrong field is named.
    pub fn parse(task: E2eTask) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let mut order = Self::default();
        let mut check = |field: &str, parsed: Result<(), String>| {
            if let Err(problem) = parsed {
                fields.wrong(field, problem);
            }
        };
        if !task.start_command.is_empty() {
            check(
                "task.start_command",
                Argv::parse(task.start_command).map(|argv| order.start = Some(argv)),
            );
        }
        if !task.port_variable.is_empty() {
            let parsed = Variable::parse(&task.port_variable);
            check(
                "task.port_variable",
                parsed.map(|name| order.port_variable = Some(name)),
            );
        }
        if !task.ready_path.is_empty() {
            let ready = HttpReady {
                path: task.ready_path,
                status: 200,
            };
            check("task.ready_path", path(&ready.path));
            order.ready = Some(ready);
        }
        if task.endpoints.len() > ENDPOINTS_MOST {
            check("task.endpoints", Err(format!("at most {ENDPOINTS_MOST}")));
        }
        for (index, endpoint) in task.endpoints.into_iter().enumerate() {
            match endpoint_of(endpoint) {
                Ok(endpoint) => order.endpoints.push(endpoint),
                Err((field, problem)) => {
                    check(&format!("task.endpoints[{index}].{field}"), Err(problem));
                }
            }
        }
        for (index, name) in task.browsers.iter().enumerate() {
            match name.as_str() {
                "chromium" => order.browsers.push(Browser::Chromium),
                "firefox" => order.browsers.push(Browser::Firefox),
                "webkit" => order.browsers.push(Browser::Webkit),
                _ => check(
                    &format!("task.browsers[{index}]"),
                    Err("is not one of chromium, firefox, webkit".to_owned()),
                ),
            }
        }
        match task.retry_count {
            None => {}
            Some(count) if (0..=RETRIES_MOST).contains(&count) => {
                order.retries = u8::try_from(count).ok();
            }
            Some(_) => check(
                "task.retry_count",
                Err(format!("is not from 0 to {RETRIES_MOST}")),
            ),
        }
        if !task.url.is_empty() {
            let sound = reqwest::Url::parse(&task.url)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            check(
                "task.url",
                sound
                    .then_some(())
                    .ok_or("is not an http or https URL".to_owned()),
            );
            if order.start.is_some() {
                check(
                    "task.url",
                    Err("is given together with a start command".to_owned()),
                );
            }
            order.url = Some(task.url);
        }
        order.suites = task.suites;
        let minimum = Duration::from_millis(1);
        let within = fields.duration("task.ready_within", task.ready_within, minimum, READY_MOST);
        order.ready_within = within.map(Period::of);
        order.suite_timeout = fields.duration(
            "task.suite_timeout",
            task.suite_timeout,
            minimum,
            SUITE_MOST,
        );
        fields.finish(order)
    }
}

fn endpoint_of(endpoint: e2e::Endpoint) -> Result<Endpoint, (&'static str, String)> {
    path(&endpoint.path).map_err(|problem| ("path", problem))?;
    let method = if endpoint.method.is_empty() {
        "GET".to_owned()
    } else {
        endpoint.method
    };
    if method.len() > 32 || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(("method", "is not an HTTP method in capitals".to_owned()));
    }
    let status = match endpoint.status {
        0 => 200,
        status @ 100..=599 => u16::try_from(status).unwrap_or(200),
        _ => return Err(("status", "is not an HTTP status".to_owned())),
    };
    Ok(Endpoint {
        method,
        path: endpoint.path,
        send: Request::default(),
        status,
        headers: std::collections::BTreeMap::new(),
        contains: (!endpoint.contains.is_empty()).then_some(endpoint.contains),
        json: std::collections::BTreeMap::new(),
        latency_below: None,
    })
}

fn path(path: &str) -> Result<(), String> {
    let sound = path.starts_with('/')
        && !path.starts_with("//")
        && path.len() <= 2048
        && !path
            .chars()
            .any(|character| character.is_control() || character == ' ');
    sound
        .then_some(())
        .ok_or_else(|| "is not a path from `/`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_task_leaves_everything_to_the_project() {
        let order = Order::parse(E2eTask::default()).unwrap();
        assert!(order.start.is_none() && order.endpoints.is_empty() && order.retries.is_none());
    }

    #[test]
    fn every_wrong_field_is_named() {
        let task = E2eTask {
            start_command: vec!["../evil".into()],
            port_variable: "A-B".into(),
            ready_path: "health".into(),
            ready_within: Some(prost_types::Duration {
                seconds: 3600,
                nanos: 0,
            }),
            endpoints: vec![
                e2e::Endpoint {
                    path: "x".into(),
                    ..Default::default()
                },
                e2e::Endpoint {
                    path: "/".into(),
                    status: 9,
                    ..Default::default()
                },
                e2e::Endpoint {
                    path: "/".into(),
                    method: "get".into(),
                    ..Default::default()
                },
            ],
            browsers: vec!["mosaic".into()],
            retry_count: Some(4),
            url: "ftp://x".into(),
            ..E2eTask::default()
        };
        let error = Order::parse(task).unwrap_err();
        let named: Vec<&str> = error
            .fields
            .iter()
            .map(|(field, _)| field.as_str())
            .collect();
        for field in [
            "task.start_command",
            "task.port_variable",
            "task.ready_path",
            "task.ready_within",
            "task.endpoints[0].path",
            "task.endpoints[1].status",
            "task.endpoints[2].method",
            "task.browsers[0]",
            "task.retry_count",
            "task.url",
        ] {
            assert!(named.contains(&field), "{field} is not in {named:?}");
        }
    }
}
