//! `tls` of a listener: what is encrypted on each leg.
//!
//! A mode carries the keys that belong to it, so that a certificate which nobody would be shown, or a port that
//! nobody would relay, cannot be written down. Files are named here and read by [`relay::tls`](crate::relay::tls).

use std::ops::RangeInclusive;
use std::path::PathBuf;

use rustls::pki_types::ServerName;

/// `tls` of a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The leg that faces the clients.
    pub client: ClientTls,
    /// The leg that faces the server.
    pub server: ServerTls,
}

/// `tls.client`: what happens when a client wants TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ClientTls {
    /// AUTH is refused.
    #[default]
    Refuse,
    /// AUTH is the server's, and what follows its 234 is copied unread.
    Passthrough {
        /// `passthrough_ports`: each is relayed to the same port of the server, for clients with such a session.
        /// `None` relays no data connections of theirs.
        ports: Option<RangeInclusive<u16>>,
    },
    /// TLS ends at us.
    Terminate(Box<Terminate>),
}

/// How TLS with clients ends at us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminate {
    /// Never empty. The client's server name (SNI) chooses; the first is for those who send none, or another one.
    pub certificates: Vec<KeyPair>,
    /// Nobody logs in, and nothing is transferred, without TLS.
    pub require: bool,
    /// TLS from the first byte, as on port 990, without AUTH.
    pub implicit: bool,
    /// Clients with an older one are refused.
    pub min_version: TlsVersion,
    /// CCC may end the encryption of the control connection (RFC 4217 §12.3).
    pub allow_ccc: bool,
    /// An upload that ends without `close_notify` is complete all the same.
    pub lenient: bool,
    /// A data connection has to resume the TLS session of its control connection.
    pub require_reuse: bool,
    /// Clients have to show a certificate that one of these has signed. Implies `require` or `implicit`.
    pub client_ca: Option<NamedFile>,
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The server's certificate, then those that lead from it to the root.
    pub certificate: NamedFile,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key: NamedFile,
}

/// A file, and what names it in proxy.yaml, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The path within the listener, like `tls.client.certificate`.
    pub named_by: String,
    /// Absolute.
    pub path: PathBuf,
}

/// `tls.server`: whether we speak TLS with the server, whatever the client does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ServerTls {
    /// No.
    #[default]
    Plain,
    /// We send AUTH TLS before the client's first command. A server that refuses is not used.
    Explicit(ServerIdentity),
    /// TLS from the first byte.
    Implicit(ServerIdentity),
}

impl ServerTls {
    /// Who the server has to be, if TLS is spoken with it.
    #[must_use]
    pub const fn identity(&self) -> Option<&ServerIdentity> {
        match self {
            Self::Plain => None,
            Self::Explicit(identity) | Self::Implicit(identity) => Some(identity),
        }
    }
}

/// Who the server has to be, and how TLS is spoken with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Who vouches for it.
    pub verify: Verify,
    /// What its certificate has to say; a DNS name is sent as SNI too. `None`: the host that the server was chosen by.
    pub name: Option<ServerName<'static>>,
    /// The newest version that is offered.
    pub max_version: TlsVersion,
    /// A download that ends without `close_notify` is complete.
    pub lenient: bool,
}

/// Who vouches for the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verify {
    /// The authorities that this machine trusts.
    System,
    /// Nobody: any certificate is accepted.
    Nobody,
    /// The certificates in this file: authorities, or the server's own.
    File(NamedFile),
}

/// A version of TLS. Older ones are broken, and not spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}
