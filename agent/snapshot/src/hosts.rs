//! Host patterns and the table that finds the most specific one: exact, then longest suffix, then any.

use std::{collections::HashMap, fmt, str::FromStr};

use foldhash::fast::FixedState;

/// Which host names a virtual host or filter chain serves. Always lower case.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HostPattern {
    /// This name and no other.
    Exact(String),
    /// Every name that ends with this text, which starts with a dot: `*.foo.com` is kept as `.foo.com`. It covers
    /// `a.foo.com` and `a.b.foo.com`, never `foo.com`.
    Suffix(String),
    /// Every name (`*`).
    Any,
}

impl HostPattern {
    /// Whether `host`, in lower case, is covered.
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Self::Any => true,
        }
    }
}

/// Says that a text is no host pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParseHostPatternError(String);

impl fmt::Display for ParseHostPatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid host `{}`: expected a name, `*.suffix` or `*`", self.0)
    }
}

impl std::error::Error for ParseHostPatternError {}

impl FromStr for HostPattern {
    type Err = ParseHostPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        match lower.strip_prefix('*') {
            Some("") => Ok(Self::Any),
            Some(suffix) if suffix.len() > 1 && suffix.starts_with('.') && !suffix.contains('*') => {
                Ok(Self::Suffix(suffix.to_owned()))
            }
            None if !lower.is_empty() && !lower.contains('*') => Ok(Self::Exact(lower)),
            _ => Err(ParseHostPatternError(text.to_owned())),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// The host of an authority in the form tables are searched by: lower case, without port and without trailing dot.
///
/// Allocates nothing: nearly all hosts come in that form already and are borrowed, the others are put into it on the
/// stack. Authorities longer than a DNS name can be (RFC 1035: 255 bytes) become the empty name, which only `*` covers.
#[derive(Clone)]
pub struct HostName<'a>(Form<'a>);

#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a look-up allocates nothing")]
enum Form<'a> {
    Lower(&'a str),
    Lowered { bytes: [u8; MAX_HOST], len: u8 },
}

const MAX_HOST: usize = 255;

impl<'a> HostName<'a> {
    /// Takes the host out of an authority such as `Reviews.prod:9080`, `[FD00::1]:80` or `foo.svc.`.
    ///
    /// IPv6 literals keep their brackets, as in Istio's virtual host names.
    pub fn of_authority(authority: &'a str) -> Self {
        let host = split_port(authority).0;
        let host = host.strip_suffix('.').unwrap_or(host);
        let Ok(len) = u8::try_from(host.len()) else { return Self(Form::Lower("")) };
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Self::lowered(host, len);
        }
        Self(Form::Lower(host))
    }

    /// Apart, so that what nearly all hosts pass through stays small.
    #[cold]
    fn lowered(host: &str, len: u8) -> Self {
        let mut bytes = [0; MAX_HOST];
        let room = &mut bytes[..usize::from(len)];
        room.copy_from_slice(host.as_bytes());
        room.make_ascii_lowercase();
        Self(Form::Lowered { bytes, len })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Form::Lower(host) => host,
            // Lower-casing ASCII letters keeps UTF-8 valid, so the fall-back is never taken.
            Form::Lowered { bytes, len } => {
                std::str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or_default()
            }
        }
    }
}

impl fmt::Debug for HostName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Host, in brackets if it is an IPv6 address, and what is written of a port.
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    // By bytes: the searcher for characters costs more than names are long. What follows a bracket alone is no port.
    match authority.bytes().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(at) if authority.as_bytes()[at] == b':' => (&authority[..at], Some(&authority[at + 1..])),
        _ => (authority, None),
    }
}

/// Finds the value of the most specific pattern that covers a host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTable<T> {
    exact: HashMap<Box<str>, T, FixedState>,
    suffix: HashMap<Box<str>, T, FixedState>,
    any: Option<T>,
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self { exact: HashMap::default(), suffix: HashMap::default(), any: None }
    }
}

