//! How what changes of a workflow is stored: JSON, whose names repeat with every stage, compressed. The row
//! is written with every step, and the smaller it is, the more often its page has room for the next one.

use super::Live;

// What comes after this byte is a block of LZ4 behind the length of its content. JSON begins with another one.
const LZ4: u8 = 1;
// Far more than any workflow has: a length that is wrong must not take the memory.
const MOST_BYTES: usize = 64 << 20;

/// What is stored cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not a block of LZ4.
    #[error("compressed: {0}")]
    Compressed(#[from] lz4_flex::block::DecompressError),
    /// The content is not as long as is said.
    #[error("its length is not {0}")]
    Length(usize),
    /// Not the JSON of this version.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Live {
    /// As it is stored.
    pub fn store(&self) -> Vec<u8> {
        // A state of plain data always serialises.
        let json = serde_json::to_vec(self).unwrap_or_default();
        let mut stored = lz4_flex::block::compress_prepend_size(&json);
        stored.insert(0, LZ4);
        stored
    }

    /// From what is stored, by this version or one that did not compress.
    pub fn read(stored: &[u8]) -> Result<Self, Unreadable> {
        Ok(match stored.split_first() {
            Some((&LZ4, block)) => serde_json::from_slice(&decompress(block)?)?,
            _ => serde_json::from_slice(stored)?,
        })
    }
}

fn decompress(block: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let (length, block) = lz4_flex::block::uncompressed_size(block)?;
    if length > MOST_BYTES {
        return Err(Unreadable::Length(length));
    }
    let json = lz4_flex::block::decompress(block, length)?;
    if json.len() != length {
        return Err(Unreadable::Length(length));
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use crate::engine::live::StageFacts;
    use crate::plan::state::State;

    use super::*;

    fn live() -> Live {
        Live {
            plan: State::default(),
            repository: crate::engine::live::RepositoryFacts::default(),
            merged_commit: "c0ffee".repeat(6),
            revision: String::new(),
            endpoint: String::new(),
            usage: crate::engine::live::UsageFacts::default(),
            wall_millis: 7,
            budget: None,
            answers: Vec::new(),
            start: None,
            stages: vec![
                StageFacts {
                    address: "http://127.0.0.1:50061".to_owned(),
                    has_result: true,
                    ..StageFacts::default()
                };
                5
            ],
        }
    }

    #[test]
    fn what_is_stored_is_small_and_read_as_it_was_compressed_or_not() {
        let live = live();
        let json = serde_json::to_vec(&live).unwrap();
        let stored = live.store();
        assert!(
            stored.len() < json.len() / 2,
            "{} {}",
            stored.len(),
            json.len()
        );
        for bytes in [&json, &stored] {
            let read = Live::read(bytes).unwrap();
            assert_eq!(serde_json::to_vec(&read).unwrap(), json);
        }
    }

    #[test]
    fn what_was_cut_short_or_altered_is_refused() {
        let stored = live().store();
        for length in 0..stored.len() {
            assert!(Live::read(&stored[..length]).is_err(), "{length}");
        }
        let length = u32::from_le_bytes(stored[1..5].try_into().unwrap());
        for wrong in [length - 1, length + 1, u32::MAX] {
            let mut altered = stored.clone();
            altered[1..5].copy_from_slice(&wrong.to_le_bytes());
            assert!(Live::read(&altered).is_err(), "{wrong}");
        }
        assert!(Live::read(b"\x02{}").is_err());
    }
}
