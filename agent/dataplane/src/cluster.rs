//! A cluster as one worker knows it: its endpoints with their connections, and whose turn it is.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use snapshot::{
    Cluster, Connections, Discovery, Endpoint, Limits, LocalityEndpoints, ProxyProtocol, SourceAddresses,
};
use tokio::sync::Notify;

use crate::{
    balance::{Choice, Load, Picker, slow_start, warmth},
    health::{Outliers, Watch},
    loopback,
    origin::Origin,
    proxy_protocol::Announcement,
    relay,
    shared::{Permit, Resource, SharedCluster, Usage},
    sys::Source,
    tls::Connector,
    upstream::{Lease, Target, Upstream},
};

/// The rules for connections to a cluster: copied from the snapshot, because connections may outlive it.
pub(crate) struct Policy {
    pub(crate) name: Box<str>,
    source: Option<SourceAddresses>,
    pub(crate) connect_timeout: Duration,
    pub(crate) connections: Connections,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    limits: Limits,
    usage: Option<Arc<Usage>>,
    outliers: Option<Arc<Outliers>>,
    /// TLS to the endpoints, if it is spoken.
    pub(crate) tls: Option<Rc<Connector>>,
    own: Rc<Own>,
}

/// This worker's connections to a cluster that limits them; kept across publications.
#[derive(Default)]
struct Own {
    open: Cell<u32>,
    /// Told when a connection ends or falls idle.
    freed: Notify,
    /// Whose idle connections may make room.
    endpoints: RefCell<Vec<Weak<Upstream>>>,
}

/// Says that a limit is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Overflow;

/// One connection's place among those of its cluster.
pub(crate) struct Slot {
    own: Rc<Own>,
    _permit: Permit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.own.open.set(self.own.open.get() - 1);
        self.own.freed.notify_one();
    }
}

impl Policy {
    fn new(cluster: &Cluster, shared: SharedCluster, old: Option<&Self>) -> Self {
        Self {
            name: cluster.name.as_str().into(),
            source: cluster.source,
            connect_timeout: cluster.connect_timeout,
            connections: cluster.connections,
            proxy_protocol: cluster.proxy_protocol,
            limits: cluster.limits,
            usage: shared.usage,
            outliers: shared.outliers,
            tls: cluster.tls.as_ref().map(|settings| {
                let known = old.and_then(|old| old.tls.as_ref()).filter(|known| known.is_for(settings));
                known.map_or_else(|| Rc::new(Connector::new(settings)), Rc::clone)
            }),
            own: old.map(|old| Rc::clone(&old.own)).unwrap_or_default(),
        }
    }

    /// Whether connections made under `old` may go on serving.
    fn fits(&self, old: &Self) -> bool {
        let same_tls = match (&self.tls, &old.tls) {
            (Some(own), Some(old)) => Rc::ptr_eq(own, old),
            (None, None) => true,
            _ => false,
        };
        same_tls
            && self.source == old.source
            && self.connections.keepalive == old.connections.keepalive
            && self.proxy_protocol == old.proxy_protocol
    }

    /// The local address to connect from, if the kernel is not to choose: the client's own, where the cluster has one
    /// only to stand for it.
    fn source(&self, towards: IpAddr, client: Option<Source>) -> Option<Source> {
        let own = Source::Own(self.source?.towards(towards));
        Some(client.unwrap_or(own))
    }

    /// How long opaque connections may last.
    pub(crate) fn relay_limits(&self) -> relay::Limits {
        relay::Limits { idle: self.connections.tcp_idle_timeout, duration: self.connections.max_duration }
    }

    /// The worker's eye on an endpoint, if the cluster ejects outliers.
    pub(crate) fn watch(&self, address: SocketAddr) -> Option<Watch> {
        self.outliers.as_ref()?.watch(address)
    }

