//! What requests and responses share: limits, header slots, finding the end of a head, and its line ends.

use std::mem::MaybeUninit;

use httparse::Header;
use memchr::memchr_iter;

use crate::bounds;

/// What a head may cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of a whole head: start line, fields and the empty line after them. Envoy's default is 60 KiB
    /// (`max_request_headers_kb`).
    pub head_bytes: usize,
    /// Fields of a head. Envoy's default is 100 (`max_headers_count`); for more than that, parsing allocates.
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes: bounds::HEAD_BYTES, fields: bounds::HEAD_FIELDS }
    }
}

/// Room for the fields of one head, left uninitialised: making one costs nothing.
///
/// It is 3 KiB large, so it belongs on the stack of a function that does not await.
pub struct HeaderSlots<'b> {
    slots: [MaybeUninit<Header<'b>>; bounds::HEAD_FIELDS],
    /// Made where a limit is higher.
    more: Vec<MaybeUninit<Header<'b>>>,
}

impl<'b> HeaderSlots<'b> {
    /// Returns empty slots.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: [MaybeUninit::uninit(); bounds::HEAD_FIELDS], more: Vec::new() }
    }

    #[inline]
    pub(crate) fn for_fields(&mut self, limit: usize) -> &mut [MaybeUninit<Header<'b>>] {
        if let Some(slots) = self.slots.get_mut(..limit) {
            return slots;
        }
        self.more.resize_with(limit, MaybeUninit::uninit);
        &mut self.more
    }
}

impl Default for HeaderSlots<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// The versions this codec speaks. Others are answered with 505.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// HTTP/1.0: closes after one exchange unless `keep-alive` is agreed on, knows neither chunks nor `Expect`.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    /// The version as it stands in a start line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }

    /// From httparse's minor version, which is 0 or 1.
    #[inline]
    pub(crate) fn from_minor(minor: Option<u8>) -> Self {
        if minor == Some(0) { Self::Http10 } else { Self::Http11 }
    }
}

/// Remembers how far a growing buffer was searched for the end of its head, so that a head which drips in byte by byte
/// costs linear time.
///
/// Start a new one for every head.
#[derive(Clone, Debug, Default)]
pub struct HeadEnd {
    searched: usize,
    attempted: usize,
}

impl HeadEnd {
    /// Returns whether the head in `buf` is worth parsing now.
    ///
    /// That is so when an empty line has come, when the buffer has reached the limit (parsing then refuses it), and
    /// whenever the buffer has doubled since it was last said to be: bytes that are not HTTP are so refused early
    /// instead of being waited for, at a cost that stays linear. Never is the same buffer worth it twice, so that who
    /// parses an incomplete head goes on to read. `buf` must hold the same bytes as before, and perhaps more.
    pub fn find(&mut self, buf: &[u8], limits: &Limits) -> bool {
        if buf.len() <= self.attempted {
            return false;
        }
        // What arrives first is parsed whatever it is, so nothing is searched.
        let first = self.attempted == 0;
        let worth =
            first || self.advance(buf) || buf.len() >= limits.head_bytes || buf.len() >= 2 * self.attempted;
        if worth {
            self.attempted = buf.len();
        }
        worth
    }

    /// Searches on from where it stopped for a line end that is followed by another one.
    fn advance(&mut self, buf: &[u8]) -> bool {
        // Most heads come whole, and nothing with them.
        if buf.ends_with(b"\r\n\r\n") {
            self.searched = buf.len() - 2;
            return true;
        }
        let from = self.searched.min(buf.len());
        for line_end in memchr_iter(b'\n', &buf[from..]).map(|at| from + at) {
            match buf[line_end + 1..] {
                [] | [b'\r'] => {
                    self.searched = line_end;
                    return false;
                }
                [b'\n', ..] | [b'\r', b'\n', ..] => {
                    self.searched = line_end + 1;
                    return true;
                }
                _ => {}
            }
        }
        self.searched = buf.len();
        false
    }
}

