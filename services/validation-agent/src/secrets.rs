//! Finds secrets in text: plain, encoded and split ones. What it returns never carries the secret
//! itself. Knows neither git nor what the project is; whoever calls decides which texts are new.

mod decode;
mod plausible;
mod rules;
mod split;

use std::collections::HashSet;

use regex::{Regex, RegexSet, RegexSetBuilder};
use sha2::{Digest, Sha256};
use thiserror::Error;

use self::{
    decode::Decoder,
    rules::{Kind, RULES, Rule},
    split::Joiner,
};

/// Encodings inside encodings are followed this deep.
const ENCODING_DEPTH: u32 = 3;

/// A secret that was found, without the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Rule that found it, such as `secret:github-token`.
    pub rule: String,
    /// One sentence for people.
    pub message: String,
    /// Line, from 1.
    pub line: u32,
    /// Digest of rule and secret: the same secret, wherever it stands.
    pub identity: String,
}

/// The rules could not be built.
#[derive(Debug, Error)]
#[error("building the secret rules")]
pub struct RulesError(#[from] regex::Error);

/// All rules, ready to scan.
pub struct Scanner {
    set: RegexSet,
    patterns: Vec<Regex>,
    decoder: Decoder,
    joiner: Joiner,
}

impl Scanner {
    /// Builds the rules; done once, at start-up.
    pub fn new() -> Result<Self, RulesError> {
        let patterns = RULES.iter().map(|rule| rule.pattern);
        Ok(Self {
            set: RegexSetBuilder::new(patterns.clone())
                .size_limit(64 << 20)
                .build()?,
            patterns: patterns
                .map(|pattern| {
                    regex::RegexBuilder::new(pattern)
                        .size_limit(16 << 20)
                        .build()
                })
                .collect::<Result<_, _>>()?,
            decoder: Decoder::new()?,
            joiner: Joiner::new()?,
        })
    }

    /// Every secret in `text`, each once per line, in the order of lines.
    pub fn scan(&self, path: &str, text: &str) -> Vec<Secret> {
        let mut found = Found::default();
        self.scan_plain(path, text, Origin::Plain, &mut found);
        self.scan_encoded(path, text, 0, 0, &mut found);
        for joined in self.joiner.join(text) {
            self.scan_plain(path, &joined.text, Origin::Split(joined.offset), &mut found);
            self.scan_encoded(path, &joined.text, joined.offset, 1, &mut found);
        }
        found.into_secrets(text)
    }

    fn scan_encoded(&self, path: &str, text: &str, offset: usize, depth: u32, found: &mut Found) {
        if depth >= ENCODING_DEPTH {
            return;
        }
        for decoded in self.decoder.decode(text) {
            let at = if depth == 0 { decoded.offset } else { offset };
            self.scan_plain(
                path,
                &decoded.text,
                Origin::Encoded(decoded.encoding, at),
                found,
            );
            self.scan_encoded(path, &decoded.text, at, depth + 1, found);
        }
    }

    fn scan_plain(&self, path: &str, text: &str, origin: Origin, found: &mut Found) {
        for index in self.set.matches(text) {
            let (Some(rule), Some(pattern)) = (RULES.get(index), self.patterns.get(index)) else {
                continue;
            };
            if rule.kind == Kind::Assignment
                && (origin != Origin::Plain || plausible::is_example_place(path))
            {
                continue;
            }
            for captures in pattern.captures_iter(text) {
                let Some(secret) = captures.name("secret").or_else(|| captures.get(0)) else {
                    continue;
                };
                if (rule.holds)(&captures, secret.as_str()) {
                    let offset = match origin {
                        Origin::Plain => secret.start(),
                        Origin::Encoded(_, offset) | Origin::Split(offset) => offset,
                    };
                    found.add(rule, secret.as_str(), offset, origin);
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Plain,
    Encoded(&'static str, usize),
    Split(usize),
}

#[derive(Default)]
struct Found {
    entries: Vec<(usize, Secret)>,
    identities: HashSet<String>,
    specific: HashSet<String>,
}

impl Found {
    fn add(&mut self, rule: &Rule, secret: &str, offset: usize, origin: Origin) {
        let value = digest(&["value", secret]);
        if rule.kind == Kind::Token {
            self.specific.insert(value.clone());
        } else if self.specific.contains(&value) {
            // A known token in an assignment is one finding, not two.
            return;
        }
        let identity = digest(&[rule.id, secret]);
        if !self.identities.insert(identity.clone()) {
            return;
        }
        let how = match origin {
            Origin::Plain => String::new(),
            Origin::Encoded(encoding, _) => format!(", {encoding} encoded"),
            Origin::Split(_) => ", split into parts".to_owned(),
        };
        let length = secret.chars().count();
        let message = format!("{} ({length} characters{how})", rule.title);
        let rule = format!("secret:{}", rule.id);
        self.entries.push((
            offset,
            Secret {
                rule,
                message,
                line: 0,
                identity,
            },
        ));
    }

    fn into_secrets(mut self, text: &str) -> Vec<Secret> {
        self.entries.sort_by_key(|(offset, _)| *offset);
        let mut line = 1_u32;
        let mut counted = 0;
        self.entries
            .into_iter()
            .map(|(offset, secret)| {
                let passed = text.as_bytes().get(counted..offset).unwrap_or_default();
                line += memchr::memchr_iter(b'\n', passed).count() as u32;
                counted = counted.max(offset);
                Secret { line, ..secret }
            })
            .collect()
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests;
