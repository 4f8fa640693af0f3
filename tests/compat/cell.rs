//! One cell of a table: a client in a mode moves files to and from a server, and what both ends have is compared.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::certificate;
use crate::clients::{self, Mode, Step, Task, Tls, Verb};
use crate::clients_more::More;
use crate::matrix::difference;
use crate::net::{EIP, Host, Net, PROXY, SERVER};
use crate::process::{Outcome as Ran, bounded, run as run_program};
use crate::server::Server;
use crate::servers::{make_writable_dir, place};
use crate::setup::{Section, Setup};

/// More than one buffer of anybody's; what is measured is whether it works.
const SIZE: usize = 1 << 20;

/// For everything that one cell does.
const LIMIT: Duration = Duration::from_secs(20);

/// A client program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Interop(clients::Kind),
    More(More),
}

impl Client {
    pub fn all() -> Vec<Self> {
        clients::Kind::ALL.into_iter().map(Self::Interop).chain(More::ALL.into_iter().map(Self::More)).collect()
    }

    pub fn name(self) -> String {
        match self {
            Self::Interop(kind) => kind.to_string(),
            Self::More(more) => more.name().to_owned(),
        }
    }

    /// The modes that it knows with IPv4 and what a table is about; none: it takes no part.
    pub fn verbs(self, section: Section) -> Vec<Verb> {
        let mut verbs = match self {
            Self::Interop(kind) => kind.modes().iter().filter(|mode| !mode.ipv6).map(|mode| mode.verb).collect(),
            Self::More(more) => more.verbs(section != Section::Plain).to_vec(),
        };
        match self {
            Self::Interop(clients::Kind::Inetutils) if section != Section::Plain => verbs.clear(),
            // "sa_addr inet_ntop() failed", with any server.
            Self::Interop(clients::Kind::Curl) if section != Section::Plain => verbs.retain(|verb| verb.is_passive()),
            _ => {}
        }
        if section == Section::PassedThrough {
            verbs.retain(|verb| verb.is_passive());
        }
        verbs
    }

    pub fn uploads_and_lists(self) -> bool {
        match self {
            Self::Interop(_) => true,
            Self::More(more) => more.uploads_and_lists(),
        }
    }
}

/// A client in a mode.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub client: Client,
    pub verb: Verb,
    pub tls: Option<Tls>,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.client.name(), self.verb.as_str())?;
        self.tls.map_or(Ok(()), |tls| write!(f, " {tls}"))
    }
}

/// What a client is told.
pub struct Job<'a> {
    pub login: (&'a str, &'a str),
    /// The server's directory.
    pub dir: &'a str,
    /// The client's.
    pub local: &'a Path,
    pub verb: Verb,
    pub tls: Option<Tls>,
    /// The certificate that whoever ends its TLS shows.
    pub certificate: &'a Path,
}

/// What came of a cell.
#[derive(Debug)]
pub struct Outcome {
    pub cell: Cell,
    /// What is wrong through the proxy.
    pub proxied: Result<(), Failure>,
    /// Asked only if something is.
    pub direct: Option<Result<(), Failure>>,
}

/// What a cell failed with.
#[derive(Debug)]
pub struct Failure {
    /// In a few words, the same in every run.
    pub why: String,
    pub transcript: String,
}

/// Runs all cells of a row through the proxy, and those that fail once more without it.
pub fn run_all(setup: &Setup) -> Vec<Outcome> {
    let net = Net::new(PROXY);
    certificate::write(net.scratch());
    let server = setup.start(&net);
    let proxy = setup.start_proxy(&net);
    let mut outcomes: Vec<Outcome> = setup
        .cells()
        .into_iter()
        .map(|cell| Outcome { cell, proxied: run(&net, &server, cell), direct: None })
        .collect();
    assert!(!proxy.said().contains("panicked"), "{}", proxy.said());
    drop((proxy, server, net));

    let mut direct = Direct::default();
    for outcome in outcomes.iter_mut().filter(|outcome| outcome.proxied.is_err()) {
        let ways = setup.without_proxy(outcome.cell);
        // FileZilla's active uploads to pyftpdlib, for one, work every other time: what works has to work again and again.
        let always = |(setup, cell)| (0..10).try_for_each(|_| direct.run(&setup, cell));
        outcome.direct = Some(ways.into_iter().try_for_each(always));
    }
    outcomes
}

/// Servers that are reached without the proxy.
#[derive(Default)]
struct Direct(HashMap<String, (Server, Net)>);

