//! What a project is: how it describes itself in `.agentic/`, and what its files tell where it says nothing.
//! It judges nothing and runs nothing; agents read here what to run and where that came from.

mod commits;
mod description;
mod detect;
mod explain;
mod gates;
mod parse;
mod plan;
#[cfg(test)]
mod schema;
mod source;
mod value;

pub use self::{
    description::{
        App, Browser, Check, Coverage, DESCRIPTION_FILE, Dependencies, Description, E2e, Endpoint,
        Environment, FormatVersion, HttpReady, ProbeSettings, Ready, ReadyBy, Report, Request,
        Start, StartBy, Strategy, Suite, SuiteBy, TargetKind, log_pattern,
    },
    detect::{CheckKind, Found, Language, PlannedCheck, Step},
    explain::{Explained, Explanation},
    gates::{GATES_FILE, Gate, GatePolicy, Metric, Operator, Waiver},
    parse::DescriptionError,
    plan::{AppPlan, DescriptionOrigin, Project, ProjectError},
    source::{Content, Folder, GitTree, Source},
    value::{Argv, ConfinedPath, FilePattern, Memory, Name, Period, Variable},
};
