//! As whom the server sees us: where our connections to it come from, and what it is told about the client besides.

/// Whose address the connections to the server come from, and its active data connections go to (`server.source`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// That of this machine which routing picks.
    #[default]
    Local,
    /// The client's own (`IP_TRANSPARENT`).
    Client,
}

/// The PROXY protocol towards the server: a header before everything else that says who the client is
/// (`server.proxy_protocol`, haproxy.org's proxy-protocol.txt).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// How it is written.
    pub version: HeaderVersion,
    /// Whether the data connections that we open have one, too (`server.proxy_protocol_data`).
    pub data: bool,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}
