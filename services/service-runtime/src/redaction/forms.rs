//! The forms in which a secret may stand in a text: as it is, and as JSON, URLs, base64 and hexadecimal have it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::MIN_SECRET_BYTES;

/// Every form of a secret, each once.
pub(super) fn of(value: &str) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    add(&mut forms, value);
    // A key is many lines, and what is printed is cut into lines.
    if value.contains('\n') {
        let lines = value.lines().map(str::trim);
        // What begins and ends a key is the same in all keys.
        for line in lines.filter(|line| !line.starts_with("-----")) {
            add(&mut forms, line);
        }
    }
    forms
}

fn add(forms: &mut BTreeSet<Vec<u8>>, value: &str) {
    if value.len() < MIN_SECRET_BYTES {
        return;
    }
    forms.insert(value.as_bytes().to_vec());
    for (ascii, web) in [(false, false), (false, true), (true, false), (true, true)] {
        let once = json(value, ascii, web);
        forms.insert(once.replace('/', "\\/").into_bytes());
        // A text with JSON in it may itself be written as JSON.
        forms.insert(json(&once, ascii, web).into_bytes());
        forms.insert(once.into_bytes());
    }
    // As Python shows a text, between quotes of either kind.
    let doubled = value.replace('\\', "\\\\");
    forms.insert(doubled.replace('\'', "\\'").into_bytes());
    forms.insert(doubled.into_bytes());
    // As Rust shows a text for developers.
    let quoted = format!("{value:?}");
    let shown = quoted[1..quoted.len() - 1].to_owned();
    forms.insert(json(&shown, false, false).into_bytes());
    forms.insert(shown.into_bytes());
    for kept in ["-._~", "-._~!'()*", "-._*", "-._~!$&'()*+,;=:@/?"] {
        for upper in [true, false] {
            let encoded = percent(value, kept, upper);
            if value.contains(' ') {
                forms.insert(encoded.replace("%20", "+").into_bytes());
            }
            forms.insert(encoded.into_bytes());
        }
    }
    let hex = hex::encode(value);
    forms.insert(hex.to_uppercase().into_bytes());
    forms.insert(hex.into_bytes());
    for before in 0..3 {
        forms.insert(base64(&STANDARD_NO_PAD, value, before).into_bytes());
        forms.insert(base64(&URL_SAFE_NO_PAD, value, before).into_bytes());
    }
}

// `ascii`: everything else is escaped. `web`: so is what HTML might take for its own.
fn json(value: &str, ascii: bool, web: bool) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '<' | '>' | '&' if web => unit(&mut text, letter as u32),
            _ if letter < ' ' => unit(&mut text, letter as u32),
            _ if ascii && !letter.is_ascii() => {
                for half in letter.encode_utf16(&mut [0; 2]) {
                    unit(&mut text, u32::from(*half));
                }
            }
            _ => text.push(letter),
        }
    }
    text
}

fn unit(text: &mut String, code: u32) {
    // Writing into a string does not fail.
    let _ = write!(text, "\\u{code:04x}");
}

fn percent(value: &str, kept: &str, upper: bool) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        let letter = char::from(byte);
        if letter.is_ascii_alphanumeric() || kept.contains(letter) {
            text.push(letter);
        } else if upper {
            let _ = write!(text, "%{byte:02X}");
        } else {
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}

// What the value makes of base64 behind so many other bytes, without the letters that its neighbours share.
fn base64(engine: &impl Engine, value: &str, before: usize) -> String {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(value.as_bytes());
    let encoded = engine.encode(&bytes);
    let from = (before * 8).div_ceil(6);
    let to = bytes.len() * 8 / 6;
    encoded[from..to].to_owned()
}
