//! New paths for requests: what `rewrite` and `redirect` of a route make of the path as received.

use std::borrow::Cow;

use super::pattern::{MAX_SIZE, clause};

/// Changes to path and authority of a forwarded request (VirtualService `rewrite`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rewrite {
    /// Change to the path.
    pub path: Option<PathRewrite>,
    /// New `Host` or `:authority`.
    pub authority: Option<String>,
}

/// Change to a path; the query stays.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PathRewrite {
    /// The whole path becomes this.
    Whole(String),
    /// So many bytes at the beginning become this text; nothing is added or removed at the seam.
    Prefix {
        /// Length of what the route matched.
        matched: usize,
        /// What takes its place.
        text: String,
    },
    /// Every match of the expression becomes `replacement`.
    Regex {
        /// Searched anywhere in the path.
        search: SearchPattern,
        /// With groups as `\1`.
        replacement: String,
    },
}

impl PathRewrite {
    /// Path and query with the rewrite applied. The query stays; a whole new path that has a query brings its own.
    pub fn apply(&self, path_and_query: &str) -> String {
        let (path, query) = split_query(path_and_query);
        let new = match self {
            Self::Whole(text) if text.contains('?') => return valid_target(text.clone()),
            Self::Whole(text) => text.clone(),
            Self::Prefix { matched, text } => format!("{text}{}", path.get(*matched..).unwrap_or_default()),
            Self::Regex { search, replacement } => match replace_all(search, path, replacement) {
                // As in Envoy nothing is no path.
                nothing if nothing.is_empty() => path.to_owned(),
                new => new,
            },
        };
        valid_target(new + query)
    }
}

/// The path, and the query with its `?`.
fn split_query(path_and_query: &str) -> (&str, &str) {
    path_and_query.split_at(path_and_query.find('?').unwrap_or(path_and_query.len()))
}

/// A regular expression that is searched for in text.
#[derive(Clone, Debug)]
pub struct SearchPattern {
    compiled: regex::Regex,
}

impl SearchPattern {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// A clause when the expression is not valid or would need more than a megabyte.
    pub fn new(source: &str) -> Result<Self, String> {
        let compiled = regex::RegexBuilder::new(source).size_limit(MAX_SIZE).build();
        compiled.map(|compiled| Self { compiled }).map_err(|error| clause(&error))
    }

    /// The expression as written.
    pub fn source(&self) -> &str {
        self.compiled.as_str()
    }

    /// The compiled expression.
    pub fn regex(&self) -> &regex::Regex {
        &self.compiled
    }
}

impl PartialEq for SearchPattern {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for SearchPattern {}

/// RE2's replacement: `\0` to `\9` are groups, `\\` is a backslash.
fn replace_all(search: &SearchPattern, path: &str, replacement: &str) -> String {
    let replaced = search.regex().replace_all(path, |groups: &regex::Captures<'_>| {
        let mut text = String::new();
        let mut rest = replacement.chars();
        while let Some(char) = rest.next() {
            if char != '\\' {
                text.push(char);
                continue;
            }
            match rest.next() {
                Some(digit @ '0'..='9') => {
                    let group = digit as usize - '0' as usize;
                    text.push_str(groups.get(group).map_or("", |group| group.as_str()));
                }
                Some(other) => text.push(other),
                None => {}
            }
        }
        text
    });
    match replaced {
        Cow::Borrowed(same) => same.to_owned(),
        Cow::Owned(new) => new,
    }
}

/// A target that stays one in a request line: it begins with a slash, and what may not stand in it is percent-encoded.
fn valid_target(mut target: String) -> String {
    if !target.starts_with('/') {
        target.insert(0, '/');
    }
    if target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return target;
    }
    let encode = |byte: u8| match byte {
        b if b.is_ascii_graphic() => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    target.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(matched: &str, text: &str, path: &str) -> String {
        PathRewrite::Prefix { matched: matched.len(), text: text.to_owned() }.apply(path)
    }

    fn regex(search: &str, replacement: &str, path: &str) -> String {
        let search = SearchPattern::new(search).unwrap();
        PathRewrite::Regex { search, replacement: replacement.to_owned() }.apply(path)
    }

    #[test]
    fn a_prefix_is_replaced_byte_for_byte() {
        assert_eq!(prefix("/common", "/", "/common/api?q=1"), "//api?q=1");
        assert_eq!(prefix("/common/", "/", "/common/api"), "/api");
        assert_eq!(prefix("/", "/foo", "/test"), "/footest");
        assert_eq!(prefix("/a", "/b", "/a"), "/b");
    }

    #[test]
    fn a_whole_path_keeps_the_query_unless_it_has_its_own() {
        let whole = |text: &str, path| PathRewrite::Whole(text.to_owned()).apply(path);
        assert_eq!(whole("/new", "/old/deep?a=/b?c"), "/new?a=/b?c");
        assert_eq!(whole("/new?x=1", "/old?a=b"), "/new?x=1");
    }

    #[test]
    fn every_match_of_an_expression_is_replaced_in_the_path_only() {
        assert_eq!(
            regex("/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/a/v1?s=/service/b/"),
            "/v1/instance/a?s=/service/b/"
        );
        assert_eq!(regex("o", "0", "/foo/boo?o"), "/f00/b00?o");
        assert_eq!(regex("b", r"\\\0", "/abc"), r"/a\bc");
        assert_eq!(regex("none", "x", "/same"), "/same");
        assert_eq!(regex("/w(/.*)?", r"\1", "/w?q"), "/w?q");
        assert_eq!(regex("/w(/.*)?", r"\1", "/w/x?q"), "/x?q");
    }

    #[test]
    fn what_cannot_stand_in_a_request_line_is_encoded() {
        assert_eq!(prefix("/a", "/b c\r\nx: y", "/a"), "/b%20c%0D%0Ax:%20y");
        assert_eq!(regex("^/", "", "/relative"), "/relative");
    }
}
