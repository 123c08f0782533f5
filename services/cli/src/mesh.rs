//! Finds the mesh and calls it: the same RPCs that everybody else has.

pub mod file;
pub mod secret_file;

use std::future::Future;
use std::path::PathBuf;

use contracts::RESPONSE_BYTES;
use contracts::client::{self, ClientChannel, Retry};
use contracts::orchestrator::agent_registry_service_client::AgentRegistryServiceClient;
use contracts::orchestrator::artifact_service_client::ArtifactServiceClient;
use contracts::orchestrator::audit_service_client::AuditServiceClient;
use contracts::orchestrator::clarification_service_client::ClarificationServiceClient;
use contracts::orchestrator::decision_service_client::DecisionServiceClient;
use contracts::orchestrator::enrolment_service_client::EnrolmentServiceClient;
use contracts::orchestrator::pipeline_service_client::PipelineServiceClient;
use contracts::orchestrator::token_service_client::TokenServiceClient;
use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use service_runtime::tls::{Expected, TlsArgs};
use tonic::{Request, Response, Status};

use crate::error::Error;
use file::MeshFile;

/// Where to look for the mesh.
#[derive(Debug, Clone)]
pub struct Place {
    /// Named by the person; then nothing else is tried.
    pub orchestrator: Option<String>,
    /// Folder that a local mesh leaves its address in.
    pub data: PathBuf,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
    /// How the mesh is known, and who calls it.
    pub tls: TlsArgs,
    /// Namespace that the calls are about; left out: the default one.
    pub namespace: Option<String>,
}

/// The mesh, found.
#[derive(Debug, Clone)]
pub struct Mesh {
    place: Place,
    address: String,
    channel: ClientChannel,
}

/// Calls a unary RPC, again on UNAVAILABLE. Only for calls that may be made twice.
macro_rules! call {
    ($mesh:expr, $service:ident.$method:ident($request:expr)) => {{
        let request = $request;
        $mesh
            .call(|| {
                let mut client = $mesh.$service();
                let request = $crate::mesh::unary(request.clone());
                async move { client.$method(request).await }
            })
            .await
    }};
}
pub(crate) use call;

macro_rules! service {
    ($(#[$doc:meta])* $name:ident -> $client:ident) => {
        $(#[$doc])*
        pub fn $name(&self) -> $client<ClientChannel> {
            $client::new(self.channel.clone()).max_decoding_message_size(RESPONSE_BYTES)
        }
    };
}

impl Mesh {
    /// Finds the mesh. Whether it answers is only seen at the first call.
    pub fn find(place: Place) -> Result<Self, Error> {
        let address = address(&place)?;
        let token = match &place.token_file {
            Some(file) => Some(secret_file::read(file)?),
            None => own_token(&place)?,
        };
        let tls = place.tls.client();
        let tls = tls.map_err(|error| Error::Configuration(error.to_string()))?;
        let namespace = place.namespace.as_deref();
        let channel = tls.channel_in(&address, token.as_deref(), namespace, Expected::Host);
        let channel = channel
            .map_err(|error| Error::Configuration(format!("cannot call the mesh: {error}")))?;
        Ok(Self {
            place,
            address,
            channel,
        })
    }

    /// Finds it again: a local mesh may have come back at another address.
    pub fn find_again(&self) -> Result<Self, Error> {
        Self::find(self.place.clone())
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.address
    }

    service!(
        /// Workflows.
        workflows -> WorkflowServiceClient
    );
    service!(
        /// Pipelines.
        pipelines -> PipelineServiceClient
    );
    service!(
        /// Decisions.
        decisions -> DecisionServiceClient
    );
    service!(
        /// Clarifications.
        clarifications -> ClarificationServiceClient
    );
    service!(
        /// Artifacts.
        artifacts -> ArtifactServiceClient
    );
    service!(
        /// Agents.
        agents -> AgentRegistryServiceClient
    );
    service!(
        /// The audit log.
        audit -> AuditServiceClient
    );
    service!(
        /// Tokens.
        tokens -> TokenServiceClient
    );
    service!(
        /// Certificates of agents.
        enrolment -> EnrolmentServiceClient
    );

    /// Calls until it is answered by anything but UNAVAILABLE, a few times at most.
    pub async fn call<T, F>(&self, call: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        client::retry(Retry::default(), call)
            .await
            .map(Response::into_inner)
            .map_err(|status| self.error(&status))
    }

    /// What a status means to the person.
    pub fn error(&self, status: &Status) -> Error {
        Error::from_status(status, &self.address, &advice(&self.place))
    }
}

/// A unary request with the usual deadline.
pub fn unary<M>(message: M) -> Request<M> {
    client::request(message, client::UNARY_DEADLINE)
}

fn address(place: &Place) -> Result<String, Error> {
    if let Some(address) = &place.orchestrator {
        if !(address.starts_with("http://") || address.starts_with("https://")) {
            return Err(Error::Configuration(format!(
                "--orchestrator (AGENTIC_ORCHESTRATOR_URL): {address:?} is not an address such as http://127.0.0.1:50051"
            )));
        }
        return Ok(address.clone());
    }
    let file = MeshFile::read(&place.data)?.ok_or_else(|| Error::Unreachable {
        problem: format!("no mesh runs on {}", place.data.display()),
        advice: advice(place),
    })?;
    if !file::is_held(&place.data)? {
        return Err(Error::Unreachable {
            problem: format!(
                "the mesh on {} (process {}) has ended without saying so",
                place.data.display(),
                file.pid
            ),
            advice: advice(place),
        });
    }
    Ok(file.address)
}

// A mesh of our own leaves the token of its administrator beside its address.
fn own_token(place: &Place) -> Result<Option<String>, Error> {
    let file = secret_file::admin_token(&place.data);
    if place.orchestrator.is_some() || !file.exists() {
        return Ok(None);
    }
    secret_file::read(&file).map(Some)
}

fn advice(place: &Place) -> String {
    if place.orchestrator.is_some() {
        "Check --orchestrator (AGENTIC_ORCHESTRATOR_URL), or start a mesh here with `agentic up`."
            .to_owned()
    } else {
        "Start one with `agentic up --detach`, or name another with --orchestrator URL.".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::exit::Exit;

    fn place(data: &Path) -> Place {
        Place {
            orchestrator: None,
            data: data.to_owned(),
            token_file: None,
            tls: TlsArgs::default(),
            namespace: None,
        }
    }

    #[test]
    fn no_mesh_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = Mesh::find(place(folder.path())).unwrap_err();
        assert_eq!(error.exit(), Exit::Unreachable);
        assert!(error.to_string().contains("agentic up"), "{error}");
    }

    #[tokio::test]
    async fn a_mesh_that_died_is_told_from_one_that_runs() {
        let folder = tempfile::tempdir().unwrap();
        let file = MeshFile {
            address: "http://127.0.0.1:1".into(),
            pid: 1,
            ..MeshFile::default()
        };
        file.write(folder.path()).unwrap();
        let error = Mesh::find(place(folder.path())).unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
        let lock = file::Lock::take(folder.path()).unwrap();
        assert_eq!(
            Mesh::find(place(folder.path())).unwrap().address(),
            "http://127.0.0.1:1"
        );
        drop(lock);
    }

    #[tokio::test]
    async fn a_named_address_must_be_one() {
        for bad in ["", "localhost:50051", "http://", "ftp://x", "http://a b"] {
            let error = Mesh::find(Place {
                orchestrator: Some(bad.to_owned()),
                ..place(Path::new("/nowhere"))
            })
            .unwrap_err();
            assert_eq!(error.exit(), Exit::Configuration, "{bad}");
        }
    }
}
