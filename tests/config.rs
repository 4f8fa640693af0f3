//! What `proxy.yaml` may say, and what is said about everything else.

use std::net::SocketAddr;
use std::time::Duration;

use ftp_alg::config::{Config, DataMode, DataPeer, DataPorts, Limits, LoadError, Selection, Timeouts};
use proptest::prelude::*;

/// A valid file of one listener, one key a line, for tests to change.
const VALID: &str = "\
listeners:
  - name: ftp
    bind: 192.0.2.1:2121
    upstream: 172.16.0.20:21
    client:
      address_map: [{ peers: any, announce: 203.0.113.10 }]
      data_ports: 20000-20020
    server:
      data_ports: any
";

/// The errors of a text, one a line: `line:column path: what; help`.
fn errors(text: &str) -> Vec<String> {
    let errors = Config::parse(text, "proxy.yaml").expect_err("this configuration is wrong");
    errors.list().iter().map(|e| format!("{}:{} {}: {}; {}", e.line, e.column, e.path, e.what, e.help)).collect()
}

/// The one error of [`VALID`] with `from` replaced.
fn error(from: &str, to: &str) -> String {
    assert!(VALID.contains(from), "{from}");
    let errors = errors(&VALID.replace(from, to));
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.into_iter().next().unwrap_or_default()
}

/// [`VALID`] and a second listener.
fn two(bind: &str, upstream: &str, client_ports: &str, server_ports: &str) -> String {
    format!(
        "{VALID}  - name: second\n    bind: {bind}\n    upstream: {upstream}\n    client:\n      \
         address_map: [{{ peers: any, announce: local }}]\n      data_ports: {client_ports}\n    \
         server: {{ data_ports: {server_ports} }}\n"
    )
}

fn assert_starts(actual: &str, expected: &str) {
    assert!(actual.starts_with(expected), "\n  {actual}\ndoes not start with\n  {expected}");
}

mod reading {
    use super::*;

    #[test]
    fn the_shipped_example_is_valid() {
        let config = Config::load(concat!(env!("CARGO_MANIFEST_DIR"), "/proxy.yaml").as_ref()).unwrap();
        let [ftp] = &config.listeners[..] else { panic!("{config:?}") };
        assert_eq!(ftp.name, "ftp");
        assert_eq!(ftp.client.data_ports, DataPorts::Range(20000..=20020));
        assert_eq!(ftp.client.address_map.rules().len(), 2);
    }

    #[test]
    fn the_examples_comments_are_valid_keys() {
        let uncommented =
            |line: &'static str| line.strip_prefix("    # ").map_or(line.into(), |key| format!("    {key}"));
        let text: Vec<String> = include_str!("../proxy.yaml").lines().map(uncommented).collect();
        let text = text.join("\n");
        let config = Config::parse(&text, "proxy.yaml").unwrap_or_else(|e| panic!("{e}"));
        let ftp = &config.listeners[0];
        assert_eq!(ftp.access.allow.as_ref().map(Vec::len), Some(1));
        assert_eq!(ftp.limits.connects_per_second.map(std::num::NonZero::get), Some(10));
        assert_eq!(ftp.limits.login_failures, Limits::default().login_failures, "the example shows the default");
        assert_eq!(ftp.timeouts, Timeouts::default(), "the example shows the default");
    }

    #[test]
    fn everything_but_the_essential_has_a_default() {
        let text = "listeners: [{ bind: '192.0.2.1:21', upstream: ftp.example.com, \
                    client: { data_ports: 20000, address_map: [{ peers: any, announce: local }] } }]";
        let config = Config::parse(text, "f").unwrap();
        let ftp = &config.listeners[0];
        assert_eq!(ftp.name, "192.0.2.1:21");
        assert_eq!(ftp.upstream.to_string(), "ftp.example.com:21");
        assert_eq!((ftp.data_mode, &ftp.server.data_ports), (DataMode::Same, &DataPorts::Any));
        assert_eq!(ftp.server.address_map.rules()[0].announce.to_string(), "local");
        assert_eq!((&ftp.client.data_peer, &ftp.server.data_peer), (&DataPeer::Exact, &DataPeer::Exact));
        assert!(ftp.access.allow.is_none() && !ftp.policy.privileged_ports);
        assert_eq!((ftp.timeouts, ftp.limits), (Timeouts::default(), Limits::default()));
        assert!(ftp.hosts.is_empty());
        assert!(ftp.limits.connects_per_second.is_none() && ftp.access.denied.is_empty());
    }

