//! Documents of any YAML to nodes, by the YAML crate.

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::{MAX_DEPTH, Node, Piece, Position, SyntaxError, Value, builder::Builder, hint};

/// The documents of a text, one after the other, empty ones too.
pub(super) struct Documents<'t> {
    piece: Piece<'t>,
    parser: Option<Parser<'t, StrInput<'t>>>,
}

impl<'t> Documents<'t> {
    pub(super) fn new(piece: Piece<'t>) -> Self {
        let options = granit_parser::options! {
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
            simple_key_max_lookahead: 4096,
        };
        Self { piece, parser: Some(Parser::new_from_str_with_options(piece.text, options)) }
    }
}

impl<'t> Iterator for Documents<'t> {
    type Item = Result<Node<'t>, SyntaxError>;

    fn next(&mut self) -> Option<Self::Item> {
        let parser = self.parser.as_mut()?;
        match next_document(parser, self.piece.lines_before) {
            Ok(Some(node)) => Some(Ok(node)),
            Ok(None) => {
                self.parser = None;
                None
            }
            Err(failure) => {
                if !matches!(parser.proceed_next_document(), Ok(true)) {
                    self.parser = None;
                }
                Some(Err(failure.explain(self.piece)))
            }
        }
    }
}

enum Failure {
    Scan(ScanError),
    Build(SyntaxError),
}

impl Failure {
    fn explain(self, piece: Piece<'_>) -> SyntaxError {
        match self {
            Self::Build(error) => error,
            Self::Scan(error) => {
                let position = Position::from(*error.marker()).below(piece.lines_before);
                hint::explain(piece.whole, position, &error.info())
            }
        }
    }
}

fn next_document<'t>(
    parser: &mut Parser<'t, StrInput<'t>>,
    lines_before: u32,
) -> Result<Option<Node<'t>>, Failure> {
    let mut builder = Builder::default();
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(Failure::Scan)?;
        match event {
            Event::StreamEnd => return Ok(None),
            Event::DocumentEnd => return Ok(builder.finished()),
            event => take(event, &span, lines_before, &mut builder).map_err(Failure::Build)?,
        }
    }
    Ok(None)
}

fn take<'t>(
    event: Event<'t>,
    span: &Span,
    lines_before: u32,
    builder: &mut Builder<'t>,
) -> Result<(), SyntaxError> {
    let position = Position::from(span.start).below(lines_before);
    match event {
        Event::Scalar(text, style, anchor, tag) => {
            let plain =
                style == ScalarStyle::Plain && !tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
            builder.scalar(position, anchor, (text, plain))
        }
        Event::SequenceStart(_, anchor, _) => builder.open(position, anchor, Value::List(Vec::new())),
        Event::MappingStart(_, anchor, _) => builder.open(position, anchor, Value::Object(Vec::new())),
        Event::SequenceEnd | Event::MappingEnd => builder.close(),
        Event::Alias(anchor) => builder.alias(anchor, position),
        _ => Ok(()),
    }
}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: number(marker.line()), column: number(marker.col()).saturating_add(1) }
    }
}
