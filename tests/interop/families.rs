//! Clients and servers of different families, and a proxy with several addresses.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::certificate;
use crate::clients::{Kind as Client, Mode, PYTHON, Step, Task, Tls, Version};
use crate::matrix::{Cell, run_cells};
use crate::net::{Counter, EIP, Host, Net, PROXY};
use crate::process::{Daemon, Outcome, bounded, run};
use crate::proxy;
use crate::servers::{Kind, Security, Server, make_writable_dir, place};

/// For one client's few transfers.
const LIMIT: Duration = Duration::from_secs(40);

/// The server's own IPv6 address, for which it needs a route to nobody but the proxy.
const SERVER_V6: &str = "2001:db8:2::20";

/// Every IPv6 mode of every client.
const IPV6_CELLS: [Cell; 8] = [
    Cell::plain(Client::Lftp, Mode::EPSV6),
    Cell::plain(Client::Lftp, Mode::EPRT6),
    Cell::plain(Client::Curl, Mode::EPSV6),
    Cell::plain(Client::Curl, Mode::EPRT6),
    Cell::plain(Client::Inetutils, Mode::EPSV6),
    Cell::plain(Client::Inetutils, Mode::EPRT6),
    Cell::plain(Client::Ftplib, Mode::EPSV6),
    Cell::plain(Client::Ftplib, Mode::EPRT6),
];

/// Every client over IPv4, passive and active, each of the four verbs.
const IPV4_CELLS: [Cell; 8] = [
    Cell::plain(Client::Lftp, Mode::PASV),
    Cell::plain(Client::Lftp, Mode::PORT),
    Cell::plain(Client::Curl, Mode::EPSV),
    Cell::plain(Client::Curl, Mode::EPRT),
    Cell::plain(Client::Inetutils, Mode::EPSV),
    Cell::plain(Client::Inetutils, Mode::PORT),
    Cell::plain(Client::Ftplib, Mode::PASV),
    Cell::plain(Client::Ftplib, Mode::PORT),
];

/// vsftpd writes every command that it reads into its log.
const SAYS_COMMANDS: &str = "log_ftp_protocol=YES\nxferlog_std_format=NO\n";

/// Those that set up data connections, as vsftpd has logged them.
fn verbs_at(server: &Server) -> Vec<String> {
    let log = server.log();
    let commands = log.lines().filter_map(|line| line.split_once("FTP command: Client ")?.1.split('"').nth(3));
    let mut verbs: Vec<String> = commands
        .filter_map(|command| command.split(' ').next())
        .filter(|verb| ["PASV", "EPSV", "PORT", "EPRT"].contains(verb))
        .map(str::to_owned)
        .collect();
    verbs.sort();
    verbs.dedup();
    verbs
}

/// Those that are due with a `data_mode`, given the two that the server's family knows, in the same order.
fn due(mode: &str, passive: &'static str, active: &'static str) -> Vec<&'static str> {
    let mut verbs = match mode {
        "same" => vec![passive, active],
        "passive" => vec![passive],
        _ => vec![active],
    };
    verbs.sort_unstable();
    verbs
}

#[test]
fn rfc_20_ipv6_clients_of_an_ipv4_only_server() {
    for (kind, mode) in [
        (Kind::Vsftpd, "same"),
        (Kind::Vsftpd, "passive"),
        (Kind::Vsftpd, "active"),
        (Kind::ProFtpd, "active"),
        (Kind::PureFtpd, "passive"),
    ] {
        let net = Net::new(PROXY);
        let more = if kind == Kind::Vsftpd { SAYS_COMMANDS } else { "" };
        let server = Server::start_configured(&net, kind, Security::Plain, more, &[]);
        let proxy = proxy::in_front_of_server(&net, mode);
        run_cells(&net, &server, &proxy, &IPV6_CELLS, 8);
        assert_eq!(net.counted(Counter::DialledByProxy) > 0, mode != "active");
        assert_eq!(net.counted(Counter::DialledByServer) > 0, mode != "passive");
        if kind == Kind::Vsftpd {
            assert_eq!(verbs_at(&server), due(mode, "PASV", "PORT"), "{mode}");
        }
    }
}

