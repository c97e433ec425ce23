//! A worker's view of a snapshot: the shared description plus this worker's own connections by cluster.

use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use foldhash::fast::RandomState;
use snapshot::{Address, Cluster, ClusterId, Discovery, Draft, Snapshot};

use crate::{
    balance::Choice,
    breakers::Shares,
    cluster::{ClusterConnections, Overflow, Retrying},
    dns::Resolutions,
    live::Observed,
    origin::Origin,
    shared::{SharedCluster, SharedClusters},
    telemetry::{Peer, PeerId, Peers},
    tls::Contexts,
    upstream::{Lease, Upstream},
    worker::HeadLimits,
};

/// What a worker serves from: never changed, replaced whole.
pub(crate) struct View {
    /// Number of the snapshot; connections compare it to notice a change.
    pub(crate) version: u64,
    pub(crate) snapshot: Arc<Snapshot>,
    surroundings: Surroundings,
    /// Made when a cluster is first used: most clusters of a mesh never are.
    clusters: Vec<OnceCell<Rc<ClusterConnections>>>,
}

/// What a view needs beside its snapshot.
#[derive(Clone, Default)]
pub(crate) struct Surroundings {
    /// By the handles of the snapshot.
    pub(crate) tls: Contexts,
    /// What the workers share of clusters.
    pub(crate) shared: SharedClusters,
    /// What names are resolved to.
    pub(crate) resolved: Arc<Resolutions>,
    /// Whom this worker has met.
    pub(crate) peers: Rc<Peers>,
    /// What heads of answers may cost.
    pub(crate) heads: HeadLimits,
}

impl View {
    /// What a worker has before the first publication: nothing.
    pub(crate) fn empty() -> Self {
        let snapshot = Arc::new(Draft::default().finish());
        Self { version: 0, snapshot, surroundings: Surroundings::default(), clusters: Vec::new() }
    }

    /// The view of a new snapshot. Endpoints that stay keep their connections and counts.
    pub(crate) fn next(&self, version: u64, snapshot: Arc<Snapshot>, surroundings: Surroundings) -> Self {
        let clusters = snapshot.clusters().iter().map(|_| OnceCell::new()).collect();
        let next = Self { version, snapshot, surroundings, clusters };
        let mut used: HashMap<&str, (ClusterId, &Rc<ClusterConnections>), RandomState> =
            self.used().map(|(id, old)| (self.snapshot.cluster(id).name.as_str(), (id, old))).collect();
        for (id, cluster) in (0..).map(ClusterId).zip(next.snapshot.clusters()) {
            // Most changes leave nothing to do.
            let Some((was, old)) = used.remove(cluster.name.as_str()) else { continue };
            let stays = self.describes(was) == next.describes(id) && next.agrees_with(self, id);
            let made = || if stays { Rc::clone(old) } else { next.connections(id, Some(old)) };
            let made = next.clusters[id.0 as usize].get_or_init(made);
            if stays {
                old.forget_peers();
            } else {
                retire_unless_in(&made.upstreams(), old.upstreams());
            }
        }
        used.values().for_each(|(_, gone)| retire_unless_in(&[], gone.upstreams()));
        next
    }

    /// All that the connections of a cluster are made by, but for what its names stand for.
    fn describes(&self, id: ClusterId) -> (&Cluster, SharedCluster) {
        (self.snapshot.cluster(id), self.surroundings.shared.get(&id).cloned().unwrap_or_default())
    }

    /// Whether the names of a cluster stand for what they stood for.
    fn agrees_with(&self, before: &Self, id: ClusterId) -> bool {
        let (now, before) = (&self.surroundings.resolved, &before.surroundings.resolved);
        match &self.snapshot.cluster(id).discovery {
            Discovery::Dns(dns) => now.agree_with(before, dns),
            Discovery::Endpoints(_) | Discovery::OriginalDestination | Discovery::DynamicDns(_) => true,
        }
    }

