//! What is served. Knows nothing of connections.

use crate::{
    http::{Request, Response},
    settings::NAME,
};

const PAGE: &str = include_str!("page.html");
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const HEADERS: &[(&str, &str)] = &[
    // What a browser may load for a page of ours.
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
];

/// Answers a request.
pub fn answer(request: &Request) -> Response {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Response {
            headers: &[("Allow", "GET, HEAD")],
            ..problem(405, "only GET and HEAD")
        };
    }
    match request.path.as_str() {
        "/" => response(200, HTML, PAGE.to_owned()),
        // The name needs no escaping: cargo allows only letters, digits, `-` and `_`.
        "/health" => response(200, JSON, format!(r#"{{"status":"ok","name":"{NAME}"}}"#)),
        _ => problem(404, "no such page"),
    }
}

/// An answer that says what is wrong, in a few plain words.
pub fn problem(status: u16, words: &'static str) -> Response {
    response(status, JSON, format!(r#"{{"error":"{words}"}}"#))
}

fn response(status: u16, media_type: &'static str, body: String) -> Response {
    Response {
        status,
        media_type,
        headers: HEADERS,
        body: body.into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, path: &str) -> Response {
        answer(&Request {
            method: method.to_owned(),
            path: path.to_owned(),
            keep_alive: true,
        })
    }

    #[test]
    fn the_page_names_the_app() {
        let response = ask("GET", "/");
        assert_eq!((response.status, response.media_type), (200, HTML));
        let page = String::from_utf8(response.body).unwrap();
        assert!(page.contains(&format!("<h1>{NAME}</h1>")), "{page}");
    }

    #[test]
    fn health_is_json() {
        let response = ask("GET", "/health");
        assert_eq!((response.status, response.media_type), (200, JSON));
        let expected = format!(r#"{{"status":"ok","name":"{NAME}"}}"#);
        assert_eq!(response.body, expected.as_bytes());
    }

    #[test]
    fn unknown_paths_are_404() {
        for path in ["/nothing", "//", "/health/", "/../etc/passwd"] {
            assert_eq!(ask("GET", path).status, 404, "{path}");
        }
    }

    #[test]
    fn other_methods_are_refused() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let response = ask(method, "/");
            assert_eq!(response.status, 405);
            assert_eq!(response.headers, [("Allow", "GET, HEAD")]);
        }
    }
}
