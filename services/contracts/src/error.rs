//! The one shape of errors on the wire: gRPC code, `ErrorInfo`, and the details that help.
//! Internal detail never enters it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error_reason::ErrorReason;

/// Domain of every `ErrorInfo`.
pub const DOMAIN: &str = "agentic";

/// What went wrong with a call, as the caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Why.
    pub reason: ErrorReason,
    /// For a person; says what to do.
    pub message: String,
    /// Fields that are wrong, with what is wrong about them.
    pub fields: Vec<(String, String)>,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
    /// What state forbids the call: (subject, description).
    pub precondition: Option<Box<(String, String)>>,
    /// Further facts.
    pub metadata: BTreeMap<String, String>,
}

impl Error {
    /// An error with nothing but reason and message.
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            fields: Vec::new(),
            retry_after: None,
            precondition: None,
            metadata: BTreeMap::new(),
        }
    }

    /// One field is wrong.
    pub fn invalid_field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::invalid_fields(vec![(field.into(), problem.into())])
    }

    /// Fields are wrong. The message names them all.
    pub fn invalid_fields(fields: Vec<(String, String)>) -> Self {
        let message = fields
            .iter()
            .map(|(field, problem)| format!("{field}: {problem}"))
            .collect::<Vec<_>>()
            .join("; ");
        Self {
            fields,
            ..Self::new(ErrorReason::InvalidField, message)
        }
    }

    /// A bug of ours, or a fault that callers cannot understand. The caller must log the cause.
    pub fn internal() -> Self {
        Self::new(
            ErrorReason::Internal,
            "internal error; the server's log has the detail under this call's trace id",
        )
    }

    /// Says when trying again may help.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Says what state forbids the call.
    #[must_use]
    pub fn precondition(
        mut self,
        subject: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        self.precondition = Some(Box::new((subject.into(), description.into())));
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Everything that it says in words.
    pub fn each_text(&mut self, mut visit: impl FnMut(&mut String)) {
        visit(&mut self.message);
        for (field, problem) in &mut self.fields {
            visit(field);
            visit(problem);
        }
        if let Some(precondition) = &mut self.precondition {
            visit(&mut precondition.0);
            visit(&mut precondition.1);
        }
        self.metadata.values_mut().for_each(visit);
    }

    /// The gRPC code of the reason.
    pub fn code(&self) -> Code {
        code_of(self.reason)
    }

    /// Reads the wire shape back. `None`: the status is not of this shape, so a proxy, the
    /// transport or a foreign server made it.
    pub fn from_status(status: &Status) -> Option<Self> {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
        let reason = ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason))?;
        let fields = details.bad_request().map_or_else(Vec::new, |bad| {
            bad.field_violations
                .iter()
                .map(|violation| (violation.field.clone(), violation.description.clone()))
                .collect()
        });
        let precondition = details.precondition_failure().and_then(|failure| {
            let violation = failure.violations.first()?;
            Some(Box::new((
                violation.subject.clone(),
                violation.description.clone(),
            )))
        });
        Some(Self {
            reason,
            message: status.message().to_owned(),
            fields,
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            precondition,
            metadata: info.metadata.clone().into_iter().collect(),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = error.code();
        let metadata: HashMap<_, _> = error.metadata.into_iter().collect();
        let mut details = ErrorDetails::with_error_info(short_name(error.reason), DOMAIN, metadata);
        for (field, problem) in error.fields {
            details.add_bad_request_violation(field, problem);
        }
        if let Some(delay) = error.retry_after {
            details.set_retry_info(Some(delay));
        }
        if let Some(violation) = error.precondition {
            let (subject, description) = *violation;
            details.add_precondition_failure_violation(
                short_name(error.reason),
                subject,
                description,
            );
        }
        Status::with_error_details(code, error.message, details)
    }
}

/// Name of a reason as it travels: without the enum's prefix.
pub fn short_name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

/// The gRPC code that a reason is documented with. Exhaustive on purpose.
pub fn code_of(reason: ErrorReason) -> Code {
    match reason {
        ErrorReason::Unspecified => Code::Unknown,
        ErrorReason::InvalidField | ErrorReason::DigestMismatch => Code::InvalidArgument,
        ErrorReason::WorkflowNotFound
        | ErrorReason::PipelineNotFound
        | ErrorReason::DecisionNotFound
        | ErrorReason::ClarificationNotFound
        | ErrorReason::ArtifactNotFound
        | ErrorReason::AgentNotFound
        | ErrorReason::StageNotFound
        | ErrorReason::TaskNotFound
        | ErrorReason::TokenNotFound => Code::NotFound,
        ErrorReason::RequestIdReused | ErrorReason::PipelineExists => Code::AlreadyExists,
        ErrorReason::WorkflowState
        | ErrorReason::StaleLease
        | ErrorReason::WrongInstance
        | ErrorReason::DecisionResolved
        | ErrorReason::DigestChanged
        | ErrorReason::ClarificationAnswered
        | ErrorReason::PipelineBuiltIn
        | ErrorReason::RepositoryNotFound
        | ErrorReason::RefNotFound
        | ErrorReason::PushRejected
        | ErrorReason::ProjectInvalid
        | ErrorReason::CapabilityMissing => Code::FailedPrecondition,
        ErrorReason::TakenOver | ErrorReason::ConcurrentChange => Code::Aborted,
        ErrorReason::NoFreeSlot | ErrorReason::RateLimited | ErrorReason::QuotaReached => {
            Code::ResourceExhausted
        }
        ErrorReason::Draining
        | ErrorReason::DatabaseUnavailable
        | ErrorReason::ArtifactStoreUnavailable
        | ErrorReason::RepositoryUnreachable
        | ErrorReason::IdentityProviderUnavailable => Code::Unavailable,
        ErrorReason::Infrastructure | ErrorReason::Internal => Code::Internal,
        ErrorReason::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorReason::Cancelled => Code::Cancelled,
        ErrorReason::Unauthenticated => Code::Unauthenticated,
        ErrorReason::PermissionDenied => Code::PermissionDenied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons() -> impl Iterator<Item = ErrorReason> {
        (1..64).map_while(|value| ErrorReason::try_from(value).ok())
    }

    #[test]
    fn every_reason_survives_the_wire() {
        assert!(reasons().count() >= 38);
        for reason in reasons() {
            let error = Error::new(reason, "what to do")
                .retry_after(Duration::from_millis(1500))
                .precondition("workflow/1", "it has ended")
                .with("key", "value");
            let status = Status::from(error.clone());
            assert_eq!(status.code(), code_of(reason));
            assert_ne!(status.code(), Code::Unknown, "{reason:?} has no code");
            assert_eq!(Error::from_status(&status), Some(error));
        }
    }

    #[test]
    fn invalid_fields_are_all_named() {
        let error = Error::invalid_fields(vec![
            ("name".into(), "is empty".into()),
            ("labels".into(), "has 65 entries, at most 64".into()),
        ]);
        let read = Error::from_status(&Status::from(error.clone())).unwrap();
        assert_eq!(read.fields, error.fields);
        assert!(read.message.contains("name: is empty"));
        assert!(read.message.contains("labels: has 65"));
    }

    #[test]
    fn a_foreign_status_is_not_taken_for_ours() {
        assert_eq!(Error::from_status(&Status::unavailable("proxy")), None);
        let foreign = Status::with_error_details(
            Code::NotFound,
            "x",
            ErrorDetails::with_error_info("WORKFLOW_NOT_FOUND", "elsewhere", HashMap::new()),
        );
        assert_eq!(Error::from_status(&foreign), None);
    }
}
