//! What is left of root's privileges with `user`, as the kernel has it, and what still works.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::certificate;
use crate::matrix::{Cell, run_cells};
use crate::net::{Host, Net, PROXY};
use crate::process::{Daemon, Outcome, bounded};
use crate::proxy;
use crate::servers::{Kind, Server};
use crate::{PORT_20_ONLY, SOME_CELLS, clients::Mode};

/// Of Debian, as in [`crate::servers`].
const DAEMON: u32 = 1;

/// `CAP_NET_BIND_SERVICE` and `CAP_NET_ADMIN` (linux/capability.h), as in proc_pid_status(5).
const NET_BIND_SERVICE: &str = "0000000000000400";
const NET_BIND_SERVICE_AND_ADMIN: &str = "0000000000001400";
const NONE: &str = "0000000000000000";

/// With data connections to clients that come from port 20; `more` are further lines of the listener.
fn config(head: &str, more: &str) -> String {
    proxy::listener(head, "20000-20020", &format!("      source_port: 20\n{more}"))
}

/// A line of the status of a thread, in words.
fn status<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key} in\n{text}")).split_whitespace().collect()
}

/// Every thread of the proxy has these capabilities and no others, and is nobody else.
#[track_caller]
fn assert_given_up(proxy: &Daemon, capabilities: &str) {
    let tasks: Vec<_> =
        fs::read_dir(format!("/proc/{}/task", proxy.id())).unwrap().map(|task| task.unwrap().path()).collect();
    assert!(tasks.len() >= 3, "the log and the runtime have threads of their own: {tasks:?}");
    for task in tasks {
        let text = fs::read_to_string(task.join("status")).unwrap();
        for key in ["Uid", "Gid"] {
            assert_eq!(status(&text, key), ["1"; 4], "{key}\n{text}");
        }
        assert_eq!(status(&text, "Groups"), ["1"], "{text}");
        for key in ["CapPrm", "CapEff"] {
            assert_eq!(status(&text, key), [capabilities], "{key}\n{text}");
        }
        for key in ["CapInh", "CapBnd", "CapAmb"] {
            assert_eq!(status(&text, key), [NONE], "{key}\n{text}");
        }
        assert_eq!(status(&text, "NoNewPrivs"), ["1"], "{text}");
    }
    // What is not dumpable belongs to root in /proc (proc_pid(5)).
    assert_eq!(fs::metadata(format!("/proc/{}/environ", proxy.id())).unwrap().uid(), 0);
}

/// Ports 21 and 20 are below 1024 and used after the privileges are gone.
#[test]
fn sec_32_root_becomes_the_user_and_keeps_low_ports_alone() {
    let net = Net::new(PROXY);
    let server = Server::start(&net, Kind::Vsftpd);
    let proxy = proxy::start(&net, Host::Proxy, &config("user: daemon", ""), 21);
    assert_given_up(&proxy, NET_BIND_SERVICE);
    assert!(
        proxy.said().contains("privileges were given up user=daemon capabilities=CAP_NET_BIND_SERVICE"),
        "{}",
        proxy.said()
    );
    net.nft(Host::Client, PORT_20_ONLY);
    let active: Vec<Cell> =
        SOME_CELLS.into_iter().filter(|cell| [Mode::PORT, Mode::EPRT].contains(&cell.mode)).collect();
    run_cells(&net, &server, &proxy, &active, 4);
    assert_given_up(&proxy, NET_BIND_SERVICE);
}

#[test]
fn sec_32_interception_keeps_net_admin_as_well() {
    let net = Net::new(PROXY);
    let config = config("user: daemon", "    upstream_networks: 172.16.0.0/24")
        .replace("upstream: \"172.16.0.20:21\"", "upstream: original-destination");
    let proxy = proxy::start(&net, Host::Proxy, &config, 21);
    assert_given_up(&proxy, NET_BIND_SERVICE_AND_ADMIN);
    assert!(proxy.said().contains("nft REDIRECT or TPROXY leads here"), "{}", proxy.said());
}

