//! `server.source: client`, with the very files of deploy/transparent: the server sees the clients' own addresses, and
//! answers them through the proxy.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clients::Kind as Client;
use crate::matrix::{Cell, all_cells, difference, run_cells};
use crate::net::{Counter, EIP, Host, Net, PROXY};
use crate::process::{Daemon, Outcome, bounded, run};
use crate::servers::{Kind, Security, Server, make_writable_dir, place};
use crate::{ALL_CELLS, SOME_CELLS, proxy};

const PROXY_YAML: &str = include_str!("../../deploy/transparent/proxy.yaml");
const CLIENT: &str = "203.0.113.2";
const CLIENT_V6: &str = "2001:db8:1::2";

/// From where the server's machine has got data, and whether anything at all has come from the proxy's own address.
const SOURCES: &str = "
table inet sources {
  counter clients {}
  counter proxy {}
  chain in {
    type filter hook input priority filter + 1
    meta l4proto != tcp accept
    ip saddr 172.16.0.10 counter name proxy
    ip6 saddr 2001:db8:2::10 counter name proxy
    tcp sport 21 accept
    tcp dport 21 accept
    ip saddr 203.0.113.2 counter name clients
    ip6 saddr 2001:db8:1::2 counter name clients
  }
}";

/// A network whose proxy and server have the rules and routes of deploy/transparent. The check of source addresses is as
/// strict as it can be.
fn network() -> Net {
    let net = Net::new(PROXY);
    ip(&net, Host::Server, &["addr", "add", "2001:db8:2::20/64", "dev", "eth0", "nodad"]);
    let strict = "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $f; done";
    for host in [Host::Proxy, Host::Server] {
        run(net.command(host, "sh").args(["-c", strict]));
    }
    let script = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/transparent").join(name);
    net.nft(Host::Proxy, include_str!("../../deploy/transparent/transparent.nft"));
    // Twice: it must be possible to run it again.
    for _ in 0..2 {
        run(&mut net.command(Host::Proxy, script("routes.sh")));
    }
    run(net.command(Host::Server, script("server-routes.sh")).args(["172.16.0.10", "2001:db8:2::10"]));
    net.nft(Host::Server, SOURCES);
    net
}

fn ip(net: &Net, host: Host, arguments: &[&str]) {
    run(net.command(host, "ip").args(arguments));
}

/// Packets that the server's machine has counted from there.
fn packets_from(net: &Net, whom: &str) -> u64 {
    let listing = run(net.command(Host::Server, "nft").args(["list", "counter", "inet", "sources", whom]));
    let mut words = listing.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no packets in: {listing}"))
}

/// Control and data have come from the clients, and nothing from the proxy.
#[track_caller]
fn only_clients_were_seen(net: &Net, server: &Server) {
    assert!(packets_from(net, "clients") > 0, "{}", server.log());
    assert_eq!(packets_from(net, "proxy"), 0, "{}", server.log());
    assert!(!server.log().contains("172.16.0.10"), "{}", server.log());
}

/// Every client in every mode over IPv4 and IPv6. vsftpd's `pasv_promiscuous` and `port_promiscuous` are off, as it ships:
/// it compares the addresses of control and data.
#[test]
fn sec_15_vsftpd_sees_the_clients_own_addresses_for_control_and_data() {
    let net = network();
    let both = "listen=NO\nlisten_ipv6=YES\n";
    let server = Server::start_configured(&net, Kind::Vsftpd, Security::Plain, both, &[]);
    let proxy = proxy::start(&net, Host::Proxy, PROXY_YAML, 21);
    run_cells(&net, &server, &proxy, &all_cells(), ALL_CELLS);
    only_clients_were_seen(&net, &server);
    for address in [format!("\"::ffff:{CLIENT}\""), format!("\"{CLIENT_V6}\"")] {
        for event in ["CONNECT: Client", "OK UPLOAD: Client", "OK DOWNLOAD: Client"] {
            assert!(server.log().contains(&format!("{event} {address}")), "{event} {address}: {}", server.log());
        }
    }
    // As the clients do, so the proxy.
    assert!(net.counted(Counter::DialledByProxy) > 0 && net.counted(Counter::DialledByServer) > 0);
}

