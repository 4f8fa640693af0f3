//! The leg that faces the clients.

use std::sync::Arc;

use ftp_alg::config::tls::{Terminate, TlsVersion};
use ftp_alg::relay::tls::{ClientLegTls, TlsServer, refresh};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption, Tls12Resumption};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

use super::support::*;

/// A client with one memory for all that it connects to, and its own idea of what it can check.
struct Client {
    config: ClientConfig,
    name: &'static str,
}

/// Believes anybody.
#[derive(Debug)]
struct Believer(Vec<SignatureScheme>);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

impl Client {
    fn new(version: TlsVersion) -> Self {
        Self::that_checks(version, provider().signature_verification_algorithms.supported_schemes())
    }

    fn that_checks(version: TlsVersion, schemes: Vec<SignatureScheme>) -> Self {
        Self { config: builder(version, schemes).with_no_client_auth(), name: "ftp.example" }
    }

    fn with_certificate(version: TlsVersion, chain: Vec<CertificateDer<'static>>, key: &Key) -> Self {
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let schemes = provider().signature_verification_algorithms.supported_schemes();
        let config = builder(version, schemes).with_client_auth_cert(chain, key).unwrap();
        Self { config, name: "ftp.example" }
    }

    fn end(&self) -> ClientConnection {
        ClientConnection::new(Arc::new(self.config.clone()), server_name(self.name)).unwrap()
    }

    fn control(&self, leg: &ClientLegTls) -> Ends {
        join(&mut self.end(), &mut leg.control())
    }

    /// A data connection, and whether it is accepted.
    fn data(&self, leg: &ClientLegTls) -> (Ends, bool) {
        let mut server = leg.data();
        let ends = join(&mut self.end(), &mut server);
        (ends, leg.accepts(&server))
    }
}

fn builder(
    version: TlsVersion,
    schemes: Vec<SignatureScheme>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions(version))
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer(schemes)))
}

/// A listener with one certificate; the files are only needed to load it.
fn listener(change: impl FnOnce(&mut Terminate)) -> TlsServer {
    let files = Files::new();
    let mut config = terminate(files.pair("own", &["ftp.example"]));
    change(&mut config);
    server(&config)
}

#[test]
fn sec_19_fifty_data_connections_resume_their_control_connection() {
    for version in BOTH {
        let server = listener(|config| config.require_reuse = true);
        let leg = server.session().unwrap();
        let client = client("ftp.example", version).session(None).unwrap();
        assert!(join(&mut client.control(), &mut leg.control()).full());
        for transfer in 0..50 {
            let mut ours = leg.data();
            let ends = join(&mut client.data().unwrap(), &mut ours);
            assert!(ends.resumed() && leg.accepts(&ours), "{version:?}, transfer {transfer}: {ends:?}");
        }
    }
}

#[test]
fn sec_19_fifty_data_connections_of_a_client_without_tickets() {
    let server = listener(|config| config.require_reuse = true);
    let leg = server.session().unwrap();
    let mut client = Client::new(TlsVersion::V1_2);
    client.config.resumption = client.config.resumption.clone().tls12_resumption(Tls12Resumption::SessionIdOnly);
    assert!(client.control(&leg).full());
    for transfer in 0..50 {
        let (ends, accepted) = client.data(&leg);
        assert!(ends.resumed() && accepted, "transfer {transfer}: {ends:?}");
    }
    let other = server.session().unwrap();
    let (ends, accepted) = client.data(&other);
    assert!(ends.full() && !accepted, "another session's data connection: {ends:?}");
}

#[test]
fn sec_18_a_ticket_of_another_session_does_not_open_a_data_connection() {
    for version in BOTH {
        for require_reuse in [true, false] {
            let server = listener(|config| config.require_reuse = require_reuse);
            let (a, b) = (server.session().unwrap(), server.session().unwrap());
            let (client_a, client_b) = (Client::new(version), Client::new(version));
            assert!(client_a.control(&a).full() && client_b.control(&b).full());
            let (ends, accepted) = client_a.data(&b);
            assert!(ends.full(), "A's client resumes on B: {ends:?}");
            assert_eq!(accepted, !require_reuse, "{version:?}");
            let (ends, accepted) = client_b.data(&b);
            assert!(ends.resumed() && accepted, "B's own client: {ends:?}");
        }
    }
}

#[test]
fn sec_18_a_data_connection_without_a_ticket_is_not_the_sessions() {
    for version in BOTH {
        let server = listener(|config| config.require_reuse = true);
        let leg = server.session().unwrap();
        assert!(Client::new(version).control(&leg).full());
        let (ends, accepted) = Client::new(version).data(&leg);
        assert!(ends.full() && !accepted, "{ends:?}");
    }
}

#[test]
fn sec_20_a_ticket_is_of_no_use_on_another_listener() {
    for version in BOTH {
        let (a, b) = (listener(|_| {}), listener(|_| {}));
        let (a, b) = (a.session().unwrap(), b.session().unwrap());
        let client = Client::new(version);
        assert!(client.control(&a).full());
        assert!(client.data(&a).0.resumed(), "the client does resume where it may");
        assert!(client.data(&b).0.full());
    }
}

