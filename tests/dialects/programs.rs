//! Client programs as they are: each takes a reply by its own rule, connects where it would, and must get the file.
//!
//! The table ([`table`]) says what a program sends and which code it wants, [`read_227`] and [`read_229`] how it reads.
//! What has been seen of the real programs ([`SEEN`]) holds for these, too.

mod read_227;
mod read_229;
mod table;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use table::{ALL, Address, Program, is_private};

use crate::client::{Client, Data, Reply, named};
use crate::stage::{Route, Stage, content, with_every_server};
use crate::stand_in::named as server;
use crate::support::wire::{Dial, Door, End, Wire};

impl Program {
    fn called(name: &str) -> &'static Self {
        ALL.iter().find(|program| program.name == name).unwrap_or_else(|| panic!("{name} is not in the table"))
    }

    /// Where it connects after this reply.
    fn target(&self, verb: &str, reply: &Reply, peer: Ipv4Addr) -> Result<SocketAddrV4, String> {
        let why = |what: &str| format!("{}: {what}: {:?}", self.name, reply.text());
        let wants = |code: &str| reply.text().starts_with(code).then_some(()).ok_or_else(|| why("wants another code"));
        let mut tuple = None;
        let mut port = None;
        match (verb, &self.reads_229, &self.reads_227) {
            ("EPSV", Some(how), plain) => {
                wants(how.code)?;
                port = (how.read)(reply);
                if port.is_none() && how.or_227 {
                    tuple = plain.as_ref().and_then(|plain| (plain.read)(reply));
                }
            }
            ("PASV", _, Some(how)) => {
                wants(how.code)?;
                tuple = (how.read)(reply);
            }
            _ => return Err(why("never asks so")),
        }
        let to = match (tuple, port) {
            (Some(tuple), _) => SocketAddrV4::new(self.address(*tuple.ip(), peer), tuple.port()),
            (None, Some(port)) => SocketAddrV4::new(peer, port),
            (None, None) => return Err(why("finds no port")),
        };
        if (self.shuns)(to.port()) { Err(why("shuns that port")) } else { Ok(to) }
    }

    fn address(&self, claimed: Ipv4Addr, peer: Ipv4Addr) -> Ipv4Addr {
        match self.connects_to {
            Address::Trusted => claimed,
            Address::Ignored => peer,
            Address::PrivateIsPeer if is_private(claimed) && !is_private(peer) => peer,
            Address::PrivateIsPeer => claimed,
        }
    }

    /// Logs in as it does.
    #[track_caller]
    fn log_in(&self, client: &mut Client) {
        for command in self.before_login {
            client.ask(command);
        }
        client.log_in();
        for command in self.after_login {
            client.ask(command);
        }
    }

    /// A passive data connection, by the first of these commands that leads to one.
    fn connect(&self, verbs: &[&str], client: &mut Client, internet: &Internet<'_>) -> Result<Wire, String> {
        let mut why = Vec::new();
        for verb in verbs {
            let reply = client.ask(verb);
            // The client knows the public address as that of the control connection.
            let found = self.target(verb, &reply, internet.peer).and_then(|to| internet.connect(to));
            match found {
                Ok(wire) => return Ok(wire),
                Err(error) => why.push(error),
            }
        }
        Err(why.join("; "))
    }
}

/// What a client can reach: the public address, and nothing private.
struct Internet<'a> {
    stage: &'a Stage,
    peer: Ipv4Addr,
}

impl<'a> Internet<'a> {
    fn new(stage: &'a Stage) -> Self {
        let peer = crate::support::scene::PUBLIC.parse().unwrap();
        Self { stage, peer }
    }

    fn connect(&self, to: SocketAddrV4) -> Result<Wire, String> {
        let stage = self.stage;
        let Some(reached) = stage.reach(to.into()) else { return Err(format!("{to} does not exist out here")) };
        let dial = Dial { from: stage.net.client(), to: reached, receive_buffer: None };
        Wire::dial(&stage.log, "client data", dial).map_err(|error| format!("{to}: {error}"))
    }
}

/// Every program against every server: in its own order, and with each command that it can be made to use.
#[test]
fn every_program_gets_its_file_from_every_server() {
    with_every_server(|dialect| {
        let stage = Stage::plain(dialect);
        let internet = Internet::new(&stage);
        let mut transfers = 0;
        for program in &ALL {
            let mut client = stage.greeted(Route::Proxied, stage.net.client());
            program.log_in(&mut client);
            let mut orders = vec![program.passive.to_vec()];
            orders.extend(program.reads_229.is_some().then(|| vec!["EPSV"]));
            orders.extend(program.reads_227.is_some().then(|| vec!["PASV"]));
            for verbs in orders.iter().filter(|verbs| !verbs.is_empty()) {
                let what = format!("{} with {verbs:?} of {}", program.name, dialect.name);
                let mut data =
                    program.connect(verbs, &mut client, &internet).unwrap_or_else(|why| stage.log.fail(&why));
                client.say("RETR down.bin", "1");
                assert!(data.rest() == (content(1), End::Fin), "{what}");
                client.wants("226");
                transfers += 1;
            }
            transfers += fetch_actively(program, &stage, &mut client);
        }
        assert!(transfers > 2 * ALL.len(), "{}: only {transfers} transfers", dialect.name);
    });
}

