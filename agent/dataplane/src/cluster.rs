//! A cluster as one worker knows it: its endpoints with their connections, and whose turn it is.

mod admission;
mod policy;
mod queue;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    time::Instant,
};

use foldhash::fast::RandomState;
use snapshot::{
    Address, Cluster, Discovery, DnsResolution, Endpoint, LiveEndpoint, LocalityEndpoints, OwnPorts,
};

pub(crate) use self::{
    admission::{Overflow, PendingRequest, Retrying, Slot},
    policy::{Policy, PolicyGeneration},
    queue::EndpointNumber,
};
use crate::{
    balance::{Choice, Load, Picker, slow_start, warmth},
    bounds,
    connection::NOBODY,
    loopback,
    origin::{Client, Origin},
    proxy_protocol::ProxyHeader,
    shared::SharedCluster,
    sys::Source,
    upstream::{Lease, Target, Upstream},
    worker::HeadLimits,
};

/// A worker's connections to one cluster.
pub(crate) struct ClusterConnections {
    policy: Rc<Policy>,
    /// What its names are resolved to, if the cluster has names.
    named: Option<Vec<LocalityEndpoints>>,
    /// In the order of the localities.
    endpoints: Vec<Rc<Upstream>>,
    /// Addresses that the only name of the cluster stood for: connections to them go on serving, new ones are not made.
    former: Vec<Rc<Upstream>>,
    picker: RefCell<Picker>,
    /// Of the outliers, when the picker was made.
    generation: Cell<u64>,
    /// Original destinations, and what names that were asked for stand for, seen by clusters without endpoints of their
    /// own.
    original: RefCell<HashMap<UpstreamKey, Rc<Upstream>, RandomState>>,
}

/// What a cluster's connections are made with, beside its description.
#[derive(Default)]
pub(crate) struct ClusterInputs {
    pub(crate) shared: SharedCluster,
    /// What its names are resolved to; none where it has none.
    pub(crate) named: Option<Vec<LocalityEndpoints>>,
    /// What heads of answers may cost.
    pub(crate) heads: HeadLimits,
    /// Where no connection goes.
    pub(crate) own_ports: OwnPorts,
}

/// Where connections go and what they come from, if the kernel is not to choose.
pub(crate) type UpstreamKey = (Address, Option<Source>);

impl ClusterConnections {
    /// The connections to `cluster`; what `old` has of them goes on.
    pub(crate) fn new(cluster: &Cluster, given: ClusterInputs, old: Option<&Self>) -> Self {
        let ClusterInputs { shared, named, heads, own_ports } = given;
        let policy = Rc::new(Policy::new(cluster, (shared, heads, own_ports), old.map(|old| &*old.policy)));
        let mut known: HashMap<&Address, &Rc<Upstream>, RandomState> =
            old.iter().flat_map(|old| &old.endpoints).map(|upstream| (&upstream.address, upstream)).collect();
        let localities = named.as_deref().unwrap_or(cluster.localities());
        if let (Some(named), Some(outliers)) = (&named, &policy.outliers) {
            outliers.set_endpoints(endpoints_of(named).map(|endpoint| endpoint.address.clone()));
        }
        let endpoints: Vec<_> = endpoints_of(localities)
            .map(|Endpoint { address, speaks_mesh_tls, .. }| {
                let source = address.ip().and_then(|ip| policy.source(ip, None));
                let (address, speaks_mesh_tls) = (address.clone(), *speaks_mesh_tls);
                let known = known.remove(&address);
                policy.upstream(Target { address, source, speaks_mesh_tls }, known)
            })
            .collect();
        let original = old.iter().flat_map(|old| old.original.borrow().clone());
        let original: HashMap<_, _, _> =
            original.map(|(key, old)| (key.clone(), policy.upstream(Target::of(key), Some(&old)))).collect();
        let former = match (&cluster.discovery, old) {
            (Discovery::Dns(dns), Some(old)) if dns.resolution == DnsResolution::Logical => {
                still_warm(old, &endpoints, |former| policy.keeps_connections_of(former.policy().generation))
            }
            _ => Vec::new(),
        };
        policy.set_endpoints(endpoints.iter().chain(&former).chain(original.values()));
        let made = Self {
            picker: RefCell::new(Picker::default()),
            generation: Cell::new(0),
            policy,
            named,
            endpoints,
            former,
            original: RefCell::new(original),
        };
        made.renew_picker(cluster, old);
        made.set_shares(cluster, Instant::now());
        // Who waits goes by the rules in force.
        made.policy.call_waiting();
        made
    }

    fn localities<'c>(&'c self, cluster: &'c Cluster) -> &'c [LocalityEndpoints] {
        self.named.as_deref().unwrap_or(cluster.localities())
    }

    /// Picks an endpoint that is not among those tried already, or `None` when there is no such endpoint.
    pub(crate) fn pick(
        &self,
        cluster: &Cluster,
        origin: Origin<'_>,
        choice: Choice,
        tried: &[Address],
    ) -> Option<Lease> {
        Some(self.pick_silent(cluster, origin, choice, tried)?.announcing(self.proxy_header(origin)))
    }

