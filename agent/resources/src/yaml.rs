//! YAML and JSON text to a tree of nodes with positions; the only user of the YAML crate.
//!
//! Scalars stay text: what they mean depends on the field they are read into. A broken document costs only itself:
//! reading goes on at the next `---`.

mod hint;
mod simple;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    iter,
};

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};
use simple::{Next, Simple};

use crate::finding::Problem;

/// A value and where it is written.
#[derive(Clone, Debug)]
pub(crate) struct Node<'t> {
    pub(crate) position: Position,
    pub(crate) value: Value<'t>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value<'t> {
    /// `plain` text has no quotes, so it may stand for a number, a truth value or nothing.
    Scalar {
        text: Cow<'t, str>,
        plain: bool,
    },
    List(Vec<Node<'t>>),
    Object(Vec<Member<'t>>),
}

/// A field of an object. The keys of an object are distinct.
#[derive(Clone, Debug)]
pub(crate) struct Member<'t> {
    pub(crate) key: Cow<'t, str>,
    pub(crate) key_position: Position,
    pub(crate) value: Node<'t>,
}

/// Line and column, both counted from 1, the column in characters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// Why a document is no YAML.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) position: Position,
    pub(crate) problem: Problem,
}

impl<'t> Node<'t> {
    /// Whether nothing is written here: no text, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of a field, when this is an object that has it.
    pub(crate) fn member(&self, key: &str) -> Option<&Member<'t>> {
        match &self.value {
            Value::Object(members) => members.iter().find(|member| member.key == key),
            _ => None,
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// What is written here, for a message: the text itself, or what else it is.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => text.to_string(),
            _ => self.form().to_owned(),
        }
    }

    /// What sort of value is written here.
    pub(crate) fn form(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Scalar { .. } => "text",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// Deepest nesting of lists and objects, aliases followed. Istio's deepest field sits at about 12.
const MAX_DEPTH: usize = 64;

/// Most nodes a document may have, aliases followed: some 200 MiB of them.
const MAX_NODES: usize = 2_000_000;

/// Reads the documents of a text one after the other; empty ones are skipped.
pub(crate) fn documents(text: &str) -> impl Iterator<Item = Result<Node<'_>, SyntaxError>> {
    let mut simple = Simple::new(text);
    let mut others = None;
    iter::from_fn(move || {
        if others.is_none() {
            match simple.next_document() {
                Next::Document(node) => return Some(Ok(node)),
                Next::End => return None,
                Next::NotSimple => {}
            }
        }
        let (from, lines_before) = simple.reached();
        others.get_or_insert_with(|| all_documents(text, from, lines_before)).next()
    })
}

/// Reads the documents of a text from a byte on, which so many lines are before, with all that YAML has.
fn all_documents(
    text: &str,
    from: usize,
    lines_before: u32,
) -> impl Iterator<Item = Result<Node<'_>, SyntaxError>> {
    let options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        simple_key_max_lookahead: 4096,
    };
    let parser = Parser::new_from_str_with_options(&text[from..], options);
    let mut documents = Documents { text, lines_before, parser: Some(parser) };
    iter::from_fn(move || documents.next()).filter(|document| !document.as_ref().is_ok_and(Node::is_null))
}

struct Documents<'t> {
    /// All of it, for what is said of mistakes.
    text: &'t str,
    lines_before: u32,
    parser: Option<Parser<'t, StrInput<'t>>>,
}

impl<'t> Documents<'t> {
    fn next(&mut self) -> Option<Result<Node<'t>, SyntaxError>> {
        let parser = self.parser.as_mut()?;
        match next_document(parser, self.lines_before) {
            Ok(Some(node)) => Some(Ok(node)),
            Ok(None) => {
                self.parser = None;
                None
            }
            Err(failure) => {
                if !matches!(parser.proceed_next_document(), Ok(true)) {
                    self.parser = None;
                }
                Some(Err(failure.explain(self.text, self.lines_before)))
            }
        }
    }
}

enum Failure {
    Scan(ScanError),
    Build(SyntaxError),
}

impl Failure {
    fn explain(self, text: &str, lines_before: u32) -> SyntaxError {
        match self {
            Self::Build(error) => error,
            Self::Scan(error) => {
                let position = Position::from(*error.marker()).below(lines_before);
                hint::explain(text, position, &error.info())
            }
        }
    }
}

fn next_document<'t>(
    parser: &mut Parser<'t, StrInput<'t>>,
    lines_before: u32,
) -> Result<Option<Node<'t>>, Failure> {
    let mut builder = Builder { lines_before, ..Builder::default() };
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(Failure::Scan)?;
        match event {
            Event::StreamEnd => return Ok(None),
            Event::DocumentEnd => return Ok(builder.root),
            event => builder.take(event, &span).map_err(Failure::Build)?,
        }
    }
    Ok(None)
}

/// Builds one document from parser events, with the open lists and objects on a stack of its own.
#[derive(Default)]
struct Builder<'t> {
    lines_before: u32,
    root: Option<Node<'t>>,
    open: Vec<Open<'t>>,
    anchors: HashMap<usize, Built<'t>>,
    nodes: usize,
}

struct Open<'t> {
    position: Position,
    anchor: usize,
    value: Value<'t>,
    key: Option<(Cow<'t, str>, Position)>,
    height: usize,
    size: usize,
}

/// A finished node, how deep it nests and how many nodes it holds.
#[derive(Clone)]
struct Built<'t> {
    node: Node<'t>,
    height: usize,
    size: usize,
}

