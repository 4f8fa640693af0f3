//! `discovery` of the file, from its text.

use std::time::Duration;

use hyper::Uri;

use super::Reader;
use crate::config::discovery::{Discovery, Endpoint, HTTP_PORT, Provider, Source};
use crate::config::raw;
use crate::config::report::{KeyPath, Wrong};
use crate::config::value::{self, Parsed};

/// Each time is a request or three; metadata services answer those who ask more often with errors.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);

impl Reader<'_, '_> {
    /// What could not be read, and has been reported, is as if left out.
    pub(super) fn discovery(&mut self, raw: raw::Discovery, at: &KeyPath) -> Discovery {
        let has_provider = raw.provider.is_some() || self.problems.has(&at.key("provider"));
        let provider = self.optional(raw.provider, &at.key("provider"), provider);
        if raw.endpoint.is_some() && !has_provider {
            let help = format!("write beside it whose requests it answers: `provider: ` and one of {}", words());
            self.problems.report(&at.key("endpoint"), Wrong::new("an endpoint without a provider", help));
        }
        let endpoint = self.optional(raw.endpoint, &at.key("endpoint"), endpoint);
        let refresh = self.optional(raw.refresh, &at.key("refresh"), refresh);
        Discovery {
            source: provider.map(|provider| Source { provider, endpoint }),
            refresh: refresh.unwrap_or(Discovery::default().refresh),
        }
    }
}

fn words() -> String {
    Provider::ALL.map(|provider| format!("`{}`", provider.word())).join(", ")
}

fn provider(text: &str) -> Parsed<Provider> {
    if let Some(known) = Provider::ALL.into_iter().find(|provider| provider.word() == text) {
        return Ok(known);
    }
    let meant = match text.to_lowercase().as_str() {
        "alibaba" | "alicloud" | "alibabacloud" | "ecs" => Some(Provider::Aliyun),
        "amazon" | "ec2" => Some(Provider::Aws),
        "microsoft" => Some(Provider::Azure),
        "google" | "gce" => Some(Provider::Gcp),
        "qcloud" | "tencentcloud" => Some(Provider::Tencent),
        "huaweicloud" => Some(Provider::Huawei),
        "do" => Some(Provider::DigitalOcean),
        "hcloud" => Some(Provider::Hetzner),
        // One in three letters may be wrong, as for keys.
        lower => Provider::ALL
            .into_iter()
            .find(|provider| strsim::damerau_levenshtein(provider.word(), lower) <= provider.word().len() / 3),
    };
    let help = match meant {
        Some(provider) => format!("write `{}`", provider.word()),
        None => format!("write one of {}; elsewhere write the public address itself under `announce`", words()),
    };
    Err(Wrong::new(format!("`{text}` is not a provider"), help))
}

/// `http://100.100.100.200` or `http://127.0.0.1:8080`: the paths are the provider's.
fn endpoint(text: &str) -> Parsed<Endpoint> {
    const EXAMPLE: &str = "write one like `http://100.100.100.200` or `http://127.0.0.1:8080`";
    let uri = text.parse::<Uri>().map_err(|error| Wrong::new(format!("`{text}` is not a URL: {error}"), EXAMPLE))?;
    if uri.scheme_str().is_some_and(|scheme| scheme != "http") {
        return Err(Wrong::new("metadata services speak HTTP", EXAMPLE));
    }
    let authority = uri.authority().filter(|_| uri.scheme().is_some());
    let authority = authority.ok_or_else(|| Wrong::new(format!("`{text}` is not a URL"), EXAMPLE))?;
    if authority.as_str().contains('@') {
        return Err(Wrong::new("a user name in a URL that takes none", EXAMPLE));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        // `http://host:` and `http://host:99999` have no port for the parser.
        None if authority.as_str().ends_with([':']) || authority.as_str().len() > authority.host().len() => {
            return Err(Wrong::new(format!("`{text}` has a colon and no port"), EXAMPLE));
        }
        None => HTTP_PORT,
    };
    if host.is_empty() || port == 0 {
        return Err(Wrong::new(format!("`{text}` names no place to connect to"), EXAMPLE));
    }
    let endpoint = Endpoint { host, port };
    if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
        let help = format!("write `{endpoint}`: the rest is known for each provider");
        return Err(Wrong::new("a path behind the host", help));
    }
    Ok(endpoint)
}

fn refresh(text: &str) -> Parsed<Duration> {
    let time = value::timeout(text)?;
    if time < SHORTEST_REFRESH {
        return Err(Wrong::new("too often: metadata services refuse that", "write `1s` or more, like `60s`"));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_a_scheme_a_host_and_a_port() {
        for (text, shown, host) in [
            ("http://100.100.100.200", "http://100.100.100.200", "100.100.100.200"),
            ("http://100.100.100.200/", "http://100.100.100.200", "100.100.100.200"),
            ("http://metadata.google.internal:80", "http://metadata.google.internal", "metadata.google.internal"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1"),
            ("http://[fd00:ec2::254]", "http://[fd00:ec2::254]", "fd00:ec2::254"),
            ("http://[::1]:8080/", "http://[::1]:8080", "::1"),
        ] {
            let endpoint = endpoint(text).unwrap();
            assert_eq!((endpoint.to_string().as_str(), endpoint.host.as_str()), (shown, host), "{text}");
        }
        for wrong in [
            "",
            "100.100.100.200",
            "127.0.0.1:8080",
            "https://127.0.0.1",
            "ftp://127.0.0.1",
            "http://",
            "http:///latest",
            "http://127.0.0.1:",
            "http://127.0.0.1:0",
            "http://127.0.0.1:65536",
            "http://user@127.0.0.1",
            "http://a b",
            "/latest/meta-data",
        ] {
            let error = endpoint(wrong).expect_err(wrong);
            assert!(error.help.starts_with("write one like `http://"), "{wrong}: {error:?}");
        }
        let path = endpoint("http://100.100.100.200/latest/meta-data/eipv4").unwrap_err();
        assert_eq!(path.help, "write `http://100.100.100.200`: the rest is known for each provider");
    }

    #[test]
    fn providers_by_their_word_and_by_other_names() {
        for known in Provider::ALL {
            assert_eq!(provider(known.word()), Ok(known));
        }
        for (text, word) in
            [("Aliyun", "aliyun"), ("alibaba", "aliyun"), ("EC2", "aws"), ("google", "gcp"), ("azur", "azure")]
        {
            assert_eq!(provider(text).unwrap_err().help, format!("write `{word}`"));
        }
        assert!(provider("mycloud").unwrap_err().help.starts_with("write one of `aliyun`, `aws`, "));
    }

    #[test]
    fn a_refresh_is_not_a_flood() {
        assert_eq!(refresh("1s"), Ok(Duration::from_secs(1)));
        assert!(refresh("999ms").is_err() && refresh("0s").is_err() && refresh("60").is_err());
    }
}
