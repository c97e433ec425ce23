//! What the process as a whole has too much of, memory or connections, and what workers refuse for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::bounds;

/// Limits of the whole process, shared by its workers and by whoever measures its memory.
#[derive(Clone, Debug, Default)]
pub struct Overload(Arc<State>);

#[derive(Debug, Default)]
struct State {
    pressure: AtomicU8,
    /// Bytes of memory to give up.
    excess: AtomicU64,
    /// What workers have given up, or are about to, since the system got memory back last, and between that time and the
    /// one before: the excess was measured while they still held it.
    given_up: AtomicU64,
    given_up_before: AtomicU64,
    /// Connections from clients that are open, counted only where there is a limit.
    connections: AtomicU64,
    max_connections: Option<u64>,
}

/// How short of memory the process is.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Pressure {
    /// Everybody is served.
    #[default]
    None,
    /// What peers take nothing of is given up, and nobody gets memory that only saves time.
    Untaken,
    /// New requests are answered with 503, so that those under way can end.
    Requests,
    /// New connections are closed, too.
    Connections,
}

impl Overload {
    /// Without pressure. `max_connections` is how many connections from clients all workers may have together.
    #[must_use]
    pub fn new(max_connections: Option<u64>) -> Self {
        Self(Arc::new(State { max_connections, ..State::default() }))
    }

    /// Says how short memory is; every worker acts upon it from now on.
    pub fn set_pressure(&self, pressure: Pressure) {
        self.0.pressure.store(pressure as u8, Ordering::Relaxed);
    }

    /// Says how many bytes would have to be given up for everything to be well.
    pub fn set_excess(&self, bytes: u64) {
        self.0.excess.store(bytes, Ordering::Relaxed);
    }

    /// Says that memory was measured after the system got back what was free: what was given up before the last time
    /// shows in the excess.
    pub fn settle(&self) {
        let given_up = self.0.given_up.swap(0, Ordering::Relaxed);
        self.0.given_up_before.store(given_up, Ordering::Relaxed);
    }

    /// Whether what peers do not take is given up.
    pub(crate) fn gives_up_untaken(&self) -> bool {
        self.0.pressure.load(Ordering::Relaxed) >= Pressure::Untaken as u8
    }

    /// How much is to be given up, and how long a peer may take nothing; `None` while there is memory. No other worker is
    /// told to give up the same: [`Self::relieved_of`] says what became of it.
    pub(crate) fn relief(&self) -> Option<(u64, Duration)> {
        if !self.gives_up_untaken() {
            return None;
        }
        let patience = if self.refuses_requests() { bounds::UNTAKEN_WHILE_REFUSED } else { bounds::UNTAKEN };
        let before = self.0.given_up_before.load(Ordering::Relaxed);
        let excess = self.0.excess.load(Ordering::Relaxed).saturating_sub(before);
        let given_up = self.0.given_up.fetch_max(excess, Ordering::Relaxed);
        Some((excess.saturating_sub(given_up), patience))
    }

    /// Says how many bytes a worker has given up where it was told to give up `share`. The rest is for others.
    pub(crate) fn relieved_of(&self, share: u64, bytes: u64) {
        let settled = |given_up: u64| Some(given_up.saturating_sub(share).saturating_add(bytes));
        _ = self.0.given_up.fetch_update(Ordering::Relaxed, Ordering::Relaxed, settled);
    }

    /// Whether requests are to be refused.
    pub(crate) fn refuses_requests(&self) -> bool {
        self.0.pressure.load(Ordering::Relaxed) >= Pressure::Requests as u8
    }

    /// Takes a place for one more connection, if there is one; it is to be left again.
    pub(crate) fn admit(&self) -> bool {
        if self.0.pressure.load(Ordering::Relaxed) >= Pressure::Connections as u8 {
            return false;
        }
        let Some(limit) = self.0.max_connections else { return true };
        let admitted = self.0.connections.fetch_add(1, Ordering::Relaxed) < limit;
        if !admitted {
            self.leave();
        }
        admitted
    }

    /// Gives the place of a connection back.
    pub(crate) fn leave(&self) {
        if self.0.max_connections.is_some() {
            self.0.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_also_by_those_that_get_none() {
        let overload = Overload::new(Some(1));
        assert!(overload.admit());
        assert!(!overload.admit() && !overload.admit());
        overload.leave();
        assert!(overload.admit());
    }

    #[test]
    fn no_worker_is_told_to_give_up_what_another_is_about_to() {
        let overload = Overload::default();
        overload.set_excess(100);
        let share = || overload.relief().map(|(share, _)| share);
        assert_eq!(share(), None);
        overload.set_pressure(Pressure::Untaken);
        assert_eq!((share(), share()), (Some(100), Some(0)));
        overload.relieved_of(100, 30);
        assert_eq!(share(), Some(70), "the rest is for others");
        overload.relieved_of(70, 90);
        overload.set_excess(150);
        assert_eq!(share(), Some(30), "more came");
    }

    #[test]
    fn without_memory_nobody_gets_a_place() {
        let overload = Overload::default();
        for (pressure, requests, connections) in [
            (Pressure::None, false, false),
            (Pressure::Untaken, false, false),
            (Pressure::Requests, true, false),
            (Pressure::Connections, true, true),
            (Pressure::None, false, false),
        ] {
            overload.set_pressure(pressure);
            let refused = (overload.refuses_requests(), !overload.admit());
            assert_eq!(refused, (requests, connections), "{pressure:?}");
        }
    }
}
