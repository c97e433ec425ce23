//! Copies bytes both ways between two connections until both have ended, keeping half-closed connections half-open.

mod direction;

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

use self::direction::{CopyError, Direction};
use crate::{
    buffer::PooledBuffer,
    timer::{Deadline, Registered},
    transport::Transport,
    untaken::{Held, Progress, Taken},
    worker::Worker,
};

/// Bytes that went each way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Transferred {
    /// From the client to the upstream.
    pub(crate) received: u64,
    /// From the upstream to the client.
    pub(crate) sent: u64,
}

/// Why a relay ended before both sides had closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("downstream failed: {0}")]
    Downstream(io::Error),
    #[error("upstream failed: {0}")]
    Upstream(io::Error),
    #[error("nothing moved for too long")]
    Idle,
    #[error("the connection lasted as long as it may")]
    Expired,
    #[error("what a side does not take is not held while memory is short")]
    Untaken,
}

/// How long a relay may last.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Limits {
    /// Without a byte moving either way.
    pub(crate) idle: Option<Duration>,
    /// From its beginning, busy or not.
    pub(crate) duration: Option<Duration>,
}

/// What a relay moved, and why it ended early if it did.
pub(crate) type Relayed = (Transferred, Result<(), RelayError>);

/// Two connections whose bytes go to each other.
pub(crate) struct Relay<'r, D, U> {
    downstream: &'r mut D,
    upstream: &'r mut U,
    up: Direction,
    down: Direction,
    /// A side that takes no more may still have something to say: its answer is delivered before this is reported.
    failed: Option<RelayError>,
}

impl<'r, D: Transport, U: Transport> Relay<'r, D, U> {
    /// A relay that is to begin with `first`, bytes of the client that were read before the upstream was known.
    pub(crate) fn new(downstream: &'r mut D, upstream: &'r mut U, first: Option<PooledBuffer>) -> Self {
        Self { downstream, upstream, up: Direction::new(first), down: Direction::new(None), failed: None }
    }

    /// Relays until both sides have closed, one side fails, or a limit is reached. `deadline` is the connection's own, and
    /// `connection` the number of the client's.
    ///
    /// `moving` is told the counts while bytes move. They are right also when an error ended the relay. When one side
    /// was cut off, the other is to be dropped next, and is reset then.
    pub(crate) async fn run(
        &mut self,
        worker: &Worker,
        (connection, deadline): (u64, &Deadline),
        limits: Limits,
        mut moving: impl FnMut(Transferred),
    ) -> Relayed {
        let expiry = limits.duration.map(|limit| expiry(worker, limit));
        let postpone = || limits.idle.map_or_else(|| deadline.clear(), |limit| deadline.set(limit));
        postpone();
        let result = poll_fn(|cx| {
            let before = self.transferred();
            if let Poll::Ready(ended) = self.poll_both(cx, worker) {
                return Poll::Ready(ended);
            }
            let transferred = self.transferred();
            if transferred != before {
                postpone();
            }
            moving(transferred);
            if expiry.as_ref().is_some_and(|expiry| expiry.poll_elapsed(cx).is_ready()) {
                return Poll::Ready(Err(RelayError::Expired));
            }
            self.hold(worker, (connection, deadline));
            deadline
                .poll_elapsed(cx)
                .map(|_| Err(if deadline.is_given_up() { RelayError::Untaken } else { RelayError::Idle }))
        })
        .await;
        deadline.clear();
        match &result {
            Err(RelayError::Downstream(error)) if may_be_cut(error) => self.upstream.reset_on_close(),
            Err(RelayError::Upstream(error)) if may_be_cut(error) => self.downstream.reset_on_close(),
            _ => {}
        }
        moving(self.transferred());
        (self.transferred(), result)
    }

    /// Moves what both sides allow. Ready when both ways have ended, or a side that can be read no more ends the relay.
    fn poll_both(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Poll<Result<(), RelayError>> {
        let Self { downstream, upstream, up, down, failed } = self;
        let sending = match up.poll(cx, worker, *downstream, *upstream) {
            Poll::Ready(Err(CopyError::Read(error))) => {
                return Poll::Ready(Err(RelayError::Downstream(error)));
            }
            Poll::Ready(Err(CopyError::Write(error))) => {
                down.cut = may_be_cut(&error);
                Poll::Ready(_ = failed.insert(RelayError::Upstream(error)))
            }
            done => done.map(|_| ()),
        };
        let receiving = match down.poll(cx, worker, *upstream, *downstream) {
            Poll::Ready(Err(CopyError::Read(error))) => return Poll::Ready(Err(RelayError::Upstream(error))),
            Poll::Ready(Err(CopyError::Write(error))) => {
                up.cut = may_be_cut(&error);
                Poll::Ready(_ = failed.insert(RelayError::Downstream(error)))
            }
            done => done.map(|_| ()),
        };
        match sending.is_ready() && receiving.is_ready() {
            true => Poll::Ready(failed.take().map_or(Ok(()), Err)),
            false => Poll::Pending,
        }
    }

    /// Says whether a side does not take what waits for it.
    fn hold(&self, worker: &Worker, (connection, deadline): (u64, &Deadline)) {
        let bytes = self.up.held() + self.down.held();
        deadline.hold(bytes > 0, &worker.settings.overload, || {
            let (downstream, upstream) = (self.downstream.unacknowledged(), self.upstream.unacknowledged());
            let taken = Taken { unacknowledged: downstream.saturating_add(upstream), ..Taken::default() };
            let moved = self.up.bytes + self.down.bytes;
            Held { connection, bytes, progress: Progress { moved, taken } }
        });
    }

    fn transferred(&self) -> Transferred {
        Transferred { received: self.up.bytes, sent: self.down.bytes }
    }
}

/// Whether the side that failed may have had more to say, so that the other must not take what it got for the whole.
///
/// A connection that was reset after its peer had ended its side breaks as a pipe does: everything was said.
fn may_be_cut(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::BrokenPipe
}

fn expiry(worker: &Worker, limit: Duration) -> Registered {
    let expiry = worker.timers.register();
    expiry.set(limit);
    expiry
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests have a runtime with timers")]
mod tests;
