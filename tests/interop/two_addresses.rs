//! A machine with two addresses, of which the routes name another for data than for control.

use crate::clients::{Kind as Client, Mode, Tls, Version};
use crate::matrix::{Cell, run_cells};
use crate::net::{Host, Net, PROXY};
use crate::process::run;
use crate::proxy;
use crate::servers::{Kind, Security, Server};

/// Connects to port 21 come from 172.16.0.11 if nobody binds anything, and all others from 172.16.0.10.
fn give_another_address(net: &Net) {
    for arguments in [
        "addr add 172.16.0.11/24 dev eth0",
        "route add 172.16.0.0/24 dev eth0 src 172.16.0.11 table 100",
        "rule add ipproto tcp dport 21 lookup 100",
    ] {
        run(net.command(Host::Proxy, "ip").args(arguments.split(' ')));
    }
}

/// These servers refuse data connections that come from, or lead to, another address than the control connection.
#[test]
fn sec_15_the_server_sees_one_address() {
    let modes = [Mode::PASV, Mode::PORT];
    for (kind, security) in [
        (Kind::Vsftpd, Security::Plain),
        (Kind::ProFtpd, Security::Plain),
        (Kind::PureFtpd, Security::Plain),
        (Kind::Vsftpd, Security::Explicit),
    ] {
        let net = Net::new(PROXY);
        give_another_address(&net);
        let server = Server::start_with(&net, kind, security);
        let (proxy, tls) = match security {
            Security::Plain => (proxy::in_front_of_server(&net, "same"), None),
            _ => {
                let tls = proxy::Tls { client: "", server: "mode: explicit" };
                (proxy::with_tls(&net, tls), Some(Tls { implicit: false, version: Version::V1_3 }))
            }
        };
        let cells = modes.map(|mode| Cell { client: Client::Ftplib, mode, tls });
        run_cells(&net, &server, &proxy, &cells, 2);
        if kind == Kind::Vsftpd {
            assert!(server.log().contains("CONNECT: Client \"172.16.0.11\""), "{}", server.log());
        }
    }
}
