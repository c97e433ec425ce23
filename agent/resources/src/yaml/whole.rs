//! Documents to nodes, by the YAML crate.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    iter,
};

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::{MAX_DEPTH, MAX_NODES, Member, Node, Piece, Position, SyntaxError, Value, hint, repeated_key};
use crate::finding::Problem;

/// Reads documents one after the other; empty ones are skipped.
pub(crate) fn documents<'t>(
    text: impl Into<Piece<'t>>,
) -> impl Iterator<Item = Result<Node<'t>, SyntaxError>> {
    let piece = text.into();
    let options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        simple_key_max_lookahead: 4096,
    };
    let parser = Parser::new_from_str_with_options(piece.text, options);
    let mut documents = Documents { piece, parser: Some(parser) };
    iter::from_fn(move || documents.next()).filter(|document| !document.as_ref().is_ok_and(Node::is_null))
}

struct Documents<'t> {
    piece: Piece<'t>,
    parser: Option<Parser<'t, StrInput<'t>>>,
}

impl<'t> Documents<'t> {
    fn next(&mut self) -> Option<Result<Node<'t>, SyntaxError>> {
        let parser = self.parser.as_mut()?;
        match next_document(parser, self.piece.lines_before) {
            Ok(Some(node)) => Some(Ok(node)),
            Ok(None) => {
                self.parser = None;
                None
            }
            Err(failure) => {
                if !matches!(parser.proceed_next_document(), Ok(true)) {
                    self.parser = None;
                }
                Some(Err(failure.explain(self.piece)))
            }
        }
    }
}

enum Failure {
    Scan(ScanError),
    Build(SyntaxError),
}

impl Failure {
    fn explain(self, piece: Piece<'_>) -> SyntaxError {
        match self {
            Self::Build(error) => error,
            Self::Scan(error) => {
                let position = Position::from(*error.marker()).below(piece.lines_before);
                hint::explain(piece.whole, position, &error.info())
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

fn error(position: Position, message: impl Into<String>, remedy: &str) -> SyntaxError {
    SyntaxError { position, problem: Problem::new(message).remedy(remedy) }
}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: number(marker.line()), column: number(marker.col()).saturating_add(1) }
    }
}
