//! The header of the PROXY protocol, by which a load balancer says whom a connection is from. Pure.
//!
//! ```text
//!   v1   PROXY TCP4 198.51.100.7 203.0.113.10 33156 21\r\n
//!   v2   signature (12) │ version, command │ family, transport │ length (2) │ addresses, TLVs (length)
//! ```
//!
//! The specification is HAProxy's `doc/proxy-protocol.txt`; section numbers here are its own. [`parse`] finds where a
//! header ends and what it says, and is as strict as §2 asks for: a receiver that takes almost-headers can be made to
//! take addresses from somebody who is no load balancer.
//!
//! The fields are read by the `ppp` crate, a pure parser of borrowed bytes. Ours is what it leaves open: the end of a
//! header and its greatest length, LOCAL (it would validate a family that §2.2 says to ignore), the rest of an UNKNOWN
//! line, signs in front of ports, and the checksum. (`proxy-protocol-rs` verifies the checksum, but takes ports with
//! leading zeros, refuses UNSPEC, and copies every TLV.)

use std::net::SocketAddr;

use crc::{CRC_32_ISCSI, Crc};
use ppp::{v1, v2};

use crate::addr::canonical;

/// The longest header of version 1, CR LF included (§2.1).
const MAX_V1: usize = 107;

/// The longest header of version 2 that is taken: nginx' `NGX_PROXY_PROTOCOL_MAX_HEADER`. §2 has headers fit in 536 bytes;
/// those with a client's certificate (`PP2_SUBTYPE_SSL_CLIENT_CERT`) do not.
const MAX_V2: usize = 4096;

/// No header is longer than this: a reader needs no more room.
pub const MAX_HEADER: usize = if MAX_V2 > MAX_V1 { MAX_V2 } else { MAX_V1 };

/// What every header of version 1 begins with (§2.1).
const V1: &[u8] = b"PROXY ";

/// What comes before the length of version 2 counts (§2.2): signature, two bytes, and the length.
const V2_FIXED: usize = 16;

/// Version 2, command LOCAL (§2.2).
const V2_LOCAL: u8 = 0x20;

/// `PP2_TYPE_CRC32C` (§2.2.3).
const TLV_CRC32C: u8 = 0x03;
/// Type and length of a TLV (§2.2).
const TLV_FIXED: usize = 3;
/// The checksum of RFC 4960 Appendix B.
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// What a header says about the connection that it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It is somebody's whom the sender serves.
    Client {
        /// The client's own address and port.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
    },
    /// It is the sender's own: a health check. Its addresses are those of the connection itself.
    Local,
    /// It is somebody's, of whom nothing is known that is an address of TCP (UNKNOWN, UNSPEC, UDP, Unix sockets). §2.1
    /// and §2.2 have the addresses of the connection itself used.
    Unknown,
}

/// Why bytes do not begin with a header, however many may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is no attempt at one.
    #[error("no PROXY header comes first")]
    Absent,
    /// Version 1: no CR LF where one is due, or fields that are not as they should be.
    #[error("the PROXY line is not as the protocol has it")]
    Line,
    /// Version 2: a version, command, family or transport that does not exist.
    #[error("the PROXY header is of an unknown version or kind")]
    Kind,
    /// Version 2: a length that is too great, or too small for what it counts.
    #[error("the lengths in the PROXY header are wrong")]
    Length,
    /// Version 2: a checksum that is not that of the header.
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
    /// An address that no connection can have: unspecified, multicast or broadcast.
    #[error("the PROXY header has an address that no host can have")]
    Address,
}

/// The header that these bytes begin with, and its length; `None` if more have to come first. What follows the header is
/// not looked at.
///
/// # Errors
/// They begin with no header, whatever follows.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    if begins_like(bytes, V1) {
        line(bytes)
    } else if begins_like(bytes, v2::PROTOCOL_PREFIX) {
        binary(bytes)
    } else {
        Err(Malformed::Absent)
    }
}

/// Whether the bytes may become a text that begins like this, as far as they go.
fn begins_like(bytes: &[u8], prefix: &[u8]) -> bool {
    let common = bytes.len().min(prefix.len());
    bytes[..common] == prefix[..common]
}

fn line(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let within = &bytes[..bytes.len().min(MAX_V1)];
    // A lone CR or LF ends nothing and is no part of a line (§2.1).
    let length = match within.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(at) if within[at..].starts_with(b"\r\n") => at + 2,
        Some(at) if within[at..] == *b"\r" && within.len() < MAX_V1 => return Ok(None),
        None if within.len() < MAX_V1 => return Ok(None),
        Some(_) | None => return Err(Malformed::Line),
    };
    Ok(Some((fields(&bytes[..length])?, length)))
}

