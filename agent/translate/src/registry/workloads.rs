//! Pods and WorkloadEntries: the workloads that services select, and the labels of those that are only addresses.

use std::{net::IpAddr, sync::Arc};

use resources::{Labels, Object, Pod, ResourceSet, WorkloadEntry};
use snapshot::Locality;

use super::Map;
use crate::{places::Places, visibility::has_labels};

/// All workloads, by namespace and by address.
#[derive(Debug, Default)]
pub(super) struct Workloads<'s> {
    pods: Map<&'s str, Vec<&'s Object<Pod>>>,
    entries: Map<&'s str, Vec<&'s Object<WorkloadEntry>>>,
    by_ip: Map<IpAddr, &'s Object<Pod>>,
    pub(super) places: Arc<Places<'s>>,
}

impl<'s> Workloads<'s> {
    pub(super) fn new(resources: &'s ResourceSet) -> Self {
        let mut workloads = Self { places: Arc::new(Places::new(resources)), ..Self::default() };
        for pod in resources.pods().iter().map(Arc::as_ref) {
            workloads.pods.entry(pod.meta.namespace()).or_default().push(pod);
            // Pods on the network of their node share its addresses, which so name none of them.
            for ip in pod.spec.ips.iter().filter(|_| !pod.spec.is_host_network) {
                workloads.by_ip.entry(*ip).or_insert(pod);
            }
        }
        for entry in resources.workload_entries().iter().map(Arc::as_ref) {
            workloads.entries.entry(entry.meta.namespace()).or_default().push(entry);
        }
        workloads
    }

    /// The pod with this address.
    pub(super) fn pod_at(&self, ip: IpAddr) -> Option<&'s Object<Pod>> {
        self.by_ip.get(&ip).copied()
    }

    /// The pods of a namespace that have all these labels.
    pub(super) fn pods(&self, namespace: &str, wanted: &Labels) -> Vec<&'s Object<Pod>> {
        let all = self.pods.get(namespace).into_iter().flatten().copied();
        all.filter(|pod| has_labels(&pod.meta.labels, wanted)).collect()
    }

    /// The WorkloadEntries of a namespace that have all these labels.
    pub(super) fn entries(&self, namespace: &str, wanted: &Labels) -> Vec<&'s Object<WorkloadEntry>> {
        let all = self.entries.get(namespace).into_iter().flatten().copied();
        all.filter(|entry| has_labels(&entry.spec.labels, wanted)).collect()
    }
}

/// Where a workload says it is, when it says anything.
pub(super) fn locality(written: Option<&str>) -> Locality {
    written.map(Locality::of_path).unwrap_or_default()
}
