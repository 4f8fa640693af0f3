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
    let more = format!("      source_port: {source_port}\n    server: {{ data_mode: {data_mode} }}\n");
    let config = listener("", "20000-20020", &more);
    start(net, Host::Proxy, &config, 21)
}

/// The configuration of a listener on port 21 of the proxy's machine, in front of the server; `head` are the sections
/// before it, `more` further lines of its `client`, and of itself.
pub fn listener(head: &str, data_ports: &str, more: &str) -> String {
    format!(
        r#"{head}
listeners:
  - name: interop
    bind: ["172.16.0.10:21", "[2001:db8:2::10]:21"]
    upstream: "172.16.0.20:21"
    client:
      address_map: [{{ peers: any, announce: 203.0.113.10 }}]
      data_ports: {data_ports}
{more}
"#
    )
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

/// On a machine of its own, for clients that name the server; `tls` is the body of the listener's `tls`, empty for none.
/// `%` in it is the directory with the certificate.
pub fn named_by_users(net: &Net, tls: &str) -> Daemon {
    certificate::write(net.scratch());
    let tls = if tls.is_empty() { String::new() } else { format!("    tls: {{ {tls} }}") };
    let tls = tls.replace('%', &net.scratch().display().to_string());
    let config = format!(
        r#"
listeners:
  - name: interop
    bind: ["172.16.0.10:21", "[2001:db8:2::10]:21"]
    upstream: from-user
    upstream_networks: 172.16.0.0/24
    client:
      address_map:
        - {{ peers: any, announce: 203.0.113.10 }}
      data_ports: 20000-20020
{tls}
"#
    );
    start(net, Host::Proxy, &config, 21)
}

/// On a machine of its own, with a server of its own for `second.example`, and TLS.
pub fn with_hosts(net: &Net) -> Daemon {
    certificate::write(net.scratch());
    let dir = net.scratch().display();
    let config = format!(
        r#"
listeners:
  - name: interop
    bind: "172.16.0.10:21"
    upstream: "172.16.0.20:21"
    hosts: {{ second.example: "172.16.0.20:2121" }}
    client:
      address_map: [{{ peers: any, announce: 203.0.113.10 }}]
      data_ports: 20000-20020
    tls:
      client: {{ mode: terminate, certificate: {dir}/cert.pem, key: {dir}/key.pem }}
"#
    );
    start(net, Host::Proxy, &config, 21)
}

/// On a machine of its own, before two servers for the same files, the second of which stands by.
pub fn with_two_servers(net: &Net) -> Daemon {
    let config = r#"
listeners:
  - name: interop
    bind: "172.16.0.10:21"
    upstream:
      servers: ["172.16.0.20:21", "172.16.0.20:2121"]
      health: { interval: 1s, timeout: 5s, fall: 2, rise: 2 }
    client:
      address_map: [{ peers: any, announce: 203.0.113.10 }]
      data_ports: 20000-20020
"#;
    start(net, Host::Proxy, config, 21)
}

/// On the router between clients and servers, which leads their connections to it.
pub fn on_the_way(net: &Net, networks: &str, user: Privileges) -> Daemon {
    on_the_way_at(net, r#"["0.0.0.0:2121", "[::]:2121"]"#, networks, user)
}

/// The same at these addresses.
pub fn on_the_way_at(net: &Net, bind: &str, networks: &str, user: Privileges) -> Daemon {
    let config = format!(
        r#"
listeners:
  - name: interop
    bind: {bind}
    upstream: original-destination
    upstream_networks: {networks}
    client:
      address_map: [{{ peers: any, announce: local }}]
      data_ports: 20000-20020
"#
    );
    let path = net.scratch().join("proxy.yaml");
    fs::write(&path, config).unwrap();
    let binary = env!("CARGO_BIN_EXE_ftp-alg");
    let mut command = match user {
        Privileges::All => net.command(Host::Proxy, binary),
        Privileges::None => {
            let mut command = net.command(Host::Proxy, "setpriv");
            command.args(["--bounding-set=-all", "--inh-caps=-all", binary]);
            command
        }
    };
    Daemon::start(command.args(["run", "--config"]).arg(&path), net.scratch().join("proxy.log"), 2121)
}

/// What the proxy may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privileges {
    All,
    /// Root, but without any capability.
    None,
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
