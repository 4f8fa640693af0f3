//! TLS between client and server, passed through: what works then, and what only the two ends can mend.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::net::{Counter, EIP, Host, Net, PROXY, PROXY_V6};
use crate::process::{Outcome, bounded, run};
use crate::proxy;
use crate::servers::{Kind, Security, Server, make_writable_dir, place};

/// TLS for anonymous users, required; data connections have to resume the session of the control connection, as vsftpd
/// ships. The passive range is that of `passthrough_ports`.
const TLS: &str = "
ssl_enable=YES
ssl_ciphers=HIGH
allow_anon_ssl=YES
force_anon_logins_ssl=YES
force_anon_data_ssl=YES
require_ssl_reuse=YES
rsa_cert_file=/srv/server.pem
rsa_private_key_file=/srv/server.key
pasv_min_port=20011
pasv_max_port=20020
";

/// Bytes that no text mode leaves alone, more than one TLS record of them.
fn content() -> Vec<u8> {
    (0..300_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

/// A network with the server, TLS and all; `more` are lines of its configuration.
fn scene(more: &str) -> (Net, Server) {
    let net = Net::new(PROXY);
    let made = rcgen::generate_simple_self_signed([EIP.to_owned()]).unwrap();
    let server = Server::start_configured(
        &net,
        Kind::Vsftpd,
        Security::Plain,
        &format!("{TLS}{more}"),
        &[("server.pem", &made.cert.pem()), ("server.key", &made.signing_key.serialize_pem())],
    );
    (net, server)
}

fn curl(net: &Net, arguments: &[&str]) -> Outcome {
    let mut command: Command = net.command(Host::Client, "curl");
    command.args(["-v", "-sS", "--ssl-reqd", "--insecure", "--connect-timeout", "3", "--user", "anonymous:x"]);
    command.args(arguments).current_dir(net.scratch());
    bounded(&command, Duration::from_secs(20))
}

/// Uploads and downloads with these options.
#[track_caller]
fn both_ways(net: &Net, server: &Server, dir: &str, options: &[&str]) {
    both_ways_at(EIP, net, server, dir, options);
}

/// The same through another address.
#[track_caller]
fn both_ways_at(host: &str, net: &Net, server: &Server, dir: &str, options: &[&str]) {
    let remote = server.root().join(dir);
    make_writable_dir(&remote);
    fs::write(net.scratch().join("up"), content()).unwrap();
    let url = format!("ftp://{host}/{dir}/up");
    // Under TLS 1.3 this curl loses the end of some uploads by itself, with no proxy in between, too: it closes with the
    // server's tickets unread, and its kernel then drops what it has not sent.
    let up = curl(net, &[options, &["--tls-max", "1.2", "-T", "up", &url]].concat());
    assert!(up.success, "{dir}: {}\n{}", up.transcript, server.log());
    assert!(fs::read(remote.join("up")).unwrap() == content(), "{dir}: another file arrived");
    place(&remote.join("down"), &content());
    let down = curl(net, &[options, &["-o", "down", &url.replace("/up", "/down")]].concat());
    assert!(down.success, "{dir}: {}\n{}", down.transcript, server.log());
    assert!(fs::read(net.scratch().join("down")).unwrap() == content(), "{dir}: another file arrived");
}

#[test]
fn tls_passed_through() {
    let (net, server) = scene("");
    let proxy = proxy::passing_through(&net);
    both_ways(&net, &server, "epsv", &[]);
    // Takes the address of the control connection in place of the one in 227.
    both_ways(&net, &server, "pasv", &["--disable-epsv", "--ftp-skip-pasv-ip"]);
    assert_eq!(net.counted(Counter::DialledByProxy), 4, "{}", proxy.said());
    lftp(EIP, &net, &server);

    // The README says so: nobody but the two ends can change an encrypted 227.
    let believes = ["--disable-epsv", "--no-ftp-skip-pasv-ip"];
    let url = format!("ftp://{EIP}/epsv/down");
    let lost = curl(&net, &[&believes[..], &["-o", "lost", &url]].concat());
    assert!(!lost.success && lost.transcript.contains("172.16.0.20"), "{}", lost.transcript);
}

#[test]
fn tls_passed_through_from_a_server_that_announces_the_public_address() {
    let (net, server) = scene("pasv_address=203.0.113.10\n");
    let _proxy = proxy::passing_through(&net);
    both_ways(&net, &server, "pasv", &["--disable-epsv", "--no-ftp-skip-pasv-ip"]);
}

/// EPSV is all that there is with IPv6, and names no address: nothing has to be changed.
#[test]
fn rfc_22_tls_passed_through_over_ipv6() {
    let (net, server) = scene("listen=NO\nlisten_ipv6=YES\n");
    run(net.command(Host::Server, "ip").args(["addr", "add", "2001:db8:2::20/64", "dev", "eth0", "nodad"]));
    let proxy = proxy::passing_through_ipv6(&net);
    let host = format!("[{PROXY_V6}]");
    both_ways_at(&host, &net, &server, "curl", &[]);
    lftp(&host, &net, &server);
    assert_eq!(net.counted(Counter::DialledByProxy), 4, "{}", proxy.said());
    assert_eq!(proxy.said().matches("transfer passed through").count(), 4, "{}", proxy.said());
    // And only from the proxy's address: whose it is has to be what it compares with that of the control connection.
    let clients: Vec<String> =
        server.log().lines().filter(|line| line.contains("CONNECT: Client")).map(str::to_owned).collect();
    assert!(
        !clients.is_empty() && clients.iter().all(|line| line.ends_with(&format!("\"{PROXY_V6}\""))),
        "{clients:?}"
    );
}

/// lftp puts the address of the control connection in place of a private one by itself (`ftp:fix-pasv-address`).
fn lftp(host: &str, net: &Net, server: &Server) {
    let dir = server.root().join("lftp");
    make_writable_dir(&dir);
    let script = format!(
        "set ftp:ssl-force true; set ftp:ssl-protect-data true; set ssl:verify-certificate no; set net:max-retries 1; \
         set ssl:priority NORMAL:-VERS-TLS1.3; \
         set net:timeout 5; open -u anonymous,x ftp://{host}; put up -o lftp/up; get lftp/up -o again; bye"
    );
    run(net.command(Host::Client, "lftp").args(["-c", &script]).current_dir(net.scratch()));
    assert!(fs::read(net.scratch().join("again")).unwrap() == content());
}
