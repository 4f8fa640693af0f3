//! FileZilla itself, on a screen that nobody sees. Of FTPS it asks more than others: every data connection resumes the
//! session of the control connection and shows its certificate, ALPN is `ftp` on the control connection, a download ends with
//! close_notify.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::clients::PYTHON;
use crate::matrix::difference;
use crate::net::{EIP, Host, Net, PROXY};
use crate::process::{Daemon, Outcome, bounded};
use crate::proxy;
use crate::servers::{Kind, Security, Server, make_writable_dir, place};

/// It is there within a second and done in another; the rest is for a machine with other work.
const LIMIT: Duration = Duration::from_secs(120);

/// A file that it moves.
struct File {
    name: String,
    content: Vec<u8>,
    is_upload: bool,
}

impl File {
    fn new(name: impl Into<String>, length: u32, is_upload: bool) -> Self {
        let content = (0..length).map(|n| (n + length).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        Self { name: name.into(), content, is_upload }
    }
}

struct Scene {
    net: Net,
    server: Server,
    proxy: Daemon,
}

impl Scene {
    fn new(kind: Kind, security: Security, tls: proxy::Tls<'_>) -> Self {
        let net = Net::new(PROXY);
        let server = Server::start_with(&net, kind, security);
        let proxy = proxy::with_tls(&net, tls);
        Self { net, server, proxy }
    }

    /// Moves the files, to and from directories of this name, and looks at what has come of each connection.
    #[track_caller]
    fn moves(&self, how: &str, mode: &str, files: &[File]) {
        let dir = format!("{how}-{mode}");
        let (remote, local) = (self.server.root().join(&dir), self.net.scratch().join(&dir));
        make_writable_dir(&remote);
        fs::create_dir(&local).unwrap();
        for File { name, content, is_upload } in files {
            if *is_upload { fs::write(local.join(name), content).unwrap() } else { place(&remote.join(name), content) }
        }
        let outcome = self.run(&local, how, mode, files.iter().map(|file| step(&dir, file)));

        let mut wrong: Vec<String> = files
            .iter()
            .filter_map(|file| {
                let there = if file.is_upload { &remote } else { &local }.join(&file.name);
                difference(&there, &file.content).map(|difference| format!("{}: {difference}", file.name))
            })
            .collect();
        let said = |what: &str| outcome.transcript.lines().filter(|line| line.starts_with(what)).count();
        let transfers: usize =
            ["STOR ", "RETR ", "LIST", "MLSD"].map(|verb| said(&format!("Command: {verb}"))).iter().sum();
        // It connects again when something fails.
        let (connects, alpn) = (said("Status: Connecting to"), outcome.transcript.matches(", ALPN: ftp\n").count());
        let (tls, resumed) = (said("Trace: Protocol: TLS1.3"), said("Trace: TLS Session resumed"));
        // Files, and listings. ALPN is for the control connection only.
        if transfers <= files.len() || (connects, alpn, tls, resumed) != (1, 1, transfers + 1, transfers) {
            wrong
                .push(format!("{transfers} transfers: {connects} connects, {tls} TLS, {resumed} resumed, {alpn} ALPN"));
        }
        if !outcome.success || !wrong.is_empty() {
            let (transcript, proxy, server) = (&outcome.transcript, self.proxy.said(), self.server.log());
            panic!("{dir}: {wrong:?}\n{transcript}\n=== log of the proxy\n{proxy}\n=== log of the server\n{server}");
        }
    }

    fn run(&self, dir: &Path, how: &str, mode: &str, steps: impl Iterator<Item = [String; 3]>) -> Outcome {
        let (user, password) = self.server.login();
        let port = if how == "implicit" { "990" } else { "21" };
        let mut command = self.net.command(Host::Client, PYTHON);
        command.args(["-c", include_str!("clients/filezilla.py"), EIP, port, how, mode, user, password]);
        command.arg(self.net.scratch().join("cert.pem")).args(steps.flatten()).current_dir(dir);
        bounded(&command, LIMIT)
    }
}

/// What the script is told.
fn step(dir: &str, file: &File) -> [String; 3] {
    [if file.is_upload { "put" } else { "get" }.to_owned(), file.name.clone(), format!("{dir}/{}", file.name)]
}

fn large_and_empty() -> [File; 4] {
    [
        File::new("up", 6_000_001, true),
        File::new("empty-up", 0, true),
        File::new("down", 6_000_002, false),
        File::new("empty-down", 0, false),
    ]
}

#[test]
fn rfc_15_filezilla_finds_the_control_connections_certificate_and_session() {
    let tls = proxy::Tls { client: "require: true, require_reuse: true", server: "" };
    let scene = Scene::new(Kind::Vsftpd, Security::Plain, tls);
    for how in ["explicit", "implicit"] {
        for mode in ["passive", "active"] {
            scene.moves(how, mode, &large_and_empty());
        }
    }
}

#[test]
fn sec_19_filezilla_before_servers_that_require_reuse() {
    for kind in [Kind::Vsftpd, Kind::ProFtpd] {
        let tls = proxy::Tls { client: "require_reuse: true", server: "mode: explicit" };
        let scene = Scene::new(kind, Security::Explicit, tls);
        for mode in ["passive", "active"] {
            scene.moves("explicit", mode, &large_and_empty());
        }
    }
}

/// In one session.
#[test]
fn sec_19_filezilla_fifty_transfers() {
    let tls = proxy::Tls { client: "require_reuse: true", server: "mode: explicit" };
    let scene = Scene::new(Kind::Vsftpd, Security::Explicit, tls);
    let files: Vec<File> = (0..50).map(|n| File::new(format!("file-{n}"), n * 1000, n % 2 == 0)).collect();
    scene.moves("explicit", "passive", &files);
}
