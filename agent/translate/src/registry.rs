//! The services a proxy sees, with their full names and endpoints.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use foldhash::fast::FixedState;
use resources::{
    EndpointSlice, Endpoints, IpProtocol, Labels, Object, Pod, ResourceSet, SERVICE_NAME_LABEL, Service,
    ServicePort, TargetPort,
};
use snapshot::Locality;

use crate::{hosts::service_host, proxy::Proxy, visibility};

type Map<K, V> = HashMap<K, V, FixedState>;

/// All services visible to a proxy, oldest first.
#[derive(Debug)]
pub(crate) struct Registry<'s> {
    pub(crate) proxy: &'s Proxy,
    pub(crate) services: Vec<KnownService<'s>>,
    by_host: Map<String, usize>,
}

/// A service and where its endpoints are written.
#[derive(Debug)]
pub(crate) struct KnownService<'s> {
    pub(crate) object: &'s Object<Service>,
    /// `<name>.<namespace>.svc.<domain>`.
    pub(crate) host: String,
    slices: Vec<&'s EndpointSlice>,
    endpoints: Option<&'s Endpoints>,
    /// The pods at the addresses of the slices, for their labels.
    pods: BTreeMap<IpAddr, &'s Object<Pod>>,
}

/// A place that serves a port, sorted by address first.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct KnownEndpoint<'s> {
    place: SocketAddr,
    pub(crate) locality: Locality,
    /// At least 1.
    pub(crate) weight: u32,
    /// Labels of the workload, when it is known.
    pub(crate) labels: Option<&'s Labels>,
}

impl KnownEndpoint<'_> {
    /// The address, when it needs no asking.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        Some(self.place)
    }
}

impl<'s> Registry<'s> {
    pub(crate) fn new(resources: &'s ResourceSet, proxy: &'s Proxy) -> Self {
        let mut slices: Map<(&str, &str), Vec<&EndpointSlice>> = Map::default();
        for slice in resources.endpoint_slices() {
            if let Some(service) = slice.meta.labels.get(SERVICE_NAME_LABEL) {
                slices.entry((slice.meta.namespace(), service)).or_default().push(&slice.spec);
            }
        }
        let endpoints: Map<(&str, &str), &Endpoints> =
            resources.endpoints().iter().map(|e| ((e.meta.namespace(), e.meta.name()), &e.spec)).collect();
        let mut pods: Map<IpAddr, &Object<Pod>> = Map::default();
        for pod in resources.pods().iter().filter(|pod| !pod.spec.is_host_network) {
            pod.spec.ips.iter().for_each(|ip| _ = pods.entry(*ip).or_insert(pod));
        }
        let visible = resources.services().iter().filter(|s| visibility::sees_service(s, &proxy.namespace));
        let services: Vec<KnownService<'s>> = visible
            .map(|object| {
                let key = (object.meta.namespace(), object.meta.name());
                let slices = slices.remove(&key).unwrap_or_default();
                let ips = slices.iter().flat_map(|slice| &slice.endpoints).flat_map(|e| &e.addresses);
                KnownService {
                    object,
                    host: service_host(key.1, key.0, proxy),
                    pods: ips.filter_map(|ip| Some((*ip, *pods.get(ip)?))).collect(),
                    slices,
                    endpoints: endpoints.get(&key).copied(),
                }
            })
            .collect();
        let by_host =
            services.iter().enumerate().map(|(index, service)| (service.host.clone(), index)).collect();
        Self { proxy, services, by_host }
    }

    /// The service with this full name.
    pub(crate) fn service(&self, host: &str) -> Option<&KnownService<'s>> {
        self.by_host.get(host).map(|index| &self.services[*index])
    }

    /// The services of the proxy's namespace that the workload stands behind, by its labels or its addresses.
    pub(crate) fn of_workload(&self) -> impl Iterator<Item = &KnownService<'s>> {
        let own =
            self.services.iter().filter(|service| service.object.meta.namespace() == self.proxy.namespace);
        own.filter(|service| {
            service.object.spec.selects(&self.proxy.labels)
                || self.proxy.ips.iter().any(|ip| service.has_address(*ip))
        })
    }
}

impl<'s> KnownService<'s> {
    /// The TCP ports.
    pub(crate) fn tcp_ports(&self) -> impl Iterator<Item = &ServicePort> {
        self.tcp_ports_indexed().map(|(_, port)| port)
    }

    /// The TCP ports with their positions in `spec.ports`.
    pub(crate) fn tcp_ports_indexed(&self) -> impl Iterator<Item = (usize, &ServicePort)> {
        self.object.spec.ports.iter().enumerate().filter(|(_, port)| port.protocol == IpProtocol::Tcp)
    }

