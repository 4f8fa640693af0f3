//! What a session costs in memory.

use ftp_alg::addr::Leg;
use ftp_alg::nat::DataMode;
use ftp_alg::session::{Reason, Session};

use crate::driver::Driver;

/// A session lives once per connected client, mostly idle. All that belongs to one has 8 KiB of user-space
/// memory, of which the shell's task and its sockets take the larger part.
#[test]
fn a_session_is_small() {
    let size = std::mem::size_of::<Session>();
    assert!(size <= 640, "{size} bytes");
}

/// Whatever a client sends in one read, no more of it is looked at than may be held.
#[test]
fn rel_18_one_large_read_is_not_turned_into_many_held_lines() {
    let mut d = Driver::new(DataMode::Same);
    d.client("PASV\r\n");
    d.client("\n".repeat(5_000) + "227 x\r\n");
    assert!(!d.session.wants_bytes(Leg::Client));
    assert_eq!(d.client_got(), "");
    assert_eq!(d.closed(), None, "the last line has not been looked at");
    // Every line of it is still there, and goes out no more than 20 at a time.
    d.server("227 =172,16,0,20,19,137\r\n");
    let mut forwarded = d.server_got().lines().count() - 1;
    assert_eq!(forwarded, 20);
    while d.closed().is_none() {
        assert!(!d.session.wants_bytes(Leg::Client), "after {forwarded}");
        d.server("500 what\r\n".repeat(20));
        let more = d.server_got().lines().count();
        assert!((1..=20).contains(&more), "{more} after {forwarded}");
        forwarded += more;
    }
    // Within the last lines, which are held by then.
    assert_eq!(d.closed(), Some(Reason::Spoofed(Leg::Client)));
    assert!((4_960..=5_000).contains(&forwarded), "{forwarded}");
}

/// The same, with more behind the line that ends the session: the rest is never looked at.
#[test]
fn sec_05_what_is_behind_a_spoofed_line_in_one_large_read_is_dropped() {
    let mut d = Driver::new(DataMode::Same);
    d.client("PASV\r\n");
    d.client("NOOP\r\n".repeat(25) + "227 x\r\nNOOP\r\n");
    assert_eq!(d.closed(), None, "the last lines have not been looked at");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.server("200 x\r\n".repeat(20));
    assert_eq!(d.closed(), Some(Reason::Spoofed(Leg::Client)));
}
