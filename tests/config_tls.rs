//! What `tls` of a listener may say, and what is said about everything else.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;

use ftp_alg::config::tls::{ClientTls, ServerTls, Tls, TlsVersion, Verify};
use ftp_alg::config::{Config, warning};

/// A valid listener; `tls` goes to line 8.
const VALID: &str = "\
listeners:
  - name: ftp
    bind: 192.0.2.1:2121
    upstream: ftp.example.internal.
    client:
      address_map: [{ peers: any, announce: 203.0.113.10 }]
      data_ports: 20000-20020
";

const PAIR: &str = "certificate: /c.pem, key: /k.pem";

fn with(tls: &str) -> String {
    format!("{VALID}    tls: {tls}\n")
}

fn read(tls: &str) -> Tls {
    let config = Config::parse(&with(tls), "f").unwrap_or_else(|e| panic!("{e}"));
    config.listeners[0].tls.clone()
}

/// The errors of a text, one a line: `line path: what; help`.
fn errors(text: &str) -> Vec<String> {
    let errors = Config::parse(text, "proxy.yaml").expect_err("this configuration is wrong");
    errors.list().iter().map(|e| format!("{} {}: {}; {}", e.line, e.path, e.what, e.help)).collect()
}

/// The one error of a `tls`, without `8 listeners[0].tls.`.
fn error(tls: &str) -> String {
    let errors = errors(&with(tls));
    let [only] = &errors[..] else { panic!("{tls}: {errors:#?}") };
    only.strip_prefix("8 listeners[0].tls.").unwrap_or_else(|| panic!("{only}")).into()
}

fn assert_starts(actual: &str, expected: &str) {
    assert!(actual.starts_with(expected), "\n  {actual}\ndoes not start with\n  {expected}");
}

#[test]
fn without_it_nothing_is_encrypted() {
    for tls in ["", "{}", "{ client: , server: ~ }", "{ client: { mode: refuse }, server: { mode: plain } }"] {
        assert_eq!(read(tls), Tls { client: ClientTls::Refuse, server: ServerTls::Plain }, "{tls}");
    }
}

#[test]
fn a_certificate_is_all_that_terminating_needs() {
    let ClientTls::Terminate(tls) = read(&format!("{{ client: {{ mode: terminate, {PAIR} }} }}")).client else {
        panic!("not terminated")
    };
    let [pair] = &tls.certificates[..] else { panic!("{tls:?}") };
    assert_eq!((pair.certificate.path.as_path(), pair.key.path.as_path()), (Path::new("/c.pem"), Path::new("/k.pem")));
    assert_eq!(pair.key.named_by, "tls.client.key");
    assert_eq!(
        (tls.require, tls.implicit, tls.allow_ccc, tls.lenient, tls.require_reuse),
        (false, false, false, false, false)
    );
    assert_eq!((tls.min_version, tls.client_ca), (TlsVersion::V1_2, None));
}

#[test]
fn every_key_of_terminating_arrives_where_it_belongs() {
    for key in ["require", "implicit", "allow_ccc", "lenient", "require_reuse"] {
        let ClientTls::Terminate(tls) =
            read(&format!("{{ client: {{ mode: terminate, {PAIR}, {key}: true }} }}")).client
        else {
            panic!("not terminated")
        };
        let flags = [tls.require, tls.implicit, tls.allow_ccc, tls.lenient, tls.require_reuse];
        assert_eq!(flags, ["require", "implicit", "allow_ccc", "lenient", "require_reuse"].map(|k| k == key));
    }
    let text = format!(
        "{{ client: {{ mode: terminate, {PAIR}, min_version: 1.3, require: true, client_ca: /ca.pem,
      certificates: [{{ certificate: /c2.pem, key: /k2.pem }}, {{ certificate: /c3.pem, key: /k3.pem }}] }} }}"
    );
    let ClientTls::Terminate(tls) = read(&text).client else { panic!("not terminated") };
    let paths: Vec<&str> = tls.certificates.iter().map(|pair| pair.certificate.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["/c.pem", "/c2.pem", "/c3.pem"], "the pair beside the list is the first");
    assert_eq!(tls.certificates[2].key.named_by, "tls.client.certificates[1].key");
    assert_eq!(tls.client_ca.unwrap().path, Path::new("/ca.pem"));
    assert_eq!(tls.min_version, TlsVersion::V1_3);

    let ClientTls::Terminate(tls) =
        read("{ client: { mode: terminate, certificates: [{ certificate: /c2.pem, key: /k2.pem }] } }").client
    else {
        panic!("not terminated")
    };
    assert_eq!(tls.certificates.len(), 1);
}

