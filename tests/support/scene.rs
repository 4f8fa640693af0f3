//! A fake server, the proxy in front of it, and clients.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::net::Net;
use super::proxy::Proxy;
use super::transcript::Transcript;
use super::wire::{Dial, Door, Wire};

/// The public address that clients are told to use. As behind a 1:1 NAT, the machine does not have it: the
/// tests connect to the proxy's own address instead, as the NAT would.
pub(crate) const PUBLIC: &str = "203.0.113.10";

/// The banner of the fake server.
pub(crate) const BANNER: &str = "220 Microsoft FTP Service\r\n";

/// More than any test leaves unused within five seconds, for which an unused port rests.
pub(crate) const DATA_PORTS: &str = "20000-20063";

/// What a test configures; each is YAML.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// `client.data_ports`.
    pub(crate) data_ports: &'static str,
    /// `client.data_peer`.
    pub(crate) data_peer: &'static str,
    /// `client.address_map[0].announce`.
    pub(crate) announce: &'static str,
    /// The body of the flow map `server: { … }`.
    pub(crate) server: &'static str,
    /// Further lines of the listener.
    pub(crate) more: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self { data_ports: DATA_PORTS, data_peer: "exact", announce: PUBLIC, server: "data_mode: same", more: "" }
    }
}

impl Setup {
    pub(crate) fn yaml(&self, bind: SocketAddr, upstream: &str) -> String {
        let Self { data_ports, data_peer, announce, server, more } = self;
        let mut yaml = format!(
            "listeners:\n  - bind: [\"{bind}\"]\n    upstream: \"{upstream}\"\n    client:\n      address_map: \
             [{{ peers: any, announce: \"{announce}\" }}]\n      data_ports: {data_ports}\n      data_peer: {data_peer}\n    \
             server: {{ {server} }}\n"
        );
        for line in more.lines() {
            let _infallible = writeln!(yaml, "    {line}");
        }
        yaml
    }
}

/// A proxy with the server behind it.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) net: Net,
    pub(crate) proxy: Proxy,
    /// The control port of the server.
    pub(crate) server: Door,
    pub(crate) log: Transcript,
}

impl Scene {
    /// Nothing out of the ordinary is configured.
    #[track_caller]
    pub(crate) fn plain() -> Self {
        Self::start(Setup::default())
    }

    /// The log has all that it can have.
    #[track_caller]
    pub(crate) fn with_every_log_line() -> Self {
        let (net, log) = (Net::new(), Transcript::new());
        let server = Door::open(&log, "server", net.server().ip(), net.server().port());
        let yaml = Setup::default().yaml(net.proxy(), &net.server().to_string());
        let proxy = Proxy::start_at_level("trace", &log, &yaml, &[net.proxy()]);
        Self { net, proxy, server, log }
    }

    /// `server.data_mode` is this.
    #[track_caller]
    pub(crate) fn mode(server: &'static str) -> Self {
        Self::start(Setup { server, ..Setup::default() })
    }

    /// The listener has these lines, too.
    #[track_caller]
    pub(crate) fn with(more: &'static str) -> Self {
        Self::start(Setup { more, ..Setup::default() })
    }

    #[track_caller]
    pub(crate) fn start(setup: Setup) -> Self {
        let net = Net::new();
        Self::start_at(net, &setup.yaml(net.proxy(), &net.server().to_string()), &[net.proxy()])
    }

    #[track_caller]
    pub(crate) fn start_at(net: Net, yaml: &str, listens_on: &[SocketAddr]) -> Self {
        let log = Transcript::new();
        let server = Door::open(&log, "server", net.server().ip(), net.server().port());
        let proxy = Proxy::start(&log, yaml, listens_on);
        Self { net, proxy, server, log }
    }

    /// A client connects.
    #[track_caller]
    pub(crate) fn knock(&self) -> Wire {
        Wire::connect(&self.log, "client", self.net.client(), self.net.proxy())
    }

    /// A client connects, and the proxy connects to the server; nothing has been said.
    #[track_caller]
    pub(crate) fn silent_session(&self, from: IpAddr) -> Session {
        let client = Wire::connect(&self.log, "client", from, self.net.proxy());
        let server = self.server.accept();
        Session { client, server, log: self.log.clone() }
    }

    /// A client connects and has read the server's banner.
    #[track_caller]
    pub(crate) fn greeted(&self, from: IpAddr) -> Session {
        let mut session = self.silent_session(from);
        session.reply(BANNER);
        session
    }

    /// A client has logged in.
    #[track_caller]
    pub(crate) fn session(&self) -> Session {
        self.session_from(self.net.client())
    }

    #[track_caller]
    pub(crate) fn session_from(&self, from: IpAddr) -> Session {
        let mut session = self.greeted(from);
        session.exchange("USER alice\r\n", "331 Password required\r\n");
        session.exchange("PASS opensesame\r\n", "230 User logged in.\r\n");
        session
    }

    /// Whether a connection to this data port is taken.
    pub(crate) fn data_port_takes(&self, from: IpAddr, port: u16) -> bool {
        let to = SocketAddr::new(self.net.proxy().ip(), port);
        let Ok(mut wire) = Wire::dial(&self.log, "probe", Dial { from, to, receive_buffer: None }) else {
            return false;
        };
        // Without a lease the kernel's handshake succeeds and a reset follows at once.
        wire.is_open()
    }

    /// None of the default data ports lets anybody in: no lease is there.
    #[track_caller]
    pub(crate) fn no_leases(&self) {
        for port in 20_000..=20_063 {
            if self.data_port_takes(self.net.client(), port) {
                self.log.fail(&format!("port {port} is open"));
            }
        }
    }
}

/// The two ends of a session: what the client and the server see.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Wire,
    pub(crate) server: Wire,
    pub(crate) log: Transcript,
}

impl Session {
    /// A command arrives as it was sent.
    #[track_caller]
    pub(crate) fn command(&mut self, command: impl AsRef<[u8]>) {
        self.client.send(&command);
        self.server.expect(command);
    }

    /// A reply arrives as it was sent.
    #[track_caller]
    pub(crate) fn reply(&mut self, reply: impl AsRef<[u8]>) {
        self.server.send(&reply);
        self.client.expect(reply);
    }

    #[track_caller]
    pub(crate) fn exchange(&mut self, command: impl AsRef<[u8]>, reply: impl AsRef<[u8]>) {
        self.command(command);
        self.reply(reply);
    }

    /// The proxy answers by itself, and the server hears nothing of it: the next command comes first.
    #[track_caller]
    pub(crate) fn refused(&mut self, command: impl AsRef<[u8]>, code: &str) -> String {
        self.client.send(command);
        let line = self.client.line_starting(code);
        self.is_usable();
        line
    }

    /// A command and its reply pass, in both directions with nothing before them.
    #[track_caller]
    pub(crate) fn is_usable(&mut self) {
        self.exchange("NOOP\r\n", "200 noop command successful.\r\n");
    }
}
