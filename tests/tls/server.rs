//! The leg that faces the server.

use std::sync::Arc;

use ftp_alg::config::tls::{ServerIdentity, TlsVersion, Verify};
use ftp_alg::relay::tls::{OutOfTickets, ServerLegTls, TlsClient};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};

use super::support::*;

/// A server with rustls' own defaults: sessions in memory, two tickets that are good once.
fn server_with(certificate: CertificateDer<'static>, key: &Key) -> ServerConfig {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap()
}

fn any_server() -> ServerConfig {
    let key = Key::generate().unwrap();
    server_with(self_signed(&["ftp.example"], &key).der().clone(), &key)
}

fn end(config: &ServerConfig) -> ServerConnection {
    ServerConnection::new(Arc::new(config.clone())).unwrap()
}

fn leg(version: TlsVersion) -> ServerLegTls {
    client("ftp.example", version).session(None).unwrap()
}

/// Where clients choose the server, each has its own name.
#[test]
fn the_name_is_that_of_each_server_unless_one_is_configured() {
    let load = |name| {
        let max_version = TlsVersion::V1_2;
        TlsClient::load(&ServerIdentity { verify: Verify::Nobody, name, max_version, lenient: false }).unwrap()
    };
    let any = load(None);
    assert_eq!(any.session(Some(server_name("a.example"))).unwrap().name(), &server_name("a.example"));
    assert!(any.session(None).is_none(), "nobody to believe");
    let one = load(Some(server_name("b.example")));
    assert_eq!(one.session(Some(server_name("a.example"))).unwrap().name(), &server_name("b.example"));
}

#[test]
fn sec_19_fifty_data_connections_resume_the_session_at_the_server() {
    for version in BOTH {
        let server = any_server();
        let leg = leg(version);
        let mut control = leg.control();
        assert!(join(&mut control, &mut end(&server)).full());
        let expected = if version == TlsVersion::V1_2 { ProtocolVersion::TLSv1_2 } else { ProtocolVersion::TLSv1_3 };
        assert_eq!(control.protocol_version(), Some(expected));
        for transfer in 0..50 {
            let ends = join(&mut leg.data().unwrap(), &mut end(&server));
            assert!(ends.resumed(), "{version:?}, transfer {transfer}: {ends:?}");
        }
    }
}

#[test]
fn fifty_uploads_whose_tickets_nobody_reads_resume_with_tls_1_2() {
    let server = any_server();
    let leg = leg(TlsVersion::V1_2);
    assert!(join(&mut leg.control(), &mut end(&server)).full());
    for transfer in 0..50 {
        let ends = join_without_tickets(&mut leg.data().unwrap(), &mut end(&server));
        assert!(ends.resumed(), "transfer {transfer}: {ends:?}");
    }
}

#[test]
fn data_connections_that_overlap_resume_too() {
    for version in BOTH {
        let server = any_server();
        let leg = leg(version);
        assert!(join(&mut leg.control(), &mut end(&server)).full());
        let (mut first, mut second) = (leg.data().unwrap(), leg.data().unwrap());
        assert!(join(&mut second, &mut end(&server)).resumed());
        assert!(join(&mut first, &mut end(&server)).resumed());
    }
}

#[test]
fn out_of_tickets_is_an_error_that_names_the_setting() {
    let server = any_server();
    let leg = leg(TlsVersion::V1_3);
    assert!(join(&mut leg.control(), &mut end(&server)).full());
    for _ in 0..server.send_tls13_tickets {
        assert!(join_without_tickets(&mut leg.data().unwrap(), &mut end(&server)).resumed());
    }
    let error = leg.data().unwrap_err();
    assert_eq!(error, OutOfTickets);
    assert!(error.to_string().ends_with("write `tls.server.max_version: 1.2`"), "{error}");
}

#[test]
fn a_server_that_has_nothing_to_resume_does_not_expect_it() {
    for version in BOTH {
        let mut server = any_server();
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let leg = leg(version);
        assert!(join(&mut leg.control(), &mut end(&server)).full());
        for _ in 0..3 {
            assert!(join(&mut leg.data().unwrap(), &mut end(&server)).full());
        }
    }
}

