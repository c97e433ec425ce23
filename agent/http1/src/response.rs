//! Response heads (RFC 9112 §4, §6.3).

use std::time::Duration;

use httparse::{Header, ParserConfig, Status};

use crate::fields::{Fields, FieldsError};
use crate::framing::{BodyLength, FramingError};
use crate::head::{HeadError, HeaderSlots, Limits, Version, check_line_ends, incomplete};

/// The head of a response, borrowed from the buffer it was parsed from.
#[derive(Clone, Copy, Debug)]
pub struct Response<'h, 'b> {
    /// The status, 100–999. An interim one (100, 102, 103) is followed by another head; 101 is not.
    pub status: u16,
    /// The reason phrase; empty when it was left out or holds bytes outside ASCII.
    pub reason: &'b str,
    /// The version the server speaks.
    pub version: Version,
    /// All fields in their order and case, hop-by-hop ones included.
    pub headers: &'h [Header<'b>],
    /// Bytes of the buffer the head takes; the body begins there.
    pub head_len: usize,
    /// How the body ends. Empty for 1xx, 204, 304, the answer to `HEAD` and an accepted `CONNECT`, whatever the
    /// fields say; their `content-length`, if any, is valid and may be copied.
    pub body: BodyLength,
    /// Whether the connection can carry another exchange. False also when it was switched to another protocol.
    pub keep_alive: bool,
    /// How long the server keeps the connection while nothing is asked, where it tells so (`Keep-Alive: timeout`).
    pub idle_timeout: Option<Duration>,
}

impl Response<'_, '_> {
    /// Returns whether another head follows for the same request.
    #[must_use]
    pub const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Parses the head of the response to a request with method `request_method` at the start of `buf`.
///
/// Returns `None` while it is incomplete. Interim responses are returned like any other, with an empty body.
///
/// # Errors
///
/// The first rule the head breaks; answer the client with [`ResponseError::status`] and close the connection to the
/// server, for where its next message begins is not known.
pub fn parse_response<'h, 'b>(
    buf: &'b [u8],
    limits: &Limits,
    request_method: &str,
    slots: &'h mut HeaderSlots<'b>,
) -> Result<Option<Response<'h, 'b>>, ResponseError> {
    let buf = &buf[..buf.len().min(limits.head_bytes)];
    if let Some(b'\r' | b'\n') = buf.first() {
        return Err(ResponseError::InvalidStatusLine);
    }
    let mut parsed = httparse::Response::new(&mut []);
    match ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        buf,
        slots.for_fields(limits.fields),
    ) {
        Ok(Status::Complete(head_len)) => {
            check_line_ends(&buf[..head_len])?;
            let line = StatusLine {
                version: Version::from_minor(parsed.version),
                status: parsed.code.unwrap_or_default(),
                reason: parsed.reason.unwrap_or_default(),
            };
            line.with_fields(request_method, parsed.headers, head_len).map(Some)
        }
        Ok(Status::Partial) => Ok(incomplete(buf, limits).map(|()| None)?),
        Err(error) => Err(parser_error(error)),
    }
}

/// Why a response was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ResponseError {
    /// Not a version, a status of three digits and a reason.
    #[error("invalid status line: expected version, status and reason with one space between them")]
    InvalidStatusLine,
    /// A status below 100.
    #[error("invalid status: expected 100 or more")]
    InvalidStatus,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("unsupported version: expected HTTP/1.0 or HTTP/1.1")]
    UnsupportedVersion,
    /// Size or syntax of the head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The length of the body.
    #[error(transparent)]
    Framing(#[from] FramingError),
}

impl ResponseError {
    /// The status to answer the client with: 502, for the fault is the server's.
    #[must_use]
    pub const fn status(self) -> u16 {
        502
    }
}

impl From<FieldsError> for ResponseError {
    fn from(error: FieldsError) -> Self {
        match error {
            FieldsError::Head(error) => Self::Head(error),
            FieldsError::Framing(error) => Self::Framing(error),
        }
    }
}

struct StatusLine<'b> {
    version: Version,
    status: u16,
    reason: &'b str,
}

impl<'b> StatusLine<'b> {
    fn with_fields<'h>(
        self,
        request_method: &str,
        headers: &'h [Header<'b>],
        head_len: usize,
    ) -> Result<Response<'h, 'b>, ResponseError> {
        let Self { version, status, reason } = self;
        if status < 100 {
            return Err(ResponseError::InvalidStatus);
        }
        let fields = Fields::read(headers)?;
        let body = body_length(status, request_method, version, &fields)?;
        let persists = version == Version::Http11 || fields.connection.keep_alive;
        let stays_http =
            status != 101 && !is_tunnel(status, request_method) && body != BodyLength::UntilClose;
        let keep_alive = persists && stays_http && !fields.connection.close;
        let idle_timeout = fields.idle_timeout.map(Duration::from_secs);
        Ok(Response { status, reason, version, headers, head_len, body, keep_alive, idle_timeout })
    }
}

/// RFC 9112 §6.3. The fields are checked even where they do not count, so that copying them on is safe.
fn body_length(
    status: u16,
    request_method: &str,
    version: Version,
    fields: &Fields<'_>,
) -> Result<BodyLength, FramingError> {
    let body = fields.framing.body_length(version)?;
    if status < 200 || status == 204 {
        fields.framing.require_no_body()?;
    }
    let has_none = status < 200
        || matches!(status, 204 | 304)
        || request_method == "HEAD"
        || is_tunnel(status, request_method);
    Ok(if has_none { BodyLength::Empty } else { body.unwrap_or(BodyLength::UntilClose) })
}

fn is_tunnel(status: u16, request_method: &str) -> bool {
    request_method == "CONNECT" && (200..300).contains(&status)
}

fn parser_error(error: httparse::Error) -> ResponseError {
    match (HeadError::from_parser(error), error) {
        (Some(error), _) => error.into(),
        (None, httparse::Error::Version) => ResponseError::UnsupportedVersion,
        (None, _) => ResponseError::InvalidStatusLine,
    }
}

#[cfg(test)]
mod tests;
