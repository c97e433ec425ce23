//! What is remembered of a request's body while it is sent: whether it is through, and since when.

use std::{
    cell::Cell,
    task::{Context, Poll},
    time::Instant,
};

use super::Answerer;
use crate::{
    http::{
        exchange::{RequestBody, Sent, UpstreamWriter},
        pump::PumpError,
    },
    upstream::Lease,
};

/// Tells at any time who answers: a request that is `done` has `begun` and `ended` at the same time unless its body came
/// later.
pub(super) fn answerer(
    lease: &Lease,
    (done, begun, ended): (&Cell<bool>, Instant, &Cell<Option<Instant>>),
) -> impl Fn() -> Answerer {
    let address = lease.address.clone();
    move || {
        let ended = ended.get().unwrap_or(begun);
        Answerer { address: address.clone(), asked: done.get().then_some(ended) }
    }
}

/// A request's body, and whether it is through.
pub(super) struct Watched<'b, B> {
    pub(super) body: &'b mut B,
    pub(super) done: &'b Cell<bool>,
    pub(super) ended: &'b Cell<Option<Instant>>,
}

impl<B: RequestBody> RequestBody for Watched<'_, B> {
    fn poll_send(&mut self, cx: &mut Context<'_>, to: UpstreamWriter<'_>) -> Poll<Result<(), PumpError>> {
        let sent = self.body.poll_send(cx, to);
        if self.body.is_done() && !self.done.replace(true) {
            self.ended.set(Some(Instant::now()));
        }
        sent
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<PumpError> {
        self.body.poll_gone(cx)
    }

    fn is_done(&self) -> bool {
        self.body.is_done()
    }

    fn rewind(&mut self) -> bool {
        self.body.rewind()
    }

    fn sent(&self) -> Sent<'_> {
        self.body.sent()
    }
}
