//! `tls` of a listener, from its text.

use std::path::PathBuf;

use rustls::pki_types::ServerName;

use super::Reader;
use crate::config::report::{KeyPath, Wrong};
use crate::config::tls::{
    ClientTls, KeyPair, NamedFile, ServerIdentity, ServerTls, Terminate, Tls, TlsVersion, Verify,
};
use crate::config::value::{self, Parsed};
use crate::config::{DataPorts, Selection, Upstream, raw};

/// `mode` of `tls.client`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum ClientMode {
    #[default]
    Refuse,
    Passthrough,
    Terminate,
}

/// `mode` of `tls.server`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum ServerMode {
    #[default]
    Plain,
    Explicit,
    Implicit,
}

const CERTIFICATE: &str = "`certificate: /etc/ftp-alg/fullchain.pem`, and `key`";

impl Reader<'_, '_> {
    /// `None` if any of it was reported.
    pub(super) fn tls(&mut self, raw: raw::Tls, upstream: Option<&Selection>, at: &KeyPath) -> Option<Tls> {
        let (client_at, server_at) = (at.key("client"), at.key("server"));
        let (client, server) = (raw.client.unwrap_or_default(), raw.server.unwrap_or_default());
        let client_mode = self.mode(client.mode.clone(), &client_at, client_mode);
        let server_mode = self.mode(server.mode.clone(), &server_at, server_mode);
        if client_mode == Some(ClientMode::Passthrough) && server_mode.is_some_and(|m| m != ServerMode::Plain) {
            let what = "with `tls.client.mode: passthrough` clients speak TLS with the server itself";
            let help = "remove `tls.server`; or write `tls.client.mode: terminate`, with a certificate";
            self.problems.report(&server_at.key("mode"), Wrong::new(what, help));
        }
        if client_mode == Some(ClientMode::Passthrough) && matches!(upstream, Some(Selection::FromUser(_))) {
            let what = "AUTH comes before USER, and there is no server yet that it could go to";
            let help = "write `tls.client.mode: terminate`, with a certificate; or leave `tls.client` out";
            self.problems.report(&client_at.key("mode"), Wrong::new(what, help));
        }
        let client = client_mode.and_then(|mode| self.client_tls(mode, client, &client_at));
        let server = server_mode.and_then(|mode| self.server_tls(mode, server, upstream, &server_at));
        Some(Tls { client: client?, server: server? })
    }

    /// The default if there is none, `None` if it was reported.
    fn mode<T: Default>(&mut self, text: Option<String>, at: &KeyPath, parse: fn(&str) -> Parsed<T>) -> Option<T> {
        match text {
            Some(text) => self.optional(Some(text), &at.key("mode"), parse),
            None => (!self.problems.has(&at.key("mode")) && !self.problems.has(at)).then(T::default),
        }
    }

    fn client_tls(&mut self, mode: ClientMode, raw: raw::TlsClient, at: &KeyPath) -> Option<ClientTls> {
        let terminate = [
            ("certificate", raw.certificate.is_some()),
            ("key", raw.key.is_some()),
            ("certificates", raw.certificates.is_some()),
            ("require", raw.require.is_some()),
            ("implicit", raw.implicit.is_some()),
            ("min_version", raw.min_version.is_some()),
            ("allow_ccc", raw.allow_ccc.is_some()),
            ("lenient", raw.lenient.is_some()),
            ("require_reuse", raw.require_reuse.is_some()),
            ("client_ca", raw.client_ca.is_some()),
        ];
        if mode != ClientMode::Terminate {
            self.misplaced(&terminate, "terminate", raw.mode.as_deref().unwrap_or("refuse"), at);
        }
        if mode != ClientMode::Passthrough {
            let keys = [("passthrough_ports", raw.passthrough_ports.is_some())];
            self.misplaced(&keys, "passthrough", raw.mode.as_deref().unwrap_or("refuse"), at);
        }
        Some(match mode {
            ClientMode::Refuse => ClientTls::Refuse,
            ClientMode::Passthrough => {
                let ports_at = at.key("passthrough_ports");
                let ports = self.optional(raw.passthrough_ports, &ports_at, passthrough_ports);
                ClientTls::Passthrough { ports }
            }
            ClientMode::Terminate => ClientTls::Terminate(Box::new(self.terminate(raw, at)?)),
        })
    }

