//! One endpoint as one worker knows it: how busy it is, and the idle connections to it.

mod http2;
mod stream;
mod tally;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use snapshot::{EndpointCounts, HostName};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use self::{
    http2::Http2Connections,
    tally::{Open, Tally},
};
use crate::{
    cluster::{Policy, Slot},
    failure::LocalReply,
    health::{Sign, Watch},
    proxy_protocol::Announcement,
    shared::{Permit, Resource},
    sys::{self, Source},
    tls::Speaks,
};

pub(crate) use self::{http2::Http2Stream, stream::UpstreamStream};

/// An endpoint, or an original destination, with this worker's connections to it.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    /// What connections to it come from, if the kernel is not to choose.
    source: Option<Source>,
    /// Whether a proxy of the mesh stands before it.
    speaks_mesh_tls: bool,
    /// The host its connections are for, where TLS tells it the endpoint.
    host: Option<Box<str>>,
    /// The same endpoint for the hosts of requests, where they cannot share connections.
    by_host: RefCell<HashMap<Box<str>, Rc<Self>, RandomState>>,
    policy: RefCell<Rc<Policy>>,
    /// What the workers know of its health, if the cluster ejects outliers.
    watch: RefCell<Option<Watch>>,
    /// Share of the requests relative to the other endpoints.
    share: Cell<f64>,
    /// Since when it is known.
    pub(crate) since: Instant,
    active: Cell<u32>,
    tally: Rc<Tally>,
    idle: RefCell<Vec<Idle>>,
    http2: Http2Connections,
    retired: Cell<bool>,
}

/// Where connections go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) source: Option<Source>,
    pub(crate) speaks_mesh_tls: bool,
}

impl Target {
    /// An original destination, of which nothing is known.
    pub(crate) fn of((address, source): (SocketAddr, Option<Source>)) -> Self {
        Self { address, source, speaks_mesh_tls: false }
    }
}

struct Idle {
    connection: UpstreamConnection,
    since: Instant,
}

/// A connection to an endpoint.
pub(crate) struct UpstreamConnection {
    pub(crate) stream: UpstreamStream,
    /// Our side of it, for the access log.
    pub(crate) local: Option<SocketAddr>,
    /// Whether it has carried a request before: the peer may close it at any moment.
    pub(crate) reused: bool,
    /// Requests it has been used for.
    requests: u32,
    since: Instant,
    /// Its place among the connections of a cluster that limits them.
    slot: Option<Slot>,
    /// Counts it as open.
    open: Open,
}

/// Why no connection to an endpoint came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("connection timeout")]
    Timeout,
    #[error("remote connection failure")]
    Failed(#[from] io::Error),
    #[error("TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    #[error("the cluster has as many connections or waiting requests as it may")]
    Overflow,
    #[error("the endpoint does not speak HTTP/2: {0}")]
    NotHttp2(String),
}