/// Gives the server's machine an IPv6 address; the server listens nowhere else.
fn ipv6_only_server(net: &Net, kind: Kind) -> Server {
    let address = format!("{SERVER_V6}/64");
    run(net.command(Host::Server, "ip").args(["addr", "add", &address, "dev", "eth0", "nodad"]));
    let more = match kind {
        Kind::Vsftpd => format!("listen=NO\nlisten_ipv6=YES\nlisten_address6={SERVER_V6}\n{SAYS_COMMANDS}"),
        _ => format!("UseIPv6 on\nDefaultAddress {SERVER_V6}\nSocketBindTight on\n"),
    };
    Server::start_configured(net, kind, Security::Plain, &more, &[])
}

/// In front of it.
fn before_ipv6_server(net: &Net, data_mode: &str, tls: &str) -> Daemon {
    let config = format!(
        r#"
listeners:
  - name: interop
    bind: "172.16.0.10:21"
    upstream: "[{SERVER_V6}]:21"
    client:
      address_map:
        - {{ peers: any, announce: {EIP} }}
      data_ports: 20000-20020
    server:
      data_mode: {data_mode}
    {tls}
"#
    );
    proxy::start(net, Host::Proxy, &config, 21)
}

#[test]
fn rfc_20_ipv4_clients_of_an_ipv6_only_server() {
    for (kind, mode) in
        [(Kind::Vsftpd, "same"), (Kind::Vsftpd, "passive"), (Kind::Vsftpd, "active"), (Kind::ProFtpd, "same")]
    {
        let net = Net::new(PROXY);
        let server = ipv6_only_server(&net, kind);
        let proxy = before_ipv6_server(&net, mode, "");
        run_cells(&net, &server, &proxy, &IPV4_CELLS, 8);
        if kind == Kind::Vsftpd {
            assert_eq!(verbs_at(&server), due(mode, "EPSV", "EPRT"), "{mode}");
        }
    }
}

/// `tls` of a listener that ends it.
fn tls_with_clients(net: &Net) -> String {
    certificate::write(net.scratch());
    let dir = net.scratch().display();
    format!("tls: {{ client: {{ mode: terminate, certificate: {dir}/cert.pem, key: {dir}/key.pem, require: true }} }}")
}

/// curl 7.88 has no TLS in active mode that works.
#[test]
fn rfc_13_tls_that_ends_between_the_families() {
    let tls = Some(Tls { implicit: false, version: Version::V1_3 });
    let net = Net::new(PROXY);
    let server = Server::start(&net, Kind::Vsftpd);
    let config = format!(
        r#"
listeners:
  - name: interop
    bind: "[2001:db8:2::10]:21"
    upstream: "172.16.0.20:21"
    client:
      address_map:
        - {{ peers: any, announce: local }}
      data_ports: 20000-20020
    {}
"#,
        tls_with_clients(&net)
    );
    let proxy = proxy::start(&net, Host::Proxy, &config, 21);
    let cells = [(Client::Lftp, Mode::EPSV6), (Client::Lftp, Mode::EPRT6), (Client::Curl, Mode::EPSV6)];
    run_cells(&net, &server, &proxy, &cells.map(|(client, mode)| Cell { client, mode, tls }), 3);

    let net = Net::new(PROXY);
    let server = ipv6_only_server(&net, Kind::Vsftpd);
    let proxy = before_ipv6_server(&net, "same", &tls_with_clients(&net));
    let cells = [(Client::Ftplib, Mode::PASV), (Client::Ftplib, Mode::PORT), (Client::Curl, Mode::EPSV)];
    run_cells(&net, &server, &proxy, &cells.map(|(client, mode)| Cell { client, mode, tls }), 3);
}

/// A file for clients to fetch, and its content.
fn place_file(server: &Server) -> Vec<u8> {
    make_writable_dir(&server.root().join("dir"));
    let content: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_be_bytes).collect();
    place(&server.root().join("dir/file"), &content);
    content
}

/// curl, which connects to where the 227 says.
fn strict_curl(mut within: Command, server: &Server, address: &str, to: &str) -> Command {
    let (user, password) = server.login();
    let url = format!("ftp://{address}/dir/file");
    within.args(["-v", "-sS", "--disable-epsv", "--no-ftp-skip-pasv-ip", "--max-time", "30", "-o", to]);
    within.args(["--user", &format!("{user}:{password}"), &url]);
    within
}

