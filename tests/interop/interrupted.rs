//! Transfers that do not go to their end, and several at once.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::clients::PYTHON;
use crate::matrix::difference;
use crate::net::{Counter, EIP, Host, Net, PROXY};
use crate::process::{Daemon, Outcome, bounded};
use crate::proxy;
use crate::servers::{Kind, Server, make_writable_dir};

/// Runs one of the Python scripts of this directory as a client of the server.
pub fn run_script(net: &Net, server: &Server, script: &str, arguments: &[&str]) -> Outcome {
    let (user, password) = server.login();
    let mut command = net.command(Host::Client, PYTHON);
    command.args(["-c", script, EIP, user, password]).args(arguments);
    bounded(&command, Duration::from_secs(60))
}

#[track_caller]
pub fn assert_done(outcome: &Outcome, server: &Server, proxy: &Daemon) {
    let success = outcome.success && outcome.transcript.trim_end().ends_with("done");
    assert!(success, "{}:\n{}\n--- {}\n--- {}", server.kind, outcome.transcript, server.log(), proxy.said());
}

fn make_sparse(path: &Path, size: u64) {
    File::create(path).unwrap().set_len(size).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

/// The directory in which transfers are aborted.
fn prepare_abort(server: &Server) {
    let dir = server.root().join("abort");
    make_writable_dir(&dir);
    // More than sockets can hold, so that the transfer still runs when ABOR comes.
    make_sparse(&dir.join("big"), 4 << 30);
    fs::write(dir.join("small"), b"small").unwrap();
}

#[test]
fn abor_with_urgent_data_ends_the_transfer_and_not_the_session() {
    for (kind, mode) in [
        (Kind::Vsftpd, "passive"),
        (Kind::Vsftpd, "active"),
        // Does not read urgent data inline.
        (Kind::ProFtpd, "passive"),
        (Kind::ProFtpd, "active"),
    ] {
        let net = Net::new(PROXY);
        let server = Server::start(&net, kind);
        let proxy = proxy::in_front_of_server(&net, "same");
        prepare_abort(&server);
        assert_done(&run_script(&net, &server, include_str!("abort.py"), &[mode]), &server, &proxy);
        let log = server.log();
        let logged = log.contains("FAIL DOWNLOAD") && log.contains("FAIL UPLOAD");
        assert!(kind != Kind::Vsftpd || logged, "{mode}: vsftpd was not aborted:\n{log}");
    }
}

/// Ctrl-C in the classic `ftp`. (ProFTPD does not answer its ABOR without a proxy either.)
#[test]
fn interrupt_in_inetutils_ftp_aborts_the_download() {
    for kind in [Kind::Vsftpd, Kind::PureFtpd] {
        let net = Net::new(PROXY);
        let server = Server::start(&net, kind);
        let proxy = proxy::in_front_of_server(&net, "same");
        prepare_abort(&server);
        let (user, password) = server.login();
        let script = format!("user {user} {password}\nbinary\nget abort/big /dev/null\nget abort/small small\nquit\n");
        // `timeout` is the Ctrl-C, after a second.
        let bash = r#"printf %s "$1" | timeout --signal=INT --kill-after=10 1 inetutils-ftp -nivdp "$2""#;
        let mut ftp = net.command(Host::Client, "bash");
        ftp.args(["-c", bash, "bash", &script, EIP]).current_dir(net.scratch());
        let outcome = bounded(&ftp, Duration::from_secs(20));
        let transcript = format!("{kind}: {}\n{}\n{}", outcome.transcript, server.log(), proxy.said());
        assert!(outcome.transcript.contains("receive aborted"), "no interrupt: {transcript}");
        assert_eq!(difference(&net.scratch().join("small"), b"small"), None, "the next download: {transcript}");
    }
}

#[test]
fn many_sessions_of_one_client_at_once() {
    for kind in [Kind::Vsftpd, Kind::ProFtpd] {
        let net = Net::new(PROXY);
        let server = Server::start(&net, kind);
        let proxy = proxy::in_front_of_server(&net, "same");
        make_writable_dir(&server.root().join("many"));
        assert_done(&run_script(&net, &server, include_str!("many.py"), &[]), &server, &proxy);
        // The script has compared contents; this only shows that they were really there.
        assert_eq!(fs::read_dir(server.root().join("many")).unwrap().count(), 48);
    }
}

/// Fifty seconds at the rate at which it is sent.
const UPLOAD: u64 = 1 << 30;

#[test]
fn a_killed_proxy_leaves_a_failed_upload_behind() {
    let net = Net::new(PROXY);
    let server = Server::start(&net, Kind::Vsftpd);
    let mut proxy = proxy::in_front_of_server(&net, "same");
    let dir = server.root().join("killed");
    make_writable_dir(&dir);
    let source = net.scratch().join("source");
    make_sparse(&source, UPLOAD);
    let (user, password) = server.login();
    let mut command = net.command(Host::Client, "curl");
    command.args(["-sS", "--limit-rate", "20M", "--user", &format!("{user}:{password}"), "-T"]).arg(&source);
    let mut curl = command.arg(format!("ftp://{EIP}/killed/upload")).spawn().unwrap();
    wait_for("the upload to start", || fs::metadata(dir.join("upload")).is_ok_and(|file| file.len() > 1 << 20));

    proxy.kill();
    wait_for("vsftpd to end the session", || net.processes(Host::Server) == 1);
    // It logs a FAIL UPLOAD if its own 426 finds the control connection not reset yet, and nothing otherwise.
    let log = server.log();
    assert!(!log.contains("OK UPLOAD"), "{log}");
    assert!(fs::metadata(dir.join("upload")).unwrap().len() < UPLOAD);
    assert!(net.counted(Counter::Resets) > 0, "the server saw no reset");
    assert_eq!(net.counted(Counter::Fins), 0, "the server saw an orderly end");
    assert!(!curl.wait().unwrap().success(), "curl believes that it has uploaded the file");
}

#[track_caller]
fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(20));
    }
}