#[test]
fn sec_15_proftpd_and_pure_ftpd_see_the_clients_own_addresses() {
    for (kind, more) in [(Kind::ProFtpd, "UseIPv6 on\nExtendedLog /srv/transfers.log ALL\n"), (Kind::PureFtpd, "")] {
        let net = network();
        let server = Server::start_configured(&net, kind, Security::Plain, more, &[]);
        let proxy = proxy::start(&net, Host::Proxy, PROXY_YAML, 21);
        run_cells(&net, &server, &proxy, &all_cells(), ALL_CELLS);
        only_clients_were_seen(&net, &server);
        for address in [CLIENT, CLIENT_V6] {
            let logged = server.log().lines().filter(|line| line.contains(&format!("{address} "))).count();
            assert!(logged >= 8, "{address}: {}", server.log());
        }
    }
}

/// Whatever the clients ask for.
#[test]
fn sec_15_the_clients_addresses_in_either_data_mode() {
    for (mode, other) in [("passive", Counter::DialledByServer), ("active", Counter::DialledByProxy)] {
        let net = network();
        let server = Server::start(&net, Kind::Vsftpd);
        let config = PROXY_YAML.replace("source: client", &format!("source: client\n      data_mode: {mode}"));
        let proxy = proxy::start(&net, Host::Proxy, &config, 21);
        run_cells(&net, &server, &proxy, &SOME_CELLS, 8);
        only_clients_were_seen(&net, &server);
        assert_eq!(net.counted(other), 0);
    }
}

fn curl(net: &Net, arguments: &[&str]) -> Command {
    let mut command = net.command(Host::Client, "curl");
    command.args(["-v", "-sS", "--max-time", "30", "--user", "anonymous:user@example.org"]).args(arguments);
    command
}

/// The kernel picks the ports, by target: none is taken away from the other sessions of an address.
#[test]
fn many_sessions_of_one_address_at_once() {
    let net = network();
    let server = Server::start(&net, Kind::Vsftpd);
    let proxy = proxy::start(&net, Host::Proxy, PROXY_YAML, 21);
    make_writable_dir(&server.root().join("dir"));
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    place(&server.root().join("dir/file"), &content);
    let downloads: Vec<_> = (0..30)
        .map(|n| {
            let file = net.scratch().join(format!("got-{n}"));
            let mode: &[&str] = if n % 2 == 0 { &["--disable-epsv"] } else { &["--ftp-port", "-", "--disable-eprt"] };
            let url = format!("ftp://{EIP}/dir/file");
            let mut curl = curl(&net, mode);
            curl.arg("-o").arg(&file).arg(&url).stderr(Stdio::null());
            (file, curl.spawn().unwrap())
        })
        .collect();
    for (file, mut curl) in downloads {
        let status = curl.wait().unwrap();
        assert!(status.success() && difference(&file, &content).is_none(), "{status}: {}", proxy.said());
    }
    only_clients_were_seen(&net, &server);
}

/// Without the way back nothing works, and the log says what is missing: once, not for each client.
#[test]
fn a_server_that_answers_past_the_proxy_is_explained() {
    let net = network();
    let _server = Server::start(&net, Kind::Vsftpd);
    ip(&net, Host::Server, &["route", "replace", "default", "via", "172.16.0.1"]);
    let config = PROXY_YAML.replace("source: client", "source: client\n    timeouts: { connect_server: 1s }");
    let proxy = proxy::start(&net, Host::Proxy, &config, 21);
    for _ in 0..2 {
        let refused = bounded(&curl(&net, &[&format!("ftp://{EIP}/")]), Duration::from_secs(30));
        assert!(refused.transcript.contains("< 421 "), "{}\n{}", refused.transcript, proxy.said());
    }
    assert_eq!(proxy.said().matches("ERROR").count(), 1, "{}", proxy.said());
    assert!(proxy.said().contains("no answer came back: load the nft rules"), "{}", proxy.said());
}

