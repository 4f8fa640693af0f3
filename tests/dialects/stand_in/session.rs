//! One session of a stand-in: a command, its reply, the next one.

use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::dialect::{Dialect, Text};
use super::offer::{Offer, Passive};
use super::store::Store;
use super::transfer::{Content, Job, Running};
use super::{Shared, lock};

/// How often the session looks at its clock.
const SLICE: Duration = Duration::from_millis(50);

/// What fills the gaps of a text.
#[derive(Debug, Clone, Default)]
pub struct Fill {
    pub path: String,
    pub bytes: u64,
    pub binary: bool,
    pub verb: String,
    pub foreign: Option<SocketAddr>,
    pub port: Option<SocketAddr>,
}

/// The way back to the client, shared with the transfer.
#[derive(Debug, Clone)]
pub struct Replies(Arc<Mutex<TcpStream>>);

impl Replies {
    pub fn say(&self, text: &Text, fill: &Fill) {
        let mut wire = text.wire.replace("{path}", &fill.path).replace("{bytes}", &fill.bytes.to_string());
        wire = wire.replace("{type}", if fill.binary { "BINARY" } else { "ASCII" }).replace("{verb}", &fill.verb);
        // Of a transfer that took a second.
        wire = wire.replace("{kb}", &format!("{}.{:02}", fill.bytes / 1024, fill.bytes % 1024 * 100 / 1024));
        if let Some(foreign) = fill.foreign {
            wire = wire.replace("{host}", &foreign.ip().to_string()).replace("{address}", &foreign.to_string());
        }
        if let Some(SocketAddr::V4(addr)) = fill.port {
            let [h1, h2, h3, h4] = addr.ip().octets();
            let [p1, p2] = addr.port().to_be_bytes();
            wire = wire.replace("{tuple}", &format!("{h1},{h2},{h3},{h4},{p1},{p2}"));
        }
        if let Some(addr) = fill.port {
            wire = wire.replace("{port}", &addr.port().to_string());
        }
        // Latin-1 is the encoding that changes no byte of a name.
        self.raw(&wire.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).chain(*b"\r\n").collect::<Vec<u8>>());
    }

    fn raw(&self, bytes: &[u8]) {
        // A client that is gone is noticed when it is read from.
        let _gone = lock(&self.0).write_all(bytes);
    }
}

/// What the next line is.
enum Next {
    Line(Vec<u8>),
    Idle,
    End,
}

struct Session {
    shared: Arc<Shared>,
    reader: BufReader<TcpStream>,
    replies: Replies,
    client: IpAddr,
    local: IpAddr,
    store: Store,
    user: Option<String>,
    logged_in: bool,
    binary: bool,
    restart: u64,
    epsv_all: bool,
    offer: Option<Offer>,
    running: Option<Running>,
}

/// Serves one client to its end.
pub fn serve(stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SLICE))?;
    SockRef::from(&stream).set_out_of_band_inline(true)?;
    let peer = stream.peer_addr()?;
    let mut session = Session {
        shared: Arc::clone(shared),
        replies: Replies(Arc::new(Mutex::new(stream.try_clone()?))),
        client: peer.ip().to_canonical(),
        local: stream.local_addr()?.ip().to_canonical(),
        reader: BufReader::new(stream),
        store: Store::new(&shared.root),
        user: None,
        logged_in: false,
        binary: false,
        restart: 0,
        epsv_all: false,
        offer: None,
        running: None,
    };
    session.reply(|dialect| &dialect.texts.greeting);
    loop {
        match session.next() {
            Next::Line(line) => {
                let line: String = line.into_iter().map(char::from).collect();
                lock(&shared.heard).push((peer, line.clone()));
                if !session.obey(&line)? {
                    return Ok(());
                }
            }
            Next::Idle => {
                session.reply(|dialect| &dialect.texts.idle);
                return Ok(());
            }
            Next::End => {
                if let Some(running) = session.running.take() {
                    running.abort();
                }
                return Ok(());
            }
        }
    }
}

impl Session {
    /// The next command, without its line end and without the Telnet bytes that go before an ABOR.
    fn next(&mut self) -> Next {
        let mut since = Instant::now();
        let mut line = Vec::new();
        loop {
            match self.reader.read_until(b'\n', &mut line) {
                Ok(0) => return Next::End,
                Ok(_) if line.ends_with(b"\n") => {
                    while line.last().is_some_and(|byte| b"\r\n".contains(byte)) {
                        line.pop();
                    }
                    let start = line.iter().position(|byte| *byte < 0xf0).unwrap_or(line.len());
                    return Next::Line(line.split_off(start));
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if self.running.as_ref().is_some_and(|running| !running.is_over()) {
                        since = Instant::now();
                    }
                    if self.shared.limits().is_some_and(|limits| since.elapsed() > limits.control_idle) {
                        return Next::Idle;
                    }
                }
                Err(_) => return Next::End,
            }
        }
    }

    fn fill(&self) -> Fill {
        Fill { binary: self.binary, ..Fill::default() }
    }

