//! Real FTP servers and real FTP clients around the proxy, in network namespaces of this machine.
//!
//! Needs root and what tests/setup.sh installs: `make test` runs it.
#![allow(unreachable_pub, reason = "the modules of a test program are all private")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod certificate;
mod choose;
mod clients;
mod egress;
mod families;
mod filezilla;
mod intercept;
mod interrupted;
mod landlock;
mod large;
mod load_balancer;
mod matrix;
mod metrics;
mod net;
mod passed;
mod privileges;
mod process;
mod proxy;
mod proxy_header;
mod public_address;
mod reload;
mod servers;
mod tls;
mod transparent;
mod two_addresses;
mod upstreams;
mod without_proxy;
mod xferlog;

use std::time::Duration;

use clients::{Kind as Client, Mode};
use matrix::{Cell, all_cells, run_cells};
use net::{Counter, Host, Net, PROXY, SERVER};
use process::bounded;
use servers::{Kind, Server};

/// lftp 5, curl 6, inetutils-ftp 6, ftplib 4.
const ALL_CELLS: usize = 21;

fn matrix_against(kind: Kind) {
    let net = Net::new(PROXY);
    let server = Server::start(&net, kind);
    let proxy = proxy::in_front_of_server(&net, "same");
    run_cells(&net, &server, &proxy, &all_cells(), ALL_CELLS);
    // As the clients do, so the proxy.
    assert!(net.counted(Counter::DialledByProxy) > 0 && net.counted(Counter::DialledByServer) > 0);
}

#[test]
fn matrix_vsftpd() {
    matrix_against(Kind::Vsftpd);
}

#[test]
fn matrix_proftpd() {
    matrix_against(Kind::ProFtpd);
}

#[test]
fn matrix_pure_ftpd() {
    matrix_against(Kind::PureFtpd);
}

/// Some of the matrix: every client in a passive and in an active mode, each of the four verbs.
const SOME_CELLS: [Cell; 8] = [
    Cell::plain(Client::Lftp, Mode::EPSV),
    Cell::plain(Client::Lftp, Mode::PORT),
    Cell::plain(Client::Curl, Mode::EPSV),
    Cell::plain(Client::Curl, Mode::EPRT),
    Cell::plain(Client::Inetutils, Mode::PASV),
    Cell::plain(Client::Inetutils, Mode::EPRT),
    Cell::plain(Client::Ftplib, Mode::PASV),
    Cell::plain(Client::Ftplib, Mode::PORT),
];

#[test]
fn data_mode_passive() {
    for kind in [Kind::Vsftpd, Kind::ProFtpd] {
        let net = Net::new(PROXY);
        let server = Server::start(&net, kind);
        let proxy = proxy::in_front_of_server(&net, "passive");
        run_cells(&net, &server, &proxy, &SOME_CELLS, 8);
        assert!(net.counted(Counter::DialledByProxy) > 0);
        assert_eq!(net.counted(Counter::DialledByServer), 0);
    }
}

#[test]
fn data_mode_active() {
    for kind in [Kind::Vsftpd, Kind::PureFtpd] {
        let net = Net::new(PROXY);
        let server = Server::start(&net, kind);
        let proxy = proxy::in_front_of_server(&net, "active");
        run_cells(&net, &server, &proxy, &SOME_CELLS, 8);
        assert!(net.counted(Counter::DialledByServer) > 0);
        assert_eq!(net.counted(Counter::DialledByProxy), 0);
    }
}

/// A second FTP helper, the kernel's, on the proxy's machine and on the gateway that translates its address: what the
/// proxy announces is not rewritten again, and nothing is dropped.
#[test]
fn sec_09_a_kernels_helper_on_the_way_changes_nothing() {
    let net = Net::new(PROXY);
    let server = Server::start(&net, Kind::Vsftpd);
    let proxy = proxy::in_front_of_server(&net, "same");
    for host in [Host::Gateway, Host::Proxy] {
        net.nft(host, HELPER);
    }
    run_cells(&net, &server, &proxy, &SOME_CELLS, 8);
    for host in [Host::Gateway, Host::Proxy] {
        let counter = process::run(net.command(host, "nft").args(["list", "counter", "ip", "helper", "watched"]));
        assert!(!counter.contains("packets 0 "), "{host:?} has not watched anything: {counter}");
    }
}

/// Assigns the kernel's helper to FTP's control connections, to and from this machine and through it.
const HELPER: &str = r#"
table ip helper {
  counter watched {}
  ct helper ftp { type "ftp" protocol tcp; }
  chain in { type filter hook prerouting priority filter; tcp dport 21 ct helper set "ftp"; }
  chain out { type filter hook output priority filter; tcp dport 21 ct helper set "ftp"; }
  chain seen { type filter hook postrouting priority filter; ct helper "ftp" counter name watched; }
}
"#;

/// The firewall of clients that admit data connections from the port of ftp-data alone.
const PORT_20_ONLY: &str = r#"
table inet firewall {
  chain input {
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    meta l4proto ipv6-icmp accept
    tcp sport 20 accept
  }
}
"#;

/// Clients whose firewall admits data connections from the port of ftp-data alone, as RFC 959 has them.
#[test]
fn active_mode_from_port_20() {
    let net = Net::new(PROXY);
    let server = Server::start(&net, Kind::Vsftpd);
    let proxy = proxy::from_port_20(&net);
    net.nft(Host::Client, PORT_20_ONLY);
    let active: Vec<Cell> =
        SOME_CELLS.into_iter().filter(|cell| [Mode::PORT, Mode::EPRT].contains(&cell.mode)).collect();
    run_cells(&net, &server, &proxy, &active, 4);
}

/// The second layout: the proxy on the server's own machine, with deploy/same-host.nft. The servers' anti-bounce rules
/// hold for either way to reach them.
#[test]
fn same_host() {
    for (kind, upstream) in [
        (Kind::Vsftpd, "172.16.0.20:21"),
        (Kind::ProFtpd, "172.16.0.20:21"),
        (Kind::PureFtpd, "172.16.0.20:21"),
        (Kind::Vsftpd, "127.0.0.1:21"),
    ] {
        let net = Net::new(SERVER);
        let server = Server::start(&net, kind);
        let proxy = proxy::beside_server(&net, upstream);
        run_cells(&net, &server, &proxy, &SOME_CELLS, 8);
        // The proxy's own port is nobody's way in, not even inside.
        assert!(greets(&net, 21) && !greets(&net, 2121));
    }
}

/// Whether the server's machine says 220 to a neighbour who connects to this port.
fn greets(net: &Net, port: u16) -> bool {
    let read = format!("exec 3<>/dev/tcp/{SERVER}/{port} && head -c 3 <&3");
    let mut bash = net.command(Host::Proxy, "bash");
    bounded(bash.args(["-c", &read]), Duration::from_secs(2)).transcript == "220"
}
