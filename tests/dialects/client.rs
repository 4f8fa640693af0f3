//! A client on a raw connection: commands, whole replies, data connections.

use std::net::{IpAddr, SocketAddr};

use crate::support::transcript::Transcript;
use crate::support::wire::{Door, End, Wire};

/// A reply, one line or several; a character is a byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// With their CRLF.
    pub lines: Vec<String>,
}

impl Reply {
    pub fn code(&self) -> &str {
        self.last().get(..3).unwrap_or_default()
    }

    pub fn last(&self) -> &str {
        self.lines.last().map_or("", String::as_str)
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.lines.concat()
    }

    /// A reply that is made up.
    pub fn of(text: &str) -> Self {
        Self { lines: text.split_inclusive('\n').map(str::to_owned).collect() }
    }
}

#[derive(Debug)]
pub struct Client {
    pub wire: Wire,
    log: Transcript,
    /// Every reply so far.
    pub replies: Vec<Reply>,
}

/// How a data connection will come about.
#[derive(Debug)]
pub enum Data {
    Connected(Wire),
    Awaited(Door),
}

impl Client {
    #[track_caller]
    pub fn greeted(log: &Transcript, from: IpAddr, to: SocketAddr) -> Self {
        let wire = Wire::connect(log, "client", from, to);
        let mut client = Self { wire, log: log.clone(), replies: Vec::new() };
        client.reply();
        client
    }

    #[track_caller]
    pub fn log_in(&mut self) {
        self.say("USER alice", "331");
        self.say("PASS secret", "230");
        self.say("TYPE I", "200");
    }

    /// A reply ends with a line that has the code of its first one and a space (RFC 959 §4.2).
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        let mut lines = vec![self.wire.line()];
        let code = lines[0].get(..3).unwrap_or_default().to_owned();
        if lines[0].get(3..4) == Some("-") {
            while !lines[lines.len() - 1].starts_with(&format!("{code} ")) {
                lines.push(self.wire.line());
            }
        }
        let reply = Reply { lines };
        self.replies.push(reply.clone());
        reply
    }

    #[track_caller]
    pub fn ask(&mut self, command: &str) -> Reply {
        self.wire.send(format!("{command}\r\n"));
        self.reply()
    }

    /// A command and the code of its reply.
    #[track_caller]
    pub fn say(&mut self, command: &str, code: &str) -> Reply {
        let reply = self.ask(command);
        if !reply.text().starts_with(code) {
            self.wire.fail(&format!("wanted {code} to {command}, got {reply:?}"));
        }
        reply
    }

    #[track_caller]
    pub fn wants(&mut self, code: &str) -> Reply {
        let reply = self.reply();
        if reply.code() != code {
            self.wire.fail(&format!("wanted {code}, got {reply:?}"));
        }
        reply
    }

    /// Prepares a data connection with one of the four commands. Passive ones go to the control connection's address.
    #[track_caller]
    pub fn prepare(&mut self, verb: &str) -> Data {
        match verb {
            "PASV" | "EPSV" => {
                let port = self.passive_port(verb);
                Data::Connected(self.connect(port))
            }
            _ => {
                let door = Door::open(&self.log, "client data", self.wire.local().ip(), 0);
                self.say(&named(verb, door.addr()), "200");
                Data::Awaited(door)
            }
        }
    }

    /// The port in the reply.
    #[track_caller]
    pub fn passive_port(&mut self, verb: &str) -> u16 {
        let reply = self.say(verb, if verb == "EPSV" { "229" } else { "227" });
        let inside = reply.last().split('(').nth(1).and_then(|rest| rest.split(')').next()).unwrap_or_default();
        let numbers: Vec<u16> = inside.split([',', '|', '!']).filter_map(|n| n.parse().ok()).collect();
        match numbers[..] {
            [port] => port,
            [.., p1, p2] => p1 * 256 + p2,
            [] => self.wire.fail(&format!("no port in {reply:?}")),
        }
    }

    #[track_caller]
    pub fn connect(&self, port: u16) -> Wire {
        let to = SocketAddr::new(self.wire.peer().ip(), port);
        Wire::connect(&self.log, "client data", self.wire.local().ip(), to)
    }

    /// RETR, LIST or NLST: what arrives on the data connection.
    #[track_caller]
    pub fn download(&mut self, verb: &str, command: &str) -> Vec<u8> {
        let data = self.prepare(verb);
        let opening = self.ask(command);
        if !["125", "150"].contains(&opening.code()) {
            self.wire.fail(&format!("wanted 125 or 150 to {command}, got {opening:?}"));
        }
        let mut data = data.established();
        let (bytes, end) = data.rest();
        if end != End::Fin {
            self.wire.fail(&format!("{command} ended with {end:?} after {} bytes", bytes.len()));
        }
        self.wants("226");
        bytes
    }

    /// STOR or APPE.
    #[track_caller]
    pub fn upload(&mut self, verb: &str, command: &str, content: &[u8]) {
        let data = self.prepare(verb);
        let opening = self.ask(command);
        if !["125", "150"].contains(&opening.code()) {
            self.wire.fail(&format!("wanted 125 or 150 to {command}, got {opening:?}"));
        }
        let mut data = data.established();
        data.send(content);
        data.finish();
        self.wants("226");
    }
}

impl Data {
    #[track_caller]
    pub fn established(self) -> Wire {
        match self {
            Self::Connected(wire) => wire,
            Self::Awaited(door) => door.accept(),
        }
    }
}

/// PORT or EPRT for an address.
pub fn named(verb: &str, addr: SocketAddr) -> String {
    let port = addr.port();
    if verb == "PORT" {
        format!("PORT {},{},{}", addr.ip().to_string().replace('.', ","), port / 256, port % 256)
    } else {
        format!("EPRT |1|{}|{port}|", addr.ip())
    }
}