#[test]
fn the_servers_name_is_that_of_upstream_unless_there_is_another() {
    let identity = |tls: &str| read(tls).server.identity().unwrap().clone();
    let server = identity("{ server: { mode: explicit } }");
    assert_eq!((&server.verify, server.max_version, server.lenient), (&Verify::System, TlsVersion::V1_2, false));
    assert!(identity("{ server: { mode: explicit, lenient: true } }").lenient);
    assert_eq!(server.name, None);
    let upstream = |text: &str| Config::parse(text, "f").unwrap().listeners[0].upstream.fixed().unwrap().server_name();
    let name = upstream(&with("{ server: { mode: explicit } }")).unwrap();
    assert_eq!(name.to_str(), "ftp.example.internal", "without the dot that only DNS knows");
    let server = identity("{ server: { mode: implicit, verify: /s.pem, name: other.example, max_version: 1.3 } }");
    let Verify::File(file) = &server.verify else { panic!("{server:?}") };
    assert_eq!((file.path.to_str().unwrap(), file.named_by.as_str()), ("/s.pem", "tls.server.verify"));
    assert_eq!((server.name.unwrap().to_str().as_ref(), server.max_version), ("other.example", TlsVersion::V1_3));
    let by_address =
        with("{ server: { mode: explicit, verify: none } }").replace("ftp.example.internal.", "172.16.0.20");
    let config = Config::parse(&by_address, "f").unwrap();
    let server = config.listeners[0].tls.server.identity().unwrap().clone();
    assert_eq!((server.name, &server.verify), (None, &Verify::Nobody));
    assert_eq!(upstream(&by_address).unwrap().to_str(), "172.16.0.20");
    assert!(matches!(read("{ server: { mode: implicit } }").server, ServerTls::Implicit(_)));
}

#[test]
fn an_upstream_that_is_wrong_is_reported_once() {
    let text = with("{ server: { mode: explicit } }").replace("ftp.example.internal.", "0.0.0.0");
    assert_eq!(errors(&text).len(), 1, "{:#?}", errors(&text));
}

#[test]
fn passing_through_takes_ports_or_none() {
    assert_eq!(read("{ client: { mode: passthrough } }").client, ClientTls::Passthrough { ports: None });
    let ClientTls::Passthrough { ports } =
        read("{ client: { mode: passthrough, passthrough_ports: 50000-50010 } }").client
    else {
        panic!("not passed through")
    };
    assert_eq!(ports, Some(50000..=50010));
}

#[test]
fn a_mode_or_version_that_does_not_exist() {
    assert_eq!(
        error("{ client: { mode: on, certificate: /c } }"),
        "client.mode: `on` is not a mode; write `refuse`, `terminate` or `passthrough`"
    );
    assert_eq!(
        error("{ server: { mode: yes, name: a } }"),
        "server.mode: `yes` is not a mode; write `plain`, `explicit` or `implicit`"
    );
    for old in ["1.1", "1.0", "3", "TLSv1.2"] {
        let wrong = error(&format!("{{ client: {{ mode: terminate, {PAIR}, min_version: {old} }} }}"));
        assert_starts(
            &wrong,
            &format!("client.min_version: `{old}` is not a version of TLS that is spoken here; write"),
        );
    }
    assert_starts(&error("{ server: { mode: explicit, max_version: 1.1 } }"), "server.max_version: `1.1` is not");
}

