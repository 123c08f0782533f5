//! A single look over a connection of its own, as a new user would come. Never reuses a connection
//! and never tries again: that is for whoever judges.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use tokio::{net::TcpStream, time::Instant};

use super::{KEPT_BODY_BYTES, Observation, Outcome};
use crate::spec::HttpCheck;

/// Bytes of a body that are searched for the expected text.
const SEARCHED_BODY_BYTES: usize = 256 * 1024;

/// Does the port accept a connection? A published container port is held open by the engine, which
/// closes the connection again when nobody listens inside: `keeps` asks that it stays open that long.
pub async fn tcp(address: SocketAddr, within: Duration, keeps: Duration) -> Observation {
    let started = Instant::now();
    let (outcome, error) = match tokio::time::timeout(within, TcpStream::connect(address)).await {
        Ok(Ok(stream)) if stays_open(&stream, keeps).await => (Outcome::Pass, None),
        Ok(Ok(_)) => (Outcome::Fail, Some("closes connections at once".to_owned())),
        Ok(Err(error)) => (blame(&error), Some(refusal(&error))),
        Err(_) => (
            Outcome::Fail,
            Some(format!("no connection within {within:?}")),
        ),
    };
    Observation {
        url: Observation::tcp_url(address),
        outcome,
        status: None,
        latency: started.elapsed(),
        error,
        body: String::new(),
    }
}

async fn stays_open(stream: &TcpStream, keeps: Duration) -> bool {
    if keeps.is_zero() {
        return true;
    }
    let mut byte = [0];
    match tokio::time::timeout(keeps, stream.peek(&mut byte)).await {
        Ok(Ok(count)) => count > 0,
        Ok(Err(_)) => false,
        Err(_) => true,
    }
}

/// Is the answer to a GET what it should be, and fast enough?
pub async fn http(
    address: SocketAddr,
    check: &HttpCheck,
    within: Duration,
    latency_below: Option<Duration>,
) -> Observation {
    let started = Instant::now();
    let seen = tokio::time::timeout(within, get(address, &check.path)).await;
    let latency = started.elapsed();
    let url = format!("http://{address}{}", check.path);
    let nothing = |outcome, error| Observation {
        url: url.clone(),
        outcome,
        status: None,
        latency,
        error: Some(error),
        body: String::new(),
    };
    let answer = match seen {
        Ok(Ok(answer)) => answer,
        Ok(Err(LookError::Connect(error))) => return nothing(blame(&error), refusal(&error)),
        Ok(Err(LookError::Path(error))) => {
            return nothing(Outcome::NoData, format!("cannot be asked: {error}"));
        }
        Ok(Err(LookError::Http(error))) => {
            return nothing(Outcome::Fail, format!("broke off: {error}"));
        }
        Err(_) => return nothing(Outcome::Fail, format!("did not answer within {within:?}")),
    };
    let error = complaint(&answer, check, latency, latency_below);
    let kept = answer.body.len().min(KEPT_BODY_BYTES);
    Observation {
        url,
        outcome: if error.is_none() {
            Outcome::Pass
        } else {
            Outcome::Fail
        },
        status: Some(answer.status.as_u16()),
        latency,
        error,
        body: String::from_utf8_lossy(&answer.body[..kept]).into_owned(),
    }
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("not a path")]
    Path(#[source] http::Error),
    #[error("the exchange failed")]
    Http(#[source] hyper::Error),
}

async fn get(address: SocketAddr, path: &str) -> Result<Answer, LookError> {
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, "agentic-probe")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(LookError::Path)?;
    let stream = TcpStream::connect(address)
        .await
        .map_err(LookError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(LookError::Http)?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(LookError::Http)?;
        let status = response.status();
        Ok(Answer {
            status,
            body: first_part(response.into_body()).await?,
        })
    };
    // The connection is driven beside the exchange and dropped with it.
    let driven = async {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "probe connection ended badly");
        }
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        answer = exchange => answer,
        never = driven => match never {},
    }
}

async fn first_part(mut body: Incoming) -> Result<Bytes, LookError> {
    let mut kept = BytesMut::new();
    while kept.len() < SEARCHED_BODY_BYTES {
        let Some(frame) = body.frame().await else {
            break;
        };
        if let Ok(part) = frame.map_err(LookError::Http)?.into_data() {
            kept.extend_from_slice(&part);
        }
    }
    Ok(kept.freeze())
}

