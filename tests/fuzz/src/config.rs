//! proxy.yaml: whatever the text, the answer is a configuration that can be planned, or errors with their places.

use ftp_alg::cli;
use ftp_alg::config::{Config, Upstream};
use ftp_alg::nat::map::Announce;

/// A text; bytes that are none do not get past reading the file.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text, "proxy.yaml") {
        Ok(config) => can_be_planned(&config),
        Err(errors) => {
            let lines: Vec<&str> = text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').collect();
            assert!(!errors.list().is_empty());
            for error in errors.list() {
                assert!((1..=lines.len()).contains(&error.line), "{error:?}");
                // One past the last character: where something is missing.
                let width = lines[error.line - 1].chars().count();
                assert!((1..=width + 1).contains(&error.column), "{error:?}");
                assert!(!error.what.is_empty() && !error.help.is_empty(), "{error:?}");
            }
            assert!(errors.to_string().starts_with("error: "));
        }
    }
}

fn can_be_planned(config: &Config) {
    assert!(!config.listeners.is_empty());
    for (at, listener) in config.listeners.iter().enumerate() {
        assert!(!listener.bind.is_empty());
        assert!(config.listeners[..at].iter().all(|other| other.name != listener.name), "two `{}`", listener.name);
        for server in listener.upstream.servers() {
            assert!(!matches!(server, Upstream::Address(addr) if config.serves(*addr)), "a loop");
        }
    }
    // Names are looked up for the plan, and the public address asked for: nothing leaves this machine.
    let has_names = config.listeners.iter().any(|listener| {
        let rules = listener.client.address_map.rules().iter().chain(listener.server.address_map.rules());
        !listener.hosts.is_empty()
            || listener.upstream.servers().iter().any(|server| matches!(server, Upstream::Name { .. }))
            || rules.into_iter().any(|rule| matches!(rule.announce, Announce::Name(_) | Announce::Auto(_)))
    });
    if !has_names {
        let plan = cli::check(config, &[]).expect("nothing to look up");
        for listener in &config.listeners {
            assert!(plan.contains(&listener.name));
        }
    }
    for warning in cli::warnings(config) {
        assert!(!warning.to_string().is_empty());
    }
}