    /// The same with other addresses for names, or `None` when they are those it has. Clusters whose names stand for what
    /// they stood for stay as they are.
    pub(crate) fn with_resolved(&self, resolved: Arc<Resolutions>) -> Option<Self> {
        if Arc::ptr_eq(&self.surroundings.resolved, &resolved) {
            return None;
        }
        let snapshot = Arc::clone(&self.snapshot);
        let clusters = snapshot.clusters().iter().map(|_| OnceCell::new()).collect();
        let surroundings = Surroundings { resolved, ..self.surroundings.clone() };
        let next = Self { version: self.version, snapshot, surroundings, clusters };
        for (id, old) in self.used() {
            let has_changed = !next.agrees_with(self, id);
            let made = || if has_changed { next.connections(id, Some(old)) } else { Rc::clone(old) };
            let made = next.clusters[id.0 as usize].get_or_init(made);
            if has_changed {
                retire_unless_in(&made.upstreams(), old.upstreams());
            }
        }
        Some(next)
    }

    fn connections(&self, id: ClusterId, old: Option<&ClusterConnections>) -> Rc<ClusterConnections> {
        let shared = self.surroundings.shared.get(&id).cloned().unwrap_or_default();
        let cluster = self.snapshot.cluster(id);
        let named = match &cluster.discovery {
            Discovery::Dns(dns) => Some(self.surroundings.resolved.localities(dns)),
            Discovery::Endpoints(_) | Discovery::OriginalDestination | Discovery::DynamicDns(_) => None,
        };
        Rc::new(ClusterConnections::new(cluster, (shared, named, self.surroundings.heads), old))
    }

    /// The ways to terminate TLS, by the handles of the snapshot.
    pub(crate) fn tls(&self) -> &Contexts {
        &self.surroundings.tls
    }

    #[cfg(test)]
    fn upstreams(&self) -> impl Iterator<Item = Rc<Upstream>> {
        self.used().flat_map(|(_, cluster)| cluster.upstreams())
    }

    /// The clusters that have been used.
    fn used(&self) -> impl Iterator<Item = (ClusterId, &Rc<ClusterConnections>)> {
        let clusters = (0..).map(ClusterId).zip(&self.clusters);
        clusters.filter_map(|(id, cell)| Some((id, cell.get()?)))
    }

    fn cluster(&self, id: ClusterId) -> &ClusterConnections {
        self.clusters[id.0 as usize].get_or_init(|| self.connections(id, None))
    }

    /// Picks an endpoint of a cluster, or `None` when it has none.
    pub(crate) fn pick(&self, cluster: ClusterId, origin: Origin<'_>, choice: Choice) -> Option<Lease> {
        self.pick_untried(cluster, origin, choice, &[])
    }

    /// Picks an endpoint that is not among those tried already, or `None` when there is no such endpoint.
    pub(crate) fn pick_untried(
        &self,
        cluster: ClusterId,
        origin: Origin<'_>,
        choice: Choice,
        tried: &[Address],
    ) -> Option<Lease> {
        let described = self.snapshot.cluster(cluster);
        let picked = self.cluster(cluster).pick(described, origin, choice, tried)?;
        Some(self.identified(picked))
    }

    fn identified(&self, picked: Lease) -> Lease {
        picked.identify(|endpoint| self.peer(endpoint));
        picked
    }

    /// Who is at an endpoint, as far as the snapshot knows.
    fn peer(&self, endpoint: &Upstream) -> PeerId {
        let known = endpoint.address.ip().and_then(|ip| self.snapshot.workloads().at(ip));
        let of = |known| self.surroundings.peers.id(Peer::of(known, endpoint.speaks_mutual_tls()));
        known.map(of).unwrap_or_default()
    }

    /// Picks an endpoint of a priority that none of those asked already is of, or `None` when there is no such endpoint.
    pub(crate) fn pick_elsewhere(
        &self,
        cluster: ClusterId,
        origin: Origin<'_>,
        (choice, asked): (Choice, &[Address]),
    ) -> Option<Lease> {
        let described = self.snapshot.cluster(cluster);
        let picked = self.cluster(cluster).pick_elsewhere(described, origin, (choice, asked))?;
        Some(self.identified(picked))
    }

