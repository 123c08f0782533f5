//! The gRPC server of every process: limits, health, reflection in both versions, spans that
//! continue the caller's trace, and a shutdown that ends even when a stream does not.

use std::net::SocketAddr;
use std::time::Duration;

use axum::routing::Route;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::server::HealthReporter;
use tower::Layer;

use crate::admission::{AdmissionLayer, Callers};
use crate::spans::SpanLayer;
use crate::tls::{CallerCertificate, Tls, accept};

// A caller's pings keep its own stream alive; ours find callers that are gone.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
// One watcher is one stream; a proxy in front may multiplex many callers.
const STREAMS_PER_CONNECTION: u32 = 2048;
const HEALTH: &str = "grpc.health.v1.Health";

/// Why a server could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The reflection service does not read our contract.
    #[error("reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("gRPC transport")]
    Transport(#[from] tonic::transport::Error),
}

/// Binds before anything is served, so that a taken port is known at once.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Bind { address, source })
}

type Guard = Box<dyn FnOnce(axum::Router) -> axum::Router + Send>;

/// A server that is being put together.
pub struct Server {
    routes: RoutesBuilder,
    guard: Option<Guard>,
    health: HealthReporter,
    reflection: bool,
    // The contract has more services than any one process serves.
    served: Vec<&'static str>,
    tls: Tls,
    callers: Callers,
}

impl Server {
    /// A server with health and reflection, in clear text, for anyone.
    pub fn new(reflection: bool) -> Self {
        let (health, service) = tonic_health::server::health_reporter();
        let mut routes = Routes::builder();
        routes.add_service(service);
        Self {
            routes,
            guard: None,
            health,
            reflection,
            served: vec![HEALTH],
            tls: Tls::default(),
            callers: Callers::Anyone,
        }
    }

    /// Serves with a certificate, where there is one, and then takes calls of these callers only.
    #[must_use]
    pub fn secured(mut self, tls: Tls, callers: Callers) -> Self {
        self.tls = tls;
        self.callers = callers;
        self
    }

    /// Adds a service, NOT_SERVING until it is said to serve.
    pub async fn add<S>(&mut self, service: S)
    where
        S: tower::Service<http::Request<Body>, Error = std::convert::Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.health.set_not_serving::<S>().await;
        self.routes.add_service(service);
        self.served.push(S::NAME);
    }

    /// Adds a service that serves from the start.
    pub async fn add_serving<S>(&mut self, service: S)
    where
        S: tower::Service<http::Request<Body>, Error = std::convert::Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.add(service).await;
        self.health.set_serving::<S>().await;
    }

    /// Puts a layer in front of all services, those that every process has and unknown ones too.
    pub fn guard<L>(&mut self, layer: L)
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: tower::Service<
                axum::extract::Request,
                Response = axum::response::Response,
                Error = std::convert::Infallible,
            > + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as tower::Service<axum::extract::Request>>::Future: Send + 'static,
    {
        self.guard = Some(Box::new(move |router| router.layer(layer)));
    }

    /// Names of the services that were added.
    pub fn names(&self) -> Vec<&'static str> {
        let own = |name: &&str| *name != HEALTH;
        self.served.iter().copied().filter(own).collect()
    }

    /// Says per service whether it serves.
    pub fn health(&self) -> HealthReporter {
        self.health.clone()
    }

    /// Serves until the token is cancelled and every call has ended, or `grace` after the token.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        shutdown: CancellationToken,
        grace: Duration,
    ) -> Result<(), ServeError> {
        if self.reflection {
            let reflection = |itself| {
                let builder = tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(contracts::DESCRIPTORS)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                    .with_service_name(itself);
                let served = self.served.iter().copied();
                served.fold(
                    builder,
                    tonic_reflection::server::Builder::with_service_name,
                )
            };
            // grpcurl versions differ in which one they ask for.
            let v1 = reflection("grpc.reflection.v1.ServerReflection").build_v1()?;
            let v1alpha = reflection("grpc.reflection.v1alpha.ServerReflection").build_v1alpha()?;
            self.routes.add_service(v1);
            self.routes.add_service(v1alpha);
        }
        let mut routes = self.routes.routes();
        if let Some(guard) = self.guard {
            routes = guard(routes.into_axum_router()).into();
        }
        let certificate = match self.callers {
            Callers::Anyone => CallerCertificate::Optional,
            Callers::Orchestrator => CallerCertificate::Required,
        };
        let serving = tonic::transport::Server::builder()
            .layer(SpanLayer)
            .layer(AdmissionLayer::new(self.callers, self.tls.identity()))
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                accept::incoming(listener, self.tls, certificate),
                shutdown.clone().cancelled_owned(),
            );
        tokio::pin!(serving);
        tokio::select! {
            biased;
            served = &mut serving => return Ok(served?),
            () = shutdown.cancelled() => {}
        }
        match tokio::time::timeout(grace, serving).await {
            Ok(served) => Ok(served?),
            Err(_) => {
                tracing::warn!(?grace, "calls were cut: they did not end within the grace");
                Ok(())
            }
        }
    }
}
