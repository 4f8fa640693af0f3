//! The metadata services of the clouds, as data: what to ask, in which order, and how the reply reads.
//!
//! All of them have been read in the provider's documentation, except where a comment says otherwise.

use crate::config::discovery::{Endpoint, HTTP_PORT, Provider};

/// A field of a request.
pub(super) type Header = (&'static str, &'static str);

/// One provider's service.
#[derive(Debug)]
pub(super) struct Service {
    host: &'static str,
    /// What has to be fetched first.
    pub(super) token: Option<Token>,
    /// In order: where there is nothing, the next is asked.
    pub(super) questions: &'static [Question],
    /// What helps if there is no address.
    pub(super) advice: &'static str,
}

/// A secret that the service gives to those who can PUT, which a forwarding program on this machine that is tricked
/// into fetching a URL usually cannot.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) path: &'static str,
    /// How long it is to be valid, in seconds. Each look-up takes a new one.
    pub(super) lifetime: Header,
    /// Which field of the questions has it.
    pub(super) field: &'static str,
    /// Whether a service that does not give one may be asked without.
    pub(super) is_optional: bool,
    /// What helps if nobody answers.
    pub(super) if_silent: Option<&'static str>,
}

/// One GET for an address.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) path: &'static str,
    pub(super) headers: &'static [Header],
    /// It is asked only if the reply to this path is `true`.
    pub(super) only_if: Option<&'static str>,
    pub(super) answer: Answer,
}

/// How a reply reads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// An address.
    Text,
    /// Azure's description of the load balancer before a machine.
    LoadBalancer,
}

/// Most are of this kind.
const fn text(path: &'static str) -> Question {
    Question { path, headers: &[], only_if: None, answer: Answer::Text }
}

const EIP: &str = "bind an EIP to the machine's primary network interface; the address of a NAT gateway, of a load \
                   balancer or of another interface is not in the metadata";

const ALIYUN: Service = Service {
    host: "100.100.100.200",
    token: Some(Token {
        path: "/latest/api/token",
        lifetime: ("X-aliyun-ecs-metadata-token-ttl-seconds", "60"),
        field: "X-aliyun-ecs-metadata-token",
        // Instances in normal mode answer without; in hardened mode that is a 403.
        is_optional: true,
        if_silent: None,
    }),
    // `eipv4` is the static public address or the EIP of the primary interface.
    questions: &[text("/latest/meta-data/eipv4"), text("/latest/meta-data/public-ipv4")],
    advice: EIP,
};

const AWS: Service = Service {
    host: "169.254.169.254",
    token: Some(Token {
        path: "/latest/api/token",
        lifetime: ("X-aws-ec2-metadata-token-ttl-seconds", "60"),
        field: "X-aws-ec2-metadata-token",
        is_optional: false,
        if_silent: Some(
            "in a container the reply does not arrive if the instance's hop limit is 1: `aws ec2 \
             modify-instance-metadata-options --http-put-response-hop-limit 2`, or host networking",
        ),
    }),
    questions: &[text("/latest/meta-data/public-ipv4")],
    advice: "associate an Elastic IP with the instance's primary network interface",
};

const AZURE: Service = Service {
    host: "169.254.169.254",
    token: None,
    questions: &[
        Question {
            path: "/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress?api-version=2021-02-01&format=text",
            headers: &[("Metadata", "true")],
            only_if: None,
            answer: Answer::Text,
        },
        // The first is empty for standard public addresses and behind a load balancer (microsoft/azureimds#25).
        Question {
            path: "/metadata/loadbalancer?api-version=2020-10-01",
            headers: &[("Metadata", "true")],
            only_if: None,
            answer: Answer::LoadBalancer,
        },
    ],
    advice: "associate a public address with the machine's primary network interface, or with a load balancer before it",
};

const GCP: Service = Service {
    host: "metadata.google.internal",
    token: None,
    questions: &[Question {
        path: "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip",
        headers: &[("Metadata-Flavor", "Google")],
        only_if: None,
        answer: Answer::Text,
    }],
    advice: "give the machine's first network interface an external address",
};

const TENCENT: Service = Service {
    // Known to the cloud's own name servers only.
    host: "metadata.tencentyun.com",
    token: None,
    questions: &[text("/latest/meta-data/public-ipv4")],
    advice: EIP,
};

const HUAWEI: Service = Service {
    host: "169.254.169.254",
    token: None,
    // The interface is documented as EC2's; this item of it is taken from there.
    questions: &[text("/latest/meta-data/public-ipv4")],
    advice: EIP,
};

const DIGITAL_OCEAN: Service = Service {
    host: "169.254.169.254",
    token: None,
    questions: &[
        Question {
            path: "/metadata/v1/reserved_ip/ipv4/ip_address",
            headers: &[],
            only_if: Some("/metadata/v1/reserved_ip/ipv4/active"),
            answer: Answer::Text,
        },
        text("/metadata/v1/interfaces/public/0/ipv4/address"),
    ],
    advice: "the Droplet needs public networking or a reserved address",
};

const HETZNER: Service = Service {
    host: "169.254.169.254",
    token: None,
    questions: &[text("/hetzner/v1/metadata/public-ipv4")],
    advice: "the server needs a primary IPv4 address; a floating one is not in the metadata",
};

impl Service {
    /// That of a provider.
    pub(super) const fn of(provider: Provider) -> &'static Self {
        match provider {
            Provider::Aliyun => &ALIYUN,
            Provider::Aws => &AWS,
            Provider::Azure => &AZURE,
            Provider::Gcp => &GCP,
            Provider::Tencent => &TENCENT,
            Provider::Huawei => &HUAWEI,
            Provider::DigitalOcean => &DIGITAL_OCEAN,
            Provider::Hetzner => &HETZNER,
        }
    }

    /// Where it is unless the configuration knows better.
    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint { host: self.host.into(), port: HTTP_PORT }
    }
}