/// Why the head of a request or response was refused, whatever it says.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HeadError {
    /// The head did not end within [`Limits::head_bytes`].
    #[error("head is longer than its limit: expected fewer or shorter header fields")]
    TooLarge,
    /// More than [`Limits::fields`].
    #[error("head has more header fields than its limit")]
    TooManyHeaders,
    /// More names of other fields in `Connection` than any client sends.
    #[error("field `connection` names too many other fields: expected at most {}", bounds::CONNECTION_NAMES)]
    TooManyConnectionNames,
    /// A field name that is not a token: also a folded line, and a space before the colon (RFC 9112 §5.1, §5.2).
    #[error("invalid header field name: expected a token directly followed by `:`")]
    InvalidName,
    /// A control character in a field value.
    #[error("invalid header field value: expected no control characters but tab")]
    InvalidValue,
    /// A line that ends with LF alone, or a CR without LF (RFC 9112 §2.2).
    #[error("invalid line end: expected CR LF")]
    InvalidLineEnd,
}

impl HeadError {
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::TooLarge | Self::TooManyHeaders => 431,
            _ => 400,
        }
    }

    /// The errors of httparse that mean the same in requests and responses.
    pub(crate) fn from_parser(error: httparse::Error) -> Option<Self> {
        match error {
            httparse::Error::HeaderName => Some(Self::InvalidName),
            httparse::Error::HeaderValue => Some(Self::InvalidValue),
            httparse::Error::NewLine => Some(Self::InvalidLineEnd),
            httparse::Error::TooManyHeaders => Some(Self::TooManyHeaders),
            httparse::Error::Status | httparse::Error::Token | httparse::Error::Version => None,
        }
    }
}

/// What parsing an incomplete head returns: more bytes are wanted unless they could not fit any more.
pub(crate) fn incomplete(buf: &[u8], limits: &Limits) -> Result<(), HeadError> {
    if buf.len() >= limits.head_bytes { Err(HeadError::TooLarge) } else { Ok(()) }
}

/// httparse takes a LF alone as a line end. Where one recipient sees a line end and another does not, fields can be
/// hidden; so every LF of a head must follow a CR. (A CR without LF is already refused by httparse.)
pub(crate) fn check_line_ends(head: &[u8]) -> Result<(), HeadError> {
    // A line is short, so that looking at every byte, many at a time, is cheaper than finding one end after the other.
    let following = head.get(1..).unwrap_or_default();
    let bare = head
        .iter()
        .zip(following)
        .fold(false, |bare, (before, byte)| bare | ((*byte == b'\n') & (*before != b'\r')));
    if bare || head.first() == Some(&b'\n') { Err(HeadError::InvalidLineEnd) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { head_bytes: 4096, fields: 100 };

    /// Feeds `bytes` one by one and returns the lengths at which parsing was called for.
    fn lengths_worth_parsing(bytes: &[u8]) -> Vec<usize> {
        let mut end = HeadEnd::default();
        (0..=bytes.len()).filter(|len| end.find(&bytes[..*len], &LIMITS)).collect()
    }

    #[test]
    fn head_that_drips_in_is_parsed_when_it_doubles_and_when_it_ends() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(lengths_worth_parsing(head), [1, 2, 4, 8, 16, head.len()]);
    }

    #[test]
    fn whole_head_is_worth_parsing_at_once() {
        assert!(HeadEnd::default().find(b"GET / HTTP/1.1\r\n\r\n", &LIMITS));
    }

    #[test]
    fn empty_buffer_is_not_worth_parsing() {
        assert!(!HeadEnd::default().find(b"", &LIMITS));
    }

    #[test]
    fn end_with_bare_line_feeds_is_found_so_that_it_can_be_refused() {
        for head in [&b"GET / HTTP/1.1\nhost: a\n\n"[..], b"GET / HTTP/1.1\r\nhost: a\n\r\n"] {
            assert_eq!(lengths_worth_parsing(head).last(), Some(&head.len()));
        }
    }

    #[test]
    fn empty_lines_before_a_head_do_not_hide_its_end() {
        let head = b"\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(lengths_worth_parsing(head), [1, 2, 4, 6, 12, 24, head.len()]);
    }

    #[test]
    fn same_bytes_are_worth_parsing_once() {
        for bytes in [&b"\r\n\r\n"[..], b"\r\n\r\n\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"a"] {
            let mut end = HeadEnd::default();
            assert!(end.find(bytes, &LIMITS), "{}", bytes.escape_ascii());
            assert!(!end.find(bytes, &LIMITS), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn buffer_at_its_limit_is_worth_parsing() {
        let mut end = HeadEnd::default();
        let buf = [b'a'; 4096];
        assert!(end.find(&buf[..4000], &LIMITS));
        assert!(!end.find(&buf[..4095], &LIMITS));
        assert!(end.find(&buf, &LIMITS));
    }
}
