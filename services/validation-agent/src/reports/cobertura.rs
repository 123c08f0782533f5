//! Reads Cobertura XML into line coverage. Knows no project: paths are the class file names, below
//! their `source` folder when there is exactly one.

use std::collections::BTreeMap;

use quick_xml::{
    XmlVersion,
    events::{BytesStart, Event},
    reader::Reader,
};

use crate::coverage::Coverage;

use agent_runtime::test_report::{MAXIMUM_REPORT_BYTES, ReportError};

/// Reads one file.
///
/// # Errors
///
/// `Empty` when no line is measured, `Unparsable` when it is not Cobertura XML or cut off.
pub fn parse(bytes: &[u8]) -> Result<Coverage, ReportError> {
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
            Ok(Event::Start(element)) => {
                reading.open(&reader, &element)?;
                reading.depth += 1;
            }
            Ok(Event::Empty(element)) => {
                reading.open(&reader, &element)?;
                reading.close(element.local_name().as_ref());
            }
            Ok(Event::End(element)) => {
                reading.depth = reading.depth.saturating_sub(1);
                reading.close(element.local_name().as_ref());
            }
            Ok(Event::Text(text)) if reading.in_source => {
                reading
                    .sources
                    .push(text.xml10_content().map_err(unreadable)?.trim().to_owned());
            }
            // Cobertura's own files name a document type; entities of it are never resolved.
            Ok(
                Event::Text(_)
                | Event::CData(_)
                | Event::GeneralRef(_)
                | Event::DocType(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_),
            ) => {}
            Ok(Event::Eof) => break,
            Err(error) => return Err(unreadable(error)),
        }
    }
    reading.finish()
}

fn unreadable(error: impl std::fmt::Display) -> ReportError {
    ReportError::Unparsable(error.to_string())
}

struct Class {
    file: String,
    lines: BTreeMap<u32, u64>,
    branches: (u64, u64),
}

#[derive(Default)]
struct Reading {
    depth: usize,
    is_cobertura: bool,
    in_source: bool,
    /// `methods` repeat the lines of their class.
    in_methods: bool,
    sources: Vec<String>,
    class: Option<String>,
    lines: BTreeMap<u32, u64>,
    branches: (u64, u64),
    files: Vec<Class>,
}

impl Reading {
    fn open(
        &mut self,
        reader: &Reader<&[u8]>,
        element: &BytesStart<'_>,
    ) -> Result<(), ReportError> {
        let attribute = |name: &str| attribute(reader, element, name);
        match element.local_name().as_ref() {
            b"coverage" if self.depth == 0 => self.is_cobertura = true,
            b"source" => self.in_source = true,
            b"methods" => self.in_methods = true,
            b"class" => self.class = attribute("filename")?,
            b"line" if !self.in_methods && self.class.is_some() => {
                let number = attribute("number")?.and_then(|number| number.parse::<u32>().ok());
                let hits = attribute("hits")?.and_then(|hits| hits.parse::<u64>().ok());
                let (Some(number), Some(hits)) = (number, hits) else {
                    return Err(ReportError::Unparsable(
                        "a line without number or hits".into(),
                    ));
                };
                let sum = self.lines.entry(number).or_default();
                *sum = sum.saturating_add(hits);
                if let Some((hit, found)) = attribute("condition-coverage")?
                    .as_deref()
                    .and_then(conditions)
                {
                    self.branches.0 += found;
                    self.branches.1 += hit.min(found);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, name: &[u8]) {
        match name {
            b"source" => self.in_source = false,
            b"methods" => self.in_methods = false,
            b"class" => {
                if let Some(file) = self.class.take() {
                    let lines = std::mem::take(&mut self.lines);
                    let branches = std::mem::take(&mut self.branches);
                    self.files.push(Class {
                        file,
                        lines,
                        branches,
                    });
                }
            }
            _ => {}
        }
    }

    fn finish(self) -> Result<Coverage, ReportError> {
        if self.depth > 0 {
            return Err(ReportError::Unparsable("it is cut off".into()));
        }
        if !self.is_cobertura {
            return Err(ReportError::Unparsable(
                "it is not a Cobertura report".into(),
            ));
        }
        let source = match self.sources.as_slice() {
            [source] if !source.is_empty() => Some(source.trim_end_matches('/')),
            _ => None,
        };
        let mut coverage = Coverage::default();
        for Class {
            file,
            lines,
            branches,
        } in self.files
        {
            let path = match source {
                Some(source) if !file.starts_with('/') => format!("{source}/{file}"),
                _ => file,
            };
            coverage.add(&path, lines, branches);
        }
        if coverage.is_empty() {
            Err(ReportError::Empty)
        } else {
            Ok(coverage)
        }
    }
}

/// `50% (1/2)`
fn conditions(text: &str) -> Option<(u64, u64)> {
    let (hit, found) = text.split_once('(')?.1.strip_suffix(')')?.split_once('/')?;
    Some((hit.parse().ok()?, found.parse().ok()?))
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
    use agent_runtime::test_report::ReportError;

    use super::parse;

    const FILE: &str = r#"<?xml version="1.0" ?>
<!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/xml/coverage-04.dtd">
<coverage version="7.4" line-rate="0.99">
 <sources><source>/checkout/shop</source></sources>
 <packages><package name="shop"><classes>
  <class name="prices.py" filename="prices.py"><methods><method><lines><line number="1" hits="9"/></lines></method></methods>
   <lines><line number="1" hits="1"/><line number="2" hits="0" branch="true" condition-coverage="50% (1/2)"/></lines>
  </class></classes></package></packages>
</coverage>"#;

    #[test]
    fn lines_are_counted_and_the_header_is_not_believed() {
        let coverage = parse(FILE.as_bytes()).unwrap();
        assert_eq!(coverage.line_percent(), Some(50.0));
        assert_eq!(coverage.branch_percent(), Some(50.0));
        assert_eq!(
            coverage.relative_to("/checkout").hits("shop/prices.py", 1),
            Some(1)
        );
    }

    #[test]
    fn bad_files_are_refused() {
        assert_eq!(parse(b"  "), Err(ReportError::Empty));
        assert_eq!(
            parse(b"<coverage line-rate=\"1\"/>"),
            Err(ReportError::Empty)
        );
        assert!(matches!(
            parse(b"<coverage><packages>"),
            Err(ReportError::Unparsable(_))
        ));
        assert!(matches!(
            parse(b"<testsuites/>"),
            Err(ReportError::Unparsable(_))
        ));
    }
}
