//! Rules hold for the thread that makes them, and for no other test then.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, test_kill_process};
use tempfile::TempDir;

use super::{ABI, Confinement, Extent, LandlockStatus, PathBuf, Places};
use crate::config::Config;

/// What this machine has; the tests would see nothing with less.
fn assert_that_the_kernel_can() {
    assert_eq!(Extent::here().shortfall(), None, "these tests need Landlock with version 6, of Linux 6.12");
}

/// A place of every kind, and a configuration for them.
struct Scene {
    dir: TempDir,
    /// The ports of a listener, of a server, and what nothing needs.
    bind: u16,
    upstream: u16,
    other: u16,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["conf", "certs", "archive", "log", "run", "else"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in ["conf/proxy.yaml", "archive/cert1.pem", "archive/key1.pem", "log/xferlog", "else/secret"] {
            fs::write(dir.path().join(name), "text").unwrap();
        }
        symlink("../archive/cert1.pem", dir.path().join("certs/cert.pem")).unwrap();
        symlink("../archive/key1.pem", dir.path().join("certs/key.pem")).unwrap();
        let [bind, upstream, other] = free_ports();
        Self { dir, bind, upstream, other }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// With nothing but the upstream to connect to; `changes` are made to the text.
    fn config(&self, changes: &[(&str, &str)]) -> Config {
        let mut yaml = format!(
            "landlock: true\nlog: {{ transfers: {dir}/log/xferlog }}\nlisteners: [{{ name: ftp, bind: \
             \"127.0.0.1:{bind}\", upstream: \"127.0.0.1:{upstream}\", client: {{ address_map: [{{ peers: any, \
             announce: local }}], data_ports: any }}, server: {{ data_mode: active }}, policy: {{ deny: [PORT, EPRT] }}, tls: {{ \
             client: {{ mode: terminate, certificate: {dir}/certs/cert.pem, key: {dir}/certs/key.pem }} }} }}]",
            dir = self.dir.path().display(),
            bind = self.bind,
            upstream = self.upstream
        );
        for (old, new) in changes {
            assert!(yaml.contains(old), "{old} in {yaml}");
            yaml = yaml.replace(old, new);
        }
        Config::parse(&yaml, "test.yaml").unwrap_or_else(|e| panic!("{e}"))
    }

    /// Does something in a thread that is held to the configuration.
    fn confined<T: Send>(&self, act: impl FnOnce(&Confinement) -> T + Send) -> T {
        assert_that_the_kernel_can();
        let (config, file, commands) = (self.config(&[]), self.path("conf/proxy.yaml"), self.path("run/control.sock"));
        let act = || {
            let places = Places { config: &file, commands: Some(&commands) };
            act(&Confinement::enforce(&config, &places).unwrap())
        };
        std::thread::scope(|scope| scope.spawn(act).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

/// Three that are free now, and below what the kernel hands out: no other test gets them.
fn free_ports() -> [u16; 3] {
    let mut free = (11_000..).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    std::array::from_fn(|_| free.next().unwrap())
}

#[track_caller]
fn assert_denied<T>(outcome: io::Result<T>) {
    match outcome {
        Ok(_) => panic!("it is permitted"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}"),
    }
}

#[test]
fn sec_34_only_ports_of_the_configuration_are_bound_and_connected_to() {
    let scene = Scene::new();
    let _server = TcpListener::bind(("127.0.0.1", scene.upstream)).unwrap();
    let _else = TcpListener::bind(("127.0.0.1", scene.other)).unwrap();
    let is_refused = |address: &str, port: u16| TcpStream::connect((address, port)).unwrap_err().kind();
    scene.confined(|_| {
        let listener = TcpListener::bind(("127.0.0.1", scene.bind)).unwrap();
        TcpListener::bind(("::1", scene.bind)).unwrap();
        TcpListener::bind("127.0.0.1:0").unwrap();
        TcpListener::bind("[::1]:0").unwrap();
        TcpStream::connect(("127.0.0.1", scene.upstream)).unwrap();
        // Nobody is there, but nothing forbids it.
        assert_eq!(is_refused("127.0.0.1", 53), io::ErrorKind::ConnectionRefused);
        for address in ["127.0.0.1", "::1"] {
            assert_denied(TcpListener::bind((address, scene.other + 100)));
            assert_denied(TcpListener::bind((address, 20)));
            for port in [scene.other, scene.bind, 22, 80] {
                assert_denied(TcpStream::connect((address, port)));
            }
        }
        // What it starts is held to the same.
        let denied = std::thread::spawn(move || TcpListener::bind(("127.0.0.1", scene.other + 100)));
        assert_denied(denied.join().unwrap());
        drop(listener);
    });
    // Nobody else is.
    TcpStream::connect(("127.0.0.1", scene.other)).unwrap();
}

#[test]
fn sec_34_only_files_of_the_configuration_are_read() {
    let scene = Scene::new();
    scene.confined(|_| {
        for name in ["conf/proxy.yaml", "certs/cert.pem", "archive/key1.pem"] {
            fs::read(scene.path(name)).unwrap();
        }
        for name in ["/etc/passwd", "/proc/self/status", "/proc/stat"] {
            fs::read(name).unwrap();
        }
        fs::read_dir("/proc/self/fd").unwrap();
        assert_denied(fs::read(scene.path("else/secret")));
        assert_denied(fs::read_dir(scene.path("else")));
        assert_denied(fs::read_dir("/"));
        assert_denied(fs::read("/dev/null"));
        assert_denied(Command::new("/bin/true").status());
    });
}

/// certbot adds a file to one directory and changes a link in another; others put another file in its place.
#[test]
fn sec_34_a_renewed_certificate_is_read() {
    let scene = Scene::new();
    let (confined, is_confined) = mpsc::channel();
    let (renewed, is_renewed) = mpsc::channel();
    std::thread::scope(|scope| {
        let (scene, is_renewed) = (&scene, is_renewed);
        scope.spawn(move || {
            scene.confined(move |_| {
                assert_denied(fs::write(scene.path("archive/cert2.pem"), "new"));
                confined.send(()).unwrap();
                is_renewed.recv().unwrap();
                assert_eq!(fs::read(scene.path("certs/cert.pem")).unwrap(), b"new");
                assert_eq!(fs::read(scene.path("conf/proxy.yaml")).unwrap(), b"new");
            });
        });
        is_confined.recv().unwrap();
        fs::write(scene.path("archive/cert2.pem"), "new").unwrap();
        fs::remove_file(scene.path("certs/cert.pem")).unwrap();
        symlink("../archive/cert2.pem", scene.path("certs/cert.pem")).unwrap();
        fs::write(scene.path("conf/next.yaml"), "new").unwrap();
        fs::rename(scene.path("conf/next.yaml"), scene.path("conf/proxy.yaml")).unwrap();
        renewed.send(()).unwrap();
    });
}

/// At boot, `/etc/resolv.conf` may lead to a directory that a resolver makes only later.
#[test]
fn what_a_link_leads_to_may_come_later() {
    let dir = tempfile::tempdir().unwrap();
    let dir = fs::canonicalize(dir.path()).unwrap();
    fs::create_dir(dir.join("run")).unwrap();
    fs::write(dir.join("run/there"), "text").unwrap();
    let led_to = |target: &str| {
        let link = dir.join("link");
        let _earlier = fs::remove_file(&link);
        symlink(target, &link).unwrap();
        super::promised_directory(&link)
    };
    assert_eq!(led_to("run/there"), dir.join("run"));
    assert_eq!(led_to("run/later"), dir.join("run"));
    assert_eq!(led_to(&dir.join("run/resolver/later").display().to_string()), dir.join("run"));
    assert_eq!(led_to("/of-no-such-name/later"), dir, "and never everything");
    assert_eq!(super::promised_directory(&dir.join("run/there")), dir.join("run"), "no link");
}

#[test]
fn sec_34_the_log_is_appended_to_and_the_socket_made_and_nothing_else() {
    let scene = Scene::new();
    let append = |name: &str| OpenOptions::new().append(true).create(true).open(scene.path(name));
    scene.confined(|_| {
        append("log/xferlog").unwrap().write_all(b"line").unwrap();
        append("log/anew").unwrap();
        assert_denied(File::create(scene.path("log/xferlog")));
        assert_denied(fs::remove_file(scene.path("log/xferlog")));
        assert_denied(fs::read(scene.path("log/xferlog")));
        drop(UnixListener::bind(scene.path("run/own")).unwrap());
        drop(UnixListener::bind(scene.path("run/control.sock")).unwrap());
        fs::rename(scene.path("run/own"), scene.path("run/control.sock")).unwrap();
        fs::remove_file(scene.path("run/control.sock")).unwrap();
        for name in ["run/file", "conf/file", "conf/proxy.yaml", "certs/cert.pem", "else/file", "else/secret"] {
            assert_denied(append(name));
        }
        for name in ["conf/socket", "log/socket", "else/socket"] {
            assert_denied(UnixListener::bind(scene.path(name)));
        }
        assert_denied(fs::create_dir(scene.path("log/directory")));
    });
}

/// A log that is a pipe is opened anew all the same, with a name (mkfifo) and without (standard output of a container).
#[test]
fn sec_34_a_pipe_may_be_the_log() {
    let scene = Scene::new();
    let (name, (reader, writer)) = (scene.path("else/pipe"), rustix::pipe::pipe().unwrap());
    rustix::fs::mknodat(CWD, &name, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _reader = OpenOptions::new().read(true).write(true).open(&name).unwrap();
    let without_name = PathBuf::from(format!("/proc/self/fd/{}", writer.as_raw_fd()));
    let places = Places { config: &scene.path("conf/proxy.yaml"), commands: None };
    for log in [&name, &without_name] {
        let config = scene.config(&[(&*scene.path("log/xferlog").display().to_string(), &*log.display().to_string())]);
        let act = || {
            let confinement = Confinement::enforce(&config, &places).unwrap();
            OpenOptions::new().append(true).open(log).unwrap();
            assert_denied(OpenOptions::new().append(true).open(scene.path("else/secret")));
            assert_eq!(confinement.lacks(&config), []);
        };
        std::thread::scope(|scope| scope.spawn(act).join()).unwrap();
    }
    drop(reader);
}

#[test]
fn sec_34_nobody_outside_is_signalled_or_connected_to_by_an_abstract_name() {
    let scene = Scene::new();
    let name = SocketAddr::from_abstract_name(format!("ftp-alg-test-{}", std::process::id())).unwrap();
    let _outside = UnixDatagram::bind_addr(&name).unwrap();
    let mut outside = Command::new("sleep").arg("60").spawn().unwrap();
    let (inside, signal) = (UnixDatagram::unbound().unwrap(), Pid::from_child(&outside));
    scene.confined(|_| {
        assert_denied(inside.connect_addr(&name));
        assert_denied(test_kill_process(signal).map_err(io::Error::from));
    });
    inside.connect_addr(&name).unwrap();
    test_kill_process(signal).unwrap();
    outside.kill().unwrap();
    outside.wait().unwrap();
}

/// All that is needed beyond the configuration at the start, by its keys.
#[test]
fn sec_34_a_reload_that_needs_more_is_told_all_of_it() {
    let scene = Scene::new();
    let dir = scene.dir.path().display().to_string();
    let lacking = |changes: &[(&str, &str)]| -> Vec<String> {
        scene.confined(|own| own.lacks(&scene.config(changes)).iter().map(ToString::to_string).collect())
    };
    let (bind, upstream) = (format!(":{}\", upstream", scene.bind), format!(":{}\", client", scene.upstream));
    let port = |key: &str, verb: &str, ports: &str| {
        format!(
            "listener `ftp`: {key}: {ports} is not within the ports that were to be {verb} at the start, and Landlock \
             permits no others; restart the process"
        )
    };
    let file = |key: &str, verb: &str, path: &str| {
        format!(
            "{key}: {dir}/{path} is not within the directories that were to be {verb} at the start, and Landlock \
             permits no others; restart the process"
        )
    };
    assert_eq!(lacking(&[]), [""; 0]);
    assert_eq!(
        lacking(&[
            (&bind, ":2100\", upstream"),
            (&upstream, ":2101\", client"),
            ("data_ports: any", "data_ports: 20000-20020, source_port: 20"),
            (&format!("{dir}/certs/key.pem"), &format!("{dir}/else/secret")),
            ("log/xferlog", "else/xferlog"),
        ]),
        [
            port("bind", "bound", "2100"),
            port("client.data_ports", "bound", "20000-20020"),
            port("client.source_port", "bound", "20"),
            port("upstream", "connected to", "2101"),
            file("listener `ftp`: tls.client.key", "read", "else/secret"),
            file("log.transfers", "written", "else/xferlog"),
        ]
    );
    assert_eq!(lacking(&[("[PORT, EPRT]", "SITE")]), [port("policy.deny", "connected to", "1024-65535")]);
    assert_eq!(
        lacking(&[("data_mode: active", "data_mode: same")]),
        [port("server.data_mode", "connected to", "1024-65535")]
    );
    // A link in a known directory that leads elsewhere.
    symlink("../else/secret", scene.path("conf/link.pem")).unwrap();
    let link = (&*format!("{dir}/certs/key.pem"), &*format!("{dir}/conf/link.pem"));
    assert_eq!(lacking(&[link]), [file("listener `ftp`: tls.client.key", "read", "conf/link.pem")]);
}

#[test]
fn sec_34_a_reload_may_use_whatever_was_permitted_at_the_start() {
    let scene = Scene::new();
    let dir = scene.dir.path().display().to_string();
    fs::rename(scene.path("log/xferlog"), scene.path("log/xferlog.1")).unwrap();
    let (cert, key) = (format!("{dir}/certs/cert.pem"), format!("{dir}/certs/key.pem"));
    let changes = [
        ("certs/cert.pem", "archive/cert2.pem"),
        ("certs/key.pem", "certs/next.pem"),
        ("log/xferlog", "log/next"),
        ("127.0.0.1", "127.0.0.2"),
    ];
    assert_eq!(scene.confined(|own| own.lacks(&scene.config(&changes))), []);
    let of_system = [(&*cert, "/etc/ftp-alg/cert.pem"), (&*key, "/usr/share/key.pem")];
    assert_eq!(scene.confined(|own| own.lacks(&scene.config(&of_system))), []);
    let no_log = [("log: { transfers", "discovery: { refresh: 1m }\n#")];
    assert_eq!(scene.confined(|own| own.lacks(&scene.config(&no_log))), []);
}

/// A kernel that cannot restrict ports cannot be in the way of others.
#[test]
fn sec_34_what_the_kernel_does_not_restrict_is_no_reason_to_refuse() {
    let scene = Scene::new();
    let wider = scene.config(&[("[PORT, EPRT]", "SITE"), ("log/xferlog", "else/xferlog")]);
    let lacks = |status: LandlockStatus| {
        scene.confined(|own| Confinement { extent: Extent(status), ..own.clone() }.lacks(&wider).len())
    };
    let version = |effective_abi| LandlockStatus::Available { effective_abi, kernel_abi: None };
    assert_eq!(lacks(version(ABI::V4)), 2);
    assert_eq!(lacks(version(ABI::V3)), 1);
    assert_eq!(lacks(LandlockStatus::NotEnabled), 0);
    assert_eq!(lacks(LandlockStatus::NotImplemented), 0);
    let told = |status| Extent(status).shortfall().unwrap_or_default();
    assert_eq!(told(version(ABI::V6)), "");
    assert!(told(version(ABI::V5)).contains("version 5: ports and files are restricted, signals"));
    assert!(
        told(version(ABI::V3))
            .contains("version 3: files are restricted, ports are not; that takes version 4, of Linux 6.7")
    );
    assert!(told(LandlockStatus::NotEnabled).contains("`lsm=` does not name it: nothing is restricted"));
    assert!(told(LandlockStatus::NotImplemented).starts_with("landlock: this kernel has no Landlock"));
}

/// 64,512 ports are a rule each.
#[test]
fn sec_34_all_ports_cost_little() {
    let scene = Scene::new();
    let (config, file) = (scene.config(&[("[PORT, EPRT]", "SITE")]), scene.path("conf/proxy.yaml"));
    let took = std::thread::spawn(move || {
        let began = Instant::now();
        Confinement::enforce(&config, &Places { config: &file, commands: None }).unwrap();
        assert_eq!(TcpStream::connect("127.0.0.1:65535").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_denied(TcpStream::connect("127.0.0.1:1023"));
        began.elapsed()
    });
    let took = took.join().unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
}
