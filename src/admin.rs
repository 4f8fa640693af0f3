//! The admin interface: metrics, health and live sessions, over HTTP.
//!
//! It asks nobody who they are, so it belongs on a loopback address, and it is built so that what reaches it by mistake can
//! do little: a page in a browser on this machine that is made to ask for it (a request of another site, a name that was
//! rebound to 127.0.0.1) is refused; whoever connects has ten seconds for everything; there are few connections, one
//! request each.
//!
//! hyper does the protocol, without a framework above it: five paths need no router.

pub mod client;
mod respond;

use std::convert::Infallible;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::config::Admin;
use crate::relay::Insight;
use crate::relay::accept::Acceptor;
use crate::relay::descriptors::ADMIN_CONNECTIONS;

/// The whole of a connection, so that one that is slow in any way holds its place no longer. A scrape takes milliseconds;
/// Prometheus gives up after 10 s as well (`scrape_timeout`).
const TIME: Duration = Duration::from_secs(10);

/// A request has to come at once.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// Prometheus sends some 300 bytes. The least that hyper takes.
const MAX_REQUEST: usize = 8 * 1024;

/// Header fields of a request at most.
const MAX_FIELDS: usize = 32;

/// The admin interface cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "admin.bind: cannot use {addr}: {error} (another program may have the address, or the machine has no such one)"
)]
pub struct AdminError {
    addr: SocketAddr,
    error: io::Error,
}

/// A bound admin interface.
#[derive(Debug)]
pub struct Server {
    acceptor: Acceptor,
}

impl Server {
    /// Binds it. Runs inside a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn bind(config: Admin) -> Result<Self, AdminError> {
        let addr = config.bind;
        let bound = TcpListener::bind(addr).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Acceptor::new(listener)
        });
        Ok(Self { acceptor: bound.map_err(|error| AdminError { addr, error })? })
    }

    /// Serves for as long as the process runs.
    pub async fn serve(self, insight: Insight) {
        let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
        loop {
            let (stream, peer) = self.acceptor.accept().await;
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                turn_away(stream, peer);
                continue;
            };
            let insight = insight.clone();
            tokio::spawn(async move {
                if tokio::time::timeout(TIME, serve(stream, insight)).await.is_err() {
                    tracing::debug!(%peer, "an admin connection took too long");
                }
                drop(place);
            });
        }
    }
}

/// Nobody waits for this to be sent: it fits into the socket.
fn turn_away(mut stream: std::net::TcpStream, peer: SocketAddr) {
    tracing::debug!(%peer, "{ADMIN_CONNECTIONS} admin connections are open, another is refused");
    // What is left unread would make the close a reset, which may overtake the answer.
    let _unread = stream.read(&mut [0; 1024]);
    let _sent = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}

/// One request and its response.
async fn serve(stream: std::net::TcpStream, insight: Insight) {
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let service = service_fn(|request| {
        let response = respond::respond(&request, &insight);
        async { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_REQUEST)
        .max_headers(MAX_FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection failed");
    }
}