/// What a whole line says, its CR LF included.
fn fields(line: &[u8]) -> Result<Header, Malformed> {
    if let Some(rest) = line.strip_prefix(b"PROXY UNKNOWN")
        && matches!(rest, [b' ' | b'\r', ..])
    {
        // Whatever else it says is to be ignored (§2.1).
        return Ok(Header::Unknown);
    }
    // Rust's integers have a sign if they like.
    if line.contains(&b'+') {
        return Err(Malformed::Line);
    }
    let header = v1::Header::try_from(line).map_err(|_| Malformed::Line)?;
    match header.addresses {
        v1::Addresses::Unknown => Ok(Header::Unknown),
        v1::Addresses::Tcp4(ip) => {
            client((ip.source_address, ip.source_port), (ip.destination_address, ip.destination_port))
        }
        v1::Addresses::Tcp6(ip) => {
            client((ip.source_address, ip.source_port), (ip.destination_address, ip.destination_port))
        }
    }
}

fn binary(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let Some(fixed) = bytes.first_chunk::<V2_FIXED>() else { return Ok(None) };
    let [.., kind, _, high, low] = *fixed;
    let length = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2 {
        return Err(Malformed::Length);
    }
    if kind == V2_LOCAL {
        // The rest is to be discarded, "including the family which is ignored" (§2.2).
        return Ok((bytes.len() >= length).then_some((Header::Local, length)));
    }
    let header = match v2::Header::try_from(&bytes[..bytes.len().min(length)]) {
        Ok(header) => header,
        Err(v2::ParseError::Incomplete(_) | v2::ParseError::Partial(..)) => return Ok(None),
        Err(v2::ParseError::InvalidAddresses(..) | v2::ParseError::InvalidTLV(..) | v2::ParseError::Leftovers(_)) => {
            return Err(Malformed::Length);
        }
        Err(
            v2::ParseError::Prefix
            | v2::ParseError::Version(_)
            | v2::ParseError::Command(_)
            | v2::ParseError::AddressFamily(_)
            | v2::ParseError::Protocol(_),
        ) => return Err(Malformed::Kind),
    };
    check_tlvs(&header)?;
    let header = match (header.addresses, header.protocol) {
        (v2::Addresses::IPv4(ip), v2::Protocol::Stream) => {
            client((ip.source_address, ip.source_port), (ip.destination_address, ip.destination_port))?
        }
        (v2::Addresses::IPv6(ip), v2::Protocol::Stream) => {
            client((ip.source_address, ip.source_port), (ip.destination_address, ip.destination_port))?
        }
        _ => Header::Unknown,
    };
    Ok(Some((header, length)))
}

/// TLVs fill what is left behind the addresses, and a checksum among them is right. What else they say is nothing to us.
fn check_tlvs(header: &v2::Header<'_>) -> Result<(), Malformed> {
    let bytes = header.as_bytes();
    let mut at = bytes.len() - header.tlv_bytes().len();
    for tlv in header.tlvs() {
        let tlv = tlv.map_err(|_| Malformed::Length)?;
        let value = at + TLV_FIXED;
        at = value + tlv.len();
        if tlv.kind != TLV_CRC32C {
            continue;
        }
        let stored = <[u8; 4]>::try_from(&tlv.value[..]).map_err(|_| Malformed::Length)?;
        let mut digest = CRC32C.digest();
        digest.update(&bytes[..value]);
        digest.update(&[0; 4]);
        digest.update(&bytes[at..]);
        if digest.finalize() != u32::from_be_bytes(stored) {
            return Err(Malformed::Checksum);
        }
    }
    Ok(())
}

fn client(source: impl Into<SocketAddr>, destination: impl Into<SocketAddr>) -> Result<Header, Malformed> {
    let (source, destination) = (canonical(source.into()), canonical(destination.into()));
    if [source, destination].iter().all(|addr| is_of_a_host(*addr)) {
        Ok(Header::Client { source, destination })
    } else {
        Err(Malformed::Address)
    }
}

fn is_of_a_host(addr: SocketAddr) -> bool {
    let is_broadcast = matches!(addr, SocketAddr::V4(v4) if v4.ip().is_broadcast());
    !(addr.ip().is_unspecified() || addr.ip().is_multicast() || is_broadcast)
}

#[cfg(test)]
mod tests;
