//! A cloud in a box: five network namespaces of this machine, made and removed by the test itself.
//!
//! ```text
//!  Client 203.0.113.2 ──pub── Gateway ──vpc── Proxy  172.16.0.10
//!         2001:db8:1::2       (EIP)      ├─── Server 172.16.0.20
//!                                        └─── Balancer 172.16.0.30
//! ```
//!
//! The gateway translates the elastic IP 203.0.113.10 one to one to an inside address, as a cloud does: no helper
//! looks into FTP. A security group lets in ports 21, 990 and 20000-20020 and nothing else. Private addresses do not exist
//! outside: packets from the client to one are dropped.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::process::{feed, run};

/// The public address that clients know; no machine has it.
pub const EIP: &str = "203.0.113.10";
/// The proxy's private address, as its neighbours write it.
pub const PROXY_INSIDE: &str = "172.16.0.10";
/// The proxy's own IPv6 address: IPv6 needs no translation.
pub const PROXY_V6: &str = "2001:db8:2::10";
/// The machine that only runs the proxy.
pub const PROXY: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 10);
/// The FTP server's machine.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 20);
/// The load balancer's.
pub const BALANCER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 30);

/// One machine of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Somebody on the internet.
    Client,
    /// The cloud: elastic IP and security group.
    Gateway,
    /// The machine in front of the server.
    Proxy,
    /// The FTP server's machine.
    Server,
    /// A load balancer before the proxy, in the tests that have one.
    Balancer,
}

const HOSTS: [Host; 5] = [Host::Client, Host::Gateway, Host::Proxy, Host::Server, Host::Balancer];

/// `ip -batch` for each machine; `%` is the prefix of the namespaces.
const LINKS: [(Host, &str); 5] = [
    (
        Host::Gateway,
        "link set lo up
         link add pub type veth peer name eth0 netns %client
         link add vpc type bridge
         link add v-proxy master vpc type veth peer name eth0 netns %proxy
         link add v-server master vpc type veth peer name eth0 netns %server
         link add v-balancer master vpc type veth peer name eth0 netns %balancer
         link set v-proxy up
         link set v-server up
         link set v-balancer up
         link set pub up
         link set vpc up
         addr add 203.0.113.1/24 dev pub
         addr add 203.0.113.10/24 dev pub
         addr add 172.16.0.1/24 dev vpc
         addr add 2001:db8:1::1/64 dev pub nodad
         addr add 2001:db8:2::1/64 dev vpc nodad",
    ),
    (
        Host::Client,
        "link set lo up
         link set eth0 up
         addr add 203.0.113.2/24 dev eth0
         addr add 2001:db8:1::2/64 dev eth0 nodad
         route add default via 203.0.113.1
         route add default via 2001:db8:1::1",
    ),
    (
        Host::Proxy,
        "link set lo up
         link set eth0 up
         addr add 172.16.0.10/24 dev eth0
         addr add 2001:db8:2::10/64 dev eth0 nodad
         route add default via 172.16.0.1
         route add default via 2001:db8:2::1",
    ),
    (
        Host::Server,
        "link set lo up
         link set eth0 up
         addr add 172.16.0.20/24 dev eth0
         route add default via 172.16.0.1",
    ),
    (
        Host::Balancer,
        "link set lo up
         link set eth0 up
         addr add 172.16.0.30/24 dev eth0
         addr add 2001:db8:2::30/64 dev eth0 nodad
         route add default via 172.16.0.1
         route add default via 2001:db8:2::1",
    ),
];

/// The same names for a proxy on the way: it routes between the client and the server, which has the public addresses
/// itself. There is no gateway.
const ROUTER: [(Host, &str); 3] = [
    (
        Host::Proxy,
        "link set lo up
         link add eth0 type veth peer name eth0 netns %client
         link add eth1 type veth peer name eth0 netns %server
         link set eth0 up
         link set eth1 up
         addr add 198.51.100.1/24 dev eth0
         addr add 203.0.113.1/24 dev eth1
         addr add 2001:db8:1::1/64 dev eth0 nodad
         addr add 2001:db8:2::1/64 dev eth1 nodad",
    ),
    (
        Host::Client,
        "link set lo up
         link set eth0 up
         addr add 198.51.100.2/24 dev eth0
         addr add 2001:db8:1::2/64 dev eth0 nodad
         route add default via 198.51.100.1
         route add default via 2001:db8:1::1",
    ),
    (
        Host::Server,
        "link set lo up
         link set eth0 up
         addr add 203.0.113.10/24 dev eth0
         addr add 2001:db8:2::10/64 dev eth0 nodad
         route add default via 203.0.113.1
         route add default via 2001:db8:2::1",
    ),
];

/// The gateway's rules; `%` is the machine to which the elastic IP leads.
const GATEWAY: &str = "
table inet unroutable {
  chain outside {
    type filter hook prerouting priority raw
    iifname pub ip daddr { 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 } drop
  }
}
table ip elastic_ip {
  chain in { type nat hook prerouting priority dstnat; ip daddr 203.0.113.10 dnat to %; }
  chain out { type nat hook postrouting priority srcnat; oifname pub ip saddr % snat to 203.0.113.10; }
}
table inet security_group {
  chain forwarded {
    type filter hook forward priority filter; policy drop
    ct state established,related accept
    iifname vpc accept
    meta l4proto ipv6-icmp accept
    iifname pub tcp dport { 21, 990, 20000-20020 } accept
  }
}";

