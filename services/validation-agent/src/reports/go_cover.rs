//! Reads Go's cover profiles into line coverage. Knows the profile and the module's path, no Go.

use std::collections::BTreeMap;

use crate::coverage::Coverage;

use agent_runtime::test_report::{MAXIMUM_REPORT_BYTES, ReportError};

/// Blocks longer than this are not code that somebody wrote.
const MAXIMUM_BLOCK_LINES: u32 = 100_000;

/// Reads one profile. `module` is the path that `go.mod` names: what begins with it is the project's.
///
/// # Errors
///
/// `Empty` without any block, `Unparsable` on a bad line.
pub fn parse(bytes: &[u8], module: &str) -> Result<Coverage, ReportError> {
    if bytes.len() > MAXIMUM_REPORT_BYTES {
        return Err(ReportError::TooLarge);
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| ReportError::Unparsable(error.to_string()))?;
    let mut files: BTreeMap<&str, BTreeMap<u32, u64>> = BTreeMap::new();
    let mut lines = text.lines();
    match lines.next() {
        Some(header) if header.starts_with("mode: ") => {}
        Some(_) => return Err(ReportError::Unparsable("no `mode:` line".into())),
        None => return Err(ReportError::Empty),
    }
    for line in lines {
        let (path, first, last, count) =
            block(line).ok_or_else(|| ReportError::Unparsable(format!("`{line}`")))?;
        let path = path
            .strip_prefix(module)
            .map_or(path, |rest| rest.trim_start_matches('/'));
        let hits = files.entry(path).or_default();
        for number in first..=last {
            let known = hits.entry(number).or_default();
            *known = (*known).max(count);
        }
    }
    let mut coverage = Coverage::default();
    for (path, lines) in files {
        coverage.add(path, lines, (0, 0));
    }
    if coverage.is_empty() {
        Err(ReportError::Empty)
    } else {
        Ok(coverage)
    }
}

/// `shop/price.go:10.2,12.3 2 1`
fn block(line: &str) -> Option<(&str, u32, u32, u64)> {
    let (path, rest) = line.rsplit_once(':')?;
    let mut words = rest.split(' ');
    let (from, to) = words.next()?.split_once(',')?;
    let _statements: u64 = words.next()?.parse().ok()?;
    let count = words.next()?.parse().ok()?;
    let number = |place: &str| place.split_once('.')?.0.parse::<u32>().ok();
    let (first, last) = (number(from)?, number(to)?);
    (first <= last && last - first <= MAXIMUM_BLOCK_LINES).then_some((path, first, last, count))
}

#[cfg(test)]
mod tests {
    use agent_runtime::test_report::ReportError;

    use super::parse;

    #[test]
    fn blocks_become_lines_below_the_module() {
        let profile =
            b"mode: set\nexample.org/shop/a.go:3.10,5.2 1 1\nexample.org/shop/a.go:7.10,8.2 1 0\n";
        let coverage = parse(profile, "example.org/shop").unwrap();
        assert_eq!(coverage.hits("a.go", 4), Some(1));
        assert_eq!(coverage.hits("a.go", 8), Some(0));
    }

    #[test]
    fn bad_profiles_are_refused() {
        assert_eq!(parse(b"", "m"), Err(ReportError::Empty));
        assert_eq!(parse(b"mode: set\n", "m"), Err(ReportError::Empty));
        for bad in [
            &b"coverage: 100%\n"[..],
            b"mode: set\nnonsense\n",
            b"mode: set\na.go:9.1,3.1 1 1\n",
        ] {
            assert!(matches!(parse(bad, "m"), Err(ReportError::Unparsable(_))));
        }
    }
}
