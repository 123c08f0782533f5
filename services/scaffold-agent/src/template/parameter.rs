//! Typed parameters of templates: what a manifest may declare, and what a task may then say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most characters of a text parameter that declares no bound of its own.
const TEXT_LENGTH: u32 = 200;
/// Most choices.
const CHOICE_COUNT: usize = 64;

/// A declared parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// For people.
    pub description: String,
    /// What values it takes.
    pub kind: Kind,
    /// What it is when a task does not say. `None`: a task must say.
    pub default: Option<Value>,
}

/// What values a parameter takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One line of text.
    String {
        /// Fewest characters.
        shortest: u32,
        /// Most characters.
        longest: u32,
    },
    /// A whole number.
    Integer {
        /// Smallest.
        minimum: i64,
        /// Largest.
        maximum: i64,
    },
    /// Yes or no.
    Boolean,
    /// One of these.
    Choice(Vec<String>),
}

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Of a text or a choice.
    Text(String),
    /// Of a whole number.
    Integer(i64),
    /// Of yes or no.
    Boolean(bool),
}

/// A parameter that a task gave, or left out, wrongly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parameter {name}: {problem}")]
pub struct InvalidParameter {
    /// Which one.
    pub name: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// A parameter as manifests write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawParameter {
    #[serde(rename = "type")]
    kind: RawKind,
    #[serde(default)]
    description: String,
    minimum: Option<i64>,
    maximum: Option<i64>,
    min_length: Option<u32>,
    max_length: Option<u32>,
    choices: Option<Vec<String>>,
    default: Option<RawValue>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawKind {
    String,
    Integer,
    Boolean,
    Choice,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawValue {
    Boolean(bool),
    Integer(i64),
    Text(String),
}

impl RawParameter {
    /// Checks the declaration; the error says what is wrong with it.
    pub(super) fn check(self) -> Result<Parameter, String> {
        self.refuse_foreign_bounds()?;
        let kind = match self.kind {
            RawKind::Boolean => Kind::Boolean,
            RawKind::Choice => Kind::Choice(check_choices(self.choices)?),
            RawKind::Integer => {
                let minimum = self.minimum.unwrap_or(i64::MIN);
                let maximum = self.maximum.unwrap_or(i64::MAX);
                if minimum > maximum {
                    return Err(format!("minimum {minimum} is above maximum {maximum}"));
                }
                Kind::Integer { minimum, maximum }
            }
            RawKind::String => {
                let shortest = self.min_length.unwrap_or(0);
                let longest = self.max_length.unwrap_or(TEXT_LENGTH.max(shortest));
                if shortest > longest {
                    return Err(format!(
                        "min_length {shortest} is above max_length {longest}"
                    ));
                }
                Kind::String { shortest, longest }
            }
        };
        let default = match self.default {
            None => None,
            Some(raw) => Some(
                kind.check(raw)
                    .map_err(|problem| format!("its default {problem}"))?,
            ),
        };
        Ok(Parameter {
            description: self.description,
            kind,
            default,
        })
    }

    fn refuse_foreign_bounds(&self) -> Result<(), String> {
        let of_integers = self.minimum.is_some() || self.maximum.is_some();
        let of_strings = self.min_length.is_some() || self.max_length.is_some();
        let kind = self.kind;
        for (foreign, keys) in [
            (
                of_integers && kind != RawKind::Integer,
                "minimum and maximum are for integers",
            ),
            (
                of_strings && kind != RawKind::String,
                "min_length and max_length are for strings",
            ),
            (
                self.choices.is_some() && kind != RawKind::Choice,
                "choices are for type choice",
            ),
        ] {
            if foreign {
                return Err(keys.to_owned());
            }
        }
        Ok(())
    }
}

fn check_choices(choices: Option<Vec<String>>) -> Result<Vec<String>, String> {
    let choices = choices.ok_or("type choice needs choices")?;
    if choices.is_empty() || choices.len() > CHOICE_COUNT {
        return Err(format!(
            "has {} choices, not 1 to {CHOICE_COUNT}",
            choices.len()
        ));
    }
    for (index, choice) in choices.iter().enumerate() {
        if choice.is_empty() || choice.chars().any(char::is_control) {
            return Err(format!(
                "choice {choice:?} is empty or holds control characters"
            ));
        }
        if choices[..index].contains(choice) {
            return Err(format!("choice {choice:?} is there twice"));
        }
    }
    Ok(choices)
}

impl Kind {
    fn check(&self, raw: RawValue) -> Result<Value, String> {
        match (self, raw) {
            (Self::Boolean, RawValue::Boolean(value)) => Ok(Value::Boolean(value)),
            (Self::Integer { .. }, RawValue::Integer(value)) => self.check_integer(value),
            (Self::String { .. } | Self::Choice(_), RawValue::Text(value)) => self.parse(&value),
            (_, RawValue::Boolean(value)) => Err(format!("{value} is not {}", self.phrase())),
            (_, RawValue::Integer(value)) => Err(format!("{value} is not {}", self.phrase())),
            (_, RawValue::Text(value)) => Err(format!("{value:?} is not {}", self.phrase())),
        }
    }

    /// Reads a value as tasks write it; the error says what would be right.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let wrong = || Err(format!("{text:?} is not {}", self.phrase()));
        match self {
            Self::Boolean => match text {
                "true" => Ok(Value::Boolean(true)),
                "false" => Ok(Value::Boolean(false)),
                _ => wrong(),
            },
            Self::Integer { .. } => match text.parse() {
                Ok(value) => self.check_integer(value),
                Err(_) => wrong(),
            },
            Self::Choice(choices) if choices.iter().any(|choice| choice == text) => {
                Ok(Value::Text(text.to_owned()))
            }
            Self::Choice(_) => wrong(),
            Self::String { shortest, longest } => {
                let count = text.chars().count();
                if count < *shortest as usize || count > *longest as usize {
                    Err(format!(
                        "has {count} characters, not {shortest} to {longest}"
                    ))
                } else if text.chars().any(char::is_control) {
                    Err("holds control characters".to_owned())
                } else {
                    Ok(Value::Text(text.to_owned()))
                }
            }
        }
    }

    fn check_integer(&self, value: i64) -> Result<Value, String> {
        if let Self::Integer { minimum, maximum } = self
            && (*minimum..=*maximum).contains(&value)
        {
            return Ok(Value::Integer(value));
        }
        Err(format!("{value} is not {}", self.phrase()))
    }

    /// What the values are, for messages.
    pub fn phrase(&self) -> String {
        match self {
            Self::String { shortest, longest } => {
                format!("one line of {shortest} to {longest} characters")
            }
            Self::Integer {
                minimum: i64::MIN,
                maximum: i64::MAX,
            } => "a whole number".to_owned(),
            Self::Integer { minimum, maximum } => {
                format!("a whole number from {minimum} to {maximum}")
            }
            Self::Boolean => "true or false".to_owned(),
            Self::Choice(choices) => format!("one of {}", choices.join(", ")),
        }
    }

    /// Some value that the kind takes, to try a template with.
    pub(super) fn sample(&self) -> Value {
        match self {
            Self::String { shortest, .. } => Value::Text("x".repeat(*shortest as usize)),
            Self::Integer { minimum, maximum } => Value::Integer(0.clamp(*minimum, *maximum)),
            Self::Boolean => Value::Boolean(true),
            Self::Choice(choices) => Value::Text(choices.first().cloned().unwrap_or_default()),
        }
    }
}

/// Fills in what a task says, and the defaults for the rest. Names everything that is wrong.
pub(super) fn resolve<'a>(
    declared: &BTreeMap<String, Parameter>,
    given: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<BTreeMap<String, Value>, Vec<InvalidParameter>> {
    let mut values = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, text) in given {
        let parsed = match declared.get(name) {
            Some(parameter) => parameter.kind.parse(text),
            None => Err(unknown(name, declared)),
        };
        match parsed {
            Ok(value) => {
                values.insert(name.clone(), value);
            }
            Err(problem) => wrong.push(InvalidParameter {
                name: name.clone(),
                problem,
            }),
        }
    }
    for (name, parameter) in declared {
        if values.contains_key(name) || wrong.iter().any(|wrong| wrong.name == *name) {
            continue;
        }
        match &parameter.default {
            Some(default) => {
                values.insert(name.clone(), default.clone());
            }
            None => wrong.push(InvalidParameter {
                name: name.clone(),
                problem: format!("is required: {}", parameter.kind.phrase()),
            }),
        }
    }
    wrong.sort_by(|a, b| a.name.cmp(&b.name));
    if wrong.is_empty() {
        Ok(values)
    } else {
        Err(wrong)
    }
}

fn unknown(name: &str, declared: &BTreeMap<String, Parameter>) -> String {
    let names = || declared.keys().map(String::as_str);
    if declared.is_empty() {
        return "the template has no parameters".to_owned();
    }
    match contracts::parse::nearest(name, names()) {
        Some(near) => format!("the template has no such parameter; did you mean {near}?"),
        None => format!(
            "the template has no such parameter, only {}",
            names().collect::<Vec<_>>().join(", ")
        ),
    }
}