#[test]
fn sec_32_root_without_a_user_is_warned_of() {
    let net = Net::new(PROXY);
    let proxy = proxy::start(&net, Host::Proxy, &config("", ""), 21);
    assert!(proxy.said().contains("running as root, which nothing needs; write `user: ftp-alg`"), "{}", proxy.said());
}

/// Runs the program in front of this server until it ends, with this first word.
fn ftp_alg(net: &Net, word: &str, config: &str) -> Outcome {
    let path = net.scratch().join("proxy.yaml");
    fs::write(&path, config).unwrap();
    let mut command = net.command(Host::Proxy, env!("CARGO_BIN_EXE_ftp-alg"));
    bounded(command.args([word, "--config"]).arg(&path), Duration::from_secs(20))
}

/// The user could not read a new key when the certificate is renewed: so it has to read the first one.
#[test]
fn sec_32_files_are_read_as_the_user() {
    let net = Net::new(PROXY);
    let dir = net.scratch().join("files");
    fs::create_dir(&dir).unwrap();
    certificate::write(&dir);
    fs::set_permissions(net.scratch(), fs::Permissions::from_mode(0o755)).unwrap();
    let (key, log) = (dir.join("key.pem"), dir.join("log"));
    let tls = format!(
        "    tls: {{ client: {{ mode: terminate, certificate: {0}/cert.pem, key: {0}/key.pem }} }}",
        dir.display()
    );
    let logged = format!("user: daemon\nlog: {{ transfers: {}/xferlog }}", log.display());
    let refusal = |config: &str, expected: &str| {
        for word in ["run", "check"] {
            let outcome = ftp_alg(&net, word, config);
            assert!(!outcome.success && !outcome.timed_out, "{word}: {}", outcome.transcript);
            assert!(outcome.transcript.contains(expected), "{word}: {}", outcome.transcript);
        }
    };
    let unreadable = format!(
        "cannot read {}: Permission denied (os error 13); let the user that runs ftp-alg read it",
        key.display()
    );
    refusal(&config("user: daemon", &tls), &unreadable);
    chown(&key, Some(DAEMON), Some(DAEMON)).unwrap();
    fs::create_dir(&log).unwrap();
    refusal(
        &config(&logged, &tls),
        "Permission denied (os error 13); make it writable for the user that ftp-alg runs as",
    );
    chown(&log, Some(DAEMON), Some(DAEMON)).unwrap();
    let checked = ftp_alg(&net, "check", &config(&logged, &tls));
    assert!(checked.success, "{}", checked.transcript);
    let _proxy = proxy::start(&net, Host::Proxy, &config(&logged, &tls), 21);
    let file = fs::metadata(log.join("xferlog")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.permissions().mode() & 0o7777), (DAEMON, DAEMON, 0o640));
}

#[test]
fn sec_32_who_cannot_become_the_user_does_not_serve() {
    let net = Net::new(PROXY);
    let missing = ftp_alg(&net, "run", &config("user: nobody-of-this-name", ""));
    assert!(
        missing.transcript.starts_with("user: there is no user `nobody-of-this-name` on this machine; create it"),
        "{}",
        missing.transcript
    );
    // Readable for others, too.
    fs::set_permissions(net.scratch(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = net.scratch().join("proxy.yaml");
    fs::write(&path, config("user: daemon", "").replace(":21\"", ":2121\"")).unwrap();
    let binary = copy_of_binary(net.scratch());
    let as_nobody = |word: &str| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
            .arg(&binary)
            .args([word, "--config"])
            .arg(&path);
        bounded(&command, Duration::from_secs(20))
    };
    let run = as_nobody("run");
    assert!(
        run.transcript.contains("user: only root can become `daemon`; start as root, or remove `user`"),
        "{}",
        run.transcript
    );
    let check = as_nobody("check");
    assert!(
        check.success && check.transcript.contains("warning: checked as the user who runs `check`, not as `daemon`"),
        "{}",
        check.transcript
    );
}

/// Where others may run it.
fn copy_of_binary(dir: &Path) -> std::path::PathBuf {
    let copy = dir.join("ftp-alg");
    fs::copy(env!("CARGO_BIN_EXE_ftp-alg"), &copy).unwrap();
    copy
}
