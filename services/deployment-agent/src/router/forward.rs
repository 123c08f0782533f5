//! One request from a client to a backend and the answer back. Sends a request again only when it
//! certainly was not acted on: it never left, or it is safe by RFC 9110 §9.2.1, has no body, and a
//! kept connection closed before the first byte of an answer.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Instant};

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body as _, Incoming},
    client::conn::{TrySendError, http2::SendRequest},
    upgrade::OnUpgrade,
};

use super::{
    Inner,
    backend::Pass,
    body::{self, Guarded, Hold, LastUpload, RequestBody, ResponseBody},
    connection::{ConnectError, Http1},
    counters::Counters,
    headers, upgrade,
};

/// Backends that one request may be tried on before the client is told.
const MAX_TRIES: usize = 4;

/// Why the router answers by itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("nothing is live here: {0}")]
    Vacant(String),
    #[error("no instance could be reached: {0}")]
    Unreachable(ConnectError),
    #[error("the instance broke off before it answered")]
    BrokeOff(#[source] hyper::Error),
    #[error("the instance did not answer in time")]
    Late,
    #[error("the instance was shut down before it answered")]
    Cut,
    #[error("the router does not tunnel: CONNECT is refused")]
    Tunnel,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Vacant(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable(_) | Self::BrokeOff(_) | Self::Cut => StatusCode::BAD_GATEWAY,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Tunnel => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    fn response(&self) -> Response<ResponseBody> {
        let mut response = Response::new(body::text(format!("{self}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Forwards one request; whatever goes wrong becomes an answer that says so.
pub(super) async fn forward(
    inner: Arc<Inner>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, std::convert::Infallible> {
    inner.totals.request();
    let answer = match try_forward(&inner, peer, request).await {
        Ok(response) => response,
        Err(refusal) => {
            inner.totals.refused(&refusal);
            tracing::debug!(reason = %refusal, "request refused");
            refusal.response()
        }
    };
    Ok(answer)
}

async fn try_forward(
    inner: &Arc<Inner>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::Tunnel);
    }
    let over_http2 = is_grpc(&request);
    let upgrade = headers::wanted_upgrade(&request);
    let client_upgrade = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
    headers::prepare_request(&mut request, peer, upgrade.as_ref(), over_http2);
    let outgoing = Outgoing::new(request, upgrade.is_some(), over_http2);
    send(inner, outgoing, client_upgrade).await
}

/// A request that may be sent more than once.
struct Outgoing {
    request: Option<Request<RequestBody>>,
    /// Copy of a safe request without a body.
    again: Option<Request<()>>,
    over_http2: bool,
    uploaded: LastUpload,
}

impl Outgoing {
    fn new(request: Request<Incoming>, upgrades: bool, over_http2: bool) -> Self {
        let (parts, body) = request.into_parts();
        let is_empty = body.is_end_stream();
        let again = (parts.method.is_safe() && is_empty && !upgrades).then(|| {
            let mut copy = Request::new(());
            copy.method_mut().clone_from(&parts.method);
            copy.uri_mut().clone_from(&parts.uri);
            copy.headers_mut().clone_from(&parts.headers);
            *copy.version_mut() = if over_http2 {
                Version::HTTP_2
            } else {
                Version::HTTP_11
            };
            copy
        });
        let uploaded = LastUpload::default();
        let body = if is_empty {
            body::empty()
        } else {
            body::upload(body, uploaded.clone())
        };
        let mut request = Request::from_parts(parts, body);
        *request.version_mut() = if over_http2 {
            Version::HTTP_2
        } else {
            Version::HTTP_11
        };
        request.extensions_mut().clear();
        Self {
            request: Some(request),
            again,
            over_http2,
            uploaded,
        }
    }

    fn take(&mut self) -> Option<Request<RequestBody>> {
        self.request
            .take()
            .or_else(|| Some(self.again.take()?.map(|()| body::empty())))
    }
}

async fn send(
    inner: &Arc<Inner>,
    mut outgoing: Outgoing,
    client_upgrade: Option<OnUpgrade>,
) -> Result<Response<ResponseBody>, Refusal> {
    let mut tried = Vec::new();
    let mut last = None;
    for _ in 0..MAX_TRIES {
        let Some(pass) = inner.pick(&tried) else {
            break;
        };
        let refusal = match line_to(inner, &pass, &outgoing).await {
            Err(error) => Attempt::NotSent(error),
            Ok(line) => {
                let Some(request) = outgoing.take() else {
                    break;
                };
                match exchange(inner, &pass, line, request, &mut outgoing).await {
                    Ok((response, line)) => {
                        return Ok(answer(inner, pass, response, line, client_upgrade));
                    }
                    Err(attempt) => attempt,
                }
            }
        };
        match refusal {
            Attempt::NotSent(error) => {
                pass.count(Counters::unreachable);
                tracing::debug!(backend = %pass.backend().address(), %error, "backend unreachable");
                tried.push(pass.backend().id());
                last = Some(Refusal::Unreachable(error));
            }
            // Only the kept connection was at fault; the backend may well be used again.
            Attempt::Stale(error) => last = Some(Refusal::BrokeOff(error)),
            Attempt::Refused(refusal) => {
                pass.count(Counters::transport_error);
                return Err(refusal);
            }
        }
    }
    Err(last.unwrap_or_else(|| Refusal::Vacant(inner.vacant_reason())))
}

/// What a request goes over.
enum Line {
    Http1(Http1),
    Http2(SendRequest<RequestBody>),
}

enum Attempt {
    NotSent(ConnectError),
    Stale(hyper::Error),
    Refused(Refusal),
}

async fn line_to(inner: &Inner, pass: &Pass, outgoing: &Outgoing) -> Result<Line, ConnectError> {
    let backend = pass.backend();
    if outgoing.over_http2 {
        return backend
            .pool
            .http2(backend.address(), &inner.runner)
            .await
            .map(Line::Http2);
    }
    // Only a request that can be sent again may meet a connection that is just being closed.
    let may_reuse = outgoing.again.is_some();
    let wait = inner.limits.answer_within;
    backend
        .pool
        .http1(backend.address(), may_reuse, &inner.runner, wait)
        .await
        .map(Line::Http1)
}

async fn exchange(
    inner: &Inner,
    pass: &Pass,
    mut line: Line,
    request: Request<RequestBody>,
    outgoing: &mut Outgoing,
) -> Result<(Response<Incoming>, Line), Attempt> {
    let started = Instant::now();
    pass.count(Counters::request);
    let sent = match &mut line {
        Line::Http1(connection) => {
            let answer = connection.sender.try_send_request(request);
            watch(inner, pass, outgoing, answer).await?
        }
        Line::Http2(sender) => {
            watch(inner, pass, outgoing, sender.try_send_request(request)).await?
        }
    };
    let mut error = match sent {
        Ok(response) => {
            let latency = started.elapsed();
            pass.count(|counters| counters.answered(response.status(), latency));
            return Ok((response, line));
        }
        Err(error) => error,
    };
    let reused = match &line {
        Line::Http1(connection) => connection.reused,
        Line::Http2(_) => true,
    };
    let unsent = error.take_message();
    let address = pass.backend().address();
    match (unsent, reused) {
        (Some(request), false) => {
            outgoing.request = Some(request);
            let source = error.into_error();
            Err(Attempt::NotSent(ConnectError::Handshake {
                address,
                source,
            }))
        }
        (Some(request), true) => {
            outgoing.request = Some(request);
            Err(Attempt::Stale(error.into_error()))
        }
        (None, true) if outgoing.again.is_some() => Err(Attempt::Stale(error.into_error())),
        (None, _) => Err(Attempt::Refused(Refusal::BrokeOff(error.into_error()))),
    }
}

type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Waits for the answer, the deadline or the cut, whichever is first. The deadline counts from the
/// last byte of the upload, so that a slow upload is not mistaken for a slow app.
async fn watch(
    inner: &Inner,
    pass: &Pass,
    outgoing: &Outgoing,
    answer: impl Future<Output = Sent>,
) -> Result<Sent, Attempt> {
    let mut answer = pin!(answer);
    let mut deadline = Instant::now() + inner.limits.answer_within;
    loop {
        tokio::select! {
            biased;
            () = pass.cut().cancelled() => return Err(Attempt::Refused(Refusal::Cut)),
            sent = &mut answer => return Ok(sent),
            () = tokio::time::sleep_until(deadline.into()) => {
                let later = outgoing.uploaded.at().map(|at| at + inner.limits.answer_within);
                match later.filter(|later| *later > deadline) {
                    Some(later) => deadline = later,
                    None => return Err(Attempt::Refused(Refusal::Late)),
                }
            }
        }
    }
}

fn answer(
    inner: &Inner,
    pass: Pass,
    mut response: Response<Incoming>,
    line: Line,
    client_upgrade: Option<OnUpgrade>,
) -> Response<ResponseBody> {
    let connection = match line {
        Line::Http1(connection) => Some(connection),
        Line::Http2(_) => None,
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = client_upgrade
    {
        let backend = hyper::upgrade::on(&mut response);
        inner
            .runner
            .run(upgrade::join(Hold { pass, connection }, client, backend));
        return response.map(|_| body::text(String::new()));
    }
    headers::prepare_response(&mut response);
    let hold = Hold { pass, connection };
    response.map(|body| Guarded::response(body, hold).boxed())
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_2
        && request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Names that the forwarding modules share.
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
