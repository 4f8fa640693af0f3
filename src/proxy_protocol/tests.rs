use proptest::prelude::*;

use super::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2 with this kind and family, and the length that it has.
fn v2(kind: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[kind, family], &length, rest].concat()
}

/// 198.51.100.7:33156 to 203.0.113.10:21, and 2001:db8::7 to 2001:db8:1::10 with the same ports.
const ADDRESSES_V4: &[u8] = &[198, 51, 100, 7, 203, 0, 113, 10, 0x81, 0x84, 0, 21];

fn addresses_v6() -> Vec<u8> {
    let ip = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    [&ip("2001:db8::7")[..], &ip("2001:db8:1::10"), &[0x81, 0x84, 0, 21]].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &u16::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
}

/// A header whose last TLV is the checksum of it all.
fn with_checksum(tlvs: &[u8]) -> Vec<u8> {
    let mut header = v2(0x21, 0x11, &[ADDRESSES_V4, tlvs, &tlv(3, &[0; 4])].concat());
    let checksum = bitwise_crc32c(&header).to_be_bytes();
    let at = header.len() - 4;
    header[at..].copy_from_slice(&checksum);
    header
}

/// RFC 3385 in plain words: reflected polynomial 0x82F63B78, all ones at either end.
fn bitwise_crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 })
    })
}

fn client(source: &str, destination: &str) -> Header {
    Header::Client { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn v4() -> Header {
    client("198.51.100.7:33156", "203.0.113.10:21")
}

/// A whole header, alone, with something behind it, and cut at every byte.
#[track_caller]
fn reads(bytes: &[u8], wanted: Header) {
    let shown = bytes.escape_ascii();
    assert_eq!(parse(bytes), Ok(Some((wanted, bytes.len()))), "{shown}");
    for behind in [&b"\r\n"[..], b"USER alice\r\n", b"\x16\x03\x01\0\xff", b"PROXY "] {
        assert_eq!(parse(&[bytes, behind].concat()), Ok(Some((wanted, bytes.len()))), "{shown} and more");
    }
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Ok(None), "{}", bytes[..end].escape_ascii());
    }
}

/// However much of it there is at a time, nothing comes of it.
#[track_caller]
fn refuses(bytes: &[u8], wanted: Malformed) {
    assert_eq!(parse(bytes), Err(wanted), "{}", bytes.escape_ascii());
    for end in 0..bytes.len() {
        assert!(matches!(parse(&bytes[..end]), Ok(None) | Err(_)), "{}", bytes[..end].escape_ascii());
    }
}

