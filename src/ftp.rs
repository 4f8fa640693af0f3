//! The wire: bytes to lines, lines to commands and replies, and back. Pure.
//!
//! Bytes from either leg go through a [`LineSplitter`](line::LineSplitter). A client's line becomes a
//! [`CommandLine`](command::CommandLine), which is both what we parse and what we send on; a server's line is
//! framed by a [`ReplyFramer`](reply::ReplyFramer) and otherwise stays the bytes that it was.

pub mod command;
pub mod host;
pub mod host_port;
pub mod line;
pub mod name;
pub mod reply;
pub mod telnet;
