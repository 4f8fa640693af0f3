//! A real HAProxy in front, with the files of deploy/load-balancer: it says in PROXY headers whose connections it brings.
//!
//! The elastic IP leads to the load balancer; a second one, 203.0.113.11, is the proxy's own, for data connections that
//! do not go through the load balancer: those of active mode, and passive ones with `data: false`. IPv6 clients reach it at the address that the proxy has elsewhere; towards
//! the proxy it speaks IPv4 for them, too.

use std::fs;
use std::process::Command;

use crate::SOME_CELLS;
use crate::clients::{Kind as Client, Mode, Tls, Version};
use crate::matrix::{Cell, run_cells};
use crate::net::{BALANCER, Host, Net, PROXY_V6};
use crate::process::{Daemon, feed};
use crate::proxy;
use crate::servers::{Kind, Server, unpacked};

/// Starts HAProxy with the file of deploy/ and these words in place of its `send-proxy-v2`.
fn balance(net: &Net, send: &str) -> Daemon {
    let config = include_str!("../../deploy/load-balancer/haproxy.cfg");
    let mut config = config.replace("send-proxy-v2", send);
    for ports in ["21", "990", "20000-20020"] {
        let v4 = format!("bind {BALANCER}:{ports}\n");
        assert!(config.contains(&v4));
        config = config.replace(&v4, &format!("{}    bind [{PROXY_V6}]:{ports}\n", v4));
    }
    // Often, so that its checks come between everything else.
    config = config.replace(
        "defaults\n",
        "defaults\n    unique-id-format %{+X}o%ci:%cp_%Ts_%rt\n    default-server inter 200ms\n",
    );
    let path = net.scratch().join("haproxy.cfg");
    fs::write(&path, config).unwrap();
    let mut command = net.command(Host::Balancer, unpacked("haproxy/usr/sbin/haproxy"));
    Daemon::start(command.arg("-db").arg("-f").arg(&path), net.scratch().join("haproxy.log"), 20_020)
}

/// A network whose first public address leads to the load balancer.
fn network() -> Net {
    let net = Net::new(BALANCER);
    let ip = |host, batch: &str| {
        feed(Command::new("ip").args(["-n", &net.namespace(host), "-batch", "-"]), batch.as_bytes());
    };
    ip(Host::Proxy, &format!("addr del {PROXY_V6}/64 dev eth0\naddr add 2001:db8:2::11/64 dev eth0 nodad\n"));
    ip(Host::Balancer, &format!("addr add {PROXY_V6}/64 dev eth0 nodad\n"));
    ip(Host::Gateway, "addr add 203.0.113.11/24 dev pub\n");
    net.nft(
        Host::Gateway,
        "table ip second_ip {
           chain in { type nat hook prerouting priority dstnat; ip daddr 203.0.113.11 dnat to 172.16.0.10; }
           chain out { type nat hook postrouting priority srcnat; oifname pub ip saddr 172.16.0.10 snat to 203.0.113.11; }
         }",
    );
    net
}

/// Every transfer is logged with the client's own address, and only the load balancer's checks with its own.
#[track_caller]
fn clients_are_known(proxy: &Daemon) {
    let said = proxy.said();
    let transfers = said.lines().filter(|line| line.contains("bytes_up="));
    for line in transfers {
        assert!(line.contains(" client=203.0.113.2:") || line.contains(" client=[2001:db8:1::2]:"), "{line}");
    }
    let checks = said.lines().filter(|line| line.contains(" client=172.16.0.30:") && line.contains("outcome="));
    let mut count = 0;
    for line in checks {
        assert!(line.contains("user=\"\""), "{line}");
        count += 1;
    }
    assert!(count > 0, "no check by the load balancer\n{said}");
    assert!(!said.contains("refused a connection"), "{said}");
}

/// Through the load balancer with both connections.
fn behind(send: &str) {
    let net = network();
    let server = Server::start(&net, Kind::Vsftpd);
    let proxy = proxy::behind_load_balancer(&net, true);
    let balancer = balance(&net, send);
    let mut cells = SOME_CELLS.to_vec();
    cells.push(Cell::plain(Client::Curl, Mode::EPSV6));
    cells.push(Cell::plain(Client::Ftplib, Mode::EPRT6));
    for (client, mode, version) in [
        (Client::Lftp, Mode::PASV, Version::V1_3),
        (Client::Curl, Mode::EPSV, Version::V1_2),
        (Client::Ftplib, Mode::PORT, Version::V1_3),
    ] {
        cells.push(Cell { client, mode, tls: Some(Tls { implicit: true, version }) });
    }
    run_cells(&net, &server, &proxy, &cells, 13);
    clients_are_known(&proxy);
    assert!(!balancer.said().contains("DOWN"), "{}", balancer.said());
}

#[test]
fn sec_23_haproxy_version_1() {
    behind("send-proxy");
}

#[test]
fn sec_23_haproxy_version_2() {
    behind("send-proxy-v2");
}

#[test]
fn sec_23_haproxy_version_2_with_tlvs() {
    behind("send-proxy-v2 proxy-v2-options crc32c,unique-id,authority,ssl,cert-cn");
}

/// Control through the load balancer, data past it: to an address of the proxy's own. inetutils ftp refuses a 227 with
/// another address than that of its control connection ("Passive mode address mismatch"), which the README says.
#[test]
fn sec_24_data_past_haproxy() {
    let net = network();
    let server = Server::start(&net, Kind::Vsftpd);
    let proxy = proxy::behind_load_balancer(&net, false);
    let _balancer = balance(&net, "send-proxy-v2");
    let cells = [
        Cell::plain(Client::Lftp, Mode::PASV),
        Cell::plain(Client::Curl, Mode::PASV),
        Cell::plain(Client::Lftp, Mode::PORT),
        Cell::plain(Client::Curl, Mode::EPRT),
    ];
    run_cells(&net, &server, &proxy, &cells, 4);
    clients_are_known(&proxy);
}
