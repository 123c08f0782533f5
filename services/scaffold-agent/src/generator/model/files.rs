//! Whether files of formats that we can read are well formed, and what a text was probably meant to be found at.

use serde::de::IgnoredAny;

/// What is wrong with a file of this name. `Ok`: nothing, or the format is not one that we read.
pub(super) fn parse(name: &str, text: &str) -> Result<(), String> {
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    match end {
        "json" => serde_json::from_str::<IgnoredAny>(text)
            .map(drop)
            .map_err(|error| error.to_string()),
        "yaml" | "yml" => serde_saphyr::from_str::<IgnoredAny>(text)
            .map(drop)
            .map_err(|error| error.to_string()),
        _ => Ok(()),
    }
}

/// Number and text of the line that is most like the first line of `wanted`.
pub(super) fn nearest_line<'a>(text: &'a str, wanted: &str) -> Option<(usize, &'a str)> {
    let wanted = wanted
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            (
                strsim::normalized_levenshtein(line.trim(), wanted),
                index,
                line,
            )
        })
        .filter(|(likeness, ..)| *likeness > 0.4)
        // Of equals the first.
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))
        .map(|(_, index, line)| (index + 1, line))
}

/// Lines that contain the text, by number.
pub(super) fn lines_with<'a>(
    text: &'a str,
    wanted: &str,
) -> impl Iterator<Item = (usize, &'a str)> {
    text.lines()
        .enumerate()
        .filter(move |(_, line)| line.contains(wanted))
        .map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_known_are_read() {
        assert!(parse("a.json", "{\"a\": 1}").is_ok());
        assert!(parse("a.json", "{\"a\": 1").is_err());
        assert!(parse("a.yaml", "a: [1, 2]").is_ok());
        assert!(parse("a.yml", "a: [1, 2").is_err());
        assert!(parse("a.rs", "fn (").is_ok());
    }

    #[test]
    fn the_nearest_line_is_found() {
        let text = "fn main() {\n    let count = 1;\n    print(count);\n}\n";
        assert_eq!(
            nearest_line(text, "\n  let cuont = 1;\nx"),
            Some((2, "    let count = 1;"))
        );
        assert_eq!(nearest_line(text, "completely different words"), None);
        assert_eq!(nearest_line("", "x"), None);
    }
}