fn fetch_actively(program: &Program, stage: &Stage, client: &mut Client) -> usize {
    if program.active.is_empty() {
        return 0;
    }
    let door = Door::open(&stage.log, "client data", stage.net.client(), 0);
    // The next command if the server does not know the first one.
    let accepted = program.active.iter().any(|verb| client.ask(&named(verb, door.addr())).code() == "200");
    assert!(accepted, "{}: {:?} refused by {}", program.name, program.active, stage.dialect.name);
    client.say("RETR down.bin", "1");
    let mut data = door.accept();
    // As commons-net does: who connects must be the host that the control connection goes to.
    assert!(!program.verifies_remote || data.peer().ip() == client.wire.peer().ip(), "{} verifies", program.name);
    assert!(data.rest() == (content(1), End::Fin), "{} {:?}", program.name, program.active);
    client.wants("226");
    1
}

/// The same network with a relay that translates nothing: no program reaches a data port there, whatever it makes of
/// the address.
#[test]
fn no_program_gets_its_file_without_translation() {
    for name in ["IIS 7.5", "Serv-U 15", "IBM i"] {
        let stage = Stage::plain(server(name));
        let relay = blind_relay(stage.net.stranger(), stage.net.server());
        let internet = Internet::new(&stage);
        for program in ALL.iter().filter(|program| !program.passive.is_empty()) {
            let mut client = Client::greeted(&stage.log, stage.net.client(), relay);
            client.log_in();
            let reached = program.connect(program.passive, &mut client, &internet);
            // The data ports of the proxy that wait for nobody reset who comes.
            let served = reached.is_ok_and(|mut wire| wire.is_silent(Duration::from_secs(1)));
            assert!(!served, "{} has reached {name}: the table does not bite", program.name);
        }
    }
}

/// Passes bytes to the server, and its replies as they are.
fn blind_relay(ip: IpAddr, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let pump = |mut from: TcpStream, mut to: TcpStream| -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let count = from.read(&mut buffer)?;
            if count == 0 {
                return to.shutdown(std::net::Shutdown::Write);
            }
            to.write_all(&buffer[..count])?;
        }
    };
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(to).unwrap();
            let (back, forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || pump(back, forth));
            thread::spawn(move || pump(client, server));
        }
    });
    at
}

/// What was found out by running the real programs: a reply to PASV, and who makes a data connection of it.
/// The order is that of [`RUN`].
const SEEN: &[(&str, [bool; 7])] = &[
    ("227 Entering Passive Mode (127,0,0,1,4,51).\r\n", [true; 7]),
    ("227 Entering Passive Mode (127,0,0,1,4,51)\r\n", [true; 7]),
    ("227 =127,0,0,1,4,51\r\n", [true; 7]),
    ("227 127,0,0,1,4,51\r\n", [true; 7]),
    ("227 Entering Passive Mode. A=127,0,0,1,4,51\r\n", [true; 7]),
    ("227 Entering Passive Mode <127,0,0,1,4,51>\r\n", [true; 7]),
    ("227 Entering Passive Mode [127,0,0,1,4,51]\r\n", [true; 7]),
    ("227 Entering Passive Mode(127,0,0,1,4,51)\r\n", [true; 7]),
    ("227 Entering Passive Mode (127,000,000,001,004,051)\r\n", [true; 7]),
    ("227 Entering Passive Mode (127,0,0,1,4,51,)\r\n", [true; 7]),
    // curl 7.88 took spaces, its later versions do not.
    ("227 Entering Passive Mode (127, 0, 0, 1, 4, 51)\r\n", [false, false, true, true, true, true, false]),
    ("227 Entering Passive Mode (127.0.0.1.4.51)\r\n", [false; 7]),
    ("227 FTP2 server 15.1 passive (127,0,0,1,4,51)\r\n", [true, false, true, false, false, false, true]),
    ("227-listen socket created\r\n227 (127,0,0,1,4,51)\r\n", [true, true, true, true, true, false, true]),
    ("227 \u{bd}\u{f8}\u{c8}\u{eb} (127,0,0,1,4,51)\r\n", [true, true, true, true, true, true, false]),
];

const RUN: [&str; 7] = ["curl", "wget", "lftp", "tnftp", "inetutils", "ncftp", "ftplib"];

