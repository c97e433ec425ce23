//! Services of Kubernetes and the endpoints of their EndpointSlices.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use resources::{
    EndpointSlice, EndpointSubset, Endpoints, IpProtocol, Object, ResourceSet, SERVICE_NAME_LABEL, Service,
    SliceEndpoint, TargetPort, WorkloadAddress, WorkloadEntry,
};

use super::{
    Backends, EndpointPlace, KnownEndpoint, KnownPort, KnownService, Map, Origin, Reached, Resolution,
    Target,
    workloads::{Workloads, locality},
};
use crate::{
    hosts::service_host,
    places::{Places, completed},
    proxy::Proxy,
};

/// Where the endpoints of a service are written.
#[derive(Debug, Default)]
pub(super) struct ServiceBackends<'s> {
    slices: Vec<&'s EndpointSlice>,
    endpoints: Option<&'s Endpoints>,
    /// WorkloadEntries that the Service selects.
    entries: Vec<&'s WorkloadEntry>,
    /// The pods at the addresses, for their labels and service accounts.
    pods: BTreeMap<IpAddr, &'s Object<resources::Pod>>,
    places: Arc<Places<'s>>,
    with_unready: bool,
}

/// What is written of endpoints, by namespace and name of the service.
pub(super) struct EndpointsByService<'s> {
    slices: Map<(&'s str, &'s str), Vec<&'s EndpointSlice>>,
    endpoints: Map<(&'s str, &'s str), &'s Endpoints>,
}

pub(super) fn endpoints_by_service(resources: &ResourceSet) -> EndpointsByService<'_> {
    let mut slices: Map<(&str, &str), Vec<&EndpointSlice>> = Map::default();
    for slice in resources.endpoint_slices() {
        if let Some(service) = slice.meta.labels.get(SERVICE_NAME_LABEL) {
            slices.entry((slice.meta.namespace(), service)).or_default().push(&slice.spec);
        }
    }
    let endpoints = resources.endpoints().iter().map(|e| ((e.meta.namespace(), e.meta.name()), &e.spec));
    EndpointsByService { slices, endpoints: endpoints.collect() }
}

impl<'s> EndpointsByService<'s> {
    pub(super) fn take(&mut self, service: &'s Object<Service>, all: &Workloads<'s>) -> ServiceBackends<'s> {
        let key = (service.meta.namespace(), service.meta.name());
        let slices = self.slices.remove(&key).unwrap_or_default();
        let selector = &service.spec.selector;
        let entries = if selector.is_empty() { Vec::new() } else { all.entries(key.0, selector) };
        let ips = slices.iter().flat_map(|slice| &slice.endpoints).flat_map(|endpoint| &endpoint.addresses);
        let endpoints = self.endpoints.get(&key).copied();
        let subsets = endpoints.filter(|_| slices.is_empty()).into_iter().flat_map(|all| &all.subsets);
        let listed = subsets.flat_map(|subset| subset.addresses.iter().chain(&subset.not_ready_addresses));
        let pods = ips.chain(listed).filter_map(|ip| Some((*ip, all.pod_at(*ip)?))).collect();
        ServiceBackends {
            slices,
            endpoints,
            entries: entries.into_iter().map(|entry| &entry.spec).collect(),
            pods,
            places: Arc::clone(&all.places),
            with_unready: service.spec.publish_not_ready_addresses,
        }
    }
}

/// The full name of a Service.
pub(super) fn host(object: &Object<Service>, proxy: &Proxy) -> String {
    service_host(object.meta.name(), object.meta.namespace(), proxy)
}

pub(super) fn known<'s>(
    object: &'s Object<Service>,
    backends: ServiceBackends<'s>,
    proxy: &Proxy,
) -> KnownService<'s> {
    let spec = &object.spec;
    let tcp = spec.ports.iter().enumerate().filter(|(_, port)| port.protocol == IpProtocol::Tcp);
    let port = |(index, port): (usize, &'s resources::ServicePort)| KnownPort {
        index,
        number: port.port,
        name: &port.name,
        protocol: port.application_protocol(),
        target: match &port.target_port {
            None => Target::Number(port.port),
            Some(TargetPort::Number(number)) => Target::Number(*number),
            Some(TargetPort::Name(_)) => Target::Named,
        },
    };
    let (reached, resolution) = match spec.is_headless {
        true => (Reached::AtEndpoints, Resolution::ChosenByClient),
        false => {
            (Reached::At(spec.cluster_ips.iter().copied().map(IpNet::from).collect()), Resolution::Listed)
        }
    };
    KnownService {
        origin: Origin::Kubernetes(object),
        host: host(object, proxy),
        ports: tcp.map(port).collect(),
        reached,
        resolution,
        certificate_names: &[],
        backends: Backends::Service(backends),
    }
}

