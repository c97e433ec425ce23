//! Reads the simple part of YAML, which nearly all resources are written in and JSON is, many times faster than all of
//! YAML can be read.
//!
//! Simple are block lists and objects, flow lists and objects without comments, text on one line and literal blocks.
//! Everything else, and everything that is wrong, is left to the YAML crate: for what is read here both come to the
//! same tree, which property tests hold.

mod flow;
mod scalar;

use std::borrow::Cow;

use super::{MAX_DEPTH, MAX_NODES, Member, Node, Position, Value, repeated_key};

/// Where reading goes on.
pub(super) enum Next<'t> {
    /// A document was read.
    Document(Node<'t>),
    /// What begins here is not simple.
    NotSimple,
    /// There is nothing more.
    End,
}

/// The documents of a text that are simple, up to the first that is not.
pub(super) struct Simple<'t> {
    text: &'t str,
    /// Where the next document begins, and in which line.
    next: usize,
    next_line: u32,
}

impl<'t> Simple<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, next: 0, next_line: 1 }
    }

    /// Where the next document begins, in bytes, and the number of lines before it.
    pub(super) fn reached(&self) -> (usize, u32) {
        (self.next, self.next_line - 1)
    }

    /// The next document that holds anything.
    pub(super) fn next_document(&mut self) -> Next<'t> {
        while self.next < self.text.len() {
            let end = end_of_document(self.text, self.next);
            let document = &self.text[self.next..end];
            if !has_simple_characters(document) {
                return Next::NotSimple;
            }
            let mut cursor = Cursor::new(document, self.next_line);
            let Some(node) = cursor.document() else { return Next::NotSimple };
            self.next = end;
            self.next_line = cursor.line;
            if let Some(node) = node.filter(|node| !node.is_null()) {
                return Next::Document(node);
            }
        }
        Next::End
    }
}

/// Where the document that begins at `from` ends: at the next line that begins another.
fn end_of_document(text: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(found) = text[at..].find("\n---") {
        at += found + 1;
        if matches!(text.as_bytes().get(at + MARK.len()), None | Some(b' ' | b'\t' | b'\r' | b'\n')) {
            return at;
        }
    }
    text.len()
}

const MARK: &str = "---";

/// Whether there are only characters that mean the same wherever they stand.
fn has_simple_characters(document: &str) -> bool {
    let is_simple = |byte: u8| matches!(byte, b'\n' | b' '..=b'~' | 0x80..);
    // Line breaks and marks of Unicode; all characters of these blocks are left to the crate.
    let is_odd = |c: char| matches!(c, '\u{80}'..='\u{9f}' | '\u{2000}'..='\u{2fff}' | '\u{fe00}'..);
    document.bytes().all(is_simple) && (document.is_ascii() || !document.contains(is_odd))
}

/// A place in a document. Its functions return `None` for what is not simple.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
    line: u32,
    line_start: usize,
    is_ascii: bool,
    /// How deep lists and objects nest here.
    depth: usize,
    nodes: usize,
}

impl<'t> Cursor<'t> {
    fn new(text: &'t str, line: u32) -> Self {
        let is_ascii = text.is_ascii();
        Self { text, at: 0, line, line_start: 0, is_ascii, depth: 0, nodes: 0 }
    }

