//! Data ports: shared listeners, leases.
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::config::DataPorts;

/// All data ports of the process, bound once at start.
#[derive(Debug)]
pub struct PortRegistry {}

/// The data ports of one leg of one listener.
#[derive(Debug, Clone)]
pub struct PortPool {}

/// One expected data connection.
#[derive(Debug)]
pub struct Lease {}

/// None of a range could be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind any of the data ports {} to {} on {ip}: {source}", .ports.start(), .ports.end())]
pub struct BindError {
    /// The address.
    pub ip: IpAddr,
    /// The range.
    pub ports: RangeInclusive<u16>,
    /// Why the last of them failed.
    pub source: io::Error,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Every port is held by this peer.
    #[error("every data port is in use for this peer")]
    Exhausted,
    /// No port can be opened at the local address.
    #[error("cannot open a data port: {0}")]
    Bind(#[from] io::Error),
}

/// Why a lease ended without a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseLost {
    /// The peer did not connect within 60 s.
    #[error("the peer did not connect in time")]
    Expired,
    /// Another session of the same peer needed the port.
    #[error("the port was given to another session of the same peer")]
    Revoked,
}

impl PortRegistry {
    /// Binds.
    pub fn bind(_wanted: &[(IpAddr, RangeInclusive<u16>)]) -> Result<Self, BindError> {
        todo!()
    }

    /// The view of one leg of one listener.
    pub fn pool(&self, _local: &[IpAddr], _ports: &DataPorts) -> PortPool {
        todo!()
    }
}

impl PortPool {
    /// Leases a port.
    pub async fn lease(&self, _local: IpAddr, _peer: IpAddr, _wait: Duration) -> Result<Lease, LeaseError> {
        todo!()
    }
}

impl Lease {
    /// The port.
    pub fn port(&self) -> u16 {
        todo!()
    }

    /// The expected peer's connection.
    pub async fn accept(&mut self) -> Result<TcpStream, LeaseLost> {
        todo!()
    }
}
