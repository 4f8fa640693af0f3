//! What `client.proxy_protocol` may say, and what is said about everything else.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use ftp_alg::config::{Config, ProxyProtocol};

/// A listener on this address. `client` are more keys of the client leg, on line 6; `more` stand behind it.
fn listener(bind: &str, data_ports: &str, client: &str, more: &str) -> String {
    format!(
        "  - bind: {bind}\n    upstream: 172.16.0.20\n    client:\n      address_map: [{{ peers: any, announce: local }}]\n      \
         {client}\n      data_ports: {data_ports}\n{more}"
    )
}

fn file(listeners: &[String]) -> String {
    format!("listeners:\n{}", listeners.concat())
}

/// A valid file of one listener, but for this.
fn with(section: &str) -> String {
    file(&[listener("192.0.2.1:21", "20000-20020", &format!("proxy_protocol: {section}"), "")])
}

fn read(section: &str) -> ProxyProtocol {
    let config = Config::parse(&with(section), "f").unwrap_or_else(|e| panic!("{e}"));
    config.listeners[0].proxy_protocol.clone().unwrap()
}

/// The errors of a text, one a line: `line path: what; help`.
fn errors(text: &str) -> Vec<String> {
    let errors = Config::parse(text, "proxy.yaml").expect_err("this configuration is wrong");
    errors.list().iter().map(|e| format!("{} {}: {}; {}", e.line, e.path, e.what, e.help)).collect()
}

/// The one error of a section, without `6 listeners[0].client.proxy_protocol`.
fn error(section: &str) -> String {
    let errors = errors(&with(section));
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors[0].strip_prefix("6 listeners[0].client.proxy_protocol").unwrap_or(&errors[0]).to_owned()
}

#[test]
fn networks_and_addresses_in_either_family() {
    let read = read("{ trusted: [10.0.0.0/8, 192.0.2.7, '2001:db8::/32', '::ffff:198.51.100.0/120'], data: true }");
    assert!(read.data);
    for (peer, trusted) in [
        ("10.255.0.1", true),
        ("::ffff:10.255.0.1", true),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("2001:db8:1::1", true),
        ("198.51.100.7", true),
        ("198.51.101.7", false),
        ("::1", false),
    ] {
        assert_eq!(read.trusts(peer.parse().unwrap()), trusted, "{peer}");
    }
    assert!(!self::read("{ trusted: 10.0.0.1, data: false }").data);
}

#[test]
fn without_the_key_clients_connect_themselves() {
    for client in ["", "proxy_protocol: ~"] {
        let config = Config::parse(&file(&[listener("192.0.2.1:21", "20000", client, "")]), "f").unwrap();
        assert_eq!(config.listeners[0].proxy_protocol, None);
    }
}

#[test]
fn sec_24_how_data_connections_come_must_be_said() {
    assert_eq!(
        error("{ trusted: 10.0.0.0/8 }"),
        ".data: it must be said how data connections come; write `data: true` if connections to the data ports come \
         through the load balancer too, with a header each; or `data: false` if they come from the clients directly, past \
         the load balancer"
    );
    assert_eq!(
        error("{ trusted: 10.0.0.0/8, data: yes }"),
        ".data: `yes` is neither true nor false; write `true` or `false`"
    );
}

#[test]
fn sec_23_somebody_must_be_trusted_and_not_everybody() {
    let nobody =
        ".trusted: no load balancer to believe; write where they connect from, like `trusted: [10.0.0.0/8]`".to_owned();
    assert_eq!(error("{ data: true }"), nobody);
    assert_eq!(error("{ trusted: [], data: true }"), nobody);
    for everybody in ["0.0.0.0/0", "'::/0'", "'::ffff:0.0.0.0/96'"] {
        let error = error(&format!("{{ trusted: [10.0.0.0/8, {everybody}], data: true }}"));
        assert!(error.starts_with(".trusted[1]: with `"), "{error}");
        assert!(error.contains("anybody could pretend to be any client; write the addresses"), "{error}");
    }
    assert!(error("{ trusted: any, data: true }").starts_with(".trusted: `any` is not a network"));
    assert_eq!(errors(&with("{}")).len(), 2);
    assert!(error("{ trusted: 10.0.0.0/8, data: true, version: 2 }").starts_with(".version: unknown key"));
}

#[test]
fn sec_24_a_load_balancer_cannot_know_the_ports_behind_any() {
    let any = |data: bool| {
        let client = format!("proxy_protocol: {{ trusted: 10.0.0.0/8, data: {data} }}");
        file(&[listener("192.0.2.1:21", "any", &client, "")])
    };
    assert!(Config::parse(&any(false), "f").is_ok());
    assert_eq!(
        errors(&any(true)),
        [
            "7 listeners[0].client.data_ports: a load balancer cannot know the ports behind `any`; write the range of ports \
          that the load balancer forwards, like `20000-20020`; or `data: false` if data connections do not come through it"
        ]
    );
}

