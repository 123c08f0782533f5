//! One text for one request, whatever order its parts were written in, and what tells two requests apart.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Request;

/// Most characters shown of a value that differs.
const SHOWN: usize = 120;

/// Names a request: SHA-256 of its canonical text, in hexadecimal.
pub fn key(request: &Request) -> String {
    hex::encode(Sha256::digest(text(&value(request))))
}

/// The request as JSON.
pub fn value(request: &Request) -> Value {
    // A structure of strings, numbers and JSON always becomes JSON.
    serde_json::to_value(request).unwrap_or_default()
}

/// JSON without white space, the keys of its objects sorted.
pub fn text(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            let members: Vec<String> = sorted
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), text(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            format!("[{}]", items.join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// A place where two requests differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// JSON pointer, and the line within a text of several lines.
    pub place: String,
    /// What is asked there now.
    pub asked: String,
    /// What is recorded there.
    pub recorded: String,
}

/// How many lines and values two requests share, and the first place where they differ. `None`: they do not.
pub fn compare(asked: &Value, recorded: &Value) -> (usize, Option<Difference>) {
    let (asked, recorded) = (leaves(asked), leaves(recorded));
    let shared = asked
        .iter()
        .filter(|(place, leaf)| recorded.get(*place) == Some(leaf))
        .count();
    let places: std::collections::BTreeSet<_> = asked.keys().chain(recorded.keys()).collect();
    let difference = places
        .into_iter()
        .find(|place| asked.get(*place) != recorded.get(*place))
        .map(|place| Difference {
            place: shown_place(place),
            asked: shown(asked.get(place)),
            recorded: shown(recorded.get(place)),
        });
    (shared, difference)
}

/// Pointer and line of a value.
type Place = (String, usize);

fn leaves(value: &Value) -> BTreeMap<Place, String> {
    let mut found = BTreeMap::new();
    collect(value, String::new(), &mut found);
    found
}

fn collect(value: &Value, at: String, found: &mut BTreeMap<Place, String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                collect(member, format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, format!("{at}/{index}"), found);
            }
        }
        Value::String(text) if text.contains('\n') => {
            for (index, line) in text.split('\n').enumerate() {
                found.insert((at.clone(), index + 1), line.to_owned());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert((at, 0), value.to_string());
        }
    }
}

fn shown_place((pointer, line): &Place) -> String {
    match line {
        0 => pointer.clone(),
        line => format!("{pointer}, line {line}"),
    }
}

fn shown(leaf: Option<&String>) -> String {
    leaf.map_or_else(
        || "nothing".to_owned(),
        |text| {
            let start: String = text.chars().take(SHOWN).collect();
            let more = if text.chars().nth(SHOWN).is_some() {
                "…"
            } else {
                ""
            };
            format!("`{start}{more}`")
        },
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(prompt: &str, schema: Value) -> Request {
        Request {
            model: "m".to_owned(),
            system: "s".to_owned(),
            prompt: prompt.to_owned(),
            tools: vec![super::super::Tool {
                name: "read".to_owned(),
                description: String::new(),
                input_schema: schema,
            }],
            max_output_tokens: 100,
        }
    }

    #[test]
    fn the_order_of_keys_does_not_matter_and_everything_else_does() {
        let written = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let one = request("p", written(r#"{"a": 1, "b": [1, 2]}"#));
        assert_eq!(
            key(&one),
            key(&request("p", written(r#"{"b":[1,2],"a":1}"#)))
        );
        for other in [
            request("q", written(r#"{"a": 1, "b": [1, 2]}"#)),
            request("p", written(r#"{"a": 1, "b": [2, 1]}"#)),
            request("p", written(r#"{"a": "1", "b": [1, 2]}"#)),
            Request {
                max_output_tokens: 101,
                ..one.clone()
            },
            Request {
                model: "n".to_owned(),
                ..one.clone()
            },
        ] {
            assert_ne!(key(&one), key(&other), "{other:?}");
        }
    }

    #[test]
    fn the_canonical_text_is_sorted_at_every_depth() {
        let value = json!({"b": {"y": null, "x": "é\n"}, "a": [true, {"d": 1, "c": 2}]});
        assert_eq!(
            text(&value),
            r#"{"a":[true,{"c":2,"d":1}],"b":{"x":"é\n","y":null}}"#
        );
    }

    #[test]
    fn the_first_difference_names_its_place_and_line() {
        let one = value(&request("a\nb\nc", json!({})));
        let other = value(&request("a\nB\nc", json!({})));
        let (_, difference) = compare(&one, &other);
        let difference = difference.unwrap();
        assert_eq!(difference.place, "/prompt, line 2");
        assert_eq!(
            (difference.asked.as_str(), difference.recorded.as_str()),
            ("`b`", "`B`")
        );
        assert_eq!(compare(&one, &one).1, None);

        let shorter = value(&request("a\nb", json!({})));
        let difference = compare(&one, &shorter).1.unwrap();
        assert_eq!(
            (difference.place.as_str(), difference.recorded.as_str()),
            ("/prompt, line 3", "nothing")
        );
    }
}
