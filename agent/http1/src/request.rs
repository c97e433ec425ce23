//! Request heads (RFC 9112 §3, §6.3).

use httparse::{Header, ParserConfig, Status};

use crate::fields::{Fields, FieldsError};
use crate::framing::{BodyLength, FramingError};
use crate::head::{HeadError, HeaderSlots, Limits, Version, check_line_ends, incomplete};
use crate::host::is_valid_authority;
use crate::target::{Target, TargetError};

/// The most empty lines a request may be preceded by. RFC 9112 §2.2 asks to ignore at least one; old clients send one
/// after a body.
const MAX_EMPTY_LINES: usize = 4;

/// The head of a request, borrowed from the buffer it was parsed from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'h, 'b> {
    /// The method, case-sensitive; any token.
    pub method: &'b str,
    /// What is asked for.
    pub target: Target<'b>,
    /// The version the client speaks.
    pub version: Version,
    /// All fields in their order and case, hop-by-hop ones included; see [`is_hop_by_hop`](crate::is_hop_by_hop) and
    /// [`connection_names`](crate::connection_names) for which of them go no further.
    pub headers: &'h [Header<'b>],
    /// Bytes of the buffer the head takes; the body begins there.
    pub head_len: usize,
    /// How long the body is. Write this rather than copy `content-length`, which may be there several times.
    pub body: BodyLength,
    /// Whether the client wants to use the connection for another request.
    pub keep_alive: bool,
    /// Whether the client waits for 100 (Continue) before it sends the body.
    pub expect_continue: bool,
    /// The protocols the client would switch to, if `Connection` lists `upgrade`: the value of the first `Upgrade` line.
    pub upgrade: Option<&'b str>,
    /// The value of `Host`, valid or empty; there in every HTTP/1.1 request. See [`authority`](Self::authority).
    pub host: Option<&'b str>,
}

impl<'b> Request<'_, 'b> {
    /// Host and perhaps port the request is for: from the target if it says so, else from `Host`.
    ///
    /// A `Host` that differs from the target's authority is wrong and must be replaced on the way on (RFC 9112 §3.2.2).
    #[inline]
    #[must_use]
    pub fn authority(&self) -> Option<&'b str> {
        self.target.authority().or(self.host)
    }
}

/// Parses the head of a request at the start of `buf`.
///
/// Returns `None` while it is incomplete. Calling again with more bytes parses from the start: [`HeadEnd`] says when that
/// is worth it.
///
/// # Errors
///
/// The first rule the head breaks; answer with [`RequestError::status`] and close, for where the next message begins is
/// not known. More bytes never turn an error into a head.
///
/// [`HeadEnd`]: crate::HeadEnd
pub fn parse_request<'h, 'b>(
    buf: &'b [u8],
    limits: &Limits,
    slots: &'h mut HeaderSlots<'b>,
) -> Result<Option<Request<'h, 'b>>, RequestError> {
    let buf = &buf[..buf.len().min(limits.head_bytes)];
    let skipped = skip_empty_lines(buf)?;
    let bytes = &buf[skipped..];
    let mut parsed = httparse::Request::new(&mut []);
    match ParserConfig::default().parse_request_with_uninit_headers(
        &mut parsed,
        bytes,
        slots.for_fields(limits.fields),
    ) {
        Ok(Status::Complete(len)) => {
            check_line_ends(&bytes[..len])?;
            let head = StartLine { method: parsed.method, target: parsed.path, version: parsed.version };
            head.with_fields(parsed.headers, skipped + len).map(Some)
        }
        Ok(Status::Partial) => Ok(incomplete(buf, limits).map(|()| None)?),
        Err(error) => Err(parser_error(error, parsed.method.is_some(), bytes)),
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// More empty lines before the request line than any client sends.
    #[error("too many empty lines before the request line: expected at most {MAX_EMPTY_LINES}")]
    TooManyEmptyLines,
    /// The method is no token, or is not followed by a space.
    #[error("invalid method: expected a token followed by one space")]
    InvalidMethod,
    /// The request line does not end in a version: also when the target holds spaces.
    #[error("invalid request line: expected method, target and version with one space between them")]
    InvalidRequestLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("unsupported version: expected HTTP/1.0 or HTTP/1.1")]
    UnsupportedVersion,
    /// HTTP/1.1 requires `Host` even if the target names an authority (RFC 9112 §3.2).
    #[error("missing field `host`")]
    MissingHost,
    /// More than one `Host` line, even if they agree.
    #[error("more than one field `host`: expected one")]
    SeveralHosts,
    /// `Host` is not a host and perhaps a port.
    #[error("invalid field `host`: expected a host and perhaps a port")]
    InvalidHost,
    /// The request target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Size or syntax of the head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The length of the body.
    #[error(transparent)]
    Framing(#[from] FramingError),
}

impl RequestError {
    /// The status to answer with: 400, 431, 501 or 505.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::UnsupportedVersion => 505,
            Self::Head(error) => error.status(),
            Self::Framing(error) => error.status(),
            _ => 400,
        }
    }
}

