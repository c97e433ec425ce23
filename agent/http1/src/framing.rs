//! How long a body is, from `Content-Length` and `Transfer-Encoding` (RFC 9112 §6).

use crate::fields::{list_elements, parse_decimal};
use crate::head::Version;
use crate::write::is_field_name;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyLength {
    /// There is no body, and no field says anything about its length that matters.
    Empty,
    /// `Content-Length`: this many bytes; may be 0.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// All bytes until the peer closes; responses only.
    UntilClose,
}

impl BodyLength {
    /// Returns whether no byte follows the head.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::Empty | Self::Length(0))
    }
}

/// Why the framing of a message was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FramingError {
    /// Not a decimal number that fits 64 bits, or a list with an element that is none.
    #[error("invalid `content-length`: expected one decimal number below 2^64")]
    InvalidContentLength,
    /// Two `Content-Length` values, equal ones included: recipients differ in what they make of them.
    #[error("several values of `content-length`: expected one")]
    SeveralContentLengths,
    /// The classic of request smuggling: one recipient follows the one field, the next the other.
    #[error("both `content-length` and `transfer-encoding`: expected one of them")]
    LengthAndTransferEncoding,
    /// An element of `Transfer-Encoding` that is no coding name, or none at all.
    #[error("invalid `transfer-encoding`: expected `chunked`")]
    InvalidTransferEncoding,
    /// `chunked` is missing, is not the last coding or comes twice, so the end of the body cannot be known.
    #[error("`transfer-encoding` does not end in one `chunked`")]
    ChunkedNotLast,
    /// A coding other than `chunked`.
    #[error("unknown coding in `transfer-encoding`: expected only `chunked`")]
    UnknownTransferCoding,
    /// RFC 9112 §6.1: such a message must be treated as wrongly framed.
    #[error("`transfer-encoding` in an HTTP/1.0 message: expected `content-length`")]
    TransferEncodingInHttp10,
    /// A message that cannot have a body announces one: `CONNECT`, 1xx, 204.
    #[error("body announced where none is allowed")]
    BodyNotAllowed,
}

impl FramingError {
    pub(crate) fn status(self) -> u16 {
        if self == Self::UnknownTransferCoding { 501 } else { 400 }
    }
}

/// Gathers the two framing fields over all their lines.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Framing {
    content_length: Option<u64>,
    has_transfer_encoding: bool,
    chunked: bool,
    has_unknown_coding: bool,
}

impl Framing {
    /// Takes one `Content-Length` line. Of equal repeated values RFC 9110 §8.6 lets a recipient refuse the message or
    /// make one of them; as in Envoy it is refused.
    pub(crate) fn content_length(&mut self, value: &[u8]) -> Result<(), FramingError> {
        for element in list_elements(value) {
            let length = parse_decimal(element).ok_or(FramingError::InvalidContentLength)?;
            if self.content_length.replace(length).is_some() {
                return Err(FramingError::SeveralContentLengths);
            }
        }
        Ok(())
    }

