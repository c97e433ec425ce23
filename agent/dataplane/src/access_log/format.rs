//! What an access log line looks like (MeshConfig `accessLogFormat`, `accessLogEncoding`).

mod defaults;
mod json;
mod values;

use std::ops::Range;

use snapshot::{CertificatePart, Format, Holder, Operator, Piece};

use super::Entry;

pub use self::json::JsonFormat;
use self::json::Value;

/// The look of access log lines, taken apart once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogFormat {
    shape: Shape,
    slots: SlotNames,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Shape {
    Text(Vec<Part>),
    Json(Value),
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    /// A field that is remembered, and how long it may be.
    Field(Slot, Option<usize>),
    Operator(Operator, Option<usize>),
}

/// Place of a field that lines show, among those that are remembered of its head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Slot {
    Request(usize),
    Answer(usize),
    Trailer(usize),
}

/// The fields that lines show, by slot.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct SlotNames {
    pub(crate) request: Vec<Wanted>,
    pub(crate) answer: Vec<Wanted>,
    pub(crate) trailers: Vec<Wanted>,
    /// Whether lines show more of certificates than every connection from a client remembers.
    pub(crate) certificates: bool,
    /// Whether lines show the filter chain.
    pub(crate) chain: bool,
}

/// A field that lines show, in lower case, and the one shown when it is missing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) other: Option<String>,
    /// What of the value is shown.
    part: FieldPart,
}

/// What lines show of a field.
#[derive(Clone, Debug, Eq, PartialEq)]
enum FieldPart {
    Whole,
    /// What stands before its `?`.
    BeforeQuery,
    /// The first value of a parameter of the query behind it.
    Parameter(String),
}

impl Default for LogFormat {
    /// Istio's default text.
    fn default() -> Self {
        Self::text(&own(defaults::TEXT))
    }
}

fn own(format: &str) -> Format {
    Format::parse(format).expect("our own formats are well-formed")
}

impl LogFormat {
    /// Lines of text. A line end is added when the format has none.
    pub fn text(format: &Format) -> Self {
        let mut slots = SlotNames::default();
        let mut parts = parts(format, &mut slots);
        if !format.source().ends_with('\n') {
            parts.push(Part::Text("\n".to_owned()));
        }
        Self { shape: Shape::Text(parts), slots }
    }

    /// A JSON object per line, keys sorted. A value that is one operator for a number is a number, one
    /// that is not known is `null`.
    pub fn json(members: Vec<(String, JsonFormat)>) -> Self {
        let mut slots = SlotNames::default();
        let value = Value::new(&JsonFormat::Object(members), &mut slots);
        Self { shape: Shape::Json(value), slots }
    }

    /// Istio's default JSON.
    pub fn default_json() -> Self {
        let member = |(key, format): (&str, &str)| (key.to_owned(), JsonFormat::Text(own(format)));
        Self::json(defaults::JSON.into_iter().map(member).collect())
    }

    /// The fields to remember for a line.
    pub(crate) fn slots(&self) -> &SlotNames {
        &self.slots
    }

    pub(super) fn write_line(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        match &self.shape {
            Shape::Text(parts) => parts.iter().for_each(|part| write_or_dash(entry, part, out)),
            Shape::Json(value) => {
                value.write(entry, out);
                out.push(b'\n');
            }
        }
    }
}

fn parts(format: &Format, slots: &mut SlotNames) -> Vec<Part> {
    let part = |piece: &Piece| match piece {
        Piece::Text(text) => Part::Text(text.clone()),
        Piece::Operator { operator, max_length } => match slots.of(operator) {
            Some(slot) => Part::Field(slot, *max_length),
            None => part(operator, *max_length),
        },
    };
    format.pieces().iter().map(part).collect()
}

fn part(operator: &Operator, max_length: Option<usize>) -> Part {
    let Operator::Environment(name) = operator else { return Part::Operator(operator.clone(), max_length) };
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    let value = value.unwrap_or_else(|| "-".to_owned());
    Part::Text(value.chars().take(max_length.unwrap_or(usize::MAX)).collect())
}

impl Part {
    /// Whether the value holds a peer's bytes as they came, such as the names in its certificate that an error tells of.
    fn is_of_peer(&self) -> bool {
        matches!(
            self,
            Self::Field(..)
                | Self::Operator(
                    Operator::RequestedServerName
                        | Operator::ResponseCodeDetails
                        | Operator::ConnectionTerminationDetails
                        | Operator::DownstreamTransportFailureReason
                        | Operator::UpstreamTransportFailureReason
                        | Operator::Certificate(
                            _,
                            CertificatePart::Uris | CertificatePart::Hosts | CertificatePart::Emails
                        ),
                    _
                )
        )
    }
}

