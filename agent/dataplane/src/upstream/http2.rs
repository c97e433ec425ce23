//! HTTP/2 connections to one endpoint, each shared by many requests.

mod dial;
mod sharing;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use snapshot::Connections;

use self::dial::Dialling;
use super::{ConnectError, OwnEnd, Upstream};
use crate::cluster::{EndpointNumber, PendingRequest, Policy, PolicyGeneration, Slot};

/// The HTTP/2 connections of one worker to one endpoint.
#[derive(Default)]
pub(super) struct Http2Connections {
    open: RefCell<Vec<Rc<Shared>>>,
    dialling: RefCell<Option<Rc<Dialling>>>,
}

/// A connection that requests share.
struct Shared {
    sender: SendRequest<Bytes>,
    end: Rc<OwnEnd>,
    streams: Rc<Cell<usize>>,
    used: Cell<bool>,
    ended: Rc<Cell<bool>>,
    since: Instant,
    /// That of the rules it was made by.
    generation: PolicyGeneration,
    idle_since: Cell<Instant>,
    /// Requests it may still take.
    left: Cell<u32>,
    /// Requests that it carries at once as long as there may be another connection, and those it may carry.
    usual_streams: usize,
    max_streams: usize,
    policy: Rc<Policy>,
    /// Its place among the connections of a cluster that limits them.
    _slot: Option<Slot>,
}

/// Room for one request on a shared connection.
pub(crate) struct Http2Stream {
    connection: Rc<Shared>,
    /// The endpoint whose room it is.
    number: EndpointNumber,
    /// Whether the connection has carried a request before: the peer may close it at any moment.
    pub(crate) reused: bool,
}

impl Upstream {
    /// Room for a request on a connection that has some, else on a new one. All who wait for a new one wait for the
    /// same.
    pub(super) async fn http2_stream(self: &Rc<Self>) -> Result<Http2Stream, ConnectError> {
        let mut pending: Option<PendingRequest> = None;
        loop {
            let policy = self.policy();
            if (pending.is_some() || !policy.is_waited_for(self.number))
                && let Some(stream) = self.http2.room(self.number)
            {
                return Ok(stream);
            }
            if pending.is_some() || !self.must_wait(&policy, !self.stats.is_open()) {
                let dialling = self.http2.dialling.borrow().as_ref().map(Rc::clone);
                match dialling.unwrap_or_else(|| self.dial_http2()).finished().await {
                    // No more connections: one that ends makes room, or a request that does on one of those there are.
                    // Where the last has ended since, the next is the first, which there may always be.
                    Err(ConnectError::Overflow) => {
                        if !self.stats.is_open() {
                            continue;
                        }
                        if let Some(stream) = self.http2.crowded_room(self.number) {
                            return Ok(stream);
                        }
                    }
                    result => {
                        result?;
                        continue;
                    }
                }
            }
            if pending.is_none() {
                pending = Some(self.policy().wait(self.number).map_err(|_| ConnectError::Overflow)?);
            }
            if let Some(pending) = &pending {
                pending.come().await;
            }
        }
    }
}

impl Http2Connections {
    fn room(&self, number: EndpointNumber) -> Option<Http2Stream> {
        let mut open = self.open.borrow_mut();
        open.retain(|connection| connection.is_open());
        let connection = open.iter().find(|connection| connection.has_room())?;
        Some(Http2Stream::new(connection, number))
    }

    /// The same on the connection that carries fewest, where there may be no other: beyond how many it usually carries,
    /// which is nobody's rule.
    fn crowded_room(&self, number: EndpointNumber) -> Option<Http2Stream> {
        let open = self.open.borrow();
        let takes =
            |connection: &&Rc<Shared>| connection.is_open() && connection.takes(connection.max_streams);
        let connection = open.iter().filter(takes).min_by_key(|connection| connection.streams.get())?;
        Some(Http2Stream::new(connection, number))
    }

    /// Whether a connection takes one more request.
    pub(super) fn has_room(&self) -> bool {
        self.open.borrow().iter().any(|connection| connection.is_open() && connection.has_room())
    }

    /// Gives up connections that have been idle, or are, for too long; they end with the requests under way.
    pub(super) fn expire(&self, now: Instant, limits: &Connections) {
        self.open.borrow_mut().retain(|connection| !connection.is_over(now, limits));
    }

    /// Gives up a connection that carries no request; false when there is none. One that is new is for those who have
    /// waited for it.
    pub(super) fn close_idle(&self) -> bool {
        let mut open = self.open.borrow_mut();
        let idle = open.iter().position(|connection| connection.used.get() && connection.streams.get() == 0);
        idle.map(|position| open.remove(position)).is_some()
    }

    /// Forgets connections that have ended.
    pub(super) fn sweep(&self) {
        self.open.borrow_mut().retain(|connection| connection.is_open());
    }

    /// Takes no more requests; connections end with those under way.
    pub(super) fn retire(&self) {
        self.open.borrow_mut().clear();
    }

    pub(super) fn is_unused(&self) -> bool {
        self.open.borrow().is_empty()
    }
}

impl Shared {
    /// Whether the peer takes further requests: it has neither closed nor said that it will (GOAWAY).
    fn is_open(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.left.get() > 0
            && !self.ended.get()
            && matches!(self.sender.clone().poll_ready(&mut cx), Poll::Ready(Ok(())))
    }

    fn is_over(&self, now: Instant, limits: &Connections) -> bool {
        let is_idle = self.streams.get() == 0;
        let reached = |limit: Option<Duration>, since: Instant| {
            limit.is_some_and(|limit| now.duration_since(since) >= limit)
        };
        is_idle && reached(limits.idle_timeout, self.idle_since.get())
            || reached(limits.max_duration, self.since)
    }

    fn has_room(&self) -> bool {
        self.takes(self.usual_streams)
    }

    /// Whether it carries fewer requests than these, and than its peer takes.
    fn takes(&self, most: usize) -> bool {
        // A peer that takes none at all for now is waited for by one request per connection.
        self.streams.get() < self.sender.current_max_send_streams().clamp(1, most)
    }
}

impl Http2Stream {
    fn new(connection: &Rc<Shared>, number: EndpointNumber) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        connection.left.set(connection.left.get().saturating_sub(1));
        Self { connection: Rc::clone(connection), number, reused: connection.used.replace(true) }
    }

    /// Our end of the connection.
    pub(crate) fn end(&self) -> &Rc<OwnEnd> {
        &self.connection.end
    }

    /// Whether the peer takes requests for other protocols (RFC 8441).
    pub(crate) fn takes_protocols(&self) -> bool {
        self.connection.sender.is_extended_connect_protocol_enabled()
    }

    /// Sends the head of the request this is for.
    pub(crate) fn send(
        &self,
        head: ::http::Request<()>,
        bodiless: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.connection.sender.clone().send_request(head, bodiless)
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get() - 1);
        self.connection.idle_since.set(Instant::now());
        self.connection.policy.offer(self.number);
    }
}
