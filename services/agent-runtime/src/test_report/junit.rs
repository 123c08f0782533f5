//! Reads JUnit XML as the many tools write it: test case elements are counted, header attributes are
//! only compared. Refuses to know who wrote the report and how that process ended.

use std::time::Duration;

use quick_xml::{
    XmlVersion,
    events::{BytesStart, Event},
    reader::Reader,
};

use super::{CaseStatus, MAXIMUM_REPORT_BYTES, ReportError, TestCase, TestReport};

/// Messages are cut to this many characters.
const MESSAGE_CHARACTERS: usize = 4_000;

/// Reads one JUnit file.
///
/// # Errors
///
/// `Empty`, `Unparsable` (not XML, cut off, no JUnit root) or `Contradictory` (a header that counts other tests
/// than there are, or failures where no element shows one). Failing elements are believed in any case.
pub fn parse(bytes: &[u8]) -> Result<TestReport, ReportError> {
    if bytes.len() > MAXIMUM_REPORT_BYTES {
        return Err(ReportError::TooLarge);
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ReportError::Empty);
    }
    let mut reader = Reader::from_reader(bytes);
    let mut reading = Reading::default();
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) => reading.open(&reader, &element)?,
            Ok(Event::Empty(element)) => {
                reading.open(&reader, &element)?;
                reading.close();
            }
            Ok(Event::End(_)) => reading.close(),
            Ok(Event::Text(text)) => reading.text(&text.xml10_content().map_err(unreadable)?),
            Ok(Event::CData(text)) => reading.text(&text.xml10_content().map_err(unreadable)?),
            Ok(Event::GeneralRef(entity)) => {
                let name = entity.decode().map_err(unreadable)?;
                reading.text(
                    quick_xml::escape::resolve_predefined_entity(&name).unwrap_or("\u{fffd}"),
                );
            }
            Ok(Event::DocType(_)) => {
                return Err(ReportError::Unparsable("document types are refused".into()));
            }
            Ok(Event::Eof) => break,
            Ok(Event::Comment(_) | Event::Decl(_) | Event::PI(_)) => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    reading.finish()
}

fn unreadable(error: impl std::fmt::Display) -> ReportError {
    ReportError::Unparsable(error.to_string())
}

#[derive(Default)]
struct Reading {
    open: Vec<Open>,
    cases: Vec<TestCase>,
    seen_root: bool,
    contradiction: Option<String>,
}

enum Open {
    Root,
    Suite(Suite),
    Case(TestCase),
    /// `failure`, `error` or `skipped`: its text belongs to the case's message.
    Outcome {
        has_no_text: bool,
    },
    Other,
}

#[derive(Default)]
struct Suite {
    name: String,
    declared_tests: Option<u64>,
    declared_failures: u64,
    case_count: u64,
    failed_count: u64,
    has_suites: bool,
}

impl Reading {
    fn open(
        &mut self,
        reader: &Reader<&[u8]>,
        element: &BytesStart<'_>,
    ) -> Result<(), ReportError> {
        let attribute = |name: &str| attribute(reader, element, name);
        let opened = match element.local_name().as_ref() {
            b"testsuites" if self.open.is_empty() => {
                self.seen_root = true;
                Open::Root
            }
            b"testsuite" => {
                self.seen_root |= self.open.is_empty();
                if let Some(Open::Suite(parent)) = self.open.last_mut() {
                    parent.has_suites = true;
                }
                let number = |name: &str| -> Result<Option<u64>, ReportError> {
                    Ok(attribute(name)?.and_then(|value| value.trim().parse().ok()))
                };
                Open::Suite(Suite {
                    name: attribute("name")?.unwrap_or_default(),
                    declared_tests: number("tests")?,
                    declared_failures: number("failures")?
                        .unwrap_or(0)
                        .saturating_add(number("errors")?.unwrap_or(0)),
                    ..Suite::default()
                })
            }
            b"testcase" => Open::Case(self.case(attribute)?),
            outcome @ (b"failure" | b"error" | b"skipped") => {
                let message = attribute("message")?;
                match self.open.last_mut() {
                    Some(Open::Case(case)) => {
                        if outcome != b"skipped" {
                            case.status = CaseStatus::Failed;
                        } else if case.status != CaseStatus::Failed {
                            case.status = CaseStatus::Skipped;
                        }
                        case.message = message.or(case.message.take());
                        Open::Outcome { has_no_text: true }
                    }
                    // An error of the suite itself: set-up that failed.
                    Some(Open::Suite(suite)) if outcome != b"skipped" => {
                        suite.failed_count += 1;
                        let case = TestCase {
                            suite: suite.name.clone(),
                            name: "(suite)".into(),
                            status: CaseStatus::Failed,
                            message,
                            duration: None,
                            place: None,
                        };
                        self.cases.push(case);
                        Open::Other
                    }
                    _ => Open::Other,
                }
            }
            _ => Open::Other,
        };
        self.open.push(opened);
        Ok(())
    }

