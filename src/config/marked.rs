//! The YAML text as a tree that knows where everything stands.
//!
//! serde reports one error and gives no positions of values. This tree keeps the place of every key and
//! value, and what serde would refuse at once (duplicate keys, a list in place of a map), for
//! [`shape`](super::shape) to report together.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::report::{KeyPath, Wrong};

/// Nesting beyond this is no configuration of ours, which has five levels.
const MAX_DEPTH: usize = 32;

/// An alias copies what it names; ten nested levels of ten aliases must not fill the memory.
const MAX_NODES: usize = 100_000;

/// A value.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it starts and ends, in bytes; for a map or list, where it starts.
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    /// Text; numbers and booleans are text too, and read by whoever wants one.
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

impl Kind {
    /// What to call it in a message.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar(_) => "a single value",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: Node,
}

/// A whole document, with the place of each key path.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: Node,
    spans: HashMap<KeyPath, Range<usize>>,
}

/// A text that is not YAML, or that uses YAML in a way that no configuration needs.
#[derive(Debug)]
pub(super) struct SyntaxError {
    /// The byte where it was noticed.
    pub(super) at: usize,
    pub(super) wrong: Wrong,
}

impl Tree {
    /// Reads a text with one document.
    pub(super) fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut builder = Builder {
            parser: Parser::new_from_str(text),
            text,
            offsets: text.char_indices().map(|(i, _)| i).collect(),
            anchors: HashMap::new(),
            nodes: 0,
        };
        let root = builder.document()?;
        let mut spans = HashMap::new();
        index(&root, &KeyPath::default(), root.span.clone(), &mut spans);
        Ok(Self { root, spans })
    }

    /// Where the value at a path stands: the value if it is a single one, otherwise its key.
    /// The empty path always has a place.
    pub(super) fn span(&self, path: &KeyPath) -> Option<Range<usize>> {
        self.spans.get(path).cloned()
    }
}

fn index(node: &Node, path: &KeyPath, span: Range<usize>, spans: &mut HashMap<KeyPath, Range<usize>>) {
    spans.entry(path.clone()).or_insert(span);
    match &node.kind {
        Kind::Null | Kind::Scalar(_) => {}
        Kind::List(items) => {
            for (i, item) in items.iter().enumerate() {
                index(item, &path.index(i), item.span.clone(), spans);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                let is_single = matches!(entry.value.kind, Kind::Scalar(_));
                let span = if is_single { &entry.value.span } else { &entry.key_span };
                index(&entry.value, &path.key(&entry.key), span.clone(), spans);
            }
        }
    }
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    text: &'t str,
    /// The byte offset of each character: the parser counts characters.
    offsets: Vec<usize>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'t> Builder<'t> {
    fn document(&mut self) -> Result<Node, SyntaxError> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => {
                    return Ok(root.unwrap_or(Node { span: 0..0, kind: Kind::Null }));
                }
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                _ if root.is_some() => {
                    let wrong =
                        Wrong::new("a second document", "remove the line `---`: a file holds one configuration");
                    return Err(SyntaxError { at: self.bytes(span).start, wrong });
                }
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), SyntaxError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.scan_error(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        let span = self.bytes(span);
        self.count(1, depth, span.start)?;
        let (kind, anchor) = match event {
            Event::Alias(id) => return self.alias(id, span.start, depth),
            Event::Scalar(value, style, anchor, _) => {
                let is_null = style == ScalarStyle::Plain && matches!(&*value, "" | "~" | "null" | "Null" | "NULL");
                (if is_null { Kind::Null } else { Kind::Scalar(value.into_owned()) }, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.map(depth)?, anchor),
            _ => (Kind::Null, 0),
        };
        let span = match &kind {
            // A block map starts where its first key does, and that is what a reader looks for.
            Kind::Map(entries) => entries.first().map_or(span, |e| e.key_span.clone()),
            _ => span,
        };
        let node = Node { span, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Kind, SyntaxError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                return Ok(Kind::List(items));
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Kind, SyntaxError> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                return Ok(Kind::Map(entries));
            }
            let key = self.node(event, span, depth + 1)?;
            let Kind::Scalar(name) = key.kind else {
                let wrong = Wrong::new(format!("{} in place of a key", key.kind.name()), "a key is a plain word");
                return Err(SyntaxError { at: key.span.start, wrong });
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            entries.push(Entry { key: name, key_span: key.span, value });
        }
    }

    /// What the anchor stands for, marked where it was written: that is the place to edit.
    fn alias(&mut self, id: usize, at: usize, depth: usize) -> Result<Node, SyntaxError> {
        let node = self.anchors.get(&id).cloned().ok_or_else(|| SyntaxError {
            at,
            wrong: Wrong::new("an alias within what it stands for", "write the value out"),
        })?;
        self.count(size(&node), depth, at)?;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, depth: usize, at: usize) -> Result<(), SyntaxError> {
        self.nodes += nodes;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(SyntaxError { at, wrong: Wrong::new("too large or too deep", "check brackets and aliases") });
        }
        Ok(())
    }

    fn byte(&self, character: usize) -> usize {
        self.offsets.get(character).copied().unwrap_or(self.text.len())
    }

    /// The parser ends some spans behind the white space that follows.
    fn bytes(&self, span: Span) -> Range<usize> {
        let (start, end) = (self.byte(span.start.index()), self.byte(span.end.index()));
        let end = start + self.text.get(start..end).map_or(0, |s| s.trim_end().len());
        start..end
    }

    fn scan_error(&self, error: &ScanError) -> SyntaxError {
        let help = if self.text.lines().any(|line| line.trim_start_matches(' ').starts_with('\t')) {
            "YAML is indented with spaces, never with tabs"
        } else {
            "check indentation, colons, quotes and brackets on this line and the one before it"
        };
        let wrong = Wrong::new(format!("not valid YAML: {}", error.info()), help);
        SyntaxError { at: self.byte(error.marker().index()), wrong }
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::Null | Kind::Scalar(_) => 0,
        Kind::List(items) => items.iter().map(size).sum(),
        Kind::Map(entries) => entries.iter().map(|e| size(&e.value)).sum(),
    }
}
