//! An exchange over an HTTP/1.1 connection of its own.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use ::http1::{HeadEnd, HeaderSlots};
use tokio::io::AsyncWrite;

use super::{Broken, RequestBody, UpstreamWriter, interim::Interim};
use crate::{
    buffer::{BufferPool, PooledBuffer},
    http::{Method, head::AnswerHead, pump::PumpError},
    upstream::{Lease, UpstreamConnection},
    worker::{HeadLimits, Worker},
};

pub(in crate::http) struct Http1Exchange {
    pub(in crate::http) upstream: Box<UpstreamConnection>,
    /// What the endpoint has answered and nobody has taken; absent while it is waited for.
    pub(in crate::http) answered: Option<PooledBuffer>,
    /// How much has been sent again of what an endpoint before has got of the body; absent when that is through.
    again: Option<usize>,
    interim: Interim,
    pool: Rc<BufferPool>,
    limits: HeadLimits,
}

impl Http1Exchange {
    pub(super) fn new(upstream: Box<UpstreamConnection>, worker: &Worker) -> Self {
        let (pool, limits) = (Rc::clone(&worker.buffers), worker.settings.heads);
        Self { upstream, answered: None, again: None, interim: Interim::default(), pool, limits }
    }

    /// Writes a request's head while its client waits. `again` says that what has been sent of its body follows, beside
    /// what the endpoint answers.
    pub(super) async fn write(
        &mut self,
        head: &[u8],
        body: &mut impl RequestBody,
        again: bool,
    ) -> Result<(), Broken> {
        self.again = again.then_some(0);
        write_while_wanted(&mut self.upstream.stream, head, body).await
    }

    /// Whether what has been sent of the body before is still on its way.
    pub(in crate::http) fn is_repeating(&self) -> bool {
        self.again.is_some()
    }

    /// Sends what has been `sent` of the body before; ready when the rest may follow.
    pub(in crate::http) fn poll_repeat(&mut self, cx: &mut Context<'_>, sent: &[u8]) -> Poll<()> {
        if let Some(written) = &mut self.again {
            ready!(poll_write_all(cx, &mut self.upstream.stream, &sent[*written..], written));
            self.again = None;
        }
        Poll::Ready(())
    }

    /// Sends what there is of the body, first what has been sent before.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut impl RequestBody,
    ) -> Poll<Result<(), PumpError>> {
        if self.poll_repeat(cx, body.sent().bytes).is_pending() {
            return body.poll_gone(cx).map(Err);
        }
        body.poll_send(cx, UpstreamWriter::Http1(&mut self.upstream.stream))
    }

    pub(super) async fn next_head<T>(
        &mut self,
        method: Method,
        body: &mut impl RequestBody,
        mut take: impl FnMut(&AnswerHead<'_>) -> T,
    ) -> Result<T, Broken> {
        let mut head_end = HeadEnd::default();
        loop {
            if let Some(answered) = &mut self.answered
                && head_end.find(answered.filled(), self.limits.codec())
            {
                let mut slots = HeaderSlots::new();
                let method = method.name_for_framing();
                let parsed =
                    ::http1::parse_response(answered.filled(), self.limits.codec(), method, &mut slots);
                if let Some(response) = parsed.map_err(|_| Broken::Protocol)? {
                    if response.is_interim() {
                        self.interim.count(response.head_len)?;
                    }
                    let (taken, head_len) = (take(&AnswerHead::Http1(&response)), response.head_len);
                    self.upstream.learn_idle_timeout(response.idle_timeout);
                    answered.consume(head_len);
                    return Ok(taken);
                }
            }
            self.fill(body).await?;
        }
    }

    async fn fill(&mut self, body: &mut impl RequestBody) -> Result<(), Broken> {
        if let Some(answered) = self.answered.as_mut().filter(|answered| answered.is_full()) {
            *answered = self.pool.enlarge(answered);
        }
        poll_fn(|cx| {
            let is_sent = body.is_done() && !self.is_repeating();
            if !is_sent && let Poll::Ready(Err(error)) = self.poll_send(cx, body) {
                return Poll::Ready(Err(Broken::from(error)));
            }
            let received = self.pool.poll_receive(cx, &mut self.upstream.stream, &mut self.answered);
            // Once all is sent the client is watched only while there is no answer to give it.
            if is_sent
                && received.is_pending()
                && let Poll::Ready(Err(error)) = self.poll_send(cx, body)
            {
                return Poll::Ready(Err(Broken::from(error)));
            }
            match ready!(received) {
                Ok(1..) => Poll::Ready(Ok(())),
                Ok(0) | Err(_) if self.answered.as_ref().is_none_or(|answered| answered.is_empty()) => {
                    Poll::Ready(Err(Broken::Closed))
                }
                Ok(0) | Err(_) => Poll::Ready(Err(Broken::Protocol)),
            }
        })
        .await
    }

    /// Keeps the connection for another request if nothing more is to come or to go on it.
    pub(in crate::http) fn release(self, lease: &Lease) {
        if !self.is_repeating() && self.answered.is_none_or(|answered| answered.is_empty()) {
            lease.give_back(self.upstream);
        }
    }
}

async fn write_while_wanted(
    stream: &mut (impl AsyncWrite + Unpin),
    head: &[u8],
    body: &mut impl RequestBody,
) -> Result<(), Broken> {
    let mut written = 0;
    poll_fn(|cx| match poll_write_all(cx, stream, &head[written..], &mut written) {
        Poll::Ready(()) => Poll::Ready(Ok(())),
        Poll::Pending => body.poll_gone(cx).map(|gone| Err(gone.into())),
    })
    .await
}

/// Writes what is left and adds to `written`. An endpoint that stops reading may have answered; what reading says counts.
fn poll_write_all(
    cx: &mut Context<'_>,
    stream: &mut (impl AsyncWrite + Unpin),
    mut left: &[u8],
    written: &mut usize,
) -> Poll<()> {
    while !left.is_empty() {
        let Ok(n @ 1..) = ready!(Pin::new(&mut *stream).poll_write(cx, left)) else { return Poll::Ready(()) };
        left = &left[n..];
        *written += n;
    }
    Pin::new(stream).poll_flush(cx).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::*;
    use crate::http::exchange::Sent;

    /// A body, and whether its client has left.
    struct Body {
        gone: bool,
    }

    impl RequestBody for Body {
        fn poll_send(&mut self, _: &mut Context<'_>, _: UpstreamWriter<'_>) -> Poll<Result<(), PumpError>> {
            Poll::Pending
        }

        fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<PumpError> {
            if self.gone { Poll::Ready(PumpError::Read) } else { Poll::Pending }
        }

        fn is_done(&self) -> bool {
            false
        }

        fn rewind(&mut self) -> bool {
            true
        }

        fn sent(&self) -> Sent<'_> {
            Sent { bytes: &[], trailers: None, ended: false }
        }
    }

    /// What came of writing to an endpoint that takes so many bytes and reads none.
    fn written(room: usize, gone: bool) -> Poll<Result<(), bool>> {
        let (mut stream, _endpoint) = tokio::io::duplex(room);
        let mut body = Body { gone };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let writing = std::pin::pin!(write_while_wanted(&mut stream, &[1; 1000], &mut body));
        writing.poll(&mut cx).map_err(|broken| matches!(broken, Broken::Downstream))
    }

    #[test]
    fn writing_to_an_endpoint_that_does_not_read_ends_with_the_client() {
        assert_eq!(written(1000, false), Poll::Ready(Ok(())));
        assert_eq!(written(999, false), Poll::Pending);
        assert_eq!(written(999, true), Poll::Ready(Err(true)));
    }
}