    #[test]
    fn every_key_arrives_where_it_belongs() {
        let text = VALID.replace("    server:\n      data_ports: any\n", "      data_peer: subnet\n")
            + "    server: { data_mode: active, data_ports: 30000-30001, address_map: [{ peers: any, announce: 192.0.2.9 }],
      data_peer: [198.51.100.32/28, 203.0.113.9, 198.51.100.40] }
    policy: { allow: [198.51.100.0/24, 2001:db8::1], deny: [SITE EXEC, dele], privileged_ports: true }
    limits: { sessions: 1, sessions_per_address: 2, pending_ports_per_address: 3, line: 1KiB, login_failures: 5, connects_per_second: 7 }
    timeouts: { control_idle: 1s, login: 2s, connect_server: 3s, connect_client: 4s, data_idle: 5s, port_wait: 6s, close: 7s, partial_line: 8s, drain: 1m }
";
        let config = Config::parse(&text, "f").unwrap_or_else(|e| panic!("{e}"));
        let ftp = &config.listeners[0];
        let bind: Vec<SocketAddr> = vec!["192.0.2.1:2121".parse().unwrap()];
        assert_eq!((&ftp.bind, ftp.upstream.to_string().as_str()), (&bind, "172.16.0.20:21"));
        assert_eq!(ftp.data_mode, DataMode::Active);
        assert_eq!(ftp.client.data_peer, DataPeer::Subnet);
        let DataPeer::Networks(pool) = &ftp.server.data_peer else { panic!("{:?}", ftp.server.data_peer) };
        let pool: Vec<String> = pool.iter().map(ToString::to_string).collect();
        assert_eq!(pool, ["198.51.100.32/28", "203.0.113.9/32"], "an address within a network adds nothing");
        assert_eq!(ftp.server.data_ports, DataPorts::Range(30000..=30001));
        assert_eq!(ftp.server.address_map.rules()[0].announce.to_string(), "192.0.2.9");
        let allow: Vec<String> = ftp.access.allow.iter().flatten().map(ToString::to_string).collect();
        assert_eq!(allow, ["198.51.100.0/24", "2001:db8::1/128"]);
        let denied: Vec<String> = ftp.access.denied.iter().map(ToString::to_string).collect();
        assert_eq!(denied, ["SITE EXEC", "DELE"]);
        assert!(ftp.policy.privileged_ports);
        let n = std::num::NonZero::new;
        let expected = Limits {
            sessions: n(1),
            sessions_per_address: n(2),
            pending_ports_per_address: n(3),
            line: 1024,
            login_failures: n(5).unwrap(),
            connects_per_second: n(7),
        };
        assert_eq!(ftp.limits, expected);
        let s = Duration::from_secs;
        let expected = Timeouts {
            control_idle: s(1),
            login: s(2),
            connect_server: s(3),
            connect_client: s(4),
            data_idle: s(5),
            port_wait: s(6),
            close: s(7),
            partial_line: s(8),
            drain: s(60),
        };
        assert_eq!(ftp.timeouts, expected);
    }

    #[test]
    fn listeners_with_ports_or_addresses_of_their_own_get_along() {
        for (bind, upstream, client, server) in [
            ("192.0.2.1:2122", "172.16.0.20", "20000-20020", "any"),
            ("192.0.2.2:2121", "192.0.2.2:21", "20000-20020", "20000-20020"),
            ("'[::]:2121'", "127.0.0.1:2121", "any", "any"),
            ("192.0.2.2:20010", "172.16.0.21", "30000", "any"),
        ] {
            let text = two(bind, upstream, client, server);
            // The last: a control port within the client range of a listener on another address.
            let config = Config::parse(&text, "f").unwrap_or_else(|e| panic!("{bind}: {e}"));
            assert_eq!(config.listeners.len(), 2);
        }
    }

    #[test]
    fn an_alias_stands_for_its_anchor() {
        let text = two("192.0.2.1:2122", "172.16.0.20", "20000", "any")
            .replacen("address_map: [", "address_map: &map [", 1)
            .replace("address_map: [{ peers: any, announce: local }]", "address_map: *map");
        let config = Config::parse(&text, "f").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.listeners[1].client.address_map.rules()[0].announce.to_string(), "203.0.113.10");
    }

    #[test]
    fn empty_sections_mean_their_defaults() {
        let text = VALID.replace("      data_ports: any\n", "") + "    policy:\n    timeouts: ~\n    limits: {}\n";
        assert_eq!(Config::parse(&text, "f").unwrap().listeners[0].timeouts, Timeouts::default());
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert!(Config::parse(&format!("\u{feff}{VALID}"), "f").is_ok());
        let text = format!("\u{feff}{}", VALID.replace("listeners:", "listener:"));
        assert_eq!(errors(&text), ["1:1 listener: unknown key; write `listeners`"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let missing = Config::load("/nonexistent/proxy.yaml".as_ref()).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read /nonexistent/proxy.yaml");
        let latin1 = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(latin1.path(), b"listeners: # f\xfcr alle\n").unwrap();
        let error = Config::load(latin1.path()).unwrap_err();
        assert!(matches!(&error, LoadError::Read { source, .. } if source.to_string().contains("UTF-8")), "{error:?}");
    }
}

mod rendering {
    use super::*;

    #[test]
    fn an_error_shows_its_line_and_what_to_write() {
        let text = VALID.replace("20000-20020", "20020-20000");
        assert_eq!(
            Config::parse(&text, "/etc/proxy.yaml").unwrap_err().to_string(),
            "\
error: listeners[0].client.data_ports: `20020-20000` is reversed
 --> /etc/proxy.yaml:7:19
  |
7 |       data_ports: 20020-20000
  |                   ^^^^^^^^^^^
  |
  = help: write `20000-20020`

/etc/proxy.yaml: 1 error"
        );
    }

    #[test]
    fn several_errors_follow_the_lines_of_the_file() {
        let text = "\
# errors of every stage
listeners:
  - name: [ftp]
    bind: 0.0.0.0
    upstream: ftp://files.example.com/
    client:
      adress_map: []
      data_ports: {}
    timeouts: { login: 30, drain: 0s }
    timeouts: {}
  - bind: 192.0.2.1:21
    upstream: 192.0.2.1
    client: { address_map: [{ peers: 10.0.0.0/8, announce: Auto }], data_ports: 1-5000 }
";
        assert_eq!(
            Config::parse(text, "proxy.yaml").unwrap_err().to_string(),
            include_str!("config/several_errors.txt").trim_end()
        );
    }

    #[test]
    fn control_characters_of_the_file_do_not_reach_the_terminal() {
        let text = VALID.replace("172.16.0.20:21", "\"a\\e[2Jb\"");
        let shown = Config::parse(&text, "f").unwrap_err().to_string();
        assert!(shown.contains("listeners[0].upstream") && !shown.contains('\u{1b}'), "{shown:?}");
    }
}

mod positions {
    use super::*;

    /// One wrong value in several guises, and where it is.
    #[test]
    fn a_value_is_found_however_it_is_written() {
        for (text, place) in [
            ("listeners:\n  - bind: 0.0.0.0 # port?\n", "2:11 listeners[0].bind"),
            ("listeners:\r\n  # note\r\n  - bind: 0.0.0.0\r\n", "3:11 listeners[0].bind"),
            ("# größer 名前 😀\nlisteners:\n  - bind: 0.0.0.0\n", "3:11 listeners[0].bind"),
            ("listeners: [ { \"name\": \"名前\", bind: [ 0.0.0.0 ] } ]\n", "1:38 listeners[0].bind[0]"),
            ("---\nlisteners:\n- bind:\n  - 192.0.2.1:21\n  - 'é'\n", "5:5 listeners[0].bind[1]"),
            ("listeners:\n- bind: >-\n    0.0.0.0\n", "3:5 listeners[0].bind"),
            ("listeners:\n- bind: &b 0.0.0.0\n", "2:9 listeners[0].bind"),
            ("listeners:\n- name: &b 0.0.0.0\n  bind: *b\n", "2:9 listeners[0].bind"),
        ] {
            let errors = errors(text);
            let found = errors.iter().any(|e| e.starts_with(&format!("{place}: ")));
            assert!(found, "{text:?} has no error at {place}: {errors:#?}");
        }
    }

    #[test]
    fn what_is_missing_is_shown_where_it_belongs() {
        assert_eq!(
            error("    upstream: 172.16.0.20:21\n", ""),
            "2:5 listeners[0].upstream: missing; write `upstream: 172.16.0.20`"
        );
        assert_starts(&error("      data_ports: 20000-20020\n", ""), "5:5 listeners[0].client.data_ports: missing; ");
        assert_starts(&error("20000-20020", ""), "7:7 listeners[0].client.data_ports: missing; ");
        assert_starts(
            &error(", announce: 203.0.113.10", ""),
            "6:23 listeners[0].client.address_map[0].announce: missing",
        );
    }

    #[test]
    fn text_that_is_no_yaml_is_one_error() {
        let unclosed = errors("listeners:\n  - bind: [0.0.0.0:21\n    upstream: x\n");
        assert_eq!(unclosed.len(), 1);
        assert!(unclosed[0].contains("not valid YAML"), "{unclosed:?}");
        let tab = errors("listeners:\n\t- bind: x\n");
        assert_starts(&tab[0], "2:");
        assert!(tab[0].ends_with("YAML is indented with spaces, never with tabs"), "{tab:?}");
        assert_starts(&errors(&format!("{VALID}---\n{VALID}"))[0], "11:1 : a second document");
    }

    #[test]
    fn a_file_without_listeners_says_so() {
        for text in ["", "# nothing\n", "listeners:\n", "listeners: []\n", "{}"] {
            assert_starts(&errors(text)[0], "1:1 listeners: there are no listeners");
        }
        assert_starts(&errors("- a\n")[0], "1:1 : a list where a map is due; write its keys as `key: value`");
    }
}

mod keys {
    use super::*;

    #[test]
    fn an_unknown_key_names_the_nearest() {
        assert_eq!(error("upstream:", "upsteam:"), "4:5 listeners[0].upsteam: unknown key; write `upstream`");
        assert_eq!(error("client:", "Client:"), "5:5 listeners[0].Client: unknown key; write `client`");
        assert_eq!(error("listeners:", "listener:"), "1:1 listener: unknown key; write `listeners`");
        let unknown = errors(&format!("{VALID}    ssl: {{}}\ncolour: {{}}\nweather: {{}}\n"));
        assert_eq!(unknown.len(), 3, "{unknown:#?}");
        assert!(unknown[1].starts_with("11:1 colour: unknown key; known here: `listeners`"), "{unknown:#?}");
    }

    #[test]
    fn a_duplicate_key_names_the_first() {
        let twice = errors(&format!("{VALID}    upstream: 172.16.0.21\n"));
        assert_eq!(
            twice,
            ["10:5 listeners[0].upstream: `upstream` stands here twice, first on line 4; keep one of the two"]
        );
    }

    #[test]
    fn a_value_of_the_wrong_kind_does_not_hide_the_next() {
        let text = VALID
            .replace("192.0.2.1:2121", "{}")
            .replace("20000-20020", "[1]")
            .replace("    server:\n", "    server: x\n");
        let text = text.replace("      data_ports: any\n", "");
        assert_eq!(
            errors(&text),
            [
                "3:5 listeners[0].bind: a map where a value or a list of values is due; \
                 write one value, or several like `[A, B]`",
                "7:7 listeners[0].client.data_ports: a list where a single value is due; write one value behind the colon",
                "8:13 listeners[0].server: a single value where a map is due; write its keys as `key: value`; \
                 known here: `source`, `proxy_protocol`, `proxy_protocol_data`, `data_mode`, `address_map`, `data_ports`, \
                 `data_peer`",
            ]
        );
    }

    #[test]
    fn an_empty_entry_of_a_list_is_refused() {
        assert_starts(&error("192.0.2.1:2121", "[192.0.2.1:2121, ~]"), "3:28 listeners[0].bind[1]: an empty entry");
    }

    #[test]
    fn aliases_cannot_fill_the_memory() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..20 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            text += &format!("a{level}: &a{level} [{before}]\n");
        }
        assert!(errors(&text)[0].contains("too large or too deep"));
        assert!(errors(&("[".repeat(40) + &"]".repeat(40)))[0].contains("too large or too deep"));
        // The parser itself gives up here, before any of it is a tree.
        assert!(errors(&"[".repeat(100_000))[0].contains("not valid YAML"));
    }
}

