//! The trailer section after the last chunk (RFC 9112 §7.1.2).

use super::{BodyError, State, is_text};
use crate::{bounds, write::is_token_byte};

/// The place in a trailer section. Trailers are checked like header fields, counted, and dropped.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trailer {
    place: TrailerPlace,
    fields: u8,
    bytes: u32,
}

#[derive(Clone, Copy, Debug, Default)]
enum TrailerPlace {
    #[default]
    LineStart,
    Name,
    Value,
    LineLf,
    LastLf,
}

impl Trailer {
    /// Moves on by one byte.
    pub(super) fn take(mut self, byte: u8) -> Result<State, BodyError> {
        self.bytes += 1;
        if self.bytes > bounds::TRAILER_BYTES {
            return Err(BodyError::TooManyTrailers);
        }
        self.place = match (self.place, byte) {
            (TrailerPlace::LineStart, b'\r') => TrailerPlace::LastLf,
            (TrailerPlace::LineStart, byte) if is_token_byte(byte) => self.begin_field()?,
            (TrailerPlace::Name, b':') => TrailerPlace::Value,
            (TrailerPlace::Name, byte) if is_token_byte(byte) => TrailerPlace::Name,
            (TrailerPlace::Value, b'\r') => TrailerPlace::LineLf,
            (TrailerPlace::Value, byte) if is_text(byte) => TrailerPlace::Value,
            (TrailerPlace::LineLf, b'\n') => TrailerPlace::LineStart,
            (TrailerPlace::LastLf, b'\n') => return Ok(State::Done),
            (TrailerPlace::LineLf | TrailerPlace::LastLf, _) | (_, b'\n') => {
                return Err(BodyError::InvalidLineEnd);
            }
            _ => return Err(BodyError::InvalidTrailer),
        };
        Ok(State::Trailer(self))
    }

    fn begin_field(&mut self) -> Result<TrailerPlace, BodyError> {
        self.fields += 1;
        if self.fields > bounds::TRAILERS { Err(BodyError::TooManyTrailers) } else { Ok(TrailerPlace::Name) }
    }
}
