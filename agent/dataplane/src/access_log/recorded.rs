//! What lines show of heads and trailers, which are gone when the line is written.

use std::net::SocketAddr;

use super::{Slot, Wanted};

/// Fields that lines show, copied out of heads and trailers before these are gone.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    text: Vec<u8>,
    /// Ends of the fields within `text`, by slot: those of the request, of the answer, of its trailers.
    ends: Vec<u32>,
    /// Where the fields of the answer and of the trailers begin.
    answer: usize,
    trailers: usize,
    protocol: &'static str,
    client: Option<SocketAddr>,
}

impl Recorded {
    /// Starts over, keeping the memory. `protocol` is `HTTP/1.1` and the like.
    pub(crate) fn start(&mut self, protocol: &'static str) {
        self.text.clear();
        self.ends.clear();
        (self.answer, self.trailers) = (usize::MAX, usize::MAX);
        (self.protocol, self.client) = (protocol, None);
    }

    /// Whom the request is from.
    pub(crate) fn set_client(&mut self, client: SocketAddr) {
        self.client = Some(client);
    }

    pub(crate) fn client(&self) -> Option<SocketAddr> {
        self.client
    }

    /// What follows is of the answer.
    pub(crate) fn begin_answer(&mut self) {
        self.answer = self.ends.len();
    }

    /// What follows is of the trailers.
    pub(crate) fn begin_trailers(&mut self) {
        self.trailers = self.ends.len();
    }

    /// Adds a field; an absent one is empty.
    pub(crate) fn push(&mut self, wanted: &Wanted, write: impl FnMut(&str, &mut Vec<u8>)) {
        wanted.write(&mut self.text, write);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    pub(super) fn get(&self, slot: Slot) -> &[u8] {
        let index = match slot {
            // Of a head that was refused nothing is remembered.
            Slot::Request(slot) if slot >= self.answer => return b"",
            Slot::Request(slot) => slot,
            Slot::Answer(slot) => self.answer.saturating_add(slot),
            Slot::Trailer(slot) => self.trailers.saturating_add(slot),
        };
        let start = index.checked_sub(1).map_or(0, |before| self.ends.get(before).copied().unwrap_or(0));
        let end = self.ends.get(index).copied().unwrap_or(start);
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    pub(super) fn protocol(&self) -> &str {
        self.protocol
    }
}