impl<'s> ServiceBackends<'s> {
    /// Those that are ready; when there are none, those that still serve while shutting down.
    pub(super) fn usable(&self, port: &KnownPort<'_>) -> Vec<KnownEndpoint<'s>> {
        let mut usable = BTreeSet::new();
        let mut last_resort = BTreeSet::new();
        for (address, spot, state) in self.addresses(port) {
            match state {
                Readiness::Ready => _ = usable.insert((address, spot)),
                _ if self.with_unready => _ = usable.insert((address, spot)),
                Readiness::Draining => _ = last_resort.insert((address, spot)),
                Readiness::NotReady => {}
            }
        }
        let chosen = if usable.is_empty() { last_resort } else { usable };
        let mut endpoints: Vec<_> =
            chosen.into_iter().map(|(address, spot)| self.pod(address, spot)).collect();
        endpoints.extend(self.entries.iter().filter_map(|entry| of_entry(entry, port)));
        endpoints.sort_unstable();
        endpoints.dedup_by(|a, b| a.place == b.place);
        endpoints
    }

    /// Addresses of those that take connections and have a name of their own, by that name.
    pub(super) fn named_pods(&self) -> BTreeMap<&'s str, Vec<IpAddr>> {
        let mut named: BTreeMap<&str, Vec<IpAddr>> = BTreeMap::new();
        for endpoint in self.slices.iter().flat_map(|slice| &slice.endpoints) {
            if let Some(name) = endpoint.hostname.as_deref().filter(|_| endpoint.ready || self.with_unready) {
                named.entry(name).or_default().extend(&endpoint.addresses);
            }
        }
        named
    }

    /// The number that a named target port has; of several this workload's own.
    pub(super) fn number_at(&self, port: &KnownPort<'_>, ips: &[IpAddr]) -> Option<u16> {
        let mut addresses: Vec<SocketAddr> = self.addresses(port).map(|(address, ..)| address).collect();
        addresses.sort_by_key(|address| (!ips.contains(&address.ip()), *address));
        addresses.first().map(SocketAddr::port)
    }

    pub(super) fn has_address(&self, ip: IpAddr) -> bool {
        let in_slices =
            self.slices.iter().flat_map(|slice| &slice.endpoints).any(|e| e.addresses.contains(&ip));
        let in_subsets =
            || self.subsets().any(|s| s.addresses.contains(&ip) || s.not_ready_addresses.contains(&ip));
        let in_entries = || self.entries.iter().any(|entry| entry.address == Some(WorkloadAddress::Ip(ip)));
        in_slices || in_subsets() || in_entries()
    }

    fn pod(&self, address: SocketAddr, spot: Spot<'_>) -> KnownEndpoint<'s> {
        let pod = self.pods.get(&address.ip());
        let own = pod.map(|pod| self.places.of_pod(pod)).unwrap_or_default();
        let mut place = completed(own, self.places.of_node(spot.node));
        if place.zone.is_empty() {
            spot.zone.unwrap_or_default().clone_into(&mut place.zone);
        }
        let labels = pod.map(|pod| &pod.meta.labels);
        let account = pod.and_then(|pod| pod.spec.service_account.as_deref());
        KnownEndpoint { place: EndpointPlace::At(address), locality: place, weight: 1, labels, account }
    }

    fn addresses(&self, port: &KnownPort<'_>) -> impl Iterator<Item = (SocketAddr, Spot<'s>, Readiness)> {
        let of_slices = self.slices.iter().flat_map(|slice| {
            let number = numbered(&slice.ports, port.name);
            slice.endpoints.iter().flat_map(move |endpoint| {
                let spot = Spot { zone: endpoint.zone.as_deref(), node: endpoint.node.as_deref() };
                let addresses = endpoint.addresses.iter();
                addresses.filter_map(move |ip| {
                    Some((SocketAddr::new(*ip, number?), spot, Readiness::of(endpoint)))
                })
            })
        });
        let of_subsets = self.subsets().flat_map(|subset| {
            let number = numbered(&subset.ports, port.name);
            let ready = subset.addresses.iter().map(|ip| (ip, Readiness::Ready));
            let not_ready = subset.not_ready_addresses.iter().map(|ip| (ip, Readiness::NotReady));
            ready
                .chain(not_ready)
                .filter_map(move |(ip, state)| Some((SocketAddr::new(*ip, number?), Spot::default(), state)))
        });
        of_slices.chain(of_subsets)
    }

    /// Kubernetes mirrors Endpoints into EndpointSlices, so they count only where there are no slices.
    fn subsets(&self) -> impl Iterator<Item = &'s EndpointSubset> + use<'s> {
        self.endpoints.filter(|_| self.slices.is_empty()).into_iter().flat_map(|endpoints| &endpoints.subsets)
    }
}

/// A WorkloadEntry that a Service selects; one known by name only is not among its addresses.
fn of_entry<'s>(entry: &'s WorkloadEntry, port: &KnownPort<'_>) -> Option<KnownEndpoint<'s>> {
    let Some(WorkloadAddress::Ip(ip)) = entry.address else { return None };
    let number = match (entry.ports.get(port.name).copied(), port.target) {
        (Some(number), _) | (None, Target::Number(number)) => number,
        (None, Target::Named) => return None,
    };
    Some(KnownEndpoint {
        place: EndpointPlace::At(SocketAddr::new(ip, number)),
        locality: locality(entry.locality.as_deref()),
        weight: entry.weight.unwrap_or(1).max(1),
        labels: Some(&entry.labels),
        account: entry.service_account.as_deref(),
    })
}

/// The number of the endpoint port that stands for a service port: the one of the same name.
fn numbered(ports: &[resources::EndpointPort], name: &str) -> Option<u16> {
    ports.iter().find(|port| port.protocol == IpProtocol::Tcp && port.name == name)?.port
}

/// What an EndpointSlice tells of where an endpoint runs.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct Spot<'s> {
    zone: Option<&'s str>,
    node: Option<&'s str>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Readiness {
    Ready,
    Draining,
    NotReady,
}

impl Readiness {
    fn of(endpoint: &SliceEndpoint) -> Self {
        match endpoint {
            endpoint if endpoint.ready => Self::Ready,
            endpoint if endpoint.serving && endpoint.terminating => Self::Draining,
            _ => Self::NotReady,
        }
    }
}