#[test]
fn sec_18_sessions_do_not_share_what_they_resume() {
    for version in BOTH {
        let server = any_server();
        let client = client("ftp.example", version);
        let (a, b) = (client.session(None).unwrap(), client.session(None).unwrap());
        assert!(join(&mut a.control(), &mut end(&server)).full());
        assert!(join(&mut b.control(), &mut end(&server)).full(), "B's control connection resumes A's session");
        assert!(join(&mut a.data().unwrap(), &mut end(&server)).resumed());
    }
}

fn believes(verify: &Verify, name: &str, server: &ServerConfig) -> bool {
    let [old, new] = BOTH.map(|version| {
        let leg = client_that(verify.clone(), name, version).session(None).unwrap();
        let ends = join(&mut leg.control(), &mut end(server));
        assert!(ends.full() || ends.client.is_err(), "{ends:?}");
        ends.full()
    });
    assert_eq!(old, new, "TLS 1.2 and 1.3 differ");
    new
}

fn trusting(files: &Files, certificate: &Certificate) -> Verify {
    files.put("trusted.pem", &certificate.pem());
    Verify::File(file("tls.server.verify", &files.path("trusted.pem")))
}

#[test]
fn a_server_is_believed_if_a_known_authority_signed_for_its_name() {
    let files = Files::new();
    let (known, unknown) = (Authority::new(), Authority::new());
    let verify = trusting(&files, &known.certificate);
    let key = Key::generate().unwrap();
    let names = ["ftp.example", "192.0.2.7"];
    let server = server_with(known.sign(&names, &key).der().clone(), &key);
    assert!(believes(&verify, "ftp.example", &server));
    assert!(believes(&verify, "192.0.2.7", &server));
    assert!(!believes(&verify, "other.example", &server));
    assert!(!believes(&verify, "192.0.2.8", &server));
    let server = server_with(unknown.sign(&names, &key).der().clone(), &key);
    assert!(!believes(&verify, "ftp.example", &server));
}

#[test]
fn a_servers_own_certificate_is_believed_as_it_is() {
    let files = Files::new();
    let key = Key::generate().unwrap();
    // As `openssl req -x509` makes them for a server of old: an authority that signs itself, without names, and expired.
    let mut params = params(&[]);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(2010, 1, 1);
    let own = params.self_signed(&key).unwrap();
    let server = server_with(own.der().clone(), &key);
    assert!(believes(&trusting(&files, &own), "ftp.example", &server));
    let other = params.self_signed(&Key::generate().unwrap()).unwrap();
    assert!(!believes(&trusting(&files, &other), "ftp.example", &server));
}

#[test]
fn whoever_cannot_prove_to_have_the_key_is_not_believed_at_all() {
    #[derive(Debug)]
    struct Impostor(Arc<CertifiedKey>);
    impl ResolvesServerCert for Impostor {
        fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }
    let files = Files::new();
    let (key, stranger) = (Key::generate().unwrap(), Key::generate().unwrap());
    let certificate = self_signed(&["ftp.example"], &key);
    let stolen = PrivateKeyDer::try_from(stranger.serialize_der()).unwrap();
    let signing = provider().key_provider.load_private_key(stolen).unwrap();
    let mut server = any_server();
    server.cert_resolver = Arc::new(Impostor(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signing))));
    assert!(!believes(&Verify::Nobody, "ftp.example", &server));
    assert!(!believes(&trusting(&files, &certificate), "ftp.example", &server));
    let honest = server_with(certificate.der().clone(), &key);
    assert!(believes(&Verify::Nobody, "ftp.example", &honest));
}

#[test]
fn tls_1_3_is_offered_only_where_it_is_configured() {
    let mut server = any_server();
    assert!(join(&mut leg(TlsVersion::V1_3).control(), &mut end(&server)).full());
    server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&server.cert_resolver));
    assert!(join(&mut leg(TlsVersion::V1_2).control(), &mut end(&server)).failed());
    assert!(join(&mut leg(TlsVersion::V1_3).control(), &mut end(&server)).full());
}