    /// A place among the retries of a cluster; none where the cluster does not count them.
    ///
    /// # Errors
    /// The cluster has as many retries under way as it may.
    pub(crate) fn admit_retry(
        &self,
        cluster: ClusterId,
        was_seen: bool,
    ) -> Result<Option<Retrying>, Overflow> {
        self.cluster(cluster).admit_retry(was_seen)
    }

    /// What all workers share, with the snapshot that it is for.
    pub(crate) fn shares(&self) -> Shares {
        (Arc::clone(&self.snapshot), Arc::clone(&self.surroundings.shared))
    }

    /// What this worker knows that the snapshot does not say.
    pub(crate) fn observed(&self) -> Observed {
        Observed {
            snapshot: Arc::clone(&self.snapshot),
            shared: Arc::clone(&self.surroundings.shared),
            resolved: Arc::clone(&self.surroundings.resolved),
            endpoints: self.used().map(|(id, cluster)| (id, cluster.observed())).collect(),
        }
    }

    /// What is due twice a second.
    pub(crate) fn tick(&self, now: Instant) {
        self.used().for_each(|(id, cluster)| cluster.tick(self.snapshot.cluster(id), now));
    }

    /// Closes what the other side has closed and forgets destinations nobody uses.
    pub(crate) fn sweep(&self) {
        self.used().for_each(|(_, cluster)| cluster.sweep());
    }
}

