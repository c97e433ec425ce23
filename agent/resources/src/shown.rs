//! Texts from files as messages show them: on one line, without what a terminal would act on, and of limited length.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

use crate::host;

/// The value as it is written, shortened when it is long: no log line needs a whole certificate. Of a private key not
/// even the beginning is shown.
pub(crate) fn quoted(value: &str) -> String {
    let mut shown = String::from("`");
    let most = value.find(KEY).map_or(LONGEST_VALUE, |at| value[..at].chars().count().min(LONGEST_VALUE));
    let mut rest = value.chars();
    rest.by_ref().take(most).for_each(|c| push(c, &mut shown));
    shown.push_str(if rest.next().is_some() { "…`" } else { "`" });
    shown
}

/// What stands before the text of a key, whatever its kind.
const KEY: &str = "PRIVATE KEY-----";

/// A name as it is, or shown as a value if it can be none.
pub(crate) fn name_or_quoted(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let may_be_name = !text.is_empty() && text.len() <= host::LONGEST_NAME && text.bytes().all(is_plain);
    if may_be_name { text.into() } else { quoted(text).into() }
}

/// The text itself unless it is longer than any that is meant to be read.
pub(crate) fn shortened(text: impl Into<String>) -> String {
    let mut text = text.into();
    if let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Writes everything on one line. Values are already shown so, but names, fields and files stand as they are.
pub(crate) struct OneLine<'f, 'b>(pub(crate) &'f mut fmt::Formatter<'b>);

impl Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.contains(is_acted_on) {
            return self.0.write_str(text);
        }
        let mut shown = String::with_capacity(text.len() + 8);
        text.chars().for_each(|c| push(c, &mut shown));
        self.0.write_str(&shown)
    }
}

fn push(c: char, shown: &mut String) {
    if is_acted_on(c) {
        shown.extend(c.escape_default());
    } else {
        shown.push(c);
    }
}

/// Control characters, ends of lines, and marks that turn the direction of what stands behind them.
fn is_acted_on(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{061c}' | '\u{2028}' | '\u{2029}')
}

const LONGEST_VALUE: usize = 80;
const LONGEST_TEXT: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_private_key_is_shown() {
        assert_eq!(quoted("-----BEGIN EC PRIVATE KEY-----\nMHc"), "`-----BEGIN EC …`");
    }

    #[test]
    fn values_are_shortened_and_made_printable() {
        assert_eq!(quoted("a\u{1b}[31m\n"), "`a\\u{1b}[31m\\n`");
        assert_eq!(quoted("a\u{202e}b"), "`a\\u{202e}b`");
        assert_eq!(quoted(&"x".repeat(81)).chars().count(), 83);
        assert_eq!(quoted(&"x".repeat(80)).chars().count(), 82);
    }

    #[test]
    fn texts_end_somewhere() {
        assert_eq!(shortened("é".repeat(2_000)), "é".repeat(2_000));
        assert_eq!(shortened("é".repeat(2_001)), "é".repeat(2_000) + "…");
    }
}