/// What the server's machine counts: who opens data connections, and how they end.
pub const COUNTERS: &str = "
table inet seen {
  counter dialled_by_server {}
  counter dialled_by_proxy {}
  counter fins {}
  counter resets {}
  chain in {
    type filter hook input priority filter
    tcp sport { 21, 990 } accept
    tcp dport { 21, 990 } accept
    tcp flags & (syn | ack) == syn counter name dialled_by_proxy
    tcp flags & (syn | ack) == syn | ack counter name dialled_by_server
    tcp flags & fin == fin counter name fins
    tcp flags & rst == rst counter name resets
  }
}";

/// Packets of data connections that the server's machine has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Answers to the server's own connects.
    DialledByServer,
    /// Connects from outside.
    DialledByProxy,
    /// An orderly end.
    Fins,
    /// A cut.
    Resets,
}

/// The network, and a directory for what belongs to this run.
pub struct Net {
    prefix: String,
    scratch: TempDir,
}

impl Net {
    /// A network whose elastic IP leads to `eip_target`.
    pub fn new(eip_target: Ipv4Addr) -> Self {
        let net = Self::of(&LINKS);
        net.nft(Host::Gateway, &GATEWAY.replace('%', &eip_target.to_string()));
        net
    }

    /// A network in which the proxy is the router between the client and the server, which has the addresses [`EIP`] and
    /// [`PROXY_V6`].
    pub fn with_proxy_as_router() -> Self {
        Self::linked(&ROUTER, Host::Proxy)
    }

    /// The machines and a gateway that forwards, wired by these commands of `ip -batch`; no rules but the counters.
    pub fn of(links: &[(Host, &str)]) -> Self {
        Self::linked(links, Host::Gateway)
    }

    fn linked(links: &[(Host, &str)], router: Host) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        require_root();
        sweep();
        let prefix = format!("ftpalg-{}-{}-", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scratch = tempfile::Builder::new().prefix("interop-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let net = Self { prefix, scratch };
        for host in HOSTS {
            run(Command::new("ip").args(["netns", "add", &net.namespace(host)]));
        }
        for (host, batch) in links {
            let batch = batch.replace('%', &net.prefix);
            feed(Command::new("ip").args(["-n", &net.namespace(*host), "-batch", "-"]), batch.as_bytes());
        }
        net.write_sysctl(router, "net/ipv4/ip_forward", "1");
        net.write_sysctl(router, "net/ipv6/conf/all/forwarding", "1");
        // Kernels before 6.0 can be told to assign the FTP helper by port: not here.
        net.write_sysctl(router, "net/netfilter/nf_conntrack_helper", "0");
        net.nft(Host::Server, COUNTERS);
        net
    }

    /// A directory on disk that is removed with the network.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The name of a machine's namespace.
    pub fn namespace(&self, host: Host) -> String {
        self.prefix.clone()
            + match host {
                Host::Client => "client",
                Host::Gateway => "gateway",
                Host::Proxy => "proxy",
                Host::Server => "server",
                Host::Balancer => "balancer",
            }
    }

    /// A program on a machine; add its arguments.
    pub fn command(&self, host: Host, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]).arg(program);
        command
    }

    /// Loads a ruleset on a machine.
    pub fn nft(&self, host: Host, rules: &str) {
        feed(self.command(host, "nft").args(["-f", "-"]), rules.as_bytes());
    }

    /// How many processes run on a machine.
    pub fn processes(&self, host: Host) -> usize {
        run(Command::new("ip").args(["netns", "pids", &self.namespace(host)])).lines().count()
    }

    /// The value of a counter of the server's machine.
    pub fn counted(&self, counter: Counter) -> u64 {
        let name = match counter {
            Counter::DialledByServer => "dialled_by_server",
            Counter::DialledByProxy => "dialled_by_proxy",
            Counter::Fins => "fins",
            Counter::Resets => "resets",
        };
        let listing = run(self.command(Host::Server, "nft").args(["list", "counter", "inet", "seen", name]));
        let mut words = listing.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no packets in: {listing}"))
    }

    /// Sets a kernel setting of a machine, if this kernel has it.
    fn write_sysctl(&self, host: Host, key: &str, value: &str) {
        let script = r#"if [ -e "/proc/sys/$1" ]; then echo "$2" > "/proc/sys/$1"; fi"#;
        run(self.command(host, "sh").args(["-c", script, "sh", key, value]));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in HOSTS {
            remove(&self.namespace(host));
        }
    }
}

/// Ends what runs in a namespace and removes it. Used while panicking: never panics itself.
fn remove(namespace: &str) {
    let script = r#"kill -9 $(ip netns pids "$1") 2>/dev/null; ip netns del "$1""#;
    if let Err(error) = Command::new("sh").args(["-c", script, "sh", namespace]).output() {
        eprintln!("cannot remove the network namespace {namespace}: {error}");
    }
}

/// Removes what a run that was killed has left behind: the namespaces of processes that are no more.
fn sweep() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for name in run(Command::new("ip").args(["netns", "list"])).split_whitespace() {
            let owner = name.strip_prefix("ftpalg-").and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove(name);
            }
        }
    });
}

fn require_root() {
    let id = run(Command::new("id").arg("-u"));
    assert_eq!(id.trim(), "0", "the interop tests make network namespaces: run `make test` as root on Debian");
}
