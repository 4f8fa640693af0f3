//! Real clients and a real server, while the configuration changes under them.

use std::fs;
use std::thread;

use crate::interrupted::{assert_done, run_script};
use crate::net::{Host, Net, PROXY};
use crate::process::Daemon;
use crate::proxy;
use crate::servers::{Kind, Server, make_writable_dir};

/// Ports and limits change, the port of the control connection stays.
fn config(data_ports: &str, sessions: u32) -> String {
    proxy::listener("", data_ports, &format!("    limits: {{ sessions: {sessions} }}"))
}

#[track_caller]
fn reload(net: &Net, proxy: &Daemon, config: &str, says: &str) {
    let before = proxy.said().matches(says).count();
    fs::write(net.scratch().join("proxy.yaml"), config).unwrap();
    proxy.hang_up();
    proxy.says(says, before + 1);
}

/// Every reload takes away the ports that sessions have been told of, and every third one is refused.
#[test]
fn rel_14_no_transfer_fails_while_the_configuration_changes() {
    for kind in [Kind::Vsftpd, Kind::ProFtpd] {
        let net = Net::new(PROXY);
        let server = Server::start(&net, kind);
        let proxy = proxy::start(&net, Host::Proxy, &config("20000-20009", 100), 21);
        make_writable_dir(&server.root().join("many"));
        thread::scope(|scope| {
            let operator = scope.spawn(|| {
                for _ in 0..5 {
                    reload(&net, &proxy, &config("20010-20020", 101), "reloaded: new sessions");
                    reload(&net, &proxy, &config("20010-20009", 100), "reload refused, nothing has changed");
                    reload(&net, &proxy, &config("20000-20009", 100), "reloaded: new sessions");
                }
            });
            while !operator.is_finished() {
                assert_done(&run_script(&net, &server, include_str!("many.py"), &[]), &server, &proxy);
            }
            operator.join().unwrap();
        });
        assert_eq!(fs::read_dir(server.root().join("many")).unwrap().count(), 48, "three files of each session");
    }
}