impl From<FieldsError> for RequestError {
    fn from(error: FieldsError) -> Self {
        match error {
            FieldsError::Head(error) => Self::Head(error),
            FieldsError::Framing(error) => Self::Framing(error),
        }
    }
}

/// The request line as httparse leaves it.
struct StartLine<'b> {
    method: Option<&'b str>,
    target: Option<&'b str>,
    version: Option<u8>,
}

impl<'b> StartLine<'b> {
    fn with_fields<'h>(
        self,
        headers: &'h [Header<'b>],
        head_len: usize,
    ) -> Result<Request<'h, 'b>, RequestError> {
        let method = self.method.unwrap_or_default();
        let version = Version::from_minor(self.version);
        let target = Target::parse(method, self.target.unwrap_or_default())?;
        let fields = Fields::read(headers)?;
        let persists = version == Version::Http11 || fields.connection.keep_alive;
        let is_1_1 = version == Version::Http11;
        Ok(Request {
            method,
            target,
            version,
            headers,
            head_len,
            body: body_length(method, version, &fields)?,
            keep_alive: persists && !fields.connection.close,
            expect_continue: is_1_1 && fields.expect_continue,
            upgrade: fields.upgrade().filter(|_| is_1_1),
            host: host(version, &fields)?,
        })
    }
}

/// A request has a body only if it says how long (RFC 9112 §6.3), whatever its method; `CONNECT` has none, and a
/// recipient that believes otherwise would read the tunnel's first bytes as one.
fn body_length(method: &str, version: Version, fields: &Fields<'_>) -> Result<BodyLength, FramingError> {
    let body = fields.framing.body_length(version)?;
    if method == "CONNECT" {
        fields.framing.require_no_body()?;
    }
    Ok(body.unwrap_or(BodyLength::Empty))
}

/// An empty `Host` is what RFC 9110 §7.2 asks for when there is no authority to name.
fn host<'b>(version: Version, fields: &Fields<'b>) -> Result<Option<&'b str>, RequestError> {
    if fields.several_hosts {
        return Err(RequestError::SeveralHosts);
    }
    match fields.host {
        None if version == Version::Http11 => Err(RequestError::MissingHost),
        None => Ok(None),
        Some(b"") => Ok(Some("")),
        Some(value) if is_valid_authority(value) => Ok(std::str::from_utf8(value).ok()),
        Some(_) => Err(RequestError::InvalidHost),
    }
}

fn skip_empty_lines(buf: &[u8]) -> Result<usize, RequestError> {
    let mut skipped = 0;
    while buf[skipped..].starts_with(b"\r\n") {
        skipped += 2;
        if skipped > 2 * MAX_EMPTY_LINES {
            return Err(RequestError::TooManyEmptyLines);
        }
    }
    match buf[skipped..] {
        [b'\n', ..] => Err(HeadError::InvalidLineEnd.into()),
        _ => Ok(skipped),
    }
}

fn parser_error(error: httparse::Error, has_method: bool, bytes: &[u8]) -> RequestError {
    if let Some(error) = HeadError::from_parser(error) {
        return error.into();
    }
    match error {
        httparse::Error::Version if names_a_version(bytes) => RequestError::UnsupportedVersion,
        httparse::Error::Token if !has_method => RequestError::InvalidMethod,
        _ => RequestError::InvalidRequestLine,
    }
}

/// Whether the third word of the request line is a version of HTTP at all.
fn names_a_version(bytes: &[u8]) -> bool {
    let third = bytes.split(|byte| *byte == b' ').nth(2).unwrap_or_default();
    matches!(third, [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', ..])
}

#[cfg(test)]
mod tests;
