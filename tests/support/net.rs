//! Loopback addresses that no other test uses, so that tests run in parallel with fixed ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// The control port of every proxy under test, above the privileged ones: the tests need no root.
pub(crate) const PROXY_PORT: u16 = 2121;
/// The control port of every fake server.
pub(crate) const SERVER_PORT: u16 = 2100;

/// How many ports [`Net::port_block`] gives.
pub(crate) const BLOCK: u16 = 6;

/// The addresses of one test: a /28 of its own within 127.0.0.0/8.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Net {
    index: u16,
}

/// How many addresses a test has.
const PER_TEST: u16 = 16;

impl Net {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        Self { index: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    pub(crate) fn proxy(self) -> SocketAddr {
        SocketAddr::new(self.host(1), PROXY_PORT)
    }

    pub(crate) fn server(self) -> SocketAddr {
        SocketAddr::new(self.host(2), SERVER_PORT)
    }

    /// The client that tests use unless they need several.
    pub(crate) fn client(self) -> IpAddr {
        self.host(3)
    }

    /// A second client.
    pub(crate) fn stranger(self) -> IpAddr {
        self.host(4)
    }

    /// A client of another /24 than all addresses of the test. Tests share it, to connect from.
    pub(crate) fn elsewhere(self) -> IpAddr {
        self.neighbour(0)
    }

    /// One of many clients of that /24.
    pub(crate) fn neighbour(self, n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, process_octet(), 0, 2 + n))
    }

    /// Where tests must share an address (IPv6 has one loopback address only) they differ in the ports: a
    /// control port that is the caller's alone, and [`BLOCK`] − 1 after it for data.
    pub(crate) fn port_block(self) -> u16 {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let block = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(block < 8, "the ports are used up");
        // Above the data ports that tests have on addresses of their own, and below the ephemeral ones: 254
        // processes with 8 blocks make 20,548 to 32,739.
        20_500 + u16::from(process_octet()) * 48 + block * BLOCK
    }

    /// A port for the server's data connections, which are taken on every address of this machine. No other test has it.
    pub(crate) fn server_data_port() -> u16 {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 32, "the ports are used up");
        // Below all other data ports: 254 processes with 32 ports make 10,032 to 18,159.
        10_000 + u16::from(process_octet()) * 32 + port
    }

    fn host(self, host: u16) -> IpAddr {
        let within = self.index * PER_TEST + host;
        let [high, low] = within.to_be_bytes();
        // The first block is left to the lock of `process_octet`.
        IpAddr::V4(Ipv4Addr::new(127, process_octet(), high + 1, low))
    }
}

/// The second octet of all addresses of this process. A listener that lives as long as the process holds it,
/// so that test processes that run at the same time never share one.
fn process_octet() -> u8 {
    static HELD: OnceLock<(u8, TcpListener)> = OnceLock::new();
    HELD.get_or_init(|| {
        let first = std::process::id() % 254;
        (0..254)
            .map(|offset| u8::try_from((first + offset) % 254 + 1).expect("1 to 254"))
            .find_map(|octet| Some((octet, TcpListener::bind((Ipv4Addr::new(127, octet, 0, 1), 1999)).ok()?)))
            .expect("a free block of loopback addresses")
    })
    .0
}