    /// Counts one more of something until the permit is dropped; none where the cluster does not count.
    pub(crate) fn admit(&self, resource: Resource) -> Result<Option<Permit>, Overflow> {
        let Some(usage) = &self.usage else { return Ok(None) };
        usage.admit(resource, self.limit(resource, usage)).map(Some).ok_or(Overflow)
    }

    fn limit(&self, resource: Resource, usage: &Usage) -> u32 {
        let limit = match resource {
            Resource::Connections => self.limits.max_connections,
            Resource::Pending => self.limits.max_pending_requests,
            Resource::Requests => self.limits.max_requests,
            Resource::Retries => match self.limits.retry_budget {
                Some(budget) => {
                    let share = f64::from(usage.current(Resource::Requests)) * budget.percent / 100.0;
                    Some((share as u32).max(budget.minimum))
                }
                None => self.limits.max_retries,
            },
        };
        limit.unwrap_or(u32::MAX)
    }

    /// A place for one more connection; none where the cluster does not limit them.
    ///
    /// At the limit an idle connection makes room. A worker that has no connection may always open one, as in Envoy:
    /// otherwise its requests would wait for another worker's.
    pub(crate) fn slot(&self) -> Result<Option<Slot>, Overflow> {
        let (Some(usage), Some(limit)) = (&self.usage, self.limits.max_connections) else { return Ok(None) };
        let admit = || usage.admit(Resource::Connections, limit);
        let permit = match admit() {
            Some(permit) => permit,
            None if self.own.open.get() == 0 => usage.count(Resource::Connections),
            None if self.own.close_idle() => admit().ok_or(Overflow)?,
            None => return Err(Overflow),
        };
        self.own.open.set(self.own.open.get() + 1);
        Ok(Some(Slot { own: Rc::clone(&self.own), _permit: permit }))
    }

    /// A place among the requests that wait for a connection.
    pub(crate) fn pending(&self) -> Result<Option<Permit>, Overflow> {
        self.admit(Resource::Pending)
    }

    /// Ends when a connection of this worker has ended or fallen idle.
    pub(crate) async fn freed(&self) {
        self.own.freed.notified().await;
    }

