//! The tools that a model may call, and how a call is read. A call that is wrong is answered with what would be
//! right, like any other result.

use agent_runtime::repository::TreePath;
use contracts::task::{AnswerKind, ClarificationRequest};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    ledger::{Entry, Ledger},
    workbench::{Refusal, Workbench},
};
use crate::{
    generator::Error,
    model::{Call, Tool},
    text,
};

/// Bounds of a question (task.proto).
const QUESTION_BYTES: usize = 4096;
const CHOICES: usize = 16;
const CHOICE_BYTES: usize = 256;

/// What came of a call.
pub(super) enum Outcome {
    /// The work goes on.
    Went(Entry),
    /// The model says that it is done.
    Finished(Finish),
    /// The model must know something first.
    Asked(ClarificationRequest),
}

/// What a model says at the end.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Finish {
    /// What it understood.
    pub(super) analysis: String,
    /// One sentence: what was done.
    pub(super) summary: String,
    /// How sure it is, 0 to 1.
    pub(super) confidence: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    path: String,
    old: String,
    new: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Write {
    path: String,
    content: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    question: String,
    kind: String,
    choices: Vec<String>,
}

/// All of them. Who asked often enough cannot ask again.
pub(super) fn all(may_ask: bool) -> Vec<Tool> {
    let mut tools = works();
    if may_ask {
        tools.push(tool(
            "ask",
            "Asks whoever wanted the work, where two answers lead to different work and nothing says which. What you did is kept, and you go on with the answer.",
            &json!({
                "question": {"type": "string", "description": "One question, complete in itself"},
                "kind": {"enum": ["text", "choice", "yes_no", "number"]},
                "choices": {"type": "array", "items": {"type": "string"}, "description": "2 to 16 for `choice`, else empty"},
            }),
        ));
    }
    tools
}

fn works() -> Vec<Tool> {
    let path = json!({"type": "string", "description": "Path from the root of the repository"});
    vec![
        tool(
            "read",
            "Opens a file; it stays open and is shown as it is now.",
            &json!({"path": path}),
        ),
        tool(
            "search",
            "Finds lines that contain a text, in all files.",
            &json!({"text": {"type": "string"}}),
        ),
        tool(
            "edit",
            "Replaces a text that is in the file exactly once.",
            &json!({"path": path, "old": {"type": "string"}, "new": {"type": "string"}}),
        ),
        tool(
            "write",
            "Makes a file, or replaces its whole content.",
            &json!({"path": path, "content": {"type": "string"}}),
        ),
        tool("delete", "Removes a file.", &json!({"path": path})),
        tool(
            "done",
            "Ends the work.",
            &json!({
                "analysis": {"type": "string", "description": "What was asked, as you understood it"},
                "summary": {"type": "string", "description": "One sentence: what was done"},
                "confidence": {"type": "number", "description": "How sure you are that it is right, 0 to 1"},
            }),
        ),
    ]
}

fn tool(name: &str, description: &str, properties: &Value) -> Tool {
    let required: Vec<&String> = properties
        .as_object()
        .into_iter()
        .flat_map(serde_json::Map::keys)
        .collect();
    Tool {
        name: name.to_owned(),
        description: description.to_owned(),
        input_schema: json!({
            "type": "object",
            "required": required,
            "properties": properties,
            "additionalProperties": false,
        }),
    }
}

/// Carries out a call.
pub(super) async fn call(
    bench: &mut Workbench<'_>,
    ledger: &mut Ledger,
    call: Call,
    may_ask: bool,
) -> Result<Outcome, Error> {
    let tool = call.tool.clone();
    let went = match &*tool {
        "read" => read(bench, ledger, call).await?,
        "search" => search(bench, call).await?,
        "edit" => edit(bench, ledger, call).await?,
        "write" => write(bench, call).await?,
        "delete" => delete(bench, call),
        "done" => match input::<Finish>(call) {
            Ok(finish) => return Ok(Outcome::Finished(checked(&finish))),
            Err(refusal) => Err(refusal),
        },
        "ask" if may_ask => match input::<Ask>(call).and_then(|ask| question(&ask)) {
            Ok(question) => return Ok(Outcome::Asked(question)),
            Err(refusal) => Err(refusal),
        },
        other => {
            let names: Vec<String> = all(may_ask).into_iter().map(|tool| tool.name).collect();
            let other: String = other.chars().take(64).collect();
            Err(format!(
                "there is no tool `{other}`, only {}",
                names.join(", ")
            ))
        }
    };
    Ok(Outcome::Went(went.unwrap_or_else(|refusal| Entry {
        line: text::clean_line(&format!("{tool}: refused")),
        detail: refusal,
    })))
}

