//! Whom metrics name: the pods and WorkloadEntries at known addresses.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use foldhash::fast::FixedState;
use resources::{Object, Pod, ResourceSet, WorkloadAddress, WorkloadEntry};
use snapshot::{KnownWorkload, Workload, Workloads};

use crate::proxy::Proxy;

/// The workloads of the mesh by their addresses.
pub(crate) fn workloads(resources: &ResourceSet, proxy: &Proxy) -> Workloads {
    let mut names = Names { proxy, workloads: HashMap::default(), principals: HashMap::default() };
    let mut known = Vec::with_capacity(resources.pods().len());
    for pod in resources.pods().iter().filter(|pod| !pod.spec.is_host_network && !pod.spec.ips.is_empty()) {
        let workload = names.of_pod(pod);
        known.extend(pod.spec.ips.iter().map(|ip| (*ip, workload.clone())));
    }
    known.extend(resources.workload_entries().iter().filter_map(|entry| names.of_entry(entry)));
    known.into_iter().collect()
}

/// Names that many pods share, made once.
struct Names<'r> {
    proxy: &'r Proxy,
    workloads: HashMap<Workload<&'r str>, Arc<Workload>, FixedState>,
    /// By namespace and service account.
    principals: HashMap<(&'r str, &'r str), Arc<str>, FixedState>,
}

impl<'r> Names<'r> {
    fn of_pod(&mut self, pod: &'r Object<Pod>) -> KnownWorkload {
        let workload = Workload::of_labels(pod.workload_name(), pod.meta.namespace(), &pod.meta.labels);
        self.known(workload, pod.spec.service_account.as_deref())
    }

    /// One that is known by its address.
    fn of_entry(&mut self, entry: &'r Object<WorkloadEntry>) -> Option<(IpAddr, KnownWorkload)> {
        let Some(WorkloadAddress::Ip(ip)) = entry.spec.address else { return None };
        let labels = &entry.spec.labels;
        let name = labels.get(WORKLOAD_NAME).map_or(entry.meta.name(), String::as_str);
        let workload = Workload::of_labels(name, entry.meta.namespace(), labels);
        Some((ip, self.known(workload, entry.spec.service_account.as_deref())))
    }

    fn known(&mut self, workload: Workload<&'r str>, account: Option<&'r str>) -> KnownWorkload {
        let workload = Workload { cluster: self.proxy.cluster_id.as_str(), ..workload };
        let key = (workload.namespace, account.unwrap_or("default"));
        let trust_domain = &self.proxy.mesh.trust_domain;
        let principal = || format!("spiffe://{trust_domain}/ns/{}/sa/{}", key.0, key.1).into();
        KnownWorkload {
            workload: Arc::clone(
                self.workloads.entry(workload).or_insert_with(|| Arc::new(workload.to_owned())),
            ),
            principal: Arc::clone(self.principals.entry(key).or_insert_with(principal)),
        }
    }
}

const WORKLOAD_NAME: &str = "service.istio.io/workload-name";

#[cfg(test)]
mod tests {
    use resources::{Files, ReadDefaults};

    use super::*;
    use crate::proxy::ProxyKind;

    const RESOURCES: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web-7d4-x
  namespace: prod
  labels: {app: web, version: v2, pod-template-hash: 7d4}
  ownerReferences: [{kind: ReplicaSet, name: web-7d4, controller: true}]
spec: {serviceAccountName: web}
status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-7d4-y
  namespace: prod
  labels: {app: web, version: v2, pod-template-hash: 7d4}
  ownerReferences: [{kind: ReplicaSet, name: web-7d4, controller: true}]
spec: {serviceAccountName: web}
status: {podIP: 10.0.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: node-agent, namespace: prod}
spec: {hostNetwork: true}
status: {podIP: 10.0.0.9}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-1, namespace: old}
spec: {address: 10.0.0.3, labels: {app: billing}}
";

    #[test]
    fn pods_and_workload_entries_are_known_by_their_addresses() {
        let mut files = Files::new(ReadDefaults { namespace: "ns".into() });
        files.replace_file("a.yaml", RESOURCES);
        let set = files.resources().0;
        let proxy = Proxy { cluster_id: "c1".to_owned(), ..Proxy::new(ProxyKind::Sidecar, "ns") };
        let workloads = workloads(&set, &proxy);
        let at = |ip: &str| workloads.at(ip.parse().unwrap());
        let [one, six, two] = ["10.0.0.1", "fd00::1", "10.0.0.2"].map(|ip| at(ip).unwrap());
        assert!(
            Arc::ptr_eq(&one.workload, &two.workload) && one == six,
            "pods of one workload share its names"
        );
        assert_eq!(&*one.principal, "spiffe://cluster.local/ns/prod/sa/web");
        let Workload { name, namespace, app, version, canonical_service, canonical_revision, cluster } =
            &*one.workload;
        assert_eq!([name, namespace, app, version], ["web", "prod", "web", "v2"]);
        assert_eq!([canonical_service, canonical_revision, cluster], ["web", "v2", "c1"]);
        let machine = at("10.0.0.3").unwrap();
        assert_eq!((machine.workload.name.as_str(), machine.workload.app.as_str()), ("vm-1", "billing"));
        assert_eq!(&*machine.principal, "spiffe://cluster.local/ns/old/sa/default");
        assert!(at("10.0.0.9").is_none(), "an address that a node shares names no pod");
        assert_eq!(workloads.len(), 4);
    }
}
