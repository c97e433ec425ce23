//! The rules for connections to a cluster, and the limits they count against.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use snapshot::{
    Address, Cluster, Connections, Limits, ProxyProtocol, RetryBudget, SourceAddresses, Tunnel,
    UpstreamProtocol,
};

use super::queue::{Queue, Turn, Whose};
use crate::{
    health::{Outliers, Watch},
    relay,
    shared::{Permit, Resource, SharedCluster, Usage},
    sys::Source,
    tls::Connector,
    upstream::{Target, Upstream},
    worker::HeadLimits,
};

/// The rules for connections to a cluster: copied from the snapshot, because connections may outlive it.
pub(crate) struct Policy {
    pub(crate) name: Box<str>,
    pub(crate) era: Era,
    /// The DestinationRule they were written in, `<namespace>/<name>`.
    pub(crate) destination_rule: Option<Box<str>>,
    source: Option<SourceAddresses>,
    pub(crate) connect_timeout: Duration,
    pub(crate) connections: Connections,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// The tunnel that opaque connections go through.
    pub(crate) tunnel: Option<Box<Tunnel>>,
    /// Whether its endpoints speak HTTP/2, whoever asks.
    pub(crate) speaks_http2: bool,
    /// What heads of answers may cost.
    pub(crate) heads: HeadLimits,
    limits: Limits,
    usage: Option<Arc<Usage>>,
    pub(super) outliers: Option<Arc<Outliers>>,
    /// TLS to the endpoints, if it is spoken.
    pub(crate) tls: Option<Rc<Connector>>,
    own: Rc<Own>,
}

/// How often the rules of a cluster have changed so that connections made before must not be used again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Era(u64);

/// This worker's connections to a cluster that limits them, and its further tries; kept across publications.
#[derive(Default)]
struct Own {
    open: Cell<u32>,
    /// Endpoints so far.
    endpoints_made: Cell<Whose>,
    /// How many there may be of all workers, as it was when one was made last.
    limit: Cell<u32>,
    /// Further tries under way that count against [`USUAL_BUDGET`].
    retries: Cell<u32>,
    /// Who waits for a connection to end or to fall idle.
    queue: Rc<Queue>,
    /// Whose idle connections may make room.
    endpoints: RefCell<Vec<Weak<Upstream>>>,
}

/// Says that a limit is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Overflow;

/// One connection's place among those of its cluster.
pub(crate) struct Slot {
    own: Rc<Own>,
    /// Whose connection it is.
    whose: Whose,
    usage: Arc<Usage>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.own.open.set(self.own.open.get() - 1);
        self.usage.give_back(Resource::Connections);
        if self.usage.current(Resource::Connections) >= self.own.limit.get() {
            // There is room for nobody, but an endpoint that has none any more may open one in any case.
            self.own.queue.call_all();
        } else {
            self.own.queue.make_room(self.whose);
        }
    }
}

/// A place among the requests that wait for a connection.
pub(crate) struct Place {
    turn: Turn,
    _permit: Option<Permit>,
}

impl Place {
    /// Ends when it is worth looking for a connection; whoever finds none keeps the place.
    pub(crate) async fn come(&self) {
        self.turn.come().await;
    }
}

/// Further tries of each worker to a cluster whose DestinationRule says nothing: half of what is under way. It keeps the
/// tries of a failing service from multiplying its load, and lets those through that some failing endpoints cause.
const USUAL_BUDGET: RetryBudget = RetryBudget { percent: 50.0, minimum: 10 };

