//! Asks a running app what it declares to answer: method, path, status, headers, text, JSON and latency. Knows
//! nothing of suites and attempts; one call is one look.

use std::time::{Duration, Instant};

use agent_runtime::project::Endpoint;
use futures::StreamExt as _;
use reqwest::{Method, Response};
use serde_json_path::JsonPath;

use crate::{http, tally::Seen};

/// Limit of one answer that declares no bound of its own.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Most bytes of a body that are read. An answer that goes on beyond is judged by its beginning.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// How much of an answer a complaint quotes.
const QUOTED_CHARACTERS: usize = 300;

/// Samples that a percentile needs.
const SAMPLES: usize = 20;

/// Time that sampling may take.
const SAMPLE_WITHIN: Duration = Duration::from_secs(3);

/// What is asked of an app.
#[derive(Debug, Clone)]
pub enum Question {
    /// An endpoint that the project or the task declares.
    Declared(Box<Endpoint>),
    /// Nothing is declared: the app must answer `/` with anything but a server error.
    AnswersAtAll,
}

impl Question {
    /// Its name, as results show it.
    pub fn name(&self) -> String {
        match self {
            Self::Declared(endpoint) => format!("{} {}", endpoint.method, endpoint.path),
            Self::AnswersAtAll => "GET / is no server error".to_owned(),
        }
    }

    /// Asks once.
    pub async fn ask(&self, base_url: &str) -> Seen {
        match self {
            Self::Declared(endpoint) => match check(endpoint, base_url).await {
                Ok(()) => Seen::Passed,
                Err((step, message)) => Seen::Failed {
                    message,
                    step: step.to_owned(),
                },
            },
            Self::AnswersAtAll => answers_at_all(base_url).await,
        }
    }
}

async fn answers_at_all(base_url: &str) -> Seen {
    let asked = match http::client(ANSWER_WITHIN) {
        Ok(client) => client.get(format!("{base_url}/")).send().await,
        Err(message) => return Seen::Infrastructure { message },
    };
    match asked {
        Ok(answer) if answer.status().is_server_error() => {
            let status = answer.status().as_u16();
            Seen::failed(format!(
                "/ answered {status}: {}",
                quoted(&body(answer).await.text())
            ))
        }
        Ok(_) => Seen::Passed,
        Err(error) if error.is_timeout() => Seen::failed(format!(
            "/ gave no answer within {}s",
            ANSWER_WITHIN.as_secs()
        )),
        // Nobody said that it speaks HTTP.
        Err(_) => Seen::Skipped,
    }
}

/// The first thing that is wrong: which step, and what.
async fn check(endpoint: &Endpoint, base_url: &str) -> Result<(), (&'static str, String)> {
    let limit = endpoint
        .latency_below
        .map_or(ANSWER_WITHIN, |bound| bound.get().max(ANSWER_WITHIN));
    let client = http::client(limit).map_err(|error| ("request", error))?;
    let method = Method::from_bytes(endpoint.method.as_bytes())
        .map_err(|error| ("request", error.to_string()))?;
    let mut request = client.request(method, format!("{base_url}{}", endpoint.path));
    for (name, value) in &endpoint.send.headers {
        request = request.header(name, value);
    }
    if let Some(body) = &endpoint.send.body {
        request = request.body(body.clone());
    }
    let started = Instant::now();
    let answer = request
        .send()
        .await
        .map_err(|error| ("request", format!("no answer: {}", http::cause(&error))))?;
    let status = answer.status().as_u16();
    let headers = answer.headers().clone();
    let body = body(answer).await;
    let latency = started.elapsed();

    if status != endpoint.status {
        let text = quoted(&body.text());
        return Err((
            "status",
            format!("answered {status} instead of {}: {text}", endpoint.status),
        ));
    }
    if let Some(problem) = &body.problem {
        return Err(("body", format!("the answer broke off: {problem}")));
    }
    for (name, expected) in &endpoint.headers {
        let given: Vec<_> = headers.get_all(name).iter().collect();
        if !given
            .iter()
            .any(|value| value.as_bytes() == expected.as_bytes())
        {
            let given = match given.first() {
                None => "is missing".to_owned(),
                Some(value) => format!("is {:?}", String::from_utf8_lossy(value.as_bytes())),
            };
            return Err((
                "headers",
                format!("the header `{name}` {given} instead of {expected:?}"),
            ));
        }
    }
    if let Some(expected) = &endpoint.contains
        && !body.text().contains(expected.as_str())
    {
        let text = quoted(&body.text());
        return Err((
            "contains",
            format!("the body does not contain {expected:?}: {text}"),
        ));
    }
    check_json(endpoint, &body)?;
    if let Some(bound) = endpoint.latency_below
        && latency >= bound.get()
    {
        let millis = latency.as_millis();
        return Err((
            "latency",
            format!("the answer took {millis} ms, not below {bound}"),
        ));
    }
    Ok(())
}

