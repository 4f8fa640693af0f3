//! TLS with clients: we are the TLS server, on data connections too, whoever dialled (RFC 4217 §7).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustls::client::verify_server_name;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ServerConfig, ServerConnection};

use super::certificate;
use super::error::LoadError;
use super::provider;
use super::refresh::Stamp;
use super::verify;
use crate::config::tls::{Terminate, TlsVersion};

/// The only protocol that a client may ask for by ALPN; a client that names none is fine. A browser that was led
/// here names `h2` or `http/1.1`, and is refused (ALPACA, CVE-2021-3618). FileZilla has `x-filezilla-ftp` beside it,
/// and asks for `ftp-data` on data connections only where that was chosen.
const ALPN: &[u8] = b"ftp";

/// TLS 1.3 tickets that a control connection hands out. Some clients use each once (rustls, Java); one that only
/// uploads may never read the new one that a data connection brings. rustls keeps eight.
const CONTROL_TICKETS: usize = 8;

/// And a data connection: one for the one that it used. OpenSSL does the same. More would be bytes that a client which
/// uploads does not read, and a close with unread bytes is a reset.
const DATA_TICKETS: usize = 1;

/// TLS 1.2 sessions to remember for clients without tickets (Java 8, Schannel). Only full handshakes make one, so that
/// the control connection's would do; the rest is for clients that do not resume at all.
const SESSIONS: usize = 8;

/// TLS with the clients of one listener.
#[derive(Debug)]
pub struct TlsServer {
    listener: String,
    config: Terminate,
    /// What new sessions get: certificates and rules, without anything to resume.
    current: RwLock<Arc<ServerConfig>>,
    /// The files as they were before they were read last.
    seen: Mutex<Vec<Option<Stamp>>>,
}

impl TlsServer {
    /// Reads the certificates and keys of `listener`.
    ///
    /// # Errors
    /// A file that cannot be used, with a remedy.
    pub fn load(listener: &str, config: &Terminate) -> Result<Self, LoadError> {
        let seen = Stamp::all(&files(config));
        Ok(Self {
            listener: listener.into(),
            current: RwLock::new(Arc::new(build(config)?)),
            seen: Mutex::new(seen),
            config: config.clone(),
        })
    }

    /// TLS for one control connection, from its AUTH on (or from the start), and for its data connections. They keep
    /// the certificates of this moment: control and data show the same one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn session(&self) -> Result<ClientLegTls, rustls::Error> {
        let base = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        let mut control = ServerConfig::clone(&base);
        control.ticketer = Ticketer::new()?;
        control.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        control.send_tls13_tickets = CONTROL_TICKETS;
        let mut data = control.clone();
        data.send_tls13_tickets = DATA_TICKETS;
        Ok(ClientLegTls { control: Arc::new(control), data: Arc::new(data), require_reuse: self.config.require_reuse })
    }

    /// Reads the files again, whether or not they changed. Sessions that run keep what they have.
    ///
    /// # Errors
    /// A file that cannot be used; then the old ones stay.
    pub fn reload(&self) -> Result<(), LoadError> {
        self.read(&mut self.seen())
    }

    /// Reads the files again if one of them is another than before, and logs what came of it. A bad one is tried again
    /// when it changes again. Blocks for as long as the disk does.
    pub fn follow(&self) {
        let mut seen = self.seen();
        if *seen != Stamp::all(&files(&self.config)) {
            self.log(self.read(&mut seen));
        }
    }

    /// Held while the files are read: what was read earlier must not take the place of what was read later.
    fn seen(&self) -> MutexGuard<'_, Vec<Option<Stamp>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, seen: &mut Vec<Option<Stamp>>) -> Result<(), LoadError> {
        // Before the files are read: one that changes meanwhile is noticed the next time.
        *seen = Stamp::all(&files(&self.config));
        let fresh = Arc::new(build(&self.config)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn log(&self, outcome: Result<(), LoadError>) {
        let listener = &self.listener;
        match outcome {
            Ok(()) => tracing::info!(listener, "certificates were read again and are in use for new sessions"),
            Err(error) => tracing::warn!(listener, %error, "new certificates cannot be used, the old ones stay"),
        }
    }
}

fn files(config: &Terminate) -> Vec<PathBuf> {
    let pairs = config.certificates.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
    pairs.chain(&config.client_ca).map(|file| file.path.clone()).collect()
}

fn build(config: &Terminate) -> Result<ServerConfig, LoadError> {
    let provider = provider();
    let load = |pair| certificate::load(pair, &provider).map(Arc::new);
    let certificates: Vec<Arc<CertifiedKey>> = config.certificates.iter().map(load).collect::<Result<_, _>>()?;
    let versions: &[_] = match config.min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("ring has cipher suites of both versions");
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => builder.with_client_cert_verifier(verify::clients(file, provider)?),
    };
    let mut server = builder.with_cert_resolver(Arc::new(BySni(certificates)));
    server.alpn_protocols = vec![ALPN.into()];
    Ok(server)
}

/// Never empty.
#[derive(Debug)]
struct BySni(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for BySni {
    /// The first for the name that the client expects and of a kind that it can check; without a name, or with one that
    /// no certificate has, the first. Clients of old know no name, or have an address in its place.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let can_check = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let usable = || self.0.iter().filter(can_check);
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| usable().find(|key| is_for(key, &name)));
        named.or_else(|| usable().next()).or_else(|| self.0.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

/// TLS with one client: a control connection and its data connections.
///
/// The key that its tickets are encrypted with belongs to it alone. So a data connection that resumes anything resumes
/// the session of this control connection: a ticket of any other cannot be read here, and the handshake becomes a full
/// one. That holds for TLS 1.2 as well, where rustls hands no data back from a ticket that could tell the session.
///
/// Tickets are good for 6 to 12 hours (those of [`Ticketer`]), counted from the latest data connection.
#[derive(Debug)]
pub struct ClientLegTls {
    control: Arc<ServerConfig>,
    data: Arc<ServerConfig>,
    require_reuse: bool,
}

impl ClientLegTls {
    /// The configuration of the control connection.
    #[must_use]
    pub const fn control_config(&self) -> &Arc<ServerConfig> {
        &self.control
    }

    /// The configuration of its data connections.
    #[must_use]
    pub const fn data_config(&self) -> &Arc<ServerConfig> {
        &self.data
    }

    /// Our end of the control connection.
    #[must_use]
    pub fn control(&self) -> ServerConnection {
        connection(&self.control)
    }

    /// Our end of a data connection. When its handshake is done, ask [`Self::accepts`].
    #[must_use]
    pub fn data(&self) -> ServerConnection {
        connection(&self.data)
    }

    /// Whether a data connection whose handshake is done may be used. Not if it should have resumed the control
    /// connection's session (`require_reuse`) and did not; the reply is 522 (RFC 4217 §10.2).
    #[must_use]
    pub fn accepts(&self, data: &ServerConnection) -> bool {
        !self.require_reuse || data.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

fn connection(config: &Arc<ServerConfig>) -> ServerConnection {
    ServerConnection::new(Arc::clone(config)).expect("only a fragment size out of range is refused, and none is set")
}
