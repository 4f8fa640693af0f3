//! In front of clients, with the files of deploy/egress as they are: the roles of the other tests turned round.
//!
//! ```text
//!  Client 172.16.0.20 ──┐
//!                       vpc── Gateway ──eth0── Server 198.51.100.20
//!  Proxy  172.16.0.10 ──┘   (SNAT, DNAT)       pool   198.51.100.33
//! ```
//!
//! Everybody leaves the VPC as 203.0.113.10, and only what deploy/egress lets in comes back. The server's firewall admits
//! port 21 and nothing else.

use std::time::Duration;

use crate::clients::{Kind as Client, Mode};
use crate::large;
use crate::matrix::{Cell, run_cells};
use crate::net::{COUNTERS, Counter, Host, Net};
use crate::process::{Daemon, bounded};
use crate::proxy;
use crate::servers::{Kind, Server, place};

const PROXY_YAML: &str = include_str!("../../deploy/egress/proxy.yaml");
const NAT_GATEWAY: &str = include_str!("../../deploy/egress/nat-gateway.nft");
const SECURITY_GROUP: &str = include_str!("../../deploy/egress/security-group.nft");

/// `ip -batch` for each machine; `%` is the prefix of the namespaces.
const LINKS: [(Host, &str); 4] = [
    (
        Host::Gateway,
        "link set lo up
         link add eth0 type veth peer name eth0 netns %server
         link add vpc type bridge
         link add v-proxy master vpc type veth peer name eth0 netns %proxy
         link add v-client master vpc type veth peer name eth0 netns %client
         link set v-proxy up
         link set v-client up
         link set eth0 up
         link set vpc up
         addr add 198.51.100.1/24 dev eth0
         addr add 203.0.113.10/32 dev eth0
         addr add 172.16.0.1/24 dev vpc",
    ),
    (
        Host::Client,
        "link set lo up
         link set eth0 up
         addr add 172.16.0.20/24 dev eth0
         route add default via 172.16.0.1",
    ),
    (
        Host::Proxy,
        "link set lo up
         link set eth0 up
         addr add 172.16.0.10/24 dev eth0
         route add default via 172.16.0.1",
    ),
    (
        Host::Server,
        "link set lo up
         link set eth0 up
         addr add 198.51.100.20/24 dev eth0
         addr add 198.51.100.33/24 dev eth0
         addr add 198.51.100.99/24 dev eth0
         route add 203.0.113.10/32 via 198.51.100.1",
    ),
];

/// It dials back, and lets nobody in but at port 21.
const PORT_21_ONLY: &str = "
table inet firewall {
  chain input {
    type filter hook input priority filter; policy drop
    iifname lo accept
    ct state established,related accept
    tcp dport 21 accept
  }
}";

/// It opens its passive ports, and does not dial anybody.
const PASSIVE_ONLY: &str = "
table inet firewall {
  chain output {
    type filter hook output priority filter; policy drop
    oifname lo accept
    ct state established,related accept
  }
}";

/// What the server dials comes from an address of its pool.
const POOL: &str = "
table ip pool {
  chain out { type nat hook postrouting priority srcnat; tcp dport 20000-20020 snat to 198.51.100.33; }
}";

/// The VPC, with a server's firewall.
fn net(firewall: &str) -> Net {
    let net = Net::of(&LINKS);
    net.nft(Host::Gateway, NAT_GATEWAY);
    net.nft(Host::Proxy, SECURITY_GROUP);
    net.nft(Host::Server, COUNTERS);
    net.nft(Host::Server, firewall);
    net
}

fn proxy(net: &Net, config: &str) -> Daemon {
    proxy::start(net, Host::Proxy, config, 21)
}

const fn inside(client: Client, mode: Mode) -> Cell {
    Cell::plain(client, mode.within_vpc())
}

/// Every client in every mode of IPv4.
const ALL_CELLS: [Cell; 13] = [
    inside(Client::Lftp, Mode::PASV),
    inside(Client::Lftp, Mode::EPSV),
    inside(Client::Lftp, Mode::PORT),
    inside(Client::Curl, Mode::PASV),
    inside(Client::Curl, Mode::EPSV),
    inside(Client::Curl, Mode::PORT),
    inside(Client::Curl, Mode::EPRT),
    inside(Client::Inetutils, Mode::PASV),
    inside(Client::Inetutils, Mode::EPSV),
    inside(Client::Inetutils, Mode::PORT),
    inside(Client::Inetutils, Mode::EPRT),
    inside(Client::Ftplib, Mode::PASV),
    inside(Client::Ftplib, Mode::PORT),
];

