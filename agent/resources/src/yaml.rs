//! YAML and JSON text to a tree of nodes with positions; the only user of the crates for them (in [`whole`] and
//! [`json`]).
//!
//! Scalars stay text: what they mean depends on the field they are read into. A broken document costs only itself:
//! reading goes on at the next `---`.

mod builder;
mod hint;
mod json;
mod pieces;
mod whole;

use std::{borrow::Cow, collections::HashSet, iter};

use crate::finding::Problem;

pub(crate) use pieces::Piece;

/// Reads documents one after the other; empty ones are skipped.
///
/// As long as they are JSON they are read as that; from the first that is anything else on all are read as YAML.
pub(crate) fn documents<'t>(
    text: impl Into<Piece<'t>>,
) -> impl Iterator<Item = Result<Node<'t>, SyntaxError>> {
    let mut json = json::Documents::new(text.into());
    let mut yaml = None;
    let next = move || {
        if yaml.is_none()
            && let Some(node) = json.next()
        {
            return Some(Ok(node));
        }
        yaml.get_or_insert_with(|| whole::Documents::new(json.rest())).next()
    };
    iter::from_fn(next).filter(|document| !document.as_ref().is_ok_and(Node::is_null))
}

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

/// The first member whose key an earlier one has.
fn repeated_key(members: &[Member<'_>]) -> Option<usize> {
    let mut seen = HashSet::new();
    let earlier = |at: usize| members[..at].iter().any(|before| before.key == members[at].key);
    let few = members.len() <= 16;
    (0..members.len()).find(|at| if few { earlier(*at) } else { !seen.insert(&members[*at].key) })
}

impl Position {
    /// The position in a text that has some more lines before.
    fn below(self, lines: u32) -> Self {
        Self { line: self.line.saturating_add(lines), ..self }
    }
}

#[cfg(test)]
mod tests;
