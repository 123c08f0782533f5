//! Signed leases: the orchestrator signs every `Execute` byte by byte, and the agent that it welcomed
//! checks that what came is what was signed. Ed25519; the signature travels in the call's metadata,
//! so that it covers fields that one of the sides does not know yet.

use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use tonic::metadata::{BinaryMetadataValue, MetadataMap};

/// Metadata of `Execute` that the signature travels in.
pub const SIGNATURE: &str = "agentic-lease-signature-bin";
/// Length of a public key.
pub const PUBLIC_KEY_BYTES: usize = 32;

// Nothing else that this key signs begins so.
const PURPOSE: &[u8] = b"agentic.lease.v1\0";

/// The operating system gave no random numbers, or the library refused its own key.
#[derive(Debug, thiserror::Error)]
#[error("no key for signing leases could be made")]
pub struct KeyError;

/// Signs leases. Made anew by every orchestrator process, and never leaves it.
pub struct Signer {
    key: Ed25519KeyPair,
}

impl Signer {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError)?;
        let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|_| KeyError)?;
        Ok(Self { key })
    }

    /// What agents are told in `Welcome`.
    pub fn public_key(&self) -> Vec<u8> {
        self.key.public_key().as_ref().to_vec()
    }

    /// Signs a call: its path, such as `/agentic.e2e.v1.E2eService/Execute`, and its encoded message.
    pub fn sign(&self, path: &str, message: &[u8], metadata: &mut MetadataMap) {
        let signature = self.key.sign(&signed(path, &Digest::of(message)));
        metadata.insert_bin(
            SIGNATURE,
            BinaryMetadataValue::from_bytes(signature.as_ref()),
        );
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

/// SHA-256 of the encoded message of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of a message.
    pub fn of(message: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, message).as_ref());
        Self(bytes)
    }
}

/// Whether a call was signed with the key of this public key.
pub fn is_signed(public_key: &[u8], path: &str, message: &Digest, metadata: &MetadataMap) -> bool {
    let Some(signature) = metadata
        .get_bin(SIGNATURE)
        .and_then(|value| value.to_bytes().ok())
    else {
        return false;
    };
    UnparsedPublicKey::new(&ED25519, public_key)
        .verify(&signed(path, message), &signature)
        .is_ok()
}

fn signed(path: &str, message: &Digest) -> Vec<u8> {
    [PURPOSE, path.as_bytes(), b"\0", &message.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/agentic.e2e.v1.E2eService/Execute";

    #[test]
    fn a_signature_covers_every_byte_and_the_method() {
        let signer = Signer::generate().unwrap();
        let message = b"task 1, epoch 7".to_vec();
        let mut metadata = MetadataMap::new();
        signer.sign(PATH, &message, &mut metadata);
        let key = signer.public_key();
        assert_eq!(key.len(), PUBLIC_KEY_BYTES);
        assert!(is_signed(&key, PATH, &Digest::of(&message), &metadata));
        for position in 0..message.len() {
            let mut altered = message.clone();
            altered[position] ^= 1;
            assert!(!is_signed(&key, PATH, &Digest::of(&altered), &metadata));
        }
        let other = "/agentic.scaffold.v1.ScaffoldService/Execute";
        assert!(!is_signed(&key, other, &Digest::of(&message), &metadata));
    }

    #[test]
    fn no_other_key_and_no_missing_signature_will_do() {
        let (one, two) = (Signer::generate().unwrap(), Signer::generate().unwrap());
        let mut metadata = MetadataMap::new();
        let digest = Digest::of(b"x");
        assert!(!is_signed(&one.public_key(), PATH, &digest, &metadata));
        one.sign(PATH, b"x", &mut metadata);
        assert!(!is_signed(&two.public_key(), PATH, &digest, &metadata));
        assert!(!is_signed(b"short", PATH, &digest, &metadata));
    }
}
