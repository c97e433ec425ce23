//! Writing heads and chunks. Everything is appended to a vector the caller reuses, so nothing is allocated once it has
//! grown to its size.
//!
//! Names and values are written as they are. Those of a parsed head are valid; for others ask [`is_field_name`] and
//! [`is_field_value`] when they are taken in, not for every message.

use crate::framing::BodyLength;

/// Appends `HTTP/1.1`, `status` and its usual reason. `status` has three digits.
pub fn write_status_line(out: &mut Vec<u8>, status: u16) {
    debug_assert!((100..1000).contains(&status), "status {status} has not three digits");
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a request line for HTTP/1.1. `target` is a path and query, `*` or, for `CONNECT`, an authority.
pub fn write_request_line(out: &mut Vec<u8>, method: &str, target: &str) {
    debug_assert!(is_field_name(method.as_bytes()), "method is no token");
    debug_assert!(
        !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic()),
        "target is no URI"
    );
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends one header field. End the head with an empty line, `\r\n`.
#[inline]
pub fn write_header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(is_field_name(name), "field name is no token");
    debug_assert!(is_field_value(value), "field value holds control characters");
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the field that announces a body: `content-length`, `transfer-encoding: chunked`, or nothing for a body that
/// is absent or ends with the connection.
pub fn write_framing(out: &mut Vec<u8>, body: BodyLength) {
    match body {
        BodyLength::Length(length) => write_content_length(out, length),
        BodyLength::Chunked => write_header(out, b"transfer-encoding", b"chunked"),
        BodyLength::Empty | BodyLength::UntilClose => {}
    }
}

/// Appends `content-length`.
pub fn write_content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    write_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Appends `number` in decimal digits.
pub fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// The line before the data of a chunk; after the data goes `\r\n`.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHead {
    bytes: [u8; 18],
    start: usize,
}

impl AsRef<[u8]> for ChunkHead {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Returns the line before a chunk of `len` bytes, for writing head, data and line end in one vectored write.
///
/// `len` is not 0: that would end the body. Use [`write_last_chunk`] for that.
#[must_use]
pub fn chunk_head(len: usize) -> ChunkHead {
    debug_assert!(len > 0, "an empty chunk ends the body");
    let mut bytes = *b"0000000000000000\r\n";
    let mut start = 16;
    let mut rest = len;
    while rest > 0 {
        start -= 1;
        bytes[start] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
    }
    ChunkHead { bytes, start }
}

/// Appends `data` as one chunk; nothing when it is empty, for an empty chunk would end the body.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        out.extend_from_slice(chunk_head(data.len()).as_ref());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the end of a chunked body, without trailers.
pub fn write_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

/// Returns whether `name` is a token, as field names, methods and codings must be (RFC 9110 §5.6.2).
#[must_use]
pub fn is_field_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte))
}

/// Returns whether `value` can be the value of a field: no control characters but tab, no whitespace around it.
#[must_use]
pub fn is_field_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !blank(value.first())
        && !blank(value.last())
        && value.iter().all(|byte| matches!(byte, b'\t' | b' '..=0x7e | 0x80..))
}

pub(crate) fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9'
        | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Returns the reason registered for `status`; empty when there is none.
#[must_use]
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn status_line_has_the_registered_reason_or_none() {
        assert_eq!(written(|out| write_status_line(out, 200)), "HTTP/1.1 200 OK\r\n");
        assert_eq!(written(|out| write_status_line(out, 299)), "HTTP/1.1 299 \r\n");
    }

    #[test]
    fn request_line_has_one_space_between_its_parts() {
        assert_eq!(written(|out| write_request_line(out, "GET", "/a?b")), "GET /a?b HTTP/1.1\r\n");
    }

    #[test]
    fn framing_is_announced_by_one_field_or_none() {
        assert_eq!(written(|out| write_framing(out, BodyLength::Length(0))), "content-length: 0\r\n");
        assert_eq!(
            written(|out| write_framing(out, BodyLength::Length(u64::MAX))),
            "content-length: 18446744073709551615\r\n"
        );
        assert_eq!(written(|out| write_framing(out, BodyLength::Chunked)), "transfer-encoding: chunked\r\n");
        assert_eq!(written(|out| write_framing(out, BodyLength::Empty)), "");
        assert_eq!(written(|out| write_framing(out, BodyLength::UntilClose)), "");
    }

    #[test]
    fn chunk_size_is_hexadecimal() {
        for (len, head) in [
            (1, "1\r\n"),
            (15, "f\r\n"),
            (16, "10\r\n"),
            (0xabc, "abc\r\n"),
            (usize::MAX, "ffffffffffffffff\r\n"),
        ] {
            assert_eq!(chunk_head(len).as_ref(), head.as_bytes());
        }
    }

    #[test]
    fn empty_data_does_not_end_a_chunked_body() {
        assert_eq!(written(|out| write_chunk(out, b"")), "");
        assert_eq!(written(|out| write_chunk(out, b"ab")), "2\r\nab\r\n");
        assert_eq!(written(write_last_chunk), "0\r\n\r\n");
    }

    #[test]
    fn field_names_are_tokens_and_values_hold_no_control_characters() {
        assert!(
            is_field_name(b"x-A_1!")
                && !is_field_name(b"")
                && !is_field_name(b"a b")
                && !is_field_name(b"a:")
        );
        assert!(is_field_value(b"") && is_field_value(b"a\tb \xe9") && is_field_value(b"a"));
        for value in [&b"a\r\nb"[..], b"a\0", b"\x7f", b" a", b"a\t"] {
            assert!(!is_field_value(value), "{value:?}");
        }
    }
}
