//! The head of an endpoint's answer, in either version of HTTP.

use ::http::{HeaderMap, header::CONTENT_LENGTH};
use http1::{BodyLength, Response};

use super::{FieldSink, visit_end_to_end};
use crate::http::SWITCHING_PROTOCOLS;

/// The head of an endpoint's answer, in the version the endpoint speaks.
#[derive(Clone, Copy)]
pub(in crate::http) enum AnswerHead<'a> {
    Http1(&'a Response<'a, 'a>),
    Http2 { status: u16, fields: &'a HeaderMap, body: BodyLength },
}

impl AnswerHead<'_> {
    pub(in crate::http) fn status(&self) -> u16 {
        match self {
            Self::Http1(response) => response.status,
            Self::Http2 { status, .. } => *status,
        }
    }

    /// Whether another head follows for the same request.
    pub(in crate::http) fn is_interim(&self) -> bool {
        match self {
            Self::Http1(response) => response.is_interim(),
            Self::Http2 { status, .. } => *status < 200 && *status != SWITCHING_PROTOCOLS,
        }
    }

    /// How long the body is; of unknown length, it is `Chunked` or `UntilClose`.
    pub(in crate::http) fn body(&self) -> BodyLength {
        match self {
            Self::Http1(response) => response.body,
            Self::Http2 { body, .. } => *body,
        }
    }

    /// How many lines there are.
    pub(in crate::http) fn field_count(&self) -> usize {
        match self {
            Self::Http1(response) => response.headers.len(),
            Self::Http2 { fields, .. } => fields.len(),
        }
    }

    /// Whether the length of the body was said in a field.
    pub(in crate::http) fn has_length(&self) -> bool {
        match self {
            Self::Http1(response) => matches!(response.body, BodyLength::Length(_)),
            Self::Http2 { fields, .. } => fields.contains_key(CONTENT_LENGTH),
        }
    }

    /// Whether the endpoint's connection is of use after this answer. One with HTTP/2 knows by itself.
    pub(in crate::http) fn keep_alive(&self) -> bool {
        matches!(self, Self::Http1(response) if response.keep_alive)
    }

    /// The protocol that is spoken from now on: the value of the first `upgrade` line.
    pub(super) fn upgrade(&self) -> Option<&[u8]> {
        let Self::Http1(response) = self else { return None };
        let mut headers = response.headers.iter();
        headers.find(|header| header.name.eq_ignore_ascii_case("upgrade")).map(|header| header.value)
    }

    /// Writes the fields of an interim answer as they are.
    pub(in crate::http) fn write_end_to_end(&self, sink: &mut impl FieldSink) {
        self.visit(|name, value| sink.field(name, value));
    }

    /// Calls `visit` for every line that goes further than this hop.
    pub(super) fn visit(&self, mut visit: impl FnMut(&str, &[u8])) {
        match self {
            Self::Http1(response) => {
                visit_end_to_end(response.headers, &http1::connection_names(response.headers), visit);
            }
            // The codec refuses fields that are about a connection (RFC 9113 §8.2.2).
            Self::Http2 { fields, .. } => {
                // HTTP/1 cannot carry the blanks around a value that HTTP/2 can.
                fields.iter().for_each(|(name, value)| visit(name.as_str(), value.as_bytes().trim_ascii()));
            }
        }
    }

    /// The first line of a field that goes further than this hop.
    pub(in crate::http) fn field(&self, name: &str) -> Option<Vec<u8>> {
        let mut first = None;
        self.visit(|found, value| {
            if first.is_none() && found.eq_ignore_ascii_case(name) {
                first = Some(value.to_vec());
            }
        });
        first
    }

    /// Whether a length tells of a body that is not sent: the answer to HEAD, and 304.
    pub(super) fn keeps_length(&self) -> bool {
        self.body() == BodyLength::Empty && self.status() >= 200 && self.status() != 204
    }
}
