//! What encrypts the connections of a listener, of a session, and of a data channel.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::copy::secured::{End, Socket};
use super::tls::{ClientLegTls, LoadError, ServerLegTls, TlsClient, TlsServer};
use crate::config::Listener;
use crate::config::tls::{ClientTls, ServerTls, Tls};
use crate::session::{self, TlsSettings};

/// A listener's certificates, or whom it trusts, cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("listener {listener}: {source}")]
pub struct EncryptionError {
    /// The listener's name.
    listener: String,
    /// What is wrong, with a remedy.
    source: Box<LoadError>,
}

/// TLS on the legs of one listener; `None` where it does not end at us.
#[derive(Debug)]
pub(super) struct Encryption {
    pub(super) client: Option<Arc<TlsServer>>,
    pub(super) server: Option<TlsClient>,
}

impl Encryption {
    /// Whether TLS ends at us on no leg.
    pub(super) fn is_none(&self) -> bool {
        self.client.is_none() && self.server.is_none()
    }

    /// Reads the files that the configuration names.
    pub(super) fn load(listener: &Listener) -> Result<Self, EncryptionError> {
        let failed = |source| EncryptionError { listener: listener.name.clone(), source: Box::new(source) };
        let client = match &listener.tls.client {
            ClientTls::Terminate(terms) => Some(Arc::new(TlsServer::load(&listener.name, terms).map_err(failed)?)),
            ClientTls::Refuse | ClientTls::Passthrough { .. } => None,
        };
        let server = listener.tls.server.identity().map(TlsClient::load).transpose().map_err(failed)?;
        Ok(Self { client, server })
    }
}

/// The same in the words of the session.
pub(super) fn settings(tls: &Tls) -> TlsSettings {
    TlsSettings {
        client: match &tls.client {
            ClientTls::Refuse => session::ClientTls::Refuse,
            ClientTls::Passthrough { .. } => session::ClientTls::Passthrough,
            ClientTls::Terminate(terms) => session::ClientTls::Terminate(session::Terminate {
                require: terms.require,
                implicit: terms.implicit,
                allow_ccc: terms.allow_ccc,
            }),
        },
        server: match tls.server {
            ServerTls::Plain => session::ServerTls::Plain,
            ServerTls::Explicit(_) => session::ServerTls::Explicit,
            ServerTls::Implicit(_) => session::ServerTls::Implicit,
        },
    }
}

/// What the control connections of a session have agreed on, and its data connections resume; `None`: plain.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    pub(super) client: Option<Arc<ClientLegTls>>,
    pub(super) server: Option<Arc<ServerLegTls>>,
}

impl Keys {
    /// Whether nothing is encrypted.
    pub(super) fn are_none(&self) -> bool {
        self.client.is_none() && self.server.is_none()
    }
}

/// Our end of a data connection to the client. `lenient`: FIN without close_notify is as good an end.
pub(super) async fn towards_client(
    stream: TcpStream,
    keys: Option<&ClientLegTls>,
    lenient: bool,
    limit: Duration,
) -> io::Result<End> {
    let Some(keys) = keys else { return Ok(End::plain(stream)) };
    let acceptor = TlsAcceptor::from(Arc::clone(keys.data_config()));
    let stream = within(limit, acceptor.accept(Socket::handshaking(stream))).await?;
    stream.get_ref().0.shaken();
    if !keys.accepts(stream.get_ref().1) {
        return Err(io::Error::other("it does not resume the TLS session of the control connection (require_reuse)"));
    }
    Ok(End::tls(stream, lenient))
}

/// Our end of a data connection to the server. `lenient`: FIN without close_notify is as good an end.
pub(super) async fn towards_server(
    stream: TcpStream,
    keys: Option<&ServerLegTls>,
    lenient: bool,
    limit: Duration,
) -> io::Result<End> {
    let Some(keys) = keys else { return Ok(End::plain(stream)) };
    let connector = TlsConnector::from(keys.data_config().map_err(io::Error::other)?);
    let name: ServerName<'static> = keys.name().clone();
    Ok(End::tls(within(limit, connector.connect(name, Socket::new(stream))).await?, lenient))
}

async fn within<T>(limit: Duration, handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, handshake).await.map_err(|_| io::ErrorKind::TimedOut)?
}