    /// The TCP port with this number.
    pub(crate) fn tcp_port(&self, number: u16) -> Option<&ServicePort> {
        self.tcp_ports().find(|port| port.port == number)
    }

    /// The number of the only TCP port, when there is just one.
    pub(crate) fn only_port(&self) -> Option<u16> {
        let mut ports = self.tcp_ports();
        ports.next().filter(|_| ports.next().is_none()).map(|port| port.port)
    }

    /// Whether the service leads anywhere by itself; an ExternalName is an alias of something else.
    pub(crate) fn is_alias(&self) -> bool {
        self.object.spec.external_name.is_some()
    }

    /// The endpoints that may be used for a port, sorted.
    ///
    /// Those that are ready; when there are none, those that still serve while shutting down.
    pub(crate) fn endpoints(&self, port: &ServicePort) -> Vec<KnownEndpoint<'s>> {
        let all = self.object.spec.publish_not_ready_addresses;
        let mut usable = BTreeSet::new();
        let mut last_resort = BTreeSet::new();
        for (address, state) in self.addresses(port) {
            match state {
                Readiness::Ready => _ = usable.insert(address),
                _ if all => _ = usable.insert(address),
                Readiness::Draining => _ = last_resort.insert(address),
                Readiness::NotReady => {}
            }
        }
        let chosen = if usable.is_empty() { last_resort } else { usable };
        chosen.into_iter().map(|address| self.pod(address)).collect()
    }

    fn pod(&self, place: SocketAddr) -> KnownEndpoint<'s> {
        let pod = self.pods.get(&place.ip());
        let written = pod.and_then(|pod| pod.meta.locality()).unwrap_or_default();
        let locality = Locality::of_path(&written);
        KnownEndpoint { place, locality, weight: 1, labels: pod.map(|pod| &pod.meta.labels) }
    }

    /// The number behind a port's `targetPort`; `None` when it has a name that nothing tells the number of.
    pub(crate) fn target_port(&self, port: &ServicePort, ips: &[IpAddr]) -> Option<u16> {
        match &port.target_port {
            None => Some(port.port),
            Some(TargetPort::Number(number)) => Some(*number),
            Some(TargetPort::Name(_)) => {
                let mut addresses: Vec<SocketAddr> =
                    self.addresses(port).map(|(address, _)| address).collect();
                // Pods of one service may map a name to different numbers: this workload's own comes first.
                addresses.sort_by_key(|address| (!ips.contains(&address.ip()), *address));
                addresses.first().map(SocketAddr::port)
            }
        }
    }

    fn has_address(&self, ip: IpAddr) -> bool {
        let in_slices =
            self.slices.iter().flat_map(|slice| &slice.endpoints).any(|e| e.addresses.contains(&ip));
        let in_subsets =
            || self.subsets().any(|s| s.addresses.contains(&ip) || s.not_ready_addresses.contains(&ip));
        in_slices || in_subsets()
    }

    fn addresses(&self, port: &ServicePort) -> impl Iterator<Item = (SocketAddr, Readiness)> {
        let of_slices = self.slices.iter().flat_map(|slice| {
            let number = numbered(&slice.ports, &port.name);
            slice.endpoints.iter().flat_map(move |endpoint| {
                let state = Readiness::of(endpoint);
                let addresses = endpoint.addresses.iter();
                addresses.filter_map(move |ip| Some((SocketAddr::new(*ip, number?), state)))
            })
        });
        let of_subsets = self.subsets().flat_map(|subset| {
            let number = numbered(&subset.ports, &port.name);
            let ready = subset.addresses.iter().map(|ip| (ip, Readiness::Ready));
            let not_ready = subset.not_ready_addresses.iter().map(|ip| (ip, Readiness::NotReady));
            ready.chain(not_ready).filter_map(move |(ip, state)| Some((SocketAddr::new(*ip, number?), state)))
        });
        of_slices.chain(of_subsets)
    }

    /// Kubernetes mirrors Endpoints into EndpointSlices, so they count only where there are no slices.
    fn subsets(&self) -> impl Iterator<Item = &resources::EndpointSubset> {
        self.endpoints.filter(|_| self.slices.is_empty()).into_iter().flat_map(|endpoints| &endpoints.subsets)
    }
}

/// The number of the endpoint port that stands for a service port: the one of the same name.
fn numbered(ports: &[resources::EndpointPort], name: &str) -> Option<u16> {
    ports.iter().find(|port| port.protocol == IpProtocol::Tcp && port.name == name)?.port
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Readiness {
    Ready,
    Draining,
    NotReady,
}

impl Readiness {
    fn of(endpoint: &resources::SliceEndpoint) -> Self {
        match endpoint {
            endpoint if endpoint.ready => Self::Ready,
            endpoint if endpoint.serving && endpoint.terminating => Self::Draining,
            _ => Self::NotReady,
        }
    }
}