#[track_caller]
fn fetched(outcome: &Outcome, announced: &str, to: &str, content: &[u8], proxy: &Daemon) {
    let tuple = format!("({},", announced.replace('.', ","));
    let (transcript, said) = (&outcome.transcript, proxy.said());
    assert!(outcome.success && transcript.contains(&tuple), "not by {announced}\n{transcript}\n{said}");
    assert!(fs::read(to).is_ok_and(|file| file == content), "another file\n{transcript}");
}

/// A machine on the inner network of a proxy with two interfaces, removed when dropped.
///
/// ```text
///  Client 203.0.113.2 ── Gateway (EIP) ── 172.16.0.10 Proxy 10.0.0.10 ── Inside 10.0.0.30
/// ```
struct Inside(String);

impl Inside {
    fn new(net: &Net) -> Self {
        let (proxy, inside) = (net.namespace(Host::Proxy), net.namespace(Host::Proxy) + "-inside");
        run(Command::new("ip").args(["netns", "add", &inside]));
        let inside = Self(inside);
        let ip = |namespace: &str, command: &str| {
            run(Command::new("ip").args(["-n", namespace]).args(command.split(' ')));
        };
        ip(&proxy, &format!("link add eth1 type veth peer name eth0 netns {}", inside.0));
        for (namespace, device, address) in [(&proxy, "eth1", "10.0.0.10/24"), (&inside.0, "eth0", "10.0.0.30/24")] {
            ip(namespace, &format!("addr add {address} dev {device}"));
            ip(namespace, &format!("link set {device} up"));
        }
        inside
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // Nothing runs there any more: every program was waited for.
        drop(Command::new("ip").args(["netns", "del", &self.0]).status());
    }
}

#[test]
fn two_networks_at_once() {
    let net = Net::new(PROXY);
    let inside = Inside::new(&net);
    let server = Server::start(&net, Kind::Vsftpd);
    let content = place_file(&server);
    let config = r#"
listeners:
  - name: interop
    bind: "0.0.0.0:21"
    upstream: "172.16.0.20:21"
    client:
      address_map:
        - { peers: 10.0.0.0/8, announce: local }
        - { peers: any, announce: 203.0.113.10 }
      data_ports: 20000-20020
"#;
    let proxy = proxy::start(&net, Host::Proxy, config, 21);
    let scratch = net.scratch().display();
    std::thread::scope(|scope| {
        let (server, content, proxy) = (&server, &content, &proxy);
        for (within, address, to) in [
            (net.command(Host::Client, "curl"), EIP, format!("{scratch}/outside")),
            (inside.command("curl"), "10.0.0.10", format!("{scratch}/inside")),
        ] {
            scope.spawn(move || {
                for _ in 0..3 {
                    let mut again = Command::new(within.get_program());
                    again.args(within.get_args());
                    let outcome = bounded(&strict_curl(again, server, address, &to), LIMIT);
                    fetched(&outcome, address, &to, content, proxy);
                }
            });
        }
    });
}

