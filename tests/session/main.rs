//! The session without sockets: known answers for every rule, transcripts of real servers cut at every point,
//! and properties over random interleavings.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod choosing;
mod commands;
mod driver;
mod ending;
mod limits;
mod out_of_step;
mod properties;
mod shell;
mod size;
mod timers;
mod tls;
mod tls_properties;
mod transcripts;
mod translation;
