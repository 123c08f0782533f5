//! `template.yaml`, read strictly: an unknown key, a wrong type or a key that is there twice refuses the template.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::parameter::{self, InvalidParameter, Parameter, RawParameter, Value};

/// Names that templates find beside their parameters.
pub(super) const RESERVED: [&str; 4] = ["name", "description", "requirements", "features"];

/// What a template says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// One sentence.
    pub description: String,
    /// By name.
    pub parameters: BTreeMap<String, Parameter>,
    /// Third-party packages that a project of it declares.
    pub dependencies: Vec<String>,
    /// What can be run in a project of it: name to command.
    pub scripts: BTreeMap<String, String>,
    /// Places that are there only if a yes-or-no parameter says so.
    pub(super) optional: Vec<OptionalPlace>,
}

/// A file, or with a slash at its end a folder, that is there only if a parameter says so.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OptionalPlace {
    pub(super) path: String,
    pub(super) when: String,
}

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not YAML, or not in the shape of a manifest.
    #[error("template.yaml: {0}")]
    Shape(String),
    /// It is of a version that we do not know.
    #[error("template.yaml has version {0}; this agent knows version 1")]
    Version(u32),
    /// A parameter is declared wrongly.
    #[error("template.yaml: parameter {name}: {problem}")]
    Parameter {
        /// Which one.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An optional place hangs on something that is not a yes-or-no parameter.
    #[error(
        "template.yaml: optional path {path}: `when` names {when:?}, which is not a boolean parameter"
    )]
    Condition {
        /// Which place.
        path: String,
        /// What it hangs on.
        when: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    version: u32,
    description: String,
    #[serde(default)]
    parameters: BTreeMap<String, RawParameter>,
    #[serde(default)]
    dependencies: Vec<String>,
    #[serde(default)]
    scripts: BTreeMap<String, String>,
    #[serde(default)]
    optional: Vec<OptionalPlace>,
}

impl Manifest {
    /// Reads a manifest.
    pub fn parse(yaml: &str) -> Result<Self, ManifestError> {
        let raw: RawManifest = serde_saphyr::from_str(yaml)
            .map_err(|error| ManifestError::Shape(error.to_string()))?;
        if raw.version != 1 {
            return Err(ManifestError::Version(raw.version));
        }
        let mut parameters = BTreeMap::new();
        for (name, declared) in raw.parameters {
            let refuse = |problem: String| ManifestError::Parameter {
                name: name.clone(),
                problem,
            };
            if !is_identifier(&name) {
                return Err(refuse(
                    "a name is a lower-case letter, then at most 62 lower-case letters, digits or `_`".to_owned(),
                ));
            }
            if RESERVED.contains(&&*name) {
                return Err(refuse("every template has this already".to_owned()));
            }
            let checked = declared.check().map_err(refuse)?;
            parameters.insert(name, checked);
        }
        for place in &raw.optional {
            let is_boolean = parameters
                .get(&place.when)
                .is_some_and(|parameter| parameter.kind == parameter::Kind::Boolean);
            if !is_boolean {
                return Err(ManifestError::Condition {
                    path: place.path.clone(),
                    when: place.when.clone(),
                });
            }
        }
        Ok(Self {
            description: raw.description,
            parameters,
            dependencies: raw.dependencies,
            scripts: raw.scripts,
            optional: raw.optional,
        })
    }

    /// Fills in what a task says, and the defaults for the rest. Names everything that is wrong.
    pub fn resolve<'a>(
        &self,
        given: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<BTreeMap<String, Value>, Vec<InvalidParameter>> {
        parameter::resolve(&self.parameters, given)
    }

    /// Values to try the template with.
    pub(super) fn samples(&self) -> BTreeMap<String, Value> {
        self.parameters
            .iter()
            .map(|(name, parameter)| {
                let value = parameter.default.clone();
                (
                    name.clone(),
                    value.unwrap_or_else(|| parameter.kind.sample()),
                )
            })
            .collect()
    }
}

