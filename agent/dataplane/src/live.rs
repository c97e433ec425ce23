//! What the workers know of clusters together, for the admin interface: asked for, never on the path of a request.

use std::sync::Arc;

use snapshot::{
    Address, ClusterId, Discovery, Endpoint, LiveCluster, LiveClusters, LiveEndpoint, LocalityEndpoints,
    Snapshot,
};

use crate::{dns::Resolutions, shared::SharedClusters};

/// What one worker knows. It hands out what it shares with others as it is: all work is done by who asks.
pub(crate) struct Observed {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) shared: SharedClusters,
    pub(crate) resolved: Arc<Resolutions>,
    /// Of the clusters that this worker has used.
    pub(crate) endpoints: Vec<(ClusterId, Vec<(Address, LiveEndpoint)>)>,
}

/// What all workers know. A worker may be a snapshot behind, so clusters meet by their names.
pub(crate) fn clusters(workers: Vec<Observed>) -> LiveClusters {
    let mut live = LiveClusters::of_running();
    if let Some(first) = workers.first() {
        first.add_resolved(&mut live);
        first.add_ejected(&mut live);
    }
    workers.iter().for_each(|worker| worker.add_observed(&mut live));
    live
}

impl Observed {
    fn add_resolved(&self, live: &mut LiveClusters) {
        for cluster in self.snapshot.clusters() {
            if let Discovery::Dns(dns) = &cluster.discovery {
                live.entry(&cluster.name).localities = Some(self.resolved.localities(dns));
            }
        }
    }

    fn add_ejected(&self, live: &mut LiveClusters) {
        for (id, shared) in self.shared.iter() {
            for address in shared.outliers.iter().flat_map(|outliers| outliers.ejected()) {
                let known = live.entry(&self.snapshot.cluster(*id).name);
                known.endpoints.entry(address).or_default().is_ejected = true;
            }
        }
    }

    fn add_observed(&self, live: &mut LiveClusters) {
        for (id, endpoints) in &self.endpoints {
            let cluster = self.snapshot.cluster(*id);
            let known = live.entry(&cluster.name);
            for (address, observed) in endpoints {
                let endpoint = known.endpoints.entry(address.clone()).or_default();
                endpoint.counts += observed.counts;
                endpoint.has_refused |= observed.has_refused;
            }
            if !cluster.discovery.has_endpoints() {
                known.localities = Some(seen(known));
            }
        }
    }
}

/// The destinations that a cluster without endpoints of its own has connected to.
fn seen(known: &LiveCluster) -> Vec<LocalityEndpoints> {
    let endpoints: Vec<_> = known.endpoints.keys().cloned().map(Endpoint::at).collect();
    vec![endpoints.into()]
}