#[test]
fn two_public_addresses() {
    let net = Net::new(PROXY);
    let (second, local) = ("203.0.113.11", "172.16.0.11");
    run(net.command(Host::Gateway, "ip").args(["addr", "add", "203.0.113.11/24", "dev", "pub"]));
    run(net.command(Host::Proxy, "ip").args(["addr", "add", "172.16.0.11/24", "dev", "eth0"]));
    net.nft(
        Host::Gateway,
        "table ip second_ip {
           chain in { type nat hook prerouting priority dstnat; ip daddr 203.0.113.11 dnat to 172.16.0.11; }
           chain out { type nat hook postrouting priority srcnat; oifname pub ip saddr 172.16.0.11 snat to 203.0.113.11; }
         }",
    );
    let server = Server::start(&net, Kind::Vsftpd);
    let content = place_file(&server);
    let listener = |name: &str, bind: &str, announce: &str| {
        format!(
            r#"
  - name: {name}
    bind: "{bind}:21"
    upstream: "172.16.0.20:21"
    client:
      address_map:
        - {{ peers: any, announce: {announce} }}
      data_ports: 20000-20020
"#
        )
    };
    let config = format!("listeners:{}{}", listener("first", "172.16.0.10", EIP), listener("second", local, second));
    let proxy = proxy::start(&net, Host::Proxy, &config, 21);
    for address in [EIP, second, EIP] {
        let to = format!("{}/file", net.scratch().display());
        let outcome = bounded(&strict_curl(net.command(Host::Client, "curl"), &server, address, &to), LIMIT);
        fetched(&outcome, address, &to, &content, &proxy);
        fs::remove_file(&to).unwrap();
    }
    // In active mode data comes from the address that the client knows: its firewall admits no other.
    for (address, other) in [(EIP, second), (second, EIP)] {
        net.nft(
            Host::Client,
            &format!(
                "table ip firewall {{
                   chain in {{ type filter hook input priority filter; ip saddr {other} drop; }}
                 }}"
            ),
        );
        let (user, password) = server.login();
        let mut curl = net.command(Host::Client, "curl");
        curl.args(["-v", "-sS", "--ftp-port", "-", "--max-time", "30", "-o", "/dev/null", "--user"]);
        curl.args([&format!("{user}:{password}"), &format!("ftp://{address}/dir/file")]);
        let outcome = bounded(&curl, LIMIT);
        assert!(outcome.success, "{address}\n{}\n{}", outcome.transcript, proxy.said());
        net.nft(Host::Client, "delete table ip firewall");
    }
}

/// `0.0.0.0` in a 227: who takes it for the address of the control connection.
#[test]
fn clients_that_know_the_control_address() {
    let net = Net::new(PROXY);
    let server = Server::start(&net, Kind::Vsftpd);
    let content = place_file(&server);
    let config = r#"
listeners:
  - name: interop
    bind: "172.16.0.10:21"
    upstream: "172.16.0.20:21"
    client:
      address_map:
        - { peers: any, announce: control-address }
      data_ports: 20000-20020
"#;
    let proxy = proxy::start(&net, Host::Proxy, config, 21);
    for client in [Client::Lftp, Client::Inetutils] {
        let local = net.scratch().join(format!("{client}"));
        fs::create_dir(&local).unwrap();
        let task = Task {
            client,
            mode: Mode::PASV,
            tls: None,
            login: server.login(),
            remote_dir: "dir",
            local_dir: &local,
            steps: &[Step::Get { remote: b"file", local: b"file" }],
            patience: 5,
        };
        let outcome = task.run(&net, LIMIT);
        let is_there = fs::read(local.join("file")).is_ok_and(|file| file == content);
        let takes_it = client != Client::Inetutils;
        assert_eq!(is_there, takes_it, "{client}\n{}\n{}", outcome.transcript, proxy.said());
    }
    // Here the matrix has it trust the 227; this is how it is by default.
    let (user, password) = server.login();
    let script = "import ftplib, sys\nto, host, *login = sys.argv[1:]\nftp = ftplib.FTP(host, *login, timeout=10)\n\
                  ftp.retrbinary('RETR dir/file', open(to, 'wb').write)";
    let to = net.scratch().join("by-ftplib");
    let mut ftplib = net.command(Host::Client, PYTHON);
    let outcome = bounded(ftplib.args(["-c", script]).arg(&to).args([EIP, user, password]), LIMIT);
    assert!(outcome.success, "{}\n{}", outcome.transcript, proxy.said());
    assert_eq!(fs::read(to).unwrap(), content);
    // As it is by default, and with EPSV, for which nothing changes.
    for (epsv, said) in [(false, "(0,0,0,0,"), (true, "229 Entering Extended Passive Mode (|||")] {
        let to = net.scratch().join("file");
        let mut curl = net.command(Host::Client, "curl");
        curl.args(["-v", "-sS", "--max-time", "30", "--user", &format!("{user}:{password}"), "-o"]).arg(&to);
        if !epsv {
            curl.arg("--disable-epsv");
        }
        let outcome = bounded(curl.arg(format!("ftp://{EIP}/dir/file")), LIMIT);
        assert!(outcome.success && outcome.transcript.contains(said), "{}\n{}", outcome.transcript, proxy.said());
        assert_eq!(fs::read(&to).unwrap(), content);
        fs::remove_file(to).unwrap();
    }
}
