//! A collector in the test's own process, and what it was sent.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// What was sent.
#[derive(Clone, Default)]
pub struct Sent {
    traces: Vec<ExportTraceServiceRequest>,
    metrics: Vec<ExportMetricsServiceRequest>,
    logs: Vec<ExportLogsServiceRequest>,
}

impl Sent {
    pub fn spans(&self) -> Vec<&Span> {
        let resources = self.traces.iter().flat_map(|sent| &sent.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| &scope.spans).collect()
    }

    pub fn metrics(&self) -> Vec<&Metric> {
        let resources = self.metrics.iter().flat_map(|sent| &sent.resource_metrics);
        let scopes = resources.flat_map(|resource| &resource.scope_metrics);
        scopes.flat_map(|scope| &scope.metrics).collect()
    }

    /// Each with the target of its event.
    pub fn logs(&self) -> Vec<(&str, &LogRecord)> {
        let resources = self.logs.iter().flat_map(|sent| &sent.resource_logs);
        let scopes = resources.flat_map(|resource| &resource.scope_logs);
        let records = scopes.flat_map(|scope| {
            let target = scope.scope.as_ref().map_or("", |scope| scope.name.as_str());
            scope.log_records.iter().map(move |record| (target, record))
        });
        records.collect()
    }

    /// The log record that says this.
    pub fn log(&self, body: &str) -> &LogRecord {
        let logs = self.logs();
        let mut found = logs
            .iter()
            .filter(|(_, record)| text(record.body.as_ref()) == body);
        let (_, record) = found.next().unwrap_or_else(|| panic!("{body:?}: {logs:?}"));
        assert!(found.next().is_none(), "{body:?} is sent once");
        record
    }

    /// Whether any of it holds this, as it is.
    pub fn holds(&self, text: &str) -> bool {
        let traces = self.traces.iter().map(Message::encode_to_vec);
        let metrics = self.metrics.iter().map(Message::encode_to_vec);
        let logs = self.logs.iter().map(Message::encode_to_vec);
        let mut all = traces.chain(metrics).chain(logs);
        all.any(|bytes| {
            let mut parts = bytes.windows(text.len());
            parts.any(|part| part == text.as_bytes())
        })
    }
}

/// The value as a text; empty if it is none.
pub fn text(value: Option<&AnyValue>) -> &str {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        _ => "",
    }
}

/// An attribute as a text; empty without one.
pub fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    text(found.and_then(|attribute| attribute.value.as_ref()))
}

#[derive(Clone)]
struct Takes {
    sent: Arc<Mutex<Sent>>,
    log_records: watch::Sender<usize>,
}

#[tonic::async_trait]
impl TraceService for Takes {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.sent.lock().unwrap().traces.push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Takes {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.sent.lock().unwrap().metrics.push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Takes {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let mut sent = self.sent.lock().unwrap();
        sent.logs.push(request.into_inner());
        self.log_records.send_replace(sent.logs().len());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

/// A collector that runs until it is dropped.
pub struct Receiver {
    takes: Takes,
    endpoint: String,
    authority: String,
    _serving: JoinSet<Result<(), tonic::transport::Error>>,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::serve(Server::builder(), "http", String::new()).await
    }

    /// With a certificate of an authority that nobody else knows.
    pub async fn start_with_tls() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let certificate = made.cert.pem();
        let identity = Identity::from_pem(&certificate, made.signing_key.serialize_pem());
        let tls = ServerTlsConfig::new().identity(identity);
        let server = Server::builder().tls_config(tls).unwrap();
        Self::serve(server, "https", certificate).await
    }

    async fn serve(mut server: Server, scheme: &str, authority: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("{scheme}://{}", listener.local_addr().unwrap());
        let takes = Takes {
            sent: Arc::default(),
            log_records: watch::Sender::new(0),
        };
        let server = server
            .add_service(TraceServiceServer::new(takes.clone()))
            .add_service(MetricsServiceServer::new(takes.clone()))
            .add_service(LogsServiceServer::new(takes.clone()));
        let mut serving = JoinSet::new();
        serving.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self {
            takes,
            endpoint,
            authority,
            _serving: serving,
        }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Who vouches for it, as PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Ends when log records have come.
    pub async fn has_logs(&self) {
        let mut count = self.takes.log_records.subscribe();
        count.wait_for(|count| *count > 0).await.unwrap();
    }

    pub fn sent(&self) -> Sent {
        self.takes.sent.lock().unwrap().clone()
    }
}