fn is_identifier(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "version: 1\ndescription: x\n";

    fn parse(rest: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(&format!("{HEAD}{rest}"))
    }

    fn refusal(rest: &str) -> String {
        parse(rest).expect_err(rest).to_string()
    }

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    const ALL: &str = r"
parameters:
  port: {type: integer, minimum: 1, maximum: 65535, default: 8080}
  title: {type: string, min_length: 2, max_length: 5}
  theme: {type: choice, choices: [light, dark], default: light}
  log: {type: boolean, default: false}
optional: [{path: docker/, when: log}]
";

    #[test]
    fn parameters_are_typed_and_have_defaults() {
        let manifest = parse(ALL).unwrap();
        let values = manifest
            .resolve(&given(&[("title", "Shop"), ("log", "true")]))
            .unwrap();
        assert_eq!(
            serde_json::to_value(values).unwrap(),
            serde_json::json!({"port": 8080, "title": "Shop", "theme": "light", "log": true})
        );
    }

    #[test]
    fn every_wrong_value_is_named_with_what_would_be_right() {
        let manifest = parse(ALL).unwrap();
        let wrong = manifest
            .resolve(&given(&[
                ("port", "0"),
                ("theme", "blue"),
                ("log", "yes"),
                ("titel", "Shop"),
            ]))
            .unwrap_err();
        let text: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "parameter log: \"yes\" is not true or false",
                "parameter port: 0 is not a whole number from 1 to 65535",
                "parameter theme: \"blue\" is not one of light, dark",
                "parameter titel: the template has no such parameter; did you mean title?",
                "parameter title: is required: one line of 2 to 5 characters",
            ]
        );
        for title in ["x", "Shops!", "a\nb"] {
            assert!(
                manifest.resolve(&given(&[("title", title)])).is_err(),
                "{title:?}"
            );
        }
        for port in ["", "8080.0", "99999999999999999999", "0x50", " 80"] {
            let given = given(&[("title", "Shop"), ("port", port)]);
            assert!(manifest.resolve(&given).is_err(), "{port:?}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_with_their_line() {
        let unknown = refusal("paramters: {}\n");
        assert!(
            unknown.contains("paramters") && unknown.contains("parameters"),
            "{unknown}"
        );
        assert!(unknown.contains("line 3"), "{unknown}");
        assert!(refusal("parameters: {a: {type: integer, min: 3}}").contains("min"));
        assert!(refusal("optional: [{path: a, if: b}]").contains("if"));
        assert!(refusal("description: again\n").contains("description"));
    }

    #[test]
    fn contradictory_declarations_are_refused() {
        for (declared, why) in [
            ("{type: integer, minimum: 3, maximum: 2}", "above"),
            (
                "{type: integer, minimum: 3, default: 2}",
                "default 2 is not",
            ),
            ("{type: integer, default: two}", "default \"two\" is not"),
            ("{type: boolean, minimum: 3}", "for integers"),
            ("{type: string, choices: [a]}", "for type choice"),
            ("{type: choice}", "needs choices"),
            ("{type: choice, choices: []}", "0 choices"),
            ("{type: choice, choices: [a, a]}", "twice"),
            (
                "{type: choice, choices: [a], default: b}",
                "default \"b\" is not",
            ),
            ("{type: string, min_length: 300, max_length: 2}", "above"),
            ("{type: string, default: 3}", "default 3 is not"),
            ("{type: float}", "float"),
        ] {
            let refusal = refusal(&format!("parameters: {{a: {declared}}}"));
            assert!(refusal.contains(why), "{declared}: {refusal}");
        }
    }

    #[test]
    fn names_that_are_taken_or_malformed_are_refused() {
        for name in ["name", "requirements", "Port", "a-b", "_a", "1a"] {
            let refusal = refusal(&format!("parameters: {{{name}: {{type: boolean}}}}"));
            assert!(refusal.contains(name), "{refusal}");
        }
        assert!(refusal("optional: [{path: a, when: missing}]").contains("missing"));
        let integer = "parameters: {n: {type: integer}}\noptional: [{path: a, when: n}]";
        assert!(refusal(integer).contains("not a boolean"));
    }

    #[test]
    fn another_version_is_refused() {
        let error = Manifest::parse("version: 2\ndescription: x\n").unwrap_err();
        assert!(matches!(error, ManifestError::Version(2)));
        assert!(Manifest::parse("").is_err());
        assert!(Manifest::parse("description: x").is_err());
    }
}
