//! HTTP/2 connections to one endpoint, each shared by many requests.

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    Ping, PingPong, SendStream,
    client::{self, ResponseFuture, SendRequest},
};
use snapshot::{Address, Connections, Http2KeepAlive};
use tokio::{sync::Notify, task::spawn_local};

use super::{ConnectError, Open, OwnEnd, Upstream, UpstreamStream};
use crate::{
    bounds,
    cluster::{Era, Place, Policy, Slot, Whose},
    proxy_protocol::Announcement,
    tls::Speaks,
    worker::HeadLimits,
};

/// How many requests share a connection, and how many bytes its endpoint may send ahead of their clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Sharing {
    /// Further requests get another connection.
    streams: u32,
    /// Bytes for each request: what one can make us hold.
    stream_window: u32,
}

impl Sharing {
    /// What DestinationRules that say nothing have. It keeps what one broken connection costs small.
    const DEFAULT: Self = Self { streams: bounds::SHARED_BY, stream_window: bounds::ENDPOINT_WINDOW };
    /// What HTTP/2 begins with (RFC 9113 §6.9.2).
    const SMALLEST_WINDOW: u32 = 65_535;

    /// For `maxConcurrentStreams`. More requests than usual share the window of as many as are usual, as far as that
    /// leaves each as much as any peer counts on.
    fn of(asked: Option<u32>) -> Self {
        let usual = Self::DEFAULT;
        let streams = asked.unwrap_or(usual.streams).clamp(1, i32::MAX as u32 / Self::SMALLEST_WINDOW);
        let share = usual.connection_window() / streams;
        Self { streams, stream_window: share.clamp(Self::SMALLEST_WINDOW, usual.stream_window) }
    }

    /// Room for all requests at once: no request is ever kept from its answer by others whose clients do not read.
    const fn connection_window(self) -> u32 {
        self.streams * self.stream_window
    }
}

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
    streams: Cell<usize>,
    used: Cell<bool>,
    ended: Rc<Cell<bool>>,
    since: Instant,
    /// That of the rules it was made by.
    era: Era,
    idle_since: Cell<Instant>,
    /// Requests it may still take.
    left: Cell<u32>,
    /// Requests it may carry at once.
    max_streams: usize,
    policy: Rc<Policy>,
    /// Its place among the connections of a cluster that limits them.
    _slot: Option<Slot>,
}

/// Room for one request on a shared connection.
pub(crate) struct Http2Stream {
    connection: Rc<Shared>,
    /// The endpoint whose room it is.
    whose: Whose,
    /// Whether the connection has carried a request before: the peer may close it at any moment.
    pub(crate) reused: bool,
}

/// A connection on its way, and what became of it, for all who wait for it.
#[derive(Default)]
struct Dialling {
    result: RefCell<Option<Result<(), ConnectError>>>,
    done: Notify,
}

impl Upstream {
    /// Room for a request on a connection that has some, else on a new one. All who wait for a new one wait for the
    /// same.
    pub(super) async fn http2_stream(self: &Rc<Self>) -> Result<Http2Stream, ConnectError> {
        let mut place: Option<Place> = None;
        loop {
            let policy = self.policy();
            if (place.is_some() || !policy.is_waited_for(self.whose))
                && let Some(stream) = self.http2.room(self.whose)
            {
                return Ok(stream);
            }
            if place.is_some() || !self.must_wait(&policy, !self.tally.is_open()) {
                let dialling = self.http2.dialling.borrow().as_ref().map(Rc::clone);
                match dialling.unwrap_or_else(|| self.dial_http2()).finished().await {
                    // No more connections: one that ends makes room, or a request that does on one of those there are.
                    Err(ConnectError::Overflow) if self.tally.is_open() => {}
                    result => {
                        result?;
                        continue;
                    }
                }
            }
            if place.is_none() {
                place = Some(self.policy().wait(self.whose).map_err(|_| ConnectError::Overflow)?);
            }
            if let Some(place) = &place {
                place.come().await;
            }
        }
    }

