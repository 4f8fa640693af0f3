//! Real clients and a real server, while the configuration changes under them.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::interrupted::{assert_done, run_script};
use crate::net::{Host, Net, PROXY};
use crate::process::Daemon;
use crate::proxy;
use crate::servers::{Kind, Server, make_writable_dir};

/// Ports and limits change, the port of the control connection stays.
fn config(data_ports: &str, sessions: u32) -> String {
    format!(
        r#"
listeners:
  - name: interop
    bind: ["172.16.0.10:21", "[2001:db8:2::10]:21"]
    upstream: "172.16.0.20:21"
    client:
      address_map: [{{ peers: any, announce: 203.0.113.10 }}]
      data_ports: {data_ports}
    limits: {{ sessions: {sessions} }}
"#
    )
}

#[track_caller]
fn reload(net: &Net, proxy: &Daemon, config: &str, says: &str) {
    let before = proxy.said().matches(says).count();
    fs::write(net.scratch().join("proxy.yaml"), config).unwrap();
    let pid = Pid::from_raw(proxy.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while proxy.said().matches(says).count() == before {
        assert!(Instant::now() < deadline, "never {says:?} again:\n{}", proxy.said());
        thread::sleep(Duration::from_millis(10));
    }
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
