//! Questions to a person: how a decision is shown, what an answer means, and the commands that
//! answer it from elsewhere. Pure.

use contracts::task::{AnswerKind, DecisionRequest, Resolution};

use crate::output::{Paint, Painter, clean, clean_text};
use crate::words;

// More than a screen helps nobody; the whole is one command away.
const DETAIL_LINES: usize = 60;

/// What a person answered to a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Resolve it.
    Resolve {
        /// How.
        resolution: Resolution,
        /// Which of the offered choices.
        choice: String,
        /// Why.
        rationale: String,
    },
    /// Leave it open.
    Later,
}

/// A decision as it is shown.
pub fn decision(id: &str, stage: &str, request: &DecisionRequest, painter: Painter) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {} ({}): {}",
        painter.paint(Paint::Doubt, "decision"),
        clean(stage),
        words::category(request.category()),
        painter.paint(Paint::Strong, &clean(&request.question)),
    )];
    let detail = clean_text(&request.detail);
    let all: Vec<_> = detail.lines().collect();
    lines.extend(
        all.iter()
            .take(DETAIL_LINES)
            .map(|line| format!("  {line}")),
    );
    if all.len() > DETAIL_LINES {
        lines.push(format!(
            "  … {} more lines: agentic decisions show {}",
            all.len() - DETAIL_LINES,
            clean(id)
        ));
    }
    if request.confidence > 0.0 {
        lines.push(format!("  confidence {:.2}", request.confidence));
    }
    if !request.choices.is_empty() {
        lines.push(format!("  choices: {}", choices(request).join(", ")));
    }
    lines
}

/// The commands that answer a decision.
pub fn decision_commands(id: &str, request: &DecisionRequest) -> Vec<String> {
    let digest = if request.subject_digest.is_empty() {
        String::new()
    } else {
        format!(" --digest {}", clean(&request.subject_digest))
    };
    let choice = choices(request)
        .first()
        .map_or_else(String::new, |choice| format!(" --choice {choice}"));
    let id = clean(id);
    vec![
        format!("agentic approve {id}{digest}{choice}"),
        format!("agentic reject {id}{digest} --reason '…'"),
    ]
}

/// What may be typed.
pub fn decision_prompt(request: &DecisionRequest) -> String {
    if request.choices.is_empty() {
        "approve, reject or revise [reason], or later: ".to_owned()
    } else {
        format!(
            "approve {}, reject or revise [reason], or later: ",
            choices(request).join("|")
        )
    }
}

/// What a typed line means.
pub fn read_decision(line: &str, request: &DecisionRequest) -> Result<Answer, String> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let word = word.to_lowercase();
    let resolve = |resolution, choice: &str, rationale: &str| {
        Ok(Answer::Resolve {
            resolution,
            choice: choice.to_owned(),
            rationale: rationale.to_owned(),
        })
    };
    match word.as_str() {
        "l" | "later" => Ok(Answer::Later),
        "a" | "approve" | "y" | "yes" => {
            if request.choices.is_empty() {
                return resolve(Resolution::Approve, "", rest);
            }
            let (choice, reason) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            if request.choices.iter().any(|offered| offered == choice) {
                resolve(Resolution::Approve, choice, reason.trim())
            } else {
                Err(format!("say which: approve {}", choices(request).join("|")))
            }
        }
        "r" | "reject" | "n" | "no" => resolve(Resolution::Reject, "", rest),
        "v" | "revise" if rest.is_empty() => {
            Err("say what to do differently: revise <reason>".to_owned())
        }
        "v" | "revise" => resolve(Resolution::Revise, "", rest),
        _ => Err("answer with approve, reject, revise or later".to_owned()),
    }
}

/// What may be typed to answer a clarification.
pub fn clarification_prompt(kind: AnswerKind, choices: &[String]) -> String {
    match kind {
        AnswerKind::Unspecified | AnswerKind::Text => "answer (empty: later): ".to_owned(),
        AnswerKind::Choice => {
            let choices: Vec<_> = choices.iter().map(|choice| clean(choice)).collect();
            format!("{} (empty: later): ", choices.join(" | "))
        }
        AnswerKind::YesNo => "yes or no (empty: later): ".to_owned(),
        AnswerKind::Number => "number (empty: later): ".to_owned(),
    }
}

fn choices(request: &DecisionRequest) -> Vec<String> {
    request.choices.iter().map(|choice| clean(choice)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> DecisionRequest {
        DecisionRequest {
            question: "Deploy to production?".into(),
            subject_digest: "sha256:ab".into(),
            ..DecisionRequest::default()
        }
    }

    fn offering() -> DecisionRequest {
        DecisionRequest {
            choices: vec!["ours".into(), "theirs".into()],
            ..plain()
        }
    }

    #[test]
    fn answers_are_read_in_words_and_letters() {
        let resolve = |resolution, rationale: &str| {
            Ok(Answer::Resolve {
                resolution,
                choice: String::new(),
                rationale: rationale.into(),
            })
        };
        let read = |line| read_decision(line, &plain());
        assert_eq!(read("a"), resolve(Resolution::Approve, ""));
        assert_eq!(
            read(" Approve looks good "),
            resolve(Resolution::Approve, "looks good")
        );
        assert_eq!(read("r too late"), resolve(Resolution::Reject, "too late"));
        assert_eq!(read("v use v2"), resolve(Resolution::Revise, "use v2"));
        assert_eq!(read("later"), Ok(Answer::Later));
        for unclear in ["", "v", "revise ", "approved", "x", "a\u{0}b"] {
            assert!(read(unclear).is_err(), "{unclear:?}");
        }
    }

    #[test]
    fn a_choice_must_be_one_of_those_offered() {
        assert!(read_decision("a", &offering()).is_err());
        assert!(read_decision("a mine", &offering()).is_err());
        assert_eq!(
            read_decision("a theirs newer", &offering()),
            Ok(Answer::Resolve {
                resolution: Resolution::Approve,
                choice: "theirs".into(),
                rationale: "newer".into(),
            })
        );
    }

    #[test]
    fn the_commands_are_bound_to_what_was_shown() {
        let commands = decision_commands("d1", &offering());
        assert_eq!(
            commands[0],
            "agentic approve d1 --digest sha256:ab --choice ours"
        );
        assert_eq!(
            commands[1],
            "agentic reject d1 --digest sha256:ab --reason '…'"
        );
    }

    #[test]
    fn a_long_detail_is_cut_and_says_where_the_rest_is() {
        let request = DecisionRequest {
            detail: "line\u{1b}[2J\n".repeat(500),
            ..plain()
        };
        let shown = decision("d1", "deployment", &request, Painter::new(false));
        assert!(shown.len() < 70);
        assert!(
            shown
                .last()
                .unwrap()
                .contains("440 more lines: agentic decisions show d1")
        );
        assert!(!shown.iter().any(|line| line.contains('\u{1b}')));
    }
}