#[test]
fn sec_23_lines_of_version_1() {
    reads(b"PROXY TCP4 198.51.100.7 203.0.113.10 33156 21\r\n", v4());
    reads(b"PROXY TCP6 2001:db8::7 2001:DB8:1::10 33156 21\r\n", client("[2001:db8::7]:33156", "[2001:db8:1::10]:21"));
    reads(b"PROXY TCP4 1.2.3.4 5.6.7.8 0 65535\r\n", client("1.2.3.4:0", "5.6.7.8:65535"));
    // inet_ntop, which HAProxy writes with, has mapped addresses end in a dotted quad.
    reads(b"PROXY TCP6 ::ffff:198.51.100.7 ::ffff:203.0.113.10 33156 21\r\n", v4());
    let longest = "2fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let addr = format!("[{longest}]:65535");
    reads(format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n").as_bytes(), client(&addr, &addr));
}

#[test]
fn sec_23_an_unknown_line_is_read_to_its_end() {
    reads(b"PROXY UNKNOWN\r\n", Header::Unknown);
    reads(b"PROXY UNKNOWN a b c d e f g h\r\n", Header::Unknown);
    reads(b"PROXY UNKNOWN \xff\0PASV\r\n", Header::Unknown);
    let ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let worst = format!("PROXY UNKNOWN {ones} {ones} 65535 65535\r\n");
    assert_eq!(worst.len(), MAX_V1);
    reads(worst.as_bytes(), Header::Unknown);
    refuses(worst.replace(" 65535\r\n", " 655350\r\n").as_bytes(), Malformed::Line);
}

#[test]
fn sec_23_lines_that_are_almost_one_are_refused() {
    for wrong in [
        "PROXY TCP4 198.51.100.7 203.0.113.10 33156 21\n",
        "PROXY TCP4 198.51.100.7 203.0.113.10 33156 21\r \n",
        "PROXY TCP4 198.51.100.7 203.0.113.10 33156 21\r\r\n",
        "PROXY TCP4 198.51.100.7 203.0.113.10 33156 21 \r\n",
        "PROXY TCP4 198.51.100.7 203.0.113.10 33156 21 22\r\n",
        "PROXY TCP4 198.51.100.7 203.0.113.10 33156\r\n",
        "PROXY TCP4 198.51.100.7 203.0.113.10\r\n",
        "PROXY TCP4 198.51.100.7\r\n",
        "PROXY TCP4\r\n",
        "PROXY \r\n",
        "PROXY TCP4  198.51.100.7 203.0.113.10 33156 21\r\n",
        "PROXY TCP4\t198.51.100.7 203.0.113.10 33156 21\r\n",
        "PROXY tcp4 198.51.100.7 203.0.113.10 33156 21\r\n",
        "PROXY TCP5 198.51.100.7 203.0.113.10 33156 21\r\n",
        "PROXY UDP4 198.51.100.7 203.0.113.10 33156 21\r\n",
        "PROXY TCP6 198.51.100.7 203.0.113.10 33156 21\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::8 33156 21\r\n",
        "PROXY TCP4 198.51.100.07 203.0.113.10 33156 21\r\n",
        "PROXY TCP4 198.51.100 203.0.113.10 33156 21\r\n",
        "PROXY TCP4 198.51.100.256 203.0.113.10 33156 21\r\n",
        "PROXY TCP4 198.51.100.7 203.0.113.10 033156 21\r\n",
        "PROXY TCP4 198.51.100.7 203.0.113.10 65536 21\r\n",
        "PROXY TCP4 198.51.100.7 203.0.113.10 +33156 21\r\n",
        "PROXY TCP4 198.51.100.7 203.0.113.10 33156 -21\r\n",
        "PROXY TCP6 fe80::1%eth0 2001:db8::8 33156 21\r\n",
        "PROXY TCP6 2001:db8::7::1 2001:db8::8 33156 21\r\n",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWN x\ry\r\n",
        "PROXY UNKNOWN x\ny\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY unknown\r\n",
        "PROXY TCP4 198.51.100.7\r\nUSER 203.0.113.10 33156 21\r\n",
    ] {
        refuses(wrong.as_bytes(), Malformed::Line);
    }
    for wrong in ["proxy TCP4 ", "PROXY\tTCP4 ", "PROXX", " PROXY ", "USER alice\r\n", "\x16\x03\x01", "\n", "\0"] {
        refuses(wrong.as_bytes(), Malformed::Absent);
    }
}

#[test]
fn sec_23_a_line_without_an_end_is_not_waited_for() {
    let line = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
    assert_eq!(parse(&line[..MAX_V1 - 1]), Ok(None));
    assert_eq!(parse(&line[..MAX_V1]), Err(Malformed::Line));
    // Its CR is the last byte that there may be.
    let cut = [&line[..MAX_V1 - 1], b"\r\n"].concat();
    refuses(&cut, Malformed::Line);
}

#[test]
fn sec_23_headers_of_version_2() {
    reads(&v2(0x21, 0x11, ADDRESSES_V4), v4());
    reads(&v2(0x21, 0x21, &addresses_v6()), client("[2001:db8::7]:33156", "[2001:db8:1::10]:21"));
}

/// Valid kinds of connection that are none of ours: the addresses of the connection itself are used.
#[test]
fn sec_23_other_families_and_transports_are_read_over() {
    reads(&v2(0x21, 0x00, &[]), Header::Unknown);
    reads(&v2(0x21, 0x00, &[7; 40]), Header::Unknown);
    reads(&v2(0x21, 0x12, ADDRESSES_V4), Header::Unknown);
    reads(&v2(0x21, 0x22, &addresses_v6()), Header::Unknown);
    reads(&v2(0x21, 0x31, &[b'/'; 216]), Header::Unknown);
}

/// "Including the family which is ignored" (§2.2).
#[test]
fn sec_23_a_local_connection_is_the_senders_own() {
    for (family, rest) in [(0x00, &[][..]), (0x00, b"junk"), (0x11, &[]), (0x11, ADDRESSES_V4), (0xff, &[3, 0, 4, 0])] {
        reads(&v2(0x20, family, rest), Header::Local);
    }
}

#[test]
fn sec_23_what_version_2_does_not_have_is_refused() {
    for kind in (0x00..=0xff).filter(|kind| !matches!(kind, 0x20 | 0x21)) {
        refuses(&v2(kind, 0x11, ADDRESSES_V4), Malformed::Kind);
    }
    for family in [0x13, 0x1f, 0x41, 0xf1] {
        refuses(&v2(0x21, family, ADDRESSES_V4), Malformed::Kind);
    }
    let mut signature = v2(0x21, 0x11, ADDRESSES_V4);
    signature[11] = b'\r';
    refuses(&signature, Malformed::Absent);
}

#[test]
fn sec_23_lengths_of_version_2_are_checked() {
    refuses(&v2(0x21, 0x11, &ADDRESSES_V4[..11]), Malformed::Length);
    refuses(&v2(0x21, 0x21, ADDRESSES_V4), Malformed::Length);
    refuses(&v2(0x21, 0x31, &[0; 215]), Malformed::Length);
    // As soon as the length is there, and not when all of it is.
    let too_long = v2(0x21, 0x11, &[0; MAX_V2 - V2_FIXED + 1]);
    assert_eq!(parse(&too_long[..V2_FIXED - 1]), Ok(None));
    assert_eq!(parse(&too_long[..V2_FIXED]), Err(Malformed::Length));
    let padding = tlv(4, &[0; MAX_V2 - V2_FIXED - 12 - TLV_FIXED]);
    reads(&v2(0x21, 0x11, &[ADDRESSES_V4, &padding].concat()), v4());
}

/// Of HAProxy (`proxy-v2-options ssl,cert-cn,crc32c,unique-id,authority`) and of the clouds, as far as they are public.
#[test]
fn sec_23_tlvs_are_tolerated() {
    let ssl = [&[7, 0, 0, 0, 0][..], &tlv(0x21, b"TLSv1.3"), &tlv(0x22, b"client")].concat();
    let known = [
        tlv(0x01, b"ftp"),
        tlv(0x02, b"ftp.example.com"),
        tlv(0x04, &[]),
        tlv(0x05, &[0xaa; 128]),
        tlv(0x20, &ssl),
        tlv(0x30, b"netns"),
        tlv(0xea, b"\x01vpce-08d2bf15fac5001c9"),
        tlv(0xee, &[1, 0, 0, 0, 7]),
        tlv(0xe0, &[0; 8]),
        tlv(0xff, &[]),
    ];
    for tlv in &known {
        reads(&v2(0x21, 0x11, &[ADDRESSES_V4, tlv].concat()), v4());
    }
    reads(&v2(0x21, 0x11, &[ADDRESSES_V4, &known.concat()].concat()), v4());
    reads(&with_checksum(&known.concat()), v4());
}

#[test]
fn sec_23_tlvs_that_do_not_fill_their_place_are_refused() {
    for wrong in [&[4][..], &[4, 0], &[4, 0, 1], &[4, 0, 2, 0], &[4, 0xff, 0xff, 0], &[4, 0, 0, 4, 0]] {
        refuses(&v2(0x21, 0x11, &[ADDRESSES_V4, wrong].concat()), Malformed::Length);
    }
}

#[test]
fn sec_23_a_wrong_checksum_is_refused() {
    assert_eq!(bitwise_crc32c(b"123456789"), 0xE306_9283, "the check value of CRC-32/ISCSI");
    let good = with_checksum(&tlv(4, b"pad"));
    reads(&good, v4());
    for at in V2_FIXED..V2_FIXED + ADDRESSES_V4.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        refuses(&bad, Malformed::Checksum);
    }
    refuses(&v2(0x21, 0x11, &[ADDRESSES_V4, &tlv(3, &[0; 3])].concat()), Malformed::Length);
}

