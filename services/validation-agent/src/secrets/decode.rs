//! Turns encoded stretches of a text back into text: base64, hexadecimal, percent and backslash escapes,
//! lists of character codes. Knows no secret.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use regex::Regex;

/// Longer stretches are pictures and archives.
const MAXIMUM_ENCODED_BYTES: usize = 256 * 1024;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A stretch of text that was encoded.
pub(super) struct Decoded {
    /// What it says.
    pub text: String,
    /// Where it stood, in bytes.
    pub offset: usize,
    /// How it was encoded.
    pub encoding: &'static str,
}

pub(super) struct Decoder {
    standard: Regex,
    url_safe: Regex,
    wrapped: Regex,
    hexadecimal: Regex,
    escapes: Regex,
    codes: Regex,
}

impl Decoder {
    pub(super) fn new() -> Result<Self, regex::Error> {
        Ok(Self {
            standard: Regex::new(r"[A-Za-z0-9+/]{20,}={0,2}")?,
            url_safe: Regex::new(r"[A-Za-z0-9_-]{20,}={0,2}")?,
            wrapped: Regex::new(r"(?:[A-Za-z0-9+/]{40,}\s+){1,}[A-Za-z0-9+/]{2,}={0,2}")?,
            hexadecimal: Regex::new(r"(?:[0-9a-fA-F]{2}){16,}")?,
            escapes: Regex::new(
                r"(?:\\x[0-9a-fA-F]{2}|\\u00[0-9a-fA-F]{2}|%[0-9a-fA-F]{2}|[A-Za-z0-9_+/=.:@-]){16,}",
            )?,
            codes: Regex::new(
                r"(?:\b(?:0x[0-9a-fA-F]{2}|\d{2,3})\b\s*,\s*){15,}(?:0x[0-9a-fA-F]{2}|\d{2,3})\b",
            )?,
        })
    }

    /// Every stretch that decodes to readable text.
    pub(super) fn decode(&self, text: &str) -> Vec<Decoded> {
        let mut decoded = Vec::new();
        let mut add = |bytes: Option<Vec<u8>>, offset: usize, encoding| {
            if let Some(text) = bytes.and_then(readable) {
                decoded.push(Decoded {
                    text,
                    offset,
                    encoding,
                });
            }
        };
        for (pattern, engine) in [(&self.standard, &STANDARD), (&self.url_safe, &URL_SAFE)] {
            for found in pattern
                .find_iter(text)
                .filter(|found| found.len() <= MAXIMUM_ENCODED_BYTES)
            {
                add(
                    decode_base64(engine, found.as_str()),
                    found.start(),
                    "base64",
                );
            }
        }
        for found in self
            .wrapped
            .find_iter(text)
            .filter(|found| found.len() <= MAXIMUM_ENCODED_BYTES)
        {
            let joined: String = found.as_str().split_whitespace().collect();
            add(decode_base64(&STANDARD, &joined), found.start(), "base64");
        }
        for found in self
            .hexadecimal
            .find_iter(text)
            .filter(|found| found.len() <= MAXIMUM_ENCODED_BYTES)
        {
            add(
                hex::decode(found.as_str()).ok(),
                found.start(),
                "hexadecimal",
            );
        }
        for found in self
            .escapes
            .find_iter(text)
            .filter(|found| found.as_str().contains(['\\', '%']))
        {
            add(unescape(found.as_str()), found.start(), "escape");
        }
        for found in self
            .codes
            .find_iter(text)
            .filter(|found| found.len() <= MAXIMUM_ENCODED_BYTES)
        {
            add(
                character_codes(found.as_str()),
                found.start(),
                "character code",
            );
        }
        decoded
    }
}

/// A stretch may carry up to two characters too many: they are cut.
fn decode_base64(engine: &GeneralPurpose, text: &str) -> Option<Vec<u8>> {
    let bare = text.trim_end_matches('=');
    let whole = if bare.len() % 4 == 1 {
        bare.get(..bare.len() - 1)?
    } else {
        bare
    };
    engine.decode(whole).ok()
}

fn readable(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    let printable = |c: char| c == '\n' || c == '\r' || c == '\t' || !c.is_control();
    (text.len() >= 12 && text.chars().all(printable)).then_some(text)
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let mut changed = 0;
    while let [first, tail @ ..] = rest {
        let digits = match rest {
            [b'\\', b'x', high, low, ..] => Some((4, *high, *low)),
            [b'\\', b'u', b'0', b'0', high, low, ..] => Some((6, *high, *low)),
            [b'%', high, low, ..] => Some((3, *high, *low)),
            _ => None,
        };
        if let Some((length, high, low)) = digits {
            bytes.extend(hex::decode([high, low]).ok()?);
            changed += 1;
            rest = rest.get(length..)?;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    (changed > 0).then_some(bytes)
}

fn character_codes(text: &str) -> Option<Vec<u8>> {
    text.split(',')
        .map(|code| {
            let code = code.trim();
            match code.strip_prefix("0x") {
                Some(digits) => u8::from_str_radix(digits, 16).ok(),
                None => code.parse().ok(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::Decoder;

    fn decode(text: &str) -> Vec<String> {
        Decoder::new()
            .unwrap()
            .decode(text)
            .into_iter()
            .map(|decoded| decoded.text)
            .collect()
    }

    #[test]
    fn every_encoding_is_undone() {
        let plain = "a secret of some length, really";
        let base64 = STANDARD.encode(plain);
        assert!(
            decode(&format!("x: '{base64}'"))
                .iter()
                .any(|text| text == plain)
        );
        assert!(decode(&hex::encode(plain)).iter().any(|text| text == plain));
        let codes: Vec<String> = plain.bytes().map(|byte| byte.to_string()).collect();
        assert!(decode(&codes.join(", ")).iter().any(|text| text == plain));
        let escaped = plain
            .bytes()
            .map(|byte| format!("\\x{byte:02x}"))
            .collect::<Vec<_>>()
            .concat();
        assert!(decode(&escaped).iter().any(|text| text == plain));
        let percent = plain
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect::<Vec<_>>()
            .concat();
        assert!(decode(&percent).iter().any(|text| text == plain));
    }

    #[test]
    fn wrapped_base64_is_joined() {
        let plain =
            "a rather long text that takes more than a single line once it has been encoded";
        let base64 = STANDARD.encode(plain);
        let (first, second) = base64.split_at(64);
        assert!(
            decode(&format!("{first}\n  {second}\n"))
                .iter()
                .any(|text| text == plain)
        );
    }

    #[test]
    fn binary_is_no_text() {
        assert!(decode(&STANDARD.encode([0_u8, 159, 146, 150].repeat(20))).is_empty());
    }
}