#[test]
fn a_key_that_has_no_meaning_in_its_mode() {
    assert_eq!(
        error("{ client: { implicit: true } }"),
        "client.implicit: has no meaning with `mode: refuse`; write `mode: terminate`, or remove it"
    );
    let keys = ["require: true", "certificate: /c", "key: /k", "certificates: []", "min_version: 1.3"];
    for key in keys.into_iter().chain(["allow_ccc: true", "lenient: true", "require_reuse: true", "client_ca: /c"]) {
        let (name, _) = key.split_once(':').unwrap();
        for mode in ["refuse", "passthrough"] {
            let wrong = error(&format!("{{ client: {{ mode: {mode}, {key} }} }}"));
            assert_starts(
                &wrong,
                &format!("client.{name}: has no meaning with `mode: {mode}`; write `mode: terminate`"),
            );
        }
    }
    let ports = error(&format!("{{ client: {{ mode: terminate, {PAIR}, passthrough_ports: 50000 }} }}"));
    assert_starts(&ports, "client.passthrough_ports: has no meaning with `mode: terminate`; write `mode: passthrough`");
    for key in ["verify: none", "name: a", "max_version: 1.3", "lenient: true"] {
        let wrong = error(&format!("{{ server: {{ {key} }} }}"));
        assert!(
            wrong.contains("has no meaning with `mode: plain`; write `mode: explicit` or `mode: implicit`"),
            "{wrong}"
        );
    }
}

#[test]
fn a_certificate_without_its_key_or_none_at_all() {
    assert_starts(&error("{ client: { mode: terminate, certificate: /c } }"), "client.key: missing; write `key: ");
    assert_starts(
        &error("{ client: { mode: terminate, key: /k } }"),
        "client.certificate: missing; write `certificate",
    );
    let none = errors(&with("{ client: { mode: terminate } }"));
    assert_eq!(none.len(), 2, "{none:#?}");
    let none = errors(&with("{ client: { mode: terminate, certificates: [] } }"));
    assert_eq!(none.len(), 2, "{none:#?}");
    assert_starts(
        &error("{ client: { mode: terminate, certificates: [{ certificate: /c }] } }"),
        "client.certificates[0].key: missing",
    );
    assert_starts(
        &error("{ client: { mode: terminate, certificates: [~] } }"),
        "client.certificates[0]: an empty entry",
    );
}

#[test]
fn a_path_that_depends_on_where_the_program_runs() {
    assert_eq!(
        error("{ client: { mode: terminate, certificate: c.pem, key: /k } }"),
        "client.certificate: `c.pem` is not an absolute path; write the whole path, like `/etc/ftp-alg/fullchain.pem`"
    );
    assert_starts(
        &error("{ client: { mode: terminate, certificate: /c, key: '' } }"),
        "client.key: `` is not an absolute",
    );
    assert_starts(
        &error("{ server: { mode: explicit, verify: yes } }"),
        "server.verify: `yes` is not an absolute path; write `system`, `none`, or a file: write the whole path",
    );
}

#[test]
fn sec_20_client_certificates_that_nobody_would_have_to_show() {
    assert_eq!(
        error(&format!("{{ client: {{ mode: terminate, {PAIR}, client_ca: /ca.pem }} }}")),
        "client.client_ca: a client that does not ask for TLS would need no certificate; write `require: true` as well"
    );
    read(&format!("{{ client: {{ mode: terminate, {PAIR}, client_ca: /ca.pem, implicit: true }} }}"));
}

#[test]
fn tls_with_the_server_on_both_sides_of_a_passthrough() {
    assert_starts(
        &error("{ client: { mode: passthrough }, server: { mode: explicit } }"),
        "server.mode: with `tls.client.mode: passthrough` clients speak TLS with the server itself; remove `tls.server`",
    );
    read("{ client: { mode: passthrough }, server: { mode: plain } }");
}

