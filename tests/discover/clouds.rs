//! Each cloud's requests, answered with its own status codes.

use std::time::{Duration, Instant};

use crate::metadata::{Metadata, Reply, Request};
use crate::{PUBLIC, found, refused};

const TOKEN: &str = "YXNkZmFzZGZhc2Rm";

/// Text at some paths, 404 at all others, after `refusal` has had its say.
fn items(
    items: &'static [(&'static str, &'static str)],
    refusal: impl Fn(&Request) -> Option<u16> + Send + 'static,
) -> Metadata {
    Metadata::new(move |request| answer(items, refusal(request), request))
}

fn answer(items: &[(&str, &str)], refusal: Option<u16>, request: &Request) -> Reply {
    if let Some(status) = refusal {
        return Reply::status(status);
    }
    let item = items.iter().find(|(path, _)| *path == request.path);
    item.map_or_else(|| Reply::status(404), |(_, text)| Reply::text(*text))
}

/// The service of Alibaba Cloud or AWS with tokens: 400 for a bad lifetime, 401 for a bad token, and `without` for none.
fn with_tokens(cloud: &'static str, without: u16, items: &'static [(&'static str, &'static str)]) -> Metadata {
    Metadata::new(move |request| {
        if request.path == "/latest/api/token" {
            let lifetime = request.field(&format!("x-{cloud}-metadata-token-ttl-seconds"));
            let is_valid = lifetime.and_then(|l| l.parse().ok()).is_some_and(|l: u32| (1..=21600).contains(&l));
            return match (request.method.as_str(), is_valid) {
                ("PUT", true) => Reply::text(TOKEN),
                ("PUT", false) => Reply::status(400),
                _ => Reply::status(405),
            };
        }
        let refusal = match request.field(&format!("x-{cloud}-metadata-token")) {
            _ if request.field("x-forwarded-for").is_some() => Some(403),
            Some(TOKEN) => None,
            Some(_) => Some(401),
            None => Some(without),
        };
        answer(items, refusal, request)
    })
}

const EIPV4: &str = "/latest/meta-data/eipv4";
const PUBLIC_IPV4: &str = "/latest/meta-data/public-ipv4";

#[test]
fn aliyun_hardened_mode_wants_a_token() {
    let service = with_tokens("aliyun-ecs", 403, &[(EIPV4, PUBLIC)]);
    assert_eq!(found("aliyun", &service), (PUBLIC.into(), EIPV4.into()));
    assert_eq!(service.asked(), ["PUT /latest/api/token", "GET /latest/meta-data/eipv4"]);
}

#[test]
fn aliyun_normal_mode_without_tokens_is_asked_plainly() {
    for refusal in [400, 403, 404, 405] {
        let service = items(&[(EIPV4, "203.0.113.10\n")], move |request| (request.method == "PUT").then_some(refusal));
        assert_eq!(found("aliyun", &service), (PUBLIC.into(), EIPV4.into()), "{refusal}");
        assert_eq!(service.seen()[1].field("x-aliyun-ecs-metadata-token"), None);
    }
}

#[test]
fn aliyun_without_an_eip_is_asked_for_its_other_address() {
    let service = with_tokens("aliyun-ecs", 403, &[(PUBLIC_IPV4, PUBLIC)]);
    assert_eq!(found("aliyun", &service), (PUBLIC.into(), PUBLIC_IPV4.into()));
    assert_eq!(service.asked().len(), 3);
}

#[test]
fn aliyun_without_any_address_says_what_to_do() {
    let service = with_tokens("aliyun-ecs", 403, &[]);
    let message = refused("aliyun", &service);
    let url = service.url();
    assert_eq!(
        message,
        format!(
            "cannot find the public address for `announce: auto`; Alibaba Cloud was asked\n  GET {url}{EIPV4}: no address \
             there (404 Not Found)\n  GET {url}{PUBLIC_IPV4}: no address there (404 Not Found)\nbind an EIP to the \
             machine's primary network interface; the address of a NAT gateway, of a load balancer or of another \
             interface is not in the metadata; or write the public address, or a DNS name that points to it, in place of \
             `auto`"
        )
    );
}

/// What is behind a 403 or 401 is another machine's affair; both requests are named.
#[test]
fn aliyun_refusals_are_shown() {
    let service = items(&[(EIPV4, PUBLIC)], |_| Some(403));
    let message = refused("aliyun", &service);
    assert!(message.contains("PUT ") && message.contains("eipv4: 403 Forbidden\n"), "{message}");
    assert_eq!(service.asked().len(), 2, "a refusal is no reason to ask for another address");

    let message = refused("aliyun", &items(&[], |request| (request.method != "PUT").then_some(401)));
    assert!(message.contains("401 Unauthorized"), "{message}");
}

#[test]
fn aws_gives_its_address_for_a_token_only() {
    let service = with_tokens("aws-ec2", 401, &[(PUBLIC_IPV4, PUBLIC)]);
    assert_eq!(found("aws", &service), (PUBLIC.into(), PUBLIC_IPV4.into()));

    let none = with_tokens("aws-ec2", 401, &[]);
    let message = refused("aws", &none);
    assert!(message.contains("404 Not Found") && message.contains("Elastic IP"), "{message}");
}

