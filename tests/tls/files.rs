//! Files: what can be read, what is said about the others, and what a certificate says.

use std::time::{Duration, SystemTime};

use ftp_alg::config::tls::{ServerIdentity, TlsVersion, Verify};
use ftp_alg::relay::tls::{TlsClient, TlsServer, inspect};

use super::support::*;

/// What is said about a pair that cannot be used.
fn error(files: &Files, name: &str) -> String {
    let pair = files.named(name);
    let error = inspect(&pair).unwrap_err().to_string();
    assert_eq!(TlsServer::load("ftp", &terminate(pair)).unwrap_err().to_string(), error, "serving says the same");
    error.replace(&format!("{}/", files.path("").display().to_string().trim_end_matches('/')), "")
}

#[test]
fn keys_of_every_kind_and_form() {
    let files = Files::new();
    let rsa = include_str!("keys/rsa-pkcs8.key");
    let ec = include_str!("keys/ec-pkcs8.key");
    let ed25519 = Key::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let p384 = Key::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    for (written, pkcs8, kind) in [
        (rsa, rsa, "RSA 2048"),
        (include_str!("keys/rsa-pkcs1.key"), rsa, "RSA 2048"),
        (ec, ec, "ECDSA P-256"),
        (include_str!("keys/ec-sec1.key"), ec, "ECDSA P-256"),
        (&p384, &p384, "ECDSA P-384"),
        (&ed25519, &ed25519, "Ed25519"),
    ] {
        let pair = files.pair_with("own", &["ftp.example"], &Key::from_pem(pkcs8).unwrap());
        files.put("own.key", written);
        assert_eq!(inspect(&pair).unwrap().key, kind);
        let server = server(&terminate(pair));
        for version in BOTH {
            let leg = server.session().unwrap();
            assert!(
                join(&mut client("ftp.example", version).session(None).unwrap().control(), &mut leg.control()).full(),
                "{kind}"
            );
        }
    }
}

#[test]
fn a_chain_is_shown_as_a_whole() {
    let files = Files::new();
    let (authority, key) = (Authority::new(), Key::generate().unwrap());
    files.put("own.pem", &format!("{}{}", authority.sign(&["ftp.example"], &key).pem(), authority.certificate.pem()));
    files.put("own.key", &key.serialize_pem());
    let leg = server(&terminate(files.named("own"))).session().unwrap();
    let mut end = client("ftp.example", TlsVersion::V1_3).session(None).unwrap().control();
    assert!(join(&mut end, &mut leg.control()).full());
    assert_eq!(end.peer_certificates().unwrap().len(), 2);
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_a_remedy() {
    let files = Files::new();
    assert_eq!(
        error(&files, "own"),
        "tls.client.certificate: cannot read own.pem: No such file or directory (os error 2); write the path of a PEM \
         file that exists"
    );
    files.pair("own", &["ftp.example"]);
    let (certificate, key) = (files.path("own.pem"), files.path("own.key"));
    let [certificate, key] = [certificate, key].map(|path| std::fs::read_to_string(path).unwrap());

    files.put("own.pem", &key);
    assert!(error(&files, "own").starts_with("tls.client.certificate: own.pem has no certificate in PEM form"));
    files.put("own.pem", "-----BEGIN CERTIFICATE-----\nnonsense!\n-----END CERTIFICATE-----\n");
    assert!(error(&files, "own").starts_with("tls.client.certificate: own.pem is not valid PEM: "));
    files.put("own.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(error(&files, "own").starts_with("tls.client.certificate: a certificate in own.pem cannot be used: "));
    files.put("own.pem", &certificate);

    files.put("own.key", &certificate);
    assert!(error(&files, "own").starts_with("tls.client.key: own.key has no private key in PEM form; write "));
    files.put("own.key", include_str!("keys/ec-encrypted.key"));
    assert_eq!(
        error(&files, "own"),
        "tls.client.key: the key in own.key has a passphrase; remove it with `openssl pkey -in own.key -out NEW.pem`"
    );
    files.put("own.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    assert!(error(&files, "own").starts_with("tls.client.key: the key in own.key cannot be used: "));
    files.put("own.key", &Key::generate().unwrap().serialize_pem());
    assert_eq!(
        error(&files, "own"),
        "tls.client.key: the key in own.key is not that of the certificate in own.pem; the server's own certificate \
         has to be the first in its file"
    );
    files.put("own.key", &key);
    assert!(inspect(&files.named("own")).is_ok());
}

#[test]
fn authorities_that_cannot_be_used_are_named_too() {
    let files = Files::new();
    let mut config = terminate(files.pair("own", &["ftp.example"]));
    config.client_ca = Some(file("tls.client.client_ca", &files.path("own.key")));
    let error = TlsServer::load("ftp", &config).unwrap_err().to_string();
    assert!(error.starts_with("tls.client.client_ca: ") && error.contains("has no certificate"), "{error}");
    let verify = Verify::File(file("tls.server.verify", &files.path("missing.pem")));
    let (name, max_version) = (Some(server_name("ftp.example")), TlsVersion::V1_2);
    let identity = ServerIdentity { verify, name, max_version, lenient: false };
    let error = TlsClient::load(&identity).unwrap_err().to_string();
    assert!(error.starts_with("tls.server.verify: cannot read "), "{error}");
}

#[test]
fn what_a_certificate_says() {
    let files = Files::new();
    let key = Key::generate().unwrap();
    let mut params = params(&["ftp.example", "*.ftp.example", "203.0.113.10", "2001:db8::1"]);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "ftp\u{1b}[2J");
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2026, 4, 1));
    files.put("own.pem", &params.self_signed(&key).unwrap().pem());
    files.put("own.key", &key.serialize_pem());
    let facts = inspect(&files.named("own")).unwrap();
    assert_eq!(facts.names, ["ftp.example", "*.ftp.example", "203.0.113.10", "2001:db8::1"]);
    assert_eq!(facts.subject, "CN=ftp\u{fffd}[2J", "a terminal obeys what follows an escape");
    assert_eq!(facts.issuer, facts.subject);

    let (day, second) = (Duration::from_secs(24 * 60 * 60), Duration::from_secs(1));
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_775_001_600);
    assert_eq!(facts.not_after, end);
    let warning = |at| facts.warning(at);
    assert_eq!(warning(facts.not_before - second).as_deref(), Some("is not valid before 2026-01-01"));
    assert_eq!(warning(facts.not_before), None);
    assert_eq!(warning(end - 14 * day), None);
    assert_eq!(warning(end - 14 * day + second).as_deref(), Some("expires on 2026-04-01"));
    assert_eq!(warning(end).as_deref(), Some("expired on 2026-04-01"));
}
