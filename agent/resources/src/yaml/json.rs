//! Documents that are JSON to nodes, by the JSON crate: in less than half the time of the one for all of YAML.

use std::borrow::Cow;

use jsonc_parser::{
    CollectOptions, ParseOptions,
    ast::{self, ObjectPropName},
    common::Range,
    parse_to_ast,
};

use super::{MAX_NODES, Node, Piece, Position, Value, builder::Builder, pieces::MARKER};

/// The JSON documents that a text begins with. What they come to is what the YAML crate makes of them.
pub(super) struct Documents<'t> {
    rest: Piece<'t>,
}

impl<'t> Documents<'t> {
    pub(super) fn new(piece: Piece<'t>) -> Self {
        Self { rest: piece }
    }

    /// The text from the first document that is not taken to be JSON.
    pub(super) fn rest(&self) -> Piece<'t> {
        self.rest
    }
}

impl<'t> Iterator for Documents<'t> {
    type Item = Node<'t>;

    /// Leaves everything unusual to the YAML crate, which also has the words for mistakes.
    fn next(&mut self) -> Option<Node<'t>> {
        let begin = beginning(self.rest.text)?;
        let (document, behind) = self.rest.first_document();
        let node = read(document, begin)?;
        self.rest = behind;
        Some(node)
    }
}

/// Where the object begins that a document may be, behind its marker.
fn beginning(text: &str) -> Option<usize> {
    let marked = text.strip_prefix(MARKER).filter(|content| content.starts_with([' ', '\n']));
    let content = marked.unwrap_or(text).trim_ascii_start();
    content.starts_with('{').then_some(text.len() - content.len())
}

fn read<'t>(document: Piece<'t>, begin: usize) -> Option<Node<'t>> {
    if !may_be_json(document.text) {
        return None;
    }
    let parsed = parse_to_ast(&document.text[begin..], &CollectOptions::default(), &STRICT).ok()?;
    let places = Places { text: document.text, behind: 0, line: 0, line_begin: 0 };
    let mut reader =
        Reader { begin, lines_before: document.lines_before, places, builder: Builder::default() };
    reader.value(parsed.value?)?;
    reader.builder.finished()
}

/// Whether each byte is a character, lines end as they do everywhere, and it is not too much.
fn may_be_json(text: &str) -> bool {
    // Without early ends, so that many bytes are looked at together.
    let is_odd = |byte: u8| byte.is_ascii_control() & (byte != b'\n') & (byte != b'\t');
    let begins_value = |byte: &&u8| matches!(byte, b',' | b'[' | b'{');
    text.is_ascii()
        && !text.bytes().fold(false, |odd, byte| odd | is_odd(byte))
        && (text.len() < MAX_NODES || text.as_bytes().iter().filter(begins_value).count() < MAX_NODES)
}

/// JSON as RFC 8259 has it.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

struct Reader<'t> {
    begin: usize,
    lines_before: u32,
    places: Places<'t>,
    builder: Builder<'t>,
}

impl<'t> Reader<'t> {
    /// Hands a value on; `None` when something about it is for the YAML crate.
    fn value(&mut self, value: ast::Value<'t>) -> Option<()> {
        match value {
            ast::Value::Object(object) => {
                self.open(object.range, Value::Object(Vec::with_capacity(object.properties.len())))?;
                for member in object.properties {
                    let ObjectPropName::String(name) = member.name else { return None };
                    self.text(name)?;
                    self.value(member.value)?;
                }
                self.builder.close().ok()
            }
            ast::Value::Array(list) => {
                self.open(list.range, Value::List(Vec::with_capacity(list.elements.len())))?;
                list.elements.into_iter().try_for_each(|item| self.value(item))?;
                self.builder.close().ok()
            }
            ast::Value::StringLit(text) => self.text(text),
            ast::Value::NumberLit(number) => self.word(number.range, number.value),
            ast::Value::BooleanLit(word) => self.word(word.range, if word.value { "true" } else { "false" }),
            ast::Value::NullKeyword(word) => self.word(word.range, "null"),
        }
    }

    fn open(&mut self, range: Range, empty: Value<'t>) -> Option<()> {
        let position = self.position(range);
        self.builder.open(position, 0, empty).ok()
    }

    /// A text in quotes. JSON has none of several lines, which YAML joins.
    fn text(&mut self, text: ast::StringLit<'t>) -> Option<()> {
        let position = self.position(text.range);
        let written = &self.places.text[self.begin + text.range.start..self.begin + text.range.end];
        if written.contains('\n') {
            return None;
        }
        self.builder.scalar(position, 0, (text.value, false)).ok()
    }

    fn word(&mut self, range: Range, word: &'t str) -> Option<()> {
        let position = self.position(range);
        self.builder.scalar(position, 0, (Cow::Borrowed(word), true)).ok()
    }

    fn position(&mut self, range: Range) -> Position {
        self.places.position(self.begin + range.start).below(self.lines_before)
    }
}

/// Tells the positions of bytes that are asked for in the order of the text.
struct Places<'t> {
    text: &'t str,
    /// The byte asked for last, the number of lines before it, and where its own begins.
    behind: usize,
    line: u32,
    line_begin: usize,
}

impl Places<'_> {
    fn position(&mut self, at: usize) -> Position {
        // Byte by byte: there are few between two values.
        for (ahead, byte) in self.text.as_bytes()[self.behind..at].iter().enumerate() {
            if *byte == b'\n' {
                self.line = self.line.saturating_add(1);
                self.line_begin = self.behind + ahead + 1;
            }
        }
        self.behind = at;
        let column = u32::try_from(at - self.line_begin).unwrap_or(u32::MAX);
        Position { line: self.line.saturating_add(1), column: column.saturating_add(1) }
    }
}
