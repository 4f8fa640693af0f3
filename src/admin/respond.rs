//! From a request to its response: pure, but for the session that DELETE ends.

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use crate::metrics::Format;
use crate::relay::{Insight, LiveSession};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What may be asked of a running proxy.
pub(super) trait View {
    fn metrics(&self, format: Format) -> String;
    fn sessions(&self) -> Vec<LiveSession>;
    fn kill(&self, id: u64) -> bool;
    fn unready(&self) -> Vec<String>;
}

impl View for Insight {
    fn metrics(&self, format: Format) -> String {
        self.metrics(format)
    }

    fn sessions(&self) -> Vec<LiveSession> {
        self.sessions()
    }

    fn kill(&self, id: u64) -> bool {
        self.kill(id)
    }

    fn unready(&self) -> Vec<String> {
        self.unready()
    }
}

/// Answers a request. Its body, if it has one, is not read.
pub(super) fn respond<B>(request: &Request<B>, view: &impl View) -> Response<Full<Bytes>> {
    let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
    if headers.contains_key(ORIGIN) {
        return text(StatusCode::FORBIDDEN, "requests of web pages (with an Origin) are not answered\n");
    }
    match path {
        "/metrics" => get(method, || metrics(headers, view)),
        "/healthz" => get(method, || text(StatusCode::OK, "ok\n")),
        "/readyz" => get(method, || ready(view)),
        "/sessions" => local(headers).unwrap_or_else(|| get(method, || json(&view.sessions()))),
        _ => match path.strip_prefix("/sessions/") {
            Some(id) => local(headers).unwrap_or_else(|| session(method, id, view)),
            None => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz, /readyz and /sessions\n"),
        },
    }
}

/// GET; and HEAD, for which hyper sends no body.
fn get(method: &Method, answer: impl FnOnce() -> Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    if method == Method::GET || method == Method::HEAD { answer() } else { not_allowed("GET, HEAD") }
}

fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    with(text(StatusCode::METHOD_NOT_ALLOWED, format!("the methods here are {allowed}\n")), ALLOW, allowed)
}

fn metrics(headers: &HeaderMap, view: &impl View) -> Response<Full<Bytes>> {
    let accepts = |value: &hyper::header::HeaderValue| {
        value.to_str().is_ok_and(|value| value.contains("application/openmetrics-text"))
    };
    let (format, kind) = if headers.get_all(ACCEPT).iter().any(accepts) {
        (Format::OpenMetrics, OPEN_METRICS)
    } else {
        (Format::Prometheus, PROMETHEUS)
    };
    response(StatusCode::OK, kind, view.metrics(format))
}

fn ready(view: &impl View) -> Response<Full<Bytes>> {
    match view.unready() {
        reasons if reasons.is_empty() => text(StatusCode::OK, "ready\n"),
        reasons => text(StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    }
}

fn session(method: &Method, id: &str, view: &impl View) -> Response<Full<Bytes>> {
    let unknown = || text(StatusCode::NOT_FOUND, "there is no such session\n");
    let Ok(id) = id.parse::<u64>() else { return unknown() };
    match *method {
        Method::DELETE if view.kill(id) => {
            tracing::info!(session = id, "a session is ended through the admin interface");
            text(StatusCode::OK, "the session is ended\n")
        }
        Method::DELETE => unknown(),
        Method::GET | Method::HEAD => match view.sessions().iter().find(|session| session.id == id) {
            Some(session) => json(session),
            None => unknown(),
        },
        _ => not_allowed("DELETE, GET, HEAD"),
    }
}

/// Refuses a request that names us by a name: an attacker's name may be made to lead to 127.0.0.1, and a page of theirs is
/// then of the same origin as we are (DNS rebinding). Addresses and `localhost` cannot be rebound.
fn local(headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).and_then(|host| host.parse::<Authority>().ok());
    let is_local = host.is_some_and(|host| {
        let host = host.host();
        let ip = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        ip.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
    });
    let why = "sessions are shown and ended only where the Host of the request is an address or localhost: a name could be \
               that of a web page\n";
    (!is_local || hosts.next().is_some()).then(|| text(StatusCode::FORBIDDEN, why))
}

fn json(value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_string(value).expect("texts, numbers and no maps");
    response(StatusCode::OK, JSON, body + "\n")
}