impl SlotNames {
    /// The slot of what an operator shows, if that is a field to remember.
    fn of(&mut self, operator: &Operator) -> Option<Slot> {
        let (make, names): (fn(usize) -> Slot, _) = match operator {
            // This proxy writes it itself.
            Operator::ResponseHeader(name, _) if name == "x-envoy-upstream-service-time" => return None,
            Operator::RequestHeader(..)
            | Operator::RequestHeaderWithoutQuery(..)
            | Operator::QueryParameter(_)
            | Operator::StreamId => (Slot::Request, &mut self.request),
            Operator::ResponseHeader(..) => (Slot::Answer, &mut self.answer),
            Operator::ResponseTrailer(..) => (Slot::Trailer, &mut self.trailers),
            Operator::Certificate(Holder::Client, CertificatePart::Subject | CertificatePart::Uris) => {
                return None;
            }
            Operator::Certificate(Holder::Client | Holder::OwnForClient, _) => {
                self.certificates = true;
                return None;
            }
            Operator::FilterChainName => {
                self.chain = true;
                return None;
            }
            _ => return None,
        };
        let wanted = Wanted::of(operator)?;
        let known = names.iter().position(|name| *name == wanted);
        Some(make(known.unwrap_or_else(|| {
            names.push(wanted);
            names.len() - 1
        })))
    }
}

impl Wanted {
    fn of(operator: &Operator) -> Option<Self> {
        let (name, other, part) = match operator {
            Operator::RequestHeader(name, other)
            | Operator::ResponseHeader(name, other)
            | Operator::ResponseTrailer(name, other) => (name.as_str(), other.clone(), FieldPart::Whole),
            Operator::RequestHeaderWithoutQuery(name, other) => {
                (name.as_str(), other.clone(), FieldPart::BeforeQuery)
            }
            Operator::QueryParameter(name) => (":path", None, FieldPart::Parameter(name.clone())),
            Operator::StreamId => ("x-request-id", None, FieldPart::Whole),
            _ => return None,
        };
        Some(Self { name: name.to_owned(), other, part })
    }

    /// Writes the field that is there; `write` writes one by name.
    pub(crate) fn write(&self, out: &mut Vec<u8>, mut write: impl FnMut(&str, &mut Vec<u8>)) {
        let start = out.len();
        write(&self.name, out);
        if out.len() == start
            && let Some(other) = &self.other
        {
            write(other, out);
        }
        self.part.cut(start, out);
    }
}

impl FieldPart {
    /// Leaves of what stands from `start` on only this part.
    fn cut(&self, start: usize, out: &mut Vec<u8>) {
        if *self == Self::Whole {
            return;
        }
        let query = out[start..].iter().position(|byte| *byte == b'?').map(|at| start + at);
        match self {
            Self::Parameter(name) => {
                let value = query.and_then(|query| parameter(out, query + 1, name)).unwrap_or(start..start);
                let end = start + value.len();
                out.copy_within(value, start);
                out.truncate(end);
            }
            Self::Whole | Self::BeforeQuery => out.truncate(query.unwrap_or(out.len())),
        }
    }
}

/// Where the first value of a parameter stands in the query that begins at `query`.
fn parameter(bytes: &[u8], query: usize, name: &str) -> Option<Range<usize>> {
    let mut at = query;
    for pair in bytes[query..].split(|byte| *byte == b'&') {
        at += pair.len();
        if let Some(value) = pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
            return Some(at - value.len()..at);
        }
        at += 1;
    }
    None
}

fn write_or_dash(entry: &Entry<'_>, part: &Part, out: &mut Vec<u8>) {
    let start = out.len();
    if let Part::Text(text) = part {
        return out.extend_from_slice(text.as_bytes());
    }
    let max_length = entry.write_part(part, out);
    if part.is_of_peer() {
        make_harmless(start, out);
    }
    if out.len() == start {
        out.push(b'-');
    }
    if let Some(max_length) = max_length
        && out.len() - start > max_length
    {
        out.truncate(start + max_length);
        // Of an escape that was cut through, the half would take the quote behind it for its own.
        let backslashes = out[start..].iter().rev().take_while(|byte| **byte == b'\\').count();
        out.truncate(out.len() - backslashes % 2);
    }
}

/// Escapes a peer's bytes, from `start` on, so that they may stand between quotes: nothing in them can end the field or
/// the line.
fn make_harmless(start: usize, out: &mut Vec<u8>) {
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\');
    if !out[start..].iter().all(is_plain) {
        let bytes = out.split_off(start);
        let escaped = |byte: u8| byte.escape_ascii().skip(usize::from(byte == b'\''));
        out.extend(bytes.into_iter().flat_map(escaped));
    }
}
