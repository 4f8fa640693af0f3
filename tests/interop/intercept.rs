//! A proxy on the way from the clients to the server, to which nft leads their connections, with the rules of
//! deploy/intercept/.

use std::time::Duration;

use crate::clients::{Kind as Client, Mode};
use crate::matrix::{Cell, run_cells};
use crate::net::{EIP, Host, Net, PROXY_V6};
use crate::process::{Daemon, Outcome, bounded, run};
use crate::proxy::{self, Privileges};
use crate::servers::{Kind, Security, Server};

const REDIRECT: &str = include_str!("../../deploy/intercept/redirect.nft");
const TPROXY: &str = include_str!("../../deploy/intercept/tproxy.nft");
const ROUTES: &str = include_str!("../../deploy/intercept/tproxy-routes.sh");

/// Clients know nothing of the proxy: some believe the address in 227, others use the one that they dialled.
const CELLS: [Cell; 10] = [
    Cell::plain(Client::Lftp, Mode::PASV),
    Cell::plain(Client::Lftp, Mode::EPSV),
    Cell::plain(Client::Lftp, Mode::PORT),
    Cell::plain(Client::Curl, Mode::PASV),
    Cell::plain(Client::Curl, Mode::EPSV6),
    Cell::plain(Client::Curl, Mode::EPRT),
    Cell::plain(Client::Inetutils, Mode::EPRT6),
    Cell::plain(Client::Ftplib, Mode::PASV),
    Cell::plain(Client::Ftplib, Mode::EPSV6),
    Cell::plain(Client::Ftplib, Mode::PORT),
];

/// vsftpd with both families.
fn server(net: &Net) -> Server {
    Server::start_configured(net, Kind::Vsftpd, Security::Plain, "listen=NO\nlisten_ipv6=YES\n", &[])
}

fn led_by_tproxy(net: &Net) {
    net.nft(Host::Proxy, TPROXY);
    run(net.command(Host::Proxy, "sh").args(["-c", ROUTES]));
}

const NETWORKS: &str = "[203.0.113.0/24, \"2001:db8:2::/64\"]";

#[test]
fn intercepted_by_redirect() {
    let net = Net::with_proxy_as_router();
    let server = server(&net);
    net.nft(Host::Proxy, REDIRECT);
    let proxy = proxy::on_the_way(&net, NETWORKS, Privileges::None);
    run_cells(&net, &server, &proxy, &CELLS, 10);
    assert!(proxy.said().contains("without CAP_NET_ADMIN"), "{}", proxy.said());
}

/// The data connections of all modes have the server's address at the client's end: nothing else may come in there.
#[test]
fn intercepted_by_tproxy() {
    let net = Net::with_proxy_as_router();
    let server = server(&net);
    led_by_tproxy(&net);
    net.nft(
        Host::Client,
        "table inet firewall {
           chain input {
             type filter hook input priority filter; policy drop;
             iifname lo accept
             meta l4proto ipv6-icmp accept
             ip saddr 203.0.113.10 accept
             ip6 saddr 2001:db8:2::10 accept
           }
           chain output {
             type filter hook output priority filter; policy drop;
             oifname lo accept
             meta l4proto ipv6-icmp accept
             ip daddr 203.0.113.10 accept
             ip6 daddr 2001:db8:2::10 accept
           }
         }",
    );
    let proxy = proxy::on_the_way(&net, NETWORKS, Privileges::All);
    run_cells(&net, &server, &proxy, &CELLS, 10);
}

/// The same with a proxy that listens on one of its addresses only.
#[test]
fn intercepted_by_tproxy_that_names_an_address() {
    let net = Net::with_proxy_as_router();
    let server = server(&net);
    let rules = TPROXY.replace("ip to :2121", "ip to 198.51.100.1:2121").replace("127.0.0.1", "198.51.100.1");
    net.nft(Host::Proxy, &rules);
    run(net.command(Host::Proxy, "sh").args(["-c", ROUTES]));
    let proxy = proxy::on_the_way_at(&net, "198.51.100.1:2121", NETWORKS, Privileges::All);
    run_cells(&net, &server, &proxy, &CELLS[..4], 4);
}

/// The first line that a client reads at an address.
fn greeting(net: &Net, host: Host, address: &str, port: u16) -> Outcome {
    let read = format!("exec 3<>/dev/tcp/{address}/{port} && head -n 1 <&3");
    let mut bash = net.command(host, "bash");
    bounded(bash.args(["-c", &read]), Duration::from_secs(5))
}

