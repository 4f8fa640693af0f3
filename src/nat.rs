//! Translation and permission: what is announced to whom, and what may be dialled. Pure.

pub mod destinations;
pub mod map;
pub mod policy;

/// How data connections to the server are made (`server.data_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataMode {
    /// As the client asked: PASV stays PASV, PORT stays PORT.
    #[default]
    Same,
    /// Always passive: we connect to the server.
    Passive,
    /// Always active: the server connects to us, and is told where when there is something to transfer.
    Active,
}