    /// Tells one who waits that a connection has fallen idle.
    pub(crate) fn notify_freed(&self) {
        if self.limits.max_connections.is_some() {
            self.own.freed.notify_one();
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

/// A worker's connections to one cluster.
pub(crate) struct ClusterConnections {
    policy: Rc<Policy>,
    /// What its names are resolved to, if the cluster has names.
    named: Option<Vec<LocalityEndpoints>>,
    /// In the order of the localities.
    endpoints: Vec<Rc<Upstream>>,
    picker: RefCell<Picker>,
    /// Of the outliers, when the picker was made.
    generation: Cell<u64>,
    /// Original destinations seen, for clusters without endpoints of their own.
    original: RefCell<HashMap<UpstreamKey, Rc<Upstream>, RandomState>>,
}

/// Where connections go and what they come from, if the kernel is not to choose.
type UpstreamKey = (SocketAddr, Option<Source>);

/// Original destinations remembered per cluster and worker. Beyond it connections are not pooled: a peer that walks
/// through addresses must not make us grow.
pub(crate) const MAX_ORIGINAL: usize = 4096;

impl ClusterConnections {
    /// The connections to `cluster`; what `old` has of them goes on.
    ///
    /// `named` is what the names of a cluster are resolved to; none where it has none.
    pub(crate) fn new(
        cluster: &Cluster,
        (shared, named): (SharedCluster, Option<Vec<LocalityEndpoints>>),
        old: Option<&Self>,
    ) -> Self {
        let policy = Rc::new(Policy::new(cluster, shared, old.map(|old| &*old.policy)));
        let kept = |old: &Rc<Upstream>| policy.fits(&old.policy());
        let mut known: HashMap<SocketAddr, &Rc<Upstream>, RandomState> = old
            .iter()
            .flat_map(|old| &old.endpoints)
            .filter(|upstream| kept(upstream))
            .map(|upstream| (upstream.address, upstream))
            .collect();
        let localities = named.as_deref().unwrap_or(cluster.localities());
        if let (Some(named), Some(outliers)) = (&named, &policy.outliers) {
            outliers.set_endpoints(endpoints_of(named).map(|endpoint| endpoint.address));
        }
        let endpoints: Vec<_> = endpoints_of(localities)
            .map(|Endpoint { address, speaks_mesh_tls, .. }| {
                let (source, speaks_mesh_tls) = (policy.source(address.ip(), None), *speaks_mesh_tls);
                policy.upstream(Target { address: *address, source, speaks_mesh_tls }, known.remove(address))
            })
            .collect();
        let original = old.iter().flat_map(|old| old.original.borrow().clone()).filter(|(_, old)| kept(old));
        let original =
            original.map(|(key, old)| (key, policy.upstream(Target::of(key), Some(&old)))).collect();
        if policy.limits.max_connections.is_some() {
            *policy.own.endpoints.borrow_mut() = endpoints.iter().map(Rc::downgrade).collect();
        }
        let made = Self {
            picker: RefCell::new(Picker::default()),
            generation: Cell::new(0),
            policy,
            named,
            endpoints,
            original: RefCell::new(original),
        };
        made.renew_picker(cluster);
        made.set_shares(cluster, Instant::now());
        made
    }

    fn localities<'c>(&'c self, cluster: &'c Cluster) -> &'c [LocalityEndpoints] {
        self.named.as_deref().unwrap_or(cluster.localities())
    }

    /// The rules for connections.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Picks an endpoint that is not among those tried already, or `None` when there is no such endpoint.
    pub(crate) fn pick(
        &self,
        cluster: &Cluster,
        origin: Origin<'_>,
        choice: Choice,
        tried: &[SocketAddr],
    ) -> Option<Lease> {
        let announcement = self
            .policy
            .proxy_protocol
            .map(|version| Announcement { version, addresses: Some((origin.peer, origin.destination)) });
        Some(self.pick_silent(cluster, origin, choice, tried)?.announcing(announcement))
    }

    fn pick_silent(
        &self,
        cluster: &Cluster,
        origin: Origin<'_>,
        choice: Choice,
        tried: &[SocketAddr],
    ) -> Option<Lease> {
        if cluster.discovery == Discovery::OriginalDestination {
            let untried = !tried.contains(&origin.destination);
            return untried.then(|| self.original(origin).lease());
        }
        if self
            .policy
            .outliers
            .as_ref()
            .is_some_and(|outliers| outliers.generation() != self.generation.get())
        {
            self.renew_picker(cluster);
        }
        let picker = self.picker.borrow();
        let picked = &self.endpoints[picker.pick(choice, self.endpoints.as_slice())?];
        if let Some(for_client) = self.for_client(picked, origin)
            && !tried.contains(&for_client.address)
        {
            return Some(for_client.lease());
        }
        if !tried.contains(&picked.address) {
            return Some(picked.lease());
        }
        let mut others = picker.candidates().map(|position| &self.endpoints[position]);
        Some(others.find(|endpoint| !tried.contains(&endpoint.address))?.lease())
    }

    fn renew_picker(&self, cluster: &Cluster) {
        // Read first: what changes meanwhile is noticed by the next pick.
        self.generation.set(self.policy.outliers.as_ref().map_or(0, |outliers| outliers.generation()));
        let min_health_percent = cluster.outlier_detection.as_ref().map_or(0, |o| o.min_health_percent);
        let usable = |position: usize| !self.endpoints[position].is_ejected();
        let endpoints = (self.localities(cluster), &cluster.load_balancer);
        *self.picker.borrow_mut() = Picker::new(endpoints, usable, min_health_percent);
    }

    /// Gives endpoints that are warming up a little more.
    fn set_shares(&self, cluster: &Cluster, now: Instant) {
        let slow_start = slow_start(&cluster.load_balancer);
        for (upstream, endpoint) in self.endpoints.iter().zip(endpoints_of(self.localities(cluster))) {
            let age = now.saturating_duration_since(upstream.since);
            let warmth = slow_start.map_or(1.0, |setting| warmth(age, setting));
            upstream.set_share(f64::from(endpoint.weight) * warmth);
        }
    }

    /// What is due twice a second.
    pub(crate) fn tick(&self, cluster: &Cluster, now: Instant) {
        if let Some(outliers) = &self.policy.outliers {
            outliers.look(now);
        }
        if slow_start(&cluster.load_balancer).is_some() {
            self.set_shares(cluster, now);
        }
    }

    /// Closes what has been idle for too long and forgets destinations nobody uses.
    pub(crate) fn sweep(&self, now: Instant) {
        self.endpoints.iter().for_each(|endpoint| endpoint.sweep(now));
        self.original.borrow_mut().retain(|_, upstream| {
            upstream.sweep(now);
            !upstream.is_unused()
        });
    }

    /// All endpoints and original destinations.
    pub(crate) fn upstreams(&self) -> Vec<Rc<Upstream>> {
        self.endpoints.iter().chain(self.original.borrow().values()).map(Rc::clone).collect()
    }

    /// The application at loopback, called from the client's own address and port; none where it is elsewhere or must
    /// not see them. Its address is of the client's family: where it listens in the other only, the endpoint as it is
    /// written is tried next.
    fn for_client(&self, picked: &Upstream, origin: Origin<'_>) -> Option<Rc<Upstream>> {
        let client = origin.client?;
        let known = client.at_loopback.filter(|_| picked.address.ip().is_loopback())?;
        let address = SocketAddr::new(loopback::beside(origin.destination.ip()), picked.address.port());
        let target = Target { address, source: Some(client.source), ..picked.target() };
        let mut known = known.borrow_mut();
        if let Some(known) = &*known
            && known.target() == target
            && Rc::ptr_eq(&known.policy(), &self.policy)
        {
            return Some(Rc::clone(known));
        }
        let made = self.policy.upstream(target, None);
        if self.policy.limits.max_connections.is_some() {
            let mut endpoints = self.policy.own.endpoints.borrow_mut();
            endpoints.retain(|endpoint| endpoint.strong_count() > 0);
            endpoints.push(Rc::downgrade(&made));
        }
        if let Some(old) = known.replace(Rc::clone(&made)) {
            old.retire();
        }
        Some(made)
    }

    fn original(&self, Origin { destination, client, .. }: Origin<'_>) -> Rc<Upstream> {
        let client = client.map(|client| client.source.any_port());
        let key = (destination, self.policy.source(destination.ip(), client));
        let mut original = self.original.borrow_mut();
        if let Some(upstream) = original.get(&key) {
            return Rc::clone(upstream);
        }
        let upstream = self.policy.upstream(Target::of(key), None);
        if original.len() < MAX_ORIGINAL {
            original.insert(key, Rc::clone(&upstream));
        }
        upstream
    }
}

fn endpoints_of(localities: &[LocalityEndpoints]) -> impl Iterator<Item = &Endpoint> {
    localities.iter().flat_map(|locality| &locality.endpoints)
}

impl Policy {
    /// The endpoint known already, under these rules from now on, or a new one.
    fn upstream(self: &Rc<Self>, target: Target, known: Option<&Rc<Upstream>>) -> Rc<Upstream> {
        match known.filter(|known| known.target() == target) {
            Some(known) => {
                known.set_policy(Rc::clone(self));
                Rc::clone(known)
            }
            None => Rc::new(Upstream::new(target, Rc::clone(self))),
        }
    }
}

impl Load for [Rc<Upstream>] {
    fn active(&self, position: usize) -> u32 {
        self[position].active()
    }

    fn share(&self, position: usize) -> f64 {
        self[position].share()
    }
}
