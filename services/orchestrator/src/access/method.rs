//! The one table of who may call what. A method that is not in it is nobody's.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use contracts::orchestrator::Role::{self, Admin, Agent, Approver, Operator, Viewer};

use super::role::Roles;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Whoever can connect: load balancers and container engines have no credential.
    Everybody,
    /// Whoever shows a valid credential.
    Anybody,
    /// Whoever has one of these roles.
    Roles(Roles),
}

impl fmt::Display for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("nothing"),
            Self::Anybody => f.write_str("any role"),
            Self::Roles(roles) => write!(f, "one of {roles}"),
        }
    }
}

/// What a call costs: each class has a limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Never refused for being too many.
    Free,
    /// Reads.
    Read,
    /// Changes something.
    Write,
    /// Makes a workflow.
    Create,
    /// Stays open to be told of what happens.
    Watch,
    /// The one stream of an agent.
    Session,
    /// Was refused, whatever it was.
    Refused,
}

/// A method.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// `package.Service/Method`.
    pub path: &'static str,
    /// Who may call it.
    pub callers: Callers,
    /// What a call costs.
    pub class: Class,
    /// What its callers did is written down.
    pub is_audited: bool,
}

const READERS: &[Role] = &[Viewer, Operator, Approver, Admin];

const fn method(path: &'static str, roles: &[Role], class: Class, is_audited: bool) -> Method {
    Method {
        path,
        callers: Callers::Roles(Roles::of(roles)),
        class,
        is_audited,
    }
}

const fn read(path: &'static str) -> Method {
    method(path, READERS, Class::Read, false)
}

const fn watch(path: &'static str) -> Method {
    method(path, READERS, Class::Watch, false)
}

const fn write(path: &'static str, roles: &[Role]) -> Method {
    method(path, roles, Class::Write, true)
}

const fn open(path: &'static str, callers: Callers) -> Method {
    Method {
        path,
        callers,
        class: Class::Free,
        is_audited: false,
    }
}

macro_rules! path {
    ($service:literal, $method:literal) => {
        concat!("agentic.orchestrator.v1.", $service, "/", $method)
    };
}

/// Every method that somebody may call.
pub const METHODS: &[Method] = &[
    method(
        path!("WorkflowService", "CreateWorkflow"),
        &[Operator, Admin],
        Class::Create,
        true,
    ),
    read(path!("WorkflowService", "GetWorkflow")),
    read(path!("WorkflowService", "ListWorkflows")),
    watch(path!("WorkflowService", "WatchWorkflow")),
    watch(path!("WorkflowService", "WatchWorkflows")),
    read(path!("WorkflowService", "ListWorkflowEvents")),
    watch(path!("WorkflowService", "WatchWorkflowLogs")),
    write(
        path!("WorkflowService", "CancelWorkflow"),
        &[Operator, Admin],
    ),
    write(
        path!("WorkflowService", "PauseWorkflow"),
        &[Operator, Admin],
    ),
    write(
        path!("WorkflowService", "ResumeWorkflow"),
        &[Operator, Admin],
    ),
    write(
        path!("WorkflowService", "RetryWorkflow"),
        &[Operator, Admin],
    ),
    read(path!("WorkflowService", "GetStatistics")),
    write(
        path!("PipelineService", "CreatePipeline"),
        &[Operator, Admin],
    ),
    read(path!("PipelineService", "GetPipeline")),
    read(path!("PipelineService", "ListPipelines")),
    write(
        path!("PipelineService", "DeletePipeline"),
        &[Operator, Admin],
    ),
    read(path!("DecisionService", "ListDecisions")),
    read(path!("DecisionService", "GetDecision")),
    write(
        path!("DecisionService", "ResolveDecision"),
        &[Approver, Admin],
    ),
    read(path!("ClarificationService", "ListClarifications")),
    write(
        path!("ClarificationService", "AnswerClarification"),
        &[Operator, Admin],
    ),
    // Agents store what they produce, and fetch what earlier stages did.
    write(
        path!("ArtifactService", "UploadArtifact"),
        &[Operator, Admin, Agent],
    ),
    method(
        path!("ArtifactService", "DownloadArtifact"),
        &[Viewer, Operator, Approver, Admin, Agent],
        Class::Read,
        false,
    ),
    method(
        path!("ArtifactService", "ListArtifacts"),
        &[Viewer, Operator, Approver, Admin, Agent],
        Class::Read,
        false,
    ),
    method(
        path!("AgentRegistryService", "Connect"),
        &[Agent],
        Class::Session,
        false,
    ),
    read(path!("AgentRegistryService", "ListAgents")),
    read(path!("AgentRegistryService", "GetAgent")),
    write(path!("AgentRegistryService", "DrainAgent"), &[Admin]),
    write(path!("EnrolmentService", "CreateEnrolmentToken"), &[Admin]),
    write(path!("EnrolmentService", "RevokeCertificates"), &[Admin]),
    // It asks for an enrolment token, or for a certificate, by itself.
    open(
        path!("EnrolmentService", "IssueCertificate"),
        Callers::Everybody,
    ),
    write(path!("TokenService", "CreateToken"), &[Admin]),
    method(
        path!("TokenService", "ListTokens"),
        &[Admin],
        Class::Read,
        false,
    ),
    write(path!("TokenService", "RevokeToken"), &[Admin]),
    method(
        path!("AuditService", "ListAuditEntries"),
        &[Admin],
        Class::Read,
        false,
    ),
    open("grpc.health.v1.Health/Check", Callers::Everybody),
    open("grpc.health.v1.Health/List", Callers::Everybody),
    open("grpc.health.v1.Health/Watch", Callers::Everybody),
    open(
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Callers::Anybody,
    ),
    open(
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Callers::Anybody,
    ),
];

static BY_PATH: LazyLock<HashMap<&'static str, &'static Method>> =
    LazyLock::new(|| METHODS.iter().map(|method| (method.path, method)).collect());

/// The method of a path such as `/package.Service/Method`.
pub fn of_path(path: &str) -> Option<&'static Method> {
    BY_PATH.get(path.trim_start_matches('/')).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_has_every_method_of_the_contract_once_and_no_other() {
        let pool = contracts::json::pool().unwrap();
        let contract: BTreeSet<String> = pool
            .services()
            .filter(|service| service.full_name().starts_with("agentic.orchestrator."))
            .flat_map(|service| {
                let name = service.full_name().to_owned();
                let methods: Vec<_> = service.methods().collect();
                methods
                    .into_iter()
                    .map(move |method| format!("{name}/{}", method.name()))
            })
            .collect();
        let ours: Vec<_> = METHODS
            .iter()
            .map(|method| method.path.to_owned())
            .filter(|path| path.starts_with("agentic."))
            .collect();
        assert_eq!(ours.len(), BTreeSet::from_iter(&ours).len());
        assert_eq!(ours.into_iter().collect::<BTreeSet<_>>(), contract);
    }

    #[test]
    fn nobody_both_submits_and_approves_but_an_administrator() {
        let roles = |path| match of_path(path).unwrap().callers {
            Callers::Roles(roles) => roles.iter().collect::<Vec<_>>(),
            Callers::Everybody | Callers::Anybody => panic!("{path} is open"),
        };
        let decides = roles(path!("DecisionService", "ResolveDecision"));
        let submits = roles(path!("WorkflowService", "CreateWorkflow"));
        let both: Vec<_> = decides
            .into_iter()
            .filter(|role| submits.contains(role))
            .collect();
        assert_eq!(both, [Role::Admin]);
    }
}
