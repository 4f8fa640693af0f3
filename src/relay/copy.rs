//! Two-way copy between the ends of a data channel.
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::addr::Leg;

/// All bytes from the other leg, and our FIN after them, have been handed to this leg's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flushed(pub Leg);

/// What was copied, and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Bytes from the client to the server.
    pub up: u64,
    /// Bytes from the server to the client.
    pub down: u64,
    /// How it ended.
    pub end: CopyEnd,
}

/// How a copy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyEnd {
    /// Each side sent FIN, and everything before it was passed on.
    Complete,
    /// This leg's connection failed.
    Reset(Leg),
    /// No byte either way for too long.
    Idle,
}

/// Bytes handed on so far, readable while the copy runs and after it was cancelled.
#[derive(Debug, Default)]
pub struct Moved {
    /// Bytes from the client to the server.
    pub up: AtomicU64,
    /// Bytes from the server to the client.
    pub down: AtomicU64,
}

/// Copies both ways until both sides have ended.
pub async fn copy(client: TcpStream, server: TcpStream, idle: Duration, progress: impl FnMut(Flushed)) -> Copied {
    copy_counted(client, server, idle, &Moved::default(), progress).await
}

/// As [`copy`], counting into `moved`.
pub async fn copy_counted(
    _client: TcpStream,
    _server: TcpStream,
    _idle: Duration,
    _moved: &Moved,
    _progress: impl FnMut(Flushed),
) -> Copied {
    todo!()
}
