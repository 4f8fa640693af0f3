//! The other side: what `ftp-alg sessions` asks.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::relay::LiveSession;

/// A proxy that takes longer does not answer any more.
const TIME: Duration = Duration::from_secs(10);

/// Some hundred bytes for each of 100,000 sessions.
const MAX_ANSWER: usize = 128 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not one of an admin interface.
    #[error("`{0}` is not the address of an admin interface; write one like http://127.0.0.1:9121")]
    Address(String),
    /// Nobody answers there.
    #[error("cannot ask {at}: {error}; is ftp-alg running, with `admin.bind` in its configuration?")]
    Unreachable {
        /// Where.
        at: String,
        /// Why.
        error: std::io::Error,
    },
    /// Something else is wrong with the connection.
    #[error("{at} did not answer as an admin interface does: {why}")]
    Odd {
        /// Where.
        at: String,
        /// What.
        why: String,
    },
    /// There is none of this number.
    #[error("there is no session {0}")]
    Unknown(u64),
}

/// An admin interface.
#[derive(Debug, Clone)]
pub struct Client {
    /// Host and port.
    at: String,
}

impl Client {
    /// The one at `http://host:port`, or `host:port`.
    ///
    /// # Errors
    /// It is neither.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(url.into());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let is_root = matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("" | "/"));
        let authority = uri.authority().filter(|at| at.port_u16().is_some() && !at.as_str().contains('@'));
        match authority {
            Some(at) if is_root && matches!(uri.scheme_str(), None | Some("http")) => Ok(Self { at: at.to_string() }),
            _ => Err(wrong()),
        }
    }

    /// The sessions that there are.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn sessions(&self) -> Result<Vec<LiveSession>, ClientError> {
        let (status, body) = self.ask(Method::GET, "/sessions").await?;
        if status != StatusCode::OK {
            return Err(self.odd(said(status, &body)));
        }
        serde_json::from_slice(&body).map_err(|error| self.odd(error))
    }

    /// Ends a session.
    ///
    /// # Errors
    /// There is none of this number, or no good answer.
    pub async fn kill(&self, id: u64) -> Result<(), ClientError> {
        match self.ask(Method::DELETE, &format!("/sessions/{id}")).await? {
            (StatusCode::OK, _) => Ok(()),
            (StatusCode::NOT_FOUND, _) => Err(ClientError::Unknown(id)),
            (status, body) => Err(self.odd(said(status, &body))),
        }
    }

    async fn ask(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), ClientError> {
        let asked = tokio::time::timeout(TIME, self.ask_without_limit(method, path)).await;
        asked.unwrap_or_else(|_| Err(self.odd("it took too long")))
    }

    async fn ask_without_limit(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), ClientError> {
        let unreachable = |error| ClientError::Unreachable { at: self.at.clone(), error };
        let stream = TcpStream::connect(&self.at).await.map_err(unreachable)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.odd(e))?;
        let request = Request::builder().method(method).uri(path).header(HOST, &self.at);
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| self.odd(e))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| self.odd(e))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|e| self.odd(e))?;
            Ok((parts.status, body.to_bytes()))
        };
        let connection = async {
            let _its_end_shows_in_the_answer = connection.await;
            std::future::pending().await
        };
        tokio::select! {
            answer = answer => answer,
            never = connection => never,
        }
    }

    fn odd(&self, why: impl ToString) -> ClientError {
        ClientError::Odd { at: self.at.clone(), why: why.to_string() }
    }
}

fn said(status: StatusCode, body: &[u8]) -> String {
    format!("{status}: {}", body.trim_ascii().escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls_or_hosts_with_ports() {
        for good in
            ["http://127.0.0.1:9121", "http://127.0.0.1:9121/", "127.0.0.1:9121", "[::1]:9121", "proxy.example:80"]
        {
            assert!(Client::new(good).is_ok(), "{good}");
        }
        for bad in ["https://127.0.0.1:9121", "127.0.0.1", "http://127.0.0.1:9121/sessions", "", "/", "http://a@b:1"] {
            assert!(Client::new(bad).is_err(), "{bad}");
        }
    }
}
