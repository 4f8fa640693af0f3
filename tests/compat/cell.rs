//! One cell of the table: a client in a mode moves files to and from a server, and what both ends have is compared.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::clients::{self, Mode, Step, Task, Verb};
use crate::clients_more::More;
use crate::matrix::difference;
use crate::net::{EIP, Host, Net, PROXY, SERVER};
use crate::process::{Outcome as Ran, bounded, run as run_program};
use crate::proxy;
use crate::server::{Kind, Server};
use crate::servers::{make_writable_dir, place};

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

    pub fn verbs(self) -> Vec<Verb> {
        match self {
            Self::Interop(kind) => kind.modes().iter().filter(|mode| !mode.ipv6).map(|mode| mode.verb).collect(),
            Self::More(more) => more.verbs().to_vec(),
        }
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
}

impl Cell {
    /// All of them, in the order of the table.
    pub fn all() -> Vec<Self> {
        let of = |client: Client| client.verbs().into_iter().map(move |verb| Self { client, verb });
        Client::all().into_iter().flat_map(of).collect()
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

/// Runs all cells of a server through the proxy, and those that fail once more without it.
pub fn run_all(kind: Kind, cells: &[Cell]) -> Vec<Outcome> {
    let net = Net::new(PROXY);
    let server = Server::start(&net, kind);
    let proxy = proxy::in_front_of_server(&net, "same");
    let mut outcomes: Vec<Outcome> =
        cells.iter().map(|cell| Outcome { cell: *cell, proxied: run(&net, &server, *cell), direct: None }).collect();
    assert!(!proxy.said().contains("panicked"), "{}", proxy.said());
    drop((proxy, server, net));

    if outcomes.iter().any(|outcome| outcome.proxied.is_err()) {
        let net = Net::new(SERVER);
        give_public_address_to_server(&net);
        let server = Server::start(&net, kind);
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.proxied.is_err()) {
            outcome.direct = Some(run(&net, &server, outcome.cell));
        }
    }
    outcomes
}

/// Takes the cloud away: the server has the public address itself, and nothing is translated or kept out.
fn give_public_address_to_server(net: &Net) {
    net.nft(Host::Gateway, "flush ruleset");
    let gateway = r#"echo 1 > /proc/sys/net/ipv4/conf/pub/proxy_arp && ip addr del "$1/24" dev pub &&
        ip route add "$1" via 172.16.0.20 dev vpc"#;
    run_program(net.command(Host::Gateway, "sh").args(["-c", gateway, "sh", EIP]));
    run_program(net.command(Host::Server, "ip").args(["addr", "add", &format!("{EIP}/32"), "dev", "eth0"]));
}

fn run(net: &Net, server: &Server, Cell { client, verb }: Cell) -> Result<(), Failure> {
    let dir = format!("{}-{}", client.name(), verb.as_str());
    let (remote, local) = (server.root().join(&dir), net.scratch().join(&dir));
    let (up, down) = (payload(1), payload(2));
    make_writable_dir(&remote);
    place(&remote.join("down.bin"), &down);
    make_writable_dir(&remote.join("two"));
    place(&remote.join("two/first.txt"), b"1");
    place(&remote.join("two/second.txt"), b"22");
    fs::create_dir(&local).unwrap();
    fs::write(local.join("up.bin"), &up).unwrap();

    let job = Job { login: server.login(), dir: &dir, local: &local, verb };
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
                    mode: Mode { verb: self.verb, ipv6: false },
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

/// What failed, and the last refusal that the client has shown.
fn explain(ran: &Ran, wrong: &[&str]) -> String {
    let is_refusal = |line: &&str| {
        let mut words = line.split_whitespace();
        words.any(|word| word.len() == 3 && word.starts_with(['4', '5']) && word.bytes().all(|b| b.is_ascii_digit()))
    };
    let last = |wanted: &dyn Fn(&&str) -> bool| {
        ran.transcript.lines().rev().find(|line| wanted(line)).map(|line| line.trim().replace('|', "\\|"))
    };
    let what = match wrong {
        [] => "the client reports failure".to_owned(),
        wrong => format!("no {}", wrong.join(", no ")),
    };
    let time = if ran.timed_out { "; no end" } else { "" };
    if let Some(refusal) = last(&is_refusal) {
        return format!("{what}{time}; last refusal: `{refusal}`");
    }
    match last(&|line| line.contains("Error")) {
        Some(error) => format!("{what}{time}; `{error}`"),
        None => format!("{what}{time}"),
    }
}

/// Without a pattern that would hide a piece that is missing, the same in every run.
fn payload(seed: u32) -> Vec<u8> {
    (0..65_521_u32).map(|n| (n + seed).wrapping_mul(2_654_435_761).to_be_bytes()[0]).cycle().take(SIZE).collect()
}
