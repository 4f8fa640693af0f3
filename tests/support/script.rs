//! What peers say to set up a data connection, written out for every combination of verb and mode.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::scene::{PUBLIC, Scene, Session};
use super::transcript::Transcript;
use super::wire::{Dial, Door, End, Wire};

/// How a client asks for a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Pasv,
    Epsv,
    Port,
    Eprt,
}

impl Ask {
    pub(crate) const ALL: [Self; 4] = [Self::Pasv, Self::Epsv, Self::Port, Self::Eprt];

    fn is_passive(self) -> bool {
        matches!(self, Self::Pasv | Self::Epsv)
    }

    /// What the server is asked over IPv4, given `server.data_mode`.
    pub(crate) fn at_server(self, mode: &str) -> Self {
        match (mode, self) {
            ("passive", Self::Port | Self::Eprt) => Self::Pasv,
            ("active", _) => Self::Port,
            _ => self,
        }
    }
}

/// What a peer of the proxy does for a data connection.
#[derive(Debug)]
pub(crate) enum Side {
    Accepts(Door),
    Dials {
        from: IpAddr,
        to: SocketAddr,
    },
    /// It is told where to dial, by this, right before the command that needs it.
    ToldLater(Ask),
}

/// Both peers know what to do for the next transfer.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) client: Side,
    pub(crate) server: Side,
    log: Transcript,
}

/// A data connection.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) client: Wire,
    pub(crate) server: Wire,
}

impl Offer {
    pub(crate) fn of(session: &Session, client: Side, server: Side) -> Self {
        Self { client, server, log: session.log.clone() }
    }

    /// Those who dial do so, then those who accept.
    #[track_caller]
    pub(crate) fn connect(self) -> Data {
        let Self { client, server, log } = self;
        let client = start(&log, "client data", client);
        let server = start(&log, "server data", server);
        Data { client: complete(client), server: complete(server) }
    }

    /// Where the client is to connect to.
    pub(crate) fn client_target(&self) -> SocketAddr {
        match &self.client {
            Side::Dials { to, .. } => *to,
            Side::Accepts(door) => panic!("the client waits at {}", door.addr()),
            Side::ToldLater(_) => panic!("the client is told at once"),
        }
    }

    /// The client alone connects.
    #[track_caller]
    pub(crate) fn client_connects(&self) -> Wire {
        let Side::Dials { from, to } = self.client else { panic!("the client waits") };
        Wire::connect(&self.log, "client data", from, to)
    }

    /// As [`connect`](Self::connect), with a client that takes little before it reads.
    #[track_caller]
    pub(crate) fn connect_slow_client(self) -> Data {
        let Self { client, server, log } = self;
        let Side::Dials { from, to } = client else { panic!("the client waits") };
        let client = Wire::connect_slow(&log, "client data", from, to);
        Data { client, server: complete(start(&log, "server data", server)) }
    }

