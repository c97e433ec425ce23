//! One coarse timer per worker instead of one kernel-grade timer per request.
//!
//! Every connection registers one [`Deadline`] for its whole life and moves it while it waits. A tick twice a second
//! wakes those that are due, so deadlines are late by up to half a second, which no timeout here minds.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use crate::untaken::Holding;

/// Time between two ticks.
pub(crate) const TICK: Duration = Duration::from_millis(500);

/// Ticks that are no shorter than `time` together.
pub(crate) fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(NEVER)
}

/// The deadlines of one worker.
#[derive(Default)]
pub(crate) struct Timers {
    now: Rc<Cell<u64>>,
    pub(crate) deadlines: RefCell<Vec<Rc<Deadline>>>,
}

impl Timers {
    /// A deadline for a new connection, not set.
    pub(crate) fn register(&self) -> Registered {
        let deadline = Rc::new(Deadline {
            now: Rc::clone(&self.now),
            made: self.now.get(),
            due: Cell::new(NEVER),
            idle: Cell::new(false),
            looks: Cell::new(false),
            holds: Cell::new(false),
            holding: Cell::default(),
            given_up: Cell::new(false),
            waker: RefCell::default(),
        });
        self.deadlines.borrow_mut().push(Rc::clone(&deadline));
        Registered(deadline)
    }

    /// Advances time by one tick and wakes whatever is due.
    pub(crate) fn tick(&self) {
        self.now.set(self.now.get() + 1);
        self.wake_where(|deadline| deadline.looks.replace(false) || deadline.due.get() <= self.now.get());
    }

    /// Ticks so far.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// Ends the wait of every connection that is idle, so that it notices a drain, but for those that are made after
    /// some tick.
    pub(crate) fn wake_idle(&self, made_until: u64) {
        self.wake_where(|deadline| {
            let idle = deadline.idle.get() && deadline.made <= made_until;
            if idle {
                deadline.due.set(0);
            }
            idle
        });
    }

    /// Lets every connection that is idle look around, without ending its wait.
    pub(crate) fn nudge_idle(&self) {
        self.wake_where(|deadline| deadline.idle.get());
    }

