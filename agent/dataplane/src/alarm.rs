//! Waits of exact length on a worker, in place of the runtime's timers.
//!
//! A runtime with timers reads its clock and has the kernel set an alarm whenever it falls asleep, and again when it
//! wakes: two times per request while there is one at a time. Here one alarm of the kernel per worker (`timerfd`) is set
//! for what is due first, and set anew only when it has rung or something is due even earlier: what comes in time costs
//! no system call. Where half a second more or less does not matter there are [deadlines](crate::timer).

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use crate::{sys::Timer, timer::Elapsed};

/// Ready when so much time has passed.
pub(crate) fn sleep(time: Duration) -> Sleep {
    let now = Instant::now();
    sleep_until(now.checked_add(time).unwrap_or(now + NEVER))
}

/// Ready at a moment.
pub(crate) fn sleep_until(moment: Instant) -> Sleep {
    Sleep { moment, number: None }
}

/// Awaits `future` for `limit` at most.
pub(crate) fn within<F: Future + Unpin>(
    limit: Duration,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    expire(sleep(limit), future)
}

/// Awaits `future` until a moment at most.
pub(crate) fn until<F: Future + Unpin>(
    moment: Instant,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    expire(sleep_until(moment), future)
}

fn expire<F: Future + Unpin>(
    mut sleep: Sleep,
    mut future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    // Not an async function: that would hold room for the future twice.
    poll_fn(move |cx| match Pin::new(&mut future).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => Pin::new(&mut sleep).poll(cx).map(|()| Err(Elapsed)),
    })
}

/// Longer than anything runs, and short enough for every clock.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A wait for a moment. It ends on a thread whose [`Alarm`] is kept, which is every worker.
#[derive(Debug)]
pub(crate) struct Sleep {
    moment: Instant,
    /// Its number among the waits of its thread, once it is one.
    number: Option<u64>,
}

impl Sleep {
    pub(crate) fn moment(&self) -> Instant {
        self.moment
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let moment = self.moment;
        match self.number {
            Some(number) => WAITS.with(|waits| waits.renew((moment, number), cx.waker())),
            None if moment <= Instant::now() => Poll::Ready(()),
            None => {
                self.number = Some(WAITS.with(|waits| waits.add(moment, cx.waker())));
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // A thread that ends has no waits left.
            _ = WAITS.try_with(|waits| waits.remove((self.moment, number)));
        }
    }
}

thread_local! {
    static WAITS: Waits = const { Waits::new() };
}

/// What is waited for on a thread.
struct Waits {
    wakers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    last: Cell<u64>,
    /// When the alarm rings.
    set: Cell<Option<Instant>>,
    timer: RefCell<Option<Arc<Timer>>>,
}

impl Waits {
    const fn new() -> Self {
        Self {
            wakers: RefCell::new(BTreeMap::new()),
            last: Cell::new(0),
            set: Cell::new(None),
            timer: RefCell::new(None),
        }
    }

    fn add(&self, moment: Instant, waker: &Waker) -> u64 {
        let number = self.last.get() + 1;
        self.last.set(number);
        self.wakers.borrow_mut().insert((moment, number), waker.clone());
        if self.set.get().is_none_or(|set| moment < set) {
            self.set_alarm(moment);
        }
        number
    }

    /// Ready when it has rung.
    fn renew(&self, key: (Instant, u64), waker: &Waker) -> Poll<()> {
        let mut wakers = self.wakers.borrow_mut();
        let Some(known) = wakers.get_mut(&key) else { return Poll::Ready(()) };
        if !known.will_wake(waker) {
            let replaced = std::mem::replace(known, waker.clone());
            drop(wakers);
            // It may be what keeps a task, with waits of its own.
            drop(replaced);
        }
        Poll::Pending
    }

    /// The alarm stays: it rings in vain at most once.
    fn remove(&self, key: (Instant, u64)) {
        let removed = self.wakers.borrow_mut().remove(&key);
        drop(removed);
    }

    /// Rings, whatever becomes of those who are woken: one that panics keeps no other from being woken.
    fn ring_out(&self) {
        // Each that panics is out of the way by then, and no cell stays borrowed.
        while catch_unwind(AssertUnwindSafe(|| self.ring())).is_err() {
            tracing::error!("what waited for the alarm of a worker has panicked");
        }
    }

    /// Wakes who waits for what is past, and sets the alarm for what comes next.
    fn ring(&self) {
        self.set.set(None);
        let now = Instant::now();
        while let Some(waker) = self.take_due(now) {
            waker.wake();
        }
        let next = self.wakers.borrow().first_key_value().map(|((moment, _), _)| *moment);
        if let Some(next) = next {
            self.set_alarm(next);
        }
    }

