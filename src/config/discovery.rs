//! Whom to ask for the machine's public address (`discovery`), where an address map says `announce: auto`.

use std::fmt;
use std::time::Duration;

/// The section `discovery` of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Whom to ask; `None`: the cloud that the machine's firmware names.
    pub source: Option<Source>,
    /// How often.
    pub refresh: Duration,
}

impl Default for Discovery {
    fn default() -> Self {
        // An EIP is bound to another machine by hand or by a failover script; a minute is within what either waits for,
        // and far below the rate at which clouds begin to refuse (Alibaba Cloud throttles, without naming a number).
        Self { source: None, refresh: Duration::from_secs(60) }
    }
}

/// A metadata service that the file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Whose requests and replies it knows.
    pub provider: Provider,
    /// Where it is; `None`: at the provider's well-known address.
    pub endpoint: Option<Endpoint>,
}

/// Where a metadata service is: `http://host` or `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A DNS name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// The port of HTTP (RFC 9110 §4.2.1).
pub const HTTP_PORT: u16 = 80;

impl Endpoint {
    /// Host and port as a URL and the `Host` field have them (RFC 9110 §7.2): brackets around IPv6, no default port.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if *port == HTTP_PORT { host } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

/// A cloud whose metadata service is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Alibaba Cloud ECS.
    Aliyun,
    /// Amazon EC2.
    Aws,
    /// Microsoft Azure.
    Azure,
    /// Google Compute Engine.
    Gcp,
    /// Tencent Cloud CVM.
    Tencent,
    /// Huawei Cloud ECS.
    Huawei,
    /// DigitalOcean Droplets.
    DigitalOcean,
    /// Hetzner Cloud.
    Hetzner,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Aliyun,
        Self::Aws,
        Self::Azure,
        Self::Gcp,
        Self::Tencent,
        Self::Huawei,
        Self::DigitalOcean,
        Self::Hetzner,
    ];

    /// The word for it in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Aliyun => "aliyun",
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::Gcp => "gcp",
            Self::Tencent => "tencent",
            Self::Huawei => "huawei",
            Self::DigitalOcean => "digitalocean",
            Self::Hetzner => "hetzner",
        }
    }
}

/// The name that it goes by.
impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aliyun => "Alibaba Cloud",
            Self::Aws => "AWS",
            Self::Azure => "Azure",
            Self::Gcp => "Google Cloud",
            Self::Tencent => "Tencent Cloud",
            Self::Huawei => "Huawei Cloud",
            Self::DigitalOcean => "DigitalOcean",
            Self::Hetzner => "Hetzner Cloud",
        })
    }
}
