//! What is wrong with a configuration file, where, and what to write instead.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::marked::Tree;

/// The way to a value from the top of the file: `listeners[0].client.data_ports`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct KeyPath(String);

impl KeyPath {
    /// The value of a key of the map at this path.
    pub(super) fn key(&self, key: &str) -> Self {
        if self.0.is_empty() { Self(key.into()) } else { Self(format!("{}.{key}", self.0)) }
    }

    /// An entry of the list at this path.
    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The map or list around this value; the top is its own parent.
    pub(super) fn parent(&self) -> Self {
        let end = self.0.rfind(['.', '[']).unwrap_or(0);
        Self(self.0[..end].into())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a value was not accepted; the place is added by whoever knows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// A sentence without its subject's path and without a full stop.
    pub(super) what: String,
    /// What to write instead.
    pub(super) help: String,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }
}

/// One thing that is wrong in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// The key path, like `listeners[0].client.data_ports`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub help: String,
    span: Range<usize>,
}

/// Everything that is wrong in a configuration file, in the order of its lines; never empty.
///
/// `Display` shows each error with its source line, much as rustc does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    origin: String,
    text: String,
    list: Vec<Error>,
}

impl std::error::Error for Errors {}

impl Errors {
    /// The errors, in the order of their lines.
    #[must_use]
    pub fn list(&self) -> &[Error] {
        &self.list
    }

    fn render(&self, error: &Error) -> String {
        let title = if error.path.is_empty() { error.what.clone() } else { format!("{}: {}", error.path, error.what) };
        let annotation = AnnotationKind::Primary.span(error.span.clone());
        let report = Level::ERROR
            .primary_title(title)
            .element(Snippet::source(&self.text).path(&self.origin).annotation(annotation))
            .element(Level::HELP.message(&error.help));
        Renderer::plain().render(&[report])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.list {
            writeln!(f, "{}\n", self.render(error))?;
        }
        let count = self.list.len();
        write!(f, "{}: {count} {}", self.origin, if count == 1 { "error" } else { "errors" })
    }
}

/// Collects what is wrong while a file is read.
pub(super) struct Problems<'t> {
    tree: &'t Tree,
    text: &'t str,
    list: Vec<Error>,
    seen: HashSet<KeyPath>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(tree: &'t Tree, text: &'t str) -> Self {
        Self { tree, text, list: Vec::new(), seen: HashSet::new() }
    }

    /// Reports the value at `path`; one that is missing is shown where it should be.
    pub(super) fn report(&mut self, path: &KeyPath, wrong: Wrong) {
        let mut place = path.clone();
        let span = loop {
            match self.tree.span(&place) {
                Some(span) => break span,
                None => place = place.parent(),
            }
        };
        // `bind: A` is read as `bind: [A]`: an entry of a list that the file does not have is the value itself.
        let is_entry = path.0.ends_with(']') && path.parent() == place;
        self.list.push(located(self.text, if is_entry { place } else { path.clone() }.0, span, wrong));
        self.seen.insert(path.clone());
    }

    /// Reports a stretch of the text that is not the value of a path, such as a key.
    pub(super) fn report_at(&mut self, path: &KeyPath, span: Range<usize>, wrong: Wrong) {
        self.seen.insert(path.clone());
        self.list.push(located(self.text, path.to_string(), span, wrong));
    }

    /// Says that what is at `path` has been reported already, so that it is not called missing as well.
    pub(super) fn excuse(&mut self, path: KeyPath) {
        self.seen.insert(path);
    }

    /// Whether something about `path` has been reported.
    pub(super) fn has(&self, path: &KeyPath) -> bool {
        self.seen.contains(path)
    }

    /// Whether the file has `path`.
    pub(super) fn stands(&self, path: &KeyPath) -> bool {
        self.tree.span(path).is_some()
    }

    /// The line that `path` stands on.
    pub(super) fn line(&self, path: &KeyPath) -> usize {
        self.tree.span(path).or_else(|| self.tree.span(&path.parent())).map_or(1, |s| position(self.text, s.start).0)
    }

    /// What was collected, if anything.
    pub(super) fn into_errors(self, origin: &str) -> Option<Errors> {
        Errors::new(origin, self.text, self.list)
    }
}

impl Errors {
    /// A text that is not YAML: a parser cannot go on after that.
    pub(super) fn syntax(origin: &str, text: &str, at: usize, wrong: Wrong) -> Self {
        let error = located(text, String::new(), at..at, wrong);
        Self { origin: origin.into(), text: text.into(), list: vec![error] }
    }

    fn new(origin: &str, text: &str, mut list: Vec<Error>) -> Option<Self> {
        list.sort_by_key(|e| (e.span.start, e.span.end));
        list.dedup();
        (!list.is_empty()).then(|| Self { origin: origin.into(), text: text.into(), list })
    }
}

fn located(text: &str, path: String, span: Range<usize>, wrong: Wrong) -> Error {
    let (line, column) = position(text, span.start);
    Error { line, column, path, what: wrong.what, help: wrong.help, span }
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
