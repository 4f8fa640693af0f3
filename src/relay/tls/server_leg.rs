//! TLS with the server: we are the TLS client, on data connections too, whoever dialled (RFC 4217 §7).

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::error::LoadError;
use super::sessions::{OutOfTickets, Sessions};
use super::{provider, verify};
use crate::config::tls::{ServerIdentity, TlsVersion};

/// TLS with the server of one listener.
#[derive(Debug)]
pub struct TlsClient {
    /// Who is trusted, without anything to resume.
    base: ClientConfig,
    /// What every server's certificate has to say.
    name: Option<ServerName<'static>>,
}

impl TlsClient {
    /// Reads whom to trust.
    ///
    /// # Errors
    /// A file that cannot be used, or a machine that trusts nobody, with a remedy.
    pub fn load(identity: &ServerIdentity) -> Result<Self, LoadError> {
        let provider = provider();
        let versions: &[_] = match identity.max_version {
            TlsVersion::V1_2 => &[&rustls::version::TLS12],
            TlsVersion::V1_3 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        };
        let base = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("ring has cipher suites of both versions")
            // Dangerous in general: what it replaces is in `verify`.
            .dangerous()
            .with_custom_certificate_verifier(verify::server(&identity.verify, provider)?)
            .with_no_client_auth();
        Ok(Self { base, name: identity.name.clone() })
    }

    /// TLS for one control connection to the server and for its data connections. `host`: what the certificate has to say
    /// unless something is configured. `None` if that is nothing.
    #[must_use]
    pub fn session(&self, host: Option<ServerName<'static>>) -> Option<ServerLegTls> {
        let name = self.name.clone().or(host)?;
        Some(ServerLegTls { base: self.base.clone(), name, sessions: Arc::default() })
    }
}

/// TLS with the server in one session: a control connection and the data connections that resume its TLS session.
///
/// A TLS 1.2 session is resumed any number of times. TLS 1.3 tickets are good for one connection each, and come after the
/// handshake: whoever reads a data connection to the server's `close_notify`, also one on which only we send, finds
/// those that the next will need.
#[derive(Debug)]
pub struct ServerLegTls {
    base: ClientConfig,
    name: ServerName<'static>,
    sessions: Arc<Sessions>,
}

impl ServerLegTls {
    /// What the server's certificate has to say.
    #[must_use]
    pub const fn name(&self) -> &ServerName<'static> {
        &self.name
    }

    /// The configuration of the control connection.
    #[must_use]
    pub fn control_config(&self) -> Arc<ClientConfig> {
        let mut config = self.base.clone();
        config.resumption = Resumption::store(Arc::<Sessions>::clone(&self.sessions));
        Arc::new(config)
    }

    /// The configuration of one data connection, which it cannot share.
    ///
    /// # Errors
    /// There should be a session to resume and is none any more: the server would refuse.
    pub fn data_config(&self) -> Result<Arc<ClientConfig>, OutOfTickets> {
        let mut config = self.base.clone();
        config.resumption = Resumption::store(Arc::new(self.sessions.reserve()?));
        Ok(Arc::new(config))
    }

    /// Our end of the control connection.
    #[must_use]
    pub fn control(&self) -> ClientConnection {
        self.connection(self.control_config())
    }

    /// Our end of a data connection.
    ///
    /// # Errors
    /// There should be a session to resume and is none any more: the server would refuse.
    pub fn data(&self) -> Result<ClientConnection, OutOfTickets> {
        Ok(self.connection(self.data_config()?))
    }

    fn connection(&self, config: Arc<ClientConfig>) -> ClientConnection {
        ClientConnection::new(config, self.name.clone())
            .expect("a version is enabled, and the system has random numbers once it has booted")
    }
}
