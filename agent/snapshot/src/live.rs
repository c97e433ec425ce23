//! What a running proxy knows of clusters beyond their description: what names are resolved to, which endpoints are
//! left alone for their failures, and how much was sent where.

use std::collections::BTreeMap;

use crate::{Address, Cluster, EndpointPlan, LocalityEndpoints};

/// What is known of clusters, by their names. Nothing is known where nothing runs.
#[derive(Clone, Debug, Default)]
pub struct LiveClusters {
    by_name: BTreeMap<String, LiveCluster>,
    of_running: bool,
}

/// What is known of a cluster.
#[derive(Clone, Debug, Default)]
pub struct LiveCluster {
    /// What its names stand for, or the original destinations it has connected to; `None` where the endpoints are
    /// those of its description.
    pub localities: Option<Vec<LocalityEndpoints>>,
    /// Endpoints of which there is anything to say.
    pub endpoints: BTreeMap<Address, LiveEndpoint>,
}

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LiveEndpoint {
    /// Whether it is left alone for its failures (DestinationRule `outlierDetection`).
    pub is_ejected: bool,
    /// Whether it has refused a worker's connection a moment ago, so that it is asked only if all have.
    pub has_refused: bool,
    /// What was sent to it.
    pub counts: EndpointCounts,
}

impl LiveEndpoint {
    /// Whether others are asked before it, for what it has done.
    pub fn is_avoided(&self) -> bool {
        self.is_ejected || self.has_refused
    }
}

/// Connections to an endpoint and requests sent to it, under Envoy's names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EndpointCounts {
    /// Connections that are open.
    pub cx_active: u64,
    /// Connections that did not come about.
    pub cx_connect_fail: u64,
    /// Connections begun.
    pub cx_total: u64,
    /// Requests, and opaque connections, under way.
    pub rq_active: u64,
    /// Requests that failed or were answered with a status of 500 and above.
    pub rq_error: u64,
    /// Requests that wait for a connection.
    pub rq_pending_active: u64,
    /// Requests answered with a status below 500.
    pub rq_success: u64,
    /// Requests whose answer did not come in time.
    pub rq_timeout: u64,
    /// Requests, and opaque connections, sent.
    pub rq_total: u64,
}

impl std::ops::AddAssign for EndpointCounts {
    fn add_assign(&mut self, other: Self) {
        self.cx_active += other.cx_active;
        self.cx_connect_fail += other.cx_connect_fail;
        self.cx_total += other.cx_total;
        self.rq_active += other.rq_active;
        self.rq_error += other.rq_error;
        self.rq_pending_active += other.rq_pending_active;
        self.rq_success += other.rq_success;
        self.rq_timeout += other.rq_timeout;
        self.rq_total += other.rq_total;
    }
}

impl LiveClusters {
    /// Of a proxy that runs, so that certificates are all it has.
    pub fn of_running() -> Self {
        Self { of_running: true, ..Self::default() }
    }

    /// Whether what is not known is not there.
    pub(crate) fn is_of_running(&self) -> bool {
        self.of_running
    }

    /// What is known of the cluster with this name, to be added to.
    pub fn entry(&mut self, name: &str) -> &mut LiveCluster {
        self.by_name.entry(name.to_owned()).or_default()
    }

    /// The endpoints that a cluster has now.
    pub fn localities<'l>(&'l self, cluster: &'l Cluster) -> &'l [LocalityEndpoints] {
        self.found(cluster).unwrap_or_else(|| cluster.localities())
    }

    /// What the proxy has found out about where a cluster's endpoints are; `None` where it need not, or has not yet.
    pub fn found(&self, cluster: &Cluster) -> Option<&[LocalityEndpoints]> {
        self.by_name.get(&cluster.name)?.localities.as_deref()
    }

    /// What is known of one of a cluster's endpoints.
    pub fn endpoint(&self, cluster: &Cluster, address: &Address) -> LiveEndpoint {
        let known = self.by_name.get(&cluster.name).and_then(|known| known.endpoints.get(address));
        known.copied().unwrap_or_default()
    }

    /// Which endpoints of a cluster may be picked now, worked out as the data plane does it.
    pub fn plan(&self, cluster: &Cluster) -> EndpointPlan {
        let localities = self.localities(cluster);
        let endpoints = localities.iter().flat_map(|locality| &locality.endpoints);
        let addresses: Vec<&Address> = endpoints.map(|endpoint| &endpoint.address).collect();
        let usable = |position: usize| !self.endpoint(cluster, addresses[position]).is_ejected;
        let min_health_percent = cluster.outlier_detection.as_ref().map_or(0, |o| o.min_health_percent);
        EndpointPlan::new(localities, usable, min_health_percent)
    }
}
