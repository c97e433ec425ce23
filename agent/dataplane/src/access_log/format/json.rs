//! Access log lines as JSON.

use std::fmt::Write as _;

use snapshot::{Format, GrpcStatusForm, Operator};

use super::{Part, SlotNames, parts, write_or_dash};
use crate::access_log::Entry;

/// A value of a JSON line as the user wrote it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JsonFormat {
    /// Text with operators.
    Text(Format),
    /// A number, `true`, `false` or `null`, written as it is.
    Literal(String),
    /// A list.
    List(Vec<Self>),
    /// An object, in any order.
    Object(Vec<(String, Self)>),
}

/// A value of a JSON line, taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Value {
    Parts(Vec<Part>),
    Literal(String),
    List(Vec<Self>),
    /// Keys as they are written, quotes included, in order.
    Object(Vec<(String, Self)>),
}

impl Value {
    pub(super) fn new(format: &JsonFormat, slots: &mut SlotNames) -> Self {
        match format {
            JsonFormat::Text(format) => Self::Parts(parts(format, slots)),
            JsonFormat::Literal(text) => Self::Literal(text.clone()),
            JsonFormat::List(values) => {
                Self::List(values.iter().map(|value| Self::new(value, slots)).collect())
            }
            JsonFormat::Object(members) => {
                let member = |(key, value): &(String, JsonFormat)| (text(key), Self::new(value, slots));
                let mut members: Vec<_> = members.iter().map(member).collect();
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                Self::Object(members)
            }
        }
    }

    pub(super) fn write(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Parts(parts) => write_parts(entry, parts, out),
            Self::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Self::List(values) => write_joined(b"[]", values, out, |value, out| value.write(entry, out)),
            Self::Object(members) => write_joined(b"{}", members, out, |(key, value), out| {
                out.extend_from_slice(key.as_bytes());
                out.push(b':');
                value.write(entry, out);
            }),
        }
    }
}

fn write_joined<T>(
    [open, close]: &[u8; 2],
    items: &[T],
    out: &mut Vec<u8>,
    mut write: impl FnMut(&T, &mut Vec<u8>),
) {
    out.push(*open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(*close);
}

/// A value that is one operator for a number is a number, one that is not known is `null`.
fn write_parts(entry: &Entry<'_>, parts: &[Part], out: &mut Vec<u8>) {
    match parts {
        [Part::Operator(operator, None)] if is_number(operator) => {
            let start = out.len();
            entry.write_operator(operator, out);
            null_if_empty(start, out);
        }
        [Part::Field(slot, max_length)] => write_value(entry.field(*slot), *max_length, out),
        [Part::Operator(operator, max_length)] => {
            let mut value = Vec::new();
            entry.write_operator(operator, &mut value);
            write_value(&value, *max_length, out);
        }
        parts => {
            let mut value = Vec::new();
            parts.iter().for_each(|part| write_or_dash(entry, part, &mut value));
            out.extend_from_slice(text(&String::from_utf8_lossy(&value)).as_bytes());
        }
    }
}

fn write_value(value: &[u8], max_length: Option<usize>, out: &mut Vec<u8>) {
    let value = &value[..max_length.unwrap_or(usize::MAX).min(value.len())];
    let start = out.len();
    if !value.is_empty() {
        out.extend_from_slice(text(&String::from_utf8_lossy(value)).as_bytes());
    }
    null_if_empty(start, out);
}

fn null_if_empty(start: usize, out: &mut Vec<u8>) {
    if out.len() == start {
        out.extend_from_slice(b"null");
    }
}

/// Text as a JSON string, quotes included.
fn text(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for char in text.chars() {
        match char {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            char if char.is_control() => _ = write!(json, "\\u{:04x}", u32::from(char)),
            char => json.push(char),
        }
    }
    json.push('"');
    json
}

fn is_number(operator: &Operator) -> bool {
    matches!(
        operator,
        Operator::ResponseCode
            | Operator::BytesReceived
            | Operator::BytesSent
            | Operator::Duration
            | Operator::RequestDuration
            | Operator::ResponseDuration
            | Operator::ResponseTxDuration
            | Operator::CommonDuration(_)
            | Operator::UpstreamRequestAttemptCount
            | Operator::DownstreamLocalPort
            | Operator::DownstreamRemotePort
            | Operator::UpstreamLocalPort
            | Operator::UpstreamRemotePort
            | Operator::GrpcStatus(GrpcStatusForm::Number)
    )
}
