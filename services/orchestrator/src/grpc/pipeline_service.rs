//! `PipelineService`.

use prost::Message;
use tonic::{Request, Response, Status, async_trait};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::id::PipelineId;
use contracts::orchestrator::pipeline_service_server::PipelineService as Service;
use contracts::orchestrator::{
    CreatePipelineRequest, CreatePipelineResponse, CreateWorkflowRequest, DeletePipelineRequest,
    DeletePipelineResponse, GetPipelineRequest, GetPipelineResponse, ListPipelinesRequest,
    ListPipelinesResponse, Pipeline as WirePipeline, WorkflowType,
};
use contracts::parse::{Fields, nearest};
use contracts::wire_time;

use super::{namespace, page_token, read_page_token, request_row, store_error};
use crate::access::audit::Subject;
use crate::engine::Engine;
use crate::engine::submit::digest;
use crate::plan::built_in::built_in;
use crate::plan::pipeline::Pipeline;
use crate::store::pipelines::StoredPipeline;
use crate::store::{Store, StoreError, malformed, pipelines, requests};

const CREATE: &str = "CreatePipeline";
const DELETE: &str = "DeletePipeline";
// Two clients storing a next version at once: one of them tries again.
const RACES: u32 = 8;

/// `agentic.orchestrator.v1.PipelineService`.
#[derive(Debug, Clone)]
pub struct PipelineService {
    engine: Engine,
}

impl PipelineService {
    /// Serves the pipelines of an engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    async fn create(
        &self,
        namespace: &str,
        request: CreatePipelineRequest,
    ) -> Result<WirePipeline, Error> {
        let content = digest(&request);
        let mut fields = Fields::new();
        fields.request_id(&request.request_id);
        let Some(mut pipeline) = request.pipeline else {
            fields.wrong("pipeline", "is required");
            return fields.finish(WirePipeline::default());
        };
        fields.finish(())?;
        Pipeline::parse(&pipeline)?;
        if built_in().iter().any(|known| known.name == pipeline.name) {
            return Err(Error::new(
                ErrorReason::PipelineBuiltIn,
                format!("{:?} is built in; choose another name", pipeline.name),
            )
            .precondition(format!("pipeline/{}", pipeline.name), "it is built in"));
        }
        if request.validate_only {
            return Ok(pipeline);
        }
        if let Some(subject) = self
            .engine
            .earlier_subject(namespace, CREATE, &request.request_id, &content)
            .await?
        {
            let (name, version) = subject.split_once('@').unwrap_or((&subject, "0"));
            return self
                .get(namespace, name, version.parse().unwrap_or(0))
                .await;
        }
        for _ in 0..RACES {
            let now = self.engine.clock().now();
            let stored = async {
                let client = self.engine.store().client().await?;
                let newest = pipelines::get(&client, namespace, &pipeline.name, 0).await?;
                let row = StoredPipeline {
                    pipeline_id: newest
                        .as_ref()
                        .map_or_else(PipelineId::new, |row| row.pipeline_id),
                    name: pipeline.name.clone(),
                    version: newest.as_ref().map_or(1, |row| row.version + 1),
                    pipeline: Vec::new(),
                    create_time: now,
                };
                pipeline.pipeline_id = row.pipeline_id.to_string();
                pipeline.version = row.version;
                pipeline.built_in = false;
                pipeline.create_time = Some(wire_time::timestamp(now));
                let row = StoredPipeline {
                    pipeline: pipeline.encode_to_vec(),
                    ..row
                };
                let stored = pipelines::insert(&client, namespace, &row).await?;
                let subject = format!("{}@{}", row.name, row.version);
                if let Some(made) =
                    request_row(&request.request_id, CREATE, content.clone(), subject, now)
                    && stored
                {
                    requests::record(&client, namespace, &made).await?;
                }
                Ok::<_, StoreError>(stored)
            };
            if stored.await.map_err(store_error)? {
                return Ok(pipeline);
            }
        }
        Err(Error::new(
            ErrorReason::ConcurrentChange,
            format!(
                "pipeline {:?} changed all the time; try again",
                pipeline.name
            ),
        ))
    }

    async fn get(
        &self,
        namespace: &str,
        id_or_name: &str,
        version: i32,
    ) -> Result<WirePipeline, Error> {
        find(self.engine.store(), namespace, id_or_name, version).await
    }

    async fn list(
        &self,
        namespace: &str,
        request: ListPipelinesRequest,
    ) -> Result<ListPipelinesResponse, Error> {
        let mut fields = Fields::new();
        let size = fields.page_size(request.page_size);
        fields.finish(())?;
        let after = read_page_token(&request.page_token)?;
        let found = async {
            let client = self.engine.store().client().await?;
            let (rows, count) = pipelines::list(&client, namespace, &after, size + 1).await?;
            let read: Result<Vec<_>, _> = rows.iter().map(read).collect();
            Ok((read?, count))
        };
        let (mut listed, stored_count) = found.await.map_err(store_error)?;
        let more = listed.len() > usize::try_from(size).unwrap_or(usize::MAX);
        if more {
            listed.pop();
        }
        let next_page_token = listed
            .last()
            .filter(|_| more)
            .map_or_else(String::new, |last| page_token(&last.name));
        let ours = built_in();
        let total_count = stored_count + i64::try_from(ours.len()).unwrap_or(0);
        // Built-in ones come first, with the first page and beyond its size: there are four.
        let pipelines = if after.is_empty() {
            ours.iter().cloned().chain(listed).collect()
        } else {
            listed
        };
        Ok(ListPipelinesResponse {
            pipelines,
            next_page_token,
            total_count,
        })
    }

    async fn delete(&self, namespace: &str, request: DeletePipelineRequest) -> Result<(), Error> {
        let content = digest(&request);
        let mut fields = Fields::new();
        fields.request_id(&request.request_id);
        fields.required_text("pipeline_id", &request.pipeline_id, 128);
        fields.finish(())?;
        if self
            .engine
            .earlier_subject(namespace, DELETE, &request.request_id, &content)
            .await?
            .is_some()
        {
            return Ok(());
        }
        let pipeline = self.get(namespace, &request.pipeline_id, 0).await?;
        if pipeline.built_in {
            return Err(Error::new(
                ErrorReason::PipelineBuiltIn,
                format!("{:?} is built in and cannot be deleted", pipeline.name),
            )
            .precondition(format!("pipeline/{}", pipeline.name), "it is built in"));
        }
        let id: PipelineId = pipeline
            .pipeline_id
            .parse()
            .map_err(|_| Error::internal())?;
        let now = self.engine.clock().now();
        let gone = async {
            let client = self.engine.store().client().await?;
            pipelines::delete(&client, namespace, id, now).await?;
            if let Some(made) =
                request_row(&request.request_id, DELETE, content, id.to_string(), now)
            {
                requests::record(&client, namespace, &made).await?;
            }
            Ok(())
        };
        gone.await.map_err(store_error)
    }
}

