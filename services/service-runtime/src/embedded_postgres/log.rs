//! The server's log file: opened for the server, kept from growing for ever, and quoted in errors.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// A log longer than this becomes `….old` at the next start.
const ROTATE_ABOVE_BYTES: u64 = 16 << 20;

/// How much of the log's end an error quotes.
const TAIL_BYTES: u64 = 4 << 10;
const TAIL_LINES: usize = 15;

/// Opens the log for appending.
pub(super) fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > ROTATE_ABOVE_BYTES) {
        fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// The last lines of the log; a log that cannot be read is said to be so.
pub(super) fn tail(path: &Path) -> String {
    read_end(path).map_or_else(
        |error| format!("(not readable: {error})"),
        |bytes| last_lines(&String::from_utf8_lossy(&bytes)),
    )
}

/// The last lines of a text.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}

fn read_end(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ROTATE_ABOVE_BYTES, open, tail};

    #[test]
    fn tail_is_the_last_lines_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postgres.log");
        let lines: Vec<String> = (0..2_000).map(|number| format!("line {number}")).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        let tail = tail(&path);
        assert_eq!(tail.lines().count(), 15);
        assert!(tail.ends_with("line 1999"));
    }

    #[test]
    fn a_long_log_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postgres.log");
        fs::File::create(&path)
            .unwrap()
            .set_len(ROTATE_ABOVE_BYTES + 1)
            .unwrap();
        open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert!(folder.path().join("postgres.log.old").exists());
    }

    #[test]
    fn a_missing_log_is_said_to_be_missing() {
        assert!(tail(std::path::Path::new("/nonexistent/log")).contains("not readable"));
    }
}
