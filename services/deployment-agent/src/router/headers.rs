//! What must change in the headers on the way through (RFC 9110 §7.6): nothing that concerns one
//! connection goes further, and the app learns who asked.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};

use super::forward::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

const CONNECTION_HEADERS: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The protocol that the client wants to switch to.
pub(super) fn wanted_upgrade<B>(request: &Request<B>) -> Option<HeaderValue> {
    let asks = request
        .headers()
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    let protocol = request.headers().get(header::UPGRADE)?;
    // An h2c upgrade is between the client and us; prior knowledge serves those who need it.
    let is_h2c = protocol.as_bytes().eq_ignore_ascii_case(b"h2c");
    (asks && !is_h2c).then(|| protocol.clone())
}

/// Makes a client's request one of ours to the backend.
pub(super) fn prepare_request<B>(
    request: &mut Request<B>,
    peer: SocketAddr,
    upgrade: Option<&HeaderValue>,
    over_http2: bool,
) {
    let host = request
        .headers()
        .get(header::HOST)
        .cloned()
        .or_else(|| {
            let authority = request.uri().authority()?;
            HeaderValue::from_str(authority.as_str()).ok()
        })
        .unwrap_or_else(|| HeaderValue::from_static("localhost"));
    let path = request
        .uri()
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    if over_http2 {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority = host.to_str().ok().and_then(|host| host.parse().ok());
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    } else {
        *request.uri_mut() = Uri::from(path);
    }

    let headers = request.headers_mut();
    let wants_trailers = headers
        .get(header::TE)
        .is_some_and(|value| value.as_bytes() == b"trailers");
    strip(headers);
    // Our own server has already told the client to go on.
    headers.remove(header::EXPECT);
    if over_http2 {
        headers.remove(header::HOST);
        if wants_trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    } else {
        headers.insert(header::HOST, host.clone());
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
    if let Ok(address) = HeaderValue::from_str(&peer.ip().to_string()) {
        headers.append(X_FORWARDED_FOR, address);
    }
    headers.entry(X_FORWARDED_HOST).or_insert(host);
    headers
        .entry(X_FORWARDED_PROTO)
        .or_insert(HeaderValue::from_static("http"));
}

/// Makes a backend's answer one of ours to the client.
pub(super) fn prepare_response<B>(response: &mut Response<B>) {
    strip(response.headers_mut());
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&CONNECTION_HEADERS) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().uri("http://shop.test/a?b=c");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("the request is well formed")
    }

    fn peer() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 7], 4000))
    }

    #[test]
    fn what_concerns_the_connection_stays_behind() {
        let mut request = request(&[
            ("connection", "close, x-secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("accept", "text/html"),
        ]);
        prepare_request(&mut request, peer(), None, false);
        let headers = request.headers();
        for gone in ["connection", "x-secret", "keep-alive", "transfer-encoding"] {
            assert!(!headers.contains_key(gone), "{gone} went through");
        }
        assert_eq!(headers["accept"], "text/html");
    }

    #[test]
    fn the_app_learns_who_asked_and_for_which_host() {
        let mut request = request(&[
            ("host", "shop.example"),
            ("x-forwarded-for", "198.51.100.1"),
        ]);
        prepare_request(&mut request, peer(), None, false);
        let headers = request.headers();
        let chain: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        assert_eq!(chain, ["198.51.100.1", "192.0.2.7"]);
        assert_eq!(headers["host"], "shop.example");
        assert_eq!(request.uri(), "/a?b=c");
    }

    #[test]
    fn an_upgrade_is_wanted_only_when_the_connection_header_says_so() {
        assert_eq!(wanted_upgrade(&request(&[("upgrade", "websocket")])), None);
        let both = request(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ]);
        assert_eq!(
            wanted_upgrade(&both),
            Some(HeaderValue::from_static("websocket"))
        );
        let h2c = request(&[("connection", "upgrade"), ("upgrade", "h2c")]);
        assert_eq!(wanted_upgrade(&h2c), None);
    }
}
