//! The body of a request, as it comes from an HTTP/2 client.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;

use crate::{
    connection::Connection,
    http::{
        exchange::{RequestBody, Sent, UpstreamWriter},
        frames::FramePump,
        pump::{PumpError, Standing},
        stream_limits::{Phase, StreamLimits},
    },
    timer::Registered,
    worker::Worker,
};

/// A request's body in HTTP/2 frames, and the sign that the client wants no answer any more.
pub(super) struct Sending<'s> {
    pub(super) upload: &'s mut FramePump,
    pub(super) respond: &'s mut SendResponse<Bytes>,
    pub(super) idle_timer: IdleTimer<'s>,
}

/// How long a stream may stand still. The timer costs only those that have to wait.
pub(super) struct IdleTimer<'w> {
    worker: &'w Worker,
    limits: StreamLimits,
    deadline: Option<Registered>,
    /// Bytes that had moved when it was looked at last, and where the stream stood.
    stood: Option<(u64, Phase)>,
}

impl<'w> IdleTimer<'w> {
    pub(super) fn new(worker: &'w Worker, limits: StreamLimits) -> Self {
        Self { worker, limits, deadline: None, stood: None }
    }

    /// Ready when nothing has moved for too long. `moved` are the bytes so far.
    pub(super) fn poll_spent(&mut self, cx: &Context<'_>, moved: u64, phase: Phase) -> Poll<PumpError> {
        let deadline = self.deadline.get_or_insert_with(|| self.worker.timers.register());
        let stands = Some((moved, phase));
        if std::mem::replace(&mut self.stood, stands) != stands {
            deadline.set(self.limits.idle_timeout(phase));
        }
        deadline.poll_elapsed(cx).map(|_| self.limits.passed(phase))
    }

    /// As [`Self::poll_spent`] of an answer, also when its client takes nothing of what is held for it while memory is
    /// short.
    pub(super) fn poll_answering(
        &mut self,
        cx: &Context<'_>,
        connection: &Connection,
        standing: Standing,
    ) -> Poll<PumpError> {
        let spent = self.poll_spent(cx, standing.moved, Phase::Answering);
        let Some(deadline) = &self.deadline else { return spent };
        deadline.hold(standing.held > 0, &self.worker.settings.overload, || {
            standing.held_for(connection.id, connection.taken.get())
        });
        spent.map(|_| self.limits.answering_ended(deadline))
    }

    /// As [`Self::poll_spent`] while the request is there and no answer, if the listener limits that.
    fn poll_unanswered(&mut self, cx: &Context<'_>, moved: u64) -> Poll<PumpError> {
        if !self.limits.limits_waiting() {
            return Poll::Pending;
        }
        self.poll_spent(cx, moved, Phase::Waiting)
    }

    /// Begins anew: something has come that is no body.
    pub(super) fn renew(&mut self) {
        self.stood = None;
    }
}

impl RequestBody for Sending<'_> {
    fn poll_send(&mut self, cx: &mut Context<'_>, to: UpstreamWriter<'_>) -> Poll<Result<(), PumpError>> {
        if self.respond.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(PumpError::Read));
        }
        match poll_upload(cx, self.upload, to) {
            Poll::Pending => self.idle_timer.poll_spent(cx, self.upload.data, Phase::Sending).map(Err),
            Poll::Ready(Ok(())) => match self.idle_timer.poll_unanswered(cx, self.upload.data) {
                Poll::Ready(late) => Poll::Ready(Err(late)),
                Poll::Pending => Poll::Ready(Ok(())),
            },
            failed => failed,
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<PumpError> {
        if self.respond.poll_reset(cx).is_ready() {
            return Poll::Ready(PumpError::Read);
        }
        if self.upload.is_moving() {
            return self.idle_timer.poll_spent(cx, self.upload.data, Phase::Sending);
        }
        self.idle_timer.poll_unanswered(cx, self.upload.data)
    }

    fn is_done(&self) -> bool {
        self.upload.is_done()
    }

    fn rewind(&mut self) -> bool {
        self.upload.rewind()
    }

    fn sent(&self) -> Sent<'_> {
        self.upload.sent()
    }
}

/// Moves a request's body up. An endpoint that takes no more is not an error.
pub(super) fn poll_upload(
    cx: &mut Context<'_>,
    upload: &mut FramePump,
    to: UpstreamWriter<'_>,
) -> Poll<Result<(), PumpError>> {
    if !upload.is_moving() {
        return Poll::Ready(Ok(()));
    }
    let moved = match to {
        UpstreamWriter::Http1(to) => upload.poll(cx, to),
        UpstreamWriter::Http2(to) => upload.poll_frames(cx, to),
    };
    match ready!(moved) {
        Err(PumpError::Write) => {
            upload.abandon();
            Poll::Ready(Ok(()))
        }
        result => Poll::Ready(result),
    }
}
