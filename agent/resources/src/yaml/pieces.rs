//! Cuts a long text between its documents, so that several threads can read it.

/// Whole documents that follow one another in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'t> {
    /// All of the text, for what is said of mistakes.
    pub(super) whole: &'t str,
    /// The documents.
    pub(super) text: &'t str,
    /// Number of lines of the text before them.
    pub(super) lines_before: u32,
}

impl<'t> Piece<'t> {
    /// The text in up to so many pieces of about the same length. What their documents say in turn is what those of
    /// the whole text say: nothing but directives reaches beyond a document (YAML 1.2, 9.2), and those stay with theirs.
    pub(crate) fn several(text: &'t str, most: usize) -> Vec<Self> {
        let length = text.len() / most.max(1) + 1;
        let (mut pieces, mut rest) = (Vec::new(), Self::from(text));
        while let Some((piece, behind)) = rest.cut(length) {
            pieces.push(piece);
            rest = behind;
        }
        pieces.push(rest);
        pieces
    }

    /// The first document, and those behind.
    pub(super) fn first_document(self) -> (Self, Self) {
        let nothing = &self.text[self.text.len()..];
        self.cut(0).unwrap_or((self, Self { text: nothing, ..self }))
    }

    /// Cuts where the first document begins that is at least so many bytes away.
    fn cut(self, bytes: usize) -> Option<(Self, Self)> {
        let from = (bytes..).find(|at| self.text.is_char_boundary(*at) || *at >= self.text.len())?;
        let mut lines = self.text.get(from..)?.match_indices('\n').map(|(at, _)| from + at);
        let end = lines.find(|at| begins_document(self.text, *at))?;
        let (text, behind) = self.text.split_at(end + 1);
        let lines = u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX);
        let lines_before = self.lines_before.saturating_add(lines);
        Some((Self { text, ..self }, Self { text: behind, lines_before, ..self }))
    }
}

impl<'t> From<&'t str> for Piece<'t> {
    fn from(text: &'t str) -> Self {
        Self { whole: text, text, lines_before: 0 }
    }
}

/// Whether the line after this one's end begins a document, which no directives stand before.
fn begins_document(text: &str, line_end: usize) -> bool {
    let Some(after) = text[line_end + 1..].strip_prefix(MARKER) else { return false };
    let line_before = text[..line_end].rsplit('\n').next().unwrap_or_default();
    after.bytes().next().is_none_or(|byte| byte.is_ascii_whitespace()) && !line_before.starts_with('%')
}

/// Begins a document, when white space or nothing follows; within a value it cannot stand at the beginning of a line.
pub(super) const MARKER: &str = "---";