    fn take_due(&self, now: Instant) -> Option<Waker> {
        let mut wakers = self.wakers.borrow_mut();
        let first = wakers.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    fn set_alarm(&self, moment: Instant) {
        let Some(timer) = &*self.timer.borrow() else { return };
        match timer.set(moment.saturating_duration_since(Instant::now())) {
            Ok(()) => self.set.set(Some(moment)),
            Err(error) => tracing::error!(%error, "cannot set an alarm"),
        }
    }
}

/// What ends the waits of a thread, for as long as it is [kept](Self::keep).
pub(crate) struct Alarm(Arc<Timer>);

impl Alarm {
    /// For a thread of the runtime that is entered.
    ///
    /// # Errors
    /// No descriptor is left for it.
    pub(crate) fn new() -> io::Result<Self> {
        Timer::new().map(|timer| Self(Arc::new(timer)))
    }

    /// Ends the waits of the thread in time, for as long as its runtime runs.
    pub(crate) async fn keep(self) {
        WAITS.with(|waits| {
            waits.timer.replace(Some(Arc::clone(&self.0)));
            waits.ring_out();
        });
        while self.0.rung().await.is_ok() {
            WAITS.with(Waits::ring_out);
        }
    }
}

/// Runs `test` where the alarm is kept.
#[cfg(test)]
pub(crate) fn kept<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::task::spawn_local(Alarm::new().unwrap().keep());
        test.await
    })
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin, task::Wake};

    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn waits_end_in_their_order_and_not_before_their_time() {
        let start = Instant::now();
        let ended = RefCell::new(Vec::new());
        let wait = async |time: u64| {
            sleep(millis(time)).await;
            assert!(start.elapsed() >= millis(time));
            ended.borrow_mut().push(time);
        };
        // The second and the fourth are due earlier than what the alarm is set for by then.
        kept(async { tokio::join!(wait(60), wait(20), wait(90), wait(1), wait(0), wait(60)) });
        assert_eq!(ended.into_inner(), [0, 1, 20, 60, 60, 90]);
    }

    #[test]
    fn the_alarm_is_set_only_for_what_is_due_earlier() {
        kept(async {
            tokio::task::yield_now().await;
            let start = Instant::now();
            let set = || WAITS.with(|waits| waits.set.get());
            let waits = [3600, 7200, 1800, 1801].map(|seconds| {
                let moment = start + Duration::from_secs(seconds);
                let mut wait = sleep_until(moment);
                assert!(Pin::new(&mut wait).poll(&mut Context::from_waker(Waker::noop())).is_pending());
                (wait, set())
            });
            let after = |seconds| Some(start + Duration::from_secs(seconds));
            let expected = [after(3600), after(3600), after(1800), after(1800)];
            assert_eq!(waits.each_ref().map(|(_, set)| *set), expected);
            WAITS.with(Waits::ring);
            assert_eq!(set(), after(1800), "it is set again when it has rung too early");
        });
    }

    #[test]
    fn one_wait_after_the_other() {
        kept(async {
            for _ in 0..20 {
                sleep(millis(1)).await;
            }
        });
    }

    #[test]
    fn what_is_awaited_wins_over_its_limit_and_leaves_no_wait_behind() {
        kept(async {
            let answered = pin!(sleep(millis(1)));
            assert_eq!(within(Duration::from_secs(3600), answered).await, Ok(()));
            assert_eq!(WAITS.with(|waits| waits.wakers.borrow().len()), 0);
            assert_eq!(within(millis(1), pending::<()>()).await, Err(Elapsed));
            assert_eq!(until(Instant::now(), pending::<()>()).await, Err(Elapsed));
            let mut never = pin!(sleep(Duration::MAX));
            assert!(poll_fn(|cx| Poll::Ready(never.as_mut().poll(cx).is_pending())).await);
        });
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("injected");
        }
    }

    #[test]
    fn a_waker_that_panics_keeps_nobody_from_being_woken() {
        kept(async {
            tokio::task::yield_now().await;
            let mut panics = sleep(millis(1));
            let waker = Waker::from(Arc::new(Panics));
            assert!(Pin::new(&mut panics).poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(within(millis(2), pending::<()>()).await, Err(Elapsed));
        });
    }

    /// A waker that holds a wait, as the waker of a task that has waits does.
    struct Holder(#[expect(dead_code, reason = "it is dropped with the waker")] Sleep);

    impl Wake for Holder {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn a_waker_may_take_other_waits_with_it() {
        let far = Instant::now() + Duration::from_secs(3600);
        let holder = |moment| {
            let mut held = sleep_until(far);
            assert!(Pin::new(&mut held).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let waker = Waker::from(Arc::new(Holder(held)));
            let mut holding = sleep_until(moment);
            assert!(Pin::new(&mut holding).poll(&mut Context::from_waker(&waker)).is_pending());
            holding
        };
        drop(holder(far));
        let renewed = &mut holder(far);
        assert!(Pin::new(renewed).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let soon = Instant::now() + millis(20);
        let rung = holder(soon);
        while Instant::now() < soon {
            std::thread::yield_now();
        }
        WAITS.with(Waits::ring);
        assert_eq!(WAITS.with(|waits| waits.wakers.borrow().len()), 1, "the renewed one");
        drop(rung);
    }
}