#[track_caller]
fn refused(net: &Net, proxy: &Daemon, address: &str, port: u16, why: &str) {
    let outcome = greeting(net, Host::Client, address, port);
    assert!(outcome.transcript.starts_with("421 "), "{address}: {}\n{}", outcome.transcript, proxy.said());
    assert!(proxy.said().contains(why), "{}", proxy.said());
}

/// Who has to get through must not depend on ftp-alg; who must not get past it takes REDIRECT.
#[test]
fn while_ftp_alg_is_stopped_redirect_refuses_and_tproxy_lets_pass() {
    let net = Net::with_proxy_as_router();
    let _server = server(&net);
    net.nft(Host::Proxy, REDIRECT);
    let refused = greeting(&net, Host::Client, EIP, 21);
    assert!(!refused.success && refused.transcript.contains("Connection refused"), "{}", refused.transcript);
    let net = Net::with_proxy_as_router();
    let _server = server(&net);
    led_by_tproxy(&net);
    let passed = greeting(&net, Host::Client, EIP, 21);
    assert!(passed.transcript.starts_with("220 (vsFTPd"), "{}", passed.transcript);
}

/// Connections that the server's machine has seen on port 21.
fn dialled(net: &Net) -> String {
    let listing = run(net.command(Host::Server, "nft").args(["list", "counter", "inet", "control", "dialled"]));
    listing.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().to_owned()
}

const COUNT: &str = "table inet control {
  counter dialled {}
  chain in { type filter hook input priority filter; tcp dport 21 counter name dialled; }
}";

#[test]
fn sec_03_a_server_outside_of_upstream_networks_sees_no_packet() {
    for rules in [REDIRECT, TPROXY] {
        let net = Net::with_proxy_as_router();
        let _server = server(&net);
        net.nft(Host::Server, COUNT);
        net.nft(Host::Proxy, rules);
        run(net.command(Host::Proxy, "sh").args(["-c", ROUTES]));
        let proxy = proxy::on_the_way(&net, "[203.0.113.11, \"2001:db8:2::11\"]", Privileges::All);
        refused(&net, &proxy, EIP, 21, "it is not in upstream_networks");
        refused(&net, &proxy, PROXY_V6, 21, "it is not in upstream_networks");
        assert_eq!(dialled(&net), "0");
    }
}

/// To the proxy's own port; and to an address of the proxy's machine that is among the servers.
#[test]
fn sec_03_a_client_that_dials_the_proxy_itself_is_refused() {
    let net = Net::with_proxy_as_router();
    net.nft(Host::Proxy, REDIRECT);
    let proxy = proxy::on_the_way(&net, "[\"203.0.113.0/24:1-65535\", \"198.51.100.0/24:1-65535\"]", Privileges::All);
    refused(&net, &proxy, "198.51.100.1", 2121, "it is one of our own listeners");
    refused(&net, &proxy, "203.0.113.1", 2121, "it is one of our own listeners");
    assert_eq!(proxy.said().matches("session began").count(), 0);
    assert_eq!(proxy.said().matches("outcome=the server may not be reached").count(), 2, "{}", proxy.said());
}

/// A virtual address of the proxy's own on the very port that TPROXY leads to.
#[test]
fn sec_03_tproxy_to_our_own_virtual_address_is_refused() {
    let net = Net::with_proxy_as_router();
    run(net.command(Host::Proxy, "ip").args(["addr", "add", "203.0.113.77/32", "dev", "lo"]));
    let rules = TPROXY.replace("tcp dport 21 ", "tcp dport { 21, 2121 } ");
    net.nft(Host::Proxy, &rules);
    run(net.command(Host::Proxy, "sh").args(["-c", ROUTES]));
    let proxy = proxy::on_the_way(&net, "\"203.0.113.0/24:1-65535\"", Privileges::All);
    refused(&net, &proxy, "203.0.113.77", 2121, "it is one of our own listeners");
    assert_eq!(proxy.said().matches("outcome=the server may not be reached").count(), 1, "{}", proxy.said());
}

/// A rule that leads what the proxy sends back to it as well: one session comes of it, not one after the other.
#[test]
fn sec_03_our_own_connection_that_is_led_back_is_refused() {
    let net = Net::with_proxy_as_router();
    net.nft(Host::Proxy, REDIRECT);
    net.nft(
        Host::Proxy,
        "table inet mistake {
           chain out {
             type nat hook output priority -100
             tcp dport 21 redirect to :2121
           }
         }",
    );
    let proxy = proxy::on_the_way(&net, NETWORKS, Privileges::All);
    refused(&net, &proxy, EIP, 21, "it is one of our own listeners");
    assert_eq!(proxy.said().matches("outcome=").count(), 2, "{}", proxy.said());
}