fn every_client_reaches(kind: Kind, more: &[&str]) {
    let net = net(PORT_21_ONLY);
    more.iter().for_each(|rules| net.nft(Host::Server, rules));
    let server = Server::start(&net, kind);
    let proxy = proxy(&net, PROXY_YAML);
    run_cells(&net, &server, &proxy, &ALL_CELLS, 13);
    assert!(net.counted(Counter::DialledByServer) > 0);
    assert_eq!(net.counted(Counter::DialledByProxy), 0);
}

#[test]
fn egress_to_vsftpd() {
    every_client_reaches(Kind::Vsftpd, &[]);
}

#[test]
fn egress_to_proftpd() {
    every_client_reaches(Kind::ProFtpd, &[]);
}

#[test]
fn egress_to_pure_ftpd_that_dials_back_from_a_pool() {
    every_client_reaches(Kind::PureFtpd, &[POOL]);
}

/// A line of the example left out.
fn without(config: &str, key: &str) -> String {
    let kept: Vec<&str> = config.lines().filter(|line| !line.trim_start().starts_with(key)).collect();
    assert_eq!(kept.len() + 1, config.lines().count(), "{key} stands on one line");
    kept.join("\n")
}

/// Downloads a file inside the VPC; how curl ended, and its transcript.
fn download(net: &Net, server: &Server) -> (bool, String) {
    let (user, password) = server.login();
    let mut curl = net.command(Host::Client, "curl");
    curl.args(["-v", "-sS", "--max-time", "20", "--user", &format!("{user}:{password}"), "ftp://172.16.0.10/file"]);
    let outcome = bounded(&curl, Duration::from_secs(30));
    (outcome.success, outcome.transcript)
}

/// Without `data_peer` the pool's addresses are strangers' like all others.
#[test]
fn sec_13_a_pool_that_nobody_configured_is_refused() {
    let net = net(PORT_21_ONLY);
    let server = Server::start(&net, Kind::Vsftpd);
    place(&server.root().join("file"), b"the content");
    let config = without(PROXY_YAML, "data_peer");
    let proxy = proxy(&net, &config);
    let (success, transcript) = download(&net, &server);
    assert!(success && transcript.contains("the content"), "{transcript}\n{}", proxy.said());
    net.nft(Host::Server, POOL);
    let (success, transcript) = download(&net, &server);
    assert!(!success && !transcript.contains("the content"), "{transcript}\n{}", proxy.said());
}

/// Who is not the server does not get past the NAT gateway, and who is has no business without a PORT.
#[test]
fn sec_13_strangers_do_not_get_through() {
    let net = net(PORT_21_ONLY);
    let proxy = proxy::start_at_level("debug", &net, Host::Proxy, PROXY_YAML, 21);
    for (from, reaches_proxy) in [("198.51.100.99", false), ("198.51.100.33", true), ("198.51.100.20", true)] {
        let mut curl = net.command(Host::Server, "curl");
        curl.args(["-sS", "--interface", from, "--max-time", "2", "http://203.0.113.10:20010"]);
        let outcome = bounded(&curl, Duration::from_secs(5));
        assert!(!outcome.success, "{from}: {}", outcome.transcript);
        // Written by then: the reset that curl has seen comes behind it.
        let reset = format!("from={from}:");
        assert_eq!(proxy.said().contains(&reset), reaches_proxy, "{from}: {}\n{}", outcome.transcript, proxy.said());
    }
    assert_eq!(proxy.said().matches("reset a data connection that no session expects").count(), 2);
}

/// The mirror: clients that know active mode alone, in front of a server that knows passive mode alone.
#[test]
fn egress_of_active_clients_to_a_passive_server() {
    const ACTIVE: [Cell; 5] = [
        inside(Client::Lftp, Mode::PORT),
        inside(Client::Curl, Mode::PORT),
        inside(Client::Curl, Mode::EPRT),
        inside(Client::Inetutils, Mode::EPRT),
        inside(Client::Ftplib, Mode::PORT),
    ];
    let net = net(PASSIVE_ONLY);
    let server = Server::start(&net, Kind::Vsftpd);
    let config = PROXY_YAML.replace("data_mode: active", "data_mode: passive");
    assert_ne!(config, PROXY_YAML);
    let proxy = proxy(&net, &config);
    run_cells(&net, &server, &proxy, &ACTIVE, 5);
    assert!(net.counted(Counter::DialledByProxy) > 0);
    assert_eq!(net.counted(Counter::DialledByServer), 0);
}

#[test]
fn egress_of_five_gib_each_way() {
    let net = net(PORT_21_ONLY);
    let server = Server::start(&net, Kind::ProFtpd);
    let _proxy = proxy(&net, PROXY_YAML);
    large::each_way(&net, &server, "172.16.0.10");
}
