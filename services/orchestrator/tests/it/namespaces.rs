//! Namespaces: what is in one cannot be seen, named or changed from another, by any RPC.

use std::collections::BTreeSet;

use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use contracts::NAMESPACE_HEADER;
use contracts::error::Error;
use contracts::orchestrator::artifact_service_client::ArtifactServiceClient;
use contracts::orchestrator::clarification_service_client::ClarificationServiceClient;
use contracts::orchestrator::decision_service_client::DecisionServiceClient;
use contracts::orchestrator::pipeline_service_client::PipelineServiceClient;
use contracts::orchestrator::upload_artifact_request::Payload;
use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use contracts::orchestrator::{
    AnswerClarificationRequest, ArtifactDescription, CancelWorkflowRequest, CreatePipelineRequest,
    CreateWorkflowRequest, Decision, DeletePipelineRequest, DownloadArtifactRequest,
    GetDecisionRequest, GetPipelineRequest, GetStatisticsRequest, GetWorkflowRequest,
    ListArtifactsRequest, ListClarificationsRequest, ListClarificationsResponse,
    ListDecisionsRequest, ListDecisionsResponse, ListPipelinesRequest, ListWorkflowEventsRequest,
    ListWorkflowsRequest, PauseWorkflowRequest, Pipeline, ResolveDecisionRequest,
    ResumeWorkflowRequest, RetryWorkflowRequest, UploadArtifactRequest, WatchWorkflowLogsRequest,
    WatchWorkflowRequest, WatchWorkflowsRequest, Workflow, WorkflowState, WorkflowType,
    watch_workflow_response, watch_workflows_response,
};
use contracts::task::Resolution;

use crate::artifacts::bed::{description, noise};
use crate::database;
use crate::mesh::{Replica, app, change, passing_agents};

/// What belongs to the whole mesh, and to no namespace.
const OF_THE_MESH: &[&str] = &[
    "Connect",
    "ListAgents",
    "GetAgent",
    "DrainAgent",
    "CreateEnrolmentToken",
    "IssueCertificate",
    "RevokeCertificates",
    "CreateToken",
    "ListTokens",
    "RevokeToken",
    "ListAuditEntries",
];
/// What names nothing: from another namespace it works, and shows nothing.
const NAMES_NOTHING: &[&str] = &[
    "ListWorkflows",
    "WatchWorkflows",
    "GetStatistics",
    "CreatePipeline",
    "ListPipelines",
    "ListDecisions",
    "ListClarifications",
];

#[derive(Clone)]
struct Header(MetadataValue<Ascii>);

impl Interceptor for Header {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = self.0.clone();
        request.metadata_mut().insert(NAMESPACE_HEADER, value);
        Ok(request)
    }
}

type Named = InterceptedService<Channel, Header>;

fn within(replica: &Replica, namespace: &str) -> Named {
    let channel = Channel::from_shared(replica.url.clone()).unwrap();
    InterceptedService::new(channel.connect_lazy(), Header(namespace.parse().unwrap()))
}

/// One of everything that belongs to a namespace.
#[derive(Debug, Clone)]
struct Belongings {
    workflow_id: String,
    pipeline_id: String,
    decision: Decision,
    clarification_id: String,
    digest: String,
}

fn pipeline() -> Pipeline {
    let built_in = orchestrator::plan::built_in::built_in();
    let mut pipeline = built_in.iter().next().unwrap().clone();
    (pipeline.name, pipeline.pipeline_id) = ("ours".into(), String::new());
    pipeline
}

fn upload(workflow_id: &str, bytes: &[u8]) -> Vec<UploadArtifactRequest> {
    let description = ArtifactDescription {
        workflow_id: workflow_id.to_owned(),
        ..description("report.html", bytes)
    };
    [
        Payload::Description(description),
        Payload::Chunk(bytes.to_vec()),
    ]
    .into_iter()
    .map(|payload| UploadArtifactRequest {
        payload: Some(payload),
    })
    .collect()
}

type Call = (&'static str, BoxFuture<'static, Result<(), Status>>);