    /// As [`Self::pick`], of a priority that none of `asked` is of.
    pub(crate) fn pick_elsewhere(
        &self,
        cluster: &Cluster,
        origin: Origin<'_>,
        (choice, asked): (Choice, &[Address]),
    ) -> Option<Lease> {
        let localities = self.localities(cluster);
        let has_asked = |locality: &&LocalityEndpoints| {
            locality.endpoints.iter().any(|endpoint| asked.contains(&endpoint.address))
        };
        let left: Vec<u32> = localities.iter().filter(has_asked).map(|locality| locality.priority).collect();
        let priorities: Vec<u32> =
            localities.iter().flat_map(|place| place.endpoints.iter().map(|_| place.priority)).collect();
        let usable =
            |position: usize| !left.contains(&priorities[position]) && !self.endpoints[position].is_ejected();
        let picker = Picker::new((localities, &cluster.load_balancer), usable, 0, None);
        let picked = &self.endpoints[picker.pick_once(choice, self.endpoints.as_slice())?];
        Some(picked.lease().announcing(self.proxy_header(origin)))
    }

    fn proxy_header(&self, origin: Origin<'_>) -> Option<ProxyHeader> {
        let addresses = (origin.peer != NOBODY).then_some((origin.peer, origin.destination));
        self.policy.proxy_protocol.map(|version| ProxyHeader { version, addresses })
    }

    fn pick_silent(
        &self,
        cluster: &Cluster,
        origin: Origin<'_>,
        choice: Choice,
        tried: &[Address],
    ) -> Option<Lease> {
        match &cluster.discovery {
            Discovery::OriginalDestination => {
                let destination =
                    origin.original_destination().filter(|to| !tried.contains(&(*to).into()))?;
                Some(self.original(destination, origin.client).lease())
            }
            Discovery::DynamicDns(dynamic) => {
                let port = dynamic.port_for(origin.destination.port());
                let addresses = origin.named?.addresses.iter().map(|ip| SocketAddr::new(*ip, port).into());
                let untried = addresses.into_iter().find(|address| !tried.contains(address))?;
                Some(self.seen((untried, None)).lease())
            }
            Discovery::Endpoints(_) | Discovery::Dns(_) => {
                self.follow_health(cluster);
                self.pick_endpoint(origin, choice, tried)
            }
        }
    }

    /// Picks among the endpoints of the configuration, connections to former ones first.
    fn pick_endpoint(&self, origin: Origin<'_>, choice: Choice, tried: &[Address]) -> Option<Lease> {
        let is_untried = |endpoint: &Upstream| !tried.contains(&endpoint.address);
        if let Some(warm) = self.former.iter().find(|former| former.is_warm() && is_untried(former)) {
            return Some(warm.lease());
        }
        let picker = self.picker.borrow();
        let picked = &self.endpoints[picker.pick(choice, self.endpoints.as_slice())?];
        if let Some(for_client) = self.for_client(picked, origin)
            && is_untried(&for_client)
        {
            return Some(for_client.lease());
        }
        if is_untried(picked) && !picked.has_refused() {
            return Some(picked.lease());
        }
        let candidates = || picker.candidates().map(|position| &self.endpoints[position]);
        let untried = || candidates().filter(|endpoint| is_untried(endpoint));
        let taking = || untried().filter(|endpoint| !endpoint.has_refused());
        let drawn = usize::try_from(choice.draw >> 32).unwrap_or_default() % taking().count().max(1);
        Some(taking().nth(drawn).or_else(|| untried().next())?.lease())
    }

    /// Makes a new picker where endpoints were ejected or came back.
    fn follow_health(&self, cluster: &Cluster) {
        let generation = self.policy.outliers.as_ref().map(|outliers| outliers.generation());
        if generation.is_some_and(|generation| generation != self.generation.get()) {
            self.renew_picker(cluster, None);
        }
    }

