//! What is wrong with a file of certificates or a key, and what to do about it.

use std::fmt;
use std::io;
use std::path::Path;

use rustls::pki_types::pem;

use crate::config::tls::NamedFile;

/// A file that `tls` of a listener names cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{named_by}: {wrong}")]
pub struct LoadError {
    /// The key within the listener, like `tls.client.certificate`.
    named_by: String,
    /// Why, with a remedy.
    wrong: Wrong,
}

impl LoadError {
    pub(super) fn new(file: &NamedFile, wrong: impl FnOnce(String) -> Wrong) -> Self {
        Self { named_by: file.named_by.clone(), wrong: wrong(shown(&file.path)) }
    }

    /// Nothing that a file could help: the machine's own store of authorities.
    pub(super) fn system(wrong: Wrong) -> Self {
        Self { named_by: "tls.server.verify".into(), wrong }
    }
}

/// What is wrong with a file; the path comes first.
#[derive(Debug)]
pub(super) enum Wrong {
    /// It is not there, or not for us.
    Read(String, io::Error),
    /// It is not PEM.
    Pem(String, pem::Error),
    /// It has no certificate.
    NoCertificate(String),
    /// A certificate in it cannot be parsed.
    Certificate(String, String),
    /// It has no private key.
    NoKey(String),
    /// The key in it has a passphrase, and nobody is there to type it.
    Encrypted(String),
    /// The key is of a kind or size that is not supported.
    Key(String, rustls::Error),
    /// The key is not that of the certificate, whose path is the second.
    Mismatch(String, String),
    /// This machine trusts nobody, or it cannot be read whom.
    NoAuthorities(Option<String>),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "cannot read {path}: {error}{}", remedy(error)),
            Self::Pem(path, error) => {
                write!(f, "{path} is not valid PEM: {error}; export it again, as text that begins with `-----BEGIN`")
            }
            Self::NoCertificate(path) => {
                write!(
                    f,
                    "{path} has no certificate in PEM form (`-----BEGIN CERTIFICATE-----`); convert DER with `openssl \
                     x509 -inform der -in {path} -out NEW.pem`"
                )
            }
            Self::Certificate(path, error) => write!(f, "a certificate in {path} cannot be used: {error}; replace it"),
            Self::NoKey(path) => {
                write!(f, "{path} has no private key in PEM form; write the file with the certificate's key")
            }
            Self::Encrypted(path) => {
                write!(f, "the key in {path} has a passphrase; remove it with `openssl pkey -in {path} -out NEW.pem`")
            }
            Self::Key(path, error) => {
                write!(f, "the key in {path} cannot be used: {error}; take RSA (2048 bits or more), ECDSA or Ed25519")
            }
            Self::Mismatch(key, certificate) => write!(
                f,
                "the key in {key} is not that of the certificate in {certificate}; the server's own certificate has to \
                 be the first in its file"
            ),
            Self::NoAuthorities(why) => {
                f.write_str("this machine has no certificates of authorities that it trusts")?;
                if let Some(why) = why {
                    write!(f, " ({why})")?;
                }
                f.write_str(
                    "; install the package ca-certificates, or write `verify: ` and a file with the server's authority",
                )
            }
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; write the path of a PEM file that exists",
        io::ErrorKind::PermissionDenied => "; let the user that runs ftp-alg read it",
        _ => "",
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
