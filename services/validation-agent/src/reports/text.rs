//! Small readings of terminal output that several text parsers share. Knows no test runner.

/// The text without terminal escape sequences and carriage returns.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if characters.next_if_eq(&'[').is_some() {
                    // Parameters and intermediates, up to the final byte.
                    for parameter in characters.by_ref() {
                        if ('\u{40}'..='\u{7e}').contains(&parameter) {
                            break;
                        }
                    }
                }
            }
            '\r' => {}
            other => plain.push(other),
        }
    }
    plain
}

/// The number at the start of `text`, and what follows it.
pub(super) fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let number = text.get(..end)?.parse().ok()?;
    Some((number, text.get(end..)?))
}

/// Pairs of a number and the word after it in a comma-separated list: `3 passed, 1 failed`.
pub(super) fn counted_words(text: &str) -> Vec<(u64, &str)> {
    text.split([',', ';'])
        .filter_map(|part| {
            let (number, rest) = leading_number(part.trim())?;
            Some((number, rest.trim()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{counted_words, plain};

    #[test]
    fn escape_sequences_disappear() {
        assert_eq!(plain("\u{1b}[1;32mok\u{1b}[0m 3\r\n"), "ok 3\n");
    }

    #[test]
    fn numbers_are_read_with_their_words() {
        assert_eq!(
            counted_words("3 passed, 12 failed, in 0.3s"),
            vec![(3, "passed"), (12, "failed")]
        );
    }
}