    /// The whole document, which may hold nothing.
    fn document(&mut self) -> Option<Option<Node<'t>>> {
        if self.text.starts_with(MARK) {
            self.at = MARK.len();
            self.end_line()?;
        }
        let Some(indent) = self.next_content()? else { return Some(None) };
        let node = self.node(indent, None)?;
        self.indent()?.is_none().then_some(Some(node))
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn byte_after(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at + 1).copied()
    }

    fn position(&self) -> Position {
        let before = &self.text[self.line_start..self.at];
        let column = if self.is_ascii { before.len() } else { before.chars().count() };
        Position { line: self.line, column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1) }
    }

    fn skip_spaces(&mut self) {
        while self.byte() == Some(b' ') {
            self.at += 1;
        }
    }

    fn new_line(&mut self) {
        self.at += 1;
        self.line += 1;
        self.line_start = self.at;
    }

    /// Goes to the beginning of the next line; only blanks and a comment may be before it.
    fn end_line(&mut self) -> Option<()> {
        let end_of_value = self.at;
        self.skip_spaces();
        match self.byte() {
            Some(b'#') if self.at > end_of_value || self.at == self.line_start => {
                let rest = &self.text[self.at..];
                self.at += rest.find('\n').unwrap_or(rest.len());
            }
            None | Some(b'\n') => {}
            Some(_) => return None,
        }
        if self.byte().is_some() {
            self.new_line();
        }
        Some(())
    }

    /// Goes from the beginning of a line to the next that holds more than a comment; returns its indentation, or `None`
    /// inside when there is none.
    fn next_content(&mut self) -> Option<Option<usize>> {
        while self.at < self.text.len() {
            let start = self.at;
            self.skip_spaces();
            match self.byte() {
                None | Some(b'\n' | b'#') => {
                    self.at = start;
                    self.end_line()?;
                }
                // Directives and the end of a document.
                Some(b'%' | b'.') if self.at == start => return None,
                Some(_) => return Some(Some(self.at - start)),
            }
        }
        Some(None)
    }

    /// The indentation of the line whose content begins here, `None` inside at the end.
    fn indent(&self) -> Option<Option<usize>> {
        Some((self.at < self.text.len()).then(|| self.at - self.line_start))
    }

    fn is_at_item(&self) -> bool {
        self.byte() == Some(b'-') && matches!(self.byte_after(), None | Some(b' ' | b'\n'))
    }

    /// A node whose first character is here, in column `indent`, within a list or object at `outer`. Ends at the next
    /// content.
    fn node(&mut self, indent: usize, outer: Option<usize>) -> Option<Node<'t>> {
        if self.is_at_item() {
            return self.list(indent);
        }
        let position = self.position();
        match self.byte()? {
            b'{' | b'[' | b'|' => self.value_here(outer),
            _ => {
                let (text, plain) = self.text_here()?;
                if self.byte() == Some(b':') {
                    return self.object(indent, (text, position));
                }
                self.end_content()?;
                self.counted(Node { position, value: Value::Scalar { text, plain } })
            }
        }
    }

    fn end_content(&mut self) -> Option<()> {
        self.end_line()?;
        self.next_content().map(|_| ())
    }

    fn counted(&mut self, node: Node<'t>) -> Option<Node<'t>> {
        self.nodes += 1;
        (self.nodes < MAX_NODES).then_some(node)
    }

    /// A block list whose first `-` is here.
    fn list(&mut self, indent: usize) -> Option<Node<'t>> {
        let position = self.position();
        let mut items = Vec::new();
        self.deeper()?;
        loop {
            self.at += 1;
            items.push(self.item(indent)?);
            match self.indent()? {
                Some(next) if next > indent => return None,
                Some(next) if next == indent && self.is_at_item() => {}
                _ => break,
            }
        }
        self.depth -= 1;
        self.counted(Node { position, value: Value::List(items) })
    }

    /// What stands after a `-`.
    fn item(&mut self, indent: usize) -> Option<Node<'t>> {
        self.skip_spaces();
        match self.byte() {
            None | Some(b'\n' | b'#') => {
                self.end_content()?;
                let within = self.indent()?.filter(|within| *within > indent)?;
                self.node(within, Some(indent))
            }
            Some(_) => self.node(self.at - self.line_start, Some(indent)),
        }
    }

    /// A block object after its first key.
    fn object(&mut self, indent: usize, first: (Cow<'t, str>, Position)) -> Option<Node<'t>> {
        let position = first.1;
        let (mut key, mut members) = (first, Vec::new());
        self.deeper()?;
        loop {
            self.at += 1;
            let value = self.value(indent)?;
            members.push(self.member(key, value)?);
            match self.indent()? {
                Some(next) if next > indent => return None,
                Some(next) if next == indent => {}
                _ => break,
            }
            let key_position = self.position();
            key = (self.text_here()?.0, key_position);
            if self.byte() != Some(b':') {
                return None;
            }
        }
        self.depth -= 1;
        let is_sound = repeated_key(&members).is_none();
        is_sound
            .then_some(Node { position, value: Value::Object(members) })
            .and_then(|node| self.counted(node))
    }

    fn member(
        &mut self,
        (key, key_position): (Cow<'t, str>, Position),
        value: Node<'t>,
    ) -> Option<Member<'t>> {
        self.nodes += 1;
        // A key that is long is refused, and `<<` merges.
        (key.len() <= LONGEST_KEY && key != "<<").then_some(Member { key, key_position, value })
    }

    fn deeper(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth < MAX_DEPTH).then_some(())
    }

    /// What stands after the `:` of a key in an object at `indent`: on the same line, or below.
    fn value(&mut self, indent: usize) -> Option<Node<'t>> {
        self.skip_spaces();
        if !matches!(self.byte(), None | Some(b'\n' | b'#')) {
            return self.value_here(Some(indent));
        }
        self.end_content()?;
        match self.indent()? {
            Some(within) if within > indent => self.node(within, Some(indent)),
            Some(within) if within == indent && self.is_at_item() => {
                let list = self.list(indent)?;
                begun_with_first_item(list)
            }
            // Nothing is written there.
            _ => None,
        }
    }

    /// A value that begins here and is neither a block list nor a block object. Ends at the next content.
    fn value_here(&mut self, outer: Option<usize>) -> Option<Node<'t>> {
        let position = self.position();
        match self.byte()? {
            b'{' | b'[' => {
                let node = self.flow_node(outer)?;
                self.end_content()?;
                Some(node)
            }
            b'|' => {
                let (text, position) = self.literal(outer)?;
                self.next_content()?;
                self.counted(Node { position, value: Value::Scalar { text, plain: false } })
            }
            _ => {
                let (text, plain) = self.text_here()?;
                self.end_content()?;
                self.counted(Node { position, value: Value::Scalar { text, plain } })
            }
        }
    }
}

/// The YAML crate has a list that is not indented begin with its first item, and elsewhere when that is on another line.
fn begun_with_first_item(list: Node<'_>) -> Option<Node<'_>> {
    let Value::List(items) = &list.value else { return None };
    let first = items.first()?.position;
    (first.line == list.position.line).then_some(Node { position: first, ..list })
}

/// Keys beyond this are left to the YAML crate, which has a limit of its own.
const LONGEST_KEY: usize = 1000;

#[cfg(test)]
mod tests;
