//! The PROXY protocol towards the server: before anything else it is told who the client is
//! (`server.proxy_protocol`, haproxy.org's proxy-protocol.txt, called "the specification" here).
//!
//! Servers differ in where they want it. All that know the protocol take it on the control connection. On data
//! connections ProFTPD's mod_proxy_protocol takes it for the first bytes of the file (its FAQ), while SFTPGo wraps its
//! passive listeners as well and compares the client there with that of the control connection, and HAProxy expects it on
//! each port with `accept-proxy`. So it goes with data only if told (`server.proxy_protocol_data`). A connection that the
//! *server* opens has none: the specification has the header come from whoever connects.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use ppp::{v1, v2};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::control::Endpoint;
use super::socket;
use crate::addr::Leg;
use crate::config::{HeaderVersion, Listener, ProxyHeader};

/// The header for a control connection.
pub(super) fn of_control(header: ProxyHeader, client: Endpoint) -> Bytes {
    write(header.version, client)
}

/// The header for a connection of our own, behind which there is no client: the server takes it for what it is.
pub(super) fn of_ourselves(version: HeaderVersion) -> Bytes {
    match version {
        HeaderVersion::V1 => v1::Addresses::Unknown.to_string().into(),
        HeaderVersion::V2 => {
            let unspecified = v2::AddressFamily::Unspecified | v2::Protocol::Unspecified;
            built(v2::Builder::new(v2::Version::Two | v2::Command::Local, unspecified))
        }
    }
}

/// The header for a data connection that we open, if it has one. Its ports are those of the client's data connection,
/// where there is one by now; its addresses are those of the control connection, with which the server compares.
pub(super) fn of_data(header: Option<ProxyHeader>, mut client: Endpoint, data: Option<&TcpStream>) -> Option<Bytes> {
    let header = header.filter(|header| header.data)?;
    if let Some((peer, local)) = data.and_then(|data| Some((data.peer_addr().ok()?, data.local_addr().ok()?))) {
        client.peer.set_port(peer.port());
        client.dialled.set_port(local.port());
    }
    Some(write(header.version, client))
}

/// Opens a data connection to the server, from the address from which its control connection comes, and writes the header
/// if there is one. TLS, where it is spoken, begins behind it.
pub(super) async fn dial(
    config: &Listener,
    target: SocketAddr,
    source: IpAddr,
    header: Option<Bytes>,
) -> io::Result<TcpStream> {
    let whose = config.whose_address(Leg::Server);
    let mut stream = socket::connect(target, source, whose, config.timeouts.connect_server).await?;
    if let Some(header) = header {
        // The socket is new and takes more than this at once.
        stream.write_all(&header).await?;
    }
    Ok(stream)
}

/// From the client's address to the one that it has connected to. Of two families both are written as IPv6, as HAProxy does
/// it (`make_proxy_line_v1`, `_v2`): otherwise the specification (§2.1, §2.2) has but `UNKNOWN`, and the server would take
/// the client for us.
fn write(version: HeaderVersion, client: Endpoint) -> Bytes {
    let mut addresses = (client.peer, client.dialled);
    if addresses.0.is_ipv4() != addresses.1.is_ipv4() {
        addresses = (as_ipv6(addresses.0), as_ipv6(addresses.1));
    }
    match version {
        HeaderVersion::V1 => v1::Addresses::from(addresses).to_string().into(),
        HeaderVersion::V2 => {
            built(v2::Builder::with_addresses(v2::Version::Two | v2::Command::Proxy, v2::Protocol::Stream, addresses))
        }
    }
}

fn built(header: v2::Builder) -> Bytes {
    header.build().expect("two addresses are 36 bytes, of 65,535 that the length can say").into()
}