async fn read(
    bench: &Workbench<'_>,
    ledger: &mut Ledger,
    call: Call,
) -> Result<Result<Entry, Refusal>, Error> {
    let path = match input::<Place>(call).and_then(|place| confined(&place.path)) {
        Ok(path) => path,
        Err(refusal) => return Ok(Err(refusal)),
    };
    Ok(bench.read(&path).await?.map(|text| {
        let line = format!("read {path}: {} lines", text.lines().count());
        open(ledger, path);
        plain(line)
    }))
}

/// The latest is the last, and each is there once.
fn open(ledger: &mut Ledger, path: TreePath) {
    ledger.open.retain(|other| *other != path);
    ledger.open.push(path);
}

async fn search(bench: &Workbench<'_>, call: Call) -> Result<Result<Entry, Refusal>, Error> {
    let wanted = match input::<Search>(call) {
        Ok(search) if !search.text.is_empty() && !search.text.contains('\n') => search.text,
        Ok(_) => return Ok(Err("`text` is one line that is not empty".to_owned())),
        Err(refusal) => return Ok(Err(refusal)),
    };
    let found = bench.search(&wanted).await?;
    let shown: String = text::clean_line(&wanted).chars().take(80).collect();
    Ok(Ok(Entry {
        line: format!("search `{shown}`: {} lines", found.len()),
        detail: found.join("\n"),
    }))
}

async fn edit(
    bench: &mut Workbench<'_>,
    ledger: &mut Ledger,
    call: Call,
) -> Result<Result<Entry, Refusal>, Error> {
    let parsed = input::<Edit>(call).and_then(|edit| Ok((confined(&edit.path)?, edit)));
    let (path, edit) = match parsed {
        Ok(parsed) => parsed,
        Err(refusal) => return Ok(Err(refusal)),
    };
    Ok(bench.edit(&path, &edit.old, &edit.new).await?.map(|line| {
        let entry = plain(format!("edit {path}: line {line}"));
        open(ledger, path);
        entry
    }))
}

async fn write(bench: &mut Workbench<'_>, call: Call) -> Result<Result<Entry, Refusal>, Error> {
    let parsed = input::<Write>(call).and_then(|write| Ok((confined(&write.path)?, write)));
    let (path, write) = match parsed {
        Ok(parsed) => parsed,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let lines = write.content.lines().count();
    Ok(bench.write(&path, write.content).await?.map(|is_new| {
        let how = if is_new { "new" } else { "replaced" };
        plain(format!("write {path}: {how}, {lines} lines"))
    }))
}

fn delete(bench: &mut Workbench<'_>, call: Call) -> Result<Entry, Refusal> {
    let path = confined(&input::<Place>(call)?.path)?;
    bench.delete(&path)?;
    Ok(plain(format!("delete {path}")))
}

fn question(ask: &Ask) -> Result<ClarificationRequest, Refusal> {
    let question = text::clean_lines(&ask.question).trim().to_owned();
    if !(1..=QUESTION_BYTES).contains(&question.len()) {
        return Err(format!("`question` has 1 to {QUESTION_BYTES} bytes"));
    }
    let kind = match ask.kind.as_str() {
        "text" => AnswerKind::Text,
        "choice" => AnswerKind::Choice,
        "yes_no" => AnswerKind::YesNo,
        "number" => AnswerKind::Number,
        _ => return Err("`kind` is text, choice, yes_no or number".to_owned()),
    };
    let choices: Vec<String> = ask
        .choices
        .iter()
        .map(|choice| text::clean_line(choice))
        .collect();
    let sound = |choice: &String| (1..=CHOICE_BYTES).contains(&choice.len());
    let fits = match kind {
        AnswerKind::Choice => (2..=CHOICES).contains(&choices.len()) && choices.iter().all(sound),
        AnswerKind::Unspecified | AnswerKind::Text | AnswerKind::YesNo | AnswerKind::Number => {
            choices.is_empty()
        }
    };
    if !fits {
        return Err(format!(
            "`choices` are 2 to {CHOICES} of 1 to {CHOICE_BYTES} bytes for `choice`, and none else"
        ));
    }
    Ok(ClarificationRequest {
        question,
        kind: kind.into(),
        choices,
    })
}

fn plain(line: String) -> Entry {
    Entry {
        line,
        detail: String::new(),
    }
}

fn input<T: DeserializeOwned>(call: Call) -> Result<T, Refusal> {
    serde_json::from_value(call.input)
        .map_err(|error| format!("the input of `{}` is wrong: {error}", call.tool))
}

fn confined(path: &str) -> Result<TreePath, Refusal> {
    TreePath::parse(path).map_err(|error| error.to_string())
}

fn checked(finish: &Finish) -> Finish {
    let confidence = if finish.confidence.is_finite() {
        finish.confidence.clamp(0.0, 1.0)
    } else {
        0.0
    };
    Finish {
        analysis: text::clean_lines(&finish.analysis),
        summary: text::clean_line(&finish.summary),
        confidence,
    }
}