mod refused {
    use super::*;

    #[test]
    fn a_server_that_anybody_could_pass_for() {
        let with = |peer: &str| VALID.replace("      data_ports: any", &format!("      data_peer: {peer}"));
        for peer in ["exact", "subnet", "198.51.100.0/24", "[198.51.100.0/24, '2001:db8::1']"] {
            assert!(Config::parse(&with(peer), "f").is_ok(), "{peer}");
        }
        for (peer, message) in [
            ("any", "with `any` anybody could pass for the server"),
            ("[198.51.100.0/24, 0.0.0.0/0]", "with `0.0.0.0/0` anybody could pass for the server"),
            ("[]", "no address of the server's could connect; write the networks that the server connects from"),
            ("[exact, 198.51.100.0/24]", "`exact` beside networks; keep one of the two"),
            ("198.51.100.7/24", "`198.51.100.7/24` is an address within a network; write `198.51.100.0/24`"),
            ("strict", "`strict` is not a rule for data connections; write `exact`"),
        ] {
            let errors = errors(&with(peer));
            assert!(errors.len() == 1 && errors[0].contains(message), "{peer}: {errors:?}");
            assert!(errors[0].contains("listeners[0].server.data_peer"), "{errors:?}");
        }
    }

    #[test]
    fn a_share_of_ports_that_wait_for_anybody() {
        let text = format!("{VALID}    limits: {{ pending_ports_per_address: 3 }}\n");
        let with = |rule: &str| {
            text.replace("data_ports: 20000-20020", &format!("data_ports: 20000-20020\n      data_peer: {rule}"))
        };
        assert_eq!(
            errors(&with("any")),
            [
                "11:42 listeners[0].limits.pending_ports_per_address: with `client.data_peer: any` all clients would count \
              as one address; remove it, or write `data_peer: exact` or `data_peer: subnet`"
            ]
        );
        assert!(Config::parse(&with("subnet"), "f").is_ok());
    }