    /// Dials in a task of its own: the request that asked for it may be taken back while others wait.
    fn dial_http2(self: &Rc<Self>) -> Rc<Dialling> {
        let dialling = Rc::new(Dialling::default());
        *self.http2.dialling.borrow_mut() = Some(Rc::clone(&dialling));
        let task = DialTask { upstream: Rc::clone(self), waited_for: Rc::clone(&dialling) };
        spawn_local(async move {
            let result = task.upstream.connect_http2().await;
            let result = result.map(|shared| task.upstream.offer(shared));
            task.waited_for.result.replace(Some(result));
        });
        dialling
    }

    /// Lets requests use a connection, unless the rules have changed on its way: who waits for it dials anew.
    fn offer(&self, connection: Shared) {
        if self.policy().keeps_connections_of(connection.era) {
            self.http2.open.borrow_mut().push(Rc::new(connection));
            self.policy().offer(self.whose);
        }
    }

    async fn connect_http2(&self) -> Result<Shared, ConnectError> {
        // Shared by clients, it stands for none of them.
        let version = self.policy().proxy_protocol;
        let announcement = version.map(|version| Announcement { version, addresses: None });
        let connected = self.connect_as(Speaks::Http2, announcement).await?;
        let policy = self.policy();
        let sharing = Sharing::of(policy.connections.max_concurrent_streams);
        match tokio::time::timeout(policy.connect_timeout, handshake(connected.stream, sharing, policy.heads))
            .await
        {
            Ok(Ok((sender, connection))) => Ok(Shared {
                sender,
                end: connected.end,
                streams: Cell::new(0),
                used: Cell::new(false),
                ended: drive(connection, (self.address.clone(), connected.open), Rc::clone(&policy)),
                since: connected.since,
                era: connected.era,
                idle_since: Cell::new(Instant::now()),
                left: Cell::new(policy.connections.max_requests.unwrap_or(u32::MAX)),
                max_streams: sharing.streams as usize,
                policy,
                _slot: connected.slot,
            }),
            Ok(Err(error)) => Err(ConnectError::NotHttp2(error.to_string())),
            Err(_) => Err(ConnectError::Timeout),
        }
    }
}

type Connection = client::Connection<UpstreamStream, Bytes>;

/// Exchanges settings. A peer that sends none does not speak HTTP/2.
async fn handshake(
    stream: UpstreamStream,
    sharing: Sharing,
    heads: HeadLimits,
) -> Result<(SendRequest<Bytes>, Connection), h2::Error> {
    let (sender, mut connection) = client::Builder::new()
        .initial_window_size(sharing.stream_window)
        .initial_connection_window_size(sharing.connection_window())
        .max_header_list_size(heads.bytes())
        .max_send_buffer_size(bounds::FRAME)
        .enable_push(false)
        .initial_max_send_streams(0)
        .handshake(stream)
        .await?;
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Ready(Ok(())) => Poll::Ready(Err(h2::Reason::PROTOCOL_ERROR.into())),
        // The settings say how many requests at a time the peer takes; without a word, any number.
        Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    Ok((sender, connection))
}

/// Moves the frames of a connection until it ends, which the value returned then says.
fn drive(
    mut connection: Connection,
    (upstream, open): (Address, Open),
    policy: Rc<Policy>,
) -> Rc<Cell<bool>> {
    let ended = Rc::new(Cell::new(false));
    let at_end = AtEnd(Rc::clone(&ended));
    spawn_local(async move {
        let keepalive = policy.connections.http2_keepalive;
        let pings = keepalive.and_then(|keepalive| connection.ping_pong().map(|pings| (pings, keepalive)));
        let answering = async {
            match pings {
                Some((pings, keepalive)) => answers_pings(pings, keepalive).await,
                None => pending().await,
            }
        };
        tokio::select! {
            result = connection => if let Err(error) = result {
                tracing::debug!(%upstream, %error, "HTTP/2 connection to an endpoint ended");
            },
            () = answering => tracing::debug!(%upstream, "HTTP/2 connection to an endpoint answers no pings"),
        }
        drop((open, at_end));
        // Its place was given back before it had ended: its endpoint may have none now.
        policy.call_waiting();
    });
    ended
}