    fn reply(&self, text: impl Fn(&Dialect) -> &Text) {
        self.replies.say(text(self.shared.dialect), &self.fill());
    }

    /// A command that this server does not have.
    fn unknown(&self, verb: &str) {
        self.replies.say(&self.shared.dialect.texts.unknown, &Fill { verb: verb.to_owned(), ..self.fill() });
    }

    fn either(&self, text: Option<&Text>, verb: &str) {
        match text {
            Some(text) => self.replies.say(text, &self.fill()),
            None => self.unknown(verb),
        }
    }

    /// Whether the session goes on.
    fn obey(&mut self, line: &str) -> io::Result<bool> {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let verb = verb.to_ascii_uppercase();
        if verb == "ABOR" {
            if let Some(running) = self.running.take() {
                running.abort();
            }
            self.offer = None;
            self.reply(|dialect| &dialect.texts.abor);
            return Ok(true);
        }
        // One thing after the other.
        if let Some(running) = self.running.take() {
            running.finish();
        }
        if !self.logged_in && !self.is_for_strangers(&verb) {
            self.reply(|dialect| &dialect.texts.not_logged_in);
            return Ok(true);
        }
        match verb.as_str() {
            "QUIT" => {
                self.reply(|dialect| &dialect.texts.quit);
                return Ok(false);
            }
            "AUTH" if self.shared.dialect.texts.auth.is_some() => {
                self.either(self.shared.dialect.texts.auth.as_ref(), &verb);
                let _client_hello = self.next();
                return Ok(false);
            }
            "PASV" | "P@SW" | "EPSV" | "LPSV" | "PORT" | "EPRT" => self.prepare(&verb, argument)?,
            "RETR" | "STOR" | "APPE" | "LIST" | "NLST" => self.transfer(&verb, argument),
            _ => self.small(&verb, argument),
        }
        Ok(true)
    }

    fn is_for_strangers(&self, verb: &str) -> bool {
        // Serv-U 15.1 answers 530 to SYST.
        let system = verb == "SYST" && !self.shared.dialect.name.starts_with("Serv-U");
        system || ["USER", "PASS", "QUIT", "FEAT", "OPTS", "HOST", "AUTH", "NOOP", "CLNT"].contains(&verb)
    }

    /// Commands that move nothing.
    fn small(&mut self, verb: &str, argument: &str) {
        let texts = &self.shared.dialect.texts;
        let name = latin1(argument);
        match verb {
            "USER" => self.user(argument),
            "PASS" => {
                self.logged_in = self.user.is_some();
                let anonymous = self.user.as_deref().is_some_and(is_anonymous);
                self.reply(|dialect| match (anonymous, self.logged_in) {
                    (true, _) => &dialect.texts.pass_anonymous,
                    (false, true) => &dialect.texts.pass,
                    (false, false) => &dialect.texts.not_logged_in,
                });
            }
            "SYST" => self.reply(|dialect| &dialect.texts.system),
            "FEAT" => self.features(),
            "OPTS" => self.either(texts.options_utf8.as_ref(), verb),
            "HOST" => self.either(texts.host.as_ref(), verb),
            "PWD" | "XPWD" => {
                let path = self.store.directory().into_iter().map(char::from).collect();
                self.replies.say(&texts.directory, &Fill { path, ..self.fill() });
            }
            "CWD" | "CDUP" => {
                let found = self.store.enter(if verb == "CDUP" { b".." } else { &name });
                self.done(found);
            }
            "DELE" => self.done(self.store.delete(&name)),
            "MKD" => self.done(self.store.make_directory(&name)),
            "SIZE" => match self.store.size(&name) {
                Some(size) => self.replies.raw(format!("213 {size}\r\n").as_bytes()),
                None => self.done(false),
            },
            "MDTM" => match self.store.size(&name) {
                Some(_) => self.replies.raw(b"213 20240102030400\r\n"),
                None => self.done(false),
            },
            "REST" => {
                self.restart = argument.trim().parse().unwrap_or(0);
                self.reply(|dialect| &dialect.texts.restart);
            }
            "TYPE" => {
                self.binary = argument.starts_with(['I', 'i']);
                self.reply(|dialect| &dialect.texts.okay);
            }
            "NOOP" | "MODE" | "STRU" | "ALLO" => self.reply(|dialect| &dialect.texts.okay),
            _ => self.unknown(verb),
        }
    }

    fn done(&self, well: bool) {
        self.reply(|dialect| if well { &dialect.texts.file_okay } else { &dialect.texts.no_file });
    }

    fn user(&mut self, name: &str) {
        if self.shared.options.requires_tls {
            return self.reply(|dialect| &dialect.texts.tls_required);
        }
        self.user = Some(name.to_owned());
        self.reply(|dialect| if is_anonymous(name) { &dialect.texts.user_anonymous } else { &dialect.texts.user });
    }

    fn features(&self) {
        let Some(features) = &self.shared.dialect.texts.features else { return self.unknown("FEAT") };
        let lines = features.lines.join("\r\n");
        self.replies.raw([features.head.wire, "\r\n", &lines, "\r\n", features.tail.wire, "\r\n"].concat().as_bytes());
    }

