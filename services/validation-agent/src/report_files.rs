//! The reports that a validation leaves behind: SARIF for findings, JUnit for tests, checks and gates, and one
//! HTML page with everything. Knows how to write them, and not where to.

mod junit;
mod page;
mod sarif;

use thiserror::Error;

use crate::assessment::Assessment;

pub use self::page::Page;

/// A report that could not be written.
#[derive(Debug, Error)]
pub enum ReportFileError {
    /// SARIF.
    #[error("writing the SARIF report")]
    Sarif(#[source] serde_json::Error),
    /// JUnit.
    #[error("writing the JUnit report")]
    Junit(#[source] quick_junit::SerializeError),
    /// HTML.
    #[error("writing the HTML page")]
    Page(#[source] minijinja::Error),
}

/// One report.
pub struct ReportFile {
    /// Name of the artifact.
    pub name: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// The report.
    pub bytes: Vec<u8>,
}

/// Writes every report.
pub fn write(assessment: &Assessment, page: &Page) -> Result<Vec<ReportFile>, ReportFileError> {
    Ok(vec![
        ReportFile {
            name: "validation.sarif",
            media_type: "application/sarif+json",
            bytes: sarif::write(assessment).map_err(ReportFileError::Sarif)?,
        },
        ReportFile {
            name: "validation.junit.xml",
            media_type: "application/xml",
            bytes: junit::write(assessment).map_err(ReportFileError::Junit)?,
        },
        ReportFile {
            name: "validation.html",
            media_type: "text/html; charset=utf-8",
            bytes: page.write(assessment).map_err(ReportFileError::Page)?,
        },
    ])
}

#[cfg(test)]
mod tests;
