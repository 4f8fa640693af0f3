//! What an idle session costs.

use ftp_alg::session::Session;

/// A session lives once per connected client, mostly idle. All that belongs to one has 8 KiB of user-space
/// memory, of which the shell's two tasks and sockets take the larger part.
#[test]
fn a_session_is_small() {
    let size = std::mem::size_of::<Session>();
    assert!(size <= 1024, "{size} bytes");
}
