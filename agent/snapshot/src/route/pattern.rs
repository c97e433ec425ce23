//! Regular expressions of matches.

use std::{fmt, sync::Arc};

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::{
    ParserBuilder,
    hir::{Hir, literal::Extractor},
};

/// A regular expression that must match the whole text (RE2 syntax, VirtualService `regex`). Clones share it.
#[derive(Clone)]
pub struct Pattern(Arc<Compiled>);

struct Compiled {
    source: String,
    regex: Regex,
    /// Whether its classes are of characters instead of bytes.
    is_unicode: bool,
    /// What every match begins with; may be empty.
    prefix: String,
}

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// A clause when the expression is not valid or would need more than a megabyte.
    pub fn new(source: &str) -> Result<Self, String> {
        // Bytes first: `\d` and `\w` then mean ASCII as they do in RE2, and compiling is many times cheaper. What
        // names characters beyond ASCII in a class is compiled again for text.
        let of_bytes = compile(source, false).map(|regex| (regex, false));
        let compiled = of_bytes.or_else(|_| compile(source, true).map(|regex| (regex, true)));
        let (regex, is_unicode) = compiled.map_err(|error| clause(&error))?;
        let prefix = literal_prefix(source);
        Ok(Self(Arc::new(Compiled { source: source.to_owned(), regex, is_unicode, prefix })))
    }

    /// Text that every match begins with; empty when there is none.
    pub fn literal_prefix(&self) -> &str {
        &self.0.prefix
    }

    /// The expression as written.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The syntax of the expression for the whole text.
    pub(super) fn syntax(&self) -> Option<Hir> {
        let mut parser = ParserBuilder::new().unicode(self.0.is_unicode).utf8(false).build();
        parser.parse(&whole(self.source())).ok()
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.0.regex.is_match(text)
    }
}

fn compile(source: &str, unicode: bool) -> Result<Regex, regex::Error> {
    let builder = |text: &str| {
        let mut builder = RegexBuilder::new(text);
        builder.size_limit(MAX_SIZE).unicode(unicode);
        builder
    };
    if source.contains(['(', ')']) {
        // Alone first: what is wrong with it must not be mended by what is put around it.
        builder(source).build()?;
    }
    builder(&whole(source)).build()
}

/// An expression that matches nothing but a whole text.
fn whole(source: &str) -> String {
    format!(r"\A(?:{source})\z")
}

/// What every match begins with, as far as the syntax tells.
fn literal_prefix(source: &str) -> String {
    let Ok(hir) = regex_syntax::parse(source) else { return String::new() };
    let starts = Extractor::new().extract(&hir);
    let common = starts.longest_common_prefix().unwrap_or_default();
    // Cut where a character is cut.
    let whole = std::str::from_utf8(common)
        .unwrap_or_else(|cut| std::str::from_utf8(&common[..cut.valid_up_to()]).unwrap_or_default());
    whole.to_owned()
}

/// Largest compiled expression, in bytes.
pub(super) const MAX_SIZE: usize = 1 << 20;

/// What is wrong with an expression, in a clause.
pub(super) fn clause(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "is too large once compiled".to_owned(),
        // The last line says what is wrong; those before it draw where.
        error => {
            error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.source())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(source: &str, text: &str) -> bool {
        Pattern::new(source).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn the_whole_text_must_match() {
        assert!(matches("/api/v[0-9]+", "/api/v12"));
        assert!(!matches("/api/v[0-9]+", "/api/v12/"));
        assert!(!matches("/api/v[0-9]+", "x/api/v12"));
        assert!(matches("a|b", "b") && !matches("a|b", "bc") && !matches("a|b", "ab"));
        assert!(matches("(?i)/A", "/a"));
    }

    #[test]
    fn classes_are_ascii_as_in_re2() {
        assert!(matches(r"\d\w", "1a") && !matches(r"\d", "١") && !matches(r"\w", "é"));
        assert!(matches(r".*", "/é") && matches("/é", "/é") && matches(r"\pL", "é") && matches("[é]", "é"));
        assert!(!matches(".*", "a\nb") && matches("(?s).*", "a\nb"));
    }

    #[test]
    fn what_every_match_begins_with_is_known() {
        let prefix = |source: &str| Pattern::new(source).unwrap().literal_prefix().to_owned();
        for (source, expected) in [
            ("/api/v[0-9]+", "/api/v"),
            ("^/api$", "/api"),
            ("/(a|b)", "/"),
            ("/ab|/ac", "/a"),
            ("/a?b", "/"),
            (".*", ""),
            ("(?i)/Ab", "/"),
            ("/[éè]", "/"),
            ("/a|", ""),
        ] {
            assert_eq!(prefix(source), expected, "{source}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_in_a_clause() {
        let refused = |source: &str| Pattern::new(source).unwrap_err();
        assert_eq!(refused("a)(b"), "unopened group");
        assert_eq!(refused("(?!a)b"), "look-around, including look-ahead and look-behind, is not supported");
        assert_eq!(refused("((a{1000}){1000})"), "is too large once compiled");
    }
}