/// Not even the header could say whom the client has dialled: that is the load balancer.
#[test]
fn a_load_balancer_connects_to_us_and_to_no_server_on_the_way() {
    let on_the_way = |section: &str| {
        let server = "upstream: original-destination\n    upstream_networks: 172.16.0.0/24";
        with(section).replace("upstream: 172.16.0.20", server)
    };
    for data in ["true", "false"] {
        assert_eq!(
            errors(&on_the_way(&format!("{{ trusted: 10.0.0.0/8, data: {data} }}"))),
            [
                "7 listeners[0].client.proxy_protocol: with `upstream: original-destination` the server is whom a connection was \
              opened to, and a load balancer opens them to ftp-alg itself; remove it, or name the server in `upstream`"
            ]
        );
    }
    let without = on_the_way("").replace("      proxy_protocol: \n", "");
    assert!(Config::parse(&without, "f").is_ok());
    let by_user = on_the_way("{ trusted: 10.0.0.0/8, data: true }").replace("original-destination", "from-user");
    assert!(Config::parse(&by_user, "f").is_ok());
    // What is wrong otherwise is said alone.
    let broken = errors(&on_the_way("{ trusted: 10.0.0.0/8 }"));
    assert_eq!(broken.len(), 1, "{broken:#?}");
}

const TRUE: &str = "proxy_protocol: { trusted: [10.0.0.0/8, 192.0.2.7], data: true }";
const FALSE: &str = "proxy_protocol: { trusted: [10.0.0.0/8, 192.0.2.7], data: false }";

/// Two listeners, and what is wrong with the ports of the second.
fn pair(first: (&str, &str), second: (&str, &str), bind: &str) -> Vec<String> {
    let one = listener("192.0.2.1:21", first.0, first.1, "");
    let text = file(&[one, listener(bind, second.0, second.1, "")]);
    Config::parse(&text, "f").map_or_else(|_| errors(&text), |_| Vec::new())
}

#[test]
fn sec_24_listeners_that_share_ports_agree_about_their_headers() {
    let other_order = "proxy_protocol: { trusted: [192.0.2.7, 10.0.0.0/8], data: true }";
    let other_trust = "proxy_protocol: { trusted: [10.0.0.0/8], data: true }";
    let ports = "20000-20020";
    for (first, second) in [(TRUE, TRUE), (TRUE, other_order), (FALSE, FALSE), (FALSE, ""), ("", "")] {
        assert_eq!(pair((ports, first), (ports, second), "192.0.2.1:22"), [""; 0], "{first} and {second}");
    }
    for (first, second, how) in [
        (TRUE, "", "with a PROXY header"),
        (TRUE, FALSE, "with a PROXY header"),
        ("", TRUE, "without a PROXY header"),
        (TRUE, other_trust, "from other load balancers"),
    ] {
        assert_eq!(
            pair((ports, first), ("20020-20030", second), "0.0.0.0:22"),
            [format!(
                "13 listeners[1].client.data_ports: shares port 20020 with line 7, where connections come {how}; choose \
                 ports of their own for the two, or give both the same `proxy_protocol`"
            )],
        );
    }
    assert_eq!(pair((ports, TRUE), ("20021-20030", ""), "192.0.2.1:22"), [""; 0], "other ports");
    assert_eq!(pair((ports, TRUE), (ports, ""), "192.0.2.2:21"), [""; 0], "another address");
    assert_eq!(pair((ports, TRUE), (ports, ""), "'[::]:21'"), [""; 0], "the other family");
    // What is wrong otherwise is said alone.
    let broken = pair((ports, "proxy_protocol: { trusted: 10.0.0.0/8 }"), (ports, TRUE), "192.0.2.1:22");
    assert_eq!(broken.len(), 1, "{broken:#?}");
}

#[test]
fn sec_24_a_server_sends_no_header() {
    let text = file(&[listener("192.0.2.1:21", "20000-20020", TRUE, "    server: { data_ports: 20020-20025 }\n")]);
    let errors = errors(&text);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].starts_with("8 listeners[0].server.data_ports: shares port 20020 with line 7"), "{errors:#?}");
}

/// A server's connections come in on every address of the machine, those of other listeners' load balancers included.
#[test]
fn sec_24_a_server_of_one_listener_sends_no_header_to_another() {
    let server = "    server: { data_ports: 20020-20025 }\n";
    let gated = listener("192.0.2.1:21", "20000-20020", TRUE, "");
    let other = listener("192.0.2.2:21", "30000-30020", "", server);
    for listeners in [[gated.clone(), other.clone()], [other, gated]] {
        let errors = errors(&file(&listeners));
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(errors[0].contains("shares port 20020 with line"), "{errors:#?}");
    }
}
