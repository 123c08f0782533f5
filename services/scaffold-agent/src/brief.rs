//! What a task asks, read from the wire and checked: every wrong field is named at once. Knows no repository and
//! no generator.

use std::collections::BTreeMap;

use contracts::{
    error::Error,
    parse::{Fields, REQUIREMENTS_BYTES},
    scaffold::{ScaffoldAction, ScaffoldTask},
    task::{Finding, TaskContext},
};

use crate::{template::Subject, text};

/// Most bytes of a description, and of a feature and its like.
const LINE_BYTES: usize = 1024;
/// Most features.
const FEATURE_COUNT: usize = 64;
/// Most languages and frameworks, and most patterns.
const WISH_COUNT: usize = 32;
/// Most findings to repair.
const FINDING_COUNT: usize = 200;
/// Most parameters of a template.
const PARAMETER_COUNT: usize = 64;
/// Most bytes of a workflow id.
const KEY_BYTES: usize = 64;

/// What is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A new project.
    Generate,
    /// A feature.
    Implement,
    /// A bug fix.
    Fix,
    /// What a later stage found.
    Repair,
}

impl Action {
    /// The action in a sentence.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Implement => "implement",
            Self::Fix => "fix",
            Self::Repair => "repair",
        }
    }
}

/// A task, checked.
#[derive(Debug, Clone)]
pub struct Brief {
    /// What is to be written.
    pub action: Action,
    /// What it is about.
    pub subject: Subject,
    /// Kind of project. May be empty.
    pub project_kind: String,
    /// Languages and frameworks wanted.
    pub tech_stack: Vec<String>,
    /// Patterns wanted.
    pub patterns: Vec<String>,
    /// What is to be repaired.
    pub findings: Vec<Finding>,
    /// What was asked and answered since: question and answer.
    pub clarifications: Vec<(String, String)>,
    /// Template asked for.
    pub template: Option<String>,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// Generator asked for.
    pub generator: Option<String>,
    /// Names the branch, and the repository that is made: the workflow, or the task where there is none.
    pub key: String,
}

impl Brief {
    /// Reads a task.
    pub fn parse(context: &TaskContext, task: &ScaffoldTask) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let action = match fields.known_enum("task.action", task.action) {
            ScaffoldAction::Unspecified | ScaffoldAction::Generate => Action::Generate,
            ScaffoldAction::Implement => Action::Implement,
            ScaffoldAction::Fix => Action::Fix,
            ScaffoldAction::Repair => Action::Repair,
        };
        let name = name(&mut fields, context, task);
        fields.text("task.description", &task.description, LINE_BYTES);
        fields.text("task.requirements", &task.requirements, REQUIREMENTS_BYTES);
        fields.text("task.project_kind", &task.project_kind, LINE_BYTES);
        for (field, lines, most) in [
            ("task.features", &task.features, FEATURE_COUNT),
            ("task.tech_stack", &task.tech_stack, WISH_COUNT),
            ("task.patterns", &task.patterns, WISH_COUNT),
        ] {
            check_count(&mut fields, field, lines.len(), most);
            for (index, line) in lines.iter().take(most).enumerate() {
                fields.text(&format!("{field}[{index}]"), line, LINE_BYTES);
            }
        }
        check_count(
            &mut fields,
            "task.findings",
            task.findings.len(),
            FINDING_COUNT,
        );
        let parameters = &task.template_parameters;
        check_count(
            &mut fields,
            "task.template_parameters",
            parameters.len(),
            PARAMETER_COUNT,
        );
        let key = key(&mut fields, context);
        let asked = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let lines = |lines: &[String]| lines.iter().map(|line| text::clean_line(line)).collect();
        fields.finish(Self {
            action,
            subject: Subject::new(&name, &task.description, &task.requirements, &task.features),
            project_kind: text::clean_line(&task.project_kind),
            tech_stack: lines(&task.tech_stack),
            patterns: lines(&task.patterns),
            findings: task.findings.clone(),
            clarifications: context
                .clarifications
                .iter()
                .map(|told| {
                    let line = |text: &str| text::clean_line(text);
                    (line(&told.question), line(&told.answer))
                })
                .collect(),
            template: asked(&task.template),
            parameters: parameters.clone().into_iter().collect(),
            generator: asked(&task.generator),
            key,
        })
    }
}