/// Says that a connection has ended, also when what drives it has panicked.
struct AtEnd(Rc<Cell<bool>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

/// Returns when the peer leaves a ping unanswered for too long.
async fn answers_pings(mut pings: PingPong, Http2KeepAlive { interval, timeout }: Http2KeepAlive) {
    loop {
        tokio::time::sleep(interval).await;
        if !matches!(tokio::time::timeout(timeout, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}

impl Http2Connections {
    fn room(&self, whose: Whose) -> Option<Http2Stream> {
        let mut open = self.open.borrow_mut();
        open.retain(|connection| connection.is_open());
        let connection = open.iter().find(|connection| connection.has_room())?;
        Some(Http2Stream::new(connection, whose))
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
        // A peer that takes none at all for now is waited for by one request per connection.
        self.streams.get() < self.sender.current_max_send_streams().clamp(1, self.max_streams)
    }
}

impl Http2Stream {
    fn new(connection: &Rc<Shared>, whose: Whose) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        connection.left.set(connection.left.get().saturating_sub(1));
        Self { connection: Rc::clone(connection), whose, reused: connection.used.replace(true) }
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
        self.connection.policy.offer(self.whose);
    }
}

/// Tells who waits for a connection that it is there, or will never be: also when dialling has panicked.
struct DialTask {
    upstream: Rc<Upstream>,
    waited_for: Rc<Dialling>,
}

impl Drop for DialTask {
    fn drop(&mut self) {
        self.upstream.http2.dialling.take();
        let abandoned = || Err(ConnectError::Failed(io::ErrorKind::Interrupted.into()));
        self.waited_for.result.borrow_mut().get_or_insert_with(abandoned);
        self.waited_for.done.notify_waiters();
    }
}

impl Dialling {
    async fn finished(&self) -> Result<(), ConnectError> {
        loop {
            if let Some(result) = &*self.result.borrow() {
                return result.as_ref().copied().map_err(ConnectError::again);
            }
            self.done.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use snapshot::{Cluster, Discovery};

    use super::*;
    use crate::{cluster::ClusterConnections, shared::SharedCluster};

    #[test]
    fn who_waits_for_a_dial_that_panics_is_told_and_the_next_dials_anew() {
        let address = Address::from(([10, 0, 0, 1], 80));
        let cluster = Cluster::new("a", Discovery::of_addresses([address]));
        let shared = (SharedCluster::default(), None, HeadLimits::default());
        let connections = ClusterConnections::new(&cluster, shared, None);
        let upstream = connections.upstreams().remove(0);
        let waited_for = Rc::new(Dialling::default());
        *upstream.http2.dialling.borrow_mut() = Some(Rc::clone(&waited_for));
        let task = DialTask { upstream: Rc::clone(&upstream), waited_for: Rc::clone(&waited_for) };
        let dial = move || {
            let _task = task;
            panic!("injected");
        };
        assert!(catch_unwind(AssertUnwindSafe(dial)).is_err());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(matches!(runtime.block_on(waited_for.finished()), Err(ConnectError::Failed(_))));
        assert!(upstream.http2.dialling.borrow().is_none());
    }

    #[test]
    fn a_connection_whose_task_panics_has_ended() {
        let ended = Rc::new(Cell::new(false));
        let at_end = AtEnd(Rc::clone(&ended));
        let drive = move || {
            let _at_end = at_end;
            panic!("injected");
        };
        assert!(catch_unwind(AssertUnwindSafe(drive)).is_err());
        assert!(ended.get());
    }

    #[test]
    fn all_requests_of_a_connection_fit_its_window() {
        let of = |asked| Sharing::of(asked);
        assert_eq!(of(None), Sharing::DEFAULT);
        assert_eq!(of(Some(1)), Sharing { streams: 1, stream_window: 256 * 1024 });
        assert_eq!(of(Some(200)), Sharing { streams: 200, stream_window: 128 * 1024 });
        assert_eq!(of(Some(10_000)), Sharing { streams: 10_000, stream_window: 65_535 });
        assert!(of(Some(u32::MAX)).connection_window() <= i32::MAX as u32);
    }
}