    /// Follows changes of endpoints' health, or begins with what those of `old` were picked by.
    fn renew_picker(&self, cluster: &Cluster, old: Option<&Self>) {
        // Read first: what changes meanwhile is noticed by the next pick.
        self.generation.set(self.policy.outliers.as_ref().map_or(0, |outliers| outliers.generation()));
        let min_health_percent = cluster.outlier_detection.as_ref().map_or(0, |o| o.min_health_percent);
        let usable = |position: usize| !self.endpoints[position].is_ejected();
        let endpoints = (self.localities(cluster), &cluster.load_balancer);
        let before = old.unwrap_or(self).picker.borrow();
        let picker = Picker::new(endpoints, usable, min_health_percent, Some(&*before));
        drop(before);
        *self.picker.borrow_mut() = picker;
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
            for upstream in outliers.look(now) {
                tracing::info!(%upstream, cluster = cluster.name, "back after its ejection");
            }
        }
        if slow_start(&cluster.load_balancer).is_some() {
            self.set_shares(cluster, now);
        }
        self.endpoints.iter().chain(&self.former).for_each(|endpoint| endpoint.expire(now));
        self.original.borrow().values().for_each(|upstream| upstream.expire(now));
    }

    /// Closes what the other side has closed and forgets destinations nobody uses.
    pub(crate) fn sweep(&self) {
        self.endpoints.iter().chain(&self.former).for_each(|endpoint| endpoint.sweep());
        self.original.borrow_mut().retain(|_, upstream| {
            upstream.sweep();
            !upstream.is_unused()
        });
    }

    /// What was sent to each endpoint, and whether it took it.
    pub(crate) fn observed(&self) -> Vec<(Address, LiveEndpoint)> {
        let observed = |upstream: &Rc<Upstream>| LiveEndpoint {
            is_ejected: false,
            has_refused: upstream.has_refused(),
            counts: upstream.counts(),
        };
        self.upstreams().iter().map(|upstream| (upstream.address.clone(), observed(upstream))).collect()
    }

    /// A place for a further try among those under way.
    ///
    /// # Errors
    /// There are as many as there may be.
    pub(crate) fn admit_retry(&self, was_seen: bool) -> Result<Option<Retrying>, Overflow> {
        let active = || self.upstreams().iter().map(|upstream| upstream.active()).sum();
        self.policy.admit_retry(was_seen, active)
    }

    /// Asks anew who its endpoints are, which another snapshot may know otherwise.
    pub(crate) fn forget_peers(&self) {
        self.endpoints.iter().chain(&self.former).for_each(|endpoint| endpoint.forget_peer());
        self.original.borrow().values().for_each(|endpoint| endpoint.forget_peer());
    }

    /// All endpoints and original destinations.
    pub(crate) fn upstreams(&self) -> Vec<Rc<Upstream>> {
        let known = self.endpoints.iter().chain(&self.former);
        known.chain(self.original.borrow().values()).map(Rc::clone).collect()
    }

    /// The application at loopback, called from the client's own address and port; none where it is elsewhere or must
    /// not see them. Its address is of the client's family: where it listens in the other only, the endpoint as it is
    /// written is tried next.
    fn for_client(&self, picked: &Upstream, origin: Origin<'_>) -> Option<Rc<Upstream>> {
        let client = origin.client?;
        let at = picked.address.socket()?;
        let known = client.at_loopback.filter(|_| at.ip().is_loopback())?;
        let address = SocketAddr::new(loopback::beside(origin.destination.ip()), at.port()).into();
        let target = Target { address, source: Some(client.source), ..picked.target() };
        let mut known = known.borrow_mut();
        if let Some(known) = &*known
            && known.target() == target
            && Rc::ptr_eq(&known.policy(), &self.policy)
        {
            return Some(Rc::clone(known));
        }
        let made = Rc::new(Upstream::new(target, Rc::clone(&self.policy)).counted_with(picked));
        self.policy.add_endpoint(&made);
        if let Some(old) = known.replace(Rc::clone(&made)) {
            old.retire();
        }
        Some(made)
    }

    fn original(&self, destination: SocketAddr, client: Option<Client<'_>>) -> Rc<Upstream> {
        let client = client.map(|client| client.source.any_port());
        self.seen((destination.into(), self.policy.source(destination.ip(), client)))
    }

    /// An endpoint that only those who ask for it tell of.
    fn seen(&self, key: UpstreamKey) -> Rc<Upstream> {
        let mut original = self.original.borrow_mut();
        if let Some(upstream) = original.get(&key) {
            return Rc::clone(upstream);
        }
        let upstream = self.policy.upstream(Target::of(key.clone()), None);
        if original.len() < bounds::ORIGINAL_DESTINATIONS {
            original.insert(key, Rc::clone(&upstream));
            self.policy.add_endpoint(&upstream);
        }
        upstream
    }
}

/// What `old` has connected to under a name that stands for one of `now`: where connections are idle or shared, newest
/// first. Those of TLS that are kept by host are not among them.
fn still_warm(
    old: &ClusterConnections,
    now: &[Rc<Upstream>],
    kept: impl Fn(&Rc<Upstream>) -> bool,
) -> Vec<Rc<Upstream>> {
    let is_current = |upstream: &Rc<Upstream>| now.iter().any(|current| current.address == upstream.address);
    let before = old.endpoints.iter().chain(&old.former);
    let warm = before.filter(|upstream| !is_current(upstream) && upstream.is_warm() && kept(upstream));
    warm.take(bounds::FORMER_ADDRESSES).map(Rc::clone).collect()
}

fn endpoints_of(localities: &[LocalityEndpoints]) -> impl Iterator<Item = &Endpoint> {
    localities.iter().flat_map(|locality| &locality.endpoints)
}

impl Load for [Rc<Upstream>] {
    fn active(&self, position: usize) -> u32 {
        self[position].active()
    }

    fn share(&self, position: usize) -> f64 {
        self[position].share()
    }
}
