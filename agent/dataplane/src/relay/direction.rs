//! One way of a relay: from small copies for those who say little to the kernel moving bytes by itself for those in
//! bulk.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::net::TcpStream;

use crate::{
    buffer::{BULK, LARGE, PooledBuffer, SMALL},
    pipe::LentPipe,
    transport::Transport,
    worker::Worker,
};

/// Bytes read in large pieces from which moving them through a pipe is cheaper than copying.
const SPLICE_FROM: usize = 1024 * 1024;

pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// One way of a relay.
pub(super) struct Direction {
    /// Absent while nothing is under way, so that an idle connection holds no buffer.
    buffer: Option<PooledBuffer>,
    /// Of the next buffer: grows while reads fill the one there is.
    capacity: usize,
    /// There only while bytes are in it.
    pipe: Option<LentPipe>,
    /// How much came in large pieces lately.
    bulk: usize,
    /// The reading side has been reset, and says so only once: the end that is read next is not a clean one.
    pub(super) cut: bool,
    state: State,
    /// Whether the writing side takes no more for now.
    blocked: bool,
    /// Bytes read.
    pub(super) bytes: u64,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Copying,
    /// The reading side has ended; the writing side is to be told once everything is written.
    Ending,
    Ended,
}

impl Direction {
    pub(super) fn new(buffer: Option<PooledBuffer>) -> Self {
        let bytes = buffer.as_ref().map_or(0, |buffer| buffer.filled().len() as u64);
        Self {
            buffer,
            capacity: SMALL,
            pipe: None,
            bulk: 0,
            cut: false,
            state: State::Copying,
            blocked: false,
            bytes,
        }
    }

    /// Moves as much as both sides allow. Ready when the reading side has ended and the writing side knows,
    /// or is not to be told because the reading side was [cut](Self::cut) off.
    pub(super) fn poll<R: Transport, W: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), CopyError>> {
        loop {
            let written = self.poll_write(cx, to);
            self.blocked = written.is_pending();
            if let Err(error) = ready!(written) {
                self.state = State::Ended;
                (self.buffer, self.pipe) = (None, None);
                return Poll::Ready(Err(CopyError::Write(error)));
            }
            match self.state {
                State::Copying => ready!(self.poll_read(cx, worker, from, to)).map_err(CopyError::Read)?,
                State::Ending => {
                    // A peer that is gone already cannot be told; what it sent before still counts.
                    _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// What waits for a writing side that takes no more for now; none when it takes more.
    pub(super) fn held(&self) -> usize {
        let buffer = self.buffer.as_ref().map_or(0, |buffer| buffer.capacity());
        if self.blocked { buffer.max(SMALL) } else { 0 }
    }

    fn poll_write<W: Transport>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        if let (Some(pipe), Some(to)) = (&mut self.pipe, to.as_tcp()) {
            ready!(pipe.poll_drain(cx, to))?;
        }
        while let Some(buffer) = self.buffer.as_mut().filter(|buffer| !buffer.is_empty()) {
            let n = ready!(Pin::new(&mut *to).poll_write(cx, buffer.filled()))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            buffer.consume(n);
        }
        Pin::new(to).poll_flush(cx)
    }

    fn poll_read<R: Transport, W: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        from: &mut R,
        to: &W,
    ) -> Poll<io::Result<()>> {
        let pipe = if to.as_tcp().is_some() { self.pipe(worker, from) } else { None };
        let moved = match pipe {
            Some((pipe, from)) => ready!(self.poll_splice(cx, pipe, from)),
            None => ready!(self.poll_copy(cx, worker, from)),
        };
        let n = match moved {
            // Many end TLS without saying so. As in Envoy it is an end: a reset would cost what is still on its way.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            moved => moved?,
        };
        self.bytes += n as u64;
        // One small piece is a pause, many are another way of talking.
        self.bulk = if n >= SMALL { (self.bulk + n).min(2 * SPLICE_FROM) } else { self.bulk / 2 };
        if n == 0 {
            self.state = if self.cut { State::Ended } else { State::Ending };
        }
        Poll::Ready(Ok(()))
    }

    /// An empty pipe, if the kernel is to move what comes next and there is one left.
    fn pipe<'s, R: Transport>(&mut self, worker: &Worker, from: &'s R) -> Option<(LentPipe, &'s TcpStream)> {
        let from = from.as_tcp().filter(|_| self.bulk >= SPLICE_FROM)?;
        Some((self.pipe.take().or_else(|| worker.pipes.lend())?, from))
    }

    /// Reads into `pipe`, and keeps it if something came: a connection that waits holds none.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        mut pipe: LentPipe,
        from: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        self.buffer = None;
        let n = ready!(pipe.poll_fill(cx, from))?;
        self.pipe = (n > 0).then_some(pipe);
        Poll::Ready(Ok(n))
    }

    fn poll_copy<R: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        from: &mut R,
    ) -> Poll<io::Result<usize>> {
        self.pipe = None;
        // What it held is written.
        let buffers = &worker.buffers;
        let capacity = buffers.affordable(self.capacity);
        self.buffer.take_if(|buffer| buffer.capacity() < capacity);
        let n = ready!(buffers.poll_receive_into(cx, from, (&mut self.buffer, capacity)))?;
        if self.buffer.as_ref().is_some_and(|buffer| buffer.is_full()) {
            self.capacity = if self.capacity == SMALL { LARGE } else { BULK };
        }
        Poll::Ready(Ok(n))
    }
}
