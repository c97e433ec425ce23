//! One endpoint as one worker knows it: how busy it is, and the idle connections to it.

mod connect;
mod hosts;
mod http2;
mod lease;
mod opaque;
mod post_tunnel;
mod stats;
mod stream;
mod streamed;
mod tunnel;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use snapshot::{Address, EndpointCounts};

use self::{
    http2::Http2Connections,
    stats::{EndpointStats, Open},
};
use crate::{
    bounds,
    cluster::{EndpointNumber, Policy, UpstreamKey},
    health::{AttemptResult, EndpointMonitor},
    sys::Source,
    telemetry::PeerId,
};

pub(crate) use self::{
    connect::{ConnectError, OwnEnd, UpstreamConnection},
    http2::Http2Stream,
    lease::Lease,
    opaque::OpaqueUpstream,
    post_tunnel::PostTunnel,
    stream::UpstreamStream,
};

/// An endpoint, or an original destination, with this worker's connections to it.
pub(crate) struct Upstream {
    pub(crate) address: Address,
    /// What connections to it come from, if the kernel is not to choose.
    source: Option<Source>,
    /// Whether a proxy of the mesh stands before it.
    speaks_mesh_tls: bool,
    /// The host its connections are for, where TLS tells it the endpoint.
    host: Option<Box<str>>,
    /// The same endpoint for the hosts of requests, where they cannot share connections.
    by_host: RefCell<HashMap<Box<str>, Rc<Self>, RandomState>>,
    /// How often hosts were asked for, and when, so counted, its own host was asked for last.
    asked: Cell<u64>,
    last_asked: Cell<u64>,
    policy: RefCell<Rc<Policy>>,
    /// What tells it from others among those who wait.
    number: EndpointNumber,
    /// Who is there, for the metrics; `None` until it is asked under the snapshot in force.
    peer: Cell<Option<PeerId>>,
    /// What the workers know of its health, if the cluster ejects outliers.
    monitor: RefCell<Option<EndpointMonitor>>,
    /// Share of the requests relative to the other endpoints.
    share: Cell<f64>,
    /// Since when it is known.
    pub(crate) since: Instant,
    active: Cell<u32>,
    stats: Rc<EndpointStats>,
    idle: RefCell<Vec<Idle>>,
    http2: Http2Connections,
    retired: Cell<bool>,
}

/// Where connections go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) source: Option<Source>,
    pub(crate) speaks_mesh_tls: bool,
}

impl Target {
    /// An original destination, of which nothing is known.
    pub(crate) fn of((address, source): UpstreamKey) -> Self {
        Self { address, source, speaks_mesh_tls: false }
    }
}

struct Idle {
    connection: Box<UpstreamConnection>,
    since: Instant,
}

/// How long an endpoint that has refused a connection is asked only if all have: until it is tried again, and in
/// Kubernetes most often is found to be gone for good.
const REFUSED_FOR: Duration = Duration::from_secs(2);

impl Upstream {
    pub(crate) fn new(target: Target, policy: Rc<Policy>) -> Self {
        let Target { address, source, speaks_mesh_tls } = target;
        Self {
            monitor: RefCell::new(policy.monitor(&address)),
            address,
            source,
            speaks_mesh_tls,
            host: None,
            by_host: RefCell::default(),
            asked: Cell::new(0),
            last_asked: Cell::new(0),
            number: policy.number(),
            policy: RefCell::new(policy),
            peer: Cell::new(None),
            share: Cell::new(1.0),
            since: Instant::now(),
            active: Cell::new(0),
            stats: Rc::default(),
            idle: RefCell::default(),
            http2: Http2Connections::default(),
            retired: Cell::new(false),
        }
    }

    /// The same with what is sent to it counted as sent to `other`.
    pub(crate) fn counted_with(self, other: &Self) -> Self {
        Self { stats: Rc::clone(&other.stats), ..self }
    }

    /// The same as what `other` was until now, whose connections would lead elsewhere.
    pub(crate) fn succeeding(self, other: &Self) -> Self {
        Self { since: other.since, ..self.counted_with(other) }
    }

    /// What was sent to it.
    pub(crate) fn counts(&self) -> EndpointCounts {
        EndpointCounts { rq_active: self.active.get().into(), ..self.stats.counts() }
    }

    /// Counts a request, or an opaque connection, that is about to be sent.
    pub(crate) fn count_request(&self) {
        self.stats.requests.add(1);
    }

    /// Counts a request whose answer did not come in time, which speaks against the endpoint.
    pub(crate) fn timed_out(&self) {
        self.stats.timeouts.add(1);
        self.observe(AttemptResult::TimedOut);
    }

    /// Where its connections go.
    pub(crate) fn target(&self) -> Target {
        Target { address: self.address.clone(), source: self.source, speaks_mesh_tls: self.speaks_mesh_tls }
    }

    /// The rules it is used by.
    pub(crate) fn policy(&self) -> Rc<Policy> {
        Rc::clone(&self.policy.borrow())
    }

    /// Other rules from now on. Connections there are go on serving; where they would be made otherwise now, only what is
    /// under way.
    pub(crate) fn set_policy(&self, policy: Rc<Policy>) {
        for upstream in self.by_host.borrow().values() {
            upstream.set_policy(Rc::clone(&policy));
        }
        *self.monitor.borrow_mut() = policy.monitor(&self.address);
        let before = self.policy.replace(policy);
        if !self.policy.borrow().keeps_connections_of(before.generation) {
            self.close_all_idle();
        }
        self.forget_peer();
    }

