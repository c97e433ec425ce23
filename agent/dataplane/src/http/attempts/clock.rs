//! How long a request's tries may take.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::{
    alarm::{Sleep, sleep_until},
    http::exchange::{Broken, Late},
};

/// Limits of time. Both run from when the whole request is with us, as in Envoy.
pub(super) struct Clock {
    whole: Option<Duration>,
    one_try: Option<Duration>,
    /// What passing the whole limit means.
    late: Late,
    /// When the whole limit is passed; known once the request is through.
    pub(super) ends: Option<Instant>,
    try_ends: Option<Instant>,
    /// Made when there is something to wait for.
    sleep: Option<Sleep>,
}

impl Clock {
    /// For a limit of all tries, which passing means `late`, and one of each.
    pub(super) fn new(whole: Option<Duration>, one_try: Option<Duration>, late: Late) -> Self {
        Self { whole, one_try, late, ends: None, try_ends: None, sleep: None }
    }

    /// Milliseconds that the next try has, if there is a limit.
    pub(super) fn left(&self) -> Option<u64> {
        let of_all = self.ends.map(|ends| ends.saturating_duration_since(Instant::now()));
        let left = of_all.into_iter().chain(self.one_try).min()?.as_millis();
        Some(u64::try_from(left).unwrap_or(u64::MAX).max(1))
    }

    pub(super) fn begin_try(&mut self) {
        self.try_ends = None;
    }

    /// Awaits `future` until a limit is passed. `done` tells whether the request's body is.
    ///
    /// Borrows the future, which is large: who makes it has room for it anyway.
    pub(super) async fn limit<F: Future>(
        &mut self,
        done: &Cell<bool>,
        mut future: Pin<&mut F>,
    ) -> Result<F::Output, Broken> {
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if done.get() => self.poll_late(cx).map(Err),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        if self.whole.is_none() && self.one_try.is_none() {
            return Poll::Pending;
        }
        let from_now = |limit: Option<Duration>| limit.and_then(|limit| Instant::now().checked_add(limit));
        self.ends = self.ends.or_else(|| from_now(self.whole));
        self.try_ends = self.try_ends.or_else(|| from_now(self.one_try));
        let Some(first) = self.ends.into_iter().chain(self.try_ends).min() else { return Poll::Pending };
        if self.sleep.as_ref().is_none_or(|sleep| sleep.moment() != first) {
            self.sleep = Some(sleep_until(first));
        }
        let sleep = self.sleep.get_or_insert_with(|| sleep_until(first));
        Pin::new(sleep)
            .poll(cx)
            .map(|()| Broken::Late(if self.ends == Some(first) { self.late } else { Late::OneTry }))
    }
}
