//! TLS on either leg, as rustls configurations; the sockets are elsewhere.
//!
//! ```text
//!     client ══TLS══▶ TlsServer        one per listener
//!                       └ ClientLegTls   one per TLS control connection of a client
//!                     TlsClient        one per listener
//!     server ◀══TLS══   └ ServerLegTls   one per TLS control connection to the server
//! ```
//!
//! A data connection has to belong to its control connection, or whoever is first on the port gets the file. Servers
//! (vsftpd, ProFTPD, FileZilla Server) and FileZilla check it by the one thing that the two can share: the data
//! connection resumes the TLS session of the control connection. So what makes resumption possible, keys of tickets
//! towards clients and tickets towards the server, belongs to one control connection here and to nothing larger. It
//! cannot cross sessions, listeners or rules about client certificates, and ends with the session.
//!
//! rustls with ring speaks TLS 1.2 with ECDHE and TLS 1.3. Nothing is sent as early data (0-RTT): it can be replayed.

mod certificate;
mod client_leg;
mod error;
mod refresh;
mod server_leg;
mod sessions;
mod verify;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, ring};

pub use certificate::{Facts, inspect};
pub use client_leg::{ClientLegTls, TlsServer};
pub use error::LoadError;
pub use refresh::refresh;
pub use server_leg::{ServerLegTls, TlsClient};
pub use sessions::OutOfTickets;

/// The cryptography. Not installed as the process' default: who uses it says so.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// A client and a server that trust each other, for `ftp.example`.
#[cfg(test)]
pub(super) fn self_signed() -> (Arc<rustls::ClientConfig>, Arc<rustls::ServerConfig>) {
    use rustls::pki_types::PrivateKeyDer;

    let made = rcgen::generate_simple_self_signed(["ftp.example".into()]).expect("a name");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let server = rustls::ServerConfig::builder().with_no_client_auth();
    let server = server.with_single_cert(vec![made.cert.der().clone()], key).expect("the certificate's key");
    (Arc::new(client), Arc::new(server))
}
