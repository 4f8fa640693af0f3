//! An FTP server and FTP clients for load, on tokio: thousands of sessions in one process, with content that is
//! checked. The load tests of `tests/loopback` and `make bench` share them.
//!
//! Nothing here uses the library under test.

pub(crate) mod client;
pub(crate) mod content;
pub(crate) mod sink;
