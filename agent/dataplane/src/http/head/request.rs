//! The head of a request as it goes to an endpoint: the client's fields, and what is added to them.

use ::http::{header::CONTENT_LENGTH, uri};
use h2::ext::Protocol;
use http1::BodyLength;
use snapshot::RequestHead;

use super::{Added, Changed, FieldSink};
use crate::http::{
    edits::RequestChanges,
    websocket::{self, Offer},
};

/// Appends the head of a request as it goes to an HTTP/1.1 upstream.
///
/// `changes` are the route's. `offer` is the protocol to offer, if the client asked for one that may be switched to.
pub(in crate::http) fn write_request_head(
    out: &mut Vec<u8>,
    request: &impl RequestHead,
    added: &Added,
    body: BodyLength,
    (changes, offer): (Option<&RequestChanges<'_>>, Option<Offer<'_>>),
) {
    http1::write_request_line(out, request.method(), new_path(request, changes));
    out.field("host", new_authority(request, changes).as_bytes());
    write_fields(out, request, (added, changes), |out| http1::write_framing(out, body));
    if let Some(Offer { protocol, key }) = offer {
        out.field("connection", b"upgrade");
        out.field("upgrade", protocol.as_bytes());
        if let Some(key) = key.filter(|_| request.header(websocket::KEY).is_none()) {
            out.field(websocket::KEY, key.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Puts another number into a field of a head that [`write_request_head`] has written. What follows the head, the first
/// bytes of the body, is never touched.
pub(in crate::http) fn replace_number(head: &mut Vec<u8>, name: &str, number: u64) {
    let place = |bytes: &[u8], wanted: &[u8]| bytes.windows(wanted.len()).position(|found| found == wanted);
    let end = place(head, b"\r\n\r\n").unwrap_or(head.len());
    let start = format!("\r\n{name}: ");
    let Some(found) = place(&head[..end], start.as_bytes()) else { return };
    let value = found + start.len();
    let len = head[value..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    head.splice(value..value + len, number.to_string().into_bytes());
}

/// The head of a request as it goes to an HTTP/2 upstream, or `None` when HTTP/2 cannot carry it. A protocol that is
/// offered is asked for as RFC 8441 has it.
pub(in crate::http) fn http2_request_head(
    request: &impl RequestHead,
    added: &Added,
    body: BodyLength,
    (changes, offer): (Option<&RequestChanges<'_>>, Option<Offer<'_>>),
) -> Option<::http::Request<()>> {
    let mut target = uri::Parts::default();
    target.scheme = Some(if added.scheme() == "https" { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
    target.authority = Some(new_authority(request, changes).parse().ok()?);
    target.path_and_query = Some(path_and_query(new_path(request, changes))?);
    let mut head = ::http::Request::new(());
    *head.method_mut() = match offer {
        Some(Offer { protocol, .. }) => {
            head.extensions_mut().insert(Protocol::from(protocol));
            ::http::Method::CONNECT
        }
        None => request.method().parse().ok()?,
    };
    *head.uri_mut() = ::http::Uri::from_parts(target).ok()?;
    *head.version_mut() = ::http::Version::HTTP_2;
    let fields = head.headers_mut();
    write_fields(fields, request, (added, changes), |fields| {
        if let BodyLength::Length(length) = body {
            fields.insert(CONTENT_LENGTH, length.into());
        }
    });
    Some(head)
}

/// As a URI has it: HTTP/1 clients send more, and normal forms leave queries alone.
fn path_and_query(text: &str) -> Option<uri::PathAndQuery> {
    let escaped = || {
        text.chars().fold(String::with_capacity(text.len()), |mut out, character| {
            match character {
                '"' => out.push_str("%22"),
                '<' => out.push_str("%3C"),
                '>' => out.push_str("%3E"),
                '`' => out.push_str("%60"),
                other => out.push(other),
            }
            out
        })
    };
    text.parse().ok().or_else(|| escaped().parse().ok())
}

fn new_path<'a>(request: &'a impl RequestHead, changes: Option<&'a RequestChanges<'_>>) -> &'a str {
    changes.and_then(RequestChanges::path).unwrap_or_else(|| request.path_and_query())
}

fn new_authority<'a>(request: &'a impl RequestHead, changes: Option<&'a RequestChanges<'_>>) -> &'a str {
    changes.and_then(RequestChanges::authority).unwrap_or_else(|| request.authority())
}

fn write_fields<S: FieldSink>(
    sink: &mut S,
    request: &impl RequestHead,
    (added, changes): (&Added, Option<&RequestChanges<'_>>),
    write_framing: impl FnOnce(&mut S),
) {
    let mut sink = Changed { sink, changed: changes.map(|changes| &changes.fields) };
    let has_scheme = added.write_received(&mut sink, request);
    write_framing(sink.sink);
    added.write_own(&mut sink, request, has_scheme);
    sink.finish();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::ATTEMPT_COUNT;

    #[test]
    fn attempts_are_counted_in_a_head_that_is_written_already() {
        let mut head = b"GET / HTTP/1.1\r\nx-envoy-attempt-count: 9\r\n\r\nx-envoy-attempt-count: 9".to_vec();
        replace_number(&mut head, ATTEMPT_COUNT, 10);
        assert_eq!(head, b"GET / HTTP/1.1\r\nx-envoy-attempt-count: 10\r\n\r\nx-envoy-attempt-count: 9");
    }

    #[test]
    fn a_body_that_looks_like_the_field_stays_as_it_is() {
        let written =
            b"POST / HTTP/1.1\r\ncontent-length: 30\r\n\r\n\r\nx-envoy-attempt-count: 00000\r\n".to_vec();
        let mut head = written.clone();
        replace_number(&mut head, ATTEMPT_COUNT, 2);
        assert_eq!(head, written);
    }
}