    fn terminate(&mut self, raw: raw::TlsClient, at: &KeyPath) -> Option<Terminate> {
        let certificates = self.certificates(raw.certificate, raw.key, raw.certificates, at);
        let client_ca = raw.client_ca.is_some();
        let mut flag = |text, key| self.optional(text, &at.key(key), value::boolean);
        let require = flag(raw.require, "require");
        let implicit = flag(raw.implicit, "implicit");
        let allow_ccc = flag(raw.allow_ccc, "allow_ccc");
        let lenient = flag(raw.lenient, "lenient");
        let require_reuse = flag(raw.require_reuse, "require_reuse");
        if client_ca && !require.unwrap_or_default() && !implicit.unwrap_or_default() {
            let what = "a client that does not ask for TLS would need no certificate";
            self.problems.report(&at.key("client_ca"), Wrong::new(what, "write `require: true` as well"));
        }
        Some(Terminate {
            certificates: certificates?,
            require: require.unwrap_or_default(),
            implicit: implicit.unwrap_or_default(),
            min_version: self.version(raw.min_version, &at.key("min_version")),
            allow_ccc: allow_ccc.unwrap_or_default(),
            lenient: lenient.unwrap_or_default(),
            require_reuse: require_reuse.unwrap_or_default(),
            client_ca: self.file(raw.client_ca, &at.key("client_ca")),
        })
    }

    /// The pair beside the other keys, then those of the list.
    fn certificates(
        &mut self,
        certificate: Option<String>,
        key: Option<String>,
        list: Option<Vec<Option<raw::KeyPair>>>,
        at: &KeyPath,
    ) -> Option<Vec<KeyPair>> {
        let has_list = list.as_ref().is_some_and(|list| !list.is_empty()) || self.problems.has(&at.key("certificates"));
        let is_plain = certificate.is_some() || key.is_some() || !has_list;
        let plain = is_plain.then(|| self.key_pair(certificate, key, at));
        let listed = list.unwrap_or_default().into_iter().enumerate().map(|(i, pair)| {
            let pair = pair?;
            self.key_pair(pair.certificate, pair.key, &at.key("certificates").index(i))
        });
        plain.into_iter().chain(listed).collect()
    }

    fn key_pair(&mut self, certificate: Option<String>, key: Option<String>, at: &KeyPath) -> Option<KeyPair> {
        let (certificate_at, key_at) = (at.key("certificate"), at.key("key"));
        let certificate_path = self.required(certificate, &certificate_at, path, CERTIFICATE);
        let key_path = self.required(key, &key_at, path, "`key: /etc/ftp-alg/privkey.pem`, the certificate's key");
        let certificate = NamedFile { named_by: within_listener(&certificate_at), path: certificate_path? };
        Some(KeyPair { certificate, key: NamedFile { named_by: within_listener(&key_at), path: key_path? } })
    }

    fn server_tls(
        &mut self,
        mode: ServerMode,
        raw: raw::TlsServer,
        upstream: Option<&Selection>,
        at: &KeyPath,
    ) -> Option<ServerTls> {
        if mode == ServerMode::Plain {
            let keys = [
                ("verify", raw.verify.is_some()),
                ("name", raw.name.is_some()),
                ("max_version", raw.max_version.is_some()),
                ("lenient", raw.lenient.is_some()),
            ];
            self.misplaced(&keys, "explicit` or `mode: implicit", raw.mode.as_deref().unwrap_or("plain"), at);
            return Some(ServerTls::Plain);
        }
        let max_version = self.version(raw.max_version, &at.key("max_version"));
        let lenient = self.optional(raw.lenient, &at.key("lenient"), value::boolean).unwrap_or_default();
        let verify = self.verify(raw.verify, &at.key("verify"));
        let name = match raw.name {
            Some(name) => self.optional(Some(name), &at.key("name"), server_name),
            None => {
                self.check_name_of(upstream, &at.key("name"));
                None
            }
        };
        let identity = ServerIdentity { verify: verify?, name, max_version, lenient };
        Some(if mode == ServerMode::Implicit { ServerTls::Implicit(identity) } else { ServerTls::Explicit(identity) })
    }

