//! Real clients that name the server (`USER user@host`), and that choose it by HOST or by the name in their TLS handshake.

use std::fs;
use std::time::Duration;

use crate::SOME_CELLS;
use crate::clients::{Kind as Client, Mode, Tls, Version};
use crate::matrix::{Cell, run_cells};
use crate::net::{EIP, Host, Net, PROXY};
use crate::process::{Outcome, bounded};
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
