//! Services of ServiceEntries: hosts that Kubernetes does not know.

use std::{net::IpAddr, net::SocketAddr, sync::Arc};

use ipnet::IpNet;
use resources::{IpProtocol, Object, Pod, ResourceSet, ServiceEntry, WorkloadAddress, WorkloadEntry};
use snapshot::DnsResolution;

use super::{
    Backends, EndpointPlace, KnownEndpoint, KnownPort, KnownService, Origin, Reached, Resolution, Target,
    allocated::Allocated,
    workloads::{Workloads, locality},
};
use crate::{
    places::Places,
    proxy::{Proxy, ProxyKind},
    visibility,
};

/// Where the endpoints of a ServiceEntry are written.
#[derive(Debug)]
pub(super) struct EntryBackends<'s> {
    spec: &'s ServiceEntry,
    /// WorkloadEntries that it selects.
    entries: Vec<&'s WorkloadEntry>,
    /// Pods that it selects.
    pods: Vec<&'s Object<Pod>>,
    places: Arc<Places<'s>>,
}

/// The ServiceEntries that the proxy sees: those of its own namespace first, then the oldest.
pub(super) fn in_order<'s>(resources: &'s ResourceSet, proxy: &Proxy) -> Vec<&'s Object<ServiceEntry>> {
    let all = resources.service_entries().iter().map(Arc::as_ref);
    let mut seen: Vec<_> = all.filter(|e| visibility::sees_service_entry(e, proxy)).collect();
    seen.sort_by_key(|entry| entry.meta.namespace() != proxy.namespace);
    seen
}

pub(super) fn known<'s>(
    (object, host): (&'s Object<ServiceEntry>, usize),
    workloads: &Workloads<'s>,
    allocated: &Allocated<'_>,
    proxy: &Proxy,
) -> KnownService<'s> {
    let spec = &object.spec;
    let tcp = spec.ports.iter().enumerate().filter(|(_, port)| port.transport == IpProtocol::Tcp);
    let port = |(index, port): (usize, &'s resources::ServiceEntryPort)| KnownPort {
        index,
        number: port.number,
        name: &port.name,
        protocol: port.application_protocol(),
        target: Target::Number(port.target_port.unwrap_or(port.number)),
    };
    let reached = match (spec.addresses.as_slice(), allocated.of(&spec.hosts[host])) {
        ([], []) => Reached::Anywhere,
        ([], allocated) => Reached::At(allocated.iter().copied().map(IpNet::from).collect()),
        (networks, _) => Reached::At(networks.to_vec()),
    };
    KnownService {
        origin: Origin::Entry(object),
        host: spec.hosts[host].clone(),
        ports: tcp.map(port).collect(),
        reached,
        resolution: resolution(spec.resolution, proxy),
        certificate_names: &spec.subject_alt_names,
        backends: Backends::Entry(EntryBackends::new(object, workloads)),
    }
}

fn resolution(written: resources::Resolution, proxy: &Proxy) -> Resolution {
    match written {
        resources::Resolution::Static => Resolution::Listed,
        resources::Resolution::Dns => Resolution::Dns(DnsResolution::Strict),
        resources::Resolution::DnsRoundRobin => Resolution::Dns(DnsResolution::Logical),
        resources::Resolution::DynamicDns => Resolution::DynamicDns,
        resources::Resolution::None => match proxy.kind {
            ProxyKind::Sidecar => Resolution::OriginalDestination,
            // Who comes to a gateway was on the way to nowhere else.
            ProxyKind::Router => Resolution::Listed,
        },
    }
}

impl<'s> EntryBackends<'s> {
    fn new(object: &'s Object<ServiceEntry>, workloads: &Workloads<'s>) -> Self {
        let (spec, namespace) = (&object.spec, object.meta.namespace());
        let mut entries: Vec<_> = spec.endpoints.iter().collect();
        let mut pods = Vec::new();
        // Without a resolution connections go where they were going, whoever is selected.
        let selects = spec.resolution != resources::Resolution::None;
        if let Some(selector) = spec.workload_selector.as_ref().filter(|_| selects) {
            entries.extend(workloads.entries(namespace, selector).into_iter().map(|entry| &entry.spec));
            pods = workloads.pods(namespace, selector);
        }
        Self { spec, entries, pods, places: Arc::clone(&workloads.places) }
    }

    /// Sorted; for a resolution by name without endpoints the host itself.
    pub(super) fn endpoints(&self, port: &KnownPort<'_>, host: &str) -> Vec<KnownEndpoint<'s>> {
        let of_pods = self.pods.iter().flat_map(|pod| {
            pod.spec.ips.iter().map(|ip| KnownEndpoint {
                place: EndpointPlace::At(SocketAddr::new(*ip, number(port))),
                locality: self.places.of_pod(pod),
                weight: 1,
                labels: Some(&pod.meta.labels),
                account: pod.spec.service_account.as_deref(),
            })
        });
        let mut endpoints: Vec<_> =
            self.entries.iter().filter_map(|entry| endpoint(entry, port)).chain(of_pods).collect();
        if self.spec.endpoints.is_empty() && self.is_by_name() {
            let own = self.spec.hosts.iter().find(|own| *own == host && !own.starts_with('*'));
            endpoints.extend(own.map(|host| KnownEndpoint {
                place: EndpointPlace::Name(host, number(port)),
                locality: locality(None),
                weight: 1,
                labels: None,
                account: None,
            }));
        }
        endpoints.sort_unstable();
        endpoints.dedup_by(|a, b| a.place == b.place);
        endpoints
    }

    fn is_by_name(&self) -> bool {
        matches!(self.spec.resolution, resources::Resolution::Dns | resources::Resolution::DnsRoundRobin)
    }

    /// The port of the endpoint that has one of these addresses, where that says one.
    pub(super) fn own_port(&self, port: &KnownPort<'_>, ips: &[IpAddr]) -> Option<u16> {
        let own =
            self.entries.iter().find(|e| ips.iter().any(|ip| e.address == Some(WorkloadAddress::Ip(*ip))));
        own.and_then(|entry| entry.ports.get(port.name).copied())
    }

    pub(super) fn has_address(&self, ip: IpAddr) -> bool {
        self.entries.iter().any(|entry| entry.address == Some(WorkloadAddress::Ip(ip)))
    }
}

fn number(port: &KnownPort<'_>) -> u16 {
    match port.target {
        Target::Number(number) => number,
        Target::Named => port.number,
    }
}

fn endpoint<'s>(entry: &'s WorkloadEntry, port: &KnownPort<'_>) -> Option<KnownEndpoint<'s>> {
    let number = entry.ports.get(port.name).copied().unwrap_or_else(|| number(port));
    let place = match entry.address.as_ref()? {
        WorkloadAddress::Ip(ip) => EndpointPlace::At(SocketAddr::new(*ip, number)),
        WorkloadAddress::Name(name) => EndpointPlace::Name(name, number),
        WorkloadAddress::Unix(path) => EndpointPlace::Unix(path),
    };
    Some(KnownEndpoint {
        place,
        locality: locality(entry.locality.as_deref()),
        weight: entry.weight.unwrap_or(1).max(1),
        labels: Some(&entry.labels),
        account: entry.service_account.as_deref(),
    })
}
