//! The README is right: its examples are valid, its reference has every key and default, its table of replies every refusal.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use ftp_alg::config::{Config, Error};

/// What precedes every key path of the reference.
const LISTENER: &str = "listeners[].";

/// A whole file that has only the keys which have no default, one a line, so that others can be put in.
const REQUIRED: &str = "\
listeners:
  - bind: 192.0.2.1:2121
    upstream: 172.16.0.20:21
    client:
      address_map: [{ peers: any, announce: 203.0.113.10 }]
      data_ports: 20000-20020
";

/// A whole file that has every key that can stand beside the others, each on a line of its own.
const FULL: &str = "\
admin:
  bind: 127.0.0.1:9121
log:
  transfers: /var/log/ftp-alg/xferlog
user: ftp-alg
landlock: true
listeners:
  - name: ftp
    bind: 192.0.2.1:2121
    upstream: 172.16.0.20:21
    hosts: { ftp.example.com: 172.16.0.21 }
    client:
      address_map:
        - peers: any
          announce: 203.0.113.10
      data_ports: 20000-20020
      data_peer: subnet
      source_port: 20
      proxy_protocol:
        trusted: 10.0.0.0/8
        data: true
    server:
      source: local
      proxy_protocol: v2
      proxy_protocol_data: true
      data_mode: active
      address_map:
        - peers: any
          announce: local
      data_ports: 30000
      data_peer: subnet
    tls:
      client:
        mode: terminate
        certificate: /etc/ftp-alg/fullchain.pem
        key: /etc/ftp-alg/privkey.pem
        certificates:
          - certificate: /etc/ftp-alg/second.pem
            key: /etc/ftp-alg/second.key
        require: true
        implicit: true
        min_version: 1.3
        allow_ccc: true
        lenient: true
        require_reuse: true
        client_ca: /etc/ftp-alg/clients.pem
      server:
        mode: explicit
        verify: none
        name: ftp.example.com
        max_version: 1.3
        lenient: true
    policy:
      allow: 198.51.100.0/24
      deny: SITE
      privileged_ports: true
    limits:
      sessions: 100
      sessions_per_address: 10
      pending_ports_per_address: 5
      line: 1KiB
      login_failures: 3
      connects_per_second: 10
    timeouts:
      control_idle: 1m
      login: 1m
      connect_server: 1m
      connect_client: 1m
      data_idle: 1m
      port_wait: 1m
      close: 1m
      partial_line: 1m
      drain: 1m
discovery:
  provider: aliyun
  endpoint: http://127.0.0.1:8080
  refresh: 30s
";

/// The keys that need another mode than that of [`FULL`], or that others need.
const MODES: &str = "\
listeners:
  - bind: 192.0.2.1:2121
    upstream: 172.16.0.20:21
    client:
      address_map: [{ peers: any, announce: 203.0.113.10 }]
      data_ports: 20000-20020
    server:
      proxy_protocol: v1
    tls:
      client:
        mode: refuse
      server:
        mode: plain
discovery:
  provider: aliyun
";

/// See [`MODES`].
const PASSTHROUGH: &str = "\
listeners:
  - bind: 192.0.2.1:2121
    upstream: 172.16.0.20:21
    client:
      address_map: [{ peers: any, announce: 203.0.113.10 }]
      data_ports: 20000-20020
    tls:
      client:
        mode: passthrough
        passthrough_ports: 50000-50020
";

/// See [`MODES`].
const SEVERAL: &str = "\
listeners:
  - bind: 192.0.2.1:2121
    upstream:
      servers: [172.16.0.20, 172.16.0.21]
      balance: source
      health:
        interval: 10s
        timeout: 3s
        fall: 1
        rise: 1
    client:
      address_map: [{ peers: any, announce: 203.0.113.10 }]
      data_ports: 20000-20020
";

/// See [`MODES`].
const INTERCEPTING: &str = "\
listeners:
  - bind: 192.0.2.1:2121
    upstream: original-destination
    upstream_networks: 172.16.0.0/16
    client:
      address_map: [{ peers: any, announce: local }]
      data_ports: 20000-20020
";

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(found) = line.strip_prefix("```") else { continue };
        let block: String = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        if found == language {
            blocks.push(block);
        }
    }
    blocks
}

/// The cells of the tables under a heading, row by row, without the header rows.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// The text of a cell that is one piece of code.
fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`').filter(|code| !code.contains('`'))
}

fn errors(text: &str) -> Vec<Error> {
    Config::parse(text, "proxy.yaml").map_or_else(|errors| errors.list().to_vec(), |_| Vec::new())
}

