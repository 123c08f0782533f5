//! Takes a file with conflict markers apart and puts it together again with one side. Pure.

use crate::conflict::Choice;

/// A piece of a merged file.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Lines that both sides agree on.
    Agreed(Vec<u8>),
    /// Lines that they do not agree on.
    Disputed {
        /// The target's lines.
        ours: Vec<u8>,
        /// The source's lines.
        theirs: Vec<u8>,
    },
}

/// The markers do not follow each other as git writes them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("conflict markers are out of order at line {line}")]
pub struct OutOfOrder {
    line: usize,
}

enum State {
    Agreed,
    Ours,
    Theirs,
}

/// Splits `content` at conflict markers of `length` characters.
pub fn split(content: &[u8], length: usize) -> Result<Vec<Piece>, OutOfOrder> {
    let mut pieces = Vec::new();
    let (mut agreed, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let mut state = State::Agreed;
    let mut count = 0;
    for line in content.split_inclusive(|&byte| byte == b'\n') {
        count += 1;
        state = match (state, marker(line, length)) {
            (State::Agreed, None) => {
                agreed.extend_from_slice(line);
                State::Agreed
            }
            (State::Agreed, Some(b'<')) => {
                if !agreed.is_empty() {
                    pieces.push(Piece::Agreed(std::mem::take(&mut agreed)));
                }
                State::Ours
            }
            (State::Ours, None) => {
                ours.extend_from_slice(line);
                State::Ours
            }
            (State::Ours, Some(b'=')) => State::Theirs,
            (State::Theirs, None) => {
                theirs.extend_from_slice(line);
                State::Theirs
            }
            (State::Theirs, Some(b'>')) => {
                pieces.push(Piece::Disputed {
                    ours: std::mem::take(&mut ours),
                    theirs: std::mem::take(&mut theirs),
                });
                State::Agreed
            }
            (State::Agreed | State::Ours | State::Theirs, Some(_)) => {
                return Err(OutOfOrder { line: count });
            }
        };
    }
    if !matches!(state, State::Agreed) {
        return Err(OutOfOrder { line: count });
    }
    if !agreed.is_empty() {
        pieces.push(Piece::Agreed(agreed));
    }
    Ok(pieces)
}

/// The file with one side's lines in every dispute. `ends_with_newline` says whether that side's own file
/// ends so: git adds a line end to a disputed last line that has none.
pub fn join(pieces: &[Piece], choice: Choice, ends_with_newline: bool) -> Vec<u8> {
    let mut content = Vec::new();
    for piece in pieces {
        content.extend_from_slice(match (piece, choice) {
            (Piece::Agreed(lines), _) => lines,
            (Piece::Disputed { ours, .. }, Choice::Ours) => ours,
            (Piece::Disputed { theirs, .. }, Choice::Theirs) => theirs,
        });
    }
    let disputed_end = matches!(pieces.last(), Some(Piece::Disputed { .. }));
    if disputed_end && !ends_with_newline && content.last() == Some(&b'\n') {
        content.pop();
    }
    content
}

/// The marker that a line is: its character.
pub fn marker(line: &[u8], length: usize) -> Option<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let first = *line.first()?;
    let run = line.iter().take_while(|&&byte| byte == first).count();
    let rest = &line[run..];
    let is_marker = run == length
        && match first {
            b'<' | b'>' | b'|' => rest.first() == Some(&b' '),
            b'=' => rest.is_empty(),
            _ => false,
        };
    is_marker.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"a\n<<<<<<< x\nours\n=======\ntheirs\n>>>>>>> y\nz\n";

    #[test]
    fn each_side_can_be_taken() {
        let pieces = split(FILE, 7).unwrap();
        assert_eq!(join(&pieces, Choice::Ours, true), b"a\nours\nz\n");
        assert_eq!(join(&pieces, Choice::Theirs, true), b"a\ntheirs\nz\n");
    }

    #[test]
    fn an_empty_side_leaves_nothing() {
        let pieces = split(b"<<<<<<< x\n=======\ntheirs\n>>>>>>> y\n", 7).unwrap();
        assert_eq!(join(&pieces, Choice::Ours, true), b"");
        assert_eq!(join(&pieces, Choice::Theirs, false), b"theirs");
    }

    #[test]
    fn markers_of_another_length_are_content() {
        let pieces = split(FILE, 61).unwrap();
        assert_eq!(pieces, [Piece::Agreed(FILE.to_vec())]);
        let pieces = split(b"Title\n=======\n", 8).unwrap();
        assert_eq!(pieces.len(), 1);
    }

    #[test]
    fn lines_with_carriage_returns_are_markers_too() {
        let pieces = split(b"<<<<<<< x\r\no\r\n=======\r\nt\r\n>>>>>>> y\r\n", 7).unwrap();
        assert_eq!(join(&pieces, Choice::Ours, true), b"o\r\n");
    }

    #[test]
    fn markers_out_of_order_are_refused() {
        for broken in [
            &b"=======\n"[..],
            b"<<<<<<< x\n<<<<<<< x\n",
            b"<<<<<<< x\n>>>>>>> y\n",
            b"<<<<<<< x\n=======\n",
        ] {
            assert!(split(broken, 7).is_err());
        }
    }
}