    fn case(
        &self,
        attribute: impl Fn(&str) -> Result<Option<String>, ReportError>,
    ) -> Result<TestCase, ReportError> {
        let suite = self.open.iter().rev().find_map(|open| match open {
            Open::Suite(suite) => Some(suite.name.clone()),
            Open::Root | Open::Case(_) | Open::Outcome { .. } | Open::Other => None,
        });
        let not_run = attribute("status")?
            .is_some_and(|status| matches!(status.as_str(), "notrun" | "disabled" | "skipped"));
        let line = attribute("line")?.and_then(|line| line.parse().ok());
        Ok(TestCase {
            suite: attribute("classname")?.or(suite).unwrap_or_default(),
            name: attribute("name")?.unwrap_or_default(),
            status: if not_run {
                CaseStatus::Skipped
            } else {
                CaseStatus::Passed
            },
            message: None,
            duration: attribute("time")?
                .and_then(|seconds| seconds.parse::<f64>().ok())
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            place: attribute("file")?.map(|file| (file, line.unwrap_or(0))),
        })
    }

    fn close(&mut self) {
        match self.open.pop() {
            Some(Open::Case(case)) => {
                if let Some(Open::Suite(suite)) = self.open.last_mut() {
                    suite.case_count += 1;
                    suite.failed_count += u64::from(case.status == CaseStatus::Failed);
                }
                self.cases.push(case);
            }
            Some(Open::Suite(suite)) => self.compare(&suite),
            Some(Open::Root | Open::Outcome { .. } | Open::Other) | None => {}
        }
    }

    /// Only suites without suites of their own: tools disagree on whether a parent counts its children.
    fn compare(&mut self, suite: &Suite) {
        if suite.has_suites || self.contradiction.is_some() {
            return;
        }
        if let Some(declared) = suite
            .declared_tests
            .filter(|&tests| tests != suite.case_count)
        {
            self.contradiction = Some(format!(
                "suite `{}` declares {declared} tests and holds {}",
                suite.name, suite.case_count
            ));
        } else if suite.declared_failures > 0 && suite.failed_count == 0 {
            self.contradiction = Some(format!(
                "suite `{}` declares {} failures and shows none",
                suite.name, suite.declared_failures
            ));
        }
    }

    fn text(&mut self, text: &str) {
        let [.., Open::Case(case), Open::Outcome { has_no_text }] = self.open.as_mut_slice() else {
            return;
        };
        let message = case.message.get_or_insert_default();
        let room = MESSAGE_CHARACTERS.saturating_sub(message.chars().count());
        if room > 0 && !text.trim().is_empty() {
            // Between an attribute and the text below it; pieces of one text follow each other as they are.
            if std::mem::take(has_no_text) && !message.is_empty() && !message.ends_with('\n') {
                message.push('\n');
            }
            message.extend(text.chars().take(room));
        }
    }

    fn finish(self) -> Result<TestReport, ReportError> {
        if !self.open.is_empty() {
            return Err(ReportError::Unparsable("it is cut off".into()));
        }
        if !self.seen_root {
            return Err(ReportError::Unparsable("it is not a JUnit report".into()));
        }
        let report = TestReport::from_cases(self.cases);
        match self.contradiction {
            Some(contradiction) if report.failed_count == 0 => {
                Err(ReportError::Contradictory(contradiction))
            }
            _ => Ok(report),
        }
    }
}

