//! Certificates made for a test, and two ends of TLS that are joined without a socket.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ftp_alg::config::tls::{KeyPair, NamedFile, ServerIdentity, Terminate, TlsVersion, Verify};
use ftp_alg::relay::tls::{TlsClient, TlsServer};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyUsagePurpose};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind, ServerConnection};
use tempfile::TempDir;

pub(crate) use rcgen::{Certificate, KeyPair as Key};

pub(crate) const BOTH: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(crate) fn versions(version: TlsVersion) -> [&'static rustls::SupportedProtocolVersion; 1] {
    match version {
        TlsVersion::V1_2 => [&rustls::version::TLS12],
        TlsVersion::V1_3 => [&rustls::version::TLS13],
    }
}

/// Files that live as long as the test.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file in place at once, as certbot does.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let fresh = self.path("fresh");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, self.path(name)).unwrap();
    }

    /// A self-signed certificate for these names, as `NAME.pem` and `NAME.key`.
    pub(crate) fn pair(&self, name: &str, names: &[&str]) -> KeyPair {
        self.pair_with(name, names, &Key::generate().unwrap())
    }

    pub(crate) fn pair_with(&self, name: &str, names: &[&str], key: &Key) -> KeyPair {
        self.put(&format!("{name}.pem"), &self_signed(names, key).pem());
        self.put(&format!("{name}.key"), &key.serialize_pem());
        self.named(name)
    }

    pub(crate) fn named(&self, name: &str) -> KeyPair {
        KeyPair {
            certificate: file("tls.client.certificate", &self.path(&format!("{name}.pem"))),
            key: file("tls.client.key", &self.path(&format!("{name}.key"))),
        }
    }
}

pub(crate) fn file(named_by: &str, path: &Path) -> NamedFile {
    NamedFile { named_by: named_by.into(), path: path.into() }
}

pub(crate) fn self_signed(names: &[&str], key: &Key) -> Certificate {
    params(names).self_signed(key).unwrap()
}

pub(crate) fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
}

/// An authority.
pub(crate) struct Authority {
    pub(crate) certificate: Certificate,
    issuer: Issuer<'static, Key>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = Key::generate().unwrap();
        let mut params = params(&[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn sign(&self, names: &[&str], key: &Key) -> Certificate {
        params(names).signed_by(key, &self.issuer).unwrap()
    }
}

/// One certificate and the defaults.
pub(crate) fn terminate(pair: KeyPair) -> Terminate {
    Terminate {
        certificates: vec![pair],
        require: false,
        implicit: false,
        min_version: TlsVersion::V1_2,
        allow_ccc: false,
        lenient: false,
        require_reuse: false,
        client_ca: None,
    }
}

pub(crate) fn server(config: &Terminate) -> TlsServer {
    TlsServer::load("test", config).unwrap()
}

/// Our TLS client, which believes anybody.
pub(crate) fn client(name: &str, max_version: TlsVersion) -> TlsClient {
    client_that(Verify::Nobody, name, max_version)
}

pub(crate) fn client_that(verify: Verify, name: &str, max_version: TlsVersion) -> TlsClient {
    TlsClient::load(&ServerIdentity { verify, name: Some(server_name(name)), max_version, lenient: false }).unwrap()
}

pub(crate) fn server_name(name: &str) -> ServerName<'static> {
    name.parse::<IpAddr>().map_or_else(|_| ServerName::try_from(name.to_owned()).unwrap(), ServerName::from)
}

/// What each end makes of the handshake.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) client: Result<HandshakeKind, rustls::Error>,
    pub(crate) server: Result<HandshakeKind, rustls::Error>,
}

impl Ends {
    pub(crate) fn both(&self, kind: HandshakeKind) -> bool {
        self.client == Ok(kind) && self.server == Ok(kind)
    }

    /// Resumed on both ends.
    pub(crate) fn resumed(&self) -> bool {
        self.both(HandshakeKind::Resumed)
    }

    /// Full on both ends.
    pub(crate) fn full(&self) -> bool {
        self.both(HandshakeKind::Full) || self.both(HandshakeKind::FullWithHelloRetryRequest)
    }

    pub(crate) fn failed(&self) -> bool {
        self.client.is_err() || self.server.is_err()
    }
}

/// Handshakes, and carries everything that either end has to send, tickets included.
pub(crate) fn join(client: &mut ClientConnection, server: &mut ServerConnection) -> Ends {
    join_until(client, server, |_, _| false)
}

/// Handshakes, and leaves what the server sends behind its handshake unread, as a client that only uploads does.
pub(crate) fn join_without_tickets(client: &mut ClientConnection, server: &mut ServerConnection) -> Ends {
    join_until(client, server, |client, server| !client.is_handshaking() && !server.is_handshaking())
}

fn join_until(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
    is_enough: fn(&ClientConnection, &ServerConnection) -> bool,
) -> Ends {
    let mut errors = (None, None);
    loop {
        let to_server = wire(client);
        errors.1 = errors.1.or(feed(server, &to_server));
        if is_enough(client, server) {
            break;
        }
        let to_client = wire(server);
        errors.0 = errors.0.or(feed(client, &to_client));
        if to_client.is_empty() && to_server.is_empty() {
            break;
        }
    }
    let outcome = |error: Option<rustls::Error>, kind: Option<HandshakeKind>| match error {
        Some(error) => Err(error),
        None => Ok(kind.unwrap()),
    };
    Ends { client: outcome(errors.0, client.handshake_kind()), server: outcome(errors.1, server.handshake_kind()) }
}

fn wire<D>(end: &mut rustls::ConnectionCommon<D>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while end.wants_write() {
        end.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn feed<D>(end: &mut rustls::ConnectionCommon<D>, mut bytes: &[u8]) -> Option<rustls::Error> {
    while !bytes.is_empty() {
        end.read_tls(&mut bytes).unwrap();
        if let Err(error) = end.process_new_packets() {
            return Some(error);
        }
        // Keeps the buffer empty; nobody sends anything.
        end.reader().read_to_end(&mut Vec::new()).ok();
    }
    None
}
