//! The name of bytes: `sha256:` and 64 lower-case hexadecimal digits.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

const PREFIX: &str = "sha256:";

/// SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// A text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not `sha256:` and 64 lower-case hexadecimal digits")]
pub struct WrongDigest;

impl Digest {
    /// Digest of bytes that are all at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Digest of what a hash has seen.
    pub(super) fn from_hash(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }

    /// The digits alone.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for Digest {
    type Err = WrongDigest;

    fn from_str(text: &str) -> Result<Self, WrongDigest> {
        let digits = text.strip_prefix(PREFIX).ok_or(WrongDigest)?;
        // One digest has one name: upper-case digits would be a second.
        if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(WrongDigest);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| WrongDigest)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, WrongDigest};

    #[test]
    fn a_digest_reads_back_as_it_is_written() {
        let digest = Digest::of(b"hello");
        assert_eq!(
            digest.to_string(),
            "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn nothing_else_is_a_digest() {
        let digits = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        for wrong in [
            String::new(),
            digits.to_owned(),
            format!("sha256:{}", &digits[..63]),
            format!("sha256:{digits}0"),
            format!("sha256:{}", digits.to_uppercase()),
            format!("sha512:{digits}"),
            format!("sha256: {digits}"),
            format!("sha256:{}/../../etc/passwd", &digits[..46]),
            format!("sha256:{}é", &digits[..62]),
        ] {
            assert_eq!(wrong.parse::<Digest>(), Err(WrongDigest), "{wrong}");
        }
    }
}