macro_rules! calls {
    ($channel:expr, $($client:ident { $($name:literal $method:ident($request:expr)),* $(,)? })*) => {
        vec![$($({
            let (channel, request) = ($channel.clone(), $request);
            let call: Call = ($name, async move {
                $client::new(channel).$method(request).await.map(|_| ())
            }.boxed());
            call
        }),*),*]
    };
}

/// Every RPC that has to do with a namespace, on these things.
fn every_call(channel: &Named, of: &Belongings) -> Vec<Call> {
    let workflow_id = of.workflow_id.clone();
    let pipeline_id = of.pipeline_id.clone();
    calls! { channel,
        WorkflowServiceClient {
            "CreateWorkflow" create_workflow(CreateWorkflowRequest {
                r#type: WorkflowType::Custom.into(),
                pipeline_id: pipeline_id.clone(),
                ..app("shop")
            }),
            "GetWorkflow" get_workflow(GetWorkflowRequest { workflow_id: workflow_id.clone() }),
            "ListWorkflows" list_workflows(ListWorkflowsRequest::default()),
            "WatchWorkflow" watch_workflow(WatchWorkflowRequest {
                workflow_id: workflow_id.clone(),
                after_sequence: 0,
            }),
            "WatchWorkflows" watch_workflows(WatchWorkflowsRequest::default()),
            "ListWorkflowEvents" list_workflow_events(ListWorkflowEventsRequest {
                workflow_id: workflow_id.clone(),
                ..Default::default()
            }),
            "WatchWorkflowLogs" watch_workflow_logs(WatchWorkflowLogsRequest {
                workflow_id: workflow_id.clone(),
                ..Default::default()
            }),
            "CancelWorkflow" cancel_workflow(CancelWorkflowRequest {
                workflow_id: workflow_id.clone(),
                ..Default::default()
            }),
            "PauseWorkflow" pause_workflow(PauseWorkflowRequest {
                workflow_id: workflow_id.clone(),
                ..Default::default()
            }),
            "ResumeWorkflow" resume_workflow(ResumeWorkflowRequest {
                workflow_id: workflow_id.clone(),
                ..Default::default()
            }),
            "RetryWorkflow" retry_workflow(RetryWorkflowRequest {
                workflow_id: workflow_id.clone(),
                ..Default::default()
            }),
            "GetStatistics" get_statistics(GetStatisticsRequest::default()),
        }
        PipelineServiceClient {
            "CreatePipeline" create_pipeline(CreatePipelineRequest {
                pipeline: Some(pipeline()),
                validate_only: true,
                ..Default::default()
            }),
            "GetPipeline" get_pipeline(GetPipelineRequest {
                pipeline_id: pipeline_id.clone(),
                version: 0,
            }),
            "ListPipelines" list_pipelines(ListPipelinesRequest::default()),
            "DeletePipeline" delete_pipeline(DeletePipelineRequest {
                pipeline_id: pipeline_id.clone(),
                ..Default::default()
            }),
        }
        DecisionServiceClient {
            "ListDecisions" list_decisions(ListDecisionsRequest::default()),
            "GetDecision" get_decision(GetDecisionRequest {
                decision_id: of.decision.decision_id.clone(),
            }),
            "ResolveDecision" resolve_decision(ResolveDecisionRequest {
                decision_id: of.decision.decision_id.clone(),
                subject_digest: of.decision.request.clone().unwrap().subject_digest,
                resolution: Resolution::Approve.into(),
                ..Default::default()
            }),
        }
        ClarificationServiceClient {
            "ListClarifications" list_clarifications(ListClarificationsRequest::default()),
            "AnswerClarification" answer_clarification(AnswerClarificationRequest {
                clarification_id: of.clarification_id.clone(),
                answer: "a cart".into(),
                ..Default::default()
            }),
        }
        ArtifactServiceClient {
            "UploadArtifact" upload_artifact(tokio_stream::iter(upload(&workflow_id, b"x"))),
            "DownloadArtifact" download_artifact(DownloadArtifactRequest {
                digest: of.digest.clone(),
                ..Default::default()
            }),
            "ListArtifacts" list_artifacts(ListArtifactsRequest {
                workflow_id: workflow_id.clone(),
                ..Default::default()
            }),
        }
    }
}