#[test]
fn every_yaml_example_is_valid() {
    let examples = blocks(&readme(), "yaml");
    assert!(examples.len() >= 3, "only {} examples found", examples.len());
    for example in examples {
        if let Err(errors) = Config::parse(&example, "README.md") {
            panic!("{errors}\nin\n{example}");
        }
    }
}

/// `ftp-alg check` on the first example prints what the README says, on a machine with the usual ephemeral ports.
#[test]
fn the_plan_is_that_of_the_first_example() {
    let readme = readme();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, &blocks(&readme, "yaml")[0]).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ftp-alg")).args(["check", "--config"]).arg(file.path()).output();
    let printed = String::from_utf8(output.unwrap().stdout).unwrap();
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let range = range.split_whitespace().collect::<Vec<_>>().join("-");
    let (_, printed) = printed.split_once('\n').unwrap();
    let printed = printed.replace(&range, "32768-60999");

    let texts = blocks(&readme, "text");
    let shown = texts.iter().find(|text| text.starts_with("$ ftp-alg check")).unwrap();
    let (_, shown) = shown.split_once("is valid.\n").unwrap();
    assert_eq!(shown.trim_end(), printed.trim_end());
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let readme = readme();
    let rows = rows(&readme, "Reference of proxy.yaml");
    let documented: BTreeSet<String> = rows.iter().map(|row| code(row[0]).unwrap().to_owned()).collect();
    assert_eq!(documented.len(), rows.len(), "a key stands in two rows");
    let mut known = BTreeSet::new();
    collect_keys("", &mut known);
    assert!(known.len() > 20, "only {} keys found: the messages that name them read differently now", known.len());
    let (missing, invented): (Vec<_>, Vec<_>) =
        (known.difference(&documented).collect(), documented.difference(&known).collect());
    assert!(missing.is_empty() && invented.is_empty(), "missing: {missing:#?}\nnot a key: {invented:#?}");
}

/// Adds the keys of the map at `path`, and those below. The program is asked: its message about a key that cannot
/// exist names those that can.
fn collect_keys(path: &str, known: &mut BTreeSet<String>) {
    const IMPOSSIBLE: &str = "impossible-key-of-this-test";
    let nested = |path: &str| nest(&format!("{path}.{IMPOSSIBLE}"), "");
    let ask = |path: &str| errors(&nested(path)).into_iter().find(|error| error.path.ends_with(IMPOSSIBLE));
    for (path, error) in [path.to_owned(), format!("{path}[]")].map(|path| (path.clone(), ask(&path))) {
        let Some(error) = error else { continue };
        let keys = error.help.strip_prefix("known here: ").unwrap_or_else(|| panic!("{}", error.help));
        for key in keys.split(", ").map(|key| code(key).unwrap()) {
            let path = format!("{path}.{key}").trim_start_matches('.').to_owned();
            assert!(known.insert(path.clone()), "{path} twice");
            collect_keys(&path, known);
        }
    }
}

/// `a.b[].c` with value `v` as `{a: {b: [{c: v}]}}`.
fn nest(path: &str, value: &str) -> String {
    path.trim_start_matches('.').rsplit('.').fold(value.to_owned(), |inner, key| match key.strip_suffix("[]") {
        Some(key) => format!("{{ {key}: [{inner}] }}"),
        None => format!("{{ {key}: {inner} }}"),
    })
}

#[test]
fn every_default_of_the_reference_is_the_real_one() {
    let readme = readme();
    let mut checked = 0;
    for row in rows(&readme, "Reference of proxy.yaml") {
        let (Some(path), Some(default)) = (code(row[0]), code(row[1])) else { continue };
        let path = path.strip_prefix(LISTENER).unwrap_or(path);
        let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
        let [unset, set] = ["", default].map(|value| {
            // A key without a value counts as left out.
            let text = listener_with(section, key, value);
            Config::parse(&text, "proxy.yaml").map_or_else(|errors| panic!("{path}: {errors}"), |c| format!("{c:?}"))
        });
        assert_eq!(set, unset, "{path}: {default} is not its default");
        checked += 1;
    }
    assert!(checked >= 23, "only {checked} defaults found");
}