    /// PASV, EPSV, PORT, EPRT.
    fn prepare(&mut self, verb: &str, argument: &str) -> io::Result<()> {
        let texts = &self.shared.dialect.texts;
        let text = match verb {
            "PASV" | "P@SW" => &texts.pasv,
            "EPSV" => &texts.epsv,
            "LPSV" => &texts.lpsv,
            "PORT" => &texts.port,
            _ => &texts.eprt,
        };
        let Some(text) = text else {
            self.unknown(verb);
            return Ok(());
        };
        if verb == "EPSV" && argument.eq_ignore_ascii_case("ALL") {
            self.epsv_all = true;
            self.reply(|dialect| &dialect.texts.epsv_all);
            return Ok(());
        }
        if self.epsv_all && verb != "EPSV" {
            self.reply(|dialect| &dialect.texts.after_epsv_all);
            return Ok(());
        }
        if matches!(verb, "PORT" | "EPRT") {
            self.active(text, verb, argument);
            return Ok(());
        }
        self.offer = None;
        match Passive::open(&self.shared, self.client, self.local)? {
            Some((passive, port)) => {
                self.offer = Some(Offer::Passive(passive));
                self.replies.say(text, &Fill { port: Some(SocketAddr::new(self.local, port)), ..self.fill() });
            }
            None => self.either(texts.too_many_pending.as_ref(), verb),
        }
        Ok(())
    }

    fn active(&mut self, text: &Text, verb: &str, argument: &str) {
        let Dialect { texts, habits, .. } = self.shared.dialect;
        let argument = if habits.dots_in_port && verb == "PORT" { argument.replace('.', ",") } else { argument.into() };
        let parsed = if verb == "PORT" { tuple(&argument) } else { extended(&argument) };
        let Some(to) = parsed else { return self.reply(|dialect| &dialect.texts.bad_argument) };
        if habits.checks_port && to.ip() != self.client {
            let fill = Fill { foreign: Some(to), ..self.fill() };
            return self.replies.say(&texts.foreign_port, &fill);
        }
        if to.port() < 1024 {
            return self.replies.say(texts.low_port.as_ref().unwrap_or(&texts.bad_argument), &self.fill());
        }
        self.offer = Some(Offer::active(self.local, to, habits.connects_before_reply));
        self.replies.say(text, &self.fill());
    }

    fn transfer(&mut self, verb: &str, argument: &str) {
        let texts = &self.shared.dialect.texts;
        let name = latin1(argument);
        let mut fill = Fill { path: argument.to_owned(), ..self.fill() };
        // Clients put options of ls(1) before the name.
        let listed: Vec<u8> = match argument.strip_prefix('-') {
            Some(options) => latin1(options.split_once(' ').map_or("", |(_, name)| name)),
            None => name.clone(),
        };
        let content = match verb {
            "LIST" => {
                self.store.list(&listed, Some(self.shared.dialect.habits.listing)).map(Cursor::new).map(Content::List)
            }
            "NLST" => self.store.list(&listed, None).map(Cursor::new).map(Content::List),
            "RETR" => self.store.read(&name, self.restart).ok().map(Content::Download),
            _ => self.store.write(&name, self.restart, verb == "APPE").ok().map(Content::Upload),
        };
        self.restart = 0;
        let Some(content) = content else { return self.done(false) };
        let opening = match &content {
            Content::Download(_) => texts.opening_download,
            Content::List(_) => texts.opening_list,
            Content::Upload(_) => texts.opening_upload,
        };
        fill.bytes = match &content {
            Content::Download(file) => file.metadata().map_or(0, |file| file.len()),
            Content::List(text) => text.get_ref().len() as u64,
            Content::Upload(_) => 0,
        };
        self.running = Some(Running::start(Job {
            shared: Arc::clone(&self.shared),
            replies: self.replies.clone(),
            client: self.client,
            offer: self.offer.take(),
            content,
            opening,
            fill,
        }));
    }
}

fn is_anonymous(user: &str) -> bool {
    ["anonymous", "ftp"].iter().any(|name| user.eq_ignore_ascii_case(name))
}

/// A line is kept as Latin-1, which loses nothing.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect()
}

/// `h1,h2,h3,h4,p1,p2`.
fn tuple(text: &str) -> Option<SocketAddr> {
    let numbers: Vec<u8> = text.split(',').map(|n| n.trim().parse()).collect::<Result<_, _>>().ok()?;
    let [h1, h2, h3, h4, p1, p2] = numbers[..] else { return None };
    Some((IpAddr::from([h1, h2, h3, h4]), u16::from_be_bytes([p1, p2])).into())
}

/// `|1|address|port|`, any delimiter.
fn extended(text: &str) -> Option<SocketAddr> {
    let delimiter = text.chars().next()?;
    let fields: Vec<&str> = text.split(delimiter).collect();
    let ["", _family, address, port, ""] = fields[..] else { return None };
    Some((address.parse::<IpAddr>().ok()?.to_canonical(), port.parse().ok()?).into())
}
