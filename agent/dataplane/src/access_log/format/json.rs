//! Access log lines as JSON.

use std::io::Write as _;

use snapshot::{Format, GrpcStatusForm, Operator};

use super::{Part, SlotNames, parts};
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
    let start = out.len();
    let is_unknown = match parts {
        [Part::Operator(operator, None)] if is_number(operator) => {
            entry.write_operator(operator, out);
            out.len() == start
        }
        [only @ (Part::Field(..) | Part::Operator(..))] => {
            write_cut(entry, only, out);
            let is_unknown = out.len() == start;
            quote(start, out);
            is_unknown
        }
        parts => {
            for part in parts {
                let start = out.len();
                write_cut(entry, part, out);
                if out.len() == start && !matches!(part, Part::Text(_)) {
                    out.push(b'-');
                }
            }
            quote(start, out);
            false
        }
    };
    if is_unknown {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// Writes a value as it is, no longer than it may be.
fn write_cut(entry: &Entry<'_>, part: &Part, out: &mut Vec<u8>) {
    let start = out.len();
    if let Some(max_length) = entry.write_part(part, out) {
        out.truncate(start.saturating_add(max_length));
    }
}

/// Text as a JSON string, quotes included.
fn text(text: &str) -> String {
    let mut json = text.as_bytes().to_vec();
    quote(0, &mut json);
    String::from_utf8_lossy(&json).into_owned()
}

/// Makes a JSON string of what stands from `start` on; what is no UTF-8 becomes U+FFFD.
fn quote(start: usize, out: &mut Vec<u8>) {
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\');
    if out[start..].iter().all(is_plain) {
        out.push(b'"');
        out[start..].rotate_right(1);
    } else {
        let value = out.split_off(start);
        out.push(b'"');
        for chunk in value.utf8_chunks() {
            chunk.valid().chars().for_each(|char| write_escaped(char, out));
            if !chunk.invalid().is_empty() {
                write_escaped(char::REPLACEMENT_CHARACTER, out);
            }
        }
    }
    out.push(b'"');
}

fn write_escaped(char: char, out: &mut Vec<u8>) {
    match char {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // Writing into memory cannot fail.
        char if char.is_control() => _ = write!(out, "\\u{:04x}", u32::from(char)),
        char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
    }
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
            | Operator::ConnectionId
            | Operator::UpstreamConnectionId
            | Operator::DownstreamLocalPort
            | Operator::DownstreamRemotePort
            | Operator::UpstreamLocalPort
            | Operator::UpstreamRemotePort
            | Operator::GrpcStatus(GrpcStatusForm::Number)
    )
}