impl<'t> Builder<'t> {
    fn take(&mut self, event: Event<'t>, span: &Span) -> Result<(), SyntaxError> {
        let position = Position::from(span.start).below(self.lines_before);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain =
                    style == ScalarStyle::Plain && !tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let node = Node { position, value: Value::Scalar { text, plain } };
                self.finish(Built { node, height: 0, size: 1 }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.open(position, anchor, Value::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => self.open(position, anchor, Value::Object(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, position),
            _ => Ok(()),
        }
    }

    fn open(&mut self, position: Position, anchor: usize, value: Value<'t>) -> Result<(), SyntaxError> {
        self.open.push(Open { position, anchor, value, key: None, height: 0, size: 1 });
        self.check_depth(0, position)
    }

    fn close(&mut self) -> Result<(), SyntaxError> {
        let Some(Open { position, anchor, mut value, height, size, .. }) = self.open.pop() else {
            return Ok(());
        };
        if let Value::Object(members) = &mut value {
            merge(members)?;
            check_distinct(members, self.open.is_empty())?;
        }
        self.finish(Built { node: Node { position, value }, height: height + 1, size }, anchor)
    }

    fn alias(&mut self, anchor: usize, position: Position) -> Result<(), SyntaxError> {
        let Some(built) = self.anchors.get(&anchor) else {
            return Err(error(
                position,
                "an alias stands inside the value it repeats",
                "write the value out",
            ));
        };
        let (height, size) = (built.height, built.size);
        self.check_depth(height, position)?;
        self.check_size(size, position)?;
        let built = self.anchors[&anchor].clone();
        self.finish(Built { node: Node { position, ..built.node }, ..built }, 0)
    }

    /// Puts a finished node where it belongs: under its key, into its list, or at the root.
    fn finish(&mut self, built: Built<'t>, anchor: usize) -> Result<(), SyntaxError> {
        self.check_size(1, built.node.position)?;
        if anchor != 0 {
            self.check_size(built.size, built.node.position)?;
            self.anchors.insert(anchor, built.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(built.node);
            return Ok(());
        };
        open.height = open.height.max(built.height);
        open.size += built.size;
        match &mut open.value {
            Value::List(items) => items.push(built.node),
            Value::Object(members) => match open.key.take() {
                Some((key, key_position)) => members.push(Member { key, key_position, value: built.node }),
                None => open.key = Some(as_key(built.node)?),
            },
            Value::Scalar { .. } => {}
        }
        Ok(())
    }

    fn check_depth(&self, height: usize, position: Position) -> Result<(), SyntaxError> {
        if self.open.len() + height > MAX_DEPTH {
            return Err(error(
                position,
                format!("lists and objects nest deeper than {MAX_DEPTH}"),
                "no resource needs that: is it one?",
            ));
        }
        Ok(())
    }

    fn check_size(&mut self, more: usize, position: Position) -> Result<(), SyntaxError> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            let message =
                format!("a document has more than {MAX_NODES} values, aliases counted where they are used");
            return Err(error(position, message, "split it"));
        }
        Ok(())
    }
}

fn as_key(node: Node<'_>) -> Result<(Cow<'_, str>, Position), SyntaxError> {
    match node.value {
        Value::Scalar { text, .. } => Ok((text, node.position)),
        _ => Err(error(node.position, "a field name is a list or an object", "write text before the `:`")),
    }
}

/// Replaces `<<: *anchor` by the members of the objects it names; members written out win (YAML merge keys).
fn merge<'t>(members: &mut Vec<Member<'t>>) -> Result<(), SyntaxError> {
    let Some(at) = members.iter().position(|member| member.key == "<<") else { return Ok(()) };
    let merged = members.remove(at);
    let position = merged.key_position;
    let objects = match merged.value.value {
        Value::List(items) => items,
        _ => vec![merged.value],
    };
    let mut known: HashSet<Cow<'t, str>> = members.iter().map(|member| member.key.clone()).collect();
    for object in objects {
        let Value::Object(more) = object.value else {
            return Err(error(
                position,
                "`<<` merges something that is no object",
                "name the anchor of an object",
            ));
        };
        members.extend(more.into_iter().filter(|member| known.insert(member.key.clone())));
    }
    Ok(())
}

fn check_distinct(members: &[Member<'_>], is_root: bool) -> Result<(), SyntaxError> {
    match repeated_key(members) {
        Some(at) => {
            let member = &members[at];
            let problem = Problem::new(format!("field `{}` is written twice", member.key));
            let begins_another = is_root && matches!(&*member.key, "apiVersion" | "kind");
            let remedy = match begins_another {
                true => "put `---` on the line before it if another resource begins here",
                false => "remove one of the two",
            };
            Err(SyntaxError { position: member.key_position, problem: problem.remedy(remedy) })
        }
        None => Ok(()),
    }
}

/// The first member whose key an earlier one has.
fn repeated_key(members: &[Member<'_>]) -> Option<usize> {
    let mut seen = HashSet::new();
    let earlier = |at: usize| members[..at].iter().any(|before| before.key == members[at].key);
    let few = members.len() <= 16;
    (0..members.len()).find(|at| if few { earlier(*at) } else { !seen.insert(&members[*at].key) })
}

fn error(position: Position, message: impl Into<String>, remedy: &str) -> SyntaxError {
    SyntaxError { position, problem: Problem::new(message).remedy(remedy) }
}

impl Position {
    /// The position in a text that has some more lines before.
    fn below(self, lines: u32) -> Self {
        Self { line: self.line.saturating_add(lines), ..self }
    }
}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: number(marker.line()), column: number(marker.col()).saturating_add(1) }
    }
}

#[cfg(test)]
mod tests;
