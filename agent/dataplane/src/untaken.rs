//! What is held for peers that take none of it, and is given up where memory is short.
//!
//! What counts is what the peer did, not what could be written to it: the kernel takes megabytes at once and is then
//! full for as long as a slow reader needs for a third of them.

use std::{cmp::Reverse, collections::HashMap, rc::Rc, time::Duration};

use crate::{
    overload::Overload,
    timer::{Deadline, Timers, ticks},
};

/// What waits for a peer that takes no more for now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Held {
    /// Number of the client's connection: what is held for all of its requests counts together.
    pub(crate) connection: u64,
    pub(crate) bytes: usize,
    pub(crate) progress: Progress,
}

/// How far a peer has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Progress {
    /// Bytes handed on so far of what waits.
    pub(crate) moved: u64,
    pub(crate) taken: Taken,
}

/// How far the peer of a connection has come with what was written to it, whatever it belongs to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Taken {
    pub(crate) written: u64,
    /// Bytes that its side has not acknowledged.
    pub(crate) unacknowledged: u32,
}

impl Progress {
    /// Whether the peer has taken something since. One that has acknowledged everything and still wants no more of
    /// this, as HTTP/2 allows, has taken nothing by taking something else.
    fn is_made_since(self, before: Self) -> bool {
        self.moved != before.moved || (self.taken.unacknowledged > 0 && self.taken != before.taken)
    }
}

/// What is known of something held, and since when it is the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    held: Held,
    since: u64,
}

impl Deadline {
    /// Says whether something waits for a peer that takes no more for now. Where memory is short, `held` tells of it,
    /// and the wait ends when the peer takes nothing for long.
    pub(crate) fn hold(&self, waits: bool, overload: &Overload, held: impl FnOnce() -> Held) {
        self.holds.set(waits);
        if !waits {
            self.holding.set(None);
        } else if overload.gives_up_untaken() {
            self.take_note(held());
        }
    }

    fn take_note(&self, held: Held) {
        let now = self.now();
        let mut holding = self.holding.take().unwrap_or_else(|| Box::new(Holding { held, since: now }));
        if held.progress.is_made_since(holding.held.progress) {
            holding.since = now;
        }
        holding.held = held;
        self.holding.set(Some(holding));
    }

    fn holding(&self) -> Option<Holding> {
        let holding = self.holding.take();
        let copy = holding.as_deref().copied();
        self.holding.set(holding);
        copy
    }

    fn give_up(&self) {
        self.given_up.set(true);
        self.pass();
    }

    /// Whether the last wait was ended for want of memory.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.get()
    }
}

impl Timers {
    /// Where memory is short, ends waits for peers that take nothing, those for which most is held first and no more than
    /// it needs; the others are looked at again. To be called with every tick.
    pub(crate) fn relieve(&self, overload: &Overload) {
        let Some((excess, patience)) = overload.relief() else { return };
        overload.relieved_of(excess, self.give_up_untaken(excess, patience));
        self.wake_where(|deadline| deadline.holds.get());
    }

