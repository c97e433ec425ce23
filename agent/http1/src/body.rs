//! Bodies: which of the bytes after a head are data, and where the body ends (RFC 9112 §6, §7.1).

use std::ops::Range;

use crate::{bounds, framing::BodyLength};
use trailer::Trailer;

mod trailer;

/// Hexadecimal digits of a chunk size: 64 bits, leading zeros included.
const MAX_SIZE_DIGITS: u8 = 16;

/// Takes the framing off a body, a buffer at a time.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    /// Extension bytes so far that no data has made up for.
    extension_excess: u64,
}

/// What one call of [`BodyDecoder::decode`] found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Decoded {
    /// Bytes of the buffer that are done with once `data` was taken; not less than `data.end`.
    pub consumed: usize,
    /// Where in the buffer the data is; empty when there was only framing.
    pub data: Range<usize>,
    /// Whether the body ended. What follows `consumed` belongs to the next message.
    pub done: bool,
}

/// Why a body was refused. The message cannot be saved: close both sides.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// A chunk size that is not 1–16 hexadecimal digits, or is followed by anything but an extension or a line end.
    #[error("invalid chunk size: expected 1–{MAX_SIZE_DIGITS} hexadecimal digits")]
    InvalidChunkSize,
    /// A control character in a chunk extension.
    #[error("invalid chunk extension: expected no control characters but tab")]
    InvalidExtension,
    /// A line that does not end in CR LF, or chunk data that is longer than its size.
    #[error("invalid line end in chunked body: expected CR LF")]
    InvalidLineEnd,
    /// More bytes of chunk extensions than of data.
    #[error("chunk extensions outweigh the data")]
    TooManyExtensions,
    /// A trailer that is not a field.
    #[error("invalid trailer: expected a header field")]
    InvalidTrailer,
    /// Too many trailer fields or too many bytes of them.
    #[error(
        "trailers are longer than their limit: expected at most {} fields and {} bytes",
        bounds::TRAILERS,
        bounds::TRAILER_BYTES
    )]
    TooManyTrailers,
    /// The peer closed before the end of the body.
    #[error("body ended early: expected more bytes")]
    Truncated,
}

impl BodyError {
    /// The status to answer a client with whose body this was, if no answer was begun. Towards a server it is 502.
    #[must_use]
    pub const fn status(self) -> u16 {
        400
    }
}

impl BodyDecoder {
    /// Returns a decoder for a body that ends as `length` says.
    #[must_use]
    pub const fn new(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::Empty | BodyLength::Length(0) => State::Done,
            BodyLength::Length(remaining) => State::Length { remaining },
            BodyLength::Chunked => State::Size { size: 0, digits: 0 },
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { state, extension_excess: 0 }
    }

    /// Decodes `buf` up to the end of its first piece of data and the framing behind it.
    ///
    /// Unless the body is done, call again with `buf[consumed..]` until nothing is consumed, then with more bytes.
    /// Everything but data is dropped: chunk sizes, extensions, trailers.
    ///
    /// # Errors
    ///
    /// The first rule the framing breaks. Data returned by earlier calls is valid; do not call again.
    pub fn decode(&mut self, buf: &[u8]) -> Result<Decoded, BodyError> {
        let mut decoded = Decoded::default();
        while let Some(rest) = buf.get(decoded.consumed..).filter(|rest| !rest.is_empty()) {
            if let Some(wanted) = self.wanted_data() {
                if !decoded.data.is_empty() {
                    break;
                }
                let len = usize::try_from(wanted).unwrap_or(usize::MAX).min(rest.len());
                decoded.data = decoded.consumed..decoded.consumed + len;
                decoded.consumed += len;
                self.take_data(len as u64);
            } else if self.is_done() {
                break;
            } else {
                match self.take_framing(rest[0]) {
                    Ok(()) => decoded.consumed += 1,
                    // The data before it is valid. The bad byte is met again at the next call.
                    Err(_) if !decoded.data.is_empty() => break,
                    Err(error) => return Err(error),
                }
            }
        }
        decoded.done = self.is_done();
        Ok(decoded)
    }

    /// Returns whether the body has ended.
    #[inline]
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes of data that certainly follow without any framing between them: the rest of a body of known length or of
    /// the current chunk. 0 when framing comes next or the length is not known.
    #[must_use]
    pub const fn contiguous(&self) -> u64 {
        match self.state {
            State::Length { remaining } | State::Data { remaining } => remaining,
            _ => 0,
        }
    }