    #[test]
    fn an_admin_interface_in_the_way_of_something_else() {
        let admin = |bind: &str| errors(&format!("{VALID}admin: {{ bind: \"{bind}\" }}\n"));
        assert_eq!(
            admin("0.0.0.0:2121"),
            [
                "10:16 admin.bind: `0.0.0.0:2121` is the control port `192.0.2.1:2121` of listener `ftp`, line 3; give it a \
              port of its own, like `127.0.0.1:9121`"
            ]
        );
        assert_eq!(
            admin("192.0.2.1:20020"),
            [
                "10:16 admin.bind: port 20020 is one of `20000-20020` of listener `ftp`, line 7; give it a port of its own, \
              like `127.0.0.1:9121`"
            ]
        );
        let fine = |bind: &str| {
            let config = Config::parse(&format!("{VALID}admin: {{ bind: \"{bind}\" }}\n"), "proxy.yaml").unwrap();
            config.admin.unwrap().bind
        };
        for bind in ["127.0.0.1:9121", "[::1]:9121", "127.0.0.1:20020", "[::]:2121", "192.0.2.1:20021"] {
            assert_eq!(fine(bind).to_string(), bind);
        }
        assert_eq!(Config::parse(VALID, "proxy.yaml").unwrap().admin, None);
    }

