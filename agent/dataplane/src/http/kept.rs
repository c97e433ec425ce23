//! What has been sent of a request's body, kept for another try.

use std::{cell::Cell, rc::Rc};

use ::http::HeaderMap;

use crate::bounds;

/// The room that a worker's requests have for what they keep.
pub(crate) struct Room(Cell<usize>);

impl Default for Room {
    fn default() -> Self {
        Self(Cell::new(bounds::KEPT_BODIES))
    }
}

impl Room {
    /// Whether there was room for so many bytes; they are taken then.
    fn take(&self, count: usize) -> bool {
        let left = self.0.get().checked_sub(count);
        self.0.set(left.unwrap_or(self.0.get()));
        left.is_some()
    }
}

/// Bytes that take room while they are there.
struct Held {
    bytes: Vec<u8>,
    room: Rc<Room>,
}

impl Held {
    /// Adds bytes, unless there is no room for them.
    fn push(&mut self, more: &[u8]) -> bool {
        let fits = self.bytes.len() + more.len() <= bounds::KEPT_BODY && self.room.take(more.len());
        if fits {
            self.bytes.extend_from_slice(more);
        }
        fits
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.0.set(self.room.0.get() + self.bytes.len());
    }
}

/// The bytes that have left, in the framing they left in. Nothing is kept unless somebody asked for it.
#[derive(Default)]
pub(super) struct Kept {
    held: Option<Held>,
    trailers: Option<HeaderMap>,
    any: bool,
}

impl Kept {
    /// Keeps what is sent from now on, while there is room.
    pub(super) fn begin(&mut self, room: &Rc<Room>) {
        self.held = Some(Held { bytes: Vec::new(), room: Rc::clone(room) });
    }

    /// Keeps nothing any more: nobody will ask for it.
    pub(super) fn forget(&mut self) {
        self.held = None;
    }

    /// Takes note of bytes that have left.
    pub(super) fn note(&mut self, sent: &[u8]) {
        self.any |= !sent.is_empty();
        if self.held.as_mut().is_some_and(|held| !held.push(sent)) {
            self.forget();
        }
    }

    /// Takes note of trailers that have left.
    pub(super) fn note_trailers(&mut self, trailers: &HeaderMap) {
        self.any = true;
        if self.held.is_some() {
            self.trailers = Some(trailers.clone());
        }
    }

    /// Whether everything that has left can be sent again.
    pub(super) fn is_whole(&self) -> bool {
        !self.any || self.held.is_some()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.held.as_ref().map_or(&[], |held| &held.bytes)
    }

    pub(super) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_too_large_is_given_up_and_leaves_its_room_to_others() {
        let room = Rc::default();
        let mut kept = Kept::default();
        kept.begin(&room);
        kept.note(&[1; bounds::KEPT_BODY]);
        assert!(kept.is_whole());
        kept.note(&[1]);
        assert!(!kept.is_whole());
        assert_eq!((kept.bytes(), room.0.get()), (&[][..], bounds::KEPT_BODIES));
    }

    #[test]
    fn requests_together_keep_no_more_than_a_worker_has_room_for() {
        let room = Rc::default();
        let keep = || {
            let mut kept = Kept::default();
            kept.begin(&room);
            kept.note(&[1; bounds::KEPT_BODY]);
            kept
        };
        let mut all: Vec<_> = (0..bounds::KEPT_BODIES / bounds::KEPT_BODY).map(|_| keep()).collect();
        assert!(all.iter().all(Kept::is_whole));
        assert!(!keep().is_whole());
        // Who has nothing to keep can still be tried again.
        let mut empty = Kept::default();
        empty.begin(&room);
        assert!(empty.is_whole());
        all[0].forget();
        assert!(keep().is_whole());
        drop(all);
        assert_eq!(room.0.get(), bounds::KEPT_BODIES);
    }
}
