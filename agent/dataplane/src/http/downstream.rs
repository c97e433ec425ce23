//! A client's HTTP connection between its requests: what is left of it while nobody asks for anything.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use crate::{
    access_log::Recorded, buffer::PooledBuffer, connection::Connection, inspect::HTTP2_PREFACE,
    transport::DownstreamStream,
};

/// A client's HTTP connection.
pub(crate) struct Downstream {
    pub(super) connection: Connection,
    pub(super) stream: DownstreamStream,
    /// What has arrived and was not looked at; absent while the connection is idle.
    pub(super) received: Option<PooledBuffer>,
    /// Fields of the current request for the access log.
    pub(super) line: Recorded,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Spoken {
    Http1,
    Http2,
}

impl Downstream {
    /// `first` is what inspection has read.
    pub(crate) fn new(connection: Connection, stream: DownstreamStream, first: Option<PooledBuffer>) -> Self {
        Self { connection, stream, received: first, line: Recorded::default() }
    }

    /// Reads until it is clear what the client speaks. `None` when it is gone or says nothing.
    pub(super) async fn await_version(&mut self) -> Option<Spoken> {
        let Self { connection, stream, received, .. } = self;
        let worker = connection.worker();
        let agreed = connection.session().is_some_and(|session| session.is_http2);
        if received.is_none() {
            let mut ending = false;
            // Who has agreed on HTTP/2 has to begin with the preface (RFC 9113 §3.4), whether there are requests or not.
            let idle_timeout = if agreed {
                connection.head_timeout()
            } else {
                worker.idle_timeout(&connection.settings.limits)
            };
            let receive = poll_fn(|cx| match worker.buffers.poll_receive(cx, stream, received) {
                Poll::Pending if is_over(connection, &mut ending, idle_timeout) => Poll::Ready(Ok(0)),
                polled => polled,
            });
            connection.deadline.idle_within(idle_timeout, receive).await.ok()?.ok()?;
        }
        let received = received.as_mut()?;
        if agreed {
            // Whatever else comes is a mistake that the codec knows how to answer.
            return Some(Spoken::Http2);
        }
        let reading = async {
            loop {
                let bytes = received.filled();
                if bytes.starts_with(HTTP2_PREFACE) {
                    return Some(Spoken::Http2);
                }
                if !bytes.is_empty() && !HTTP2_PREFACE.starts_with(bytes) {
                    return Some(Spoken::Http1);
                }
                if poll_fn(|cx| received.poll_fill(cx, stream)).await.ok()? == 0 {
                    return None;
                }
            }
        };
        // One limit for all of it, however it is cut to pieces.
        connection.deadline.within(connection.head_timeout(), pin!(reading)).await.ok()?
    }

    /// Waits, without a buffer, for the first bytes of a request. `None` when the connection is to be closed.
    pub(super) async fn await_request(&mut self) -> Option<()> {
        let Self { connection, stream, received, .. } = self;
        if received.as_ref().is_some_and(|received| !received.is_empty()) {
            return Some(());
        }
        *received = None;
        let worker = connection.worker();
        let mut ending = false;
        // One that has lasted as long as it may has a moment for what is on its way.
        let last = connection.rest().map(|rest| rest + worker.settings.draining_patience);
        let limit = worker.keep_alive(&connection.settings.limits).min(last.unwrap_or(Duration::MAX));
        let receive = poll_fn(|cx| match worker.buffers.poll_receive(cx, stream, received) {
            // What has arrived by now is still looked at.
            Poll::Pending if is_over(connection, &mut ending, limit) => Poll::Ready(Ok(0)),
            polled => polled,
        });
        let received = connection.deadline.idle_within(limit, receive).await;
        // The end of the stream is the usual end of a connection.
        (received.ok()?.ok()? > 0).then_some(())
    }
}

/// Whether an idle connection has no place any more. Where requests may be on their way it has a moment for them, which
/// begins when this is first asked; `ending` remembers that. One that has its place back has its time back, too.
fn is_over(connection: &Connection, ending: &mut bool, limit: Duration) -> bool {
    if connection.may_be_served() {
        if std::mem::take(ending) {
            connection.deadline.set(limit);
        }
        return false;
    }
    if !connection.is_ending() {
        return true;
    }
    if !std::mem::replace(ending, true) {
        connection.deadline.set(connection.worker().settings.draining_patience);
    }
    false
}
