//! `server.proxy_protocol` with programs that read it.

use std::fs;

use crate::SOME_CELLS;
use crate::matrix::run_cells;
use crate::net::{Host, Net, PROXY};
use crate::process::Daemon;
use crate::proxy;
use crate::servers::{Kind, Security, Server, unpacked};

/// A load balancer on the server's machine that takes nothing without the header, neither control nor data.
const HAPROXY: &str = "
global
  log stdout format raw local0
defaults
  mode tcp
  log global
  option tcplog
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen control
  bind 172.16.0.20:21 accept-proxy
  server vsftpd 127.0.0.1:21
";

/// One port for data. Without a port of its own, the server's would be the one that the header names: the port that the
/// client has dialled.
fn data(port: u16) -> String {
    format!("listen data-{port}\n  bind 172.16.0.20:{port} accept-proxy\n  server vsftpd 127.0.0.1:{port}\n")
}

/// Only the load balancer reaches the server. Its `pasv_promiscuous` is off: to it both connections come from the balancer.
const VSFTPD: &str = "listen_address=127.0.0.1\npasv_min_port=30000\npasv_max_port=30009\n";

fn config(server: &str) -> String {
    format!(
        r#"
listeners:
  - name: interop
    bind: "172.16.0.10:21"
    upstream: "172.16.0.20:21"
    client:
      address_map:
        - {{ peers: any, announce: 203.0.113.10 }}
      data_ports: 20000-20020
    server: {{ {server} }}
"#
    )
}

#[test]
fn haproxy_learns_the_clients_address_for_control_and_data() {
    for version in ["v1", "v2"] {
        let net = Net::new(PROXY);
        let server = Server::start_configured(&net, Kind::Vsftpd, Security::Plain, VSFTPD, &[]);
        let path = net.scratch().join("haproxy.cfg");
        fs::write(&path, HAPROXY.to_owned() + &(30_000..=30_009).map(data).collect::<String>()).unwrap();
        let mut haproxy = net.command(Host::Server, unpacked("haproxy/usr/sbin/haproxy"));
        let haproxy = Daemon::start(haproxy.arg("-db").arg("-f").arg(&path), net.scratch().join("haproxy.log"), 30_009);
        let with = format!("data_mode: passive, proxy_protocol: {version}, proxy_protocol_data: true");
        let proxy = proxy::start(&net, Host::Proxy, &config(&with), 21);
        run_cells(&net, &server, &proxy, &SOME_CELLS, 8);
        let log = haproxy.said();
        for port in [" control ", " data-"] {
            assert!(
                log.lines().any(|line| line.starts_with("203.0.113.2:") && line.contains(port)),
                "{version}: {log}"
            );
        }
        assert!(!log.contains("172.16.0.10:"), "{version}: {log}");
    }
}
