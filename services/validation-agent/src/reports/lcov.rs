//! Reads LCOV trace files into line coverage. Knows no project: paths stay as the file names them.

use std::collections::BTreeMap;

use lcov::{Reader, Record};

use crate::coverage::Coverage;

use agent_runtime::test_report::{MAXIMUM_REPORT_BYTES, ReportError};

/// Reads one trace file; records of the same source file add up.
///
/// # Errors
///
/// `Empty` when no line is measured, `Unparsable` on a bad record or a file that is cut off, `Contradictory` when a
/// source file's sums are not those of its lines.
pub fn parse(bytes: &[u8]) -> Result<Coverage, ReportError> {
    if bytes.len() > MAXIMUM_REPORT_BYTES {
        return Err(ReportError::TooLarge);
    }
    let mut coverage = Coverage::default();
    let mut open: Option<Section> = None;
    for record in Reader::new(bytes) {
        let record = record.map_err(|error| ReportError::Unparsable(error.to_string()))?;
        match record {
            Record::SourceFile { path } => {
                if open.is_some() {
                    return Err(ReportError::Unparsable("a record is not ended".into()));
                }
                open = Some(Section {
                    path: path.to_string_lossy().into_owned(),
                    ..Section::default()
                });
            }
            Record::LineData { line, count, .. } => {
                let section = open.as_mut().ok_or_else(outside)?;
                let hits = section.lines.entry(line).or_default();
                *hits = hits.saturating_add(count);
            }
            Record::BranchData { taken, .. } => {
                let section = open.as_mut().ok_or_else(outside)?;
                section.branches.0 += 1;
                section.branches.1 += u64::from(taken.is_some_and(|taken| taken > 0));
            }
            Record::LinesFound { found } => {
                open.as_mut().ok_or_else(outside)?.declared_found = Some(u64::from(found));
            }
            Record::LinesHit { hit } => {
                open.as_mut().ok_or_else(outside)?.declared_hit = Some(u64::from(hit));
            }
            Record::EndOfRecord => open.take().ok_or_else(outside)?.close(&mut coverage)?,
            Record::TestName { .. }
            | Record::FunctionName { .. }
            | Record::FunctionData { .. }
            | Record::FunctionsFound { .. }
            | Record::FunctionsHit { .. }
            | Record::BranchesFound { .. }
            | Record::BranchesHit { .. } => {}
        }
    }
    if open.is_some() {
        return Err(ReportError::Unparsable("it is cut off".into()));
    }
    if coverage.is_empty() {
        return Err(ReportError::Empty);
    }
    Ok(coverage)
}

fn outside() -> ReportError {
    ReportError::Unparsable("a record stands outside any source file".into())
}

#[derive(Default)]
struct Section {
    path: String,
    lines: BTreeMap<u32, u64>,
    branches: (u64, u64),
    declared_found: Option<u64>,
    declared_hit: Option<u64>,
}

impl Section {
    fn close(self, coverage: &mut Coverage) -> Result<(), ReportError> {
        let hit = self.lines.values().filter(|hits| **hits > 0).count() as u64;
        // More lines hit than there are lines that were hit is the lie that matters; tools do differ on what they find.
        if self.declared_hit.is_some_and(|declared| declared > hit)
            || self.declared_found.is_some_and(|found| found < hit)
        {
            return Err(ReportError::Contradictory(format!(
                "`{}` sums up other lines than it lists",
                self.path
            )));
        }
        coverage.add(&self.path, self.lines, self.branches);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use agent_runtime::test_report::ReportError;

    use super::parse;

    #[test]
    fn lines_and_branches_are_counted() {
        let coverage = parse(
            b"TN:\nSF:src/a.rs\nDA:1,2\nDA:2,0\nBRDA:1,0,0,1\nBRDA:1,0,1,-\nLF:2\nLH:1\nend_of_record\n\
              SF:src/a.rs\nDA:2,1\nend_of_record\n",
        )
        .unwrap();
        assert_eq!(coverage.line_percent(), Some(100.0));
        assert_eq!(coverage.branch_percent(), Some(50.0));
    }

    #[test]
    fn bad_files_are_refused() {
        assert_eq!(parse(b""), Err(ReportError::Empty));
        assert_eq!(parse(b"SF:a\nend_of_record\n"), Err(ReportError::Empty));
        assert!(matches!(
            parse(b"SF:a\nDA:1,1\n"),
            Err(ReportError::Unparsable(_))
        ));
        assert!(matches!(
            parse(b"DA:1,1\nend_of_record\n"),
            Err(ReportError::Unparsable(_))
        ));
        assert!(matches!(
            parse(b"coverage: 100%\n"),
            Err(ReportError::Unparsable(_))
        ));
        assert!(matches!(
            parse(b"SF:a\nDA:1,0\nLF:1\nLH:1\nend_of_record\n"),
            Err(ReportError::Contradictory(_))
        ));
    }
}