    #[test]
    fn an_admin_interface_without_a_place() {
        let admin = |text: &str| errors(&format!("{VALID}admin: {text}\n"));
        let example = "write `bind: 127.0.0.1:9121`, where this machine alone can connect";
        assert_eq!(admin("{}"), [format!("10:1 admin.bind: missing; {example}")]);
        for (text, what) in [
            ("9121", "`9121` is not an address with a port"),
            ("127.0.0.1", "`127.0.0.1` is not an address with a port"),
            ("127.0.0.1:0", "port 0 is a different port at every start"),
        ] {
            let wrong = admin(&format!("{{ bind: \"{text}\" }}"));
            assert_eq!(wrong.len(), 1, "{wrong:?}");
            assert!(wrong[0].contains(what) && wrong[0].contains("like `127.0.0.1:9121`"), "{wrong:?}");
        }
    }

    #[test]
    fn two_listeners_on_one_address() {
        assert_eq!(
            errors(&two("192.0.2.1:2121", "172.16.0.20", "30000", "any")),
            ["11:11 listeners[1].bind: `192.0.2.1:2121` is taken by listener `ftp`, line 3; \
              give one of the two another address or port"]
        );
    }

    #[test]
    fn a_wildcard_that_covers_the_address_of_another_listener() {
        assert_starts(
            &errors(&two("0.0.0.0:2121", "172.16.0.20", "30000", "any"))[0],
            "11:11 listeners[1].bind: `0.0.0.0:2121` and `192.0.2.1:2121` (listener `ftp`, line 3) include the same",
        );
        assert_starts(
            &error("192.0.2.1:2121", "['[::]:21', '[::1]:21']"),
            "3:23 listeners[0].bind[1]: `[::1]:21` and ",
        );
    }

    #[test]
    fn listeners_of_one_name() {
        let text = two("192.0.2.1:2122", "172.16.0.20", "30000", "any").replace("name: second", "name: ftp");
        assert_eq!(
            errors(&text),
            ["10:11 listeners[1].name: `ftp` is the name of the listener on line 2 too; \
              give each listener a name of its own"]
        );
    }

    #[test]
    fn no_address_to_listen_on() {
        assert_starts(&error("192.0.2.1:2121", "[]"), "3:5 listeners[0].bind: no address to listen on; ");
        assert_starts(&error("    bind: 192.0.2.1:2121\n", ""), "2:5 listeners[0].bind: no address to listen on; ");
    }

    #[test]
    fn a_range_of_more_than_4096_ports() {
        assert_starts(
            &error("20000-20020", "20000-24096"),
            "7:19 listeners[0].client.data_ports: 4097 ports are more than 4096; write `20000-24095` or fewer",
        );
    }

    #[test]
    fn a_range_below_1024() {
        assert_starts(
            &error("20000-20020", "1023-1030"),
            "7:19 listeners[0].client.data_ports: port 1023 is privileged",
        );
        assert_starts(&error("data_ports: any", "data_ports: 20"), "9:19 listeners[0].server.data_ports: port 20 is");
    }

    #[test]
    fn a_reversed_range() {
        assert_starts(
            &error("data_ports: any", "data_ports: 9-8"),
            "9:19 listeners[0].server.data_ports: `9-8` is reversed",
        );
    }

