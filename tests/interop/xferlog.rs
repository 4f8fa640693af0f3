//! The transfer log beside that of the server, of the same transfers.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::clients::PYTHON;
use crate::net::{EIP, Host, Net, PROXY};
use crate::process::{Daemon, bounded, run};
use crate::proxy;
use crate::servers::{Kind, Server, make_writable_dir, place, unpacked};

const SCRIPT: &str = include_str!("xferlog.py");

/// Where the client is to those whom it reaches by the public address.
const CLIENT: &str = "203.0.113.2";

/// One line, with its fields.
#[derive(Debug)]
struct Line {
    text: String,
    /// The five of the time, then one by one.
    fields: Vec<String>,
}

impl Line {
    fn parse(line: &[u8]) -> Self {
        let text: String = line.iter().copied().map(char::from).collect();
        let fields: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
        assert_eq!(fields.len(), 18, "{text}");
        Self { text, fields }
    }

    /// 6 is the client, 7 the size, 8 the name, 9 the type, 10 the action, 11 the direction, 12 the access, 13 the user,
    /// 14 the service, 15 and 16 the authentication, 17 the completion. The server's client is the proxy, and vsftpd has
    /// the password of an anonymous user for its name; all others both can know.
    fn field(&self, index: usize) -> &str {
        &self.fields[index]
    }

    /// Names as this server writes them.
    fn as_written_by(&self, kind: Kind, index: usize) -> String {
        let field = self.field(index);
        match (index, kind) {
            (8, Kind::Vsftpd) => field.replace(|letter: char| !letter.is_ascii(), "?"),
            // It has locked the client into this directory, and names the file as those outside see it.
            (8, Kind::ProFtpd) => format!("/srv/root{field}"),
            _ => field.to_owned(),
        }
    }
}

/// The lines of a log, once there are so many.
#[track_caller]
fn lines(path: &Path, count: usize, why: &str) -> Vec<Line> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = fs::read(path).unwrap_or_default();
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        if lines.len() >= count {
            return lines.into_iter().map(Line::parse).collect();
        }
        assert!(Instant::now() < deadline, "{}: {}\n{why}", path.display(), text.escape_ascii());
        sleep(Duration::from_millis(20));
    }
}

fn beside(kind: Kind) {
    let net = Net::new(PROXY);
    let server = Server::start(&net, kind);
    let path = net.scratch().join("xferlog");
    let proxy = logged_to(&net, &path);
    let dir = server.root().join("up");
    make_writable_dir(&dir);
    place(&dir.join("empty"), b"");
    // More than sockets can hold.
    File::create(dir.join("large")).unwrap().set_len(4 << 30).unwrap();
    fs::set_permissions(dir.join("large"), fs::Permissions::from_mode(0o644)).unwrap();
    let (user, password) = server.login();
    let mut command = net.command(Host::Client, PYTHON);
    command.args(["-c", SCRIPT, EIP, user, password]);
    let outcome = bounded(&command, Duration::from_secs(60));
    let said = format!("{}\n{}\n{}", outcome.transcript, server.log(), proxy.said());
    assert!(outcome.success && outcome.transcript.ends_with("done\n"), "{kind}: {said}");
    let (ours, theirs) = (lines(&path, 7, &said), lines(&server.xferlog(), 7, &said));
    // vsftpd has a line for what it refuses, ProFTPD and the proxy have none.
    let theirs: Vec<&Line> = theirs.iter().filter(|line| !line.text.contains("/missing ")).collect();
    let all = |lines: &[&Line]| lines.iter().map(|line| line.text.clone()).collect::<Vec<_>>().join("\n");
    let both = format!("{kind}\n{}\n{}", all(&ours.iter().collect::<Vec<_>>()), all(&theirs));
    assert_eq!((ours.len(), theirs.len()), (7, 7), "{both}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        // How much of a file that was not taken had been sent depends on who is asked. Of text, ProFTPD counts what it has
        // made of it for the file, vsftpd and the proxy what has been sent.
        let same_size = ours.field(17) != "i" && (kind == Kind::Vsftpd || ours.field(9) == "b");
        for i in (8..=12).chain(14..=17).chain(same_size.then_some(7)) {
            assert_eq!(ours.as_written_by(kind, i), theirs.field(i), "{both}");
        }
        assert_eq!((ours.field(6), ours.field(13)), (CLIENT, user), "{both}");
    }
}

/// A proxy with a transfer log at `path`.
fn logged_to(net: &Net, path: &Path) -> Daemon {
    let config = format!(
        r#"
log: {{ transfers: "{}" }}
listeners:
  - bind: "172.16.0.10:21"
    upstream: "172.16.0.20:21"
    client:
      address_map: [{{ peers: any, announce: 203.0.113.10 }}]
      data_ports: 20000-20020
"#,
        path.display()
    );
    proxy::start(net, Host::Proxy, &config, 21)
}

/// With the file of deploy/logrotate: no line is lost, and none is in both files.
#[test]
fn logrotate_loses_no_line() {
    let net = Net::new(PROXY);
    let server = Server::start(&net, Kind::ProFtpd);
    let path = net.scratch().join("log/xferlog");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let proxy = logged_to(&net, &path);
    make_writable_dir(&server.root().join("up"));
    let rules = include_str!("../../deploy/logrotate/ftp-alg")
        .replace("/var/log/ftp-alg/xferlog", &path.display().to_string())
        .replace("systemctl reload ftp-alg.service", &format!("kill -HUP {}", proxy.id()));
    let conf = net.scratch().join("logrotate.conf");
    fs::write(&conf, &rules).unwrap();
    assert!(rules.contains("kill -HUP") && rules.contains(path.to_str().unwrap()));
    let (user, password) = server.login();
    let mut written = 0;
    let mut upload = || {
        written += 1;
        // curl changes the directory first, and names the file within it.
        let url = format!("ftp://{EIP}/up/file-{written}");
        let mut curl = net.command(Host::Client, "curl");
        curl.args([
            "--silent",
            "--show-error",
            "--user",
            &format!("{user}:{password}"),
            "--upload-file",
            "/etc/hostname",
            &url,
        ]);
        run(&mut curl);
    };
    upload();
    lines(&path, 1, "");
    for round in 1..=2 {
        let mut logrotate = Command::new(unpacked("logrotate/usr/sbin/logrotate"));
        run(logrotate.arg("--force").arg("--state").arg(net.scratch().join("state")).arg(&conf));
        let reopened = |said: &str| said.matches("the transfer log was opened anew").count() == round;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !reopened(&proxy.said()) {
            assert!(Instant::now() < deadline, "{}", proxy.said());
            sleep(Duration::from_millis(20));
        }
        upload();
        let new = lines(&path, 1, &proxy.said());
        assert!(new.len() == 1 && new[0].field(8) == format!("file-{}", round + 1), "{new:?}");
    }
    let old = lines(&path.with_extension("1"), 1, "");
    assert!(old.len() == 1 && old[0].field(8) == "file-2", "{old:?}");
    assert!(path.with_extension("2.gz").exists());
}

#[test]
fn the_transfer_log_is_what_vsftpd_writes() {
    beside(Kind::Vsftpd);
}

#[test]
fn the_transfer_log_is_what_proftpd_writes() {
    beside(Kind::ProFtpd);
}