fn text(status: StatusCode, body: impl Into<String>) -> Response<Full<Bytes>> {
    response(status, TEXT, body.into())
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let response = with(response, CONTENT_TYPE, kind);
    // Browsers are not to take a path that somebody chose for a page.
    let response = with(response, hyper::header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    with(response, CACHE_CONTROL, "no-store")
}

fn with(
    mut response: Response<Full<Bytes>>,
    name: hyper::header::HeaderName,
    value: &'static str,
) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, hyper::header::HeaderValue::from_static(value));
    response
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[derive(Default)]
    struct Fake {
        killed: Cell<Option<u64>>,
        unready: Vec<String>,
    }

    impl View for Fake {
        fn metrics(&self, _: Format) -> String {
            "# EOF\n".into()
        }

        fn sessions(&self) -> Vec<LiveSession> {
            Vec::new()
        }

        fn kill(&self, id: u64) -> bool {
            self.killed.set(Some(id));
            id == 7
        }

        fn unready(&self) -> Vec<String> {
            self.unready.clone()
        }
    }

    fn ask(view: &Fake, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Full<Bytes>> {
        let request = Request::builder().method(method).uri(path);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        respond(&request.body(()).unwrap(), view)
    }

    fn status(method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        ask(&Fake::default(), method, path, headers).status().as_u16()
    }

    #[test]
    fn paths_and_methods() {
        let local = [("host", "localhost:9121")];
        for path in ["/metrics", "/healthz", "/readyz", "/sessions"] {
            assert_eq!(status("GET", path, &local), 200, "{path}");
            assert_eq!(status("HEAD", path, &local), 200, "{path}");
            for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "X"] {
                let response = ask(&Fake::default(), method, path, &local);
                assert_eq!(response.status(), 405, "{method} {path}");
                assert_eq!(response.headers()[ALLOW], "GET, HEAD");
            }
        }
        for path in ["/", "/sessions/8", "/sessions/", "/sessions/x", "/sessions/7/x", "/metrics/", "/../metrics"] {
            assert_eq!(status("GET", path, &local), 404, "{path}");
        }
        assert_eq!(status("DELETE", "/sessions/7", &local), 200);
        assert_eq!(status("DELETE", "/sessions/8", &local), 404);
        assert_eq!(status("POST", "/sessions/7", &local), 405);
    }

    #[test]
    fn readiness_has_its_reasons() {
        let view = Fake { unready: vec!["stopping".into(), "ftp: no server".into()], ..Fake::default() };
        assert_eq!(ask(&view, "GET", "/readyz", &[]).status(), 503);
        assert_eq!(ask(&view, "GET", "/healthz", &[]).status(), 200);
    }

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        let kind = |accept: &str| {
            let response = ask(&Fake::default(), "GET", "/metrics", &[("accept", accept)]);
            response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned()
        };
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        assert_eq!(kind(prometheus), OPEN_METRICS);
        assert_eq!(kind("*/*"), PROMETHEUS);
    }

    /// A page cannot choose its Host, nor leave its Origin away from a DELETE.
    #[test]
    fn no_web_page_sees_or_ends_sessions() {
        for host in ["127.0.0.1:9121", "127.0.0.1", "[::1]:9121", "localhost", "LOCALHOST:80", "192.0.2.1:9121"] {
            let view = Fake::default();
            assert_eq!(ask(&view, "DELETE", "/sessions/7", &[("host", host)]).status(), 200, "{host}");
            assert_eq!(view.killed.get(), Some(7));
        }
        let rebound = [("host", "evil.example:9121")];
        let page = [("host", "127.0.0.1:9121"), ("origin", "https://evil.example")];
        let opaque = [("host", "127.0.0.1:9121"), ("origin", "null")];
        let two = [("host", "127.0.0.1:9121"), ("host", "evil.example")];
        let user = [("host", "127.0.0.1@evil.example")];
        for headers in [&rebound[..], &page, &opaque, &two, &user, &[]] {
            let view = Fake::default();
            assert_eq!(ask(&view, "DELETE", "/sessions/7", headers).status(), 403, "{headers:?}");
            assert_eq!(view.killed.get(), None, "{headers:?}");
            assert_eq!(status("GET", "/sessions", headers), 403, "{headers:?}");
            assert_eq!(status("GET", "/sessions/7", headers), 403, "{headers:?}");
        }
        // A scraper may know us by a name.
        assert_eq!(status("GET", "/metrics", &rebound), 200);
    }
}
