//! Text that people and models wrote, made safe to stand in files: cleaned once when it comes in, and escaped
//! for the language of the file it goes to. Knows nothing of templates.

use std::fmt::Write as _;

/// One line: control and direction characters become spaces, and runs of white space one space.
pub fn clean_line(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|letter| if is_hidden(letter) { ' ' } else { letter })
        .collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Several lines: as they are, without control and direction characters, without white space at their ends.
pub fn clean_lines(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| {
            let plain: String = line
                .chars()
                .filter(|&letter| letter == '\t' || !is_hidden(letter))
                .collect();
            plain.trim_end().to_owned()
        })
        .collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// Characters that are not seen and change what is seen: controls, and those that turn the direction of
/// writing (as listed in "Trojan Source", CVE-2021-42574).
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A JSON string literal, also fit for JavaScript, TypeScript, Python and YAML.
pub fn json(text: &str) -> String {
    quoted(text, |out, letter| {
        // Not even inside a script element does it end anything.
        if matches!(letter, '<' | '>' | '&' | '\'') || !(' '..='~').contains(&letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(letter);
        }
    })
}

/// A TOML basic string.
pub fn toml(text: &str) -> String {
    quoted(text, |out, letter| {
        if letter.is_control() {
            let _ = write!(out, "\\u{:04X}", u32::from(letter));
        } else {
            out.push(letter);
        }
    })
}

fn quoted(text: &str, plain: impl Fn(&mut String, char)) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other => plain(&mut out, other),
        }
    }
    out.push('"');
    out
}

/// A line of Markdown that shows the text as it is: no markup, no HTML, no list or heading.
pub fn markdown(text: &str) -> String {
    let line = clean_line(text);
    let mut out = String::with_capacity(line.len());
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    for (index, letter) in line.char_indices() {
        let marks = "\\`*_[]#|~!$".contains(letter);
        let starts_a_list = (index == 0 && matches!(letter, '-' | '+' | '='))
            || (index > 0 && index == digits && matches!(letter, '.' | ')'));
        if marks || starts_a_list {
            out.push('\\');
        }
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            other => out.push(other),
        }
    }
    out
}

/// A fenced block of Markdown that the text cannot end.
pub fn fenced(text: &str) -> String {
    let longest = text
        .split(|letter| letter != '`')
        .map(str::len)
        .max()
        .unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{text}\n{fence}")
}

/// A name for machines, `[a-z][a-z0-9-]{0,62}`, made from a name for people. `None`: it has no letter for one.
pub fn slug(name: &str) -> Option<String> {
    let mut slug = String::new();
    for letter in name.chars().map(|letter| letter.to_ascii_lowercase()) {
        if letter.is_ascii_lowercase() || (letter.is_ascii_digit() && !slug.is_empty()) {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(63);
    let slug = slug.trim_end_matches('-');
    (!slug.is_empty()).then(|| slug.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_without_hidden_characters() {
        assert_eq!(clean_line("  a\n\tb\u{0}c \u{202e}d\u{2066} "), "a b c d");
        assert_eq!(clean_line("\u{7f}\u{85}\u{2028}"), "");
        assert_eq!(clean_line("naïve 🙂 日本"), "naïve 🙂 日本");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(
            clean_lines("\n\na \r\n\tb\u{1b}[31m\rc\n\n"),
            "a\n\tb[31m\nc"
        );
        assert_eq!(clean_lines("a\u{202e}b"), "ab");
    }

    #[test]
    fn json_reads_back_and_is_plain_ascii() {
        for text in [
            "",
            "a\"b\\c",
            "</script>'&",
            "\u{0}\u{7f}\u{2028}",
            "é🙂",
            "\r\n\t",
        ] {
            let literal = json(text);
            assert!(literal.is_ascii(), "{literal}");
            assert!(!literal.contains(['<', '>', '&', '\'']), "{literal}");
            assert_eq!(serde_json::from_str::<String>(&literal).unwrap(), text);
        }
    }

    #[test]
    fn toml_escapes_what_ends_or_breaks_a_string() {
        assert_eq!(toml("a\"b\\c\nd\u{7f}é"), r#""a\"b\\c\nd\u007Fé""#);
        assert_eq!(
            toml("]\n[dependencies]\nevil = \"1\""),
            r#""]\n[dependencies]\nevil = \"1\"""#
        );
    }

    #[test]
    fn markdown_shows_text_as_it_is() {
        assert_eq!(
            markdown("# <b>*x*</b> [y](z) `c`"),
            r"\# &lt;b&gt;\*x\*&lt;/b&gt; \[y\](z) \`c\`"
        );
        assert_eq!(markdown("- item"), r"\- item");
        assert_eq!(markdown("12. item"), r"12\. item");
        assert_eq!(markdown("version 1.2-3"), "version 1.2-3");
        assert_eq!(markdown("a\n# b"), r"a \# b");
    }

    #[test]
    fn a_fence_is_longer_than_any_in_the_text() {
        assert_eq!(fenced("a"), "```text\na\n```");
        assert_eq!(
            fenced("a\n```\n# b\n`````"),
            "``````text\na\n```\n# b\n`````\n``````"
        );
    }

    #[test]
    fn slugs_come_from_names_of_people() {
        assert_eq!(slug("My Shop 2!").as_deref(), Some("my-shop-2"));
        assert_eq!(slug("2 Fast").as_deref(), Some("fast"));
        assert_eq!(slug("Ünï").as_deref(), Some("n"));
        assert_eq!(slug(&"x-".repeat(60)).as_deref().map(str::len), Some(63));
        assert_eq!(slug("日本 123"), None);
    }
}
