//! The FTP servers: real ones with the anti-bounce rules that they ship with.

mod tls;

use std::fmt;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificate;
use crate::clients::PYTHON;
use crate::net::{Host, Net};
use crate::process::{Daemon, run};

/// User and group `daemon` of Debian, as whom the servers work: vsftpd wants a home that exists, `nobody` has none.
const DAEMON: u32 = 1;
/// crypt(3) of `secret`.
const SECRET: &str =
    "$6$interop$x6IMPaNg.wYf47ZC6VrhGKHL2a7TAYYUj.97SBKfqC2CuGYspHC/llsBbgXVGt.GlNNMaiFQr/tfrVCsfunv70";

/// A server program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Refuses a PORT or a data connection that names or comes from another address than the control connection.
    Vsftpd,
    /// Likewise (`AllowForeignAddress off`).
    ProFtpd,
    /// Likewise ("I won't open a connection to … (only to …)").
    PureFtpd,
    /// Python's.
    Pyftpdlib,
}

/// Whether a server insists on TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// It has none.
    Plain,
    /// AUTH TLS comes before the login, PROT P before data, and data connections resume the session of the control
    /// connection where the program knows such a rule (vsftpd, ProFTPD).
    Explicit,
    /// The same within TLS from the first byte, on port 990.
    Implicit,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vsftpd => "vsftpd",
            Self::ProFtpd => "ProFTPD",
            Self::PureFtpd => "Pure-FTPd",
            Self::Pyftpdlib => "pyftpdlib",
        })
    }
}

/// vsftpd: anonymous users may do all that a real one may. The other settings are those of the shipped file.
/// `async_abor_enable`: it looks for urgent ABOR during a transfer only if told to.
/// `seccomp_sandbox`: its filter is older than the system calls that today's C library makes.
const VSFTPD_CONF: &str = "
listen=YES
background=NO
anonymous_enable=YES
local_enable=NO
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_world_readable_only=NO
anon_umask=022
anon_root=/srv/root
ftp_username=daemon
nopriv_user=nobody
secure_chroot_dir=/srv/empty
connect_from_port_20=YES
async_abor_enable=YES
seccomp_sandbox=NO
xferlog_enable=YES
vsftpd_log_file=/srv/transfers.log
dual_log_enable=YES
xferlog_file=/srv/xferlog
";

/// `LangEngine off`: otherwise it offers UTF8, and clients that speak it translate names.
const PROFTPD_CONF: &str = "
ServerName interop
ServerType standalone
Port 21
UseIPv6 off
UseReverseDNS off
LangEngine off
User daemon
Group daemon
AuthOrder mod_auth_file.c
AuthUserFile /srv/users
RequireValidShell off
DefaultRoot ~
AllowOverwrite on
AllowStoreRestart on
WtmpLog off
DelayEngine off
PidFile /srv/pid
ScoreboardFile /srv/scoreboard
SystemLog /srv/transfers.log
TransferLog /srv/xferlog
";

/// vsftpd as it stands by on port 2121, with its files under `dir`.
pub fn standby(net: &Net, dir: &Path) -> Daemon {
    let conf = VSFTPD_CONF.replace("/srv/root", &dir.join("root").display().to_string());
    let conf = conf.replace("/srv/empty", &dir.join("empty").display().to_string());
    let conf = conf.replace("/srv/transfers.log", &dir.join("transfers.log").display().to_string());
    fs::create_dir_all(dir.join("root")).unwrap();
    fs::create_dir_all(dir.join("empty")).unwrap();
    fs::write(dir.join("conf"), conf + "listen_port=2121\n").unwrap();
    let mut command = net.command(Host::Server, unpacked("vsftpd/usr/sbin/vsftpd"));
    Daemon::start(command.arg(dir.join("conf")), dir.join("server.log"), 2121)
}

/// A running server. Its files are under `/srv` for the server itself (a mount of its own), and under [`Server::root`]
/// for the test.
pub struct Server {
    /// Which program it is.
    pub kind: Kind,
    dir: PathBuf,
    daemon: Daemon,
    /// Clients name it with their user.
    named: bool,
}

impl Server {
    /// Starts a server without TLS on port 21 of the server's machine.
    pub fn start(net: &Net, kind: Kind) -> Self {
        Self::start_with(net, kind, Security::Plain)
    }

    /// Starts a server on the server's machine.
    pub fn start_with(net: &Net, kind: Kind, security: Security) -> Self {
        Self::start_configured(net, kind, security, "", &[])
    }