/// Likewise for EPSV.
const SEEN_EPSV: &[(&str, &[(&str, bool)])] = &[
    (
        "229 Entering Extended Passive Mode (!!!1075!)\r\n",
        &[("curl", true), ("lftp", true), ("tnftp", true), ("inetutils", true), ("ftplib", true), ("aria2", false)],
    ),
    (
        "229 Entering Extended Passive Mode (|||1075|).\r\n",
        &[("curl", true), ("lftp", true), ("tnftp", true), ("inetutils", true), ("ftplib", true)],
    ),
    ("229-Entering\r\n229 Mode (|||1075|)\r\n", &[("curl", true), ("tnftp", true), ("ftplib", true)]),
    (
        "229 Entering Extended Passive Mode |||1075|\r\n",
        &[("curl", false), ("lftp", false), ("tnftp", false), ("inetutils", true), ("ftplib", false), ("wget", false)],
    ),
    // A 227 where 229 was due.
    (
        "227 Entering Passive Mode (127,0,0,1,4,51).\r\n",
        &[
            ("curl", false),
            ("lftp", false),
            ("tnftp", false),
            ("inetutils", false),
            ("ftplib", false),
            ("basic-ftp", false),
            ("FluentFTP", true),
        ],
    ),
];

/// Otherwise a program that takes everything would prove nothing about the proxy.
#[test]
fn the_scripted_programs_refuse_what_the_real_ones_refuse() {
    let peer = Ipv4Addr::LOCALHOST;
    let expected = SocketAddrV4::new(peer, 1075);
    for (text, outcomes) in SEEN {
        for (name, works) in RUN.iter().zip(outcomes) {
            let found = Program::called(name).target("PASV", &Reply::of(text), peer);
            assert_eq!(found == Ok(expected), *works, "{name} {text:?}: {found:?}");
        }
    }
    for (text, outcomes) in SEEN_EPSV {
        for (name, works) in *outcomes {
            let found = Program::called(name).target("EPSV", &Reply::of(text), peer);
            assert_eq!(found == Ok(expected), *works, "{name} {text:?}: {found:?}");
        }
    }
}

/// What the documentation of a parser says, of programs that were not run.
#[test]
fn the_scripted_programs_keep_their_peculiarities() {
    let public = Ipv4Addr::new(203, 0, 113, 10);
    let at = |ip: Ipv4Addr, port| Ok(SocketAddrV4::new(ip, port));
    let pasv = |name: &str, text: &str| Program::called(name).target("PASV", &Reply::of(text), public);
    let private = "227 Entering Passive Mode (10,0,0,5,4,51)\r\n";
    assert_eq!(pasv("FileZilla", private), at(public, 1075));
    assert_eq!(pasv("curl", private), at(public, 1075));
    assert_eq!(pasv("tnftp", private), at(Ipv4Addr::new(10, 0, 0, 5), 1075));
    assert_eq!(pasv("wget", "227 (1,2,3,4,260,51)\r\n"), at(Ipv4Addr::new(1, 2, 3, 4), 1075));
    assert!(pasv("FileZilla", "227 Mode<203,0,113,10,4,51>\r\n").is_err());
    assert!(pasv("WinSCP", "227 Mode (203,0,113,10,4,51,9)\r\n").is_err());
    assert!(pasv("aria2", "227 Mode =203,0,113,10,4,51\r\n").is_err());
    assert!(pasv("Chromium", "227-Hello\r\n227 (203,0,113,10,4,51)\r\n").is_err());
    assert!(pasv("Chromium", "227 (203,0,113,10,8,1)\r\n").is_err());
    assert!(pasv("commons-net", "227-Hello\r\n227 (203,0,113,10,4,51)\r\n").is_err());
    assert!(pasv("tnftp", "228 (203,0,113,10,4,51)\r\n").is_err());
    // The last two tokens are the port, whatever comes before.
    assert_eq!(pasv(".NET FtpWebRequest", "227 a b c d e f 4,51)\r\n"), at(public, 1075));
    assert!(pasv("Windows ftp.exe", private).is_err());
    let epsv = |name: &str, text: &str| Program::called(name).target("EPSV", &Reply::of(text), public);
    assert_eq!(epsv("wget", "229 Mode (|||1075|)\r\n"), at(public, 1075));
    assert!(epsv("wget", "229 Mode (|||1075|\r\n").is_err());
    assert!(epsv("FileZilla", "229 Mode (!!!1075!)\r\n").is_err());
    assert_eq!(epsv("basic-ftp", "229 Mode (!!!6446!)\r\n"), at(public, 6446));
    assert!(epsv("basic-ftp", "229 Mode (!!6446!)\r\n").is_err());
    assert!(epsv("aria2", "229 Success )(|||12000|)\r\n").is_err());
}

/// The form in which the reply reaches the client is one that all of them take, also where the server's was not.
#[test]
fn forms_that_programs_fail_on_arrive_translated() {
    let stage = Stage::plain(server("IBM i"));
    let mut client = stage.client(Route::Direct);
    let raw = client.ask("EPSV");
    let fails = |name: &str| Program::called(name).target("EPSV", &raw, Ipv4Addr::LOCALHOST).is_err();
    assert!(["FileZilla", "WinSCP", "aria2"].iter().all(|name| fails(name)), "{raw:?}");
    let mut client = stage.client(Route::Proxied);
    let translated = client.ask("EPSV");
    for program in ALL.iter().filter(|program| program.reads_229.is_some()) {
        program.target("EPSV", &translated, Ipv4Addr::LOCALHOST).unwrap();
    }
    assert!(matches!(client.prepare("EPSV"), Data::Connected(_)));
}