    /// The server stops waiting, then the client connects, and sees a reset.
    #[track_caller]
    pub(crate) fn server_refuses(self) {
        let Self { client, server, log } = self;
        drop(server);
        let Side::Dials { from, to } = client else { panic!("the client waits") };
        match Wire::dial(&log, "client data", Dial { from, to, receive_buffer: None }) {
            Ok(mut wire) => wire.ends_with(End::Reset),
            // The reset may be quicker than the socket option that follows the connect.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    /// Where the server waits.
    pub(crate) fn server_door(&self) -> &Door {
        match &self.server {
            Side::Accepts(door) => door,
            Side::Dials { to, .. } => panic!("the server is to connect to {to}"),
            Side::ToldLater(_) => panic!("the server is to connect"),
        }
    }
}

enum Begun {
    Connected(Wire),
    Waiting(Door),
}

#[track_caller]
fn start(log: &Transcript, name: &str, side: Side) -> Begun {
    match side {
        Side::Dials { from, to } => Begun::Connected(Wire::connect(log, name, from, to)),
        Side::Accepts(door) => Begun::Waiting(door),
        Side::ToldLater(_) => panic!("nobody has told this side"),
    }
}

#[track_caller]
fn complete(begun: Begun) -> Wire {
    match begun {
        Begun::Connected(wire) => wire,
        Begun::Waiting(door) => door.accept(),
    }
}

impl Session {
    /// The client asks for a data connection, the server agrees, and the client is told so.
    #[track_caller]
    pub(crate) fn offer(&mut self, ask: Ask, mode: &str) -> Offer {
        self.offer_by(ask, mode, ask.at_server(mode))
    }

    /// The same, with what the server has to be asked for.
    #[track_caller]
    pub(crate) fn offer_by(&mut self, ask: Ask, mode: &str, at_server: Ask) -> Offer {
        let mut client_door = None;
        if ask.is_passive() {
            self.client.send(format!("{}\r\n", verb(ask)));
        } else {
            let door = Door::open(&self.log, "client data", self.client.local().ip(), 0);
            let command = command(ask, door.addr());
            self.client.send(command);
            client_door = Some(door);
        }
        let server = if mode == "active" { Side::ToldLater(at_server) } else { self.server_agrees(at_server) };
        let client = match client_door {
            Some(door) => {
                self.client.line_starting("200 ");
                Side::Accepts(door)
            }
            None => self.client_is_told(ask),
        };
        Offer { client, server, log: self.log.clone() }
    }

    /// PASV with `data_mode: same`.
    #[track_caller]
    pub(crate) fn pasv(&mut self) -> Offer {
        self.offer(Ask::Pasv, "same")
    }

    /// The client sends a command that needs the data connection. A server that has not been told where to connect
    /// is told before it gets the command.
    #[track_caller]
    pub(crate) fn transfer_command(&mut self, command: &str, server: Side) -> Side {
        self.client.send(command);
        let server = if let Side::ToldLater(ask) = server { self.server_agrees(ask) } else { server };
        self.server.expect(command);
        server
    }

    /// A transfer command for what was agreed upon, both ends connected; the server says 150 as soon as its own
    /// end is, as vsftpd does.
    #[track_caller]
    pub(crate) fn begin(&mut self, command: &str, offer: Offer) -> Data {
        let Offer { client, server, log } = offer;
        let server = self.transfer_command(command, server);
        let client = start(&log, "client data", client);
        let server = complete(start(&log, "server data", server));
        self.reply("150 Opening BINARY mode data connection.\r\n");
        Data { client: complete(client), server }
    }

    /// PASV and a transfer command with `data_mode: same`, both ends connected; the server has said 150.
    #[track_caller]
    pub(crate) fn transfer(&mut self, command: &str) -> Data {
        let offer = self.pasv();
        self.begin(command, offer)
    }

    /// The rest of a download: this text, then both ends in good order, then 226.
    #[track_caller]
    pub(crate) fn downloads(&mut self, Data { client, server }: Data, text: &str) {
        self.passes(server, client, text);
    }

    /// The same for an upload.
    #[track_caller]
    pub(crate) fn uploads(&mut self, Data { client, server }: Data, text: &str) {
        self.passes(client, server, text);
    }

    #[track_caller]
    fn passes(&mut self, mut from: Wire, mut to: Wire, text: &str) {
        from.send(text);
        from.finish();
        to.expect(text);
        to.ends_with(End::Fin);
        drop((from, to));
        self.reply("226 Transfer complete.\r\n");
    }

    /// The server reads PASV, EPSV, PORT or EPRT and answers.
    #[track_caller]
    pub(crate) fn server_agrees(&mut self, ask: Ask) -> Side {
        if ask.is_passive() {
            self.server.expect(format!("{}\r\n", verb(ask)));
            let door = Door::open(&self.log, "server data", self.server.local().ip(), 0);
            self.server.send(passive_reply(ask, door.addr()));
            return Side::Accepts(door);
        }
        let line = self.server.line_starting(verb(ask));
        let to = if ask == Ask::Port { tuple(&line) } else { extended(&line) };
        self.server.send("200 PORT command successful.\r\n");
        Side::Dials { from: self.server.local().ip(), to }
    }

    /// The client reads 227 or 229 and knows where to connect to.
    #[track_caller]
    pub(crate) fn client_is_told(&mut self, ask: Ask) -> Side {
        let port = match ask {
            Ask::Epsv => extended_port(&self.client.line_starting("229 ")),
            _ => {
                let line = self.client.line_starting("227 ");
                let announced = tuple(&line);
                assert_eq!(announced.ip().to_string(), PUBLIC, "{line}");
                announced.port()
            }
        };
        let to = SocketAddr::new(self.client.peer().ip(), port);
        Side::Dials { from: self.client.local().ip(), to }
    }
}

impl Scene {
    /// What a client would have to connect to on this data port.
    pub(crate) fn data_addr(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.net.proxy().ip(), port)
    }
}

fn verb(ask: Ask) -> &'static str {
    match ask {
        Ask::Pasv => "PASV",
        Ask::Epsv => "EPSV",
        Ask::Port => "PORT",
        Ask::Eprt => "EPRT",
    }
}

/// `PORT h1,…,p2` or `EPRT |af|address|port|` for this address.
pub(crate) fn command(ask: Ask, addr: SocketAddr) -> String {
    match ask {
        Ask::Eprt => {
            format!("EPRT |{}|{}|{}|\r\n", if addr.is_ipv4() { 1 } else { 2 }, addr.ip(), addr.port())
        }
        _ => format!("PORT {}\r\n", commas(addr)),
    }
}

/// As IIS words it: a period after the tuple of 227, none after 229.
pub(crate) fn passive_reply(ask: Ask, addr: SocketAddr) -> String {
    match ask {
        Ask::Epsv => format!("229 Entering Extended Passive Mode (|||{}|)\r\n", addr.port()),
        _ => format!("227 Entering Passive Mode ({}).\r\n", commas(addr)),
    }
}

/// `h1,h2,h3,h4,p1,p2`.
pub(crate) fn commas(addr: SocketAddr) -> String {
    let [high, low] = addr.port().to_be_bytes();
    format!("{},{high},{low}", addr.ip().to_string().replace('.', ","))
}

/// The address in a PORT or 227 line.
pub(crate) fn tuple(line: &str) -> SocketAddr {
    let numbers: Vec<u8> = line
        .split(|c: char| !c.is_ascii_digit() && c != ',')
        .find(|word| word.matches(',').count() == 5)
        .map(|word| word.split(',').map(|number| number.parse().expect("an octet")).collect())
        .unwrap_or_else(|| panic!("no h1,h2,h3,h4,p1,p2 in {line:?}"));
    let [a, b, c, d, high, low] = numbers[..] else { panic!("six numbers in {line:?}") };
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), u16::from_be_bytes([high, low]))
}

/// The address in an EPRT line.
pub(crate) fn extended(line: &str) -> SocketAddr {
    let fields: Vec<&str> = line.split('|').collect();
    SocketAddr::new(fields[2].parse().expect("an address"), fields[3].parse().expect("a port"))
}

/// The port in a 229 line.
pub(crate) fn extended_port(line: &str) -> u16 {
    let start = line.find("(|||").unwrap_or_else(|| panic!("no (|||port|) in {line:?}")) + 4;
    let end = line[start..].find("|)").unwrap_or_else(|| panic!("no (|||port|) in {line:?}"));
    line[start..start + end].parse().expect("a port")
}