/// One further try's place among those under way.
pub(crate) struct Retrying(#[expect(dead_code, reason = "held until it is dropped")] Tried);

enum Tried {
    Shared(#[expect(dead_code, reason = "held until it is dropped")] Permit),
    Own(Rc<Own>),
}

impl Drop for Tried {
    fn drop(&mut self) {
        if let Self::Own(own) = self {
            own.retries.set(own.retries.get() - 1);
        }
    }
}

impl Policy {
    pub(super) fn new(
        cluster: &Cluster,
        (shared, heads): (SharedCluster, HeadLimits),
        old: Option<&Self>,
    ) -> Self {
        let mut made = Self {
            name: cluster.name.as_str().into(),
            era: Era::default(),
            destination_rule: cluster.destination_rule.as_deref().map(Box::from),
            source: cluster.source,
            connect_timeout: cluster.connect_timeout,
            connections: cluster.connections,
            proxy_protocol: cluster.proxy_protocol,
            tunnel: cluster.tunnel.clone().map(Box::new),
            speaks_http2: cluster.protocol == UpstreamProtocol::Http2,
            heads,
            limits: cluster.limits,
            usage: shared.usage,
            outliers: shared.outliers,
            tls: cluster.tls.as_ref().map(|settings| {
                let known = old.and_then(|old| old.tls.as_ref()).filter(|known| known.is_for(settings));
                known.map_or_else(|| Rc::new(Connector::new(settings)), Rc::clone)
            }),
            own: old.map(|old| Rc::clone(&old.own)).unwrap_or_default(),
        };
        if let Some(old) = old {
            made.era = Era(old.era.0 + u64::from(!made.fits(old)));
        }
        made
    }

    /// Whether connections that were made in an era may be used again.
    pub(crate) fn keeps_connections_of(&self, era: Era) -> bool {
        self.era == era
    }

    /// Whether connections made under `old` are such as would be made now.
    fn fits(&self, old: &Self) -> bool {
        let fitting_tls = match (&self.tls, &old.tls) {
            (Some(own), Some(old)) => Rc::ptr_eq(own, old) || own.keeps_connections_of(old),
            (None, None) => true,
            _ => false,
        };
        fitting_tls
            && self.source == old.source
            && self.connections.keepalive == old.connections.keepalive
            && self.proxy_protocol == old.proxy_protocol
    }

    /// The local address to connect from, if the kernel is not to choose: the client's own, where the cluster has one
    /// only to stand for it.
    pub(super) fn source(&self, towards: IpAddr, client: Option<Source>) -> Option<Source> {
        let own = Source::Own(self.source?.towards(towards));
        Some(client.unwrap_or(own))
    }

    /// How long opaque connections may last.
    pub(crate) fn relay_limits(&self) -> relay::Limits {
        relay::Limits { idle: self.connections.tcp_idle_timeout, duration: self.connections.max_duration }
    }

    /// The worker's eye on an endpoint, if the cluster ejects outliers.
    pub(crate) fn watch(&self, address: &Address) -> Option<Watch> {
        self.outliers.as_ref()?.watch(address)
    }

    /// Counts one more of something until the permit is dropped; none where the cluster does not count.
    pub(crate) fn admit(&self, resource: Resource) -> Result<Option<Permit>, Overflow> {
        let Some(usage) = &self.usage else { return Ok(None) };
        let limit = usage.limit(resource, &self.limits).unwrap_or(u32::MAX);
        usage.admit(resource, limit).map(Some).ok_or(Overflow)
    }

    /// A place for one further try, of a request that an endpoint may have seen or not; none where it does not count.
    /// `active` tells this worker's requests to the cluster.
    ///
    /// Where no DestinationRule limits them there is [`USUAL_BUDGET`], for tries that may make an endpoint do its work
    /// again: a connection that fails costs nothing.
    pub(super) fn admit_retry(
        &self,
        was_seen: bool,
        active: impl FnOnce() -> u32,
    ) -> Result<Option<Retrying>, Overflow> {
        if self.limits.retry_budget.is_some() || self.limits.max_retries.is_some() {
            return Ok(self.admit(Resource::Retries)?.map(|permit| Retrying(Tried::Shared(permit))));
        }
        if !was_seen {
            return Ok(None);
        }
        if self.own.retries.get() >= USUAL_BUDGET.of(active()) {
            return Err(Overflow);
        }
        self.own.retries.set(self.own.retries.get() + 1);
        Ok(Some(Retrying(Tried::Own(Rc::clone(&self.own)))))
    }

    /// A place for one more connection; none where the cluster does not limit them.
    ///
    /// At the limit idle connections make room. The `first` connection of a worker to an endpoint is always allowed, as
    /// in Envoy: otherwise requests would wait for those of other endpoints and workers. Whoever is refused and does not
    /// wait [notes](Self::note_refused_connection) it.
    pub(crate) fn slot(&self, whose: Whose, first: bool) -> Result<Option<Slot>, Overflow> {
        let (Some(usage), Some(limit)) = (&self.usage, self.limits.max_connections) else { return Ok(None) };
        let take = |limit| usage.take(Resource::Connections, limit);
        if !take(limit) {
            if first || self.own.open.get() == 0 {
                usage.note_overflow(Resource::Connections);
                take(u32::MAX);
            } else if usage.current(Resource::Connections) > limit || !self.own.close_idle() || !take(limit) {
                // Beyond the limit, where first ones have gone, one that ends makes no room.
                return Err(Overflow);
            }
        }
        self.own.open.set(self.own.open.get() + 1);
        self.own.limit.set(limit);
        Ok(Some(Slot { own: Rc::clone(&self.own), whose, usage: Arc::clone(usage) }))
    }

    /// What tells a new endpoint from all others of its cluster.
    pub(crate) fn number(&self) -> Whose {
        let number = self.own.endpoints_made.get().wrapping_add(1);
        self.own.endpoints_made.set(number);
        number
    }

    /// Whether others were there before who wait for a connection to this endpoint.
    pub(crate) fn is_waited_for(&self, whose: Whose) -> bool {
        self.has_waiting() && self.own.queue.has(whose)
    }

    /// Whether anybody waits for a connection.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.own.queue.is_empty()
    }

    /// The last place among the requests of this worker that wait for a connection.
    pub(crate) fn wait(&self, whose: Whose) -> Result<Place, Overflow> {
        self.note_refused_connection();
        let permit = self.admit(Resource::Pending)?;
        // Another worker may have left room that nobody here was told of.
        self.own.queue.make_room(whose);
        Ok(Place { turn: self.own.queue.join(whose), _permit: permit })
    }

    /// Counts that there were as many connections as there may be.
    pub(crate) fn note_refused_connection(&self) {
        if let Some(usage) = &self.usage {
            usage.note_overflow(Resource::Connections);
        }
    }

    /// Tells those who wait that a connection to an endpoint has room.
    pub(crate) fn offer(&self, whose: Whose) {
        if self.has_waiting() {
            self.own.queue.offer(whose);
        }
    }

    /// Has all look who wait, for other rules or because the last connection to an endpoint may have ended.
    pub(crate) fn call_waiting(&self) {
        self.own.queue.call_all();
    }

    /// From now on idle connections to these may make room for others.
    pub(super) fn set_endpoints<'u>(&self, endpoints: impl Iterator<Item = &'u Rc<Upstream>>) {
        if self.limits.max_connections.is_some() {
            *self.own.endpoints.borrow_mut() = endpoints.map(Rc::downgrade).collect();
        }
    }

    /// Idle connections to this one may make room, too.
    pub(super) fn add_endpoint(&self, endpoint: &Rc<Upstream>) {
        if self.limits.max_connections.is_some() {
            let mut endpoints = self.own.endpoints.borrow_mut();
            endpoints.retain(|endpoint| endpoint.strong_count() > 0);
            endpoints.push(Rc::downgrade(endpoint));
        }
    }

    /// The endpoint known already, under these rules from now on, or a new one.
    pub(super) fn upstream(self: &Rc<Self>, target: Target, known: Option<&Rc<Upstream>>) -> Rc<Upstream> {
        match known {
            Some(known) if known.target() == target => {
                known.set_policy(Rc::clone(self));
                Rc::clone(known)
            }
            Some(known) => Rc::new(Upstream::new(target, Rc::clone(self)).succeeding(known)),
            None => Rc::new(Upstream::new(target, Rc::clone(self))),
        }
    }
}

