//! Two real servers for the same files, one of which is stopped and started again.

use std::path::Path;
use std::time::Duration;

use crate::clients::PYTHON;
use crate::net::{EIP, Host, Net, PROXY};
use crate::process::bounded;
use crate::proxy;
use crate::servers::{Kind, Server, place, standby};

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
    proxy.says("the FTP server is down", 1);
    served_by("vsftpd");
    let first = Server::start(&net, Kind::ProFtpd);
    which(&first.root(), "ProFTPD");
    proxy.says("the FTP server is up again", 1);
    served_by("ProFTPD");
    // Checks have come by all the while; none was anything but an orderly visit.
    let log = first.log();
    assert!(!log.contains("reset") && !log.contains("Login timeout"), "{log}");
    assert_eq!(proxy.said().matches("the FTP server is down").count(), 1, "{}", proxy.said());
}