    pub(crate) fn wake_where(&self, chosen: impl Fn(&Deadline) -> bool) {
        // A deadline held by nobody else belonged to a connection that is gone.
        self.deadlines.borrow_mut().retain(|deadline| Rc::strong_count(deadline) > 1);
        for deadline in self.deadlines.borrow().iter().filter(|deadline| chosen(deadline)) {
            if let Some(waker) = deadline.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

/// A connection's own hold on its deadline.
pub(crate) struct Registered(Rc<Deadline>);

impl Registered {
    /// For somebody who may end the wait but does not outlive it.
    pub(crate) fn downgrade(&self) -> Weak<Deadline> {
        Rc::downgrade(&self.0)
    }
}

impl std::ops::Deref for Registered {
    type Target = Deadline;

    fn deref(&self) -> &Deadline {
        &self.0
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // The waker keeps the memory of the connection's task; the list lets go of the deadline only with a tick.
        self.0.waker.take();
    }
}

/// When a connection has waited long enough.
pub(crate) struct Deadline {
    now: Rc<Cell<u64>>,
    /// The tick that the connection was made in.
    made: u64,
    due: Cell<u64>,
    idle: Cell<bool>,
    /// Whether the next tick is to wake it.
    looks: Cell<bool>,
    /// Whether something waits for a peer that takes no more for now, and where memory is short, what.
    pub(crate) holds: Cell<bool>,
    pub(crate) holding: Cell<Option<Box<Holding>>>,
    /// Whether the wait was ended for that.
    pub(crate) given_up: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

const NEVER: u64 = u64::MAX;

/// Says that a deadline passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Elapsed;

impl Deadline {
    /// Awaits `future` for `limit` at most, which begins now.
    pub(crate) fn within<F: Future + Unpin>(
        &self,
        limit: Duration,
        mut future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        self.set(limit);
        // Not an async function: that would hold room for the future twice.
        poll_fn(move |cx| {
            let result = match Pin::new(&mut future).poll(cx) {
                Poll::Ready(output) => Ok(output),
                Poll::Pending => Err(ready!(self.poll_elapsed(cx))),
            };
            self.clear();
            Poll::Ready(result)
        })
    }

    /// Awaits `future` for what is left of the time that [`Self::set`] gave, and leaves the deadline as it is: more may
    /// have to come within the same time.
    pub(crate) fn within_rest<F: Future + Unpin>(
        &self,
        mut future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        poll_fn(move |cx| match Pin::new(&mut future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_elapsed(cx).map(Err),
        })
    }

    /// Like [`Self::within`], for a wait that a drain ends early: nothing is under way on the connection.
    pub(crate) fn idle_within<F: Future + Unpin>(
        &self,
        limit: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        let mut waiting = self.within(limit, future);
        self.idle.set(true);
        poll_fn(move |cx| {
            let result = ready!(Pin::new(&mut waiting).poll(cx));
            self.idle.set(false);
            Poll::Ready(result)
        })
    }

    /// Moves the deadline to `limit` from now.
    pub(crate) fn set(&self, limit: Duration) {
        self.given_up.set(false);
        // One more than fit: the current tick is partly over, and a deadline may be late but not early.
        self.due.set(self.now.get().saturating_add(ticks(limit)).saturating_add(1));
    }

    /// Ends the wait under way.
    pub(crate) fn pass(&self) {
        self.due.set(0);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Takes the deadline away.
    pub(crate) fn clear(&self) {
        self.due.set(NEVER);
        self.holds.set(false);
        self.holding.set(None);
    }

    /// Ticks so far.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// Ready when the deadline has passed; otherwise the task is woken when it has.
    pub(crate) fn poll_elapsed(&self, cx: &Context<'_>) -> Poll<Elapsed> {
        if self.due.get() <= self.now.get() {
            return Poll::Ready(Elapsed);
        }
        self.remember(cx);
        Poll::Pending
    }

    /// Has the task woken with the next tick, for what nothing else tells it of.
    pub(crate) fn wake_with_tick(&self, cx: &Context<'_>) {
        self.looks.set(true);
        self.remember(cx);
    }

    fn remember(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn deadline_passes_after_its_ticks() {
        let timers = Timers::default();
        let deadline = timers.register();
        let mut wait = pin!(deadline.within(Duration::from_secs(1), std::future::pending::<()>()));
        assert_eq!(poll(wait.as_mut()), Poll::Pending);
        timers.tick();
        assert_eq!(poll(wait.as_mut()), Poll::Pending);
        timers.tick();
        assert_eq!(poll(wait.as_mut()), Poll::Pending);
        timers.tick();
        assert_eq!(poll(wait.as_mut()), Poll::Ready(Err(Elapsed)));
    }

    #[test]
    fn drain_ends_only_idle_waits() {
        let timers = Timers::default();
        let (busy, idle) = (timers.register(), timers.register());
        let hour = Duration::from_secs(3600);
        let mut busy = pin!(busy.within(hour, std::future::pending::<()>()));
        let mut idle = pin!(idle.idle_within(hour, std::future::pending::<()>()));
        assert_eq!((poll(busy.as_mut()), poll(idle.as_mut())), (Poll::Pending, Poll::Pending));
        timers.tick();
        let later = timers.register();
        let mut later = pin!(later.idle_within(hour, std::future::pending::<()>()));
        assert_eq!(poll(later.as_mut()), Poll::Pending);
        timers.wake_idle(0);
        assert_eq!((poll(busy.as_mut()), poll(idle.as_mut())), (Poll::Pending, Poll::Ready(Err(Elapsed))));
        assert_eq!(poll(later.as_mut()), Poll::Pending, "made after that");
        timers.wake_idle(1);
        assert_eq!(poll(later.as_mut()), Poll::Ready(Err(Elapsed)));
    }

    #[test]
    fn deadlines_of_ended_connections_are_forgotten() {
        let timers = Timers::default();
        drop(timers.register());
        let kept = timers.register();
        timers.tick();
        assert_eq!(timers.deadlines.borrow().len(), 1);
        drop(kept);
    }
}
