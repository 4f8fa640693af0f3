//! Certificates and keys: from files, and for people.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::error::{LoadError, Wrong};
use crate::config::tls::{KeyPair, NamedFile};

/// Authorities renew what is valid for 90 days a month before the end: whatever is nearer has been forgotten.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Reads a pair. The first certificate of the chain is the server's own, and the key is its key.
pub(super) fn load(pair: &KeyPair, provider: &CryptoProvider) -> Result<CertifiedKey, LoadError> {
    let chain = chain(&pair.certificate)?;
    let key = private_key(&pair.key)?;
    let signing = provider.key_provider.load_private_key(key);
    let signing = signing.map_err(|error| LoadError::new(&pair.key, |path| Wrong::Key(path, error)))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        // Every key of this provider tells its public half, so that `Unknown` is not met.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            let certificate = pair.certificate.path.display().to_string();
            Err(LoadError::new(&pair.key, |key| Wrong::Mismatch(key, certificate)))
        }
        Err(error) => Err(unusable(&pair.certificate, &error)),
    }
}

/// Every certificate of a file; at least one.
pub(super) fn chain(file: &NamedFile) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let text = read(file)?;
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| LoadError::new(file, |path| Wrong::Pem(path, error)))?;
    if chain.is_empty() {
        return Err(LoadError::new(file, Wrong::NoCertificate));
    }
    Ok(chain)
}

fn private_key(file: &NamedFile) -> Result<PrivateKeyDer<'static>, LoadError> {
    const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    let text = read(file)?;
    if ENCRYPTED.iter().any(|mark| text.windows(mark.len()).any(|window| window == *mark)) {
        return Err(LoadError::new(file, Wrong::Encrypted));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        LoadError::new(file, |path| match error {
            pem::Error::NoItemsFound => Wrong::NoKey(path),
            error => Wrong::Pem(path, error),
        })
    })
}

fn read(file: &NamedFile) -> Result<Vec<u8>, LoadError> {
    std::fs::read(&file.path).map_err(|error| LoadError::new(file, |path| Wrong::Read(path, error)))
}

pub(super) fn unusable(file: &NamedFile, error: &impl fmt::Display) -> LoadError {
    LoadError::new(file, |path| Wrong::Certificate(path, error.to_string()))
}

/// What a certificate says, for the person who installed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whose it is, like `CN=ftp.example.com`.
    pub subject: String,
    /// The names and addresses that clients may know the server by.
    pub names: Vec<String>,
    /// Who signed it.
    pub issuer: String,
    /// The kind of key, like `ECDSA P-256`.
    pub key: String,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

impl Facts {
    /// What clients will object to, or soon.
    #[must_use]
    pub fn warning(&self, now: SystemTime) -> Option<String> {
        let day = |time| humantime::format_rfc3339_seconds(time).to_string().split('T').next().map(str::to_owned);
        if now < self.not_before {
            return Some(format!("is not valid before {}", day(self.not_before)?));
        }
        if now >= self.not_after {
            return Some(format!("expired on {}", day(self.not_after)?));
        }
        let is_soon = self.not_after.duration_since(now).is_ok_and(|left| left < SOON);
        is_soon.then(|| day(self.not_after).map(|day| format!("expires on {day}"))).flatten()
    }
}

/// Reads a pair as serving would, and tells what its certificate says.
///
/// # Errors
/// A file that is missing or no PEM, or a key that is not the certificate's.
pub fn inspect(pair: &KeyPair) -> Result<Facts, LoadError> {
    let certified = load(pair, &super::provider())?;
    let own = certified.cert.first().expect("a chain that was loaded is not empty");
    facts(own).map_err(|error| unusable(&pair.certificate, &error))
}

fn facts(certificate: &CertificateDer<'_>) -> Result<Facts, x509_parser::error::X509Error> {
    let (_, parsed) = X509Certificate::from_der(certificate)?;
    let names = parsed.subject_alternative_name()?.map(|extension| &extension.value.general_names);
    Ok(Facts {
        subject: printable(&parsed.subject().to_string()),
        names: names.into_iter().flatten().filter_map(name).collect(),
        issuer: printable(&parsed.issuer().to_string()),
        key: key(&parsed),
        not_before: time(parsed.validity().not_before.timestamp()),
        not_after: time(parsed.validity().not_after.timestamp()),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(printable(name)),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        // Neither is compared with what a client connected to.
        _ => None,
    }
}

fn key(certificate: &X509Certificate<'_>) -> String {
    let info = certificate.public_key();
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
        Ok(PublicKey::EC(point)) => format!("ECDSA P-{}", point.key_size()),
        // RFC 8410 §3: an identifier of its own, without parameters.
        _ if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => "Ed25519".into(),
        _ => "a key of an unknown kind".into(),
    }
}

/// A certificate may say anything, and a terminal obeys control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Certificates end before 1970 only to test parsers; those are expired all the same.
fn time(timestamp: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or(0))
}