fn complaint(
    answer: &Answer,
    check: &HttpCheck,
    latency: Duration,
    latency_below: Option<Duration>,
) -> Option<String> {
    if answer.status.as_u16() != check.status {
        return Some(format!(
            "answered {}, not {}",
            answer.status.as_u16(),
            check.status
        ));
    }
    if let Some(text) = &check.contains
        && memchr::memmem::find(&answer.body, text.as_bytes()).is_none()
    {
        return Some(format!("answered without {text:?}"));
    }
    match latency_below {
        Some(bound) if latency >= bound => Some(format!("took longer than {bound:?}")),
        Some(_) | None => None,
    }
}

fn refusal(error: &io::Error) -> String {
    format!("cannot be reached: {error}")
}

/// Whose fault it is that no connection was made. What this machine lacks says nothing of the app.
fn blame(error: &io::Error) -> Outcome {
    let lacking = [
        Errno::EMFILE,
        Errno::ENFILE,
        Errno::ENOMEM,
        Errno::ENOBUFS,
        Errno::EADDRNOTAVAIL,
    ];
    match error.raw_os_error() {
        Some(code) if lacking.contains(&Errno::from_raw(code)) => Outcome::NoData,
        Some(_) | None => Outcome::Fail,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    async fn look_at(answer: &'static str, check: HttpCheck) -> Observation {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            seen = http(address, &check, Duration::from_millis(300), None) => seen,
            () = served => unreachable!("the app never ends"),
        }
    }

    fn check(contains: Option<&str>) -> HttpCheck {
        HttpCheck {
            path: "/health".into(),
            status: 200,
            contains: contains.map(Into::into),
        }
    }

    #[tokio::test]
    async fn a_good_answer_passes_and_its_body_is_kept() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhappy";
        let seen = look_at(answer, check(Some("hap"))).await;
        assert_eq!((seen.outcome, seen.status), (Outcome::Pass, Some(200)));
        assert_eq!(seen.body, "happy");
    }

    #[tokio::test]
    async fn a_wrong_status_a_wrong_body_silence_and_garbage_fail() {
        let broken = "HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nboom";
        let seen = look_at(broken, check(None)).await;
        assert_eq!((seen.outcome, seen.status), (Outcome::Fail, Some(500)));
        assert_eq!(seen.body, "boom");
        let other = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nsad";
        assert_eq!(
            look_at(other, check(Some("happy"))).await.outcome,
            Outcome::Fail
        );
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\nhal";
        assert_eq!(look_at(half, check(None)).await.outcome, Outcome::Fail);
        assert_eq!(look_at("", check(None)).await.outcome, Outcome::Fail);
        assert_eq!(
            look_at("no http at all\r\n\r\n", check(None)).await.outcome,
            Outcome::Fail
        );
    }

    #[tokio::test]
    async fn nobody_listening_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let seen = http(address, &check(None), Duration::from_secs(1), None).await;
        assert_eq!((seen.outcome, seen.status), (Outcome::Fail, None));
        assert_eq!(
            tcp(address, Duration::from_secs(1), Duration::ZERO)
                .await
                .outcome,
            Outcome::Fail
        );
    }

    #[tokio::test]
    async fn a_port_that_closes_at_once_is_open_only_for_who_does_not_look_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closing = async {
            loop {
                drop(listener.accept().await.unwrap());
            }
        };
        let looks = async {
            let second = Duration::from_secs(1);
            assert_eq!(
                tcp(address, second, Duration::ZERO).await.outcome,
                Outcome::Pass
            );
            assert_eq!(tcp(address, second, second).await.outcome, Outcome::Fail);
        };
        tokio::select! {
            () = looks => {}
            () = closing => {}
        }
    }

    #[test]
    fn what_this_machine_lacks_says_nothing_of_the_app() {
        let error = io::Error::from_raw_os_error(Errno::EMFILE as i32);
        assert_eq!(blame(&error), Outcome::NoData);
        let error = io::Error::from_raw_os_error(Errno::ECONNREFUSED as i32);
        assert_eq!(blame(&error), Outcome::Fail);
    }
}
