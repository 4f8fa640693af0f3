//! One HTTP request to a metadata service, and no more than that: no redirect is followed, no proxy used, whatever the
//! environment says, and nothing waited for or read without an end.
//!
//! hyper's connection is used without a client above it: such a client would resolve, pool, follow and proxy.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::config::discovery::Endpoint;

/// From the look-up of the host to the last byte. The service is on the host machine and answers within milliseconds;
/// cloud-init waits 1 to 2 s for it, too.
const LIMIT: Duration = Duration::from_secs(2);

/// Most replies are an address. A load balancer's description names each of its rules, of which there can be hundreds.
const MOST_BYTES: usize = 64 * 1024;

/// What is asked.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) endpoint: &'a Endpoint,
    pub(super) path: &'static str,
    pub(super) headers: Vec<(&'static str, HeaderValue)>,
}

/// Why there is no usable reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection.
    #[error("cannot connect: {0}")]
    Unreachable(#[source] io::Error),
    /// No whole reply in time.
    #[error("no answer within {}", humantime::format_duration(LIMIT))]
    Silent,
    /// Not HTTP, or cut short.
    #[error("no valid HTTP: {0}")]
    Broken(#[source] hyper::Error),
    /// Somewhere else; nobody is sent there.
    #[error("{0}, a redirect to {1:?}, which is not followed")]
    Redirect(StatusCode, String),
    /// Another status than 200.
    #[error("{0}")]
    Status(StatusCode),
    /// More bytes than any good reply has.
    #[error("a reply of more than {MOST_BYTES} bytes")]
    TooLong,
    /// There is no such item, or it is empty: the machine has no such address.
    #[error("no address there ({0})")]
    Nothing(StatusCode),
    /// The text is none of what is due.
    #[error("{0}")]
    Unusable(String),
}

impl Failure {
    /// Whether the other end has said nothing at all, as while a machine is booting.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Silent)
    }

    /// Whether it may be better in a moment: silence, and what a service says that is starting, or asked too often.
    pub(super) fn may_pass(&self) -> bool {
        let is_busy = |status: &StatusCode| status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS;
        self.is_silence() || matches!(self, Self::Status(status) if is_busy(status))
    }
}

/// Sends it and reads the reply: the text of a 200, without white space around it, which is not empty.
///
/// # Errors
/// Everything else.
pub(super) async fn send(ask: Ask<'_>) -> Result<String, Failure> {
    tokio::time::timeout(LIMIT, exchange(ask)).await.unwrap_or(Err(Failure::Silent))
}

async fn exchange(ask: Ask<'_>) -> Result<String, Failure> {
    let Ask { method, endpoint, path, headers } = ask;
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(Failure::Unreachable)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Failure::Broken)?;
    // It ends with this function, in the middle of a reply if need be.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().expect("the paths of the services are valid");
    let fields = request.headers_mut();
    fields.insert(HOST, HeaderValue::try_from(endpoint.authority()).expect("it was parsed as part of a URL"));
    fields.insert(CONNECTION, HeaderValue::from_static("close"));
    fields.insert(USER_AGENT, HeaderValue::from_static(concat!("ftp-alg/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in headers {
        fields.insert(HeaderName::try_from(name).expect("the fields of the services are valid"), value);
    }
    let reply = sender.send_request(request).await.map_err(Failure::Broken)?;
    let status = reply.status();
    if status.is_redirection() {
        let to = reply.headers().get(LOCATION).map(HeaderValue::as_bytes).unwrap_or_default();
        return Err(Failure::Redirect(status, String::from_utf8_lossy(to).chars().take(200).collect()));
    }
    match status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(Failure::Nothing(status)),
        _ => return Err(Failure::Status(status)),
    }
    let body = Limited::new(reply.into_body(), MOST_BYTES).collect().await.map_err(|error| {
        match (error.is::<LengthLimitError>(), error.downcast::<hyper::Error>()) {
            (false, Ok(error)) => Failure::Broken(*error),
            _ => Failure::TooLong,
        }
    })?;
    let text = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
    if text.is_empty() { Err(Failure::Nothing(status)) } else { Ok(text) }
}
