//! Two real servers for the same files, one of which is stopped and started again.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::clients::PYTHON;
use crate::net::{EIP, Host, Net, PROXY};
use crate::process::{Daemon, bounded};
use crate::proxy;
use crate::servers::{Kind, Server, place, standby};

/// Waits until the log says it so many times.
fn says(proxy: &Daemon, text: &str, times: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while proxy.said().matches(text).count() < times {
        assert!(Instant::now() < deadline, "never {text:?} {times} times:\n{}", proxy.said());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn rel_10_clients_are_served_by_the_other_server_while_one_is_down() {
    let net = Net::new(PROXY);
    let which = |root: &Path, name: &str| place(&root.join("which"), name.as_bytes());
    let first = Server::start(&net, Kind::ProFtpd);
    which(&first.root(), "ProFTPD");
    let second = net.scratch().join("second");
    let _second = standby(&net, &second);
    which(&second.join("root"), "vsftpd");
    let proxy = proxy::with_two_servers(&net);
    let served_by = |name: &str| {
        let mut command = net.command(Host::Client, PYTHON);
        command.args(["-c", include_str!("which.py"), &EIP.to_string()]);
        let outcome = bounded(&command, Duration::from_secs(60));
        let expected = format!("passive: {name}\nactive: {name}\n");
        assert!(outcome.transcript.contains(&expected), "{}\n{}", outcome.transcript, proxy.said());
    };
    served_by("ProFTPD");
    drop(first);
    // Before anybody has noticed, and after.
    served_by("vsftpd");
    says(&proxy, "the FTP server is down", 1);
    served_by("vsftpd");
    let first = Server::start(&net, Kind::ProFtpd);
    which(&first.root(), "ProFTPD");
    says(&proxy, "the FTP server is up again", 1);
    served_by("ProFTPD");
    // Checks have come by all the while; none was anything but an orderly visit.
    let log = first.log();
    assert!(!log.contains("reset") && !log.contains("Login timeout"), "{log}");
    assert_eq!(proxy.said().matches("the FTP server is down").count(), 1, "{}", proxy.said());
}
