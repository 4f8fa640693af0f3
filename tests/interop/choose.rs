//! Real clients that name the server (`USER user@host`), and that choose it by HOST or by the name in their TLS handshake.

use std::fs;
use std::time::Duration;

use crate::SOME_CELLS;
use crate::clients::{Kind as Client, Mode, PYTHON, Tls, Version};
use crate::matrix::{Cell, run_cells};
use crate::net::{EIP, Host, Net, PROXY};
use crate::process::{Daemon, Outcome, bounded};
use crate::proxy;
use crate::servers::{Kind, Security, Server, make_writable_dir, place};

/// What goes through the proxy and back, with the proxy's setting of each client.
#[test]
fn named_by_users() {
    for kind in [Kind::Vsftpd, Kind::ProFtpd, Kind::PureFtpd] {
        let net = Net::new(PROXY);
        let server = Server::start(&net, kind).named_by_users();
        let proxy = proxy::named_by_users(&net, "");
        run_cells(&net, &server, &proxy, &SOME_CELLS, 8);
    }
}

#[test]
fn named_by_users_within_tls_to_a_server_with_tls() {
    let net = Net::new(PROXY);
    let server = Server::start_with(&net, Kind::Vsftpd, Security::Explicit).named_by_users();
    // The certificate names the host that users write.
    let tls = "client: { mode: terminate, certificate: %/cert.pem, key: %/key.pem, require: true }, \
               server: { mode: explicit, verify: %/cert.pem, name: ftp.example }";
    let proxy = proxy::named_by_users(&net, tls);
    let cell = |client, mode| Cell { client, mode, tls: Some(Tls { implicit: false, version: Version::V1_3 }) };
    let cells = [
        cell(Client::Lftp, Mode::PASV),
        cell(Client::Curl, Mode::EPSV),
        cell(Client::Ftplib, Mode::PASV),
        cell(Client::Ftplib, Mode::PORT),
    ];
    run_cells(&net, &server, &proxy, &cells, 4);
}

fn lftp(net: &Net, script: &str) -> Outcome {
    let mut command = net.command(Host::Client, "lftp");
    command.args(["--norc", "-c", script]).current_dir(net.scratch());
    bounded(&command, Duration::from_secs(30))
}

/// lftp's own setting for a proxy: the URL names the server, which the client itself cannot reach.
#[test]
fn lftp_has_a_proxy() {
    let net = Net::new(PROXY);
    let server = Server::start(&net, Kind::Vsftpd);
    let proxy = proxy::named_by_users(&net, "");
    let dir = server.root().join("dir");
    make_writable_dir(&dir);
    place(&dir.join("file"), b"content");
    let settings =
        format!("set ftp:proxy ftp://{EIP}; set net:max-retries 1; set net:timeout 10; set ftp:ssl-allow no;");
    let got = lftp(&net, &format!("{settings} open -u anonymous,x ftp://172.16.0.20; get dir/file; bye"));
    assert!(got.success, "{}\n{}", got.transcript, proxy.said());
    assert_eq!(fs::read(net.scratch().join("file")).unwrap(), b"content");
    // Not in `upstream_networks`.
    let refused = lftp(&net, &format!("{settings} debug 9; open -u anonymous,x ftp://172.16.1.20; ls; bye"));
    assert!(
        !refused.success && refused.transcript.contains("530 This server may not be reached"),
        "{}",
        refused.transcript
    );
}

/// Two servers behind one address; one of them knows neither HOST nor TLS.
#[test]
fn rfc_16_hosts_by_command_and_by_handshake() {
    let net = Net::new(PROXY);
    let server = Server::start(&net, Kind::Vsftpd);
    place(&server.root().join("which"), b"the first");
    let second = net.scratch().join("second");
    fs::create_dir(&second).unwrap();
    fs::write(second.join("which"), b"the second").unwrap();
    let mut command = net.command(Host::Server, PYTHON);
    command.args(["-c", include_str!("servers/second.py")]).arg(&second);
    let _second = Daemon::start(&mut command, net.scratch().join("second.log"), 2121);
    let proxy = proxy::with_hosts(&net);
    let ask = |name: &str, way: &str| {
        let mut command = net.command(Host::Client, PYTHON);
        command.args(["-c", include_str!("hosts.py"), EIP, name, way]);
        let outcome = bounded(&command, Duration::from_secs(30));
        assert!(outcome.success, "{name} {way}: {}\n{}", outcome.transcript, proxy.said());
        outcome.transcript
    };
    let by_host = ask("second.example", "host");
    assert!(by_host.starts_with("220 (vsFTPd"), "{by_host}");
    assert!(by_host.contains("\n220 the second\n") && by_host.contains("\n HOST\n"), "{by_host}");
    assert_eq!(by_host.matches("which: the second").count(), 2, "{by_host}");
    let by_name = ask("second.example", "sni");
    assert_eq!(by_name.matches("which: the second").count(), 2, "{by_name}");
    assert!(by_name.contains("504 HOST differs"), "{by_name}");
    // A name that is not mapped.
    assert_eq!(ask("first.example", "sni").matches("which: the first").count(), 2);
}

/// Another TLS library's client.
#[test]
fn rfc_16_openssl_says_the_name() {
    let net = Net::new(PROXY);
    let _server = Server::start(&net, Kind::Vsftpd);
    let second = net.scratch().join("second");
    fs::create_dir(&second).unwrap();
    let mut command = net.command(Host::Server, PYTHON);
    command.args(["-c", include_str!("servers/second.py")]).arg(&second);
    let _second = Daemon::start(&mut command, net.scratch().join("second.log"), 2121);
    let proxy = proxy::with_hosts(&net);
    // pyftpdlib's words for a user.
    let script = "(sleep 1; printf 'USER anonymous\\r\\n'; sleep 1; printf 'QUIT\\r\\n'; sleep 1) | \
                  openssl s_client -quiet -starttls ftp -connect 203.0.113.10:21 -servername second.example 2>&1";
    let outcome = bounded(net.command(Host::Client, "sh").args(["-c", script]), Duration::from_secs(20));
    assert!(outcome.transcript.contains("331 Username ok"), "{}\n{}", outcome.transcript, proxy.said());
}
