//! What `server.source` and `server.proxy_protocol` may say, and what is said about everything else.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use ftp_alg::config::{Config, HeaderVersion, Listener, ProxyHeader, Source};

/// A valid listener; `server` goes to line 7, unless `bind` is a list over several lines.
fn with(bind: &str, server: &str) -> String {
    format!(
        "listeners:\n  - bind: {bind}\n    upstream: 172.16.0.20\n    client:\n      \
         address_map: [{{ peers: any, announce: 203.0.113.10 }}]\n      data_ports: 20000-20020\n    \
         server: {{ {server} }}\n"
    )
}

fn read(server: &str) -> Listener {
    let text = with("0.0.0.0:21", server);
    Config::parse(&text, "f").unwrap_or_else(|errors| panic!("{errors}")).listeners.remove(0)
}

/// The one error, as `line path: what; help`.
fn error(text: &str) -> String {
    let errors = Config::parse(text, "proxy.yaml").expect_err("this configuration is wrong");
    let [only] = errors.list() else { panic!("{errors}") };
    format!("{} {}: {}; {}", only.line, only.path, only.what, only.help)
}

fn wrong(server: &str, expected: &str) {
    let error = error(&with("0.0.0.0:21", server));
    let expected = format!("7 listeners[0].server.{expected}");
    assert!(error.starts_with(&expected), "\n  {error}\ndoes not start with\n  {expected}");
}

#[test]
fn by_default_the_server_sees_this_machine_and_no_header() {
    for server in ["", "source: local", "source: , proxy_protocol: , proxy_protocol_data: "] {
        let listener = read(server);
        assert_eq!((listener.source, listener.proxy_header), (Source::Local, None), "{server}");
    }
}

#[test]
fn the_clients_address_with_all_that_goes_with_it() {
    for server in [
        "source: client",
        "source: client, data_ports: any, data_mode: active",
        "source: client, address_map: [{ peers: any, announce: local }]",
        "source: client, proxy_protocol: v2",
    ] {
        assert_eq!(read(server).source, Source::Client, "{server}");
    }
}

/// A loop would not be seen.
#[test]
fn sec_03_interception_needs_our_own_addresses() {
    let text = with("0.0.0.0:21", "source: client")
        .replace("upstream: 172.16.0.20", "upstream: original-destination\n    upstream_networks: 172.16.0.0/16");
    assert!(
        error(&text).contains("server.source: with `upstream: original-destination` connections"),
        "{}",
        error(&text)
    );
    assert!(Config::parse(&text.replace("source: client", ""), "f").is_ok());
}

#[test]
fn a_range_cannot_be_bound_on_addresses_that_are_not_known_yet() {
    wrong(
        "source: client, data_ports: 30000-30010",
        "data_ports: with `source: client` the server connects to ports of the client's address, each bound for one \
         transfer; remove it, or write `any`",
    );
}

#[test]
fn sec_15_the_server_is_told_no_other_address_than_the_clients() {
    for announce in ["172.16.0.10", "control-address", "ftp.example.com"] {
        wrong(
            &format!("source: client, address_map: [{{ peers: any, announce: {announce} }}]"),
            &format!(
                "address_map: `{announce}`: with `source: client` the server is told the client's own address; remove \
                 `address_map`, or write `announce: local`"
            ),
        );
    }
}

#[test]
fn sec_15_clients_of_another_family_than_the_servers_need_another_listener() {
    let text = with("[\"0.0.0.0:21\", \"[::]:21\"]", "source: client");
    assert_eq!(
        error(&text),
        "2 listeners[0].bind[1]: clients of `[::]:21` come by IPv6, and nobody can reach an IPv4 server from there; remove \
         it from this listener, and give these clients one of their own without `source: client`"
    );
    // A name may have addresses of both.
    let by_name = text.replace("172.16.0.20", "files.example.internal");
    assert!(Config::parse(&by_name, "f").is_ok());
    assert!(Config::parse(&text.replace("source: client", ""), "f").is_ok());
}

#[test]
fn the_header_has_a_version_and_comes_with_data_if_told() {
    let header = |version, data| Some(ProxyHeader { version, data });
    assert_eq!(read("proxy_protocol: v1").proxy_header, header(HeaderVersion::V1, false));
    assert_eq!(read("proxy_protocol: v2, proxy_protocol_data: true").proxy_header, header(HeaderVersion::V2, true));
}

#[test]
fn other_words_are_refused_with_those_that_are_known() {
    wrong("source: transparent", "source: `transparent` is not a source of connections; write `local`");
    wrong("proxy_protocol: 2", "proxy_protocol: `2` is not a version of the PROXY protocol; write `v1` or `v2`");
    wrong("proxy_protocol: v2, proxy_protocol_data: yes", "proxy_protocol_data: `yes` is neither true nor false");
    wrong(
        "proxy_protocol_data: true",
        "proxy_protocol_data: has no meaning without `proxy_protocol`; write `proxy_protocol: v2` as well",
    );
}