impl Direct {
    fn run(&mut self, setup: &Setup, cell: Cell) -> Result<(), Failure> {
        let (server, net) = self.0.entry(setup.server_key()).or_insert_with(|| {
            let net = Net::new(SERVER);
            certificate::write(net.scratch());
            give_public_address_to_server(&net);
            (setup.start(&net), net)
        });
        run(net, server, cell)
    }
}

/// Takes the cloud away: the server has the public address itself, and nothing is translated or kept out.
fn give_public_address_to_server(net: &Net) {
    net.nft(Host::Gateway, "flush ruleset");
    let gateway = r#"echo 1 > /proc/sys/net/ipv4/conf/pub/proxy_arp && ip addr del "$1/24" dev pub &&
        ip route add "$1" via 172.16.0.20 dev vpc"#;
    run_program(net.command(Host::Gateway, "sh").args(["-c", gateway, "sh", EIP]));
    run_program(net.command(Host::Server, "ip").args(["addr", "add", &format!("{EIP}/32"), "dev", "eth0"]));
}

fn run(net: &Net, server: &Server, Cell { client, verb, tls }: Cell) -> Result<(), Failure> {
    let dir = format!("{}-{}", client.name().replace(' ', "-"), verb.as_str());
    let (remote, local) = (server.root().join(&dir), net.scratch().join(&dir));
    let (up, down) = (payload(1), payload(2));
    make_writable_dir(&remote);
    place(&remote.join("down.bin"), &down);
    make_writable_dir(&remote.join("two"));
    place(&remote.join("two/first.txt"), b"1");
    place(&remote.join("two/second.txt"), b"22");
    fs::create_dir(&local).unwrap();
    fs::write(local.join("up.bin"), &up).unwrap();

    let certificate = net.scratch().join("cert.pem");
    let job = Job { login: server.login(), dir: &dir, local: &local, verb, tls, certificate: &certificate };
    let ran = job.run(net, client);

    let mut wrong = Vec::new();
    if difference(&local.join("down.bin"), &down).is_some() {
        wrong.push("download");
    }
    if client.uploads_and_lists() {
        if difference(&remote.join("up.bin"), &up).is_some() {
            wrong.push("upload");
        }
        let listing = fs::read_to_string(local.join("listing")).unwrap_or_default();
        if !["first.txt", "second.txt"].iter().all(|name| listing.contains(name)) {
            wrong.push("listing");
        }
    }
    fs::remove_dir_all(&local).unwrap();
    fs::remove_dir_all(&remote).unwrap();
    if wrong.is_empty() && ran.success {
        return Ok(());
    }
    Err(Failure { why: explain(&ran, &wrong), transcript: format!("{}\n--- {}", ran.transcript, server.log()) })
}

impl Job<'_> {
    fn run(&self, net: &Net, client: Client) -> Ran {
        match client {
            Client::Interop(client) => {
                let task = Task {
                    client,
                    mode: Mode::over_ipv4(self.verb),
                    tls: self.tls,
                    login: self.login,
                    remote_dir: self.dir,
                    local_dir: self.local,
                    steps: &[
                        Step::Put { local: b"up.bin", remote: b"up.bin" },
                        Step::Get { remote: b"down.bin", local: b"down.bin" },
                        Step::List { remote: b"two", local: b"listing" },
                    ],
                    patience: 10,
                };
                task.run(net, LIMIT)
            }
            Client::More(more) => bounded(&more.command(net, self), LIMIT),
        }
    }
}

/// What failed, and the last refusal or error that the client has shown.
fn explain(ran: &Ran, wrong: &[&str]) -> String {
    let is_refusal = |line: &str| {
        let mut words = line.split_whitespace();
        words.any(|word| word.len() == 3 && word.starts_with(['4', '5']) && word.bytes().all(|b| b.is_ascii_digit()))
    };
    // Nobody verifies the certificate.
    let is_error =
        |line: &str| (line.contains("rror") || line.starts_with("curl: (")) && !line.starts_with("verify error");
    let what = match wrong {
        [] => "the client reports failure".to_owned(),
        wrong => format!("no {}", wrong.join(", no ")),
    };
    let time = if ran.timed_out { "; no end" } else { "" };
    let Some(line) = ran.transcript.lines().rev().find(|line| is_refusal(line) || is_error(line)) else {
        return format!("{what}{time}");
    };
    let kind = if is_refusal(line) { "last refusal: " } else { "" };
    format!("{what}{time}; {kind}`{}`", line.trim().replace('|', "\\|"))
}

/// Without a pattern that would hide a piece that is missing, the same in every run.
fn payload(seed: u32) -> Vec<u8> {
    (0..65_521_u32).map(|n| (n + seed).wrapping_mul(2_654_435_761).to_be_bytes()[0]).cycle().take(SIZE).collect()
}
