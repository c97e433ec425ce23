//! Says in the user's terms why YAML does not parse, for the slips people make most.
//!
//! Only field names are shown, never values: the text may be a Secret.

use super::{Position, SyntaxError};
use crate::finding::Problem;

/// Explains a parser error at `position`; `message` is the parser's own wording, used when nothing better is known.
pub(super) fn explain(text: &str, position: Position, message: &str) -> SyntaxError {
    let lines = Lines::around(text, position.line);
    missing_blank(&lines).or_else(|| indented_under_text(&lines)).unwrap_or_else(|| SyntaxError {
        position,
        problem: Problem::new(format!("is not valid YAML: {message}")).remedy(MOST_LIKELY),
    })
}

const MOST_LIKELY: &str = "look at the indentation, quotes and brackets of this line and the one before";

/// `protocol:HTTP`: a field name runs into its value.
fn missing_blank(lines: &Lines<'_>) -> Option<SyntaxError> {
    let suspects = [lines.at(lines.error), lines.before(lines.error)];
    suspects.into_iter().flatten().find_map(|line| {
        let (key, value) = line.content.split_once(':')?;
        let runs_together = is_field_name(key) && value.starts_with(|c: char| !c.is_whitespace() && c != '/');
        let problem = Problem::new(format!("a blank is missing after `{key}:`"));
        let problem = problem.expected(format!("`{key}: value`"));
        runs_together.then(|| SyntaxError { position: line.position(), problem })
    })
}

/// A field indented under a list item or value that is plain text, which can hold no fields.
fn indented_under_text(lines: &Lines<'_>) -> Option<SyntaxError> {
    let field_name = |line: &Line<'_>| line.field().map(str::to_owned);
    let line = [lines.at(lines.error), lines.after(lines.error)]
        .into_iter()
        .flatten()
        .find(|line| field_name(line).is_some())?;
    let above = lines.before(line.number).filter(|above| above.indent < line.indent && above.is_text())?;
    let owner = lines.owner(above)?;
    let field = field_name(&line)?;
    let message =
        format!("`{field}:` is indented under the text in line {}, which holds no fields", above.number);
    let owner_field = owner.field().unwrap_or_default();
    let remedy = format!(
        "write `{field}:` in column {}, like `{owner_field}:` in line {}",
        owner.indent + 1,
        owner.number
    );
    Some(SyntaxError { position: line.position(), problem: Problem::new(message).remedy(remedy) })
}

struct Lines<'t> {
    lines: Vec<Line<'t>>,
    error: u32,
}

#[derive(Clone, Copy)]
struct Line<'t> {
    number: u32,
    indent: usize,
    content: &'t str,
    item: bool,
}

impl<'t> Lines<'t> {
    /// The lines around an error that hold something, comments removed.
    fn around(text: &'t str, error: u32) -> Self {
        let first = error.saturating_sub(LINES_READ);
        let numbered = (1..).zip(text.lines()).skip(first as usize).take(2 * LINES_READ as usize);
        Self { lines: numbered.filter_map(|(number, line)| Line::new(number, line)).collect(), error }
    }

    fn at(&self, number: u32) -> Option<Line<'t>> {
        self.lines.iter().copied().find(|line| line.number == number)
    }

    fn before(&self, number: u32) -> Option<Line<'t>> {
        self.lines.iter().copied().rev().find(|line| line.number < number)
    }

    fn after(&self, number: u32) -> Option<Line<'t>> {
        self.lines.iter().copied().find(|line| line.number > number)
    }

    /// The field that the list item or value `inner` belongs to.
    fn owner(&self, inner: Line<'t>) -> Option<Line<'t>> {
        if !inner.item {
            return inner.content.contains(": ").then_some(inner);
        }
        let above = self.lines.iter().copied().rev().filter(|line| line.number < inner.number);
        above.into_iter().find(|line| !line.item && line.indent <= inner.indent && line.field().is_some())
    }
}

const LINES_READ: u32 = 200;

impl<'t> Line<'t> {
    fn new(number: u32, line: &'t str) -> Option<Self> {
        let line = line.split_once(" #").map_or(line, |(before, _)| before).trim_end();
        let content = line.trim_start_matches(' ');
        let indent = line.len() - content.len();
        let item = content.starts_with("- ");
        let content = content.trim_start_matches("- ").trim();
        (!content.is_empty() && !content.starts_with('#')).then_some(Self { number, indent, content, item })
    }

    /// The field name when the line is `name:` or `name: value`.
    fn field(&self) -> Option<&'t str> {
        let (name, value) = self.content.split_once(':')?;
        (is_field_name(name) && (value.is_empty() || value.starts_with(' '))).then_some(name)
    }

    /// Whether the line is a list item of plain text, or a field with a text value.
    fn is_text(&self) -> bool {
        let value = match self.field() {
            None if self.item => self.content,
            None => return false,
            Some(name) => self.content[name.len() + 1..].trim_start(),
        };
        value.starts_with(|c: char| !"[{|>&*".contains(c))
    }

    fn position(&self) -> Position {
        let column = u32::try_from(self.indent + 1 + if self.item { 2 } else { 0 }).unwrap_or(u32::MAX);
        Position { line: self.number, column }
    }
}

fn is_field_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphanumeric())
}