/// An IPv4 address as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
fn as_ipv6(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(addr) => (addr.ip().to_ipv6_mapped(), addr.port()).into(),
        SocketAddr::V6(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: ProxyHeader = ProxyHeader { version: HeaderVersion::V1, data: false };
    const V2: ProxyHeader = ProxyHeader { version: HeaderVersion::V2, data: true };

    fn client(peer: &str, local: &str) -> Endpoint {
        Endpoint::direct(peer.parse().unwrap(), local.parse().unwrap())
    }

    #[test]
    fn a_line_of_text() {
        let header = |peer, local| of_control(V1, client(peer, local));
        assert_eq!(
            header("198.51.100.7:40000", "203.0.113.10:21"),
            "PROXY TCP4 198.51.100.7 203.0.113.10 40000 21\r\n"
        );
        assert_eq!(header("[2001:db8::7]:40000", "[::1]:21"), "PROXY TCP6 2001:db8::7 ::1 40000 21\r\n");
        // The interface of a link-local address is nobody else's business.
        assert_eq!(header("[fe80::7%3]:40000", "[fe80::1%3]:21"), "PROXY TCP6 fe80::7 fe80::1 40000 21\r\n");
    }

    /// A load balancer of both families in front of us says so, and we read `::ffff:203.0.113.10` as IPv4.
    #[test]
    fn sec_15_the_client_is_named_also_where_it_has_dialled_the_other_family() {
        let (six, four) = ("[2001:db8::7]:40000", "203.0.113.10:21");
        let line = |peer, dialled| of_control(V1, client(peer, dialled));
        assert_eq!(line(six, four), "PROXY TCP6 2001:db8::7 ::ffff:203.0.113.10 40000 21\r\n");
        assert_eq!(line(four, six), "PROXY TCP6 ::ffff:203.0.113.10 2001:db8::7 21 40000\r\n");
        let binary = of_control(V2, client(six, four));
        assert_eq!((&binary[12..16], binary.len()), (&[0x21, 0x21, 0, 36][..], 16 + 36));
        assert_eq!(binary[32..48], std::net::Ipv4Addr::new(203, 0, 113, 10).to_ipv6_mapped().octets());
    }

    /// Behind a load balancer it is that which the client has connected to.
    #[test]
    fn sec_15_the_header_names_what_the_client_has_dialled() {
        let [peer, dialled, local] =
            ["198.51.100.7:40000", "203.0.113.10:21", "172.16.0.10:2121"].map(|addr| addr.parse().unwrap());
        let header = of_control(V1, Endpoint::behind(peer, dialled, local));
        assert_eq!(header, "PROXY TCP4 198.51.100.7 203.0.113.10 40000 21\r\n");
    }

    /// §2.1: `UNKNOWN` needs no addresses. §2.2: signature, version 2 and LOCAL, `AF_UNSPEC`, and no addresses.
    #[test]
    fn a_header_without_a_client() {
        assert_eq!(of_ourselves(HeaderVersion::V1), "PROXY UNKNOWN\r\n");
        assert_eq!(of_ourselves(HeaderVersion::V2), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".as_slice());
    }

    /// The bytes of §2.2: signature, version 2 and PROXY, family and STREAM, length, addresses, ports.
    #[test]
    fn a_binary_header() {
        let signature = b"\r\n\r\n\0\r\nQUIT\n".as_slice();
        let four = of_control(V2, client("198.51.100.7:40000", "203.0.113.10:21"));
        let addresses = [198, 51, 100, 7, 203, 0, 113, 10, 0x9c, 0x40, 0, 21];
        assert_eq!(four, [signature, &[0x21, 0x11, 0, 12], &addresses].concat());
        let six = of_control(V2, client("[2001:db8::7]:40000", "[::1]:21"));
        assert_eq!((&six[..16], six.len()), (&[signature, &[0x21, 0x21, 0, 36]].concat()[..], 16 + 36));
    }

    #[tokio::test]
    async fn sec_15_data_has_the_addresses_of_the_control_connection_and_ports_of_its_own() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dialled, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (dialled, data) = (dialled.unwrap(), accepted.unwrap().0);
        let at = client("198.51.100.7:40000", "203.0.113.10:21");
        let header = ProxyHeader { data: true, ..V1 };
        let (theirs, ours) = (dialled.local_addr().unwrap().port(), data.local_addr().unwrap().port());
        let expected = format!("PROXY TCP4 198.51.100.7 203.0.113.10 {theirs} {ours}\r\n");
        assert_eq!(of_data(Some(header), at, Some(&data)).unwrap(), expected);
        assert_eq!(of_data(Some(header), at, None).unwrap(), of_control(header, at), "not connected yet");
        assert_eq!(of_data(Some(V1), at, Some(&data)), None);
        assert_eq!(of_data(None, at, Some(&data)), None);
    }
}