    /// Gives up `excess` bytes, or what there is; how many that were.
    fn give_up_untaken(&self, excess: u64, patience: Duration) -> u64 {
        let deadlines = self.deadlines.borrow();
        let holding = || deadlines.iter().filter_map(|deadline| Some((deadline, deadline.holding()?)));
        let mut connections: HashMap<u64, u64> = HashMap::new();
        for (_, Holding { held, .. }) in holding() {
            *connections.entry(held.connection).or_default() += held.bytes as u64;
        }
        let is_untaken = |(deadline, holding): &(&Rc<Deadline>, Holding)| {
            !deadline.is_given_up()
                && holding.held.bytes > 0
                && holding.since.saturating_add(ticks(patience)) <= self.now()
        };
        let mut untaken: Vec<_> = holding().filter(is_untaken).collect();
        untaken.sort_by_key(|(_, Holding { held, .. })| {
            (Reverse(connections[&held.connection]), held.connection)
        });
        let mut given_up = 0;
        for (deadline, Holding { held, .. }) in &untaken {
            if given_up >= excess {
                break;
            }
            given_up += held.bytes as u64;
            deadline.give_up();
        }
        given_up
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::{bounds, overload::Pressure};

    fn held(connection: u64, bytes: usize, moved: u64, taken: (u64, u32)) -> Held {
        let (written, unacknowledged) = taken;
        Held { connection, bytes, progress: Progress { moved, taken: Taken { written, unacknowledged } } }
    }

    fn is_over(deadline: &Deadline) -> bool {
        deadline.poll_elapsed(&Context::from_waker(Waker::noop())).is_ready()
    }

    fn short(excess: u64) -> Overload {
        let overload = Overload::default();
        overload.set_pressure(Pressure::Untaken);
        overload.set_excess(excess);
        overload
    }

    /// So many ticks in which each of some is looked at.
    fn pass(timers: &Timers, overload: &Overload, count: u64, look: impl Fn(u64)) {
        for tick in 0..count {
            look(tick);
            timers.tick();
            timers.relieve(overload);
        }
    }

    #[test]
    fn only_who_takes_nothing_is_given_up() {
        let (timers, overload) = (Timers::default(), short(u64::MAX));
        let [nothing, silent, reading, acknowledging, choosing] = [(); 5].map(|()| timers.register());
        pass(&timers, &overload, 2 * ticks(bounds::UNTAKEN), |tick| {
            nothing.hold(false, &overload, || held(1, 1, 0, (0, 0)));
            if !is_over(&silent) {
                silent.hold(true, &overload, || held(2, 1, 7, (7, 5)));
            }
            reading.hold(true, &overload, || held(3, 1, tick, (7, 5)));
            acknowledging.hold(true, &overload, || held(4, 1, 7, (7, 1000 - tick as u32)));
            // It reads what else there is of its connection, all of it, and leaves this.
            if !is_over(&choosing) {
                choosing.hold(true, &overload, || held(5, 1, 7, (tick, 0)));
            }
        });
        let given_up =
            [&nothing, &silent, &reading, &acknowledging, &choosing].map(|deadline| is_over(deadline));
        assert_eq!(given_up, [false, true, false, false, true]);
        assert!(silent.is_given_up() && choosing.is_given_up());
        silent.set(Duration::from_secs(1));
        assert!(!silent.is_given_up() && !is_over(&silent), "something has moved");
    }

    #[test]
    fn who_holds_most_is_given_up_first_and_no_more_than_it_needs() {
        let (timers, overload) = (Timers::default(), short(150));
        let few = timers.register();
        let many: Vec<_> = (0..3).map(|_| timers.register()).collect();
        pass(&timers, &overload, ticks(bounds::UNTAKEN) + 1, |_| {
            few.hold(true, &overload, || held(1, 200, 0, (0, 5)));
            many.iter().filter(|deadline| !is_over(deadline)).for_each(|deadline| {
                deadline.hold(true, &overload, || held(2, 100, 0, (0, 5)));
            });
        });
        assert!(!is_over(&few));
        assert_eq!(many.iter().filter(|deadline| is_over(deadline)).count(), 2);
    }

    #[test]
    fn what_one_worker_gives_up_no_other_does() {
        let (workers, overload) = ([Timers::default(), Timers::default()], short(150));
        let held_by = |timers: &Timers| -> Vec<_> { (0..3).map(|_| timers.register()).collect() };
        let deadlines = workers.each_ref().map(held_by);
        let given_up = || deadlines.iter().flatten().filter(|deadline| is_over(deadline)).count();
        let pass = |count| {
            for _ in 0..count {
                for (timers, deadlines) in workers.iter().zip(&deadlines) {
                    deadlines.iter().filter(|deadline| !is_over(deadline)).for_each(|deadline| {
                        deadline.hold(true, &overload, || held(1, 100, 0, (0, 5)));
                    });
                    timers.tick();
                    timers.relieve(&overload);
                }
            }
        };
        pass(2 * ticks(bounds::UNTAKEN));
        assert_eq!(given_up(), 2);
        // It is missed only once the system has it back and memory was measured again.
        overload.settle();
        pass(1);
        assert_eq!(given_up(), 2);
        overload.settle();
        pass(1);
        assert_eq!(given_up(), 4);
    }

    #[test]
    fn while_there_is_memory_nobody_is() {
        let (timers, overload) = (Timers::default(), Overload::default());
        let silent = timers.register();
        pass(&timers, &overload, 100, |_| silent.hold(true, &overload, || unreachable!("nobody looks")));
        assert!(!is_over(&silent));
    }
}