    /// Takes one `Transfer-Encoding` line. Empty list elements are refused too: they serve only to disagree on.
    pub(crate) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), FramingError> {
        self.has_transfer_encoding = true;
        for coding in list_elements(value) {
            if self.chunked {
                return Err(FramingError::ChunkedNotLast);
            }
            if coding.eq_ignore_ascii_case(b"chunked") {
                self.chunked = true;
            } else if is_field_name(coding) {
                self.has_unknown_coding = true;
            } else {
                return Err(FramingError::InvalidTransferEncoding);
            }
        }
        Ok(())
    }

    /// Returns what both fields say together, or `None` when neither is there.
    ///
    /// A response whose last coding is not `chunked` could be read until close (RFC 9112 §6.3), but the coding would
    /// be lost when it is framed anew, and nobody asked for it: `TE` is never sent. So it is refused as in a request.
    pub(crate) fn body_length(self, version: Version) -> Result<Option<BodyLength>, FramingError> {
        if !self.has_transfer_encoding {
            return Ok(self.content_length.map(BodyLength::Length));
        }
        if self.content_length.is_some() {
            return Err(FramingError::LengthAndTransferEncoding);
        }
        if version == Version::Http10 {
            return Err(FramingError::TransferEncodingInHttp10);
        }
        match (self.chunked, self.has_unknown_coding) {
            (false, false) => Err(FramingError::ChunkedNotLast),
            (_, true) => Err(FramingError::UnknownTransferCoding),
            (true, false) => Ok(Some(BodyLength::Chunked)),
        }
    }

    /// Refuses a message that announces a body although it cannot have one. `Content-Length: 0` is harmless.
    pub(crate) fn require_no_body(self) -> Result<(), FramingError> {
        let announced = self.has_transfer_encoding || self.content_length.is_some_and(|length| length > 0);
        if announced { Err(FramingError::BodyNotAllowed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(values: &[&str]) -> Result<Option<BodyLength>, FramingError> {
        let mut framing = Framing::default();
        values.iter().try_for_each(|value| framing.content_length(value.as_bytes()))?;
        framing.body_length(Version::Http11)
    }

    fn codings(values: &[&str]) -> Result<Option<BodyLength>, FramingError> {
        let mut framing = Framing::default();
        values.iter().try_for_each(|value| framing.transfer_encoding(value.as_bytes()))?;
        framing.body_length(Version::Http11)
    }

    #[test]
    fn content_length_is_decimal_digits() {
        assert_eq!(length(&["0"]), Ok(Some(BodyLength::Length(0))));
        assert_eq!(length(&["0005"]), Ok(Some(BodyLength::Length(5))));
        assert_eq!(length(&["18446744073709551615"]), Ok(Some(BodyLength::Length(u64::MAX))));
    }

    #[test]
    fn content_length_that_is_no_number_is_refused() {
        for value in [
            "",
            "+5",
            "-5",
            "5a",
            "0x5",
            "5 5",
            "5;",
            "5.0",
            ",5",
            "5,",
            "18446744073709551616",
            "99999999999999999999",
            "\u{b2}",
        ] {
            assert_eq!(length(&[value]), Err(FramingError::InvalidContentLength), "{value:?}");
        }
    }

    #[test]
    fn several_content_lengths_are_refused() {
        for values in [&["5", "6"][..], &["5, 6"], &["5", "5"], &["5, 5"], &["5,\t05 "]] {
            assert_eq!(length(values), Err(FramingError::SeveralContentLengths), "{values:?}");
        }
    }

    #[test]
    fn chunked_alone_is_the_one_transfer_encoding() {
        assert_eq!(codings(&["chunked"]), Ok(Some(BodyLength::Chunked)));
        assert_eq!(codings(&["ChunKed"]), Ok(Some(BodyLength::Chunked)));
    }

    #[test]
    fn chunked_that_is_not_last_is_refused() {
        for values in [&["chunked, gzip"][..], &["chunked", "identity"], &["chunked, chunked"]] {
            assert_eq!(codings(values), Err(FramingError::ChunkedNotLast), "{values:?}");
        }
        assert_eq!(codings(&["chunked", "chunked"]), Err(FramingError::ChunkedNotLast));
        assert_eq!(codings(&["chunked,"]), Err(FramingError::ChunkedNotLast));
    }

    #[test]
    fn unknown_coding_is_refused() {
        assert_eq!(codings(&["gzip, chunked"]), Err(FramingError::UnknownTransferCoding));
        assert_eq!(codings(&["gzip", "chunked"]), Err(FramingError::UnknownTransferCoding));
        for values in [&["xchunked, chunked"], &["gzip"], &["identity"]] {
            assert_eq!(codings(values), Err(FramingError::UnknownTransferCoding), "{values:?}");
        }
    }

    #[test]
    fn coding_that_is_no_token_is_refused() {
        for value in ["", ",chunked", "\"chunked\"", "chunked;q=1", "chunked chunked", "chunked\u{a0}"] {
            assert_eq!(codings(&[value]), Err(FramingError::InvalidTransferEncoding), "{value:?}");
        }
    }
}
