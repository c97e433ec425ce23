//! A service as its callers see it, whichever resource it comes from.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use resources::{
    Finding, Location, Meta, Object, Path, Problem, Protocol, Rule, Service, ServiceEntry, Severity,
};
use snapshot::{DnsResolution, ServiceName};

use super::{KnownEndpoint, entry::EntryBackends, kubernetes::ServiceBackends};
use crate::{proxy::Proxy, visibility};

/// A service as its callers see it.
#[derive(Debug)]
pub(crate) struct KnownService<'s> {
    pub(crate) origin: Origin<'s>,
    /// Full name: `<name>.<namespace>.svc.<domain>`, or what a ServiceEntry says, which may be `*.suffix`.
    pub(crate) host: String,
    /// The TCP ports.
    pub(crate) ports: Vec<KnownPort<'s>>,
    pub(crate) reached: Reached,
    pub(crate) resolution: Resolution,
    /// Names that the certificates of its endpoints may carry, where something says any.
    pub(crate) certificate_names: &'s [String],
    pub(super) backends: Backends<'s>,
}

/// The resource that a service is written in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'s> {
    Kubernetes(&'s Object<Service>),
    Entry(&'s Object<ServiceEntry>),
}

/// A TCP port of a service.
#[derive(Clone, Debug)]
pub(crate) struct KnownPort<'s> {
    /// Position in `spec.ports`.
    pub(crate) index: usize,
    /// Port that clients use.
    pub(crate) number: u16,
    pub(crate) name: &'s str,
    /// What is spoken; `None` is found out from the first bytes.
    pub(crate) protocol: Option<Protocol>,
    pub(super) target: Target,
}

/// The port of the workloads behind a port.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Number(u16),
    /// A container port of some name, whose number the endpoints tell.
    Named,
}

/// Where clients reach the ports of a service that are not HTTP.
#[derive(Clone, Debug)]
pub(crate) enum Reached {
    /// At addresses of its own, or anywhere in these networks.
    At(Vec<IpNet>),
    /// At the addresses of its endpoints (headless).
    AtEndpoints,
    /// At any address: only the port and the server name tell.
    Anywhere,
}

/// How the endpoints of a service are found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Resolution {
    /// They are listed.
    Listed,
    /// They are listed, and clients of anything but HTTP choose among them.
    ChosenByClient,
    /// Connections go to the address they were going to.
    OriginalDestination,
    /// By name.
    Dns(DnsResolution),
    /// By the name that each request or connection asks for.
    DynamicDns,
}

#[derive(Debug)]
pub(super) enum Backends<'s> {
    Service(ServiceBackends<'s>),
    Entry(EntryBackends<'s>),
}

impl KnownPort<'_> {
    /// The port with what a listener says is spoken there, when it says anything.
    pub(crate) fn speaking(&self, protocol: Option<Protocol>) -> Self {
        Self { protocol: protocol.or(self.protocol), ..self.clone() }
    }
}

impl<'s> KnownService<'s> {
    pub(crate) fn meta(&self) -> &'s Meta {
        match self.origin {
            Origin::Kubernetes(object) => &object.meta,
            Origin::Entry(object) => &object.meta,
        }
    }

    /// Its name in its namespace; the host of what is no Kubernetes service.
    pub(crate) fn short_name(&self) -> &str {
        match self.origin {
            Origin::Kubernetes(object) => object.meta.name(),
            Origin::Entry(_) => &self.host,
        }
    }

    /// The names that metrics have for it, and its address.
    pub(crate) fn name(&self) -> ServiceName {
        ServiceName {
            host: self.host.clone(),
            name: self.short_name().to_owned(),
            namespace: self.meta().namespace().to_owned(),
            address: self.ips().next(),
        }
    }

    /// Whether it belongs to the mesh, so that its workloads may have sidecars.
    pub(crate) fn is_in_mesh(&self) -> bool {
        match self.origin {
            Origin::Kubernetes(_) => true,
            Origin::Entry(object) => object.spec.location == Location::MeshInternal,
        }
    }

    /// The TCP port with this number.
    pub(crate) fn port(&self, number: u16) -> Option<&KnownPort<'s>> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// The single addresses that clients may write instead of its name.
    pub(crate) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let networks = match &self.reached {
            Reached::At(networks) => networks.as_slice(),
            Reached::AtEndpoints | Reached::Anywhere => &[],
        };
        networks.iter().filter(|net| net.prefix_len() == net.max_prefix_len()).map(IpNet::addr)
    }

    /// The endpoints that may be used for a port, sorted.
    ///
    /// Of Kubernetes those that are ready; when there are none, those that still serve while shutting down.
    pub(crate) fn endpoints(&self, port: &KnownPort<'_>) -> Vec<KnownEndpoint<'s>> {
        match &self.backends {
            Backends::Service(backends) => backends.usable(port),
            Backends::Entry(backends) => backends.endpoints(port, &self.host),
        }
    }

    /// Addresses of the pods that have a name of their own below a headless service, by that name.
    pub(crate) fn named_pods(&self) -> BTreeMap<&'s str, Vec<IpAddr>> {
        match &self.backends {
            Backends::Service(backends) => backends.named_pods(),
            Backends::Entry(_) => BTreeMap::new(),
        }
    }

    /// The number of the workload's port behind a port; `None` when it has a name that nothing tells the number of.
    pub(crate) fn target_port(&self, port: &KnownPort<'_>, ips: &[IpAddr]) -> Option<u16> {
        match (port.target, &self.backends) {
            (Target::Number(number), Backends::Entry(backends)) => {
                Some(backends.own_port(port, ips).unwrap_or(number))
            }
            (Target::Number(number), _) => Some(number),
            (Target::Named, Backends::Service(backends)) => backends.number_at(port, ips),
            (Target::Named, Backends::Entry(_)) => None,
        }
    }

    pub(super) fn selects(&self, proxy: &Proxy) -> bool {
        match self.origin {
            Origin::Kubernetes(object) => object.spec.selects(&proxy.labels),
            Origin::Entry(object) => {
                let selector = object.spec.workload_selector.as_ref();
                selector.is_some_and(|wanted| visibility::has_labels(&proxy.labels, wanted))
            }
        }
    }

    pub(super) fn has_address(&self, ip: IpAddr) -> bool {
        match &self.backends {
            Backends::Service(backends) => backends.has_address(ip),
            Backends::Entry(backends) => backends.has_address(ip),
        }
    }

    /// A finding about one of its ports.
    pub(crate) fn port_finding(&self, index: usize, rule: Rule, problem: Problem) -> Finding {
        let spec = Path::ROOT.field("spec");
        let ports = spec.field("ports");
        self.meta().finding(Severity::Warning, rule, &ports.index(index), problem)
    }
}