impl Own {
    fn close_idle(&self) -> bool {
        // Not borrowed while closing: a slot that is dropped notifies.
        let endpoints: Vec<_> = self.endpoints.borrow().iter().filter_map(Weak::upgrade).collect();
        endpoints.iter().any(|endpoint| endpoint.close_idle())
    }
}

#[cfg(test)]
mod tests {
    use snapshot::{Discovery, Endpoint, Keepalive, LocalityEndpoints};

    use super::*;
    use crate::cluster::ClusterConnections;

    /// Warm-up goes by how long an endpoint is known.
    #[test]
    fn an_endpoint_is_the_one_it_was_however_it_is_spoken_to() {
        let cluster = |keepalive, speaks_mesh_tls| {
            let endpoint = Endpoint { speaks_mesh_tls, ..Endpoint::at(([10, 0, 0, 1], 80)) };
            let locality = LocalityEndpoints { endpoints: vec![endpoint], ..LocalityEndpoints::default() };
            let mut cluster = Cluster::new("a", Discovery::Endpoints(vec![locality]));
            cluster.connections.keepalive = keepalive;
            cluster
        };
        let connections = |cluster: &Cluster, old: Option<&ClusterConnections>| {
            let shared = (SharedCluster::default(), None, HeadLimits::default());
            ClusterConnections::new(cluster, shared, old)
        };
        let first = connections(&cluster(None, false), None);
        let first_era = first.upstreams()[0].policy().era;
        let second = connections(&cluster(Some(Keepalive::default()), false), Some(&first));
        assert!(Rc::ptr_eq(&first.upstreams()[0], &second.upstreams()[0]));
        assert!(!second.upstreams()[0].policy().keeps_connections_of(first_era));
        second.upstreams()[0].count_request();
        let third = connections(&cluster(Some(Keepalive::default()), true), Some(&second));
        let (before, after) = (&second.upstreams()[0], &third.upstreams()[0]);
        assert!(!Rc::ptr_eq(before, after));
        assert_eq!((after.since, after.counts().rq_total), (before.since, 1));
    }
}
