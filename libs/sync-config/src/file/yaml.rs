//! The YAML file as a tree of nodes with positions.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::diagnostic::{Diagnostic, Position};
use super::source_file::SourceFile;

/// Maximum size of the file in bytes. A config is written by hand: a hundred streams take about 100
/// KB.
pub(crate) const FILE_BYTES_MAX: usize = 1 << 20;
/// Maximum nesting. The format itself needs five levels.
const DEPTH_MAX: usize = 32;

/// Maximum number of nodes and text bytes that aliases expand to. Without it, nested aliases would
/// grow exponentially.
const COPIED_MAX: usize = FILE_BYTES_MAX;

/// Node of the file.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) position: Position,
    pub(crate) value: NodeValue,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeValue {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) style: ScalarStyle,
    /// Start in the file, in characters. `end` is exclusive.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Node {
    /// Returns the number of nodes and text bytes, and the depth.
    fn size(&self) -> (usize, usize) {
        let children: Vec<&Self> = match &self.value {
            NodeValue::Scalar(scalar) => return (1 + scalar.text.len(), 0),
            NodeValue::List(items) => items.iter().collect(),
            NodeValue::Map(entries) => {
                entries.iter().flat_map(|(key, value)| [key, value]).collect()
            }
        };

        let mut count = 1;
        let mut depth = 0;
        for child in children {
            let (child_count, child_depth) = child.size();
            count += child_count;
            depth = depth.max(child_depth + 1);
        }
        (count, depth)
    }

    /// Returns the kind of the node, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            NodeValue::Scalar(scalar) if scalar.is_null() => "nothing",
            NodeValue::Scalar(_) => "a scalar",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "a map",
        }
    }
}

impl Scalar {
    fn is_plain(&self) -> bool {
        self.style == ScalarStyle::Plain
    }

    /// Returns whether the scalar is the null of YAML's core schema.
    pub(crate) fn is_null(&self) -> bool {
        self.is_plain() && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self.text.as_str() {
            "true" | "True" | "TRUE" if self.is_plain() => Some(true),
            "false" | "False" | "FALSE" if self.is_plain() => Some(false),
            _ => None,
        }
    }

    /// Returns the integer. `3.0` is one, too: in YAML it equals `3`.
    pub(crate) fn as_integer(&self) -> Option<i64> {
        let text = self.text.trim_end_matches('0').strip_suffix('.').unwrap_or(&self.text);
        if self.is_plain() { text.parse().ok() } else { None }
    }

    /// Returns whether the scalar is text and no other scalar of the core schema.
    pub(crate) fn is_text(&self) -> bool {
        !self.is_plain()
            || !(self.is_null() || self.as_bool().is_some() || self.text.parse::<f64>().is_ok())
    }
}

/// Reads the single document of a file. Returns `Ok(None)` if the file is empty.
pub(crate) fn parse(text: &str, source: &SourceFile) -> Result<Option<Node>, Diagnostic> {
    let parser = Parser::new_from_str(text);
    let mut reader = YamlReader { parser, source, anchors: HashMap::new(), copied: 0 };
    let mut root = None;

    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(root),
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            Event::Alias(_)
            | Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::SequenceEnd
            | Event::MappingStart(..)
            | Event::MappingEnd => {
                if root.is_some() {
                    return Err(reader.error(span, "the file has more than one YAML document"));
                }
                root = Some(reader.node(event, span, 0)?);
            }
        }
    }
}

struct YamlReader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    source: &'a SourceFile,
    /// Nodes that aliases refer to.
    anchors: HashMap<usize, Anchored>,
    /// Number of nodes and text bytes that aliases expanded to so far.
    copied: usize,
}

struct Anchored {
    node: Node,
    count: usize,
    depth: usize,
}

impl<'a> YamlReader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Diagnostic> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.scan_error(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn scan_error(&self, error: &ScanError) -> Diagnostic {
        let position = self.source.position(error.marker().index().min(self.source.chars.len()));
        Diagnostic::error(position, format!("not YAML: {}", error.info()))
    }

    fn error(&self, span: Span, message: &str) -> Diagnostic {
        Diagnostic::error(self.source.position(span.start.index()), message)
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Diagnostic> {
        if depth > DEPTH_MAX {
            return Err(self.error(span, "the file is nested too deeply"));
        }
        let position = self.source.position(span.start.index());
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span)?;
                let text = text.into_owned();
                let start = self.after_anchor(anchor, style, span);
                let end = span.end.index();
                (NodeValue::Scalar(Scalar { text, style, start, end }), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), span)?;
                (NodeValue::List(self.list(depth)?), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), span)?;
                (NodeValue::Map(self.map(depth)?), anchor)
            }
            Event::Alias(anchor) => return self.copy(anchor, span, depth),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(self.error(span, "not YAML: a value is missing")),
        };
        let node = Node { position, value };
        if anchor != 0 {
            let (count, depth) = node.size();
            self.anchors.insert(anchor, Anchored { node: node.clone(), count, depth });
        }

        Ok(node)
    }

    /// Returns the start of a scalar's own text. The parser's span includes its anchor and, for a
    /// block scalar with an anchor, its header.
    fn after_anchor(&self, anchor: usize, style: ScalarStyle, span: Span) -> usize {
        let start = span.start.index();
        let chars = &self.source.chars;
        if anchor == 0 || chars.get(start) != Some(&'&') {
            return start;
        }

        let end = span.end.index().min(chars.len());
        let name_end = find_char(chars, start..end, char::is_whitespace);
        let scalar = find_char(chars, name_end..end, |c| !c.is_whitespace());

        if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            return (find_char(chars, scalar..end, |c| c == '\n') + 1).min(end);
        }
        scalar
    }

    /// Returns a copy of the node that an alias refers to. Findings in it have the position of the
    /// anchor.
    fn copy(&mut self, anchor: usize, span: Span, depth: usize) -> Result<Node, Diagnostic> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(self.error(span, "an alias cannot refer to a node that contains it"));
        };
        if depth + anchored.depth > DEPTH_MAX {
            return Err(self.error(span, "the file is nested too deeply"));
        }
        self.copied += anchored.count;
        if self.copied > COPIED_MAX {
            return Err(self.error(span, "the aliases up to here expand to too many nodes"));
        }
        Ok(anchored.node.clone())
    }

    fn refuse_tag(&self, tag: bool, span: Span) -> Result<(), Diagnostic> {
        if tag { Err(self.error(span, "YAML tags are not supported")) } else { Ok(()) }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Diagnostic> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(items);
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Node, Node)>, Diagnostic> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            entries.push((key, self.node(event, span, depth + 1)?));
        }
    }
}

/// Returns the index of the first such character in the range, or the end of the range.
fn find_char(chars: &[char], range: Range<usize>, is_wanted: fn(char) -> bool) -> usize {
    let end = range.end;
    range.into_iter().find(|place| is_wanted(chars[*place])).unwrap_or(end)
}
