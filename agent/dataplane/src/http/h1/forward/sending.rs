//! The body of a request, as it comes from an HTTP/1 client.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use crate::{
    buffer::{BufferPool, PooledBuffer},
    http::{
        exchange::{RequestBody, Sent, UpstreamWriter},
        pump::{Pump, PumpError},
        stream_limits::{Overdue, Phase, StreamLimits},
    },
    timer::Deadline,
    transport::{DownstreamStream, Transport},
};

/// A request's body in HTTP/1 framing: what has arrived, and where more comes from.
pub(super) struct Sending<'s> {
    pub(super) pump: &'s mut Pump,
    pub(super) received: &'s mut Option<PooledBuffer>,
    pub(super) stream: &'s mut DownstreamStream,
    pub(super) pool: &'s Rc<BufferPool>,
    pub(super) deadline: &'s Deadline,
    pub(super) limits: StreamLimits,
}

impl RequestBody for Sending<'_> {
    fn poll_send(&mut self, cx: &mut Context<'_>, to: UpstreamWriter<'_>) -> Poll<Result<(), PumpError>> {
        let Some(received) = self.received.as_mut().filter(|_| self.pump.is_moving()) else {
            return self.watch_in_time(cx);
        };
        let (before, received) = (self.pump.data, (received, self.pool));
        let moved = match to {
            UpstreamWriter::Http1(to) => self.pump.poll(cx, received, self.stream, to),
            UpstreamWriter::Http2(to) => self.pump.poll_frames(cx, received, self.stream, to),
        };
        if moved.is_pending() {
            if self.pump.is_blocked() && self.has_left_unread(cx) {
                return Poll::Ready(Err(PumpError::Read));
            }
            if self.pump.data > before {
                self.deadline.set(self.limits.idle_timeout(Phase::Sending));
            }
            return self.deadline.poll_elapsed(cx).map(|_| Err(self.limits.passed(Phase::Sending)));
        }
        let sent = match ready!(moved) {
            Err(PumpError::Write) => {
                self.pump.abandon();
                Ok(())
            }
            result => result,
        };
        if self.limits.limits_waiting() {
            self.deadline.set(self.limits.idle_timeout(Phase::Waiting));
        }
        Poll::Ready(sent)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<PumpError> {
        let Some(received) = self.received.as_mut().filter(|_| self.pump.is_moving()) else {
            return match self.watch_in_time(cx) {
                Poll::Ready(Err(gone)) => Poll::Ready(gone),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            };
        };
        // What comes of the body waits in the buffer.
        while !received.is_full() {
            match received.poll_fill(cx, self.stream) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(PumpError::Read),
                Poll::Pending => break,
            }
        }
        if received.is_full() && self.has_left_unread(cx) {
            return Poll::Ready(PumpError::Read);
        }
        self.deadline.poll_elapsed(cx).map(|_| self.limits.passed(Phase::Sending))
    }

    fn is_done(&self) -> bool {
        self.pump.is_done()
    }

    fn rewind(&mut self) -> bool {
        self.pump.rewind()
    }

    fn sent(&self) -> Sent<'_> {
        self.pump.sent()
    }
}

impl Sending<'_> {
    /// Sends what it can while the answer comes, which tells whether anything moves at all.
    ///
    /// # Errors
    /// The client is gone, or broke its framing beyond understanding; either way nobody waits for the rest of the
    /// answer.
    pub(super) fn send_beside(
        &mut self,
        cx: &mut Context<'_>,
        to: UpstreamWriter<'_>,
    ) -> Result<(), PumpError> {
        match self.poll_send(cx, to) {
            Poll::Ready(Ok(()) | Err(PumpError::Idle | PumpError::Overdue(Overdue::Request)))
            | Poll::Pending => Ok(()),
            // The answer has begun: its time is over, not that for waiting.
            Poll::Ready(Err(PumpError::Overdue(_))) => Err(self.limits.passed(Phase::Answering)),
            Poll::Ready(Err(_)) => {
                self.pump.abandon();
                Err(PumpError::Write)
            }
        }
    }

    /// Gives the rest of the body, if there is any, its time, else the answer, if the listener limits that.
    pub(super) fn await_more(&mut self) {
        if self.pump.is_moving() {
            return self.deadline.set(self.limits.idle_timeout(Phase::Sending));
        }
        if self.received.as_ref().is_some_and(|received| received.is_empty()) {
            *self.received = None;
        }
        if self.limits.limits_waiting() {
            self.deadline.set(self.limits.idle_timeout(Phase::Waiting));
        }
    }

    /// Whether a client that is not read from has left. Reading would tell, but there is no room for what comes first; so
    /// it is looked at twice a second.
    fn has_left_unread(&self, cx: &Context<'_>) -> bool {
        self.deadline.wake_with_tick(cx);
        self.stream.has_ended()
    }

    /// As [`Self::watch`], while there may be no answer.
    fn watch_in_time(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        let watched = self.watch(cx);
        let is_late = || self.limits.limits_waiting() && self.deadline.poll_elapsed(cx).is_ready();
        match watched {
            Poll::Ready(Err(_)) => watched,
            _ if is_late() => Poll::Ready(Err(self.limits.passed(Phase::Waiting))),
            watched => watched,
        }
    }

    /// Watches a client that has said everything, so that one that leaves does not hold an endpoint until it answers.
    /// Closing its side counts as leaving, as it does in Envoy; the beginning of a next request is kept.
    fn watch(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        if self.received.as_ref().is_some_and(|received| !received.is_empty()) {
            let has_left = self.has_left_unread(cx);
            return Poll::Ready(if has_left { Err(PumpError::Read) } else { Ok(()) });
        }
        match ready!(self.pool.poll_receive(cx, self.stream, self.received)) {
            Ok(1..) => Poll::Ready(Ok(())),
            Ok(0) | Err(_) => Poll::Ready(Err(PumpError::Read)),
        }
    }
}
