//! The body of a request, as it comes from an HTTP/2 client.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;

use crate::{
    http::{
        exchange::{RequestBody, Sent, Uplink},
        frames::FramePump,
        pump::PumpError,
    },
    timer::Registered,
    worker::Worker,
};

/// A request's body in HTTP/2 frames, and the sign that the client wants no answer any more.
pub(super) struct Sending<'s> {
    pub(super) upload: &'s mut FramePump,
    pub(super) respond: &'s mut SendResponse<Bytes>,
    pub(super) patience: Patience<'s>,
}

/// How long a stream may stand still. The timer costs only those that have to wait.
pub(super) struct Patience<'w> {
    worker: &'w Worker,
    deadline: Option<Registered>,
    /// Bytes that had moved when it was looked at last.
    moved: u64,
}

impl<'w> Patience<'w> {
    pub(super) fn new(worker: &'w Worker) -> Self {
        Self { worker, deadline: None, moved: 0 }
    }

    /// Ready when nothing has moved for too long. `moved` are the bytes so far.
    pub(super) fn poll_spent(&mut self, cx: &Context<'_>, moved: u64) -> Poll<PumpError> {
        let fresh = self.deadline.is_none();
        let deadline = self.deadline.get_or_insert_with(|| self.worker.timers.register());
        if std::mem::replace(&mut self.moved, moved) != moved || fresh {
            deadline.set(self.worker.settings.idle_timeout);
        }
        deadline.poll_elapsed(cx).map(|_| PumpError::Idle)
    }
}

impl RequestBody for Sending<'_> {
    fn poll_send(&mut self, cx: &mut Context<'_>, to: Uplink<'_>) -> Poll<Result<(), PumpError>> {
        if self.respond.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(PumpError::Read));
        }
        let moved = poll_upload(cx, self.upload, to);
        if moved.is_pending() { self.patience.poll_spent(cx, self.upload.data).map(Err) } else { moved }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<PumpError> {
        self.respond.poll_reset(cx).map(|_| PumpError::Read)
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
    to: Uplink<'_>,
) -> Poll<Result<(), PumpError>> {
    if !upload.is_moving() {
        return Poll::Ready(Ok(()));
    }
    let moved = match to {
        Uplink::Http1(to) => upload.poll(cx, to),
        Uplink::Http2(to) => upload.poll_frames(cx, to),
    };
    match ready!(moved) {
        Err(PumpError::Write) => {
            upload.abandon();
            Poll::Ready(Ok(()))
        }
        result => Poll::Ready(result),
    }
}
