//! Copies bytes both ways between two connections until both have ended, keeping half-closed connections half-open.

mod direction;

use std::{io, task::Poll, time::Duration};

use self::direction::{CopyError, Direction};
use crate::{
    buffer::PooledBuffer,
    timer::{Deadline, Registered},
    transport::Transport,
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
}

/// How long a relay may last.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Limits {
    /// Without a byte moving either way.
    pub(crate) idle: Option<Duration>,
    /// From its beginning, busy or not.
    pub(crate) duration: Option<Duration>,
}

/// Relays until both sides have closed, one side fails, or a limit is reached. `deadline` is the connection's own.
///
/// `first` holds bytes of the client that were read before the upstream was known. `moving` is told the counts while
/// bytes move. They are right also when an error ended the relay. When one side was cut off, the other is to be dropped
/// next, and is reset then.
pub(crate) async fn relay<D: Transport, U: Transport>(
    downstream: &mut D,
    upstream: &mut U,
    first: Option<PooledBuffer>,
    mut moving: impl FnMut(Transferred),
    (worker, deadline, limits): (&Worker, &Deadline, Limits),
) -> (Transferred, Result<(), RelayError>) {
    let mut up = Direction::new(first);
    let mut down = Direction::new(None);
    // A side that takes no more may still have something to say: its answer is delivered before this is reported.
    let mut failed = None;
    let expiry = limits.duration.map(|limit| expiry(worker, limit));
    let postpone = || limits.idle.map_or_else(|| deadline.clear(), |limit| deadline.set(limit));
    postpone();
    let result = std::future::poll_fn(|cx| {
        let before = up.bytes + down.bytes;
        let sending = match up.poll(cx, worker, downstream, upstream) {
            Poll::Ready(Err(CopyError::Read(error))) => {
                return Poll::Ready(Err(RelayError::Downstream(error)));
            }
            Poll::Ready(Err(CopyError::Write(error))) => {
                down.cut = may_be_cut(&error);
                Poll::Ready(_ = failed.insert(RelayError::Upstream(error)))
            }
            done => done.map(|_| ()),
        };
        let receiving = match down.poll(cx, worker, upstream, downstream) {
            Poll::Ready(Err(CopyError::Read(error))) => return Poll::Ready(Err(RelayError::Upstream(error))),
            Poll::Ready(Err(CopyError::Write(error))) => {
                up.cut = may_be_cut(&error);
                Poll::Ready(_ = failed.insert(RelayError::Downstream(error)))
            }
            done => done.map(|_| ()),
        };
        if sending.is_ready() && receiving.is_ready() {
            return Poll::Ready(failed.take().map_or(Ok(()), Err));
        }
        if up.bytes + down.bytes > before {
            postpone();
        }
        moving(Transferred { received: up.bytes, sent: down.bytes });
        if expiry.as_ref().is_some_and(|expiry| expiry.poll_elapsed(cx).is_ready()) {
            return Poll::Ready(Err(RelayError::Expired));
        }
        deadline.poll_elapsed(cx).map(|_| Err(RelayError::Idle))
    })
    .await;
    deadline.clear();
    match &result {
        Err(RelayError::Downstream(error)) if may_be_cut(error) => upstream.reset_on_close(),
        Err(RelayError::Upstream(error)) if may_be_cut(error) => downstream.reset_on_close(),
        _ => {}
    }
    let transferred = Transferred { received: up.bytes, sent: down.bytes };
    moving(transferred);
    (transferred, result)
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
mod tests;
