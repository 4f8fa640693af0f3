//! With `landlock: true` real clients and servers see no difference, and the kernel one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::certificate;
use crate::matrix::run_cells;
use crate::net::{EIP, Host, Net, PROXY};
use crate::process::{Daemon, bounded, run};
use crate::proxy;
use crate::servers::{Kind, Server, place};
use crate::{PORT_20_ONLY, SOME_CELLS};

/// Of Debian, as in [`crate::servers`].
const DAEMON: u32 = 1;

/// A proxy that has become the user `daemon`, with a directory for each kind of file.
struct Scene {
    net: Net,
    proxy: Daemon,
    said: usize,
}

impl Scene {
    fn start() -> Self {
        let net = Net::new(PROXY);
        net.nft(Host::Client, PORT_20_ONLY);
        // Readable for the user; what is not is not Landlock's doing.
        fs::set_permissions(net.scratch(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["conf", "certs", "log", "run", "else"] {
            let dir = net.scratch().join(name);
            fs::create_dir(&dir).unwrap();
            chown(&dir, Some(DAEMON), Some(DAEMON)).unwrap();
        }
        write_certificate(&net.scratch().join("certs"), certificate::write);
        let path = net.scratch().join("conf/proxy.yaml");
        fs::write(&path, config(net.scratch())).unwrap();
        let mut command = net.command(Host::Proxy, env!("CARGO_BIN_EXE_ftp-alg"));
        command.args(["run", "--config"]).arg(&path).arg("--control").arg(net.scratch().join("run/control.sock"));
        let proxy = Daemon::start(&mut command, net.scratch().join("proxy.log"), 21);
        Self { net, proxy, said: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.net.scratch().join(name)
    }

    /// What it has said since the last time, once this is part of it.
    #[track_caller]
    fn says(&mut self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let said = self.proxy.said().split_off(self.said);
            if said.contains(text) {
                self.said += said.len();
                return said;
            }
            assert!(Instant::now() < deadline, "it never says {text:?}:\n{}", self.proxy.said());
            sleep(Duration::from_millis(20));
        }
    }

    /// Has it read its configuration again, by a command: whether it did, and the answer.
    fn reload(&self, config: &str) -> (bool, String) {
        fs::write(self.path("conf/proxy.yaml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftp-alg"));
        command.args(["reload", "--control"]).arg(self.path("run/control.sock"));
        let outcome = bounded(&command, Duration::from_secs(20));
        (outcome.success, outcome.transcript)
    }

    /// The certificate that clients are shown.
    fn shown(&self) -> String {
        let mut openssl = self.net.command(Host::Client, "openssl");
        openssl.args(["s_client", "-connect", &format!("{EIP}:21"), "-starttls", "ftp"]);
        let transcript = bounded(&openssl, Duration::from_secs(10)).transcript;
        let start = transcript.find("-----BEGIN CERTIFICATE").unwrap_or_else(|| panic!("{transcript}"));
        transcript[start..].lines().take_while(|line| !line.starts_with("-----END")).collect()
    }

    /// A client gets a file in either mode.
    #[track_caller]
    fn downloads(&self, server: &Server) {
        place(&server.root().join("file"), b"content");
        let (user, password) = server.login();
        for mode in [&["--ftp-pasv"][..], &["--ftp-port", "-"]] {
            let mut curl = self.net.command(Host::Client, "curl");
            curl.args(["-sS", "--max-time", "20", "--user", &format!("{user}:{password}")]).args(mode);
            assert_eq!(run(curl.arg(format!("ftp://{EIP}/file"))), "content", "{mode:?}");
        }
    }

    /// A log gets so many lines.
    #[track_caller]
    fn logs_transfers(&self, name: &str, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.log_lines(name) < count {
            assert!(Instant::now() < deadline, "{} lines in {name}:\n{}", self.log_lines(name), self.proxy.said());
            sleep(Duration::from_millis(20));
        }
    }

    fn log_lines(&self, name: &str) -> usize {
        fs::read(self.path(name)).unwrap_or_default().split_inclusive(|byte| *byte == b'\n').count()
    }
}

fn config(dir: &Path) -> String {
    let dir = dir.display();
    let head = format!(
        "user: daemon\nlandlock: true\nlog: {{ transfers: {dir}/log/xferlog }}\nadmin: {{ bind: \"127.0.0.1:9121\" }}"
    );
    let tls = format!("{{ mode: terminate, certificate: {dir}/certs/cert.pem, key: {dir}/certs/key.pem }}");
    proxy::listener(&head, "20000-20020", &format!("      source_port: 20\n    tls: {{ client: {tls} }}"))
}

/// For the user to read.
fn write_certificate(dir: &Path, write: fn(&Path)) {
    write(dir);
    for name in ["cert.pem", "key.pem"] {
        chown(dir.join(name), Some(DAEMON), Some(DAEMON)).unwrap();
    }
}

/// Either mode, from port 20; the log renamed and made anew, a certificate renewed.
#[test]
fn sec_34_real_clients_are_served_logged_and_shown_a_renewed_certificate() {
    for kind in [Kind::Vsftpd, Kind::ProFtpd] {
        let mut scene = Scene::start();
        let server = Server::start(&scene.net, kind);
        scene.says("Landlock: the process is held to its ports and files version=");
        assert!(!scene.proxy.said().contains("landlock: "), "the kernel can do all of it: {}", scene.proxy.said());
        run_cells(&scene.net, &server, &scene.proxy, &SOME_CELLS, 8);
        scene.logs_transfers("log/xferlog", SOME_CELLS.len());

        let before = scene.shown();
        fs::rename(scene.path("log/xferlog"), scene.path("log/xferlog.1")).unwrap();
        write_certificate(&scene.path("certs"), certificate::write_another);
        scene.proxy.hang_up();
        scene.says("the transfer log was opened anew");
        assert_ne!(scene.shown(), before);
        let written = scene.log_lines("log/xferlog.1");
        scene.downloads(&server);
        scene.logs_transfers("log/xferlog", 2);
        assert_eq!(scene.log_lines("log/xferlog.1"), written);
        assert_eq!(fs::metadata(scene.path("log/xferlog")).unwrap().uid(), DAEMON);
        let metrics = run(scene.net.command(Host::Proxy, "curl").args(["-sS", "http://127.0.0.1:9121/metrics"]));
        assert!(metrics.contains("process_open_fds"), "{metrics}");
    }
}

#[test]
fn sec_34_a_reload_beyond_it_is_refused_with_every_reason_and_one_within_it_is_not() {
    let mut scene = Scene::start();
    let server = Server::start(&scene.net, Kind::Vsftpd);
    let (good, dir) = (config(scene.net.scratch()), scene.net.scratch().display().to_string());
    let wider = good
        .replace("20000-20020", "20000-20030")
        .replace(":21\", \"[", ":2121\", \"[")
        .replace("172.16.0.20:21", "172.16.0.20:990")
        .replace("log/xferlog", "else/xferlog")
        .replace("certs/key.pem", "else/key.pem");
    let (done, said) = scene.reload(&wider);
    assert!(!done);
    for (key, what) in [
        ("bind", "2121"),
        ("client.data_ports", "20000-20030"),
        ("upstream", "990"),
        ("tls.client.key", &*format!("{dir}/else/key.pem")),
    ] {
        let reason = format!("listener `interop`: {key}: {what} is not within the ");
        assert!(said.contains(&reason), "{reason} in\n{said}");
    }
    assert!(said.contains(&format!("log.transfers: {dir}/else/xferlog is not within the ")), "{said}");
    assert_eq!(said.matches("at the start, and Landlock permits no others; restart the process").count(), 5, "{said}");
    let (done, said) = scene.reload(&good.replace("landlock: true", "landlock: false"));
    assert!(!done && said.contains("landlock: it is settled at the start"), "{said}");

    let narrower = good.replace("20000-20020", "20000-20010").replace("log/xferlog", "log/other");
    assert_eq!(scene.reload(&narrower), (true, String::new()));
    scene.downloads(&server);
    scene.logs_transfers("log/other", 2);

    // What ftp-alg does not look at the kernel refuses: the user may read the file.
    fs::rename(scene.path("conf/proxy.yaml"), scene.path("else/proxy.yaml")).unwrap();
    symlink("../else/proxy.yaml", scene.path("conf/proxy.yaml")).unwrap();
    scene.says("reloaded");
    scene.proxy.hang_up();
    let said = scene.says("reload refused, nothing has changed");
    assert!(said.contains("proxy.yaml: Permission denied (os error 13)"), "{said}");
}