fn attribute(
    reader: &Reader<&[u8]>,
    element: &BytesStart<'_>,
    name: &str,
) -> Result<Option<String>, ReportError> {
    let Some(attribute) = element.try_get_attribute(name).map_err(unreadable)? else {
        return Ok(None);
    };
    let value = attribute
        .decoded_and_normalized_value(XmlVersion::Implicit1_0, reader.decoder())
        .map_err(unreadable)?;
    Ok(Some(value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::{CaseStatus, ReportError, parse};

    #[test]
    fn pytest_reports_are_read() {
        let xml = br#"<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" errors="0" failures="1"
            skipped="1" tests="3" time="0.05" timestamp="2024-01-01T00:00:00"><testcase classname="test_a" name="test_ok"
            time="0.001" /><testcase classname="test_a" name="test_bad" time="0.001"><failure
            message="assert 1 == 2">def test_bad():
>       assert 1 &lt; 2</failure></testcase><testcase classname="test_a" name="test_skip"><skipped type="pytest.skip"
            message="later"/></testcase></testsuite></testsuites>"#;
        let report = parse(xml).unwrap();
        assert_eq!(
            (
                report.passed_count,
                report.failed_count,
                report.skipped_count
            ),
            (1, 1, 1)
        );
        assert_eq!(report.executed_count(), 2);
        let failure = report.failures().next().unwrap();
        assert_eq!(failure.suite, "test_a");
        assert!(
            failure
                .message
                .as_deref()
                .unwrap()
                .contains("assert 1 == 2")
        );
        assert!(failure.message.as_deref().unwrap().contains('<'));
    }

    #[test]
    fn node_reports_with_cases_beside_suites_are_read() {
        let xml = br#"<?xml version="1.0" encoding="utf-8"?>
<testsuites>
	<testcase name="adds" time="0.0005" classname="test"/>
	<testsuite name="outer" time="0.002" disabled="0" errors="0" tests="2" failures="1" skipped="0" hostname="h">
		<testcase name="inner" time="0.0001" classname="test"/>
		<testcase name="bad" time="0.0001" classname="test"><failure type="testCodeFailure" message="no"><![CDATA[no]]></failure></testcase>
	</testsuite>
	<!-- tests 3 -->
</testsuites>"#;
        let report = parse(xml).unwrap();
        assert_eq!((report.passed_count, report.failed_count), (2, 1));
    }

    #[test]
    fn elements_are_counted_and_headers_only_compared() {
        let lying = br#"<testsuite name="s" tests="10" failures="0"></testsuite>"#;
        assert!(matches!(parse(lying), Err(ReportError::Contradictory(_))));
        let hidden =
            br#"<testsuite name="s" tests="1" failures="1"><testcase name="a"/></testsuite>"#;
        assert!(matches!(parse(hidden), Err(ReportError::Contradictory(_))));
        let worse = br#"<testsuite name="s" tests="1" failures="0"><testcase name="a"><error/></testcase></testsuite>"#;
        assert_eq!(parse(worse).unwrap().failed_count, 1);
    }

    #[test]
    fn what_is_no_report_is_refused() {
        assert_eq!(parse(b" \n"), Err(ReportError::Empty));
        for unparsable in [
            &b"tests passed"[..],
            b"<html><testcase/></html>",
            b"<testsuites><testsuite name=\"a\"><testcase name=\"x\"/>",
            b"<testsuites><testsuite></testsuites>",
            b"<!DOCTYPE x [<!ENTITY a \"b\">]><testsuites/>",
        ] {
            assert!(
                matches!(parse(unparsable), Err(ReportError::Unparsable(_))),
                "{unparsable:?}"
            );
        }
    }

    #[test]
    fn a_failed_case_stays_failed_whatever_follows() {
        let xml = br#"<testsuite><testcase name="a"><failure/><skipped/></testcase>
            <testcase name="b" status="notrun"/></testsuite>"#;
        let report = parse(xml).unwrap();
        assert_eq!(report.cases[0].status, CaseStatus::Failed);
        assert_eq!(report.cases[1].status, CaseStatus::Skipped);
    }
}
