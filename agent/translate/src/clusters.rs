//! The clusters of a snapshot, by name.

use std::{collections::HashMap, time::Duration};

use foldhash::fast::FixedState;
use snapshot::{Cluster, ClusterId, ClusterTarget, Discovery, SourceAddresses, WeightedClusters};

use crate::{
    proxy::{Proxy, ProxyKind},
    registry::{KnownService, Registry},
};

/// Where connections go whose destination nobody knows.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";

/// Where inbound connections go that no service declares.
pub(crate) const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// All clusters, sorted by name.
#[derive(Debug)]
pub(crate) struct Clusters {
    pub(crate) list: Vec<Cluster>,
    ids: HashMap<String, ClusterId, FixedState>,
}

impl Clusters {
    pub(crate) fn new(registry: &Registry<'_>, proxy: &Proxy) -> Self {
        let timeout = proxy.mesh.connect_timeout;
        let mut list: Vec<Cluster> = registry.services.iter().flat_map(|s| of_service(s, timeout)).collect();
        if proxy.kind == ProxyKind::Sidecar {
            list.push(original(PASSTHROUGH, None, timeout));
            list.push(original(INBOUND_PASSTHROUGH, Some(SourceAddresses::INBOUND), timeout));
            for (_, port) in crate::inbound::ports(registry).0 {
                list.push(original(&inbound_name(port.number), Some(SourceAddresses::INBOUND), timeout));
            }
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        let ids = (0..).map(ClusterId).zip(&list).map(|(id, cluster)| (cluster.name.clone(), id)).collect();
        Self { list, ids }
    }

    /// A target with this name, whether or not there is such a cluster.
    pub(crate) fn target(&self, name: String, weight: u32) -> ClusterTarget {
        ClusterTarget { id: self.ids.get(&name).copied(), name, weight, authority: None, headers: None }
    }

    /// All requests to one cluster.
    pub(crate) fn only(&self, name: impl Into<String>) -> WeightedClusters {
        WeightedClusters::new(vec![self.target(name.into(), 1)])
            .expect("a single destination needs no weight")
    }
}

/// `outbound|<port>|<subset>|<host>`.
pub(crate) fn outbound_name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// `inbound|<port>||`.
pub(crate) fn inbound_name(port: u16) -> String {
    format!("inbound|{port}||")
}

fn of_service(service: &KnownService<'_>, connect_timeout: Duration) -> impl Iterator<Item = Cluster> {
    let ports = service.tcp_ports().filter(|_| !service.is_alias());
    ports.map(move |port| {
        // Clients of a headless service choose the pod themselves, except where HTTP lets us choose.
        let chosen_by_client = service.object.spec.is_headless
            && !port.application_protocol().is_some_and(resources::Protocol::is_http);
        let discovery = match chosen_by_client {
            true => Discovery::OriginalDestination,
            false => Discovery::of_addresses(service.endpoints(port)),
        };
        Cluster { connect_timeout, ..Cluster::new(outbound_name(port.port, "", &service.host), discovery) }
    })
}

fn original(name: &str, source: Option<SourceAddresses>, connect_timeout: Duration) -> Cluster {
    Cluster { source, connect_timeout, ..Cluster::new(name, Discovery::OriginalDestination) }
}