/// [`REQUIRED`] with one more key, and what that key needs to have a meaning.
fn listener_with(section: &str, key: &str, value: &str) -> String {
    let mode = match section {
        _ if key == "mode" => "",
        "tls.client" => "mode: terminate, certificate: /c.pem, key: /k.pem, ",
        "tls.server" => "mode: explicit, ",
        _ => "",
    };
    const SERVERS: &str = "servers: [172.16.0.20, 172.16.0.21]";
    let several = |more: &str| REQUIRED.replace("172.16.0.20:21", &format!("{{ {SERVERS}, {more} }}"));
    match section.split_once('.') {
        None if section.is_empty() => format!("{REQUIRED}{key}: {value}\n"),
        None if section == "discovery" => format!("{REQUIRED}{section}: {{ {key}: {value} }}\n"),
        None if section == "upstream" => several(&format!("{key}: {value}")),
        Some(("upstream", section)) => several(&format!("{section}: {{ {key}: {value} }}")),
        // REQUIRED ends within its `client`.
        None if section == "client" => format!("{REQUIRED}      {key}: {value}\n"),
        None => format!("{REQUIRED}    {section}: {{ {key}: {value} }}\n"),
        Some((section, leg)) => format!("{REQUIRED}    {section}: {{ {leg}: {{ {mode}{key}: {value} }} }}\n"),
    }
}

#[test]
fn what_the_reference_calls_required_is() {
    const FILES: [&str; 5] = [FULL, MODES, PASSTHROUGH, INTERCEPTING, SEVERAL];
    for file in FILES {
        assert!(errors(file).is_empty(), "{:#?}", errors(file));
    }
    let readme = readme();
    let rows = rows(&readme, "Reference of proxy.yaml");
    assert!(rows.iter().any(|row| row[1] == "required") && rows.iter().any(|row| row[1] != "required"));
    for row in rows {
        let path = code(row[0]).unwrap();
        let left: Vec<String> = FILES.iter().map(|file| without(file, path)).collect();
        let left: Vec<&String> = left.iter().filter(|text| !FILES.contains(&text.as_str())).collect();
        assert!(!left.is_empty(), "no file has {path}");
        // A key that only some need has a file that does well without.
        let is_required = left.iter().all(|text| !errors(text).is_empty());
        assert_eq!(is_required, row[1] == "required", "{path}\n{left:#?}");
    }
}

/// A file with the value of one key taken away: a key without a value counts as left out.
fn without(file: &str, wanted: &str) -> String {
    let mut text = String::new();
    // The path of the line above, and of all that it is in, each with its indentation.
    let mut open: Vec<(usize, String)> = Vec::new();
    for line in file.lines() {
        let indent = line.len() - line.trim_start_matches([' ', '-']).len();
        open.retain(|(outer, _)| *outer < indent);
        if open.iter().any(|(_, path)| path == wanted) {
            continue;
        }
        if let (true, Some((_, list))) = (line.contains("- "), open.last_mut()) {
            *list = format!("{}[]", list.trim_end_matches("[]"));
        }
        let (key, _) = line[indent..].split_once(':').unwrap();
        let path = open.last().map_or(key.to_owned(), |(_, outer)| format!("{outer}.{key}"));
        let kept = if path == wanted { &line[..indent + key.len() + 1] } else { line };
        text.push_str(&format!("{kept}\n"));
        open.push((indent, path));
    }
    text
}

#[test]
fn the_readme_lists_every_refusal_of_ours_and_no_other() {
    let mut source = String::new();
    read_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut source);
    let readme = readme();
    let listed: Vec<&str> = rows(&readme, "When something fails").iter().map(|row| code(row[0]).unwrap()).collect();
    for reply in &listed {
        // Some are put together from a text and the line end.
        assert!(source.contains(&format!("\"{reply}")), "nothing in src/ sends `{reply}`");
    }
    let mut sent = 0;
    for text in source.split('"').filter(|text| is_refusal(text)) {
        assert!(listed.iter().any(|reply| text.starts_with(reply)), "the README does not list `{text}`");
        sent += 1;
    }
    assert!(sent >= listed.len() && sent >= 20, "only {sent} refusals found in src/");
}

/// `4yz Text` or `5yz Text`.
fn is_refusal(text: &str) -> bool {
    matches!(text.as_bytes(), [b'4' | b'5', b'0'..=b'9', b'0'..=b'9', b' ', b'A'..=b'Z', ..])
}

/// The code below a folder, without inline tests.
fn read_sources(folder: &Path, source: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, source);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            source.push_str(text.split("#[cfg(test)]").next().unwrap());
        }
    }
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let readme = readme();
    let anchors: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace(' ', "-").replace(|c: char| !c.is_alphanumeric() && c != '-', ""))
        .collect();
    let links: Vec<&str> = readme.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(links.len() > 10, "only {} links found", links.len());
    for link in links {
        match link.strip_prefix('#') {
            Some(anchor) => assert!(anchors.contains(anchor), "no heading for #{anchor}: {anchors:#?}"),
            None => assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(link).exists(), "no file {link}"),
        }
    }
}