    /// Another snapshot may know somebody else there.
    pub(crate) fn forget_peer(&self) {
        self.peer.set(None);
    }

    /// Whether a proxy of the mesh stands before it.
    pub(crate) fn is_in_mesh(&self) -> bool {
        self.speaks_mesh_tls
    }

    /// Whether it is spoken to in the mutual TLS of the mesh.
    pub(crate) fn speaks_mutual_tls(&self) -> bool {
        let policy = self.policy.borrow();
        policy.tls.as_ref().is_some_and(|tls| tls.is_of_mesh() && tls.is_spoken_to(self.speaks_mesh_tls))
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
        Lease::new(self)
    }

    /// The idle connection used last, or `None` when there is none alive.
    ///
    /// The one read costs no system call as long as nothing arrived: tokio remembers that the socket is not
    /// readable. Bytes or an end of stream on an idle connection both make it useless.
    ///
    /// Who waits for one comes first: none then.
    pub(crate) fn checkout(&self) -> Option<Box<UpstreamConnection>> {
        if self.policy.borrow().is_waited_for(self.number) { None } else { self.take_idle() }
    }

    /// The same for who has waited.
    fn take_idle(&self) -> Option<Box<UpstreamConnection>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { mut connection, since }) = idle.pop() {
            if connection.is_quiet() && !connection.is_about_to_end(since) {
                connection.reused = true;
                connection.requests += 1;
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection on which a request has ended cleanly for the next one.
    pub(crate) fn give_back(&self, connection: Box<UpstreamConnection>) {
        let policy = self.policy.borrow();
        let now = Instant::now();
        let worn_out = policy.connections.max_requests.is_some_and(|limit| connection.requests >= limit)
            || connection.is_too_old(&policy, now)
            || !policy.keeps_connections_of(connection.generation)
            // It stands for one client only.
            || policy.proxy_protocol.is_some();
        let mut idle = self.idle.borrow_mut();
        if idle.len() < bounds::IDLE_CONNECTIONS && !self.retired.get() && !worn_out {
            idle.push(Idle { connection, since: now });
            drop(idle);
            policy.offer(self.number);
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

    /// Closes one of HTTP/2 that is idle, or that of HTTP/1 that has been longest; false when there is none.
    pub(crate) fn close_idle(&self) -> bool {
        if self.by_host.borrow().values().any(|upstream| upstream.close_idle()) {
            return true;
        }
        if self.http2.close_idle() {
            return true;
        }
        let mut idle = self.idle.borrow_mut();
        let any = !idle.is_empty();
        if any {
            drop(idle.remove(0));
        }
        any
    }

    /// Closes connections that have been idle, or are, for too long.
    pub(crate) fn expire(&self, now: Instant) {
        let policy = self.policy();
        let limit = policy.connections.idle_timeout.unwrap_or(Duration::MAX);
        self.http2.expire(now, &policy.connections);
        self.by_host.borrow().values().for_each(|upstream| upstream.expire(now));
        self.idle.borrow_mut().retain(|idle| {
            now.duration_since(idle.since) < limit
                && !idle.connection.is_too_old(&policy, now)
                && !idle.connection.is_about_to_end(idle.since)
        });
    }

    /// Closes idle connections that the peer closed.
    pub(crate) fn sweep(&self) {
        self.http2.sweep();
        self.by_host.borrow_mut().retain(|_, upstream| {
            upstream.sweep();
            // Requests under way are counted for the endpoint as a whole.
            Rc::strong_count(upstream) > 1 || !upstream.is_unused()
        });
        self.idle.borrow_mut().retain_mut(|idle| idle.connection.is_quiet());
    }

    /// Closes the idle connections and keeps none from now on: nothing new comes here.
    pub(crate) fn retire(&self) {
        self.by_host.borrow().values().for_each(|upstream| upstream.retire());
        self.retired.set(true);
        self.close_all_idle();
    }

    /// Closes its idle connections, and the others with what is under way on them.
    fn close_all_idle(&self) {
        self.idle.borrow_mut().clear();
        self.http2.retire();
    }

    /// Whether nothing would be lost by forgetting this endpoint.
    pub(crate) fn is_unused(&self) -> bool {
        let unused = self.by_host.borrow().values().all(|upstream| upstream.is_unused());
        unused && self.active.get() == 0 && self.idle.borrow().is_empty() && self.http2.is_unused()
    }

    /// Takes into account what an attempt says about the endpoint.
    pub(crate) fn observe(&self, result: AttemptResult) {
        self.stats.observe(result);
        if let Some(ejection) = self.monitor.borrow().as_ref().and_then(|monitor| monitor.observe(result)) {
            tracing::info!(
                upstream = %self.address,
                cluster = self.policy.borrow().name,
                cause = %ejection,
                "ejected for {:?}",
                ejection.time
            );
        }
    }

    /// Whether it has refused a connection a moment ago: it is asked only if all have. Where a rule ejects outliers its
    /// counts decide instead.
    pub(crate) fn has_refused(&self) -> bool {
        let lately = |at: Instant| at.elapsed() < REFUSED_FOR;
        self.stats.refused.get().is_some_and(lately) && self.monitor.borrow().is_none()
    }

    /// Whether it is left alone for its failures.
    pub(crate) fn is_ejected(&self) -> bool {
        self.monitor.borrow().as_ref().is_some_and(EndpointMonitor::is_ejected)
    }
}