#[test]
fn sec_20_a_ticket_does_not_get_round_client_certificates() {
    let files = Files::new();
    let authority = Authority::new();
    files.put("ca.pem", &authority.certificate.pem());
    let ca = file("tls.client.client_ca", &files.path("ca.pem"));
    let (open, closed) = (listener(|_| {}), listener(|config| config.client_ca = Some(ca)));
    for version in BOTH {
        let (open, closed) = (open.session().unwrap(), closed.session().unwrap());
        let client = Client::new(version);
        assert!(client.control(&open).full());
        let (ends, _) = client.data(&closed);
        assert!(ends.server.is_err(), "{version:?}: {ends:?}");
    }
}

#[test]
fn sec_20_nothing_is_taken_as_early_data() {
    let leg = listener(|_| {}).session().unwrap();
    let mut client = Client::new(TlsVersion::V1_3);
    client.config.enable_early_data = true;
    assert!(client.control(&leg).full());
    let mut end = client.end();
    assert!(end.early_data().is_none(), "a ticket permits early data");
    assert!(join(&mut end, &mut leg.data()).resumed());
}

#[test]
fn client_certificates_are_asked_for_and_checked() {
    let files = Files::new();
    let (ours, theirs) = (Authority::new(), Authority::new());
    files.put("ca.pem", &ours.certificate.pem());
    let ca = file("tls.client.client_ca", &files.path("ca.pem"));
    let server = listener(|config| config.client_ca = Some(ca));
    let key = Key::generate().unwrap();
    for version in BOTH {
        let signed_by = |authority: &Authority| vec![authority.sign(&["client.example"], &key).der().clone()];
        let leg = server.session().unwrap();
        let good = Client::with_certificate(version, signed_by(&ours), &key);
        assert!(good.control(&leg).full());
        let mut data = leg.data();
        assert!(join(&mut good.end(), &mut data).resumed());
        assert_eq!(data.peer_certificates().map(<[_]>::len), Some(1), "resuming tells who it is");
        let bad = Client::with_certificate(version, signed_by(&theirs), &key);
        assert!(bad.control(&leg).server.is_err());
        let none = Client::new(version).control(&leg);
        assert_eq!(none.server, Err(Error::NoCertificatesPresented));
    }
}

#[test]
fn sec_17_only_ftp_or_no_protocol_at_all() {
    let server = listener(|_| {});
    for version in BOTH {
        for (offered, is_fine) in [
            (&[][..], true),
            (&["ftp"], true),
            (&["x-filezilla-ftp", "ftp"], true),
            (&["h2"], false),
            (&["h2", "http/1.1"], false),
            (&["FTP"], false),
        ] {
            for is_data in [false, true] {
                let leg = server.session().unwrap();
                let mut client = Client::new(version);
                client.config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
                let ends = if is_data { client.data(&leg).0 } else { client.control(&leg) };
                if is_fine {
                    assert!(ends.full(), "{offered:?}: {ends:?}");
                } else {
                    assert_eq!(ends.server, Err(Error::NoApplicationProtocol), "{offered:?}");
                    assert_eq!(ends.client, Err(Error::AlertReceived(AlertDescription::NoApplicationProtocol)));
                    assert_eq!(u8::from(AlertDescription::NoApplicationProtocol), 120);
                }
            }
        }
    }
}

#[test]
fn a_client_below_the_minimum_is_refused() {
    let server = listener(|config| config.min_version = TlsVersion::V1_3);
    let leg = server.session().unwrap();
    assert!(Client::new(TlsVersion::V1_2).control(&leg).failed());
    assert!(Client::new(TlsVersion::V1_3).control(&leg).full());
}

/// The certificate that a client gets.
fn shown(client: &Client, server: &TlsServer) -> CertificateDer<'static> {
    let mut end = client.end();
    let ends = join(&mut end, &mut server.session().unwrap().control());
    assert!(ends.full(), "{ends:?}");
    end.peer_certificates().unwrap()[0].clone()
}

#[test]
fn the_name_that_the_client_expects_chooses_the_certificate() {
    let files = Files::new();
    let mut config = terminate(files.pair("first", &["first.example"]));
    config.certificates.push(files.pair("second", &["second.example", "alias.example"]));
    config.certificates.push(files.pair("wild", &["*.wild.example"]));
    let server = server(&config);
    let certificate = |name: &str| rustls_pem(&files.path(&format!("{name}.pem")));
    for (name, expected) in [
        ("first.example", "first"),
        ("second.example", "second"),
        ("ALIAS.example", "second"),
        ("a.wild.example", "wild"),
        ("b.a.wild.example", "first"),
        ("wild.example", "first"),
        ("unknown.example", "first"),
        ("192.0.2.1", "first"),
    ] {
        for version in BOTH {
            let mut client = Client::new(version);
            client.name = name;
            assert!(shown(&client, &server) == certificate(expected), "{name} is not shown `{expected}`");
        }
    }
}