/// The pipeline that a request for a workflow names, or brings.
pub(super) async fn of_request(
    store: &Store,
    namespace: &str,
    request: &CreateWorkflowRequest,
) -> Result<WirePipeline, Error> {
    if let Some(pipeline) = &request.pipeline {
        if !request.pipeline_id.is_empty() {
            return Err(Error::invalid_field(
                "pipeline_id",
                "is not allowed together with an inline pipeline",
            ));
        }
        return Ok(pipeline.clone());
    }
    if !request.pipeline_id.is_empty() {
        return find(store, namespace, &request.pipeline_id, 0).await;
    }
    let name = match request.r#type() {
        WorkflowType::App => "app",
        WorkflowType::Feature => "feature",
        WorkflowType::Bugfix => "bugfix",
        WorkflowType::Change => "change",
        WorkflowType::Custom => {
            return Err(Error::invalid_field(
                "pipeline_id",
                "or an inline pipeline is required for a custom workflow",
            ));
        }
        WorkflowType::Unspecified => {
            return Err(Error::invalid_field(
                "type",
                "is required, and must be a known value",
            ));
        }
    };
    built_in()
        .iter()
        .find(|pipeline| pipeline.name == name)
        .cloned()
        .ok_or_else(Error::internal)
}

async fn find(
    store: &Store,
    namespace: &str,
    id_or_name: &str,
    version: i32,
) -> Result<WirePipeline, Error> {
    let mut fields = Fields::new();
    fields.required_text("pipeline_id", id_or_name, 128);
    if version < 0 {
        fields.wrong("version", "is negative");
    }
    fields.finish(())?;
    let ours = built_in();
    if let Some(pipeline) = ours.iter().find(|pipeline| pipeline.name == id_or_name)
        && (version == 0 || version == pipeline.version)
    {
        return Ok(pipeline.clone());
    }
    let found = async {
        let client = store.client().await?;
        pipelines::get(&client, namespace, id_or_name, version)
            .await?
            .as_ref()
            .map(read)
            .transpose()
    };
    found.await.map_err(store_error)?.ok_or_else(|| {
        let near = nearest(
            id_or_name,
            ours.iter().map(|pipeline| pipeline.name.as_str()),
        )
        .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        let version = if version > 0 {
            format!(" version {version}")
        } else {
            String::new()
        };
        Error::new(
            ErrorReason::PipelineNotFound,
            format!("there is no pipeline {id_or_name:?}{version}{near}"),
        )
    })
}

fn read(row: &StoredPipeline) -> Result<WirePipeline, StoreError> {
    WirePipeline::decode(row.pipeline.as_slice()).map_err(|error| malformed("pipelines", &error))
}

#[async_trait]
impl Service for PipelineService {
    async fn create_pipeline(
        &self,
        request: Request<CreatePipelineRequest>,
    ) -> Result<Response<CreatePipelineResponse>, Status> {
        let namespace = namespace::of(&request)?;
        let pipeline = self.create(&namespace, request.into_inner()).await?;
        let subject = format!("pipeline/{}", pipeline.name);
        let mut response = Response::new(CreatePipelineResponse {
            pipeline: Some(pipeline),
        });
        response.extensions_mut().insert(Subject(subject));
        Ok(response)
    }

    async fn get_pipeline(
        &self,
        request: Request<GetPipelineRequest>,
    ) -> Result<Response<GetPipelineResponse>, Status> {
        let namespace = namespace::of(&request)?;
        let request = request.into_inner();
        let found = self.get(&namespace, &request.pipeline_id, request.version);
        let pipeline = Some(found.await?);
        Ok(Response::new(GetPipelineResponse { pipeline }))
    }

    async fn list_pipelines(
        &self,
        request: Request<ListPipelinesRequest>,
    ) -> Result<Response<ListPipelinesResponse>, Status> {
        let namespace = namespace::of(&request)?;
        let listed = self.list(&namespace, request.into_inner()).await?;
        Ok(Response::new(listed))
    }

    async fn delete_pipeline(
        &self,
        request: Request<DeletePipelineRequest>,
    ) -> Result<Response<DeletePipelineResponse>, Status> {
        let namespace = namespace::of(&request)?;
        self.delete(&namespace, request.into_inner()).await?;
        Ok(Response::new(DeletePipelineResponse {}))
    }
}
