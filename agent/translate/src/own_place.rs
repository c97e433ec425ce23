//! Where the proxy's workload runs, and how many of it.

use std::collections::{BTreeMap, BTreeSet};

use resources::ResourceSet;
use snapshot::Locality;

use crate::{destinations::Caller, places::completed, proxy::Proxy, registry::Registry};

/// What localities are judged from.
pub(crate) struct OwnPlace {
    locality: Option<Locality>,
    /// Instances of the workload by zone, in its region.
    instances: BTreeMap<String, u64>,
}

impl OwnPlace {
    /// The instances are the endpoints of the services that the workload stands behind.
    pub(crate) fn new(resources: &ResourceSet, registry: &Registry<'_>) -> Self {
        let locality = locality(resources, registry);
        let mut instances = BTreeMap::new();
        if let Some(own) = &locality {
            let ports =
                registry.of_workload().flat_map(|s| s.ports.iter().map(move |port| s.endpoints(port)));
            let near = ports.flatten().filter(|endpoint| endpoint.locality.region == own.region);
            let seen: BTreeSet<_> = near.filter_map(|e| Some((e.ip()?, e.locality.zone))).collect();
            for (_, zone) in seen {
                *instances.entry(zone).or_default() += 1;
            }
        }
        Self { locality, instances }
    }

    /// As the caller of a service.
    pub(crate) fn caller<'c>(&'c self, proxy: &'c Proxy) -> Caller<'c> {
        Caller { locality: self.locality.as_ref(), labels: &proxy.labels, instances: &self.instances }
    }
}

/// Where the proxy's workload runs: as it was told, else as its labels or those of its Pod say, completed by those of its
/// Node.
fn locality(resources: &ResourceSet, registry: &Registry<'_>) -> Option<Locality> {
    let (proxy, places) = (registry.proxy, &registry.places);
    let worked_out = || {
        let mut pods = resources.pods().iter().filter(|pod| !pod.spec.is_host_network);
        let pod = pods.find(|pod| pod.spec.ips.iter().any(|ip| proxy.ips.contains(ip)));
        let of_pod = pod.map(|pod| places.of_pod(pod)).unwrap_or_default();
        let of_labels = resources::locality(&proxy.labels).as_deref().map(Locality::of_path);
        let own = completed(of_labels.unwrap_or_default(), of_pod);
        let place = completed(own, places.of_node(proxy.node.as_deref()));
        (place != Locality::default()).then_some(place)
    };
    proxy.locality.clone().or_else(worked_out)
}