/// Connected, it would not look like one: it comes from the client's address. So it is seen before.
#[test]
fn sec_03_an_upstream_that_is_the_proxy_itself_is_refused_before_a_packet_is_sent() {
    let net = network();
    let proxy = proxy::start(&net, Host::Proxy, &PROXY_YAML.replace("172.16.0.20:21", "172.16.0.10:21"), 21);
    let refused = bounded(&curl(&net, &[&format!("ftp://{EIP}/")]), Duration::from_secs(30));
    assert!(!refused.success && !refused.timed_out, "{}", refused.transcript);
    assert!(proxy.said().contains("error=it is one of our own listeners"), "{}\n{}", refused.transcript, proxy.said());
    assert!(!proxy.said().contains("session=2 "), "{}", proxy.said());
}

/// `ftp-alg` on the proxy's machine with a configuration that is there already.
fn ftp_alg(net: &Net, how: &[&str], command: &str) -> Outcome {
    let path = net.scratch().join("proxy.yaml");
    fs::write(&path, PROXY_YAML).unwrap();
    let mut ftp_alg = net.command(Host::Proxy, how.first().copied().unwrap_or(env!("CARGO_BIN_EXE_ftp-alg")));
    ftp_alg.args(how.iter().skip(1));
    ftp_alg.args([command, "--config"]).arg(&path);
    bounded(&ftp_alg, Duration::from_secs(10))
}

#[test]
fn what_is_missing_is_said_before_anybody_is_served() {
    let net = network();
    let well = ftp_alg(&net, &[], "check");
    assert!(well.success && !well.transcript.contains("source: client:"), "{}", well.transcript);
    assert!(well.transcript.contains("the client's own address"), "{}", well.transcript);

    let without = ["setpriv", "--bounding-set=-net_admin,-net_raw", env!("CARGO_BIN_EXE_ftp-alg")];
    let warned = ftp_alg(&net, &without, "check");
    assert!(warned.success && warned.transcript.contains("`run` would not start here"), "{}", warned.transcript);
    let refused = ftp_alg(&net, &without, "run");
    assert!(!refused.success && !refused.timed_out, "{}", refused.transcript);
    assert!(refused.transcript.contains("needs CAP_NET_ADMIN or CAP_NET_RAW"), "{}", refused.transcript);

    ip(&net, Host::Proxy, &["-6", "rule", "del", "fwmark", "1"]);
    let warned = ftp_alg(&net, &[], "check");
    assert!(warned.transcript.contains("deploy/transparent/routes.sh"), "{}", warned.transcript);
    run(net.command(Host::Proxy, "sh").args(["-c", "echo 1 > /proc/sys/net/ipv4/conf/all/src_valid_mark"]));
    let warned = ftp_alg(&net, &[], "check");
    assert!(warned.transcript.contains("src_valid_mark"), "{}", warned.transcript);
}

/// One of the two capabilities is enough, and the smaller one is what the unit has.
#[test]
fn cap_net_raw_is_enough() {
    let net = network();
    let server = Server::start(&net, Kind::Vsftpd);
    let path = net.scratch().join("raw.yaml");
    fs::write(&path, PROXY_YAML).unwrap();
    let mut command = net.command(Host::Proxy, "setpriv");
    command.args(["--bounding-set=-all,+net_raw,+net_bind_service", env!("CARGO_BIN_EXE_ftp-alg"), "run", "--config"]);
    let proxy = Daemon::start(command.arg(&path), net.scratch().join("proxy.log"), 21);
    let cells = [Client::Lftp, Client::Ftplib].map(|client| Cell::plain(client, client.modes()[0]));
    run_cells(&net, &server, &proxy, &cells, 2);
    only_clients_were_seen(&net, &server);
}

/// Where keepalived or the like have let everybody bind any address, a socket still has to be transparent for its
/// answers to be taken in.
#[test]
fn sockets_are_transparent_where_any_address_can_be_bound() {
    let net = network();
    let anybody = "echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind; echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind";
    run(net.command(Host::Proxy, "sh").args(["-c", anybody]));
    let both = "listen=NO\nlisten_ipv6=YES\n";
    let server = Server::start_configured(&net, Kind::Vsftpd, Security::Plain, both, &[]);
    let proxy = proxy::start(&net, Host::Proxy, PROXY_YAML, 21);
    run_cells(&net, &server, &proxy, &SOME_CELLS, 8);
    only_clients_were_seen(&net, &server);
}