    /// Tells the decoder that the peer sends no more.
    ///
    /// # Errors
    ///
    /// [`BodyError::Truncated`] unless the body had ended or this is how it ends.
    pub fn end_of_input(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyError::Truncated),
        }
    }

    /// How many bytes of data may come next, if data comes next.
    fn wanted_data(&self) -> Option<u64> {
        match self.state {
            State::Length { remaining } | State::Data { remaining } => Some(remaining),
            State::UntilClose => Some(u64::MAX),
            _ => None,
        }
    }

    fn take_data(&mut self, len: u64) {
        match &mut self.state {
            State::Length { remaining } => {
                *remaining -= len;
                if *remaining == 0 {
                    self.state = State::Done;
                }
            }
            State::Data { remaining } => {
                self.extension_excess = self.extension_excess.saturating_sub(len);
                *remaining -= len;
                if *remaining == 0 {
                    self.state = State::DataCr;
                }
            }
            _ => {}
        }
    }

    /// Moves on by one byte of chunked framing.
    fn take_framing(&mut self, byte: u8) -> Result<(), BodyError> {
        self.state = match self.state {
            State::Size { size, digits } => size_byte(size, digits, byte)?,
            State::BeforeExtension { size } => self.extension_space(size, byte)?,
            State::Extension { size } => self.extension_byte(size, byte)?,
            State::SizeLf { size } => after_line_feed(byte, after_size(size))?,
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataCr => return Err(BodyError::InvalidLineEnd),
            State::DataLf => after_line_feed(byte, State::Size { size: 0, digits: 0 })?,
            State::Trailer(trailer) => trailer.take(byte)?,
            other @ (State::Length { .. } | State::Data { .. } | State::UntilClose | State::Done) => other,
        };
        Ok(())
    }

    /// RFC 9112 §7.1.1 has whitespace after a size only before an extension; servers that pad their sizes exist, and what
    /// goes on is framed anew.
    fn extension_space(&mut self, size: u64, byte: u8) -> Result<State, BodyError> {
        self.count_extension_byte()?;
        match byte {
            b' ' | b'\t' => Ok(State::BeforeExtension { size }),
            b';' => Ok(State::Extension { size }),
            b'\r' => Ok(State::SizeLf { size }),
            _ => Err(BodyError::InvalidChunkSize),
        }
    }

    fn extension_byte(&mut self, size: u64, byte: u8) -> Result<State, BodyError> {
        match byte {
            b'\r' => Ok(State::SizeLf { size }),
            b'\n' => Err(BodyError::InvalidLineEnd),
            _ if is_text(byte) => self.count_extension_byte().map(|()| State::Extension { size }),
            _ => Err(BodyError::InvalidExtension),
        }
    }

    fn count_extension_byte(&mut self) -> Result<(), BodyError> {
        self.extension_excess += 1;
        if self.extension_excess > bounds::EXTENSION_EXCESS {
            Err(BodyError::TooManyExtensions)
        } else {
            Ok(())
        }
    }
}

/// Where in a body the decoder stands. The names say what is expected next.
#[derive(Clone, Copy, Debug)]
enum State {
    Length { remaining: u64 },
    UntilClose,
    Size { size: u64, digits: u8 },
    BeforeExtension { size: u64 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data { remaining: u64 },
    DataCr,
    DataLf,
    Trailer(Trailer),
    Done,
}

fn size_byte(size: u64, digits: u8, byte: u8) -> Result<State, BodyError> {
    if let Some(digit) = char::from(byte).to_digit(16) {
        if digits == MAX_SIZE_DIGITS {
            return Err(BodyError::InvalidChunkSize);
        }
        return Ok(State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 });
    }
    match byte {
        _ if digits == 0 => Err(BodyError::InvalidChunkSize),
        b'\r' => Ok(State::SizeLf { size }),
        b'\n' => Err(BodyError::InvalidLineEnd),
        b';' => Ok(State::Extension { size }),
        b' ' | b'\t' => Ok(State::BeforeExtension { size }),
        _ => Err(BodyError::InvalidChunkSize),
    }
}

fn after_size(size: u64) -> State {
    if size == 0 { State::Trailer(Trailer::default()) } else { State::Data { remaining: size } }
}

fn after_line_feed(byte: u8, next: State) -> Result<State, BodyError> {
    if byte == b'\n' { Ok(next) } else { Err(BodyError::InvalidLineEnd) }
}

/// A byte of text: visible, space, tab, or outside ASCII.
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=0x7e | 0x80..)
}

#[cfg(test)]
mod tests;
