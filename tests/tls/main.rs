//! TLS on either leg, in memory: what is resumed, what is refused, which certificate is shown.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod clients;
mod files;
mod server;
mod support;