impl ConnectError {
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`: what the network or TLS says of it, in Envoy's words where it has any.
    pub(crate) fn transport_failure(&self) -> Option<Box<str>> {
        let text = match self {
            Self::Failed(error) => {
                let known = error.raw_os_error().map(|number| nix::errno::Errno::from_raw(number).desc());
                format!("delayed connect error: {}", known.map_or(error.to_string(), str::to_owned))
            }
            Self::Tls(error) => format!("TLS_error: {error}"),
            Self::NotHttp2(error) => format!("not HTTP/2: {error}"),
            Self::Timeout | Self::Overflow => return None,
        };
        // It stands among values that blanks part.
        Some(text.replace(|char: char| char.is_whitespace() || char.is_control(), "_").into())
    }

    /// Whether the cluster has as many connections as it may, or as many requests waiting for one.
    pub(crate) fn is_overflow(&self) -> bool {
        matches!(self, Self::Overflow)
    }

    /// The same for another who waited for the connection.
    fn again(&self) -> Self {
        match self {
            Self::Timeout => Self::Timeout,
            Self::Failed(error) => Self::Failed(io::Error::new(error.kind(), error.to_string())),
            Self::Tls(error) => Self::Tls(io::Error::new(error.kind(), error.to_string())),
            Self::Overflow => Self::Overflow,
            Self::NotHttp2(error) => Self::NotHttp2(error.clone()),
        }
    }
}

/// Hosts per endpoint whose connections are kept; a client that asks for more names than there are gets connections of
/// its own.
const MAX_HOSTS: usize = 64;
/// Idle connections kept per endpoint and worker; more are closed instead.
const MAX_IDLE: usize = 256;

impl Upstream {
    pub(crate) fn new(target: Target, policy: Rc<Policy>) -> Self {
        let Target { address, source, speaks_mesh_tls } = target;
        Self {
            address,
            source,
            speaks_mesh_tls,
            host: None,
            by_host: RefCell::default(),
            watch: RefCell::new(policy.watch(address)),
            policy: RefCell::new(policy),
            share: Cell::new(1.0),
            since: Instant::now(),
            active: Cell::new(0),
            tally: Rc::default(),
            idle: RefCell::default(),
            http2: Http2Connections::default(),
            retired: Cell::new(false),
        }
    }

    /// The same with what is sent to it counted as sent to `other`.
    pub(crate) fn counted_with(self, other: &Self) -> Self {
        Self { tally: Rc::clone(&other.tally), ..self }
    }

    /// What was sent to it.
    pub(crate) fn counts(&self) -> EndpointCounts {
        EndpointCounts { rq_active: self.active.get().into(), ..self.tally.counts() }
    }

    /// Counts a request, or an opaque connection, that is about to be sent.
    pub(crate) fn count_request(&self) {
        self.tally.requests.add(1);
    }

    /// Counts a request whose answer did not come in time, which speaks against the endpoint.
    pub(crate) fn timed_out(&self) {
        self.tally.timeouts.add(1);
        self.observe(Sign::TimedOut);
    }

    /// This endpoint with connections for one host only, where TLS tells the endpoint the host.
    fn for_host(self: &Rc<Self>, authority: &str) -> Option<Rc<Self>> {
        let policy = self.policy();
        let by_host = policy.tls.as_ref()?;
        if !(by_host.is_by_host() && by_host.is_spoken_to(self.speaks_mesh_tls)) {
            return None;
        }
        let host = HostName::of_authority(authority);
        // Certificates name addresses without brackets.
        let host = host.as_str().trim_start_matches('[').trim_end_matches(']');
        if let Some(known) = self.by_host.borrow().get(host) {
            return Some(Rc::clone(known));
        }
        let mut upstream = Self::new(self.target(), policy).counted_with(self);
        upstream.host = Some(host.into());
        let upstream = Rc::new(upstream);
        let mut by_host = self.by_host.borrow_mut();
        if by_host.len() < MAX_HOSTS {
            by_host.insert(host.into(), Rc::clone(&upstream));
        }
        Some(upstream)
    }

    /// Where its connections go.
    pub(crate) fn target(&self) -> Target {
        Target { address: self.address, source: self.source, speaks_mesh_tls: self.speaks_mesh_tls }
    }

    /// The rules it is used by.
    pub(crate) fn policy(&self) -> Rc<Policy> {
        Rc::clone(&self.policy.borrow())
    }

    /// Other rules from now on; connections there are go on serving.
    pub(crate) fn set_policy(&self, policy: Rc<Policy>) {
        for upstream in self.by_host.borrow().values() {
            upstream.set_policy(Rc::clone(&policy));
        }
        *self.watch.borrow_mut() = policy.watch(self.address);
        *self.policy.borrow_mut() = policy;
    }

    /// Requests and connections under way.
    pub(crate) fn active(&self) -> u32 {
        self.active.get()
    }

    /// Share of the requests relative to the other endpoints.
    pub(crate) fn share(&self) -> f64 {
        self.share.get()
    }

    /// Changes its share.
    pub(crate) fn set_share(&self, share: f64) {
        self.share.set(share);
    }

    /// Counts one more request or connection until the lease is dropped.
    pub(crate) fn lease(self: &Rc<Self>) -> Lease {
        self.active.set(self.active.get() + 1);
        Lease { upstream: Rc::clone(self), for_host: None, request: None, announcement: None }
    }

    /// The idle connection used last, or `None` when there is none alive.
    ///
    /// The one read costs no system call as long as nothing arrived: tokio remembers that the socket is not
    /// readable. Bytes or an end of stream on an idle connection both make it useless.
    pub(crate) fn checkout(&self) -> Option<UpstreamConnection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { mut connection, .. }) = idle.pop() {
            if connection.is_quiet() {
                connection.reused = true;
                connection.requests += 1;
                return Some(connection);
            }
        }
        None
    }

    async fn connect_as(
        &self,
        speaks: Speaks,
        announcement: Option<Announcement>,
    ) -> Result<UpstreamConnection, ConnectError> {
        let policy = self.policy();
        let slot = policy.slot().map_err(|_| ConnectError::Overflow)?;
        self.open(&policy, slot, (speaks, announcement)).await
    }

    async fn connect_or_wait_as(
        &self,
        announcement: Option<Announcement>,
    ) -> Result<UpstreamConnection, ConnectError> {
        let policy = self.policy();
        let slot = match policy.slot() {
            Ok(slot) => slot,
            Err(_) => {
                let _waiting = policy.pending().map_err(|_| ConnectError::Overflow)?;
                loop {
                    policy.freed().await;
                    if let Some(idle) = self.checkout() {
                        return Ok(idle);
                    }
                    if let Ok(slot) = policy.slot() {
                        break slot;
                    }
                }
            }
        };
        self.open(&policy, slot, (Speaks::Http1, announcement)).await
    }

    async fn open(
        &self,
        policy: &Policy,
        slot: Option<Slot>,
        (speaks, announcement): (Speaks, Option<Announcement>),
    ) -> Result<UpstreamConnection, ConnectError> {
        let open = self.tally.open();
        let connecting = async {
            let mut stream = self.dial().await?;
            stream.set_nodelay(true)?;
            if let Some(keepalive) = &policy.connections.keepalive {
                sys::set_keepalive(&stream, keepalive)?;
            }
            if let Some(announcement) = announcement {
                stream.write_all(&announcement.header()).await?;
            }
            let local = stream.local_addr().ok();
            let connector = policy.tls.as_ref().filter(|tls| tls.is_spoken_to(self.speaks_mesh_tls));
            let Some(connector) = connector else { return Ok((UpstreamStream::Tcp(stream), local)) };
            // In a box of its own: the state of a handshake is large, and clear text should not hold room for it.
            let handshake = Box::pin(connector.connect(stream, (self.address, self.host.as_deref()), speaks));
            let stream = handshake.await.map_err(ConnectError::Tls)?;
            Ok((UpstreamStream::Tls(Box::new(stream)), local))
        };
        let connected = tokio::time::timeout(policy.connect_timeout, connecting).await;
        let (stream, local) = connected
            .map_err(|_| ConnectError::Timeout)
            .and_then(|connected| connected)
            .inspect_err(|_| {
                self.tally.connect_failures.add(1);
                self.observe(Sign::LocalFailure);
            })?;
        self.observe(Sign::Connected);
        let since = Instant::now();
        Ok(UpstreamConnection { stream, local, reused: false, requests: 1, since, slot, open })
    }

    /// Connects from the source, or from a port of the kernel's choice where the one that was chosen has a connection to
    /// the endpoint already: of another request of the same client, or one that the kernel has not forgotten yet.
    async fn dial(&self) -> io::Result<TcpStream> {
        let source = self.source.map(Source::with_port);
        match (sys::connect(self.address, source).await, source) {
            (Err(error), Some(source)) if source.has_port() && is_taken(&error) => {
                tracing::debug!(?source, upstream = %self.address, %error, "the port is taken");
                sys::connect(self.address, Some(source.any_port())).await
            }
            (connected, _) => connected,
        }
    }

    /// Keeps a connection on which a request has ended cleanly for the next one.
    pub(crate) fn give_back(&self, connection: UpstreamConnection) {
        let policy = self.policy.borrow();
        let now = Instant::now();
        let worn_out = policy.connections.max_requests.is_some_and(|limit| connection.requests >= limit)
            || connection.is_too_old(&policy, now)
            // It stands for one client only.
            || policy.proxy_protocol.is_some();
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE && !self.retired.get() && !worn_out {
            idle.push(Idle { connection, since: now });
            policy.notify_freed();
        }
    }

    /// Whether a request would find a connection here.
    pub(crate) fn is_warm(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        while idle.last_mut().is_some_and(|idle| !idle.connection.is_quiet()) {
            idle.pop();
        }
        !idle.is_empty() || self.http2.has_room()
    }

    /// Closes the connection that has been idle longest; false when there is none.
    pub(crate) fn close_idle(&self) -> bool {
        if self.by_host.borrow().values().any(|upstream| upstream.close_idle()) {
            return true;
        }
        let mut idle = self.idle.borrow_mut();
        let any = !idle.is_empty();
        if any {
            drop(idle.remove(0));
        }
        any
    }

    /// Closes idle connections that the peer closed or that have been idle, or are, for too long.
    pub(crate) fn sweep(&self, now: Instant) {
        let policy = self.policy();
        let limit = policy.connections.idle_timeout.unwrap_or(Duration::MAX);
        self.http2.sweep(now, limit);
        self.by_host.borrow_mut().retain(|_, upstream| {
            upstream.sweep(now);
            // Requests under way are counted for the endpoint as a whole.
            Rc::strong_count(upstream) > 1 || !upstream.is_unused()
        });
        self.idle.borrow_mut().retain_mut(|idle| {
            now.duration_since(idle.since) < limit
                && !idle.connection.is_too_old(&policy, now)
                && idle.connection.is_quiet()
        });
    }

    /// Closes the idle connections and keeps none from now on: nothing new comes here.
    pub(crate) fn retire(&self) {
        self.by_host.borrow().values().for_each(|upstream| upstream.retire());
        self.retired.set(true);
        self.idle.borrow_mut().clear();
        self.http2.retire();
    }

    /// Whether nothing would be lost by forgetting this endpoint.
    pub(crate) fn is_unused(&self) -> bool {
        let unused = self.by_host.borrow().values().all(|upstream| upstream.is_unused());
        unused && self.active.get() == 0 && self.idle.borrow().is_empty() && self.http2.is_unused()
    }

    /// Takes into account what an attempt says about the endpoint.
    pub(crate) fn observe(&self, sign: Sign) {
        self.tally.observe(sign);
        if self.watch.borrow().as_ref().is_some_and(|watch| watch.observe(sign)) {
            tracing::info!(upstream = %self.address, cluster = self.policy.borrow().name, "ejected for its failures");
        }
    }

    /// Whether it is left alone for its failures.
    pub(crate) fn is_ejected(&self) -> bool {
        self.watch.borrow().as_ref().is_some_and(Watch::is_ejected)
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

impl UpstreamConnection {
    /// Whether the peer has neither sent anything nor closed.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.stream.is_quiet()
    }

    fn is_too_old(&self, policy: &Policy, now: Instant) -> bool {
        policy.connections.max_duration.is_some_and(|limit| now.duration_since(self.since) >= limit)
    }
}

/// One request or connection under way at an endpoint.
pub(crate) struct Lease {
    upstream: Rc<Upstream>,
    /// The endpoint with its connections for the request's host, where they are kept apart.
    for_host: Option<Rc<Upstream>>,
    /// Its place among the requests of a cluster that counts them.
    request: Option<Permit>,
    /// What a new connection begins with.
    announcement: Option<Announcement>,
}

impl Lease {
    /// Opens a new connection, unless the cluster has as many as it may.
    pub(crate) async fn connect(&self, speaks: Speaks) -> Result<UpstreamConnection, ConnectError> {
        self.connect_as(speaks, self.announcement).await
    }

    /// Opens a new connection for HTTP/1; where the cluster has as many as it may, waits for one to end or to fall
    /// idle, which is then used again.
    pub(crate) async fn connect_or_wait(&self) -> Result<UpstreamConnection, ConnectError> {
        let _waiting = self.tally.waiting();
        self.connect_or_wait_as(self.announcement).await
    }

    /// Opens a new connection in the place of one that has ended.
    pub(crate) async fn replace(&self, ended: &mut UpstreamConnection) -> Result<(), ConnectError> {
        let slot = ended.slot.take();
        *ended = self.open(&self.policy(), slot, (Speaks::Http1, self.announcement)).await?;
        Ok(())
    }

    /// Begins new connections with a PROXY header.
    #[must_use]
    pub(crate) fn announcing(mut self, announcement: Option<Announcement>) -> Self {
        self.announcement = announcement;
        self
    }

    /// Room for a request on an HTTP/2 connection to the endpoint.
    pub(crate) async fn http2_stream(&self) -> Result<Http2Stream, ConnectError> {
        let _waiting = self.tally.waiting();
        self.for_host.as_ref().unwrap_or(&self.upstream).http2_stream().await
    }

    /// Keeps to connections for the host of a request, where TLS tells it the endpoint.
    #[must_use]
    pub(crate) fn for_host(mut self, authority: &str) -> Self {
        self.for_host = self.upstream.for_host(authority);
        self
    }

    /// Counts it as a request of its cluster.
    ///
    /// # Errors
    /// The cluster has as many as it may.
    pub(crate) fn admit_request(mut self) -> Result<Self, LocalReply<'static>> {
        self.request =
            self.upstream.policy.borrow().admit(Resource::Requests).map_err(|_| LocalReply::OVERFLOW)?;
        Ok(self)
    }

    /// Goes on at another endpoint of the cluster.
    pub(crate) fn move_to(&mut self, mut another: Self) {
        another.request = self.request.take();
        let host = self.for_host.as_ref().and_then(|upstream| upstream.host.as_deref());
        another.for_host = host.and_then(|host| another.upstream.for_host(host));
        *self = another;
    }
}

impl std::ops::Deref for Lease {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        self.for_host.as_ref().unwrap_or(&self.upstream)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.upstream.active.set(self.upstream.active.get() - 1);
    }
}