    fn verify(&mut self, text: Option<String>, at: &KeyPath) -> Option<Verify> {
        match text.as_deref() {
            None | Some("system") => Some(Verify::System),
            Some("none") => Some(Verify::Nobody),
            Some(_) => {
                let path = self.optional(text, at, |text| {
                    path(text).map_err(|wrong| {
                        Wrong::new(wrong.what, format!("write `system`, `none`, or a file: {}", wrong.help))
                    })
                })?;
                Some(Verify::File(NamedFile { named_by: within_listener(at), path }))
            }
        }
    }

    /// Reports a server that no certificate could name.
    fn check_name_of(&mut self, upstream: Option<&Selection>, at: &KeyPath) {
        let servers = upstream.map(Selection::servers).unwrap_or_default();
        let nameless = servers.iter().find(|server| server.server_name().is_none());
        if let Some(Upstream::Name { host, .. }) = nameless
            && let Err(wrong) = server_name(host)
        {
            self.problems.report(at, wrong);
        }
    }

    fn version(&mut self, text: Option<String>, at: &KeyPath) -> TlsVersion {
        self.optional(text, at, version).unwrap_or(TlsVersion::V1_2)
    }

    fn file(&mut self, text: Option<String>, at: &KeyPath) -> Option<NamedFile> {
        Some(NamedFile { named_by: within_listener(at), path: self.optional(text, at, path)? })
    }

    /// Reports keys that have no meaning in this mode: whoever wrote them expects something that will not happen.
    fn misplaced(&mut self, keys: &[(&str, bool)], needed: &str, mode: &str, at: &KeyPath) {
        for (key, _) in keys.iter().filter(|(_, is_there)| *is_there) {
            let what = format!("has no meaning with `mode: {mode}`");
            let help = format!("write `mode: {needed}`, or remove it");
            self.problems.report(&at.key(key), Wrong::new(what, help));
        }
    }
}

/// `listeners[0].tls.client.key` as `tls.client.key`: messages after the reading name the listener themselves.
fn within_listener(at: &KeyPath) -> String {
    let path = at.to_string();
    path.split_once("].").map_or(path.clone(), |(_, rest)| rest.into())
}

fn client_mode(text: &str) -> Parsed<ClientMode> {
    match text {
        "refuse" => Ok(ClientMode::Refuse),
        "passthrough" => Ok(ClientMode::Passthrough),
        "terminate" => Ok(ClientMode::Terminate),
        _ => Err(Wrong::new(format!("`{text}` is not a mode"), "write `refuse`, `terminate` or `passthrough`")),
    }
}

fn server_mode(text: &str) -> Parsed<ServerMode> {
    match text {
        "plain" => Ok(ServerMode::Plain),
        "explicit" => Ok(ServerMode::Explicit),
        "implicit" => Ok(ServerMode::Implicit),
        _ => Err(Wrong::new(format!("`{text}` is not a mode"), "write `plain`, `explicit` or `implicit`")),
    }
}

fn version(text: &str) -> Parsed<TlsVersion> {
    match text {
        "1.2" => Ok(TlsVersion::V1_2),
        "1.3" => Ok(TlsVersion::V1_3),
        _ => Err(Wrong::new(format!("`{text}` is not a version of TLS that is spoken here"), "write `1.2` or `1.3`")),
    }
}

/// What a path is relative to differs between a shell and a service.
fn path(text: &str) -> Parsed<PathBuf> {
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        let help = "write the whole path, like `/etc/ftp-alg/fullchain.pem`";
        return Err(Wrong::new(format!("`{text}` is not an absolute path"), help));
    }
    Ok(path)
}

/// A DNS name or an address, as certificates have them.
fn server_name(text: &str) -> Parsed<ServerName<'static>> {
    // A trailing dot is DNS notation, and no part of the name in a certificate (RFC 6066 §3).
    let name = ServerName::try_from(text.strip_suffix('.').unwrap_or(text)).map_err(|_| {
        let help = "write the DNS name or the address that the server's certificate has, like `name: ftp.example.com`";
        Wrong::new(format!("`{text}` cannot be the name in a certificate"), help)
    })?;
    Ok(name.to_owned())
}

fn passthrough_ports(text: &str) -> Parsed<std::ops::RangeInclusive<u16>> {
    match value::data_ports(text)? {
        DataPorts::Range(range) => Ok(range),
        DataPorts::Any => Err(Wrong::new(
            "`any` cannot be relayed: the ports are the server's",
            "write the passive ports of the server's settings, like `50000-50020`",
        )),
    }
}
