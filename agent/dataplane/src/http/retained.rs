//! What has been sent of a request's body, kept for another try.

use std::{cell::Cell, rc::Rc};

use ::http::HeaderMap;

use crate::bounds;

/// The room that a worker has for bodies it holds: those of requests that may be sent again, and copies for mirrors.
pub(crate) struct BodyBudget {
    left: Cell<usize>,
    /// What copies leave to others.
    reserved: usize,
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self::new(bounds::HELD_BODIES)
    }
}

impl BodyBudget {
    /// Room for so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { left: Cell::new(bytes), reserved: bytes / 2 }
    }

    /// Room for something that is to be sent again, nothing yet.
    fn reserve(self: &Rc<Self>) -> Reservation {
        Reservation { bytes: 0, budget: Rc::clone(self) }
    }

    /// Room for a copy, if there is any. It leaves half of all to requests: a mirror that does not answer must not take
    /// another try from them.
    pub(super) fn reserve_copy(self: &Rc<Self>, bytes: usize) -> Option<Reservation> {
        let left = self.left.get().checked_sub(bytes).filter(|left| *left >= self.reserved)?;
        self.left.set(left);
        Some(Reservation { bytes, budget: Rc::clone(self) })
    }
}

/// Room that somebody has taken.
pub(super) struct Reservation {
    bytes: usize,
    budget: Rc<BodyBudget>,
}

impl Reservation {
    /// Whether there was room for so many bytes more; they are taken then.
    fn grow(&mut self, bytes: usize) -> bool {
        let Some(left) = self.budget.left.get().checked_sub(bytes) else { return false };
        self.budget.left.set(left);
        self.bytes += bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.left.set(self.budget.left.get() + self.bytes);
    }
}

/// Bytes that take room while they are there.
struct Held {
    bytes: Vec<u8>,
    reservation: Reservation,
}

impl Held {
    /// Adds bytes, unless there is no room for them.
    fn push(&mut self, more: &[u8]) -> bool {
        let fits = self.bytes.len() + more.len() <= bounds::KEPT_BODY && self.reservation.grow(more.len());
        if fits {
            self.bytes.extend_from_slice(more);
        }
        fits
    }
}

/// The bytes that have left, in the framing they left in. Nothing is kept unless somebody asked for it.
#[derive(Default)]
pub(super) struct RetainedBody {
    held: Option<Held>,
    trailers: Option<HeaderMap>,
    any: bool,
}

impl RetainedBody {
    /// Keeps what is sent from now on, while there is room.
    pub(super) fn begin(&mut self, budget: &Rc<BodyBudget>) {
        self.held = Some(Held { bytes: Vec::new(), reservation: budget.reserve() });
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
        let budget = Rc::default();
        let mut kept = RetainedBody::default();
        kept.begin(&budget);
        kept.note(&[1; bounds::KEPT_BODY]);
        assert!(kept.is_whole());
        kept.note(&[1]);
        assert!(!kept.is_whole());
        assert_eq!((kept.bytes(), budget.left.get()), (&[][..], bounds::HELD_BODIES));
    }

    #[test]
    fn copies_take_no_other_try_from_requests() {
        let budget = Rc::default();
        let copies: Vec<_> =
            std::iter::from_fn(|| BodyBudget::reserve_copy(&budget, bounds::KEPT_BODY)).collect();
        assert_eq!(copies.len(), bounds::HELD_BODIES / bounds::KEPT_BODY / 2);
        let mut kept = RetainedBody::default();
        kept.begin(&budget);
        kept.note(&[1; bounds::KEPT_BODY]);
        assert!(kept.is_whole());
        drop((copies, kept));
        assert_eq!(budget.left.get(), bounds::HELD_BODIES);
    }

    #[test]
    fn requests_together_keep_no_more_than_a_worker_has_room_for() {
        let budget = Rc::default();
        let keep = || {
            let mut kept = RetainedBody::default();
            kept.begin(&budget);
            kept.note(&[1; bounds::KEPT_BODY]);
            kept
        };
        let mut all: Vec<_> = (0..bounds::HELD_BODIES / bounds::KEPT_BODY).map(|_| keep()).collect();
        assert!(all.iter().all(RetainedBody::is_whole));
        assert!(!keep().is_whole());
        // Who has nothing to keep can still be tried again.
        let mut empty = RetainedBody::default();
        empty.begin(&budget);
        assert!(empty.is_whole());
        all[0].forget();
        assert!(keep().is_whole());
        drop(all);
        assert_eq!(budget.left.get(), bounds::HELD_BODIES);
    }
}