/// Endpoints that nobody can pick any more close their idle connections, even while a long connection holds them.
fn retire_unless_in(next: &[Rc<Upstream>], old: impl IntoIterator<Item = Rc<Upstream>>) {
    let kept: HashSet<*const Upstream> = next.iter().map(Rc::as_ptr).collect();
    old.into_iter().filter(|upstream| !kept.contains(&Rc::as_ptr(upstream))).for_each(|gone| gone.retire());
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use snapshot::{Discovery, Endpoint, KnownWorkload, Workload};

    use super::*;
    use crate::bounds;

    fn snapshot(name: &str, endpoints: &[&str]) -> Arc<Snapshot> {
        let endpoints = endpoints.iter().map(|address| address.parse::<SocketAddr>().unwrap());
        let cluster = Cluster::new(name, Discovery::of_addresses(endpoints));
        Arc::new(Draft { clusters: vec![cluster], ..Draft::default() }.finish())
    }

    fn drawn(draw: u64) -> Choice {
        Choice { draw, hash: None }
    }

    fn parsed(address: &str) -> Address {
        Address::Socket(address.parse().unwrap())
    }

    fn origin(destination: SocketAddr) -> Origin<'static> {
        let peer = "192.0.2.9:9".parse().unwrap();
        Origin { peer, destination, is_captured: true, client: None, named: None }
    }

    fn somewhere() -> Origin<'static> {
        origin("192.0.2.1:1".parse().unwrap())
    }

    #[test]
    fn endpoints_that_stay_keep_their_counts_across_publications() {
        let first = View::empty().next(1, snapshot("a", &["10.0.0.1:80", "10.0.0.2:80"]), Default::default());
        let lease = first.pick(ClusterId(0), somewhere(), drawn(0)).unwrap();
        let kept = lease.address.to_string();
        let second = first.next(2, snapshot("a", &[&kept]), Default::default());
        assert_eq!(second.upstreams().next().unwrap().active(), 1);
        let renamed = first.next(3, snapshot("b", &[&kept]), Default::default());
        assert_eq!(renamed.pick(ClusterId(0), somewhere(), drawn(0)).unwrap().active(), 1);
    }

    #[test]
    fn only_clusters_whose_names_have_other_addresses_are_made_anew() {
        let of_name = |host: &str| {
            let name = snapshot::DnsName {
                host: host.to_owned(),
                port: 80,
                weight: 1,
                locality: Default::default(),
                priority: 0,
                locality_weight: None,
            };
            let dns = snapshot::Dns { resolution: snapshot::DnsResolution::Strict, names: vec![name] };
            Cluster::new(host, Discovery::Dns(dns))
        };
        let clusters = vec![of_name("a"), of_name("b"), of_name("10.0.0.9")];
        let answer = |last: u8| -> Arc<[IpAddr]> { Arc::new([[10, 0, 0, last].into()]) };
        let (of_a, of_b) = (answer(1), answer(2));
        let resolved = |a: &Arc<_>, b: &Arc<_>| {
            let known = [("a".into(), Arc::clone(a)), ("b".into(), Arc::clone(b))];
            Arc::new(Resolutions::of(known.into_iter().collect()))
        };
        let first = resolved(&of_a, &of_b);
        let snapshot = Arc::new(Draft { clusters, ..Draft::default() }.finish());
        let surroundings = Surroundings { resolved: Arc::clone(&first), ..Surroundings::default() };
        let view = View::empty().next(1, snapshot, surroundings);
        let all = [0, 1, 2].map(ClusterId);
        let picked =
            |view: &View, id| view.pick(id, somewhere(), drawn(0)).map(|lease| lease.address.to_string());
        let before = all.map(|id| picked(&view, id).unwrap());
        assert_eq!(before, ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:80"]);
        assert!(view.with_resolved(first).is_none(), "nothing has changed");
        let next = view.with_resolved(resolved(&of_a, &answer(3))).unwrap();
        assert_eq!(picked(&next, ClusterId(1)).as_deref(), Some("10.0.0.3:80"));
        let is_same = |id: &ClusterId| std::ptr::eq(view.cluster(*id), next.cluster(*id));
        assert_eq!(all.each_ref().map(is_same), [true, false, true]);
    }

    #[test]
    fn clusters_that_are_as_they_were_stay_and_others_are_made_anew() {
        let known = |name: &str| {
            let workload = Workload { name: name.to_owned(), ..Workload::default() };
            KnownWorkload { workload: workload.into(), principal: "".into() }
        };
        let publish = |before: &View, version: u64, ports: [u16; 2], name: &str| {
            let cluster =
                |name: &str, port: u16| Cluster::new(name, Discovery::of_addresses([([10, 0, 0, 1], port)]));
            // Another one before them, so that they change places.
            let mut clusters = vec![cluster("b", ports[0]), cluster("c", ports[1])];
            clusters.extend((version == 2).then(|| cluster("a", 1)));
            let workloads = [([10, 0, 0, 1].into(), known(name))].into_iter().collect();
            let draft = Draft { clusters, workloads, ..Draft::default() };
            before.next(version, Arc::new(draft.finish()), Default::default())
        };
        let pick = |view: &View, name: &str| {
            let at = view.snapshot.clusters().iter().position(|cluster| cluster.name == name).unwrap();
            let id = ClusterId(u32::try_from(at).unwrap());
            let lease = view.pick(id, somewhere(), drawn(0)).unwrap();
            let peer = view.surroundings.peers.get(lease.peer());
            (
                Rc::clone(view.clusters[at].get().unwrap()),
                peer.workload.unwrap().name.clone(),
                lease.address.port(),
            )
        };
        let first = publish(&View::empty(), 1, [80, 81], "old");
        let (b, name, _) = pick(&first, "b");
        let (c, ..) = pick(&first, "c");
        assert_eq!(name, "old");
        let second = publish(&first, 2, [80, 82], "new");
        let ((same, name, _), (anew, _, port)) = (pick(&second, "b"), pick(&second, "c"));
        assert!(Rc::ptr_eq(&b, &same) && name == "new", "{name}");
        assert!(!Rc::ptr_eq(&c, &anew) && port == Some(82));
    }

    #[test]
    fn endpoints_that_were_tried_are_not_picked_again() {
        let view = View::empty().next(
            1,
            snapshot("a", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]),
            Default::default(),
        );
        for draw in [0, 1, u64::MAX / 3, u64::MAX] {
            let mut tried = Vec::new();
            while let Some(lease) = view.pick_untried(ClusterId(0), somewhere(), drawn(draw), &tried) {
                tried.push(lease.address.clone());
            }
            tried.sort();
            tried.dedup();
            assert_eq!(tried.len(), 3);
        }
    }

    #[test]
    fn other_priorities_are_those_of_which_nobody_was_asked() {
        let place = |priority: u32, addresses: &[&str]| snapshot::LocalityEndpoints {
            priority,
            endpoints: addresses.iter().map(|address| Endpoint::at(parsed(address))).collect(),
            ..Default::default()
        };
        let near = ["10.0.0.1:80", "10.0.0.2:80"];
        let places = vec![place(0, &near), place(1, &["10.0.1.1:80"]), place(2, &["10.0.2.1:80"])];
        let cluster = Cluster::new("a", Discovery::Endpoints(places));
        let draft = Draft { clusters: vec![cluster], ..Draft::default() };
        let view = View::empty().next(1, Arc::new(draft.finish()), Default::default());
        let elsewhere = |asked: &[&str]| {
            let asked: Vec<_> = asked.iter().map(|address| parsed(address)).collect();
            let lease = view.pick_elsewhere(ClusterId(0), somewhere(), (drawn(5), &asked));
            lease.map(|lease| lease.address.to_string())
        };
        assert_eq!(elsewhere(&near[..1]).as_deref(), Some("10.0.1.1:80"));
        assert_eq!(elsewhere(&["10.0.0.2:80", "10.0.1.1:80"]).as_deref(), Some("10.0.2.1:80"));
        assert_eq!(elsewhere(&["10.0.0.2:80", "10.0.1.1:80", "10.0.2.1:80"]), None);
    }

    #[test]
    fn whoever_is_picked_is_known_by_what_the_snapshot_says() {
        let place = |priority: u32, address: &str| snapshot::LocalityEndpoints {
            priority,
            endpoints: vec![Endpoint::at(parsed(address))],
            ..Default::default()
        };
        let places = vec![place(0, "10.0.0.1:80"), place(1, "10.0.1.1:80")];
        let known = [("10.0.0.1", "near"), ("10.0.1.1", "far")].map(|(address, name)| {
            let workload = Workload { name: name.to_owned(), ..Workload::default() };
            let principal = "spiffe://td/ns/a/sa/b".into();
            (address.parse().unwrap(), KnownWorkload { workload: workload.into(), principal })
        });
        let draft = Draft {
            clusters: vec![Cluster::new("a", Discovery::Endpoints(places))],
            workloads: known.into_iter().collect(),
            ..Draft::default()
        };
        let view = View::empty().next(1, Arc::new(draft.finish()), Default::default());
        let name = |lease: Option<Lease>| {
            let peer = view.surroundings.peers.get(lease.unwrap().peer());
            peer.workload.map(|workload| workload.name.clone())
        };
        assert_eq!(name(view.pick(ClusterId(0), somewhere(), drawn(5))).as_deref(), Some("near"));
        let asked = [parsed("10.0.0.1:80")];
        let elsewhere = view.pick_elsewhere(ClusterId(0), somewhere(), (drawn(5), &asked));
        assert_eq!(name(elsewhere).as_deref(), Some("far"));
    }

    #[test]
    fn a_cluster_without_endpoints_picks_nothing() {
        let view = View::empty().next(1, snapshot("a", &[]), Default::default());
        assert!(view.pick(ClusterId(0), somewhere(), drawn(7)).is_none());
    }

    #[test]
    fn original_destinations_are_bounded_and_forgotten_when_unused() {
        let cluster = Cluster::new("PassthroughCluster", Discovery::OriginalDestination);
        let draft = Draft { clusters: vec![cluster], ..Draft::default() };
        let view = View::empty().next(1, Arc::new(draft.finish()), Default::default());
        for port in 1..=u16::try_from(bounds::ORIGINAL_DESTINATIONS).unwrap() + 10 {
            let origin = origin(([10, 0, 0, 1], port).into());
            let lease = view.pick(ClusterId(0), origin, drawn(0)).unwrap();
            assert_eq!(lease.address.port(), Some(port));
        }
        assert_eq!(view.upstreams().count(), bounds::ORIGINAL_DESTINATIONS);
        view.sweep();
        assert_eq!(view.upstreams().count(), 0);
    }
}
