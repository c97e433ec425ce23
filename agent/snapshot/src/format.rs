//! Envoy's substitution format: text with operators such as `%REQ(:PATH)%`, used in header values and access logs.

mod certificates;
mod operator;

use std::fmt;

pub use certificates::{CertificatePart, Holder};
pub use operator::{GrpcStatusForm, Moment, Operator, Span};

/// Text with operators in it, parsed once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Format {
    source: String,
    pieces: Vec<Piece>,
}

/// Part of a [`Format`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Piece {
    /// Copied as it is.
    Text(String),
    /// Replaced by a value of the request or connection.
    Operator {
        /// Which value.
        operator: Operator,
        /// Longest value in bytes; longer ones are cut.
        max_length: Option<usize>,
    },
}

/// Why text is not a [`Format`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FormatError {
    /// A `%` that opens no operator.
    LonePercent,
    /// An operator that does not exist or is not supported.
    UnknownOperator(String),
    /// Something after the operator's name that it does not take.
    BadArgument(String),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LonePercent => f.write_str("has a single `%`; write `%%` for a percent sign"),
            Self::UnknownOperator(name) => write!(f, "has the unknown operator `%{name}%`"),
            Self::BadArgument(name) => write!(f, "has an argument that `%{name}%` does not take"),
        }
    }
}

impl std::error::Error for FormatError {}

impl Format {
    /// Parses text with operators; `%%` is a percent sign.
    ///
    /// # Errors
    ///
    /// When a `%` opens nothing, or an operator is unknown or has a malformed argument.
    pub fn parse(source: &str) -> Result<Self, FormatError> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = source;
        while let Some((before, after)) = rest.split_once('%') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                text.push('%');
                rest = after;
                continue;
            }
            let (name, after) = split_operator(after).ok_or(FormatError::LonePercent)?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(piece(name)?);
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self { source: source.to_owned(), pieces })
    }

    /// Text without operators, taken as it is.
    pub fn literal(text: &str) -> Self {
        let pieces = if text.is_empty() { Vec::new() } else { vec![Piece::Text(text.to_owned())] };
        Self { source: text.replace('%', "%%"), pieces }
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The parts in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Operators that Envoy has and this proxy knows nothing to say to, as written.
    pub fn unavailable(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Operator { operator: Operator::Unavailable(written), .. } => Some(written.as_str()),
            Piece::Operator { .. } | Piece::Text(_) => None,
        })
    }

    /// The value when it is the same for every request.
    pub fn as_literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }
}

/// An operator without its percent signs, and what follows it. An argument may hold percent signs of its own, as in
/// `%START_TIME(%Y-%m-%d)%`.
fn split_operator(text: &str) -> Option<(&str, &str)> {
    let argument = text.find('(').filter(|open| !text[..*open].contains('%'));
    let from = argument.map_or(Some(0), |open| Some(open + text[open..].find(')')?))?;
    let end = from + text[from..].find('%')?;
    Some((&text[..end], &text[end + 1..]))
}

/// `NAME`, `NAME(argument)`, either followed by `:length`.
fn piece(written: &str) -> Result<Piece, FormatError> {
    let (name, argument, length) = match written.split_once('(') {
        Some((name, rest)) => {
            let (argument, after) =
                rest.rsplit_once(')').ok_or_else(|| FormatError::BadArgument(name.to_owned()))?;
            (name, Some(argument), after)
        }
        None => match written.split_once(':') {
            Some((name, _)) => (name, None, &written[name.len()..]),
            None => (written, None, ""),
        },
    };
    let bad = || FormatError::BadArgument(name.to_owned());
    let max_length = match length.strip_prefix(':') {
        Some(number) => Some(number.parse().map_err(|_| bad())?),
        None if length.is_empty() => None,
        None => return Err(bad()),
    };
    let operator = operator::operator(name, argument, written)?;
    Ok(Piece::Operator { operator, max_length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_operators_are_told_apart() {
        let format = Format::parse("a%%b %REQ(X-Name?:PATH):10% %PROTOCOL%").unwrap();
        let path = Operator::RequestHeader("x-name".into(), Some(":path".into()));
        assert_eq!(
            format.pieces(),
            [
                Piece::Text("a%b ".into()),
                Piece::Operator { operator: path, max_length: Some(10) },
                Piece::Text(" ".into()),
                Piece::Operator { operator: Operator::Protocol, max_length: None },
            ]
        );
        let time = Format::parse("%START_TIME(%Y-%m-%d)% (%PROTOCOL%)").unwrap();
        let day = Operator::StartTime(Some("%Y-%m-%d".into()));
        assert_eq!(time.pieces()[0], Piece::Operator { operator: day, max_length: None });
        assert_eq!(time.pieces().len(), 4);
        assert_eq!(Format::parse("plain").unwrap().as_literal(), Some("plain"));
        assert_eq!(Format::literal("50%").as_literal(), Some("50%"));
        assert_eq!(Format::parse(Format::literal("50%").source()).unwrap().as_literal(), Some("50%"));
    }

    #[test]
    fn what_is_malformed_is_told() {
        let refused = |text: &str| Format::parse(text).unwrap_err();
        assert_eq!(refused("100%"), FormatError::LonePercent);
        assert_eq!(refused("%NOPE%"), FormatError::UnknownOperator("NOPE".into()));
        assert_eq!(refused("%REQ()%"), FormatError::BadArgument("REQ".into()));
        assert_eq!(refused("%REQ(a):b%"), FormatError::BadArgument("REQ".into()));
        assert_eq!(
            refused("%DOWNSTREAM_PEER_SERIAL(a)%"),
            FormatError::BadArgument("DOWNSTREAM_PEER_SERIAL".into())
        );
        assert_eq!(refused("%QUERY_PARAM()%"), FormatError::BadArgument("QUERY_PARAM".into()));
        assert_eq!(refused("%PROTOCOL(a)%"), FormatError::BadArgument("PROTOCOL".into()));
        assert_eq!(refused("%COMMON_DURATION(a:b:ms)%"), FormatError::BadArgument("COMMON_DURATION".into()));
        assert_eq!(refused("%NOPE(a)%"), FormatError::UnknownOperator("NOPE(a)".into()));
    }

    #[test]
    fn durations_name_two_moments_and_a_unit() {
        let span = Span { from: Moment::RequestBegan, to: Moment::AnswerBegan, per_second: 1_000_000 };
        let written = "%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)%";
        let operator = Operator::CommonDuration(span);
        let format = Format::parse(written).unwrap();
        assert_eq!(format.pieces(), [Piece::Operator { operator, max_length: None }]);
    }

    #[test]
    fn what_only_envoy_knows_is_told() {
        let written = "%DYNAMIC_METADATA(a:b)% %PROTOCOL% %TLS_JA3_FINGERPRINT% %COMMON_DURATION(DS_RX_BEG:US_CX_BEG:ms)%";
        let format = Format::parse(written).unwrap();
        let unavailable: Vec<_> = format.unavailable().collect();
        let expected =
            ["DYNAMIC_METADATA(a:b)", "TLS_JA3_FINGERPRINT", "COMMON_DURATION(DS_RX_BEG:US_CX_BEG:ms)"];
        assert_eq!(unavailable, expected);
    }
}
