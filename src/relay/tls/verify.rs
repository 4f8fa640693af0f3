//! Who is believed: the server by us, a client by the listener.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate::{chain, unusable};
use super::error::{LoadError, Wrong};
use crate::config::tls::{NamedFile, Verify};

/// Whom we believe to be the server.
pub(super) fn server(config: &Verify, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, LoadError> {
    let (roots, own) = match config {
        Verify::System => (system()?, Vec::new()),
        Verify::Nobody => return Ok(Arc::new(Verifier { trust: Trust::Anybody, provider })),
        Verify::File(file) => authorities(file)?,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let authorities = verifier.expect("there are authorities, and no revocation lists that could be wrong");
    Ok(Arc::new(Verifier { trust: Trust::Known { own, authorities }, provider }))
}

/// Which clients are admitted: those with a certificate that one of the file's has signed.
pub(super) fn clients(
    file: &NamedFile,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, LoadError> {
    let (roots, _) = authorities(file)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    Ok(verifier.expect("there are authorities, and no revocation lists that could be wrong"))
}

fn system() -> Result<RootCertStore, LoadError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Stores have odd entries; one that cannot be parsed vouches for nobody.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(ToString::to_string);
        return Err(LoadError::system(Wrong::NoAuthorities(why)));
    }
    Ok(roots)
}

fn authorities(file: &NamedFile) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), LoadError> {
    let certificates = chain(file)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|error| unusable(file, &error))?;
    }
    Ok((roots, certificates))
}

/// Whoever shows a certificate has to prove that the key is his, whatever the certificate is worth.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

/// Which certificates are believed.
#[derive(Debug)]
enum Trust {
    /// All.
    Anybody,
    /// Those that are known, or that a known authority has signed for the server's name.
    Known {
        /// Accepted as they are, whatever name and dates they have: legacy servers have self-signed ones, without a
        /// name that could be compared, and outlive them.
        own: Vec<CertificateDer<'static>>,
        authorities: Arc<WebPkiServerVerifier>,
    },
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Known { own, authorities } if !own.contains(certificate) => {
                authorities.verify_server_cert(certificate, chain, name, ocsp, now)
            }
            Trust::Known { .. } | Trust::Anybody => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
