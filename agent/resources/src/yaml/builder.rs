//! Puts the parts of one document together, however they are read, and holds it to the limits of all documents.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use super::{MAX_DEPTH, MAX_NODES, Member, Node, Position, SyntaxError, Value, repeated_key};
use crate::finding::Problem;

/// Builds one document from what a parser meets in turn, with the open lists and objects on a stack of its own.
#[derive(Default)]
pub(super) struct Builder<'t> {
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
    /// The finished document; `None` when nothing was in it.
    pub(super) fn finished(self) -> Option<Node<'t>> {
        self.root
    }

    /// A text. `anchor` is the number that aliases know it by, or 0; so it is with lists and objects.
    pub(super) fn scalar(
        &mut self,
        position: Position,
        anchor: usize,
        (text, plain): (Cow<'t, str>, bool),
    ) -> Result<(), SyntaxError> {
        let node = Node { position, value: Value::Scalar { text, plain } };
        self.finish(Built { node, height: 0, size: 1 }, anchor)
    }

    /// The beginning of a list or object, which is empty as yet.
    pub(super) fn open(
        &mut self,
        position: Position,
        anchor: usize,
        value: Value<'t>,
    ) -> Result<(), SyntaxError> {
        self.open.push(Open { position, anchor, value, key: None, height: 0, size: 1 });
        self.check_depth(0, position)
    }

    /// The end of the list or object opened last.
    pub(super) fn close(&mut self) -> Result<(), SyntaxError> {
        let Some(Open { position, anchor, mut value, height, size, .. }) = self.open.pop() else {
            return Ok(());
        };
        if let Value::Object(members) = &mut value {
            merge(members)?;
            check_distinct(members, self.open.is_empty())?;
        }
        self.finish(Built { node: Node { position, value }, height: height + 1, size }, anchor)
    }

    /// The value with that anchor once more.
    pub(super) fn alias(&mut self, anchor: usize, position: Position) -> Result<(), SyntaxError> {
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
