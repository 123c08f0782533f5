//! The validation agent: is this commit good? It runs the checks that the base commit names on the
//! head commit, measures, judges by gates with three verdicts, and writes reports.

pub mod assessment;
pub mod cache;
pub mod change;
pub mod coverage;
pub mod dependencies;
pub mod findings;
pub mod gates;
pub mod instrument;
pub mod judge;
pub mod plan;
pub mod refs;
pub mod report_files;
pub mod reports;
pub mod run;
pub mod secrets;
pub mod toolchain;
pub mod verdict;
