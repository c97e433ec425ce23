//! One walk over the fields of a head: what they say about framing, the connection, the host and expectations.

use httparse::Header;

use crate::connection::{ConnectionOptions, idle_timeout};
use crate::framing::{Framing, FramingError};
use crate::head::HeadError;

/// What the fields of one head say, as far as the codec itself must know.
#[derive(Default)]
pub(crate) struct Fields<'b> {
    pub(crate) framing: Framing,
    pub(crate) connection: ConnectionOptions,
    /// Seconds, of `Keep-Alive`.
    pub(crate) idle_timeout: Option<u64>,
    pub(crate) host: Option<&'b [u8]>,
    pub(crate) several_hosts: bool,
    pub(crate) expect_continue: bool,
    pub(crate) upgrade: Option<&'b [u8]>,
}

/// The protocols that the client of a head would switch to, as [`Request::upgrade`](crate::Request::upgrade) names them
/// for HTTP/1.1; `None` also when the fields contradict each other.
#[must_use]
pub fn upgrade_offer<'b>(headers: &[Header<'b>]) -> Option<&'b str> {
    Fields::read(headers).ok()?.upgrade()
}

/// The two ways a walk over fields can fail.
pub(crate) enum FieldsError {
    Head(HeadError),
    Framing(FramingError),
}

impl<'b> Fields<'b> {
    /// Walks over `headers` once.
    #[inline]
    pub(crate) fn read(headers: &[Header<'b>]) -> Result<Self, FieldsError> {
        let mut fields = Self::default();
        for header in headers {
            fields.take(header.name.as_bytes(), header.value)?;
        }
        Ok(fields)
    }

    /// Names are told apart by length first: most fields cost one comparison of integers.
    #[inline]
    fn take(&mut self, name: &[u8], value: &'b [u8]) -> Result<(), FieldsError> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.several_hosts |= self.host.replace(value).is_some();
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expect_continue |= list_elements(value).any(|e| e.eq_ignore_ascii_case(b"100-continue"));
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade.get_or_insert(value);
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection.take(value).map_err(FieldsError::Head)?;
            }
            10 if name.eq_ignore_ascii_case(b"keep-alive") => self.idle_timeout = idle_timeout(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.framing.content_length(value).map_err(FieldsError::Framing)?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.framing.transfer_encoding(value).map_err(FieldsError::Framing)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The value of `Upgrade`, if `Connection` lists it; otherwise the field was not meant for us (RFC 9110 §7.8).
    pub(crate) fn upgrade(&self) -> Option<&'b str> {
        let value = self.upgrade.filter(|value| self.connection.upgrade && !value.is_empty())?;
        std::str::from_utf8(value).ok()
    }
}

/// The elements of a comma-separated value without the spaces and tabs around them; empty ones included.
#[inline]
pub(crate) fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

/// `text` without the spaces and tabs around it. Other whitespace is not optional whitespace in HTTP (RFC 9110 §5.6.3).
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Reads digits and nothing else; `None` when there are none, when anything else is there, or beyond 64 bits.
pub(crate) fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
