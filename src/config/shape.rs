//! Which keys there are, and what kind of value each takes.
//!
//! [`prune`] reports every unknown or duplicate key and every value of the wrong kind, and hands on what is
//! left, which serde then reads without an error of its own.

use std::collections::HashMap;

use serde_yaml::{Mapping, Value};

use super::marked::{Entry, Kind, Node};
use super::report::{KeyPath, Problems, Wrong};

/// What kind of value is due.
#[derive(Debug)]
pub(super) enum Shape {
    /// One value.
    Text,
    /// One value, or a list of them.
    Texts,
    /// A list.
    List(&'static Self),
    /// A map of values, each under a name of the operator's choice.
    Names(&'static Self),
    /// The short form of something, or the long one, which is a map.
    Either(&'static Self, &'static Self),
    /// A map with these keys.
    Map(&'static [(&'static str, &'static Self)]),
}

use Shape::{Either, List, Map, Names, Text, Texts};

/// The whole file.
pub(super) const FILE: Shape = Map(&[
    ("listeners", &List(&LISTENER)),
    ("discovery", &DISCOVERY),
    ("admin", &Map(&[("bind", &Text)])),
    ("log", &Map(&[("transfers", &Text)])),
    ("user", &Text),
    ("landlock", &Text),
]);

const DISCOVERY: Shape = Map(&[("provider", &Text), ("endpoint", &Text), ("refresh", &Text)]);

const LISTENER: Shape = Map(&[
    ("name", &Text),
    ("bind", &Texts),
    ("upstream", &UPSTREAM),
    ("upstream_networks", &Texts),
    ("hosts", &Names(&UPSTREAM)),
    ("client", &CLIENT),
    ("server", &SERVER),
    ("tls", &Map(&[("client", &TLS_CLIENT), ("server", &TLS_SERVER)])),
    ("policy", &Map(&[("allow", &Texts), ("deny", &Texts), ("privileged_ports", &Text)])),
    ("timeouts", &TIMEOUTS),
    ("limits", &LIMITS),
]);

const UPSTREAM: Shape =
    Either(&Texts, &Map(&[("servers", &Texts), ("balance", &Text), ("health", &Either(&Text, &HEALTH))]));

const HEALTH: Shape = Map(&[("interval", &Text), ("timeout", &Text), ("fall", &Text), ("rise", &Text)]);

const CLIENT: Shape = Map(&[
    ("address_map", &List(&RULE)),
    ("data_ports", &Text),
    ("data_peer", &Text),
    ("source_port", &Text),
    ("proxy_protocol", &Map(&[("trusted", &Texts), ("data", &Text)])),
]);

const SERVER: Shape = Map(&[
    ("source", &Text),
    ("proxy_protocol", &Text),
    ("proxy_protocol_data", &Text),
    ("data_mode", &Text),
    ("address_map", &List(&RULE)),
    ("data_ports", &Text),
    ("data_peer", &Texts),
]);

const RULE: Shape = Map(&[("peers", &Text), ("announce", &Texts)]);

const LIMITS: Shape = Map(&[
    ("sessions", &Text),
    ("sessions_per_address", &Text),
    ("pending_ports_per_address", &Text),
    ("line", &Text),
    ("login_failures", &Text),
    ("connects_per_second", &Text),
]);

const TLS_CLIENT: Shape = Map(&[
    ("mode", &Text),
    ("certificate", &Text),
    ("key", &Text),
    ("certificates", &List(&Map(&[("certificate", &Text), ("key", &Text)]))),
    ("require", &Text),
    ("implicit", &Text),
    ("min_version", &Text),
    ("allow_ccc", &Text),
    ("lenient", &Text),
    ("require_reuse", &Text),
    ("client_ca", &Text),
    ("passthrough_ports", &Text),
]);

const TLS_SERVER: Shape =
    Map(&[("mode", &Text), ("verify", &Text), ("name", &Text), ("max_version", &Text), ("lenient", &Text)]);

const TIMEOUTS: Shape = Map(&[
    ("control_idle", &Text),
    ("login", &Text),
    ("connect_server", &Text),
    ("connect_client", &Text),
    ("data_idle", &Text),
    ("port_wait", &Text),
    ("close", &Text),
    ("partial_line", &Text),
    ("drain", &Text),
]);

/// Reports what does not fit `shape` and returns what does. Entries of lists keep their index: what is
/// refused becomes null.
pub(super) fn prune(node: &Node, shape: &Shape, path: &KeyPath, problems: &mut Problems<'_>) -> Value {
    match (shape, &node.kind) {
        (_, Kind::Null) => Value::Null,
        (Text, Kind::Scalar(text)) => Value::String(text.clone()),
        (Texts, Kind::Scalar(text)) => Value::Sequence(vec![Value::String(text.clone())]),
        (Texts, Kind::List(items)) => list(items, &Text, path, problems),
        (List(item), Kind::List(items)) => list(items, item, path, problems),
        (Map(keys), Kind::Map(entries)) => map(entries, keys, path, problems),
        (Names(each), Kind::Map(entries)) => names_of(entries, each, path, problems),
        (Either(_, long), Kind::Map(_)) => prune(node, long, path, problems),
        // One text is left one, and no list of one.
        (Either(Texts, _), Kind::Scalar(text)) => Value::String(text.clone()),
        (Either(short, _), _) => prune(node, short, path, problems),
        (Text | Texts | List(_) | Names(_) | Map(_), kind) => {
            problems.report(path, Wrong::new(format!("{} where {} is due", kind.name(), due(shape)), remedy(shape)));
            Value::Null
        }
    }
}

fn list(items: &[Node], shape: &Shape, path: &KeyPath, problems: &mut Problems<'_>) -> Value {
    let prune_item = |(i, item): (usize, &Node)| {
        let path = path.index(i);
        if matches!(item.kind, Kind::Null) {
            problems.report(&path, Wrong::new("an empty entry", "write a value behind the `-`, or remove it"));
        }
        prune(item, shape, &path, problems)
    };
    Value::Sequence(items.iter().enumerate().map(prune_item).collect())
}

fn map(entries: &[Entry], keys: &[(&str, &Shape)], path: &KeyPath, problems: &mut Problems<'_>) -> Value {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut kept = Mapping::new();
    for entry in entries {
        let at = path.key(&entry.key);
        let Some((name, shape)) = keys.iter().find(|(name, _)| *name == entry.key) else {
            let nearest = nearest(&entry.key, keys);
            problems.report_at(&at, entry.key_span.clone(), unknown(&entry.key, nearest, keys));
            if let Some(nearest) = nearest {
                problems.excuse(path.key(nearest));
            }
            continue;
        };
        if let Some(line) = first.get(name) {
            let what = format!("`{name}` stands here twice, first on line {line}");
            problems.report_at(&at, entry.key_span.clone(), Wrong::new(what, "keep one of the two"));
            continue;
        }
        first.insert(name, problems.line(&at));
        kept.insert(Value::String((*name).into()), prune(&entry.value, shape, &at, problems));
    }
    Value::Mapping(kept)
}

fn names_of(entries: &[Entry], each: &Shape, path: &KeyPath, problems: &mut Problems<'_>) -> Value {
    let mut kept = Mapping::new();
    for entry in entries {
        let (at, name) = (path.key(&entry.key), Value::String(entry.key.clone()));
        if kept.contains_key(&name) {
            let what = format!("`{}` stands here twice", entry.key);
            problems.report_at(&at, entry.key_span.clone(), Wrong::new(what, "keep one of the two"));
            continue;
        }
        kept.insert(name, prune(&entry.value, each, &at, problems));
    }
    Value::Mapping(kept)
}

fn unknown(key: &str, nearest: Option<&str>, keys: &[(&str, &Shape)]) -> Wrong {
    let help = match nearest {
        Some(nearest) => format!("write `{nearest}`"),
        None if key == "<<" => {
            "merge keys are not supported: write the keys out, or use an alias for a whole value".into()
        }
        None => format!("known here: {}", names(keys)),
    };
    Wrong::new("unknown key", help)
}

/// The key that was probably meant: one in three letters may be wrong, as rustc has it for misspelt names.
fn nearest<'k>(key: &str, keys: &[(&'k str, &Shape)]) -> Option<&'k str> {
    let wanted = key.to_lowercase().replace('-', "_");
    keys.iter()
        .map(|(name, _)| (strsim::damerau_levenshtein(&wanted, name), *name))
        .filter(|(distance, name)| *distance <= wanted.len().max(name.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn due(shape: &Shape) -> &'static str {
    match shape {
        Text => "a single value",
        Texts => "a value or a list of values",
        List(_) => "a list",
        Names(_) | Map(_) => "a map",
        Either(short, _) => due(short),
    }
}

fn remedy(shape: &Shape) -> String {
    match shape {
        Text => "write one value behind the colon".into(),
        Texts => "write one value, or several like `[A, B]`".into(),
        List(Map(keys)) => format!("start each entry with `- `; its keys are: {}", names(keys)),
        List(_) => "start each entry with `- `".into(),
        Either(short, _) => remedy(short),
        Names(_) => "write `name: value` for each".into(),
        Map(keys) => format!("write its keys as `key: value`; known here: {}", names(keys)),
    }
}

fn names(keys: &[(&str, &Shape)]) -> String {
    keys.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::marked::Tree;
    use super::super::raw;
    use super::*;

    /// A file that has every key of a shape.
    fn filled(shape: &Shape) -> Value {
        match shape {
            Text => Value::String("x".into()),
            Texts => Value::Sequence(vec![filled(&Text)]),
            List(item) => Value::Sequence(vec![filled(item)]),
            Either(_, long) => filled(long),
            Names(each) => Value::Mapping([(Value::String("x".into()), filled(each))].into_iter().collect()),
            Map(keys) => Value::Mapping(keys.iter().map(|(k, s)| (Value::String((*k).into()), filled(s))).collect()),
        }
    }

    #[test]
    fn serde_knows_exactly_the_keys_of_the_shape() {
        let all = filled(&FILE);
        let raw: raw::File = serde_yaml::from_value(all).expect("a key that serde does not know");
        // A key that only serde knows would be `None` in a file that has every key of the shape.
        assert!(!format!("{raw:?}").contains("None"), "{raw:?}");
    }

    #[test]
    fn what_is_left_after_pruning_suits_serde() {
        let text = "listeners:\n- {name: [1], nome: x, client: 7, bind: {a: b}, timeouts: [], policy: }\n- 3\n-\n";
        let tree = Tree::parse(text).unwrap();
        let mut problems = Problems::new(&tree, text);
        let value = prune(&tree.root, &FILE, &KeyPath::default(), &mut problems);
        let raw: raw::File = serde_yaml::from_value(value).unwrap();
        assert_eq!(raw.listeners.unwrap().len(), 3, "indices are kept");
        assert_eq!(problems.into_errors("f").unwrap().list().len(), 7);
    }

    #[test]
    fn a_misspelt_key_is_recognised_and_another_word_is_not() {
        let Map(keys) = &LISTENER else { panic!("a listener is a map") };
        assert_eq!(nearest("Upstream", keys), Some("upstream"));
        assert_eq!(nearest("time-outs", keys), Some("timeouts"));
        assert_eq!(nearest("listen", keys), None);
        assert_eq!(nearest("admin", keys), None);
    }
}
