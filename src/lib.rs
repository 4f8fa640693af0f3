//! ftp-alg: a transparent FTP-aware NAT/ALG proxy.

pub mod addr;
pub mod config;
pub mod ftp;
pub mod nat;
pub mod relay;
pub mod session;
