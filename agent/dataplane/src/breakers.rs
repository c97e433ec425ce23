//! What clusters refuse for their limits and whom they leave alone, for metrics.

use std::sync::Arc;

use snapshot::Snapshot;

use crate::{
    health::Ejections,
    shared::{Resource, SharedClusters},
};

/// What a cluster with limits or outlier ejection has come to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterState {
    /// Its name.
    pub name: String,
    /// Its limits; `None` where it has none.
    pub breakers: Option<Breakers>,
    /// Its ejections; `None` where none may happen.
    pub ejections: Option<Ejections>,
}

/// The limits of a cluster (Envoy's circuit breakers).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Breakers {
    /// Connections.
    pub connections: Breaker,
    /// Requests that wait for a connection.
    pub pending: Breaker,
    /// Requests under way.
    pub requests: Breaker,
    /// Retries under way.
    pub retries: Breaker,
}

/// One limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Breaker {
    /// Whether no more is admitted now.
    pub is_open: bool,
    /// How often something was refused.
    pub overflows: u64,
}

/// What the workers share, with the snapshot that they share it for.
pub(crate) type Shares = (Arc<Snapshot>, SharedClusters);

/// The clusters that have limits or eject, by name.
pub(crate) fn states((snapshot, shared): &Shares) -> Vec<ClusterState> {
    let mut states: Vec<_> = shared
        .iter()
        .map(|(id, shared)| {
            let cluster = snapshot.cluster(*id);
            let breakers = shared.usage.as_ref().map(|usage| {
                let breaker = |resource: Resource| Breaker {
                    is_open: usage
                        .limit(resource, &cluster.limits)
                        .is_some_and(|limit| usage.current(resource) >= limit),
                    overflows: usage.overflows(resource),
                };
                Breakers {
                    connections: breaker(Resource::Connections),
                    pending: breaker(Resource::Pending),
                    requests: breaker(Resource::Requests),
                    retries: breaker(Resource::Retries),
                }
            });
            let ejections = shared.outliers.as_ref().map(|outliers| outliers.ejections());
            ClusterState { name: cluster.name.clone(), breakers, ejections }
        })
        .collect();
    states.sort_by(|a, b| a.name.cmp(&b.name));
    states
}
