//! Changes of headers.

use crate::{
    Labels, Path,
    decode::{Context, Fields, Shape},
    finding::{Problem, Rule},
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

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let request = at.field("request");
        for (field, map) in [("set", &self.request.set), ("add", &self.request.add)] {
            if map.keys().filter(|name| is_authority(name)).count() > 1 {
                let problem = Problem::new("sets the authority twice, as `Host` and as `:authority`");
                context.error(&request.field(field), problem.expected("one of them"));
            }
        }
        if self.request.set.keys().any(|name| is_authority(name))
            && let Some(name) = self.request.add.keys().find(|name| is_authority(name))
        {
            let problem = Problem::new("has no effect, because `set` sets the authority").found(name);
            let add = request.field("add");
            context.warning(Rule::Conflict, &add.key(name), problem.remedy("remove one of the two"));
        }
        let response = at.field("response");
        for (field, map) in [("set", &self.response.set), ("add", &self.response.add)] {
            for name in map.keys().filter(|name| name.starts_with(':')) {
                let problem = Problem::new("is no header of a response").found(name);
                context.error(&response.field(field).key(name), problem.remedy("move it to `request`"));
            }
        }
    }
}

impl Headers {
    /// The field that changes the authority of requests, if any does.
    pub(super) fn authority_field(&self) -> Option<&'static str> {
        let sets = |map: &Labels| map.keys().any(|name| is_authority(name));
        let fields = [("set", &self.request.set), ("add", &self.request.add)];
        fields.into_iter().find(|(_, map)| sets(map)).map(|(field, _)| field)
    }
}

fn is_authority(name: &str) -> bool {
    name == ":authority" || name.eq_ignore_ascii_case("host")
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
                check_header_value(value, &field.key(name), context);
            }
        }
        let remove = at.field("remove");
        for (index, name) in self.remove.iter().enumerate() {
            let at = remove.index(index);
            check_header_name(name, &at, context);
            if matches!(name.to_ascii_lowercase().as_str(), "host" | ":authority") {
                let problem = Problem::new("cannot be removed").found(name);
                context.error(&at, problem.remedy("to send another one, use `set` with `:authority`"));
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

/// A value may hold operators such as `%REQ(x-id)%`; which there are is for those to say who fill them in.
fn check_header_value(value: &str, at: &Path<'_>, context: &mut Context<'_>) {
    if !is_one_line(value, at, context) {
        return;
    }
    if !is_format(value) {
        let problem = Problem::new("holds a lone `%`").found(value);
        context.error(at, problem.expected("`%%` for the sign itself, or an operator such as `%REQ(x-id)%`"));
    }
}

/// Whether a text can stand in a head as it is; tells of one that cannot.
pub(crate) fn is_one_line(value: &str, at: &Path<'_>, context: &mut Context<'_>) -> bool {
    let broken = value.contains(|c: char| c.is_control() && c != '\t');
    if broken {
        let problem = Problem::new("holds a line break or another control character").found(value);
        context.error(at, problem.expected("one line of text"));
    }
    !broken
}

/// Whether every `%` stands before another one or around the name of an operator.
fn is_format(value: &str) -> bool {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('%') {
        rest = match after.strip_prefix('%') {
            Some(after) => after,
            None if after.starts_with(|c: char| c.is_ascii_uppercase()) => match after.split_once('%') {
                Some((_, after)) => after,
                None => return false,
            },
            None => return false,
        };
    }
    true
}

/// A token of RFC 9110, 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let mark = |c: char| "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || mark(c))
}
