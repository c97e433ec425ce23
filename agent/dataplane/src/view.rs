//! A worker's view of a snapshot: the shared description plus this worker's own connections by cluster.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use foldhash::fast::RandomState;
use snapshot::{Cluster, ClusterId, Discovery, Draft, Snapshot};

use crate::{
    balance,
    tls::Contexts,
    upstream::{Lease, Upstream},
};

/// What a worker serves from: never changed, replaced whole.
pub(crate) struct View {
    /// Number of the snapshot; connections compare it to notice a change.
    pub(crate) version: u64,
    pub(crate) snapshot: Arc<Snapshot>,
    /// By the handles of the snapshot.
    pub(crate) tls: Contexts,
    clusters: Vec<ClusterConnections>,
}

/// A worker's connections to one cluster.
struct ClusterConnections {
    /// In the order of the cluster's endpoints.
    endpoints: Vec<Rc<Upstream>>,
    /// Original destinations seen, for clusters without endpoints of their own.
    original: RefCell<HashMap<SocketAddr, Rc<Upstream>, RandomState>>,
}

/// Original destinations remembered per cluster and worker. Beyond it connections are not pooled: a peer that walks
/// through addresses must not make us grow.
const MAX_ORIGINAL: usize = 4096;

impl View {
    /// What a worker has before the first publication: nothing.
    pub(crate) fn empty() -> Self {
        let snapshot = Arc::new(Draft::default().finish());
        Self { version: 0, snapshot, tls: Contexts::default(), clusters: Vec::new() }
    }

    /// The view of a new snapshot. Endpoints that stay keep their connections and counts.
    pub(crate) fn next(&self, version: u64, snapshot: Arc<Snapshot>, tls: Contexts) -> Self {
        let names = self.snapshot.clusters().iter().map(|cluster| cluster.name.as_str());
        let known: HashMap<&str, &ClusterConnections, RandomState> = names.zip(&self.clusters).collect();
        let clusters: Vec<_> = snapshot
            .clusters()
            .iter()
            .map(|cluster| ClusterConnections::new(cluster, known.get(cluster.name.as_str()).copied()))
            .collect();
        let next = Self { version, snapshot, tls, clusters };
        self.retire_unless_in(&next);
        next
    }

    /// Endpoints that nobody can pick any more close their idle connections, even while a long connection holds them.
    fn retire_unless_in(&self, next: &Self) {
        let kept: HashSet<*const Upstream> = next.upstreams().map(|upstream| Rc::as_ptr(&upstream)).collect();
        self.upstreams()
            .filter(|upstream| !kept.contains(&Rc::as_ptr(upstream)))
            .for_each(|gone| gone.retire());
    }

    fn upstreams(&self) -> impl Iterator<Item = Rc<Upstream>> {
        self.clusters.iter().flat_map(|cluster| {
            let original: Vec<_> = cluster.original.borrow().values().map(Rc::clone).collect();
            cluster.endpoints.iter().map(Rc::clone).chain(original)
        })
    }

    /// Picks an endpoint of a cluster, or `None` when it has none.
    pub(crate) fn pick(
        &self,
        cluster: ClusterId,
        original_destination: SocketAddr,
        draw: u64,
    ) -> Option<Lease> {
        self.pick_untried(cluster, original_destination, draw, &[])
    }

    /// Picks an endpoint that is not among those tried already, or `None` when there is no such endpoint.
    pub(crate) fn pick_untried(
        &self,
        cluster: ClusterId,
        original_destination: SocketAddr,
        draw: u64,
        tried: &[SocketAddr],
    ) -> Option<Lease> {
        let connections = &self.clusters[cluster.0 as usize];
        let described = self.snapshot.cluster(cluster);
        match described.discovery {
            // Names resolve to endpoints that are published like any others; until then there are none.
            Discovery::Endpoints(_) | Discovery::Dns(_) => {
                let endpoints = &connections.endpoints;
                let first = balance::pick(endpoints.len(), |i| endpoints[i].active(), draw)?;
                let mut others = endpoints[first..].iter().chain(&endpoints[..first]);
                Some(others.find(|endpoint| !tried.contains(&endpoint.address))?.lease())
            }
            Discovery::OriginalDestination if tried.contains(&original_destination) => None,
            Discovery::OriginalDestination => {
                Some(connections.original(described, original_destination).lease())
            }
        }
    }

    /// Closes what has been idle for too long and forgets destinations nobody uses.
    pub(crate) fn sweep(&self, now: Instant) {
        for cluster in &self.clusters {
            cluster.endpoints.iter().for_each(|endpoint| endpoint.sweep(now));
            cluster.original.borrow_mut().retain(|_, upstream| {
                upstream.sweep(now);
                !upstream.is_unused()
            });
        }
    }
}

