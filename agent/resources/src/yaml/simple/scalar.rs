//! Text: plain, in quotes, or as a literal block.

use std::borrow::Cow;

use super::{Cursor, Position};

impl<'t> Cursor<'t> {
    /// Text on one line of a block, and whether it is plain. Ends after it; at a `:` it is a key.
    pub(super) fn text_here(&mut self) -> Option<(Cow<'t, str>, bool)> {
        match self.byte()? {
            b'"' | b'\'' => {
                let text = self.quoted()?;
                self.skip_spaces_before_colon();
                self.is_after_key().then_some((text, false))
            }
            first => {
                begins_plain(first, self.byte_after()).then_some(())?;
                let end = self.end_of_plain(|_| false)?;
                Some((Cow::Borrowed(self.take_to(end)), true))
            }
        }
    }

    /// Whether what follows text in quotes is no `:` that is part of something else.
    fn is_after_key(&self) -> bool {
        self.byte() != Some(b':') || matches!(self.byte_after(), None | Some(b' ' | b'\n'))
    }

    fn skip_spaces_before_colon(&mut self) {
        let after = self.text[self.at..].trim_start_matches(' ');
        if after.starts_with(':') {
            self.at = self.text.len() - after.len();
        }
    }

    /// The text up to `end` without the blanks before that; goes to its end, or to the `:` after it.
    fn take_to(&mut self, end: usize) -> &'t str {
        let whole = &self.text[self.at..end];
        let text = whole.trim_end_matches(' ');
        self.at = if self.text.as_bytes().get(end) == Some(&b':') { end } else { self.at + text.len() };
        text
    }

    /// Where plain text ends: before a comment, at the `:` after a key, at the end of the line or where `ends` says.
    pub(super) fn end_of_plain(&self, ends: impl Fn(u8) -> bool) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut at = self.at;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'\n' => break,
                b'#' if bytes[at - 1] == b' ' => break,
                b':' => match bytes.get(at + 1) {
                    None | Some(b' ' | b'\n') => break,
                    Some(&next) if ends(next) => return None,
                    Some(_) => {}
                },
                _ if ends(byte) => break,
                _ => {}
            }
            at += 1;
        }
        Some(at)
    }

    /// Text in quotes, on one line.
    pub(super) fn quoted(&mut self) -> Option<Cow<'t, str>> {
        let quote = self.byte()?;
        let inner = &self.text[self.at + 1..];
        let (end, text) = if quote == b'"' { double_quoted(inner)? } else { single_quoted(inner)? };
        self.at += end + 2;
        Some(text)
    }

    /// A literal block (`|`, `|-`, `|+`) within an object or list at `outer`. Ends at the beginning of a line.
    pub(super) fn literal(&mut self, outer: Option<usize>) -> Option<(Cow<'t, str>, Position)> {
        self.at += 1;
        let chomping = self.byte().filter(|byte| matches!(byte, b'-' | b'+'));
        self.at += usize::from(chomping.is_some());
        // A comment may not stand there in all versions of YAML.
        (self.byte() == Some(b'\n')).then(|| self.new_line())?;
        let indent = self.text[self.at..].bytes().take_while(|byte| *byte == b' ').count();
        let is_within = outer.map_or(indent > 0, |outer| indent > outer);
        (is_within && !self.is_blank_line()).then_some(())?;
        let column = u32::try_from(indent).unwrap_or(u32::MAX).saturating_add(1);
        let position = Position { line: self.line, column };
        let mut text = String::new();
        while let Some(line) = self.literal_line(indent)? {
            text.push_str(line);
            text.push('\n');
        }
        if chomping != Some(b'+') {
            text.truncate(text.trim_end_matches('\n').len());
            text.push_str(if chomping.is_none() { "\n" } else { "" });
        }
        Some((Cow::Owned(text), position))
    }

    fn is_blank_line(&self) -> bool {
        let line = self.text[self.at..].lines().next().unwrap_or_default();
        line.bytes().all(|byte| byte == b' ')
    }

    /// The next line of a literal block; `None` inside at its end.
    fn literal_line(&mut self, indent: usize) -> Option<Option<&'t str>> {
        let rest = &self.text[self.at..];
        if rest.is_empty() {
            return Some(None);
        }
        // The last line must end too.
        let end = rest.find('\n')?;
        let line = &rest[..end];
        let own = line.bytes().take_while(|byte| *byte == b' ').count();
        let text = match own {
            _ if line.is_empty() => "",
            // Blanks alone mean this or that, by where they stand.
            _ if own == line.len() => return None,
            own if own < indent => return Some(None),
            _ => &line[indent..],
        };
        self.at += end;
        self.new_line();
        Some(Some(text))
    }
}

/// Whether plain text may begin so; what else may is left to the YAML crate.
pub(super) fn begins_plain(first: u8, second: Option<u8>) -> bool {
    match first {
        b'-' => second.is_some_and(|second| second.is_ascii_alphanumeric()),
        b'/' | b'.' | b'_' | b'~' | b'$' | b'^' | b'+' | b'(' | b'<' | b'=' | b'\\' | 0x80.. => true,
        _ => first.is_ascii_alphanumeric(),
    }
}

/// Text up to the closing quote, where that is, and what it stands for.
fn double_quoted(inner: &str) -> Option<(usize, Cow<'_, str>)> {
    let bytes = inner.as_bytes();
    let mut at = 0;
    let mut unescaped: Option<String> = None;
    let mut copied = 0;
    loop {
        match bytes.get(at)? {
            b'"' => break,
            b'\n' => return None,
            b'\\' => {
                let text = unescaped.get_or_insert_default();
                text.push_str(&inner[copied..at]);
                text.push(match bytes.get(at + 1)? {
                    b'"' => '"',
                    b'\\' => '\\',
                    b'/' => '/',
                    b'n' => '\n',
                    b't' => '\t',
                    b'r' => '\r',
                    _ => return None,
                });
                at += 2;
                copied = at;
            }
            _ => at += 1,
        }
    }
    Some((
        at,
        match unescaped {
            None => Cow::Borrowed(&inner[..at]),
            Some(text) => Cow::Owned(text + &inner[copied..at]),
        },
    ))
}

fn single_quoted(inner: &str) -> Option<(usize, Cow<'_, str>)> {
    let mut at = 0;
    loop {
        at += inner[at..].find(['\'', '\n'])?;
        match &inner.as_bytes()[at..] {
            [b'\'', b'\'', ..] => at += 2,
            [b'\'', ..] => break,
            _ => return None,
        }
    }
    let text = &inner[..at];
    Some((at, if text.contains('\'') { Cow::Owned(text.replace("''", "'")) } else { Cow::Borrowed(text) }))
}
