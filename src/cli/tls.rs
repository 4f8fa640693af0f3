//! What `tls` of a listener comes to, for the person who configured it.

use std::fmt::Write as _;
use std::time::SystemTime;

use crate::config::tls::{ClientTls, ServerTls, TlsVersion, Verify};
use crate::config::{Config, Listener, Selection, warning};
use crate::relay::tls::{Facts, LoadError, TlsClient, TlsServer, inspect};

/// Reads every file that `tls` of a listener names, as serving would; what the certificates say.
pub(super) fn load(listener: &Listener) -> Result<Vec<Facts>, Vec<LoadError>> {
    let mut facts = Vec::new();
    let mut errors = Vec::new();
    if let ClientTls::Terminate(config) = &listener.tls.client {
        for pair in &config.certificates {
            match inspect(pair) {
                Ok(found) => facts.push(found),
                Err(error) => errors.push(error),
            }
        }
        // With every pair in order, what is left is the authority of the clients.
        if errors.is_empty() {
            errors.extend(TlsServer::load(&listener.name, config).err());
        }
    }
    if let Some(identity) = listener.tls.server.identity() {
        errors.extend(TlsClient::load(identity).err());
    }
    if errors.is_empty() { Ok(facts) } else { Err(errors) }
}

/// Servers that may be anybody, and certificates at their end. A file that cannot be read is an error elsewhere.
pub(super) fn warnings(config: &Config, now: SystemTime) -> Vec<String> {
    let unverified = warning::unverified(config).map(|listener| {
        format!(
            "listener `{}`: tls.server.verify: `none` believes any server; whoever is between this machine and it can \
             read and change everything; write `verify: ` and a file with the server's certificate",
            listener.name
        )
    });
    let ends = config.listeners.iter().flat_map(|listener| {
        let pairs = match &listener.tls.client {
            ClientTls::Terminate(config) => &config.certificates[..],
            ClientTls::Refuse | ClientTls::Passthrough { .. } => &[],
        };
        pairs.iter().filter_map(move |pair| {
            let why = inspect(pair).ok()?.warning(now)?;
            let (name, file) = (&listener.name, &pair.certificate);
            let path = file.path.display();
            Some(format!("listener `{name}`: {}: the certificate in {path} {why}; renew it", file.named_by))
        })
    });
    unverified.chain(ends).collect()
}

/// Nothing for what is the default.
pub(super) fn with_clients(tls: &ClientTls) -> Option<String> {
    let config = match tls {
        ClientTls::Refuse => return None,
        ClientTls::Passthrough { .. } => return Some("theirs and the server's own, passed through".into()),
        ClientTls::Terminate(config) => config,
    };
    let mut text = String::from(match (config.implicit, config.require) {
        (true, false) => "from the first byte",
        (true, true) => "from the first byte, required for data too",
        (false, false) => "offered (AUTH TLS)",
        (false, true) => "required (AUTH TLS)",
    });
    if config.min_version == TlsVersion::V1_3 {
        text += ", 1.3 only";
    }
    if config.require_reuse {
        text += ", data connections have to resume it";
    }
    if let Some(file) = &config.client_ca {
        // Writing to a string does not fail.
        let _ = write!(text, ", client certificates by {}", file.path.display());
    }
    Some(text)
}

/// Nothing for what is the default.
pub(super) fn with_server(tls: &ServerTls, upstream: &Selection) -> Option<String> {
    let start = match tls {
        ServerTls::Plain => return None,
        ServerTls::Explicit(_) => "AUTH TLS",
        ServerTls::Implicit(_) => "from the first byte",
    };
    let identity = tls.identity()?;
    let name = identity.name.clone().or_else(|| upstream.fixed()?.server_name());
    let name = name.map_or_else(|| "the host that it is chosen by".into(), |name| format!("`{}`", name.to_str()));
    Some(match &identity.verify {
        Verify::System => format!("{start}, as {name} by an authority that this machine trusts"),
        Verify::Nobody => format!("{start}, whoever it is"),
        Verify::File(file) => format!("{start}, as {name} by {}", file.path.display()),
    })
}

/// One line about a certificate.
pub(super) fn describe(facts: &Facts) -> String {
    let names = if facts.names.is_empty() { "no names".into() } else { facts.names.join(", ") };
    let until = humantime::format_rfc3339_seconds(facts.not_after).to_string();
    let until = until.split('T').next().unwrap_or_default();
    format!("{} for {names}, {}, until {until}, issued by {}", facts.subject, facts.key, facts.issuer)
}