#[test]
fn sec_23_addresses_of_nobody_are_refused() {
    for wrong in [
        "TCP4 0.0.0.0 203.0.113.10 33156 21",
        "TCP4 198.51.100.7 0.0.0.0 33156 21",
        "TCP4 224.0.0.1 203.0.113.10 33156 21",
        "TCP4 255.255.255.255 203.0.113.10 33156 21",
        "TCP6 :: 2001:db8::8 33156 21",
        "TCP6 ff02::1 2001:db8::8 33156 21",
        "TCP6 ::ffff:0.0.0.0 2001:db8::8 33156 21",
    ] {
        refuses(format!("PROXY {wrong}\r\n").as_bytes(), Malformed::Address);
    }
}

proptest! {
    #[test]
    fn sec_23_any_addresses_survive(source: [u8; 16], destination: [u8; 16], ports: [u16; 2]) {
        let to = |octets: [u8; 16], port| (std::net::Ipv6Addr::from(octets), port);
        let wanted = super::client(to(source, ports[0]), to(destination, ports[1]));
        let [a, b] = ports.map(u16::to_be_bytes);
        let binary = v2(0x21, 0x21, &[&source[..], &destination, &a, &b].concat());
        prop_assert_eq!(parse(&binary), wanted.map(|header| Some((header, binary.len()))));
        let (source, destination) = (to(source, 0).0, to(destination, 0).0);
        let line = format!("PROXY TCP6 {source} {destination} {} {}\r\n", ports[0], ports[1]);
        prop_assert_eq!(parse(line.as_bytes()), wanted.map(|header| Some((header, line.len()))));
    }
}