#[test]
fn nothing_passes_through_before_the_user_has_named_the_server() {
    let text = with("{ client: { mode: passthrough } }")
        .replace("upstream: ftp.example.internal.", "upstream: from-user\n    upstream_networks: 10.0.0.0/8");
    let errors = errors(&text);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("tls.client.mode: AUTH comes before USER"), "{errors:#?}");
}

#[test]
fn a_name_that_no_certificate_has() {
    assert_starts(
        &error("{ server: { mode: explicit, name: 'a b' } }"),
        "server.name: `a b` cannot be the name in a certificate; write the DNS name",
    );
}

#[test]
fn ports_to_pass_through_that_are_the_kernels_choice_or_privileged() {
    let ports = |ports: &str| error(&format!("{{ client: {{ mode: passthrough, passthrough_ports: {ports} }} }}"));
    assert_starts(
        &ports("any"),
        "client.passthrough_ports: `any` cannot be relayed: the ports are the server's; write",
    );
    assert_starts(&ports("990"), "client.passthrough_ports: port 990 is privileged");
    assert_starts(&ports("50010-50000"), "client.passthrough_ports: `50010-50000` is reversed");
}

#[test]
fn ports_to_pass_through_that_are_something_else_already() {
    let ports = |ports: &str| error(&format!("{{ client: {{ mode: passthrough, passthrough_ports: {ports} }} }}"));
    assert_eq!(
        ports("20020-20030"),
        "client.passthrough_ports: includes 20020, which is in `20000-20020` of listener `ftp`, line 7; choose ports of \
         their own for the two: these are the server's, the others are ours"
    );
    assert_starts(&ports("19990-20000"), "client.passthrough_ports: includes 20000, which is in `20000-20020`");
    assert_starts(
        &ports("2000-2121"),
        "client.passthrough_ports: includes 2121, the control port `192.0.2.1:2121` of listener `ftp`, line 3; \
         write `2000-2120`",
    );
    let server =
        with("{ client: { mode: passthrough, passthrough_ports: 30000 } }") + "    server: { data_ports: 30000 }\n";
    assert_starts(
        &errors(&server)[0],
        "8 listeners[0].tls.client.passthrough_ports: includes 30000, which is in `30000-30000` of listener `ftp`, line 9",
    );
}

#[test]
fn ports_to_pass_through_of_two_listeners() {
    let second = |bind: &str| {
        format!(
            "{}  - bind: {bind}\n    upstream: 172.16.0.21\n    client:\n      \
             address_map: [{{ peers: any, announce: local }}]\n      data_ports: 20000-20020\n    \
             tls: {{ client: {{ mode: passthrough, passthrough_ports: 50010-50020 }} }}\n",
            with("{ client: { mode: passthrough, passthrough_ports: 50000-50010 } }")
        )
    };
    let shared = errors(&second("0.0.0.0:2122"));
    assert_eq!(shared.len(), 1, "{shared:#?}");
    assert_starts(
        &shared[0],
        "14 listeners[1].tls.client.passthrough_ports: includes 50010, which is in `50000-50010` of listener `ftp`, line 8",
    );
    assert!(Config::parse(&second("192.0.2.2:2121"), "f").is_ok(), "addresses of their own");
}

#[test]
fn sec_27_ports_to_pass_through_that_the_kernel_uses_are_warned_of() {
    let text = with("{ client: { mode: passthrough, passthrough_ports: 50000-50010 } }");
    let config = Config::parse(&text, "f").unwrap();
    let warnings = warning::ephemeral_ports(&config, "32768 60999", "");
    let [only] = &warnings[..] else { panic!("{warnings:?}") };
    assert_starts(
        &only.to_string(),
        "listener `ftp`: tls.client.passthrough_ports: the kernel takes ports of 50000-50010",
    );
}
