//! Puts the orchestrator together and serves it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use contracts::MESSAGE_BYTES;
use contracts::lease::Signer;
use contracts::orchestrator::agent_registry_service_server::AgentRegistryServiceServer;
use contracts::orchestrator::artifact_service_server::ArtifactServiceServer;
use contracts::orchestrator::audit_service_server::AuditServiceServer;
use contracts::orchestrator::clarification_service_server::ClarificationServiceServer;
use contracts::orchestrator::decision_service_server::DecisionServiceServer;
use contracts::orchestrator::enrolment_service_server::EnrolmentServiceServer;
use contracts::orchestrator::pipeline_service_server::PipelineServiceServer;
use contracts::orchestrator::token_service_server::TokenServiceServer;
use contracts::orchestrator::workflow_service_server::WorkflowServiceServer;
use service_runtime::admission::Callers;
use service_runtime::http_port;
use service_runtime::server::{self, ServeError, Server};
use service_runtime::tls::Tls;

use crate::access::audit::Audit;
use crate::access::config::BootstrapToken;
use crate::access::limit::{Limiter, LocalLimiter, SharedLimiter, Underway};
use crate::access::oidc::Oidc;
use crate::access::{Access, AccessLayer, Tokens};
use crate::agents::Agents;
use crate::agents::session::Sessions;
use crate::artifacts::{ArtifactError, ArtifactStore};
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::{Engine, EngineError, Parts};
use crate::events::Events;
use crate::grpc::agent_registry_service::AgentRegistryService;
use crate::grpc::artifact_service::ArtifactService;
use crate::grpc::audit_service::AuditService;
use crate::grpc::clarification_service::ClarificationService;
use crate::grpc::decision_service::DecisionService;
use crate::grpc::enrolment_service::EnrolmentService;
use crate::grpc::pipeline_service::PipelineService;
use crate::grpc::token_service::TokenService;
use crate::grpc::workflow_service::WorkflowService;
use crate::health;
use crate::hints::Bus;
use crate::logs::Logs;
use crate::metrics;
use crate::retention::Keeper;
use crate::revocation;
use crate::store::{Store, StoreError, replicas, tasks};

/// Where the orchestrator listens.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// gRPC.
    pub grpc: SocketAddr,
    /// HTTP.
    pub http: Option<SocketAddr>,
}

