//! Machines for a measurement: four network namespaces, made and removed by the program itself.
//!
//! ```text
//!  Client 203.0.113.2, .101-.150 ──pub── Gateway ──vpc── Middlebox 172.16.0.10
//!                                        (router)   └─── Server    172.16.0.20
//! ```
//!
//! The gateway only routes: no address translation, no filter, no connection tracking. A client reaches the server
//! directly, or through whatever runs on the middlebox.

use std::ffi::OsStr;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{self, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Where the kernel's helper or ftp-alg runs.
pub(crate) const MIDDLEBOX: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 10);
/// The FTP server.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 20);
/// How many addresses clients have besides the first one.
pub(crate) const CLIENTS: u8 = 50;

/// One of the client's further addresses, in turn.
pub(crate) fn client(nth: usize) -> IpAddr {
    let within = u8::try_from(nth % usize::from(CLIENTS)).expect("less than CLIENTS");
    Ipv4Addr::new(203, 0, 113, 101 + within).into()
}

/// One machine of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// Where the load comes from.
    Client,
    /// The router between the two networks.
    Gateway,
    /// What is measured.
    Middlebox,
    /// The FTP server.
    Server,
}

/// `ip -batch` for each machine; `%` is the prefix of the namespaces.
const LINKS: [(Host, &str); 4] = [
    (
        Host::Gateway,
        "link set lo up
         link add pub type veth peer name eth0 netns %client
         link add vpc type bridge
         link add v-box master vpc type veth peer name eth0 netns %middlebox
         link add v-server master vpc type veth peer name eth0 netns %server
         link set v-box up
         link set v-server up
         link set pub up
         link set vpc up
         addr add 203.0.113.1/24 dev pub
         addr add 172.16.0.1/24 dev vpc",
    ),
    (
        Host::Client,
        "link set lo up
         link set eth0 up
         addr add 203.0.113.2/24 dev eth0
         route add default via 203.0.113.1",
    ),
    (
        Host::Middlebox,
        "link set lo up
         link set eth0 up
         addr add 172.16.0.10/24 dev eth0
         route add default via 172.16.0.1",
    ),
    (
        Host::Server,
        "link set lo up
         link set eth0 up
         addr add 172.16.0.20/24 dev eth0
         route add default via 172.16.0.1",
    ),
];

/// Thousands of short connections a second: no machine may run out of ports, or slow down over old connections.
/// ftp-alg's data ports, 20000-20999, stay out of the range.
const MANY_CONNECTIONS: [(&str, &str); 3] = [
    ("net/ipv4/ip_local_port_range", "21000 65000"),
    ("net/ipv4/tcp_max_tw_buckets", "512"),
    ("net/ipv4/tcp_tw_reuse", "1"),
];

/// The network. Dropped, it is removed, with every process that runs in it.
#[derive(Debug)]
pub(crate) struct Net {
    prefix: String,
    scratch: TempDir,
}

impl Net {
    pub(crate) fn new() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "network namespaces need root");
        sweep()?;
        let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let net = Self { prefix: format!("ftpbench-{}-", process::id()), scratch };
        for (host, _) in LINKS {
            run(Command::new("ip").args(["netns", "add", &net.namespace(host)]))?;
        }
        for (host, batch) in LINKS {
            let batch = batch.replace('%', &net.prefix);
            feed(Command::new("ip").args(["-n", &net.namespace(host), "-batch", "-"]), &batch)?;
        }
        let addresses: Vec<String> =
            (0..usize::from(CLIENTS)).map(|nth| format!("addr add {}/24 dev eth0\n", client(nth))).collect();
        feed(Command::new("ip").args(["-n", &net.namespace(Host::Client), "-batch", "-"]), &addresses.concat())?;
        net.write_sysctl(Host::Gateway, "net/ipv4/ip_forward", "1")?;
        for host in [Host::Client, Host::Middlebox, Host::Server] {
            for (key, value) in MANY_CONNECTIONS {
                net.write_sysctl(host, key, value)?;
            }
        }
        Ok(net)
    }

    /// A directory that is removed with the network.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    fn namespace(&self, host: Host) -> String {
        self.prefix.clone()
            + match host {
                Host::Client => "client",
                Host::Gateway => "gateway",
                Host::Middlebox => "middlebox",
                Host::Server => "server",
            }
    }

    /// A program on a machine; add its arguments. `ip` becomes the program: the process keeps its id.
    pub(crate) fn command(&self, host: Host, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]).arg(program);
        command
    }

    /// Loads nft rules on a machine.
    pub(crate) fn nft(&self, host: Host, rules: &str) -> Result<()> {
        feed(self.command(host, "nft").args(["-f", "-"]), rules)
    }

    /// Sets a kernel setting of a machine.
    pub(crate) fn write_sysctl(&self, host: Host, key: &str, value: &str) -> Result<()> {
        let script = r#"echo "$2" > "/proc/sys/$1""#;
        run(self.command(host, "sh").args(["-c", script, "sh", key, value])).map(drop)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for (host, _) in LINKS {
            remove(&self.namespace(host));
        }
    }
}

/// Ends what runs in a namespace and removes it.
fn remove(namespace: &str) {
    let script = r#"kill -9 $(ip netns pids "$1") 2>/dev/null; ip netns del "$1""#;
    if let Err(error) = Command::new("sh").args(["-c", script, "sh", namespace]).output() {
        eprintln!("cannot remove the network namespace {namespace}: {error}");
    }
}

/// Removes what a run that was killed has left behind: the namespaces of processes that are no more.
fn sweep() -> Result<()> {
    for name in run(Command::new("ip").args(["netns", "list"]))?.split_whitespace() {
        let owner = name.strip_prefix("ftpbench-").and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(name);
        }
    }
    Ok(())
}

/// Runs a program that must succeed; its standard output.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program that must succeed and gets `input` on its standard input.
fn feed(command: &mut Command, input: &str) -> Result<()> {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.with_context(|| format!("{command:?}"))?;
    child.stdin.take().expect("it is piped").write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