    #[test]
    fn sec_27_a_range_over_a_control_port() {
        assert_eq!(
            error("20000-20020", "2000-2121"),
            "7:19 listeners[0].client.data_ports: includes 2121, the control port `192.0.2.1:2121` of listener `ftp`, \
             line 3; write `2000-2120`, or choose other ports"
        );
        assert_starts(
            &error("data_ports: any", "data_ports: 2121"),
            "9:19 listeners[0].server.data_ports: includes 2121",
        );
    }

    #[test]
    fn sec_27_a_range_over_the_control_port_of_another_listener() {
        let errors = errors(&two("0.0.0.0:20020", "172.16.0.20", "2121-2125", "any"));
        assert_eq!(errors.len(), 2, "{errors:#?}");
        assert_starts(
            &errors[0],
            "7:19 listeners[0].client.data_ports: includes 20020, the control port `0.0.0.0:20020`",
        );
        assert!(errors[1].contains("listeners[1].client.data_ports: includes 2121"), "{errors:#?}");
    }

    #[test]
    fn a_map_without_a_rule_for_everybody_else() {
        assert_starts(
            &error("peers: any", "peers: 10.0.0.0/8"),
            "6:7 listeners[0].client.address_map: no rule for everybody else; write `- { peers: any,",
        );
        assert_starts(
            &error("[{ peers: any, announce: 203.0.113.10 }]", "[]"),
            "6:7 listeners[0].client.address_map: no",
        );
        let server = "data_ports: any\n      address_map: [{ peers: 10.0.0.0/8, announce: local }]";
        assert_starts(&error("data_ports: any", server), "10:7 listeners[0].server.address_map: no rule");
    }

    #[test]
    fn a_rule_that_is_never_reached() {
        assert_eq!(
            error("203.0.113.10 }]", "203.0.113.10 }, { peers: 10.0.0.0/8, announce: local }]"),
            "6:63 listeners[0].client.address_map[1]: never reached: rule 1 before it is for the same peers; \
             remove it, or move it up: the first match decides"
        );
        let nested = "[{ peers: 10.0.0.0/8, announce: local }, { peers: 10.1.0.0/16, announce: local }, { peers: any";
        assert!(error("[{ peers: any", nested).contains("address_map[1]: never reached: rule 1"));
    }

    #[test]
    fn an_announced_address_that_no_peer_can_reach() {
        let unspecified = error("announce: 203.0.113.10", "announce: 0.0.0.0");
        assert_starts(
            &unspecified,
            "6:45 listeners[0].client.address_map[0].announce: `0.0.0.0` names no machine; write `control-address`",
        );
        for (address, kind) in
            [("224.0.0.1", "a multicast"), ("'ff02::1'", "a multicast"), ("255.255.255.255", "a broadcast")]
        {
            assert!(error("203.0.113.10", address).contains(&format!("is {kind} address; write ")), "{address}");
        }
    }

    #[test]
    fn a_list_announces_one_address_of_each_family() {
        let announced = |list: &str| {
            let text = VALID.replace("announce: 203.0.113.10", &format!("announce: {list}"));
            let config = Config::parse(&text, "proxy.yaml").unwrap();
            config.listeners[0].client.address_map.rules()[0].announce.to_string()
        };
        assert_eq!(announced("[203.0.113.10, '2001:db8::10']"), "203.0.113.10 or 2001:db8::10");
        assert_eq!(announced("['2001:db8::10', 203.0.113.10]"), "203.0.113.10 or 2001:db8::10");
        assert_eq!(announced("[203.0.113.10]"), "203.0.113.10");
        assert_eq!(announced("[local]"), "local");
        for list in [
            "[203.0.113.10, 203.0.113.11]",
            "['2001:db8::10', '2001:db8::11']",
            "[203.0.113.10, '2001:db8::10', 203.0.113.11]",
            "[203.0.113.10, ftp.example.com]",
            "[local, 203.0.113.10]",
        ] {
            assert_starts(
                &error("announce: 203.0.113.10", &format!("announce: {list}")),
                "6:35 listeners[0].client.address_map[0].announce: a list that is not an IPv4 and an IPv6 address; write \
                 one address of each family, like `[203.0.113.10, \"2001:db8::10\"]`",
            );
        }
        assert_starts(
            &error("announce: 203.0.113.10", "announce: [203.0.113.10, '::']"),
            "6:60 listeners[0].client.address_map[0].announce[1]: `::` names no machine",
        );
        assert_starts(
            &error("announce: 203.0.113.10", "announce: []"),
            "6:35 listeners[0].client.address_map[0].announce: missing; write `announce: ` and an address",
        );
    }

