//! Replies that must not be believed, waited for, or followed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use crate::metadata::{Metadata, Reply};
use crate::{PUBLIC, config, find_at, found, refused};

#[test]
fn an_address_that_is_not_public_is_refused() {
    for (address, kind) in [
        ("10.0.0.5", "private"),
        ("172.16.0.5", "private"),
        ("192.168.1.5", "private"),
        ("100.100.100.200", "shared address space"),
        ("169.254.169.254", "link-local"),
        ("127.0.0.1", "a loopback address"),
        ("0.0.0.0", "unspecified"),
        ("224.0.0.1", "a multicast address"),
        ("255.255.255.255", "a broadcast address"),
    ] {
        let message = refused("hetzner", &Metadata::new(move |_| Reply::text(address)));
        assert!(message.contains(&format!("{address} is {kind}")), "{message}");
    }
}

/// It would lead to whatever this machine can reach, with the token on board.
#[test]
fn a_redirect_is_not_followed() {
    let trap = Metadata::new(|_| Reply::text(PUBLIC));
    let to = format!("{}/latest", trap.url());
    let message = refused("aws", &Metadata::new(move |_| Reply::Redirect(to.clone())));
    assert!(message.contains("302 Found, a redirect to \"http://127."), "{message}");
    assert!(message.contains("which is not followed"), "{message}");
    assert!(trap.seen().is_empty(), "{:?}", trap.seen());
}

#[test]
fn garbage_is_no_address() {
    for (reply, what) in [
        (Reply::text("<html>Welcome to the hotel</html>"), "no IPv4 address: \"<html>Welcome"),
        (Reply::text("2001:db8::1"), "no IPv4 address"),
        (Reply::text("\u{1b}[2J\u{7}"), "no IPv4 address: \"\\u{1b}"),
        (Reply::Bytes(b"220 FTP server ready\r\n".to_vec()), "no valid HTTP"),
        (Reply::Bytes(vec![0xff; 100_000]), "no valid HTTP"),
        (Reply::Bytes(Vec::new()), "no valid HTTP"),
        (Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n203.0.113.1".to_vec()), "no valid HTTP"),
        (Reply::status(500), "500 Internal Server Error"),
        (Reply::status(429), "429 Too Many Requests"),
    ] {
        let shown = format!("{reply:.60?}");
        let message = refused("huawei", &Metadata::new(move |_| reply.clone()));
        assert!(message.contains(what) && !message.contains('\u{1b}'), "{shown}: {message}");
    }
}

#[test]
fn a_huge_reply_is_not_read() {
    let declared = Reply::text("2".repeat(10_000_000));
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.extend(vec![b'2'; 10_000_000]);
    for reply in [declared, Reply::Bytes(endless)] {
        let message = refused("hetzner", &Metadata::new(move |_| reply.clone()));
        assert!(message.contains("a reply of more than 65536 bytes"), "{message}");
    }
}

/// The limit is for the whole exchange: neither silence nor a byte now and again holds us.
#[test]
fn a_slow_reply_is_not_waited_for() {
    for reply in [Reply::Silence, Reply::Drip] {
        let start = Instant::now();
        let message = refused("hetzner", &Metadata::new(move |_| reply.clone()));
        assert!(message.contains("no answer within 2s"), "{message}");
        assert!((2..10).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }
}

#[test]
fn a_port_where_nobody_listens_says_so() {
    // Bound, so that nobody else takes it meanwhile.
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let at = bound.local_addr().unwrap().as_socket().unwrap();
    let message = find_at(&config("hetzner", &format!("http://{at}"))).unwrap_err().to_string();
    assert!(message.contains("cannot connect: Connection refused"), "{message}");
}

/// A virtual host or a firewall may depend on it; what a proxy would add must not be there.
#[test]
fn requests_name_the_host_and_nobody_else() {
    let service = Metadata::new(|_| Reply::text(PUBLIC));
    found("tencent", &service);
    let seen = &service.seen()[0];
    assert_eq!(seen.field("host").map(|host| format!("http://{host}")), Some(service.url()));
    let mut fields: Vec<&str> = seen.fields.keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["connection", "host", "user-agent"]);
}
