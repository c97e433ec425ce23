//! Changes of headers.

use crate::{
    Labels, Path,
    decode::{Context, Fields, Shape},
    finding::Problem,
};

/// Header changes on the way there and back (`Headers`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Headers {
    /// Changes of the request.
    pub request: HeaderOperations,
    /// Changes of the response.
    pub response: HeaderOperations,
}

impl Shape for Headers {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { request: fields.or_default("request"), response: fields.or_default("response") }
    }
}

/// `Headers.HeaderOperations`; removal comes first, then `set`, then `add`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderOperations {
    /// Headers that get this value and no other.
    pub set: Labels,
    /// Headers that get a further line.
    pub add: Labels,
    /// Headers taken away.
    pub remove: Vec<String>,
}

impl Shape for HeaderOperations {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            set: fields.or_default("set"),
            add: fields.or_default("add"),
            remove: fields.or_default("remove"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        for (field, map) in [("set", &self.set), ("add", &self.add)] {
            let field = at.field(field);
            for (name, value) in map {
                check_header_name(name, &field.key(name), context);
                if value.contains(['\r', '\n', '\0']) {
                    let problem = Problem::new("holds a line break or NUL").found(value);
                    context.error(&field.key(name), problem.expected("one line of text"));
                }
            }
        }
        let remove = at.field("remove");
        for (index, name) in self.remove.iter().enumerate() {
            let at = remove.index(index);
            check_header_name(name, &at, context);
            if matches!(name.to_ascii_lowercase().as_str(), "host" | ":authority") {
                context.error(&at, Problem::new("cannot be removed").found(name));
            }
        }
    }
}

pub(crate) fn check_header_name(name: &str, at: &Path<'_>, context: &mut Context<'_>) {
    if name != ":authority" && !is_token(name) {
        let problem = Problem::new("is not a header name").found(name);
        context.error(at, problem.expected("letters, digits and `-`"));
    }
}

/// A token of RFC 9110, 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let mark = |c: char| "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || mark(c))
}