/// Why the orchestrator could not serve.
#[derive(Debug, thiserror::Error)]
pub enum OrchestratorError {
    /// The server.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The database.
    #[error("database")]
    Store(#[from] StoreError),
    /// The OpenID provider cannot be asked.
    #[error("client for the OpenID provider")]
    Oidc(#[from] reqwest::Error),
    /// The artifact store.
    #[error("artifact store")]
    Artifacts(#[from] ArtifactError),
    /// The key that leases are signed with.
    #[error(transparent)]
    Signer(#[from] contracts::lease::KeyError),
    /// What an earlier life left.
    #[error("recovery")]
    Recovery(#[from] EngineError),
}

/// Serves until the token is cancelled. `bound` is told the addresses when everything is ready.
pub async fn serve(
    config: Config,
    shutdown: CancellationToken,
    bound: oneshot::Sender<Bound>,
) -> Result<(), OrchestratorError> {
    let listener = server::bind(config.address).await?;
    let grpc = listener.local_addr().map_err(|source| ServeError::Bind {
        address: config.address,
        source,
    })?;
    let tracker = TaskTracker::new();
    let store = Store::new(&config.database_url, config.connections)?;
    store.migrate().await?;
    let artifacts = ArtifactStore::open(&config.artifacts, tracker.clone())?;
    let replica_id = Uuid::now_v7().to_string();
    let clock = Arc::new(Clock::default());
    {
        let client = store.client().await?;
        let asked = Instant::now();
        let (now, _) = replicas::renew(&client, &replica_id, Duration::ZERO).await?;
        clock.set(now, asked.elapsed());
    }
    let agents = Agents::default();
    let signer = Arc::new(Signer::generate()?);
    // Loops end with the first token; sessions and calls go on until they have drained.
    let engine = Engine::new(Parts {
        store: store.clone(),
        bus: match config.redis.clone() {
            Some(redis) => Bus::Redis(redis),
            None => Bus::Database(store.clone()),
        },
        agents: agents.clone(),
        signer: signer.clone(),
        events: Events::default(),
        logs: Logs::default(),
        clock: clock.clone(),
        live_workflows: config.live_workflows,
        replica_id: replica_id.clone(),
        tracker: tracker.clone(),
        shutdown: shutdown.clone(),
    });
    if config.agents_are_ours {
        engine.lose_all().await?;
    }
    engine.start();
    tracker.spawn(
        Keeper {
            store: store.clone(),
            artifacts: artifacts.clone(),
            retention: config.retention,
        }
        .run(shutdown.clone()),
    );
    tracker.spawn(metrics::observe(engine.clone(), shutdown.clone()));
    tracker.spawn(config.tls.clone().watch(shutdown.clone()));
    refuse_revoked(&config, &store, &tracker, &shutdown).await?;
    let sessions = Sessions {
        agents: agents.clone(),
        arbiter: engine.clone(),
        clock,
        tracker: tracker.clone(),
        shutdown: shutdown.clone(),
        tls: config.tls.clone(),
        signer,
    };

    let tokens = Tokens::new(store.clone());
    keep_tokens(&tokens, &config.access.bootstrap).await?;
    let mut services = Server::new(config.reflection).secured(config.tls.clone(), Callers::Anyone);
    services.guard(guard(&config, &store, &tokens, &tracker, &shutdown)?);
    add_services(
        &mut services,
        &engine,
        artifacts,
        sessions,
        tokens,
        &tracker,
    )
    .await;
    let enrolment = EnrolmentService::new(
        store.clone(),
        config.enrolment.clone(),
        config.tls.revoked(),
    );
    add_enrolment(&mut services, enrolment).await;
    tracker.spawn(health::follow(
        store.clone(),
        services.health(),
        services.names(),
        shutdown.clone(),
    ));
    let stop_http = CancellationToken::new();
    let http = serve_http(&config, &engine, &tracker, &stop_http).await?;
    // Nobody waits for the addresses any more: serve all the same.
    let _ = bound.send(Bound { grpc, http });
    tracing::info!(%grpc, ?http, replica_id, "orchestrator serves");

    let served = services
        .serve(listener, shutdown.clone(), config.shutdown_grace)
        .await;
    agents.reconnect_all(config.shutdown_grace);
    tracker.close();
    stop_http.cancel();
    end_within(config.shutdown_grace, &tracker, &store, &replica_id).await;
    Ok(served?)
}

async fn end_within(grace: Duration, tracker: &TaskTracker, store: &Store, replica_id: &str) {
    if tokio::time::timeout(grace, tracker.wait()).await.is_err() {
        tracing::warn!("some tasks did not end within the grace");
    }
    let left = tokio::time::timeout(grace, leave(store, replica_id)).await;
    if !matches!(left, Ok(Ok(()))) {
        tracing::warn!(error = ?left, "leases were not given back; they run out by themselves");
    }
}

// Who may call what, and how often.
fn guard(
    config: &Config,
    store: &Store,
    tokens: &Tokens,
    tracker: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<AccessLayer, OrchestratorError> {
    Ok(AccessLayer::new(Access {
        mode: config.access.mode,
        tokens: tokens.clone(),
        oidc: config.access.oidc.clone().map(Oidc::new).transpose()?,
        limiter: limiter(config, tracker, shutdown),
        underway: Underway::new(config.access.bounds),
        audit: Audit::start(store.clone(), tracker),
        revoked: config.tls.revoked(),
        tracker: tracker.clone(),
    }))
}

// With Redis, all replicas share one budget of each caller.
fn limiter(
    config: &Config,
    tracker: &TaskTracker,
    shutdown: &CancellationToken,
) -> Arc<dyn Limiter> {
    let rates = config.access.rates;
    let Some(redis) = config.redis.clone() else {
        return Arc::new(LocalLimiter::new(rates));
    };
    let limiter = Arc::new(SharedLimiter::new(rates));
    tracker.spawn(limiter.clone().keep(redis, shutdown.clone()));
    limiter
}

// Before anybody is taken in, and from then on.
async fn refuse_revoked(
    config: &Config,
    store: &Store,
    tracker: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<(), StoreError> {
    if config.tls.can_serve() {
        let revoked = config.tls.revoked();
        revocation::look(store, &revoked).await?;
        tracker.spawn(revocation::follow(store.clone(), revoked, shutdown.clone()));
    }
    Ok(())
}

// Others need not wait for our leases to run out.
async fn leave(store: &Store, replica_id: &str) -> Result<(), StoreError> {
    let client = store.client().await?;
    tasks::give_back(&client, replica_id).await?;
    replicas::remove(&client, replica_id).await
}

// Those that the process was started with.
async fn keep_tokens(tokens: &Tokens, bootstrap: &[BootstrapToken]) -> Result<(), StoreError> {
    for token in bootstrap {
        let row = token.row();
        if tokens.keep(&token.secret, row).await? {
            tracing::warn!(
                name = token.name,
                "the token of the settings was ended by an administrator, and stays so"
            );
        }
    }
    Ok(())
}

async fn add_services(
    services: &mut Server,
    engine: &Engine,
    artifacts: ArtifactStore,
    sessions: Sessions<Engine>,
    tokens: Tokens,
    tracker: &TaskTracker,
) {
    macro_rules! add {
        ($server:ident, $service:expr) => {{
            type Served<T> = $server<T>;
            let service = Served::new($service).max_decoding_message_size(MESSAGE_BYTES);
            services.add_serving(service).await;
        }};
    }
    add!(
        WorkflowServiceServer,
        WorkflowService::new(engine.clone(), artifacts.clone(), tracker.clone())
    );
    add!(PipelineServiceServer, PipelineService::new(engine.clone()));
    add!(DecisionServiceServer, DecisionService::new(engine.clone()));
    add!(
        ClarificationServiceServer,
        ClarificationService::new(engine.clone())
    );
    add!(
        ArtifactServiceServer,
        ArtifactService::new(artifacts, engine.store().clone())
    );
    add!(
        AuditServiceServer,
        AuditService::new(engine.store().clone())
    );
    add!(
        TokenServiceServer,
        TokenService::new(engine.clone(), tokens)
    );
    add!(
        AgentRegistryServiceServer,
        AgentRegistryService::new(sessions)
    );
}

async fn add_enrolment(services: &mut Server, enrolment: EnrolmentService) {
    let service = EnrolmentServiceServer::new(enrolment).max_decoding_message_size(MESSAGE_BYTES);
    services.add_serving(service).await;
}

async fn serve_http(
    config: &Config,
    engine: &Engine,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Option<SocketAddr>, ServeError> {
    let Some(address) = config.http_address else {
        return Ok(None);
    };
    let listener = server::bind(address).await?;
    let bound = listener
        .local_addr()
        .map_err(|source| ServeError::Bind { address, source })?;
    let store = engine.store().clone();
    let tls = config.tls.clone();
    let ready: http_port::Readiness = Arc::new(move || {
        let store = store.clone();
        let tls = tls.clone();
        Box::pin(async move {
            tls.check()?;
            store
                .ping()
                .await
                .map_err(|error| format!("the database does not answer: {error}"))
        })
    });
    let router = http_port::router(
        ready,
        config.registry.clone(),
        config.access.origins.clone(),
    );
    let stop = stop.clone();
    let tls = if config.http_tls {
        config.tls.clone()
    } else {
        Tls::default()
    };
    tracker.spawn(async move {
        if let Err(error) = http_port::serve(listener, tls, router, stop).await {
            tracing::error!(%error, "the HTTP port broke");
        }
    });
    Ok(Some(bound))
}