    #[test]
    fn discovery_names_a_provider_and_a_place() {
        for (discovery, wanted) in [
            ("provider: mycloud", "10:24 discovery.provider: `mycloud` is not a provider; write one of `aliyun`, "),
            ("provider: EC2", "10:24 discovery.provider: `EC2` is not a provider; write `aws`"),
            (
                "endpoint: \"http://127.0.0.1\"",
                "10:24 discovery.endpoint: an endpoint without a provider; write beside it whose requests it answers: `prov",
            ),
            (
                "provider: aws, endpoint: \"https://127.0.0.1\"",
                "10:39 discovery.endpoint: metadata services speak HTTP; write one like `http://100.100.100.200`",
            ),
            ("refresh: 60", "10:23 discovery.refresh: `60` is not a time; add the unit: `60s`"),
            ("refresh: 10ms", "10:23 discovery.refresh: too often: metadata services refuse that; write `1s` or more"),
            ("cloud: aws", "10:14 discovery.cloud: unknown key; known here: `provider`, `endpoint`, `refresh`"),
        ] {
            let text = format!("{}discovery: {{ {discovery} }}\n", VALID.replace("203.0.113.10", "auto"));
            let errors = errors(&text);
            assert_eq!(errors.len(), 1, "{errors:#?}");
            assert_starts(&errors[0], wanted);
        }
    }

    #[test]
    fn sec_03_an_upstream_that_is_this_proxy() {
        assert_starts(
            &error("172.16.0.20:21", "192.0.2.1:2121"),
            "4:15 listeners[0].upstream: `192.0.2.1:2121` is this proxy itself: `192.0.2.1:2121` of listener `ftp`, line 3",
        );
        for upstream in ["127.0.0.1:2122", "127.9.9.9:2122", "localhost:2122", "LocalHost.:2122"] {
            let errors = errors(&two("0.0.0.0:2122", upstream, "30000", "any"));
            assert_starts(&errors[0], &format!("12:15 listeners[1].upstream: `{upstream}` is this proxy itself"));
        }
        assert!(Config::parse(&two("0.0.0.0:2122", "127.0.0.1:21", "30000", "any"), "f").is_ok());
        assert!(Config::parse(&two("0.0.0.0:2122", "'[::1]:2122'", "30000", "any"), "f").is_ok());
    }

    #[test]
    fn sec_03_servers_that_clients_choose_need_a_list() {
        assert_eq!(
            error("upstream: 172.16.0.20:21", "upstream: original-destination"),
            "4:15 listeners[0].upstream: without `upstream_networks` clients could reach whatever this machine can; \
             write the servers that may be reached, like `upstream_networks: [10.0.0.0/8]`"
        );
        let with = |networks: &str| {
            error(
                "upstream: 172.16.0.20:21",
                &format!("upstream: original-destination\n    upstream_networks: {networks}"),
            )
        };
        assert_starts(&with("[]"), "5:5 listeners[0].upstream_networks: no server may be reached; ");
        assert_starts(
            &with("[10.1.0.0/8]"),
            "5:25 listeners[0].upstream_networks[0]: `10.1.0.0/8` is an address within",
        );
        assert_starts(
            &with("['10.0.0.0/8:0']"),
            "5:25 listeners[0].upstream_networks[0]: `0` is neither a port nor a range",
        );
        assert_starts(&with("[ftp.example.com]"), "5:5 listeners[0].upstream_networks: `ftp.example.com` is a name");
        assert_starts(
            &error("upstream: 172.16.0.20:21", "upstream: 172.16.0.20:21\n    upstream_networks: 10.0.0.0/8"),
            "5:24 listeners[0].upstream_networks: has no meaning where the server is always the same; remove it",
        );
        assert!(error("172.16.0.20:21", "original_destination").ends_with("write `original-destination`"));
        assert!(error("172.16.0.20:21", "from_user").ends_with("write `from-user`"));
        assert_starts(&error("172.16.0.20:21", "from-user"), "4:15 listeners[0].upstream: without `upstream_networks`");
        let named =
            VALID.replace("172.16.0.20:21", "from-user\n    upstream_networks: [10.0.0.0/8, '*.example.com:990']");
        let config = Config::parse(&named, "f").unwrap();
        let Selection::FromUser(permitted) = &config.listeners[0].upstream else { panic!("{config:?}") };
        assert!(permitted.has_name("a.example.com", 990) && permitted.has_address("10.0.0.1:21".parse().unwrap()));
    }

