//! Copies bytes both ways between two connections until both have ended, keeping half-closed connections half-open.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::AsyncWrite;

use crate::{
    buffer::{BufferPool, PooledBuffer},
    timer::Deadline,
    transport::Transport,
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
}

/// Relays until both sides have closed, one side fails, or nothing moves for `idle_timeout`.
///
/// `first` holds bytes of the client that were read before the upstream was known. The counts are right also when an
/// error ended the relay.
pub(crate) async fn relay<D: Transport, U: Transport>(
    downstream: &mut D,
    upstream: &mut U,
    first: Option<PooledBuffer>,
    (pool, deadline, idle_timeout): (&Rc<BufferPool>, &Deadline, Duration),
) -> (Transferred, Result<(), RelayError>) {
    let mut up = Direction::new(first);
    let mut down = Direction::new(None);
    // A side that takes no more may still have something to say: its answer is delivered before this is reported.
    let mut failed = None;
    deadline.set(idle_timeout);
    let result = std::future::poll_fn(|cx| {
        let before = up.bytes + down.bytes;
        let sending = match up.poll(cx, pool, downstream, upstream) {
            Poll::Ready(Err(CopyError::Read(error))) => {
                return Poll::Ready(Err(RelayError::Downstream(error)));
            }
            Poll::Ready(Err(CopyError::Write(error))) => {
                Poll::Ready(_ = failed.insert(RelayError::Upstream(error)))
            }
            done => done.map(|_| ()),
        };
        let receiving = match down.poll(cx, pool, upstream, downstream) {
            Poll::Ready(Err(CopyError::Read(error))) => return Poll::Ready(Err(RelayError::Upstream(error))),
            Poll::Ready(Err(CopyError::Write(error))) => {
                Poll::Ready(_ = failed.insert(RelayError::Downstream(error)))
            }
            done => done.map(|_| ()),
        };
        if sending.is_ready() && receiving.is_ready() {
            return Poll::Ready(failed.take().map_or(Ok(()), Err));
        }
        if up.bytes + down.bytes > before {
            deadline.set(idle_timeout);
        }
        deadline.poll_elapsed(cx).map(|_| Err(RelayError::Idle))
    })
    .await;
    deadline.clear();
    (Transferred { received: up.bytes, sent: down.bytes }, result)
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// One way of a relay.
struct Direction {
    /// Absent while nothing is under way, so that an idle connection holds no buffer.
    buffer: Option<PooledBuffer>,
    state: State,
    bytes: u64,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Copying,
    /// The reading side has ended; the writing side is to be told once the buffer is empty.
    Ending,
    Ended,
}

impl Direction {
    fn new(buffer: Option<PooledBuffer>) -> Self {
        let bytes = buffer.as_ref().map_or(0, |buffer| buffer.filled().len() as u64);
        Self { buffer, state: State::Copying, bytes }
    }

    fn poll<R: Transport, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        pool: &Rc<BufferPool>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), CopyError>> {
        loop {
            if let Err(error) = ready!(self.poll_write(cx, to)) {
                self.state = State::Ended;
                self.buffer = None;
                return Poll::Ready(Err(CopyError::Write(error)));
            }
            match self.state {
                State::Copying => ready!(self.poll_read(cx, pool, from)).map_err(CopyError::Read)?,
                State::Ending => {
                    // A peer that is gone already cannot be told; what it sent before still counts.
                    _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while let Some(buffer) = self.buffer.as_mut().filter(|buffer| !buffer.is_empty()) {
            let n = ready!(Pin::new(&mut *to).poll_write(cx, buffer.filled()))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            buffer.consume(n);
        }
        Pin::new(to).poll_flush(cx)
    }

    fn poll_read<R: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        pool: &Rc<BufferPool>,
        from: &mut R,
    ) -> Poll<io::Result<()>> {
        let n = ready!(pool.poll_receive(cx, from, &mut self.buffer))?;
        self.bytes += n as u64;
        if n == 0 {
            self.state = State::Ending;
        } else if let Some(buffer) =
            self.buffer.as_mut().filter(|buffer| buffer.is_full() && buffer.is_small())
        {
            *buffer = pool.enlarge(buffer);
        }
        Poll::Ready(Ok(()))
    }
}
