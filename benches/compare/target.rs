//! What stands between client and server while it is measured.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit};

use crate::net::{Host, MIDDLEBOX, Net, SERVER};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Nothing: the client talks to the server.
    Direct,
    /// nf_nat_ftp, the kernel's helper.
    Kernel,
    /// This program, release build.
    FtpAlg,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Kernel => "kernel",
            Self::FtpAlg => "ftp-alg",
        }
    }
}

/// How many ports ftp-alg has, by the control port that is connected to.
pub(crate) const LISTENERS: [(u16, u16); 3] = [(21, 100), (2101, 1), (2121, 21)];

/// The kernel's helper, told to look at port 21, with the address translation of a port forwarding.
const KERNEL: &str = r#"
table ip alg {
  ct helper ftp { type "ftp" protocol tcp; }
  chain help { type filter hook prerouting priority -150; tcp dport 21 ct helper set "ftp"; }
  chain pre { type nat hook prerouting priority dstnat; ip daddr 172.16.0.10 tcp dport 21 dnat to 172.16.0.20; }
  chain post { type nat hook postrouting priority srcnat; ip daddr 172.16.0.20 masquerade; }
}"#;

/// A path from client to server. Dropped, it is taken down.
pub(crate) struct Target<'a> {
    net: &'a Net,
    kind: Kind,
    program: Option<Program>,
}

impl<'a> Target<'a> {
    /// Sets it up.
    pub(crate) fn start(net: &'a Net, kind: Kind) -> Result<Self> {
        let program = match kind {
            Kind::Direct => None,
            Kind::Kernel => {
                net.write_sysctl(Host::Middlebox, "net/ipv4/ip_forward", "1")?;
                net.nft(Host::Middlebox, KERNEL)?;
                None
            }
            Kind::FtpAlg => Some(Program::start(net, "info", &LISTENERS)?),
        };
        Ok(Self { net, kind, program })
    }

    /// Where clients connect to; of ftp-alg the listener with so many data ports.
    pub(crate) fn addr(&self, data_ports: u16) -> SocketAddr {
        let listener = LISTENERS.iter().find(|(_, ports)| *ports == data_ports);
        match self.kind {
            Kind::Direct => SocketAddr::new(SERVER.into(), 21),
            Kind::Kernel => SocketAddr::new(MIDDLEBOX.into(), 21),
            Kind::FtpAlg => SocketAddr::new(MIDDLEBOX.into(), listener.map_or(21, |(port, _)| *port)),
        }
    }

    /// Its process, if it has one.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.program.as_ref().map(Program::pid)
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        if self.kind == Kind::Kernel && self.net.nft(Host::Middlebox, "flush ruleset").is_err() {
            eprintln!("cannot remove the rules of the kernel's helper");
        }
    }
}

/// `ftp-alg run` on the middlebox, killed when dropped. What it logs goes to a file.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it, with a listener for each control port and number of data ports, and waits until it listens.
    pub(crate) fn start(net: &Net, log_level: &str, listeners: &[(u16, u16)]) -> Result<Self> {
        let mut yaml = String::from("listeners:\n");
        let mut first = 20_000;
        // All the load comes from a few addresses, and may take what there are descriptors for.
        let ports: u64 = listeners.iter().map(|(_, ports)| u64::from(*ports)).sum();
        let (files, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let sessions = files.min(65_536).saturating_sub(700 + ports) / 2 / u64::try_from(listeners.len())?;
        for (port, ports) in listeners {
            yaml += &format!(
                "  - name: ports-{ports}\n    bind: [\"{MIDDLEBOX}:{port}\"]\n    upstream: \"{SERVER}:21\"\n    client:\n      \
                 address_map: [{{ peers: any, announce: {MIDDLEBOX} }}]\n      data_ports: {first}-{}\n    limits: {{ \
                 sessions: {sessions}, sessions_per_address: {sessions} }}\n",
                first + ports - 1
            );
            first += ports;
        }
        let (config, log) = (net.scratch().join("proxy.yaml"), net.scratch().join("proxy.log"));
        fs::write(&config, yaml)?;
        let mut command = net.command(Host::Middlebox, env!("CARGO_BIN_EXE_ftp-alg"));
        command.args(["run", "--log-level", log_level, "--config"]).arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let mut program = Self { child: command.spawn().context("ftp-alg")?, log };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !listeners.iter().all(|(port, _)| program.listens(*port)) {
            if let Some(ended) = program.child.try_wait()? {
                bail!("ftp-alg has ended at its start ({ended}):\n{}", program.said());
            }
            if Instant::now() > deadline {
                bail!("ftp-alg does not listen:\n{}", program.said());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(program)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether a socket of its machine listens on the port (proc_pid_net(5), `st` 0A is TCP_LISTEN).
    fn listens(&self, port: u16) -> bool {
        let local = format!(":{port:04X}");
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.pid())).unwrap_or_default();
        table.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            words.next().is_some_and(|addr| addr.ends_with(&local)) && words.nth(1) == Some("0A")
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
