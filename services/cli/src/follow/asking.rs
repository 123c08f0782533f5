//! Puts open questions to the person while the workflow goes on, one at a time, and takes a
//! question back that somebody else answered first.

use std::collections::HashSet;

use contracts::orchestrator::{
    AnswerClarificationRequest, Clarification, ListClarificationsRequest, ResolveDecisionRequest,
};
use contracts::task::{AnswerKind, DecisionRequest};

use crate::error::Error;
use crate::input::Input;
use crate::mesh::{Mesh, call};
use crate::output::{Output, clean};
use crate::progress::Progress;
use crate::question::{self, Answer};
use crate::request_id;
use crate::view::View;

/// The open question, and those that were put before.
pub struct Asking {
    actor: String,
    open: Option<Question>,
    put: HashSet<String>,
}

enum Question {
    Decision {
        id: String,
        request: Box<DecisionRequest>,
    },
    Clarification(Box<Clarification>),
}

impl Question {
    fn id(&self) -> &str {
        match self {
            Self::Decision { id, .. } => id,
            Self::Clarification(clarification) => &clarification.clarification_id,
        }
    }

    fn prompt(&self) -> String {
        match self {
            Self::Decision { request, .. } => question::decision_prompt(request),
            Self::Clarification(asked) => {
                question::clarification_prompt(asked.kind(), &asked.choices)
            }
        }
    }
}

impl Asking {
    /// Nothing was asked yet.
    pub fn new(actor: String) -> Self {
        Self {
            actor,
            open: None,
            put: HashSet::new(),
        }
    }

    /// A question waits for its answer.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Looks at what is open now.
    pub async fn update(
        &mut self,
        progress: &Progress,
        mesh: &Mesh,
        view: &View<'_>,
        output: &Output,
        input: &Input,
    ) {
        if let Some(question) = &self.open {
            let id = question.id();
            if progress.decisions.contains_key(id) || progress.clarifications.contains_key(id) {
                return;
            }
            output.notice("");
            output.notice("answered elsewhere");
            self.close(view);
        }
        let decision = progress
            .decisions
            .iter()
            .find(|(id, _)| !self.put.contains(*id));
        if let Some((id, open)) = decision {
            self.put.insert(id.clone());
            view.make_room(true);
            for line in question::decision(id, &open.stage, &open.request, output.painter()) {
                output.notice(line);
            }
            let question = Question::Decision {
                id: id.clone(),
                request: Box::new(open.request.clone()),
            };
            let commands = question::decision_commands(id, &open.request);
            self.put_question(question, &commands, view, output, input);
            return;
        }
        let clarification = progress
            .clarifications
            .iter()
            .find(|(id, _)| !self.put.contains(*id));
        if let Some((id, text)) = clarification {
            self.put.insert(id.clone());
            let asked = full(mesh, progress, id, text).await;
            view.make_room(true);
            output.notice(clarification_line(text));
            let command = clarification_command(id);
            self.put_question(
                Question::Clarification(Box::new(asked)),
                &[command],
                view,
                output,
                input,
            );
        }
    }

    fn put_question(
        &mut self,
        question: Question,
        commands: &[String],
        view: &View<'_>,
        output: &Output,
        input: &Input,
    ) {
        if input.is_allowed() && !output.is_json() {
            output.ask(question.prompt());
            self.open = Some(question);
        } else {
            for command in commands {
                output.notice(format!("  {command}"));
            }
            view.make_room(false);
        }
    }

    /// Takes a typed line. `None`: the person closed the input.
    pub async fn answer(
        &mut self,
        line: Option<String>,
        mesh: &Mesh,
        view: &View<'_>,
        output: &Output,
    ) {
        let Some(question) = &self.open else { return };
        let Some(line) = line else {
            self.close(view);
            return;
        };
        let said = match question {
            Question::Decision { id, request } => self.decide(id, request, &line, mesh).await,
            Question::Clarification(asked) => self.clarify(asked, &line, mesh).await,
        };
        match said {
            Ok(()) => self.close(view),
            Err(problem) => {
                output.notice(clean(&problem));
                output.ask(question.prompt());
            }
        }
    }

    async fn decide(
        &self,
        id: &str,
        request: &DecisionRequest,
        line: &str,
        mesh: &Mesh,
    ) -> Result<(), String> {
        let Answer::Resolve {
            resolution,
            choice,
            rationale,
        } = question::read_decision(line, request)?
        else {
            return Ok(());
        };
        let answer = ResolveDecisionRequest {
            request_id: request_id::fresh(),
            decision_id: id.to_owned(),
            subject_digest: request.subject_digest.clone(),
            resolution: resolution.into(),
            choice,
            rationale,
            actor: self.actor.clone(),
        };
        call!(mesh, decisions.resolve_decision(answer))
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    async fn clarify(&self, asked: &Clarification, line: &str, mesh: &Mesh) -> Result<(), String> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let answer = AnswerClarificationRequest {
            request_id: request_id::fresh(),
            clarification_id: asked.clarification_id.clone(),
            answer: line.trim().to_owned(),
            actor: self.actor.clone(),
        };
        call!(mesh, clarifications.answer_clarification(answer))
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    fn close(&mut self, view: &View<'_>) {
        self.open = None;
        view.make_room(false);
    }
}

// The event has only the question; what may be answered is in the clarification itself.
async fn full(mesh: &Mesh, progress: &Progress, id: &str, text: &str) -> Clarification {
    let request = ListClarificationsRequest {
        page_size: 1000,
        workflow_id: progress.workflow.workflow_id.clone(),
        ..ListClarificationsRequest::default()
    };
    let listed: Result<_, Error> = call!(mesh, clarifications.list_clarifications(request));
    listed
        .ok()
        .and_then(|listed| {
            listed
                .clarifications
                .into_iter()
                .find(|clarification| clarification.clarification_id == id)
        })
        .unwrap_or_else(|| Clarification {
            clarification_id: id.to_owned(),
            question: text.to_owned(),
            kind: AnswerKind::Text.into(),
            ..Clarification::default()
        })
}

/// How a clarification is shown.
pub fn clarification_line(question: &str) -> String {
    format!("question: {}", clean(question))
}

/// The command that answers it.
pub fn clarification_command(id: &str) -> String {
    format!("agentic answer {} '…'", clean(id))
}
