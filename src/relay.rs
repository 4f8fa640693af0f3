//! The shell: sockets, tasks and copying, on tokio. It decides nothing about FTP.

pub mod accept;
pub mod copy;
pub mod ports;
pub mod socket;
