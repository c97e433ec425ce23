//! An exchange over an HTTP/1.1 connection of its own.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Poll, ready},
};

use ::http1::{HeadEnd, HeaderSlots};
use tokio::io::AsyncWriteExt;

use super::{Broken, RequestBody, Uplink, interim::Interim};
use crate::{
    buffer::{BufferPool, PooledBuffer},
    http::{LIMITS, Method, head::AnswerHead},
    upstream::{Lease, UpstreamConnection},
};

pub(in crate::http) struct Http1Exchange {
    pub(in crate::http) upstream: UpstreamConnection,
    /// What the endpoint has answered and nobody has taken; absent while it is waited for.
    pub(in crate::http) answered: Option<PooledBuffer>,
    interim: Interim,
    pool: Rc<BufferPool>,
}

impl Http1Exchange {
    pub(super) fn new(upstream: UpstreamConnection, pool: &Rc<BufferPool>) -> Self {
        Self { upstream, answered: None, interim: Interim::default(), pool: Rc::clone(pool) }
    }

    pub(super) async fn send(&mut self, head: &[u8]) {
        // An endpoint that stops reading may have answered; what reading says counts.
        _ = self.upstream.stream.write_all(head).await;
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
                && head_end.find(answered.filled(), &LIMITS)
            {
                let mut slots = HeaderSlots::new();
                let method = method.name_for_framing();
                let parsed = ::http1::parse_response(answered.filled(), &LIMITS, method, &mut slots);
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
        if let Some(answered) =
            self.answered.as_mut().filter(|answered| answered.is_full() && answered.is_small())
        {
            *answered = self.pool.enlarge(answered);
        }
        poll_fn(|cx| {
            let stream = &mut self.upstream.stream;
            let is_sent = body.is_done();
            if !is_sent && let Poll::Ready(Err(error)) = body.poll_send(cx, Uplink::Http1(stream)) {
                return Poll::Ready(Err(Broken::from(error)));
            }
            let received = self.pool.poll_receive(cx, stream, &mut self.answered);
            // Once all is sent the client is watched only while there is no answer to give it.
            if is_sent
                && received.is_pending()
                && let Poll::Ready(Err(error)) = body.poll_send(cx, Uplink::Http1(stream))
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

    /// Keeps the connection for another request if nothing more is to come on it.
    pub(in crate::http) fn release(self, lease: &Lease) {
        if self.answered.is_none_or(|answered| answered.is_empty()) {
            lease.give_back(self.upstream);
        }
    }
}
