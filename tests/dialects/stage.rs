//! A stand-in, the proxy in front of it, and who may reach what.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::thread;

use tempfile::TempDir;

use crate::client::Client;
use crate::stand_in::dialect::Dialect;
use crate::stand_in::{ALL, Options, StandIn};
use crate::support::net::Net;
use crate::support::proxy::Proxy;
use crate::support::scene::{PUBLIC, Setup};
use crate::support::transcript::Transcript;

/// What is there to be downloaded: more than one buffer of anybody's.
pub const SIZE: usize = 300_000;

/// Which way a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Direct,
    Proxied,
}

#[derive(Debug)]
pub struct Stage {
    pub dialect: &'static Dialect,
    pub net: Net,
    pub log: Transcript,
    pub server: StandIn,
    _proxy: Proxy,
    root: TempDir,
}

impl Stage {
    #[track_caller]
    pub fn plain(dialect: &'static Dialect) -> Self {
        Self::new(dialect, Options::default(), Setup::default())
    }

    #[track_caller]
    pub fn new(dialect: &'static Dialect, options: Options, setup: Setup) -> Self {
        let net = Net::new();
        let log = Transcript::new();
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("down.bin"), content(1)).unwrap();
        std::fs::create_dir(root.path().join("two")).unwrap();
        std::fs::write(root.path().join("two/first.txt"), b"1").unwrap();
        std::fs::write(root.path().join("two/second file.txt"), b"22").unwrap();
        let server = StandIn::start(dialect, options, net.server(), root.path().to_owned()).unwrap();
        let proxy = Proxy::start(&log, &setup.yaml(net.proxy(), &net.server().to_string()), &[net.proxy()]);
        Self { dialect, net, log, server, _proxy: proxy, root }
    }

    /// A file of the server's.
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn control(&self, route: Route) -> SocketAddr {
        match route {
            Route::Direct => self.net.server(),
            Route::Proxied => self.net.proxy(),
        }
    }

    /// A client that has read the greeting.
    #[track_caller]
    pub fn greeted(&self, route: Route, from: IpAddr) -> Client {
        Client::greeted(&self.log, from, self.control(route))
    }

    /// A client that has logged in.
    #[track_caller]
    pub fn client(&self, route: Route) -> Client {
        self.client_from(route, self.net.client())
    }

    #[track_caller]
    pub fn client_from(&self, route: Route, from: IpAddr) -> Client {
        let mut client = self.greeted(route, from);
        client.log_in();
        client
    }

    /// Where a packet of a client on the internet arrives: the NAT leads the public address to the proxy, private
    /// addresses do not exist. The proxy's own address here is what the client knows as the control address.
    pub fn reach(&self, to: SocketAddr) -> Option<SocketAddr> {
        let proxy = self.net.proxy().ip();
        let public: IpAddr = PUBLIC.parse().unwrap();
        [proxy, public].contains(&to.ip()).then(|| SocketAddr::new(proxy, to.port()))
    }
}

/// Does the same with every server, all at once.
pub fn with_every_server(test: impl Fn(&'static Dialect) + Sync) {
    thread::scope(|scope| {
        let test = &test;
        let threads: Vec<_> = ALL.map(|dialect| (dialect.name, scope.spawn(move || test(dialect)))).into();
        let failed: Vec<_> =
            threads.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect();
        assert!(failed.is_empty(), "failed with {failed:?}; the reasons are above");
    });
}

/// [`SIZE`] bytes that repeat with a prime period.
pub fn content(seed: u32) -> Vec<u8> {
    (0..65_521_u32).map(|n| (n + seed).wrapping_mul(2_654_435_761).to_be_bytes()[0]).cycle().take(SIZE).collect()
}