/// The service's reply is sent with a hop limit of 1, and a container is one hop further.
#[test]
fn aws_in_a_container_is_silence_and_the_message_knows_why() {
    let service = Metadata::new(|_| Reply::Silence);
    let start = Instant::now();
    let message = refused("aws", &service);
    assert!(message.contains("/latest/api/token: no answer within 2s\n"), "{message}");
    assert!(message.contains("--http-put-response-hop-limit 2"), "{message}");
    assert_eq!(service.asked(), ["PUT /latest/api/token"], "IMDSv1 is not asked");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());

    let refusing = Metadata::new(|_| Reply::status(403));
    let refusal = refused("aws", &refusing);
    assert!(refusal.contains("403 Forbidden") && !refusal.contains("hop-limit"), "{refusal}");
    assert_eq!(refusing.asked(), ["PUT /latest/api/token"], "nor for a refusal");
}

const AZURE: &str =
    "/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress?api-version=2021-02-01&format=text";
const AZURE_LB: &str = "/metadata/loadbalancer?api-version=2020-10-01";

fn without_metadata_field(request: &Request) -> Option<u16> {
    (request.field("metadata") != Some("true")).then_some(400)
}

#[test]
fn azure_gives_the_address_of_the_interface() {
    let service = items(&[(AZURE, PUBLIC)], without_metadata_field);
    assert_eq!(found("azure", &service), (PUBLIC.into(), AZURE.into()));
}

#[test]
fn azure_behind_a_load_balancer_has_the_frontend_that_leads_to_our_port() {
    const FRONTENDS: &str = r#"{"loadbalancer":{"publicIpAddresses":[
        {"frontendIpAddress":"203.0.113.20","privateIpAddress":"10.1.0.4"},
        {"frontendIpAddress":"203.0.113.10","privateIpAddress":"10.1.0.4"}],"inboundRules":[
        {"frontendIpAddress":"203.0.113.20","protocol":"tcp","frontendPort":443,"backendPort":443,"privateIpAddress":"10.1.0.4"},
        {"frontendIpAddress":"203.0.113.10","protocol":"tcp","frontendPort":21,"backendPort":2121,"privateIpAddress":"10.1.0.4"}],
        "outboundRules":[]}}"#;
    let service = items(&[(AZURE, ""), (AZURE_LB, FRONTENDS)], without_metadata_field);
    assert_eq!(found("azure", &service), (PUBLIC.into(), AZURE_LB.into()));
}

#[test]
fn azure_without_either_says_so() {
    let service = items(&[(AZURE, ""), (AZURE_LB, r#"{"loadbalancer":{}}"#)], without_metadata_field);
    let message = refused("azure", &service);
    assert!(message.contains("no address there (200 OK)") && message.contains("load balancer"), "{message}");
    let message = refused("azure", &items(&[(AZURE, "")], without_metadata_field));
    assert!(message.contains("no address there (404 Not Found)"), "{message}");
}

const GCP: &str = "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip";

#[test]
fn gcp_wants_its_field() {
    let refusal = |request: &Request| (request.field("metadata-flavor") != Some("Google")).then_some(403);
    assert_eq!(found("gcp", &items(&[(GCP, PUBLIC)], refusal)), (PUBLIC.into(), GCP.into()));
    let message = refused("gcp", &items(&[(GCP, "")], refusal));
    assert!(message.contains("external address"), "{message}");
    let message = refused("gcp", &items(&[(GCP, PUBLIC)], |_| Some(403)));
    assert!(message.contains("403 Forbidden"), "{message}");
}

#[test]
fn tencent_and_huawei_have_one_item() {
    for cloud in ["tencent", "huawei"] {
        assert_eq!(found(cloud, &items(&[(PUBLIC_IPV4, PUBLIC)], |_| None)), (PUBLIC.into(), PUBLIC_IPV4.into()));
        let message = refused(cloud, &items(&[], |_| None));
        assert!(message.contains("404 Not Found") && message.contains("bind an EIP"), "{message}");
    }
}

#[test]
fn digitalocean_prefers_an_active_reserved_address() {
    const ACTIVE: &str = "/metadata/v1/reserved_ip/ipv4/active";
    const RESERVED: &str = "/metadata/v1/reserved_ip/ipv4/ip_address";
    const OWN: &str = "/metadata/v1/interfaces/public/0/ipv4/address";
    let service = items(&[(ACTIVE, "true"), (RESERVED, PUBLIC), (OWN, "203.0.113.20")], |_| None);
    assert_eq!(found("digitalocean", &service), (PUBLIC.into(), RESERVED.into()));

    let service = items(&[(ACTIVE, "false"), (RESERVED, "203.0.113.20"), (OWN, PUBLIC)], |_| None);
    assert_eq!(found("digitalocean", &service), (PUBLIC.into(), OWN.into()));
    assert_eq!(service.asked().len(), 2, "an address that is not in use is not asked for");
    let service = items(&[(OWN, PUBLIC)], |_| None);
    assert_eq!(found("digitalocean", &service), (PUBLIC.into(), OWN.into()));

    let service = items(&[(ACTIVE, "maybe"), (OWN, PUBLIC)], |_| None);
    assert!(refused("digitalocean", &service).contains("neither true nor false"));
}

#[test]
fn hetzner_has_one_item() {
    const PATH: &str = "/hetzner/v1/metadata/public-ipv4";
    assert_eq!(found("hetzner", &items(&[(PATH, PUBLIC)], |_| None)), (PUBLIC.into(), PATH.into()));
    let message = refused("hetzner", &items(&[], |_| None));
    assert!(message.contains("primary IPv4 address"), "{message}");
}
