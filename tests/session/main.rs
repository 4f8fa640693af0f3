//! The session without sockets: known answers for every rule, transcripts of real servers cut at every point,
//! and properties over random interleavings.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod announce;
mod choosing;
mod commands;
mod cover;
mod driver;
mod ending;
mod families;
mod limits;
mod out_of_step;
mod properties;
mod records;
mod shell;
mod size;
mod timers;
mod tls;
mod tls_properties;
mod transcripts;
mod translation;