fn check_json(endpoint: &Endpoint, body: &Body) -> Result<(), (&'static str, String)> {
    if endpoint.json.is_empty() {
        return Ok(());
    }
    let document: serde_json::Value = serde_json::from_slice(&body.bytes).map_err(|error| {
        (
            "json",
            format!("the body is not JSON ({error}): {}", quoted(&body.text())),
        )
    })?;
    for (path, expected) in &endpoint.json {
        let parsed = JsonPath::parse(path).map_err(|error| ("json", format!("{path}: {error}")))?;
        let found = parsed.query(&document).all();
        match found.as_slice() {
            [only] if is_same(only, expected) => {}
            [] => return Err(("json", format!("{path} is missing"))),
            [only] => {
                let only = quoted(&only.to_string());
                return Err(("json", format!("{path} is {only} instead of {expected}")));
            }
            several => {
                return Err((
                    "json",
                    format!("{path} names {} values instead of one", several.len()),
                ));
            }
        }
    }
    Ok(())
}

/// JSON does not tell 1 from 1.0, and neither do people.
fn is_same(left: &serde_json::Value, right: &serde_json::Value) -> bool {
    left == right
        || match (left.as_f64(), right.as_f64()) {
            (Some(left), Some(right)) => (left - right).abs() < f64::EPSILON,
            (Some(_) | None, _) => false,
        }
}

struct Body {
    bytes: Vec<u8>,
    problem: Option<String>,
}

impl Body {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

async fn body(answer: Response) -> Body {
    let mut bytes = Vec::new();
    let mut problem = None;
    let mut pieces = answer.bytes_stream();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) => {
                problem = Some(http::cause(&error));
                break;
            }
        }
        if bytes.len() > MAX_BODY_BYTES {
            bytes.truncate(MAX_BODY_BYTES);
            break;
        }
    }
    Body { bytes, problem }
}

fn quoted(text: &str) -> String {
    let mut short: String = text.trim().chars().take(QUOTED_CHARACTERS).collect();
    if text.trim().chars().nth(QUOTED_CHARACTERS).is_some() {
        short.push('…');
    }
    if short.is_empty() {
        "(empty)".to_owned()
    } else {
        short
    }
}

/// The slowest twentieth of answers, in milliseconds, over the questions that only read. None: too few answers.
pub async fn p95_latency(questions: &[Question], base_url: &str) -> Option<f64> {
    let reading: Vec<&Endpoint> = questions
        .iter()
        .filter_map(|question| match question {
            Question::Declared(endpoint) if matches!(endpoint.method.as_str(), "GET" | "HEAD") => {
                Some(&**endpoint)
            }
            Question::Declared(_) | Question::AnswersAtAll => None,
        })
        .collect();
    if reading.is_empty() {
        return None;
    }
    let client = http::client(ANSWER_WITHIN).ok()?;
    let started = Instant::now();
    let mut samples = Vec::with_capacity(SAMPLES);
    for endpoint in reading.into_iter().cycle().take(SAMPLES) {
        if started.elapsed() > SAMPLE_WITHIN {
            return None;
        }
        let asked = Instant::now();
        let answer = client
            .get(format!("{base_url}{}", endpoint.path))
            .send()
            .await
            .ok()?;
        body(answer).await;
        samples.push(asked.elapsed().as_secs_f64() * 1000.0);
    }
    samples.sort_by(f64::total_cmp);
    // Nearest rank: the value that 95 % of the samples do not exceed.
    let rank = (samples.len() * 95).div_ceil(100);
    samples.get(rank.checked_sub(1)?).copied()
}
