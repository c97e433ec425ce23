//! Conditions of a route, as VirtualServices write them.

use super::Pattern;
use crate::request::RequestHead;

/// Conditions of a route; the default matches everything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RouteMatch {
    /// Condition on the path without query.
    pub path: PathMatch,
    /// Condition on `http` or `https`, by how the request came in.
    pub scheme: Option<TextMatch>,
    /// Condition on the method, case-sensitive.
    pub method: Option<TextMatch>,
    /// Condition on the authority, port included as received, case-sensitive.
    pub authority: Option<TextMatch>,
    /// Conditions on headers, sorted by name.
    pub headers: Vec<HeaderMatch>,
    /// Conditions on query parameters, sorted by name.
    pub query_params: Vec<QueryMatch>,
}

/// The condition of a [`RouteMatch`] that a request failed first, for `explain`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mismatch<'m> {
    /// The path.
    Path(&'m PathMatch),
    /// The scheme.
    Scheme(&'m TextMatch),
    /// The method.
    Method(&'m TextMatch),
    /// The authority.
    Authority(&'m TextMatch),
    /// A header.
    Header(&'m HeaderMatch),
    /// A query parameter.
    QueryParam(&'m QueryMatch),
}

impl RouteMatch {
    /// Conditions on the path alone.
    pub fn on_path(path: PathMatch) -> Self {
        Self { path, ..Self::default() }
    }

    /// Whether every condition holds for `request`, which came in over TLS or not.
    pub fn matches(&self, request: &impl RequestHead, over_tls: bool) -> bool {
        self.mismatch(request, over_tls).is_none()
    }

    /// The first condition that does not hold, cheapest first, or `None` when all do.
    pub fn mismatch(&self, request: &impl RequestHead, over_tls: bool) -> Option<Mismatch<'_>> {
        if !self.path.matches(request.path()) {
            return Some(Mismatch::Path(&self.path));
        }
        let fails = |condition: &&TextMatch, text: &str| !condition.matches(text.as_bytes());
        let scheme = if over_tls { "https" } else { "http" };
        let scheme = self.scheme.as_ref().filter(|wanted| fails(wanted, scheme)).map(Mismatch::Scheme);
        let method = || self.method.as_ref().filter(|wanted| fails(wanted, request.method()));
        let authority = || self.authority.as_ref().filter(|wanted| fails(wanted, request.authority()));
        let header = || self.headers.iter().find(|header| !header.matches(request)).map(Mismatch::Header);
        let query = || {
            let query = request.query();
            self.query_params.iter().find(|param| !param.matches(query)).map(Mismatch::QueryParam)
        };
        scheme
            .or_else(|| method().map(Mismatch::Method))
            .or_else(|| authority().map(Mismatch::Authority))
            .or_else(header)
            .or_else(query)
    }

    /// Whether every request fulfils it; a condition on anything but the path means it does not.
    ///
    /// Istio stops making routes at such a match (`/` as prefix and the expression `.*` included).
    pub fn takes_all(&self) -> bool {
        let path = match &self.path {
            PathMatch::Any => true,
            PathMatch::Prefix(prefix) => prefix.text == "/",
            PathMatch::Regex(pattern) => pattern.source() == ".*",
            PathMatch::Exact(_) => false,
        };
        let others = [&self.scheme, &self.method, &self.authority];
        path && others.into_iter().all(Option::is_none)
            && self.headers.is_empty()
            && self.query_params.is_empty()
    }
}

/// Condition on a request's path (VirtualService `match.uri`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum PathMatch {
    /// Every path.
    #[default]
    Any,
    /// The whole path.
    Exact(PathText),
    /// The beginning of the path, as plain text: `/foo` also matches `/foobar`.
    Prefix(PathText),
    /// An expression for the whole path.
    Regex(Pattern),
}

impl PathMatch {
    /// The whole path, case-sensitive.
    pub fn exact(text: impl Into<String>) -> Self {
        Self::Exact(PathText { text: text.into(), ignore_case: false })
    }

    /// The beginning of the path, case-sensitive.
    pub fn prefix(text: impl Into<String>) -> Self {
        Self::Prefix(PathText { text: text.into(), ignore_case: false })
    }

    /// Whether `path`, without its query, fulfils the condition.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(whole) => whole.equals(path.as_bytes()),
            Self::Prefix(start) => {
                path.as_bytes().get(..start.text.len()).is_some_and(|head| start.equals(head))
            }
            Self::Regex(pattern) => pattern.matches(path.as_bytes()),
        }
    }
}

/// Text that a path is compared with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathText {
    /// The text as written.
    pub text: String,
    /// Whether ASCII letters are compared without case (VirtualService `ignoreUriCase`).
    pub ignore_case: bool,
}

impl PathText {
    fn equals(&self, path: &[u8]) -> bool {
        match self.ignore_case {
            true => self.text.as_bytes().eq_ignore_ascii_case(path),
            false => self.text.as_bytes() == path,
        }
    }
}

/// Condition on a piece of text that is there (VirtualService `StringMatch`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TextMatch {
    /// Any text.
    Present,
    /// This text, case-sensitive.
    Exact(String),
    /// Text that begins so.
    Prefix(String),
    /// An expression for the whole text.
    Regex(Pattern),
}

impl TextMatch {
    /// Whether `text` fulfils the condition.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(whole) => text == whole.as_bytes(),
            Self::Prefix(start) => text.starts_with(start.as_bytes()),
            Self::Regex(pattern) => pattern.matches(text),
        }
    }
}

/// Condition on a request header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderMatch {
    /// Name in lower case.
    pub name: String,
    /// What its value must look like; of several lines one that does is enough, as in Envoy 1.40.
    pub condition: TextMatch,
    /// Whether the condition must *not* hold, for no line (VirtualService `withoutHeaders`). A missing header then counts as empty
    /// text; with [`TextMatch::Present`] the header must be absent.
    pub invert: bool,
}

impl HeaderMatch {
    /// Whether the request fulfils the condition.
    pub fn matches(&self, request: &impl RequestHead) -> bool {
        match (request.header(&self.name), self.invert) {
            (Some(first), invert) => self.fits_a_line(request, first) != invert,
            (None, false) => false,
            (None, true) => self.condition == TextMatch::Present || !self.condition.matches(b""),
        }
    }

    fn fits_a_line(&self, request: &impl RequestHead, first: &[u8]) -> bool {
        let mut fits = self.condition.matches(first);
        if !fits && request.lines(&self.name) > 1 {
            request.visit_headers(&mut |name, value| {
                fits |= name.eq_ignore_ascii_case(&self.name) && self.condition.matches(value);
            });
        }
        fits
    }
}

/// Condition on the first value of a query parameter, as it was sent (not percent-decoded).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueryMatch {
    /// Name, case-sensitive.
    pub name: String,
    /// What its value must look like; a missing parameter never matches.
    pub condition: TextMatch,
}

impl QueryMatch {
    /// Whether the query fulfils the condition.
    pub fn matches(&self, query: &str) -> bool {
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs
            .find(|(name, _)| *name == self.name)
            .is_some_and(|(_, value)| self.condition.matches(value.as_bytes()))
    }
}

#[cfg(test)]
mod tests;
