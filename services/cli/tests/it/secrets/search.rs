//! Looks for secrets in whatever was put out, in every form that a program may have given them. Knows nothing of how
//! they are taken out.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use regex::bytes::Regex;

/// Everything that was put out, by where.
#[derive(Default)]
pub struct Outputs(BTreeMap<String, Vec<u8>>);

impl Outputs {
    /// Adds to what was put out there.
    pub fn add(&mut self, place: &str, bytes: &[u8]) {
        self.0
            .entry(place.to_owned())
            .or_default()
            .extend_from_slice(bytes);
    }

    /// Adds every file of a folder but those of these names.
    pub fn add_folder(&mut self, place: &str, folder: &Path, but: &[&str]) -> Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let kind = entry.file_type()?;
            if but.iter().any(|other| name.to_str() == Some(other)) {
                continue;
            }
            if kind.is_dir() {
                self.add_folder(place, &entry.path(), but)?;
            } else if kind.is_file() {
                self.add(place, &std::fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    /// Whether this stands there as it is.
    pub fn says(&self, place: &str, text: &str) -> Result<bool> {
        let found = Regex::new(&regex::escape(text))?;
        Ok(self.0.get(place).is_some_and(|bytes| found.is_match(bytes)))
    }

    /// Where a secret can be read, and in which form.
    pub fn find(&self, secret: &str) -> Result<Vec<String>> {
        let forms = forms(secret)?;
        let any: Vec<_> = forms.iter().map(|(_, text)| regex::escape(text)).collect();
        let any = Regex::new(&any.join("|"))?;
        let mut found = Vec::new();
        for (place, bytes) in &self.0 {
            if let Some(hit) = any.find(bytes) {
                let form = forms
                    .iter()
                    .find(|(_, text)| text.as_bytes() == hit.as_bytes());
                let kind = form.map_or("?", |(kind, _)| kind);
                let from = hit.start().saturating_sub(80);
                let context = String::from_utf8_lossy(&bytes[from..hit.start()]).into_owned();
                found.push(format!("{place} as {kind}, behind {context:?}"));
            }
        }
        Ok(found)
    }

    /// Where there is nothing at all.
    pub fn empty(&self) -> Vec<&str> {
        let empty = self.0.iter().filter(|(_, bytes)| bytes.is_empty());
        empty.map(|(place, _)| place.as_str()).collect()
    }
}

fn forms(secret: &str) -> Result<Vec<(&'static str, String)>> {
    let lines = secret.lines().filter(|line| !line.starts_with("-----"));
    let parts: Vec<&str> = if secret.contains('\n') {
        lines.collect()
    } else {
        vec![secret]
    };
    let mut forms = Vec::new();
    for part in parts.into_iter().filter(|part| part.len() >= 6) {
        let json = serde_json::to_string(part)?;
        let json = json[1..json.len() - 1].to_owned();
        let twice = serde_json::to_string(&json)?;
        let ascii = part.chars().fold(String::new(), |text, letter| {
            if letter.is_ascii() {
                let one = serde_json::Value::from(letter.to_string()).to_string();
                text + &one[1..one.len() - 1]
            } else {
                letter
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .fold(text, |text, unit| text + &format!("\\u{unit:04x}"))
            }
        });
        let url: String = part.bytes().fold(String::new(), |text, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text + &char::from(byte).to_string()
            } else {
                text + &format!("%{byte:02X}")
            }
        });
        forms.push(("text", part.to_owned()));
        forms.push(("JSON in JSON", twice[1..twice.len() - 1].to_owned()));
        forms.push(("JSON", json));
        forms.push(("JSON in ASCII", ascii));
        forms.push(("form", url.replace("%20", "+")));
        forms.push(("URL in small letters", url.to_lowercase()));
        forms.push(("URL", url));
        forms.push(("hexadecimal", hex::encode(part)));
        for before in 0..3 {
            let bytes = [&vec![b'x'; before], part.as_bytes()].concat();
            // Without what depends on the neighbours.
            let inner = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
            forms.push((
                "base64",
                STANDARD_NO_PAD.encode(&bytes)[inner.clone()].to_owned(),
            ));
            forms.push((
                "base64url",
                URL_SAFE_NO_PAD.encode(&bytes)[inner].to_owned(),
            ));
        }
    }
    Ok(forms)
}
