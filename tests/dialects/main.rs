//! The proxy between the servers that cannot run here, played by stand-ins, and clients that are scripted after real
//! ones.
//!
//! Client, proxy and server have loopback addresses of their own. The public address 203.0.113.10 exists on no machine:
//! [`stage::Stage::reach`] is the 1:1 NAT that leads it to the proxy, and the wall around everything private.
#![allow(unreachable_pub, reason = "the modules of a test program are all private")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[allow(dead_code, reason = "the other test programs use more of it")]
#[path = "../support/mod.rs"]
mod support;

mod client;
mod limits;
mod programs;
mod rules;
mod sameness;
mod stage;
mod stand_in;
mod transfers;