fn name(fields: &mut Fields, context: &TaskContext, task: &ScaffoldTask) -> String {
    if !task.name.is_empty() {
        fields.slug("task.name", &task.name);
        return task.name.clone();
    }
    let fallback = if context.workflow_name.is_empty() {
        Some("app".to_owned())
    } else {
        text::slug(&context.workflow_name)
    };
    fallback.unwrap_or_else(|| {
        fields.wrong(
            "task.name",
            "is required: the workflow's name has no letter from a to z to make one from",
        );
        String::new()
    })
}

/// It becomes part of a branch's name and of a folder's.
fn key(fields: &mut Fields, context: &TaskContext) -> String {
    let (field, key) = if context.workflow_id.is_empty() {
        ("context.task_id", &context.task_id)
    } else {
        ("context.workflow_id", &context.workflow_id)
    };
    let sound = (1..=KEY_BYTES).contains(&key.len())
        && key.starts_with(|first: char| first.is_ascii_alphanumeric())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !sound {
        fields.wrong(
            field,
            format!(
                "is not 1 to {KEY_BYTES} letters, digits, '-' and '_', a letter or digit first"
            ),
        );
    }
    key.clone()
}

fn check_count(fields: &mut Fields, field: &str, count: usize, most: usize) {
    if count > most {
        fields.wrong(field, format!("has {count} entries, at most {most}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> TaskContext {
        TaskContext {
            workflow_id: "w-1".to_owned(),
            task_id: "t-1".to_owned(),
            workflow_name: "My Shop!".to_owned(),
            ..TaskContext::default()
        }
    }

    fn wrong(context: &TaskContext, task: &ScaffoldTask) -> Vec<String> {
        let error = Brief::parse(context, task).expect_err("it is taken");
        error.fields.into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn what_is_left_out_comes_from_the_workflow() {
        let brief = Brief::parse(&context(), &ScaffoldTask::default()).unwrap();
        assert_eq!(brief.action, Action::Generate);
        assert_eq!(brief.subject.name, "my-shop");
        assert_eq!(brief.key, "w-1");
        assert_eq!((brief.template, brief.generator), (None, None));

        let alone = TaskContext {
            task_id: "t-1".to_owned(),
            ..TaskContext::default()
        };
        let brief = Brief::parse(&alone, &ScaffoldTask::default()).unwrap();
        assert_eq!(
            (brief.subject.name.as_str(), brief.key.as_str()),
            ("app", "t-1")
        );
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let task = ScaffoldTask {
            action: 77,
            name: "My Shop".to_owned(),
            description: "x".repeat(1025),
            requirements: "x".repeat(64 * 1024 + 1),
            features: vec!["x".repeat(1025); 65],
            patterns: vec![String::new(); 33],
            ..ScaffoldTask::default()
        };
        let fields = wrong(&context(), &task);
        for field in [
            "task.action",
            "task.name",
            "task.description",
            "task.requirements",
            "task.features",
            "task.features[63]",
            "task.patterns",
        ] {
            assert!(fields.contains(&field.to_owned()), "{field}: {fields:?}");
        }
    }

    #[test]
    fn a_name_that_could_leave_its_place_is_refused() {
        for name in [
            "../x",
            "a/b",
            "A",
            "a b",
            "a\n",
            "-a",
            "a\"",
            &"a".repeat(64),
        ] {
            let task = ScaffoldTask {
                name: name.to_owned(),
                ..ScaffoldTask::default()
            };
            assert_eq!(wrong(&context(), &task), ["task.name"], "{name:?}");
        }
        let nameless = TaskContext {
            workflow_name: "日本".to_owned(),
            ..context()
        };
        assert_eq!(wrong(&nameless, &ScaffoldTask::default()), ["task.name"]);
    }

    #[test]
    fn an_id_that_cannot_name_a_branch_is_refused() {
        for id in [
            "../../x",
            "a b",
            "a..b",
            "-x",
            "a~1",
            "x.lock",
            &"a".repeat(65),
        ] {
            let context = TaskContext {
                workflow_id: id.to_owned(),
                ..context()
            };
            let fields = wrong(&context, &ScaffoldTask::default());
            assert_eq!(fields, ["context.workflow_id"], "{id:?}");
        }
    }
}
