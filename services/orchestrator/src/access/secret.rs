//! What a bearer token looks like, and what of it is kept.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng;
use sha2::{Digest, Sha256};

/// Begins every token of ours, so that scanners and people see what it is.
pub const PREFIX: &str = "agentic_";
const RANDOM_BYTES: usize = 32;
const MOST_CHARACTERS: usize = 256;

/// SHA-256 of a secret: the secret has 256 random bits, so that nothing slower is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash(pub [u8; 32]);

/// A secret; it never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A new one, of 256 random bits.
    pub fn random() -> Self {
        // Seeded by the operating system, and made for cryptography.
        let bytes: [u8; RANDOM_BYTES] = rand::rng().random();
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// One that somebody made. Guessable ones are refused.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some(random) = text.strip_prefix(PREFIX) else {
            return Err(format!("does not begin with {PREFIX:?}"));
        };
        let is_random = URL_SAFE_NO_PAD
            .decode(random)
            .is_ok_and(|bytes| bytes.len() >= RANDOM_BYTES);
        if text.len() > MOST_CHARACTERS || !is_random {
            return Err(format!(
                "is not {PREFIX:?} and the base64url of {RANDOM_BYTES} random bytes"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// What is sent.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept.
    pub fn hash(&self) -> SecretHash {
        hash(&self.0)
    }
}

/// What is kept of a secret.
pub fn hash(secret: &str) -> SecretHash {
    SecretHash(Sha256::digest(secret.as_bytes()).into())
}

/// Whether a bearer token is one of ours at first sight.
pub fn looks_like_ours(bearer: &str) -> bool {
    bearer.starts_with(PREFIX) && bearer.len() <= MOST_CHARACTERS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_random_recognisable_and_never_prints() {
        let (one, other) = (Secret::random(), Secret::random());
        assert_ne!(one, other);
        assert!(looks_like_ours(one.reveal()));
        assert_eq!(
            Secret::parse(&format!("{}\n", one.reveal())),
            Ok(one.clone())
        );
        assert!(!format!("{one:?}").contains(&one.reveal()[PREFIX.len()..]));
    }

    #[test]
    fn guessable_secrets_are_refused() {
        for weak in [
            "",
            "secret",
            "agentic_",
            "agentic_short",
            "agentic_0123456789012345678901234567890123456789 12",
            &format!("agentic_{}", "a".repeat(20)),
            &format!("agentic_{}", "A".repeat(400)),
            &"a".repeat(60),
        ] {
            assert!(Secret::parse(weak).is_err(), "{weak}");
        }
    }
}