impl<T: Copy> HostTable<T> {
    /// An empty table that need not grow for these patterns.
    pub(crate) fn with_room<'p>(patterns: impl Iterator<Item = &'p HostPattern>) -> Self {
        let (mut exact, mut suffix) = (0, 0);
        for pattern in patterns {
            match pattern {
                HostPattern::Exact(_) => exact += 1,
                HostPattern::Suffix(_) => suffix += 1,
                HostPattern::Any => {}
            }
        }
        let hasher = FixedState::default();
        Self {
            exact: HashMap::with_capacity_and_hasher(exact, hasher.clone()),
            suffix: HashMap::with_capacity_and_hasher(suffix, hasher),
            any: None,
        }
    }

    /// Adds a pattern. The first value of a pattern stays: returns `false` when it was there already.
    pub fn insert(&mut self, pattern: &HostPattern, value: T) -> bool {
        match pattern {
            HostPattern::Exact(name) => insert_first(&mut self.exact, name, value),
            HostPattern::Suffix(suffix) => insert_first(&mut self.suffix, suffix, value),
            HostPattern::Any => {
                let free = self.any.is_none();
                self.any.get_or_insert(value);
                free
            }
        }
    }

    /// The value of exactly this pattern, which is `value` when there was none.
    pub fn get_or_insert(&mut self, pattern: &HostPattern, value: T) -> T {
        let map = match pattern {
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Suffix(suffix) => (&mut self.suffix, suffix),
            HostPattern::Any => return *self.any.get_or_insert(value),
        };
        *map.0.entry(map.1.as_str().into()).or_insert(value)
    }

    /// The value for `host`: the exact name, else the longest suffix, else `*`.
    pub fn find(&self, host: &HostName<'_>) -> Option<T> {
        let host = host.as_str();
        self.exact.get(host).copied().or_else(|| self.longest_suffix(host)).or(self.any)
    }

    // One look-up per label, longest suffix first: a host has few dots, a table may have many suffixes.
    fn longest_suffix(&self, host: &str) -> Option<T> {
        if self.suffix.is_empty() {
            return None;
        }
        let dots = host.match_indices('.').map(|(at, _)| at).filter(|at| *at > 0);
        dots.into_iter().find_map(|at| self.suffix.get(&host[at..]).copied())
    }
}

fn insert_first<T>(map: &mut HashMap<Box<str>, T, FixedState>, key: &str, value: T) -> bool {
    if map.contains_key(key) {
        return false;
    }
    map.insert(key.into(), value);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(patterns: &[&str]) -> HostTable<usize> {
        let mut table = HostTable::default();
        for (i, pattern) in patterns.iter().enumerate() {
            table.insert(&pattern.parse().unwrap(), i);
        }
        table
    }

    fn find<'p>(patterns: &[&'p str], authority: &str) -> Option<&'p str> {
        table(patterns).find(&HostName::of_authority(authority)).map(|i| patterns[i])
    }

    #[test]
    fn exact_wins_then_longest_suffix_then_any() {
        let patterns = ["*", "*.com", "*.foo.com", "a.foo.com"];
        assert_eq!(find(&patterns, "a.foo.com"), Some("a.foo.com"));
        assert_eq!(find(&patterns, "b.foo.com"), Some("*.foo.com"));
        assert_eq!(find(&patterns, "x.y.foo.com"), Some("*.foo.com"));
        assert_eq!(find(&patterns, "foo.com"), Some("*.com"));
        assert_eq!(find(&patterns, "com"), Some("*"));
    }

    #[test]
    fn suffix_never_covers_the_bare_domain() {
        assert_eq!(find(&["*.foo.com"], "foo.com"), None);
        assert_eq!(find(&["*.foo.com"], ".foo.com"), None);
        assert!(!"*.foo.com".parse::<HostPattern>().unwrap().covers("foo.com"));
        assert!("*.foo.com".parse::<HostPattern>().unwrap().covers("a.b.foo.com"));
    }

    #[test]
    fn case_port_and_trailing_dot_do_not_matter() {
        for authority in ["Reviews.Prod", "reviews.prod:9080", "reviews.prod.", "reviews.prod.:80"] {
            assert_eq!(find(&["reviews.prod"], authority), Some("reviews.prod"), "{authority}");
        }
    }

    #[test]
    fn ipv6_literals_keep_their_brackets() {
        assert_eq!(find(&["[fd00::1]"], "[FD00::1]:80"), Some("[fd00::1]"));
        assert_eq!(find(&["[fd00::1]"], "[FD00::1]"), Some("[fd00::1]"));
        assert_eq!(find(&["[fd00::1]"], "[fd00::1"), None);
    }

    #[test]
    fn overlong_authorities_match_only_any() {
        let long = "a".repeat(400);
        assert_eq!(find(&[&long], &long), None);
        assert_eq!(find(&["*"], &long), Some("*"));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for text in ["", "*.", "*foo.com", "a.*.b", "**"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}