    #[test]
    fn several_servers_that_are_not() {
        let several = |upstream: &str| error("172.16.0.20:21", upstream);
        assert_starts(
            &several("[]"),
            "4:5 listeners[0].upstream: no server; write the FTP servers, like `[172.16.0.20",
        );
        assert!(several("{ balance: first }").contains("listeners[0].upstream.servers: no server; write the FTP"));
        assert_starts(&several("[a, from-user]"), "4:19 listeners[0].upstream[1]: `from-user` is not one of several");
        assert_starts(&several("[a, b, a]"), "4:22 listeners[0].upstream[2]: `a:21` is in the list already; remove it");
        let own = several("{ servers: [a, \"192.0.2.1:2121\"] }");
        assert_starts(&own, "4:30 listeners[0].upstream.servers[1]: `192.0.2.1:2121` is this proxy itself");
        assert!(
            several("{ servers: [a], balance: fastest }").contains("is not a way to choose a server; write `first`")
        );
        assert!(
            several("{ servers: [a], health: often }").contains("is neither true nor false; write `true`, `false`, or")
        );
        assert!(several("{ servers: [a], health: { interval: 10 } }").ends_with("`10ms` or `10m`"));
        assert!(several("{ servers: [a], health: { fall: 0 } }").contains("`0` is no limit"));
        assert!(several("{ server: a }").contains("unknown key; write `servers`"));
        let networks = "[a, b]\n    upstream_networks: 10.0.0.0/8";
        assert!(several(networks).contains("has no meaning where the server is always the same"));
    }

    #[test]
    fn servers_are_checked_where_there_are_several_or_it_is_said() {
        let checked = |upstream: &str| {
            let config = Config::parse(&VALID.replace("172.16.0.20:21", upstream), "f").unwrap();
            let Selection::Fixed(servers) = &config.listeners[0].upstream else { panic!("{config:?}") };
            (servers.list().len(), servers.health.checks)
        };
        assert_eq!(checked("a"), (1, false));
        assert_eq!(checked("{ servers: a }"), (1, false));
        assert_eq!(checked("{ servers: a, health: true }"), (1, true));
        assert_eq!(checked("{ servers: a, health: { fall: 1 } }"), (1, true));
        assert_eq!(checked("[a, b]"), (2, true));
        assert_eq!(checked("{ servers: [a, b], health: false }"), (2, false));
    }

    #[test]
    fn hosts_that_are_none_or_have_no_server() {
        let hosts = |hosts: &str| error("    client:", &format!("    hosts: {{ {hosts} }}\n    client:"));
        assert_starts(&hosts("a b: 10.0.0.1"), "5:19 listeners[0].hosts.a b: `a b` is not a host; write a DNS name");
        assert_starts(
            &hosts("a.example: 0.0.0.0"),
            "5:25 listeners[0].hosts.a.example: `0.0.0.0` is not an address of",
        );
        assert_starts(
            &hosts("a.example: 192.0.2.1:2121"),
            "5:25 listeners[0].hosts.a.example: `192.0.2.1:2121` is this proxy",
        );
        assert!(hosts("a.example: b, a.example: c").contains("`a.example` stands here twice"));
        assert!(hosts("a.example: b, A.example.: c").contains("`a.example` has a server already"));
        assert!(hosts("a.example: [[b]]").contains("a list where a single value is due"));
        let chosen = "upstream: from-user\n    upstream_networks: 10.0.0.0/8\n    hosts: { a.example: 10.0.0.1 }";
        assert!(error("upstream: 172.16.0.20:21", chosen).contains("clients choose the server in another way already"));
    }

    #[test]
    fn a_timeout_of_zero_or_without_unit() {
        let timeouts = |value: &str| format!("    timeouts: {{ data_idle: {value} }}\n    server:");
        assert_starts(&error("    server:", &timeouts("0s")), "8:28 listeners[0].timeouts.data_idle: no time at all");
        assert!(
            error("    server:", &timeouts("300"))
                .ends_with("`300` is not a time; add the unit: `300s`, `300ms` or `300m`")
        );
    }

    #[test]
    fn a_policy_that_admits_nobody_or_is_not_understood() {
        let policy = |value: &str| format!("    policy: {{ {value} }}\n    server:");
        assert_starts(
            &error("    server:", &policy("allow: []")),
            "8:15 listeners[0].policy.allow: nobody may connect; ",
        );
        assert!(error("    server:", &policy("allow: 10.1.0.0/8")).contains("`10.0.0.0/8` for the network"));
        assert!(error("    server:", &policy("privileged_ports: yes")).contains("neither true nor false"));
    }
}

proptest! {
    /// Whatever an editor makes of a valid file, it is read or refused with reasons, never a panic.
    #[test]
    fn no_edit_of_the_file_panics(at in 0..VALID.len(), cut in 0..12usize, put in "[\\[\\]{}:,&*!|>'\"# \t\r\na0é😀.-]{0,4}") {
        let end = (at + cut).min(VALID.len());
        let text = format!("{}{put}{}", &VALID[..at], &VALID[end..]);
        if let Err(errors) = Config::parse(&text, "f") {
            prop_assert!(!errors.list().is_empty());
            prop_assert!(errors.to_string().lines().count() > 5);
            prop_assert!(errors.list().is_sorted_by_key(|e| e.line));
        }
    }
}
