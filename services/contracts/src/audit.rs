//! The chain of the audit log: how an entry is sealed, and how a reader finds the first one that was
//! changed, removed or put in.

use sha2::{Digest, Sha256};

use crate::orchestrator::AuditEntry;
use crate::wire_time;

/// Hash before the first entry.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Why a log is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Entries are missing, or were put in.
    #[error("after entry {after} comes entry {found}: entries were removed or put in")]
    Gap {
        /// The last one in order.
        after: i64,
        /// What follows.
        found: i64,
    },
    /// The entry before is not the one that it was sealed with.
    #[error("entry {0} was not sealed with the entry before it")]
    Unlinked(i64),
    /// The entry is not the one that was sealed.
    #[error("entry {0} was changed after it was written")]
    Changed(i64),
    /// The log ends too early.
    #[error("the log ends with entry {last}, and {expected} were written: its end was cut off")]
    Cut {
        /// The last one.
        last: i64,
        /// How many there should be.
        expected: i64,
    },
    /// The last entry is not the newest one.
    #[error("entry {0} is not the one that was written last")]
    Head(i64),
}

/// What is known of a log so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Sequence of the last entry; zero: none.
    pub sequence: i64,
    /// Its hash.
    pub hash: String,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            sequence: 0,
            hash: GENESIS.to_owned(),
        }
    }
}

impl Chain {
    /// Numbers and seals the next entry.
    pub fn seal(&mut self, entry: &mut AuditEntry) {
        self.sequence += 1;
        entry.sequence = self.sequence;
        entry.previous_hash.clone_from(&self.hash);
        entry.hash = hash(entry);
        self.hash.clone_from(&entry.hash);
    }

    /// Checks the next entry.
    pub fn check(&mut self, entry: &AuditEntry) -> Result<(), Broken> {
        if entry.sequence != self.sequence + 1 {
            return Err(Broken::Gap {
                after: self.sequence,
                found: entry.sequence,
            });
        }
        if entry.hash != hash(entry) {
            return Err(Broken::Changed(entry.sequence));
        }
        if entry.previous_hash != self.hash {
            return Err(Broken::Unlinked(entry.sequence));
        }
        self.sequence = entry.sequence;
        self.hash.clone_from(&entry.hash);
        Ok(())
    }

    /// Checks that the log ends here.
    pub fn check_end(&self, count: i64, head_hash: &str) -> Result<(), Broken> {
        if self.sequence != count {
            return Err(Broken::Cut {
                last: self.sequence,
                expected: count,
            });
        }
        if self.hash != head_hash {
            return Err(Broken::Head(self.sequence));
        }
        Ok(())
    }
}

fn hash(entry: &AuditEntry) -> String {
    // Exhaustive on purpose: a new field must be sealed, too.
    let AuditEntry {
        sequence,
        time,
        actor,
        credential,
        address,
        method,
        namespace,
        subject,
        decision_digest,
        content_digest,
        outcome,
        reason,
        trace_id,
        previous_hash,
        hash: _,
    } = entry;
    let mut sealed = Sha256::new();
    // What is no hash of ours stands for itself, and fits nothing.
    sealed
        .update(hex::decode(previous_hash).unwrap_or_else(|_| previous_hash.clone().into_bytes()));
    let micros = time.as_ref().map_or(0, wire_time::micros);
    for text in [
        &sequence.to_string(),
        &micros.to_string(),
        actor,
        credential,
        address,
        method,
        namespace,
        subject,
        decision_digest,
        content_digest,
        outcome,
        reason,
        trace_id,
    ] {
        sealed.update(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        sealed.update(text.as_bytes());
    }
    hex::encode(sealed.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut AuditEntry);

    fn log(count: i64) -> (Vec<AuditEntry>, Chain) {
        let mut chain = Chain::default();
        let entries = (0..count)
            .map(|n| {
                let mut entry = AuditEntry {
                    time: Some(prost_types::Timestamp {
                        seconds: 1_700_000_000 + n,
                        nanos: 1000,
                    }),
                    actor: "ada".into(),
                    method: "a.B/C".into(),
                    outcome: "OK".into(),
                    ..AuditEntry::default()
                };
                chain.seal(&mut entry);
                entry
            })
            .collect();
        (entries, chain)
    }

    fn verify(entries: &[AuditEntry], head: &Chain) -> Result<(), Broken> {
        let mut chain = Chain::default();
        for entry in entries {
            chain.check(entry)?;
        }
        chain.check_end(head.sequence, &head.hash)
    }

    #[test]
    fn a_log_as_it_was_written_is_whole() {
        let (entries, head) = log(5);
        assert_eq!(verify(&entries, &head), Ok(()));
        assert_eq!(verify(&[], &Chain::default()), Ok(()));
    }

    #[test]
    fn a_change_of_any_field_is_found_and_the_entry_named() {
        let changes: [Change; 13] = [
            |e| e.time.as_mut().unwrap().nanos += 1000,
            |e| e.actor.push('x'),
            |e| e.credential.push('x'),
            |e| e.address.push('x'),
            |e| e.method.push('x'),
            |e| e.namespace.push('x'),
            |e| e.subject.push('x'),
            |e| e.decision_digest.push('x'),
            |e| e.content_digest.push('x'),
            |e| e.outcome.push('x'),
            |e| e.reason.push('x'),
            |e| e.trace_id.push('x'),
            // Moving a letter to the next field is a change, too.
            |e| {
                e.actor.pop();
                e.credential.insert(0, 'a');
            },
        ];
        for change in changes {
            let (mut entries, head) = log(5);
            change(&mut entries[2]);
            assert_eq!(verify(&entries, &head), Err(Broken::Changed(3)));
        }
    }

    #[test]
    fn a_changed_entry_that_was_sealed_anew_breaks_the_next_one() {
        let (mut entries, head) = log(5);
        entries[2].actor = "eve".into();
        entries[2].hash = hash(&entries[2]);
        assert_eq!(verify(&entries, &head), Err(Broken::Unlinked(4)));
        let (mut entries, head) = log(3);
        entries[2].actor = "eve".into();
        entries[2].hash = hash(&entries[2]);
        assert_eq!(verify(&entries, &head), Err(Broken::Head(3)));
    }

    #[test]
    fn removed_entries_are_found_wherever_they_were() {
        let (mut entries, head) = log(5);
        entries.remove(1);
        assert_eq!(
            verify(&entries, &head),
            Err(Broken::Gap { after: 1, found: 3 })
        );
        let (mut entries, head) = log(5);
        entries.pop();
        assert_eq!(
            verify(&entries, &head),
            Err(Broken::Cut {
                last: 4,
                expected: 5
            })
        );
    }
}
