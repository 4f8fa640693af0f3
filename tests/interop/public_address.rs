//! `announce: auto` with Alibaba Cloud's metadata service where machines there expect it, and an elastic IP that is bound
//! while the proxy runs.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::SOME_CELLS;
use crate::matrix::run_cells;
use crate::net::{EIP, Host, Net, PROXY};
use crate::process::{Daemon, feed};
use crate::proxy;
use crate::servers::{Kind, Server};

const CONFIG: &str = r#"
listeners:
  - name: interop
    bind: ["172.16.0.10:21", "[2001:db8:2::10]:21"]
    upstream: "172.16.0.20:21"
    client:
      address_map:
        - { peers: any, announce: auto }
      data_ports: 20000-20020
discovery: { provider: aliyun, refresh: 1s }
"#;

/// The service, which says that this address is the machine's.
fn cloud(net: &Net, address: &str) -> Daemon {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/metadata.py");
    let mut python = net.command(Host::Gateway, "python3");
    Daemon::start(python.arg(script).arg(address), net.scratch().join("metadata.log"), 80)
}

#[test]
fn the_public_address_from_the_cloud() {
    let net = Net::new(PROXY);
    let gateway = net.namespace(Host::Gateway);
    feed(Command::new("ip").args(["-n", &gateway, "-batch", "-"]), b"addr add 100.100.100.200/32 dev vpc\n");
    let server = Server::start(&net, Kind::Vsftpd);
    // What the machine had before leads nowhere any more.
    let before = cloud(&net, "203.0.113.66");
    let proxy = proxy::start(&net, Host::Proxy, CONFIG, 21);
    assert!(proxy.said().contains("address=203.0.113.66"), "{}", proxy.said());
    drop(before);
    let _after = cloud(&net, EIP);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !proxy.said().contains(&format!("address={EIP}")) {
        assert!(Instant::now() < deadline, "{}", proxy.said());
        sleep(Duration::from_millis(50));
    }
    run_cells(&net, &server, &proxy, &SOME_CELLS, 8);
}
