//! A worker's view of a snapshot: the shared description plus this worker's own connections by cluster.

#[cfg(test)]
mod tests;

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
    cluster::{ClusterConnections, ClusterInputs, Overflow, Retrying},
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
    context: ViewContext,
    /// Made when a cluster is first used: most clusters of a mesh never are.
    clusters: Vec<OnceCell<Rc<ClusterConnections>>>,
}

/// What a view needs beside its snapshot.
#[derive(Clone, Default)]
pub(crate) struct ViewContext {
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
        Self { version: 0, snapshot, context: ViewContext::default(), clusters: Vec::new() }
    }

    /// The view of a new snapshot. Endpoints that stay keep their connections and counts.
    pub(crate) fn next(&self, version: u64, snapshot: Arc<Snapshot>, context: ViewContext) -> Self {
        let clusters = snapshot.clusters().iter().map(|_| OnceCell::new()).collect();
        let next = Self { version, snapshot, context, clusters };
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
        (self.snapshot.cluster(id), self.context.shared.get(&id).cloned().unwrap_or_default())
    }

    /// Whether the names of a cluster stand for what they stood for.
    fn agrees_with(&self, before: &Self, id: ClusterId) -> bool {
        let (now, before) = (&self.context.resolved, &before.context.resolved);
        match &self.snapshot.cluster(id).discovery {
            Discovery::Dns(dns) => now.agree_with(before, dns),
            Discovery::Endpoints(_) | Discovery::OriginalDestination | Discovery::DynamicDns(_) => true,
        }
    }

    /// The same with other addresses for names, or `None` when they are those it has. Clusters whose names stand for what
    /// they stood for stay as they are.
    pub(crate) fn with_resolved(&self, resolved: Arc<Resolutions>) -> Option<Self> {
        if Arc::ptr_eq(&self.context.resolved, &resolved) {
            return None;
        }
        let snapshot = Arc::clone(&self.snapshot);
        let clusters = snapshot.clusters().iter().map(|_| OnceCell::new()).collect();
        let context = ViewContext { resolved, ..self.context.clone() };
        let next = Self { version: self.version, snapshot, context, clusters };
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
        let shared = self.context.shared.get(&id).cloned().unwrap_or_default();
        let cluster = self.snapshot.cluster(id);
        let named = match &cluster.discovery {
            Discovery::Dns(dns) => Some(self.context.resolved.localities(dns)),
            Discovery::Endpoints(_) | Discovery::OriginalDestination | Discovery::DynamicDns(_) => None,
        };
        let own_ports = self.snapshot.own_ports().clone();
        let given = ClusterInputs { shared, named, heads: self.context.heads, own_ports };
        Rc::new(ClusterConnections::new(cluster, given, old))
    }

    /// The ways to terminate TLS, by the handles of the snapshot.
    pub(crate) fn tls(&self) -> &Contexts {
        &self.context.tls
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
        let of = |known| self.context.peers.id(Peer::of(known, endpoint.speaks_mutual_tls()));
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
        (Arc::clone(&self.snapshot), Arc::clone(&self.context.shared))
    }

    /// What this worker knows that the snapshot does not say.
    pub(crate) fn observed(&self) -> Observed {
        Observed {
            snapshot: Arc::clone(&self.snapshot),
            shared: Arc::clone(&self.context.shared),
            resolved: Arc::clone(&self.context.resolved),
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
