//! The program under test: the real binary with a real configuration file.

use std::fs;

use crate::certificate::{self, NAME};
use crate::net::{Host, Net};
use crate::process::Daemon;

/// On a machine of its own, to which the elastic IP leads.
pub fn in_front_of_server(net: &Net, data_mode: &str) -> Daemon {
    in_front(net, data_mode, "any")
}

/// The same, with data connections to clients that come from port 20.
pub fn from_port_20(net: &Net) -> Daemon {
    in_front(net, "same", "20")
}

fn in_front(net: &Net, data_mode: &str, source_port: &str) -> Daemon {
    let config = format!(
        r#"
listeners:
  - name: interop
    bind: ["172.16.0.10:21", "[2001:db8:2::10]:21"]
    upstream: "172.16.0.20:21"
    client:
      address_map:
        - {{ peers: any, announce: 203.0.113.10 }}
      data_ports: 20000-20020
      source_port: {source_port}
    server:
      data_mode: {data_mode}
"#
    );
    start(net, Host::Proxy, &config, 21)
}

/// The same for TLS that client and server speak with each other, with half of the open ports for their data connections.
pub fn passing_through(net: &Net) -> Daemon {
    passing_through_at(net, "172.16.0.10", "172.16.0.20", "203.0.113.10")
}

/// The same where all of it is IPv6.
pub fn passing_through_ipv6(net: &Net) -> Daemon {
    passing_through_at(net, "[2001:db8:2::10]", "[2001:db8:2::20]", "local")
}

fn passing_through_at(net: &Net, address: &str, server: &str, announce: &str) -> Daemon {
    let config = format!(
        r#"
listeners:
  - name: interop
    bind: ["{address}:21"]
    upstream: "{server}:21"
    client:
      address_map:
        - {{ peers: any, announce: {announce} }}
      data_ports: 20000-20010
    tls:
      client: {{ mode: passthrough, passthrough_ports: 20011-20020 }}
"#
    );
    start(net, Host::Proxy, &config, 21)
}

/// On the server's own machine, where deploy/same-host.nft leads port 21 of the outer interface to it.
pub fn beside_server(net: &Net, upstream: &str) -> Daemon {
    let config = format!(
        r#"
listeners:
  - name: interop
    bind: ["172.16.0.20:2121"]
    upstream: "{upstream}"
    client:
      address_map:
        - {{ peers: any, announce: 203.0.113.10 }}
      data_ports: 20000-20020
"#
    );
    net.nft(Host::Server, include_str!("../../deploy/same-host.nft"));
    start(net, Host::Server, &config, 2121)
}

/// Behind a load balancer, as deploy/load-balancer/proxy.yaml has it; `data`: data connections come through it, too.
/// Otherwise they come by an address that leads to the proxy's machine, 203.0.113.11.
pub fn behind_load_balancer(net: &Net, data: bool) -> Daemon {
    certificate::write(net.scratch());
    let dir = net.scratch().display().to_string();
    let mut config = include_str!("../../deploy/load-balancer/proxy.yaml")
        .replace("/etc/ftp-alg/fullchain.pem", &format!("{dir}/cert.pem"))
        .replace("/etc/ftp-alg/privkey.pem", &format!("{dir}/key.pem"));
    assert!(config.contains(&dir));
    if !data {
        config =
            config.replace("data: true", "data: false").replace("announce: 203.0.113.10", "announce: 203.0.113.11");
    }
    start(net, Host::Proxy, &config, 990)
}

/// What the proxy is told about TLS, each the body of a flow map.
#[derive(Debug, Clone, Copy)]
pub struct Tls<'a> {
    /// Of `tls.client`, beside the mode and the certificate.
    pub client: &'a str,
    /// Of `tls.server`, beside the name, and whom to believe if that is the server; empty: plain.
    pub server: &'a str,
}

/// On a machine of its own, for clients that may use TLS: explicit on port 21, implicit on port 990.
pub fn with_tls(net: &Net, Tls { client, server }: Tls<'_>) -> Daemon {
    let upstream = if server.contains("implicit") { 990 } else { 21 };
    let dir = net.scratch().display();
    certificate::write(net.scratch());
    let server = match server {
        "" => String::new(),
        _ if server.contains("verify:") => format!("server: {{ {server}, name: {NAME} }}"),
        _ => format!("server: {{ {server}, verify: {dir}/cert.pem, name: {NAME} }}"),
    };
    let listener = |port: u16, how: &str| {
        format!(
            r#"
  - name: interop-{port}
    bind: "172.16.0.10:{port}"
    upstream: "172.16.0.20:{upstream}"
    client:
      address_map:
        - {{ peers: any, announce: 203.0.113.10 }}
      data_ports: 20000-20020
    tls:
      client: {{ mode: terminate, certificate: {dir}/cert.pem, key: {dir}/key.pem, {how} }}
      {server}
"#
        )
    };
    let config = format!("listeners:{}{}", listener(21, client), listener(990, &format!("implicit: true, {client}")));
    start(net, Host::Proxy, &config, 990)
}

/// With this configuration, until it listens on `port`.
pub fn start(net: &Net, host: Host, config: &str, port: u16) -> Daemon {
    start_at_level("info", net, host, config, port)
}

/// The same with another log level.
pub fn start_at_level(level: &str, net: &Net, host: Host, config: &str, port: u16) -> Daemon {
    let path = net.scratch().join("proxy.yaml");
    fs::write(&path, config).unwrap();
    let mut command = net.command(host, env!("CARGO_BIN_EXE_ftp-alg"));
    command.args(["run", "--log-level", level, "--config"]).arg(&path);
    Daemon::start(&mut command, net.scratch().join("proxy.log"), port)
}
