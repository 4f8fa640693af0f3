//! Headers of the PROXY protocol: found at their end, and not before, wherever the bytes are cut and whatever follows.

use ftp_alg::proxy_protocol::{Header, MAX_HEADER, parse};

/// The bytes are what a load balancer sends first. Those that are almost a header of version 2 get what comes first.
pub fn check(data: &[u8]) {
    begins(data);
    begins(&[b"PROXY ", data].concat());
    begins(&[b"\r\n\r\n\0\r\nQUIT\n", data].concat());
    begins(&[b"\r\n\r\n\0\r\nQUIT\n\x21\x11", data].concat());
}

fn begins(bytes: &[u8]) {
    let whole = parse(bytes);
    match whole {
        Ok(Some((header, length))) => {
            assert!(length <= bytes.len().min(MAX_HEADER), "beyond what there is");
            // Nothing behind it was looked at, and all before its end was needed.
            assert_eq!(parse(&bytes[..length]), whole);
            assert_eq!(parse(&bytes[..length - 1]), Ok(None));
            if let Header::Client { source, destination } = header {
                assert!(!source.ip().is_unspecified() && !destination.ip().is_unspecified());
            }
        }
        Ok(None) => assert!(bytes.len() < MAX_HEADER, "waits for more than a header has"),
        Err(_) => assert!(parse(&[bytes, b"\r\n"].concat()).is_err(), "more bytes have made a header of it"),
    }
    // A few places are enough: fuzzing is about the bytes.
    for end in (0..bytes.len()).step_by(1 + bytes.len() / 16) {
        match parse(&bytes[..end]) {
            Ok(None) => {}
            Ok(Some(early)) => assert_eq!(whole, Ok(Some(early)), "other bytes behind the header have changed it"),
            Err(_) => assert!(whole.is_err(), "more bytes have made a header of it"),
        }
    }
}