/// Names of all RPCs of the orchestrator, as the contract has them.
fn all_rpcs() -> BTreeSet<String> {
    let files = prost_types::FileDescriptorSet::decode(contracts::DESCRIPTORS).unwrap();
    let ours = files
        .file
        .into_iter()
        .filter(|file| file.package() == "agentic.orchestrator.v1");
    ours.flat_map(|file| file.service)
        .flat_map(|service| service.method)
        .map(|method| method.name().to_owned())
        .collect()
}

async fn create(channel: &Named, request: CreateWorkflowRequest) -> Workflow {
    let mut client = WorkflowServiceClient::new(channel.clone());
    let created = client.create_workflow(request).await.unwrap();
    created.into_inner().workflow.unwrap()
}

async fn get(channel: &Named, workflow_id: &str) -> Workflow {
    let workflow_id = workflow_id.to_owned();
    let mut client = WorkflowServiceClient::new(channel.clone());
    let got = client.get_workflow(GetWorkflowRequest { workflow_id });
    got.await.unwrap().into_inner().workflow.unwrap()
}

/// Fills a namespace with one of everything.
async fn belongings(channel: &Named) -> Belongings {
    let asked = create(
        channel,
        CreateWorkflowRequest {
            environment: "production".into(),
            ..change()
        },
    )
    .await;
    let unclear = CreateWorkflowRequest {
        r#type: WorkflowType::Feature.into(),
        ..change()
    };
    create(channel, unclear).await;
    let mut watched = WorkflowServiceClient::new(channel.clone())
        .watch_workflow(WatchWorkflowRequest {
            workflow_id: asked.workflow_id.clone(),
            after_sequence: 0,
        })
        .await
        .unwrap()
        .into_inner();
    loop {
        let message = watched.message().await.unwrap().unwrap();
        if let Some(watch_workflow_response::Payload::Event(event)) = message.payload
            && event.state() == WorkflowState::AwaitingDecision
        {
            break;
        }
    }
    let decisions = DecisionServiceClient::new(channel.clone())
        .list_decisions(ListDecisionsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .decisions;
    let clarifications = ClarificationServiceClient::new(channel.clone())
        .list_clarifications(ListClarificationsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .clarifications;
    let stored = PipelineServiceClient::new(channel.clone())
        .create_pipeline(CreatePipelineRequest {
            pipeline: Some(pipeline()),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .pipeline
        .unwrap();
    let bytes = noise(1000);
    let artifact = ArtifactServiceClient::new(channel.clone())
        .upload_artifact(tokio_stream::iter(upload(&asked.workflow_id, &bytes)))
        .await
        .unwrap()
        .into_inner()
        .artifact
        .unwrap();
    assert_eq!((decisions.len(), clarifications.len()), (1, 1));
    Belongings {
        workflow_id: asked.workflow_id,
        pipeline_id: stored.pipeline_id,
        decision: decisions[0].clone(),
        clarification_id: clarifications[0].clarification_id.clone(),
        digest: artifact.artifact.unwrap().digest,
    }
}

#[tokio::test]
async fn no_rpc_finds_changes_or_shows_what_belongs_to_another_namespace() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let _agents = passing_agents(&replica.url).await;
    let ours = within(&replica, "team-a");
    let theirs = belongings(&ours).await;
    let before = get(&ours, &theirs.workflow_id).await;
    assert_eq!(before.namespace, "team-a");

    let called: BTreeSet<String> = every_call(&ours, &theirs)
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .chain(OF_THE_MESH.iter().map(|name| (*name).to_owned()))
        .collect();
    assert_eq!(called, all_rpcs(), "an RPC is not walked here");

    for namespace in ["team-b", "default"] {
        for (name, call) in every_call(&within(&replica, namespace), &theirs) {
            match call.await {
                Ok(()) => assert!(NAMES_NOTHING.contains(&name), "{name} found it"),
                Err(status) => assert_eq!(status.code(), Code::NotFound, "{name}: {status:?}"),
            }
        }
        shows_nothing(&within(&replica, namespace)).await;
    }
    for (name, call) in every_call(&within(&replica, "Not a name"), &theirs) {
        let status = call.await.expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status:?}");
        let error = Error::from_status(&status).unwrap();
        assert_eq!(error.fields[0].0, NAMESPACE_HEADER, "{name}");
    }
    let after = get(&ours, &theirs.workflow_id).await;
    let steps = |workflow: &Workflow| (workflow.state(), workflow.last_sequence);
    assert_eq!(steps(&after), steps(&before));
    // In its own namespace everything is found, so that the walk above proves something.
    for (name, call) in every_call(&ours, &theirs) {
        if let Err(status) = call.await {
            assert_ne!(status.code(), Code::NotFound, "{name}");
        }
    }
    replica.stop().await;
}

async fn shows_nothing(channel: &Named) {
    let mut workflows = WorkflowServiceClient::new(channel.clone());
    let listed = workflows.list_workflows(ListWorkflowsRequest::default());
    let listed = listed.await.unwrap().into_inner();
    assert_eq!((listed.workflows.len(), listed.total_count), (0, 0));
    let statistics = workflows.get_statistics(GetStatisticsRequest::default());
    let statistics = statistics.await.unwrap().into_inner();
    assert!(statistics.states.is_empty(), "{statistics:?}");
    for of_type in &statistics.agent_types {
        assert_eq!((of_type.waiting_count, of_type.running_count), (0, 0));
    }
    let pipelines = PipelineServiceClient::new(channel.clone())
        .list_pipelines(ListPipelinesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(pipelines.pipelines.iter().all(|pipeline| pipeline.built_in));
    let decisions = DecisionServiceClient::new(channel.clone())
        .list_decisions(ListDecisionsRequest {
            include_resolved: true,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(decisions, ListDecisionsResponse::default());
    let clarifications = ClarificationServiceClient::new(channel.clone())
        .list_clarifications(ListClarificationsRequest {
            include_answered: true,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(clarifications, ListClarificationsResponse::default());
}

#[tokio::test]
async fn request_ids_and_pipeline_names_of_one_namespace_mean_nothing_in_another() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let (a, b) = (within(&replica, "team-a"), within(&replica, "team-b"));
    let once = CreateWorkflowRequest {
        request_id: "once".into(),
        ..app("shop")
    };
    let (first, again) = (
        create(&a, once.clone()).await,
        create(&a, once.clone()).await,
    );
    assert_eq!(first.workflow_id, again.workflow_id);
    // The same request id, even with other content.
    let other = CreateWorkflowRequest {
        name: "basket".into(),
        ..once
    };
    assert_ne!(create(&b, other).await.workflow_id, first.workflow_id);
    for (channel, version) in [(&a, 1), (&a, 2), (&b, 1)] {
        let request = CreatePipelineRequest {
            pipeline: Some(pipeline()),
            ..Default::default()
        };
        let mut pipelines = PipelineServiceClient::new(channel.clone());
        let stored = pipelines.create_pipeline(request).await.unwrap();
        assert_eq!(stored.into_inner().pipeline.unwrap().version, version);
    }
    replica.stop().await;
}

#[tokio::test]
async fn a_watch_of_all_workflows_is_of_those_of_its_namespace() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let (a, b) = (within(&replica, "team-a"), within(&replica, "team-b"));
    let mut watched = WorkflowServiceClient::new(b.clone())
        .watch_workflows(WatchWorkflowsRequest::default())
        .await
        .unwrap()
        .into_inner();
    create(&a, app("theirs")).await;
    let ours = create(&b, app("ours")).await;
    let first = watched.message().await.unwrap().unwrap();
    let Some(watch_workflows_response::Payload::Event(event)) = first.payload else {
        panic!("{first:?}");
    };
    assert_eq!(event.workflow_id, ours.workflow_id);
    replica.stop().await;
}

#[tokio::test]
async fn an_agent_is_told_the_namespace_that_it_stores_artifacts_in() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let agents = passing_agents(&replica.url).await;
    let id = create(&within(&replica, "team-a"), app("shop"))
        .await
        .workflow_id;
    for (agent, _) in &agents {
        let calls = agent.called(1).await;
        assert_eq!(calls[0].context.workflow_id, id);
        assert_eq!(calls[0].context.namespace, "team-a");
    }
    replica.stop().await;
}
