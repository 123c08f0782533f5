//! The events of one attempt, from the first to the last: nothing is dropped, and memory is
//! bounded, because what does not fit goes to a file. Knows nothing of who reads it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use prost::Message;

use contracts::task::TaskEvent;

// Most attempts stay below this and never touch the disk.
const MEMORY_BYTES: usize = 256 * 1024;
// A reader takes this much at once.
const BATCH: usize = 64;

/// An append-only list of events.
#[derive(Debug)]
pub struct Journal {
    memory: Vec<TaskEvent>,
    memory_bytes: usize,
    spill: Option<Spill>,
    path: PathBuf,
}

#[derive(Debug)]
struct Spill {
    file: File,
    // Where each spilled event begins; one more entry than events.
    offsets: Vec<u64>,
}

impl Journal {
    /// An empty journal that spills into `path` when it must.
    pub fn new(path: PathBuf) -> Self {
        Self {
            memory: Vec::new(),
            memory_bytes: 0,
            spill: None,
            path,
        }
    }

    /// Sequence of the newest event; zero: none.
    pub fn last_sequence(&self) -> i64 {
        let spilled = self
            .spill
            .as_ref()
            .map_or(0, |spill| spill.offsets.len() - 1);
        i64::try_from(self.memory.len() + spilled).unwrap_or(i64::MAX)
    }

    /// Appends; gives the event its sequence.
    pub fn push(&mut self, mut event: TaskEvent) -> io::Result<i64> {
        event.sequence = self.last_sequence() + 1;
        let sequence = event.sequence;
        let bytes = event.encoded_len();
        if self.spill.is_none() && self.memory_bytes + bytes <= MEMORY_BYTES {
            self.memory_bytes += bytes;
            self.memory.push(event);
            return Ok(sequence);
        }
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill {
                file: File::options()
                    .create(true)
                    .truncate(true)
                    .read(true)
                    .write(true)
                    .open(&self.path)?,
                offsets: vec![0],
            }),
        };
        spill.append(&event)?;
        Ok(sequence)
    }

    /// The next events after a sequence, in order; empty: there are none yet.
    pub fn read(&self, after: i64) -> io::Result<Vec<TaskEvent>> {
        let from = usize::try_from(after).unwrap_or(0);
        if from < self.memory.len() {
            return Ok(self.memory[from..].iter().take(BATCH).cloned().collect());
        }
        match &self.spill {
            Some(spill) => spill.read(from - self.memory.len()),
            None => Ok(Vec::new()),
        }
    }
}

impl Spill {
    fn append(&mut self, event: &TaskEvent) -> io::Result<()> {
        let begin = self.end();
        let bytes = event.encode_to_vec();
        // A write that failed half-way is overwritten by the next one.
        self.file.write_all_at(&bytes, begin)?;
        self.file.flush()?;
        self.offsets.push(begin + bytes.len() as u64);
        Ok(())
    }

    fn end(&self) -> u64 {
        self.offsets.last().copied().unwrap_or(0)
    }

    fn read(&self, from: usize) -> io::Result<Vec<TaskEvent>> {
        let Some(offsets) = self.offsets.get(from..) else {
            return Ok(Vec::new());
        };
        let mut events = Vec::new();
        for window in offsets.windows(2).take(BATCH) {
            let length = usize::try_from(window[1] - window[0]).unwrap_or(usize::MAX);
            let mut bytes = vec![0; length];
            self.file.read_exact_at(&mut bytes, window[0])?;
            events.push(TaskEvent::decode(bytes.as_slice()).map_err(io::Error::other)?);
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use contracts::task::{Log, task_event};

    use super::*;

    fn log(text: &str) -> TaskEvent {
        TaskEvent {
            payload: Some(task_event::Payload::Log(Log {
                text: text.into(),
                ..Log::default()
            })),
            ..TaskEvent::default()
        }
    }

    fn drain(journal: &Journal, mut after: i64) -> Vec<i64> {
        let mut sequences = Vec::new();
        loop {
            let events = journal.read(after).unwrap();
            let Some(last) = events.last() else {
                return sequences;
            };
            after = last.sequence;
            sequences.extend(events.iter().map(|event| event.sequence));
        }
    }

    #[test]
    fn nothing_is_lost_when_events_spill_to_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(folder.path().join("events"));
        let text = "x".repeat(1000);
        for expected in 1..=1000 {
            assert_eq!(journal.push(log(&text)).unwrap(), expected);
        }
        assert!(
            journal.spill.is_some(),
            "a megabyte must not stay in memory"
        );
        assert!(journal.memory_bytes <= MEMORY_BYTES);
        assert_eq!(drain(&journal, 0), (1..=1000).collect::<Vec<_>>());
        assert_eq!(drain(&journal, 990), (991..=1000).collect::<Vec<_>>());
        assert_eq!(drain(&journal, 1000), Vec::<i64>::new());
        assert_eq!(drain(&journal, 5000), Vec::<i64>::new());
    }

    #[test]
    fn a_small_journal_never_touches_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut journal = Journal::new(path.clone());
        journal.push(log("hello")).unwrap();
        assert!(!path.exists());
        assert_eq!(drain(&journal, 0), [1]);
    }

    #[test]
    fn a_full_disk_is_an_error_and_keeps_what_was_there() {
        let mut journal = Journal::new("/nonexistent/folder/events".into());
        let text = "x".repeat(100_000);
        journal.push(log(&text)).unwrap();
        journal.push(log(&text)).unwrap();
        assert!(journal.push(log(&text)).is_err());
        assert_eq!(drain(&journal, 0), [1, 2]);
    }
}
