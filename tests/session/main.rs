//! The session without sockets: known answers for every rule, transcripts of real servers cut at every point,
//! and properties over random interleavings.

mod commands;
mod driver;
mod ending;
mod properties;
mod size;
mod timers;
mod transcripts;
mod translation;
