//! What the workers share of a cluster: how much is under way, for clusters with limits, and which endpoints are
//! outliers. Clusters with neither share nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use foldhash::fast::{FixedState, RandomState};
use snapshot::{Cluster, ClusterId, Discovery, Limits, Snapshot};

use crate::health::Outliers;

/// How much of a cluster is under way, over all workers.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    connections: AtomicU32,
    pending: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
    overflows: [AtomicU64; 4],
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource {
    /// Connections to endpoints.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests under way.
    Requests,
    /// Retries under way.
    Retries,
}

impl Usage {
    fn counter(&self, resource: Resource) -> &AtomicU32 {
        match resource {
            Resource::Connections => &self.connections,
            Resource::Pending => &self.pending,
            Resource::Requests => &self.requests,
            Resource::Retries => &self.retries,
        }
    }

    /// How much is under way.
    pub(crate) fn current(&self, resource: Resource) -> u32 {
        self.counter(resource).load(Relaxed)
    }

    /// How much of something may be under way now; `None` is no limit.
    pub(crate) fn limit(&self, resource: Resource, limits: &Limits) -> Option<u32> {
        match resource {
            Resource::Connections => limits.max_connections,
            Resource::Pending => limits.max_pending_requests,
            Resource::Requests => limits.max_requests,
            Resource::Retries => match limits.retry_budget {
                Some(budget) => Some(budget.of(self.current(Resource::Requests))),
                None => limits.max_retries,
            },
        }
    }

    /// How often something was refused.
    pub(crate) fn overflows(&self, resource: Resource) -> u64 {
        self.overflows[resource as usize].load(Relaxed)
    }

    /// Counts one more until the permit is dropped; `None` when there are `limit` already.
    pub(crate) fn admit(self: &Arc<Self>, resource: Resource, limit: u32) -> Option<Permit> {
        if self.take(resource, limit) {
            return Some(Permit { usage: Arc::clone(self), resource });
        }
        self.note_overflow(resource);
        None
    }

    /// Counts one more until it is [given back](Self::give_back); false when there are `limit` already.
    pub(crate) fn take(&self, resource: Resource, limit: u32) -> bool {
        let taken = self.counter(resource).fetch_add(1, Relaxed) < limit;
        // So that what is refused does not count as under way.
        if !taken {
            self.give_back(resource);
        }
        taken
    }

    /// Counts one less.
    pub(crate) fn give_back(&self, resource: Resource) {
        self.counter(resource).fetch_sub(1, Relaxed);
    }

    /// Counts that something was refused.
    pub(crate) fn note_overflow(&self, resource: Resource) {
        self.overflows[resource as usize].fetch_add(1, Relaxed);
    }
}

/// One connection, request or retry that counts against a limit.
#[derive(Debug)]
pub(crate) struct Permit {
    usage: Arc<Usage>,
    resource: Resource,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.usage.give_back(self.resource);
    }
}

/// What the workers share of one cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedCluster {
    /// Present when the cluster has limits.
    pub(crate) usage: Option<Arc<Usage>>,
    /// Present when the cluster ejects outliers.
    pub(crate) outliers: Option<Arc<Outliers>>,
}

impl PartialEq for SharedCluster {
    /// Whether the same is shared.
    fn eq(&self, other: &Self) -> bool {
        let usage = |shared: &Self| shared.usage.as_ref().map(Arc::as_ptr);
        let outliers = |shared: &Self| shared.outliers.as_ref().map(Arc::as_ptr);
        usage(self) == usage(other) && outliers(self) == outliers(other)
    }
}

/// Clusters of a snapshot that share something.
pub(crate) type SharedClusters = Arc<HashMap<ClusterId, SharedCluster, FixedState>>;

/// What is shared, by name of the cluster, from one publication to the next.
#[derive(Debug, Default)]
pub(crate) struct SharedState {
    by_name: HashMap<String, SharedCluster, RandomState>,
}

impl SharedState {
    /// What the clusters of `snapshot` share; those that stay keep their counts and outliers.
    pub(crate) fn update(&mut self, snapshot: &Snapshot) -> SharedClusters {
        let mut old = std::mem::take(&mut self.by_name);
        let sharing = (0..).map(ClusterId).zip(snapshot.clusters()).filter(|(_, cluster)| shares(cluster));
        let mut shared = HashMap::default();
        for (id, cluster) in sharing {
            let next = old.remove(&cluster.name).unwrap_or_default().next(cluster);
            self.by_name.insert(cluster.name.clone(), next.clone());
            shared.insert(id, next);
        }
        Arc::new(shared)
    }
}

fn shares(cluster: &Cluster) -> bool {
    cluster.outlier_detection.is_some() || cluster.limits != Limits::default()
}

impl SharedCluster {
    fn next(self, cluster: &Cluster) -> Self {
        let usage = (cluster.limits != Limits::default()).then(|| self.usage.unwrap_or_default());
        let outliers = cluster.outlier_detection.as_ref().map(|settings| match self.outliers {
            Some(outliers) => {
                outliers.set_settings(settings);
                outliers
            }
            None => Arc::new(Outliers::new(settings.clone())),
        });
        // Endpoints that are names are known when they are resolved.
        if let Some(outliers) = &outliers
            && !matches!(cluster.discovery, Discovery::Dns(_))
        {
            outliers.set_endpoints(cluster.endpoints().map(|endpoint| endpoint.address.clone()));
        }
        Self { usage, outliers }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use snapshot::{Draft, OutlierDetection};

    use super::*;
    use crate::health::Cause;

    #[test]
    fn permits_are_counted_while_they_are_held() {
        let usage = Arc::new(Usage::default());
        let first = usage.admit(Resource::Requests, 2).unwrap();
        let second = usage.admit(Resource::Requests, 2);
        assert!(second.is_some() && usage.admit(Resource::Requests, 2).is_none());
        assert!(usage.admit(Resource::Connections, 1).is_some(), "others have a limit of their own");
        drop(first);
        assert!(usage.admit(Resource::Requests, 2).is_some());
        drop(second);
        assert_eq!(usage.current(Resource::Requests), 0);
    }

    #[test]
    fn outliers_and_counts_survive_a_publication_by_name_of_the_cluster() {
        let address = &snapshot::Address::from(([10, 0, 0, 1], 80));
        let publish = |state: &mut SharedState, name: &str| {
            let mut cluster = Cluster::new(name, Discovery::of_addresses([address.clone()]));
            cluster.outlier_detection = Some(OutlierDetection::default());
            cluster.limits.max_requests = Some(7);
            let draft = Draft { clusters: vec![cluster], ..Draft::default() };
            state.update(&draft.finish())[&ClusterId(0)].clone()
        };
        let mut state = SharedState::default();
        let first = publish(&mut state, "a");
        first.outliers.unwrap().eject(address, Cause::Consecutive5xx, Instant::now());
        let _request = first.usage.unwrap().admit(Resource::Requests, 7);
        let second = publish(&mut state, "a");
        assert!(second.outliers.unwrap().monitor(address).unwrap().is_ejected());
        assert_eq!(second.usage.unwrap().current(Resource::Requests), 1);
        let renamed = publish(&mut state, "b");
        assert!(!renamed.outliers.unwrap().monitor(address).unwrap().is_ejected());
    }
}