impl ClusterConnections {
    fn new(cluster: &Cluster, known: Option<&Self>) -> Self {
        match &cluster.discovery {
            Discovery::Endpoints(_) | Discovery::Dns(_) => {
                let mut old: HashMap<SocketAddr, &Rc<Upstream>, RandomState> = known
                    .map(|known| {
                        known.endpoints.iter().map(|upstream| (upstream.address, upstream)).collect()
                    })
                    .unwrap_or_default();
                let endpoints =
                    cluster.endpoints().map(|e| reuse(cluster, e.address, old.remove(&e.address))).collect();
                Self { endpoints, original: RefCell::default() }
            }
            Discovery::OriginalDestination => {
                let old = known.map(|known| known.original.borrow());
                let original = old
                    .iter()
                    .flat_map(|old| old.iter())
                    .map(|(address, upstream)| (*address, reuse(cluster, *address, Some(upstream))))
                    .collect();
                Self { endpoints: Vec::new(), original: RefCell::new(original) }
            }
        }
    }

    fn original(&self, cluster: &Cluster, address: SocketAddr) -> Rc<Upstream> {
        let mut original = self.original.borrow_mut();
        if let Some(upstream) = original.get(&address) {
            return Rc::clone(upstream);
        }
        let upstream = Rc::new(new_upstream(cluster, address));
        if original.len() < MAX_ORIGINAL {
            original.insert(address, Rc::clone(&upstream));
        }
        upstream
    }
}

fn reuse(cluster: &Cluster, address: SocketAddr, old: Option<&Rc<Upstream>>) -> Rc<Upstream> {
    let source = cluster.source.map(|source| source.towards(address.ip()));
    match old {
        Some(old) if old.is_same(source, cluster.connect_timeout) => Rc::clone(old),
        _ => Rc::new(new_upstream(cluster, address)),
    }
}

fn new_upstream(cluster: &Cluster, address: SocketAddr) -> Upstream {
    let source = cluster.source.map(|source| source.towards(address.ip()));
    Upstream::new(address, source, cluster.connect_timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(name: &str, endpoints: &[&str]) -> Arc<Snapshot> {
        let endpoints = endpoints.iter().map(|address| address.parse().unwrap());
        let cluster = Cluster::new(name, Discovery::of_addresses(endpoints));
        Arc::new(Draft { clusters: vec![cluster], ..Draft::default() }.finish())
    }

    fn somewhere() -> SocketAddr {
        "192.0.2.1:1".parse().unwrap()
    }

    #[test]
    fn endpoints_that_stay_keep_their_counts_across_publications() {
        let first =
            View::empty().next(1, snapshot("a", &["10.0.0.1:80", "10.0.0.2:80"]), Contexts::default());
        let lease = first.pick(ClusterId(0), somewhere(), 0).unwrap();
        let kept = lease.address.to_string();
        let second = first.next(2, snapshot("a", &[&kept]), Contexts::default());
        assert_eq!(second.clusters[0].endpoints[0].active(), 1);
        let renamed = first.next(3, snapshot("b", &[&kept]), Contexts::default());
        assert_eq!(renamed.clusters[0].endpoints[0].active(), 0);
    }

    #[test]
    fn endpoints_that_were_tried_are_not_picked_again() {
        let view = View::empty().next(
            1,
            snapshot("a", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]),
            Contexts::default(),
        );
        for draw in [0, 1, u64::MAX / 3, u64::MAX] {
            let mut tried = Vec::new();
            while let Some(lease) = view.pick_untried(ClusterId(0), somewhere(), draw, &tried) {
                tried.push(lease.address);
            }
            tried.sort();
            tried.dedup();
            assert_eq!(tried.len(), 3);
        }
    }

    #[test]
    fn a_cluster_without_endpoints_picks_nothing() {
        let view = View::empty().next(1, snapshot("a", &[]), Contexts::default());
        assert!(view.pick(ClusterId(0), somewhere(), 7).is_none());
    }

    #[test]
    fn original_destinations_are_bounded_and_forgotten_when_unused() {
        let cluster = Cluster::new("PassthroughCluster", Discovery::OriginalDestination);
        let draft = Draft { clusters: vec![cluster], ..Draft::default() };
        let view = View::empty().next(1, Arc::new(draft.finish()), Contexts::default());
        for port in 1..=u16::try_from(MAX_ORIGINAL).unwrap() + 10 {
            let lease = view.pick(ClusterId(0), ([10, 0, 0, 1], port).into(), 0).unwrap();
            assert_eq!(lease.address.port(), port);
        }
        assert_eq!(view.clusters[0].original.borrow().len(), MAX_ORIGINAL);
        view.sweep(Instant::now());
        assert!(view.clusters[0].original.borrow().is_empty());
    }
}