fn rustls_pem(path: &std::path::Path) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_file(path).unwrap()
}

#[test]
fn a_client_gets_a_certificate_of_a_kind_that_it_can_check() {
    let files = Files::new();
    let rsa = Key::from_pem(include_str!("keys/rsa-pkcs8.key")).unwrap();
    let mut config = terminate(files.pair("ecdsa", &["ftp.example"]));
    config.certificates.push(files.pair_with("rsa", &["ftp.example"], &rsa));
    let server = server(&config);
    for version in BOTH {
        let of_old = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256].to_vec();
        assert!(shown(&Client::that_checks(version, of_old), &server) == rustls_pem(&files.path("rsa.pem")));
        assert!(shown(&Client::new(version), &server) == rustls_pem(&files.path("ecdsa.pem")));
    }
}

#[test]
fn sessions_keep_their_certificate_and_new_ones_get_the_new_one() {
    let files = Files::new();
    let server = server(&terminate(files.pair("own", &["ftp.example"])));
    let old = rustls_pem(&files.path("own.pem"));
    let before = server.session().unwrap();
    files.pair("own", &["ftp.example"]);
    let new = rustls_pem(&files.path("own.pem"));
    assert!(old != new);
    server.reload().unwrap();
    assert!(shown(&Client::new(TlsVersion::V1_3), &server) == new);
    let mut end = Client::new(TlsVersion::V1_3).end();
    assert!(join(&mut end, &mut before.data()).full());
    assert!(end.peer_certificates().unwrap()[0] == old, "RFC 4217 §10.2: one certificate for control and data");
}

#[test]
fn a_changed_file_is_followed_and_a_bad_one_leaves_the_old() {
    let files = Files::new();
    let server = server(&terminate(files.pair("own", &["ftp.example"])));
    let client = Client::new(TlsVersion::V1_3);
    let old = shown(&client, &server);
    let old_key = std::fs::read_to_string(files.path("own.key")).unwrap();

    // Half of a renewal: the certificate is new, the key is still the old one.
    files.pair("own", &["ftp.example"]);
    let new_key = std::fs::read_to_string(files.path("own.key")).unwrap();
    files.put("own.key", &old_key);
    server.follow();
    assert!(shown(&client, &server) == old, "the old one is kept");
    assert!(server.reload().unwrap_err().to_string().contains("is not that of the certificate"));

    files.put("own.key", &new_key);
    server.follow();
    let new = shown(&client, &server);
    assert!(new == rustls_pem(&files.path("own.pem")) && new != old);

    std::fs::remove_file(files.path("own.pem")).unwrap();
    server.follow();
    assert!(shown(&client, &server) == new, "still there without its file");
}

#[tokio::test(start_paused = true)]
async fn the_files_are_looked_at_now_and_then() {
    let files = Files::new();
    let server = Arc::new(server(&terminate(files.pair("own", &["ftp.example"]))));
    let client = Client::new(TlsVersion::V1_3);
    let old = shown(&client, &server);
    let following = tokio::spawn(refresh(vec![Arc::clone(&server)]));
    files.pair("own", &["ftp.example"]);
    let renewed = async {
        while shown(&client, &server) == old {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    };
    let start = tokio::time::Instant::now();
    tokio::time::timeout(std::time::Duration::from_secs(60), renewed).await.expect("a minute without a look");
    assert!(start.elapsed().as_secs() >= 29, "looked after {:?}", start.elapsed());
    following.abort();
}

#[test]
fn what_did_not_change_is_not_read_again() {
    let files = Files::new();
    let server = server(&terminate(files.pair("own", &["ftp.example"])));
    let client = Client::new(TlsVersion::V1_3);
    let old = shown(&client, &server);
    let of = |name: &str| std::fs::read(files.path(name)).unwrap();
    // Another pair in the same files, with the same sizes and times: only whoever reads them sees it. The length of an
    // ECDSA signature varies by a byte or two.
    let (certificate, key) = (of("own.pem"), of("own.key"));
    while {
        files.pair("other", &["ftp.example"]);
        (of("other.pem").len(), of("other.key").len()) != (certificate.len(), key.len())
    } {}
    for kind in ["pem", "key"] {
        let path = files.path(&format!("own.{kind}"));
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, of(&format!("other.{kind}"))).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    }
    server.follow();
    assert!(shown(&client, &server) == old);
    server.reload().unwrap();
    assert!(shown(&client, &server) != old, "reading is what a reload on demand does");
}

#[test]
fn the_memory_of_a_client_is_what_these_tests_take_it_for() {
    // `Client` resumes at every listener of one name: without that, the tests above would prove nothing.
    let leg = listener(|_| {}).session().unwrap();
    let mut client = Client::new(TlsVersion::V1_3);
    assert!(client.control(&leg).full() && client.data(&leg).0.resumed());
    client.config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(8)));
    assert!(client.data(&leg).0.full());
}
