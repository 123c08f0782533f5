//! As much of HTTP/1.1 as a service without request bodies needs. Knows nothing of what is served.

use std::io::{self, BufRead, Read, Write};

/// Most bytes of a request's first line and headers.
const HEAD_LIMIT: u64 = 16 * 1024;

/// A request, read up to the end of its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// Path, without the query.
    pub path: String,
    /// Whether the connection can carry another request after this one.
    pub keep_alive: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Media type of the body.
    pub media_type: &'static str,
    /// Further headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: Vec<u8>,
}

/// What became of waiting for a request.
#[derive(Debug)]
pub enum Incoming {
    /// There is one.
    Request(Request),
    /// The other side is done, or silent for too long.
    End,
    /// What came is no request: answer with this status and close.
    Malformed(u16),
}

/// Reads the next request of a connection.
pub fn read_request(connection: &mut impl BufRead) -> Incoming {
    let mut head = connection.take(HEAD_LIMIT);
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        match head.read_until(b'\n', &mut line) {
            Err(_) => return Incoming::End,
            Ok(_) if line.last() != Some(&b'\n') => {
                return if head.limit() == 0 {
                    Incoming::Malformed(431)
                } else {
                    Incoming::End
                };
            }
            Ok(_) => {}
        }
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let Ok(line) = String::from_utf8(line) else {
            return Incoming::Malformed(400);
        };
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    parse(&lines).map_or(Incoming::Malformed(400), Incoming::Request)
}

fn parse(lines: &[String]) -> Option<Request> {
    let (first, headers) = lines.split_first()?;
    let mut words = first.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_method || !target.starts_with('/') || words.next().is_some() {
        return None;
    }
    let mut keep_alive = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return None,
    };
    for header in headers {
        let (name, value) = header.split_once(':')?;
        if name.is_empty() || name.contains(|letter: char| letter.is_ascii_whitespace()) {
            return None;
        }
        let value = value.trim();
        let has_body = name.eq_ignore_ascii_case("transfer-encoding")
            || (name.eq_ignore_ascii_case("content-length") && value != "0");
        let closes =
            name.eq_ignore_ascii_case("connection") && value.to_ascii_lowercase().contains("close");
        // A body is never read: what follows on its connection is not a request.
        keep_alive &= !has_body && !closes;
    }
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    Some(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        keep_alive,
    })
}

/// Writes an answer; without the body if it is to HEAD.
pub fn write_response(
    connection: &mut impl Write,
    response: &Response,
    with_body: bool,
    keep_alive: bool,
) -> io::Result<()> {
    let mut bytes = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
        response.status,
        reason(response.status),
        response.media_type,
        response.body.len(),
    );
    for (name, value) in response.headers {
        bytes += &format!("{name}: {value}\r\n");
    }
    if !keep_alive {
        bytes += "Connection: close\r\n";
    }
    bytes += "\r\n";
    let mut bytes = bytes.into_bytes();
    if with_body {
        bytes.extend_from_slice(&response.body);
    }
    connection.write_all(&bytes)?;
    connection.flush()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Incoming {
        read_request(&mut text.as_bytes())
    }

    fn request(text: &str) -> Request {
        match read(text) {
            Incoming::Request(request) => request,
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn a_request_is_read_up_to_its_empty_line() {
        let request = request("GET /health?verbose=1 HTTP/1.1\r\nHost: here\r\n\r\nrest");
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("GET", "/health")
        );
        assert!(request.keep_alive);
    }

    #[test]
    fn what_cannot_be_followed_by_a_request_closes_the_connection() {
        for text in [
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nConnection: Close\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert!(!request(text).keep_alive, "{text:?}");
        }
        assert!(request("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n").keep_alive);
    }

    #[test]
    fn what_is_no_request_is_malformed() {
        for text in [
            "\r\n",
            "nonsense\r\n\r\n",
            "get / HTTP/1.1\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET http://elsewhere/ HTTP/1.1\r\n\r\n",
            "GET / HTTP/2\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
        ] {
            assert!(matches!(read(text), Incoming::Malformed(400)), "{text:?}");
        }
    }

    #[test]
    fn headers_without_end_are_refused() {
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(20_000));
        assert!(matches!(read(&endless), Incoming::Malformed(431)));
        let many = "X: 1\r\n".repeat(5_000);
        assert!(matches!(
            read(&format!("GET / HTTP/1.1\r\n{many}")),
            Incoming::Malformed(431)
        ));
    }

    #[test]
    fn a_connection_that_ends_is_the_end() {
        for text in ["", "GET", "GET / HTTP/1.1\r\nHost: here\r\n"] {
            assert!(matches!(read(text), Incoming::End), "{text:?}");
        }
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let response = Response {
            status: 200,
            media_type: "text/plain",
            headers: &[],
            body: b"hello".to_vec(),
        };
        let mut out = Vec::new();
        write_response(&mut out, &response, false, false).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Content-Length: 5\r\nConnection: close\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
    }
}
