//! What a metadata service answered, and whether clients can be sent there.

use std::net::Ipv4Addr;

use serde::Deserialize;

use super::http::Failure;

/// An address by itself.
///
/// # Errors
/// It is none, or one that no client from outside can use.
pub(super) fn address(text: &str) -> Result<Ipv4Addr, Failure> {
    let address = text.parse::<Ipv4Addr>().map_err(|_| {
        let start: String = text.chars().take(60).collect();
        Failure::Unusable(format!("no IPv4 address: {start:?}"))
    })?;
    match unusable(address) {
        None => Ok(address),
        Some(kind) => Err(Failure::Unusable(format!("{address} is {kind}, not a public address"))),
    }
}

/// Why nobody outside could connect to it. The networks for documentation (RFC 5737) pass: they hurt nobody, and
/// tests need addresses that are public and nobody's.
fn unusable(address: Ipv4Addr) -> Option<&'static str> {
    let [first, second, ..] = address.octets();
    Some(match address {
        _ if address.is_unspecified() => "unspecified",
        _ if address.is_loopback() => "a loopback address",
        _ if address.is_private() => "private",
        _ if address.is_link_local() => "link-local",
        _ if address.is_multicast() => "a multicast address",
        _ if address.is_broadcast() => "a broadcast address",
        // RFC 6598 §7.
        _ if first == 100 && second & 0xc0 == 64 => "shared address space (100.64.0.0/10)",
        // RFC 1122 §3.2.1.3, RFC 1112 §4.
        _ if first == 0 || first >= 240 => "reserved",
        _ => return None,
    })
}

/// `GET /metadata/loadbalancer`, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Reply {
    #[serde(default)]
    loadbalancer: LoadBalancer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LoadBalancer {
    public_ip_addresses: Vec<PublicAddress>,
    inbound_rules: Vec<InboundRule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublicAddress {
    frontend_ip_address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InboundRule {
    frontend_ip_address: String,
    backend_port: u16,
}

/// The frontend of a load balancer that leads to one of our control `ports`; the only frontend needs no such rule.
/// `None`: there is no load balancer, or it has no public IPv4 address.
///
/// # Errors
/// Not what is documented, or several frontends and no telling which.
pub(super) fn frontend(text: &str, ports: &[u16]) -> Result<Option<Ipv4Addr>, Failure> {
    let reply: Reply = serde_json::from_str(text)
        .map_err(|error| Failure::Unusable(format!("not the description of a load balancer: {error}")))?;
    let LoadBalancer { public_ip_addresses, inbound_rules } = reply.loadbalancer;
    // A machine can have IPv6 frontends beside.
    let mut candidates: Vec<Ipv4Addr> =
        public_ip_addresses.iter().filter_map(|public| address(&public.frontend_ip_address).ok()).collect();
    candidates.sort_unstable();
    candidates.dedup();
    let leads_here = |candidate: &Ipv4Addr| {
        inbound_rules
            .iter()
            .any(|rule| rule.frontend_ip_address.parse() == Ok(*candidate) && ports.contains(&rule.backend_port))
    };
    let leading: Vec<Ipv4Addr> = candidates.iter().copied().filter(leads_here).collect();
    match (&candidates[..], &leading[..]) {
        ([], _) => Ok(None),
        ([only], _) | (_, [only]) => Ok(Some(*only)),
        (all, _) => {
            let all = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let ports = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(Failure::Unusable(format!(
                "several frontends ({all}), and not one of them alone leads to port {ports}"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_unicast_addresses_are_taken() {
        for good in
            ["203.0.113.10", "192.0.2.1", "198.51.100.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "223.255.255.254"]
        {
            assert_eq!(address(good).unwrap().to_string(), good);
        }
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.0",
            "100.127.255.255",
            "169.254.169.254",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "",
            "203.0.113",
            "203.0.113.10:80",
            "203.0.113.010",
            "2001:db8::1",
            "<html>",
            "203.0.113.10 203.0.113.11",
        ] {
            assert!(matches!(address(bad), Err(Failure::Unusable(_))), "{bad}");
        }
    }

    const TWO: &str = r#"{ "loadbalancer": {
        "publicIpAddresses": [
            { "frontendIpAddress": "203.0.113.10", "privateIpAddress": "10.1.0.4" },
            { "frontendIpAddress": "203.0.113.11", "privateIpAddress": "10.1.0.4" },
            { "frontendIpAddress": "[2001:db8::1]", "privateIpAddress": "[fd00::4]" } ],
        "inboundRules": [
            { "frontendIpAddress": "203.0.113.10", "protocol": "tcp", "frontendPort": 80, "backendPort": 80, "privateIpAddress": "10.1.0.4" },
            { "frontendIpAddress": "203.0.113.11", "protocol": "tcp", "frontendPort": 21, "backendPort": 2121, "privateIpAddress": "10.1.0.4" } ],
        "outboundRules": [ { "frontendIpAddress": "203.0.113.12", "privateIpAddress": "10.1.0.4" } ] } }"#;

    #[test]
    fn the_frontend_that_leads_to_us_is_taken() {
        assert_eq!(frontend(TWO, &[2121]).unwrap(), Some(Ipv4Addr::new(203, 0, 113, 11)));
        assert_eq!(frontend(TWO, &[80]).unwrap(), Some(Ipv4Addr::new(203, 0, 113, 10)));
        for ports in [&[21][..], &[80, 2121]] {
            let error = frontend(TWO, ports).unwrap_err().to_string();
            assert!(error.starts_with("several frontends (203.0.113.10, 203.0.113.11)"), "{error}");
        }
    }

    #[test]
    fn the_only_frontend_is_taken_and_none_is_no_error() {
        let one = r#"{"loadbalancer":{"publicIpAddresses":[{"frontendIpAddress":"203.0.113.10","privateIpAddress":"10.1.0.4"},
            {"frontendIpAddress":"203.0.113.10","privateIpAddress":"10.1.0.5"},{"frontendIpAddress":"10.0.0.9"}]}}"#;
        assert_eq!(frontend(one, &[21]).unwrap(), Some(Ipv4Addr::new(203, 0, 113, 10)));
        for none in ["{}", r#"{"loadbalancer":{}}"#, r#"{"loadbalancer":{"publicIpAddresses":[]}}"#] {
            assert_eq!(frontend(none, &[21]).unwrap(), None, "{none}");
        }
        for wrong in ["", "[]x", "203.0.113.10", r#"{"loadbalancer":7}"#] {
            assert!(frontend(wrong, &[21]).is_err(), "{wrong}");
        }
    }
}