    /// The same with `more` at the end of its configuration (arguments for Pure-FTPd, which has no file, Python for
    /// pyftpdlib), and with files under `/srv`.
    pub fn start_configured(net: &Net, kind: Kind, security: Security, more: &str, files: &[(&str, &str)]) -> Self {
        let dir = net.scratch().join("server");
        fs::create_dir_all(dir.join("root")).unwrap();
        fs::create_dir_all(dir.join("empty")).unwrap();
        certificate::write(&dir);
        let mut arguments = configure(kind, security, &dir);
        let port = if security == Security::Implicit { 990 } else { 21 };
        match kind {
            Kind::Vsftpd | Kind::ProFtpd => append(&dir.join("conf"), more),
            Kind::PureFtpd => arguments.extend(more.split_whitespace().map(PathBuf::from)),
            Kind::Pyftpdlib => append(&dir.join("more.py"), more),
        }
        files.iter().for_each(|(name, text)| fs::write(dir.join(name), text).unwrap());
        // `ip netns exec` gives the program mounts of its own, so that this one is not seen outside.
        let script = r#"mount --bind "$1" /srv && shift && exec "$@""#;
        arguments.splice(0..0, ["-c".into(), script.into(), "sh".into(), dir.clone()]);
        let daemon =
            Daemon::start(net.command(Host::Server, "sh").args(arguments), net.scratch().join("server.log"), port);
        Self { kind, dir, daemon, named: false }
    }

    /// Where clients find themselves after the login.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// User name and password.
    pub fn login(&self) -> (&'static str, &'static str) {
        match (self.kind, self.named) {
            (Kind::Vsftpd, false) => ("anonymous", "user@example.org"),
            (Kind::Vsftpd, true) => ("anonymous@172.16.0.20", "user@example.org"),
            (Kind::ProFtpd | Kind::PureFtpd | Kind::Pyftpdlib, false) => ("alice", "secret"),
            (Kind::ProFtpd | Kind::PureFtpd | Kind::Pyftpdlib, true) => ("alice@172.16.0.20", "secret"),
        }
    }

    /// For clients of a proxy that has to be told which server they mean.
    pub fn named_by_users(self) -> Self {
        Self { named: true, ..self }
    }

    /// Its log of transfers in the format of xferlog(5), which vsftpd and ProFTPD write.
    pub fn xferlog(&self) -> PathBuf {
        self.dir.join("xferlog")
    }

    /// What it has said and logged so far.
    pub fn log(&self) -> String {
        // Names are bytes, in logs as well.
        let log = fs::read(self.dir.join("transfers.log")).unwrap_or_default();
        self.daemon.said() + &String::from_utf8_lossy(&log)
    }
}

fn append(path: &Path, more: &str) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text + more).unwrap();
}

/// Where tests/setup.sh has unpacked a server.
pub fn unpacked(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("interop").join(path);
    assert!(path.exists(), "{} is missing: run tests/setup.sh (`make test` does)", path.display());
    path
}

/// Writes what the server reads; its command line.
fn configure(kind: Kind, security: Security, dir: &Path) -> Vec<PathBuf> {
    match kind {
        Kind::Vsftpd => {
            fs::write(dir.join("conf"), VSFTPD_CONF.to_owned() + tls::vsftpd(security)).unwrap();
            vec![unpacked("vsftpd/usr/sbin/vsftpd"), "/srv/conf".into()]
        }
        Kind::ProFtpd => {
            fs::write(dir.join("conf"), tls::proftpd(security) + PROFTPD_CONF).unwrap();
            let user = format!("alice:{SECRET}:{DAEMON}:{DAEMON}::/srv/root:/bin/sh\n");
            fs::write(dir.join("users"), user).unwrap();
            // It refuses to read passwords that everybody could.
            fs::set_permissions(dir.join("users"), fs::Permissions::from_mode(0o600)).unwrap();
            let mut command = vec![unpacked("proftpd/usr/sbin/proftpd")];
            command.extend(["-n", "-q", "-c", "/srv/conf"].map(PathBuf::from));
            command
        }
        Kind::PureFtpd => {
            let user = format!("alice:{SECRET}:{DAEMON}:{DAEMON}::/srv/root/./::::::::::::\n");
            fs::write(dir.join("users"), user).unwrap();
            let pure_pw = unpacked("pure-ftpd/usr/bin/pure-pw");
            run(Command::new(pure_pw).arg("mkdb").arg(dir.join("pdb")).arg("-f").arg(dir.join("users")));
            let mut command = vec![unpacked("pure-ftpd/usr/sbin/pure-ftpd")];
            // -A: everybody in a chroot. -E: no anonymous users. -H: no reverse look-ups. -u: the lowest user id allowed.
            let flags = "-A -E -H -u 1 -g /srv/pid -l puredb:/srv/pdb -O clf:/srv/transfers.log";
            command.extend(flags.split(' ').map(PathBuf::from));
            command.extend(tls::pure_ftpd(security).iter().map(PathBuf::from));
            command
        }
        Kind::Pyftpdlib => {
            assert_eq!(security, Security::Explicit, "pyftpdlib is there for its TLS");
            fs::write(dir.join("serve.py"), include_str!("servers/pyftpdlib.py")).unwrap();
            fs::write(dir.join("more.py"), "").unwrap();
            [PYTHON, "/srv/serve.py"].map(PathBuf::from).to_vec()
        }
    }
}

/// Makes a directory in which the server lets its users write.
pub fn make_writable_dir(path: &Path) {
    fs::create_dir(path).unwrap();
    chown(path, Some(DAEMON), Some(DAEMON)).unwrap();
}

/// Writes a file that belongs to the server's users.
pub fn place(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    chown(path, Some(DAEMON), Some(DAEMON)).unwrap();
}
