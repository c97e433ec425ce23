//! The ports of the workload that the proxy takes calls for: those of its services, or those of its Sidecar.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use resources::{
    ConnectionPool, Finding, InboundTrafficPolicy, IngressEndpoint, IngressListener, Path, Problem, Protocol,
    Rule, ServerTls, Severity,
};
use snapshot::{Address, ServiceName, SourceAddresses, UnixPath};

use crate::{
    registry::{KnownService, Registry},
    sidecar_scope::SidecarScope,
};

/// A port of the workload that a service or its Sidecar declares.
#[derive(Clone, Debug)]
pub(crate) struct InboundPort<'s> {
    /// The workload's port.
    pub(crate) number: u16,
    /// The service's port, which names the virtual host.
    pub(crate) service_port: u16,
    /// The service that it is a port of, the oldest of several.
    pub(crate) service: Option<ServiceName>,
    /// What is spoken; `None` is found out from the first bytes.
    pub(crate) protocol: Option<Protocol>,
    /// Where calls go.
    pub(crate) upstream: Upstream,
    /// Limits of the connections to the workload.
    pub(crate) pool: Option<&'s ConnectionPool>,
    /// TLS of clients outside the mesh, with the position in the Sidecar's `ingress`.
    pub(crate) tls: Option<(usize, &'s ServerTls)>,
    /// The socket that callers dial, when they are not captured.
    pub(crate) socket: Option<SocketAddr>,
}

/// Where calls to a port of the workload go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Upstream {
    /// Where they were going, from an address that the interception rules know.
    OriginalDestination,
    /// To this address of the workload.
    Address(Address),
}

/// The declared ports of the workload by number.
pub(crate) fn ports<'s>(
    registry: &Registry<'s>,
    scope: &SidecarScope<'s>,
) -> (BTreeMap<u16, InboundPort<'s>>, Vec<Finding>) {
    match scope.ingress() {
        // Whoever calls a service's port reaches the workload itself.
        [] if registry.proxy.ports.is_none() => (BTreeMap::new(), Vec::new()),
        [] => of_services(registry, scope),
        ingress => of_sidecar(ingress, registry, scope),
    }
}

/// The oldest service that declares a port decides what is spoken there; a younger one that disagrees is a finding.
fn of_services<'s>(
    registry: &Registry<'s>,
    scope: &SidecarScope<'s>,
) -> (BTreeMap<u16, InboundPort<'s>>, Vec<Finding>) {
    let mut ports: BTreeMap<u16, (InboundPort<'s>, &KnownService<'_>)> = BTreeMap::new();
    let mut findings = Vec::new();
    for service in registry.of_workload() {
        for port in &service.ports {
            let Some(number) = service.target_port(port, &registry.proxy.ips) else {
                findings.push(nameless_port(service, port.index));
                continue;
            };
            let declared = InboundPort {
                number,
                service_port: port.number,
                service: Some(service.name()),
                protocol: port.protocol,
                upstream: default_upstream(registry, number),
                pool: scope.inbound_pool(),
                tls: None,
                socket: None,
            };
            match ports.get(&number) {
                Some((earlier, owner)) if earlier.protocol != declared.protocol => {
                    findings.push(protocol_conflict(service, port.index, number, owner));
                }
                Some(_) => {}
                None => _ = ports.insert(number, (declared, service)),
            }
        }
    }
    (ports.into_iter().map(|(number, (port, _))| (number, port)).collect(), findings)
}

fn of_sidecar<'s>(
    ingress: &'s [IngressListener],
    registry: &Registry<'s>,
    scope: &SidecarScope<'s>,
) -> (BTreeMap<u16, InboundPort<'s>>, Vec<Finding>) {
    let (mut ports, mut findings) = (BTreeMap::new(), Vec::new());
    for (index, listener) in ingress.iter().enumerate() {
        let number = listener.port.number;
        let upstream = match upstream(listener, registry) {
            Ok(upstream) => upstream,
            Err(problem) => {
                let warning = (Severity::Warning, Rule::NotSupported);
                findings.extend(scope.ingress_finding((index, "defaultEndpoint"), warning, problem));
                continue;
            }
        };
        let own = registry.proxy.ips.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let dialled = registry.proxy.is_dialled(listener.capture_mode);
        let port = InboundPort {
            number,
            service_port: number,
            service: service_at(number, registry),
            protocol: listener.port.protocol,
            upstream,
            pool: listener.connection_pool.as_ref().or_else(|| scope.inbound_pool()),
            tls: listener.tls.as_ref().map(|tls| (index, tls)),
            socket: dialled.then(|| SocketAddr::new(listener.bind.unwrap_or(own), number)),
        };
        ports.entry(number).or_insert(port);
    }
    (ports, findings)
}

/// The oldest service of the workload that leads to one of its ports.
fn service_at(number: u16, registry: &Registry<'_>) -> Option<ServiceName> {
    let leads_there = |service: &&KnownService<'_>| {
        let mut ports = service.ports.iter();
        ports.any(|port| service.target_port(port, &registry.proxy.ips) == Some(number))
    };
    registry.of_workload().find(leads_there).map(KnownService::name)
}

/// Where a listener's calls go, or why they cannot.
fn upstream(listener: &IngressListener, registry: &Registry<'_>) -> Result<Upstream, Problem> {
    let number = listener.port.number;
    match &listener.default_endpoint {
        Some(IngressEndpoint::Address(to))
            if registry.proxy.refused_endpoints().refuse(*to, Some(SourceAddresses::INBOUND)) =>
        {
            let flag = registry.proxy.own_port(to.port()).unwrap_or_default();
            let problem =
                Problem::new(format!("is a port of the proxy itself ({flag}): the listener is left out"));
            Err(problem.found(to).remedy("write a port of the workload, or give the proxy another one"))
        }
        Some(IngressEndpoint::Unix(path)) => Ok(Upstream::Address(UnixPath::new(path).into())),
        Some(IngressEndpoint::Address(to)) if !to.ip().is_unspecified() => {
            Ok(Upstream::Address((*to).into()))
        }
        Some(IngressEndpoint::Address(to)) => {
            let own = registry.proxy.ips.iter().find(|ip| ip.is_ipv4() == to.is_ipv4());
            match own {
                Some(own) => Ok(Upstream::Address(SocketAddr::new(*own, to.port()).into())),
                None if to.port() == number => Ok(Upstream::OriginalDestination),
                None => Err(Problem::new(
                    "needs the workload's address, which is not known: the port is left out",
                )
                .found(to)
                .remedy("start the proxy with INSTANCE_IP, or use `127.0.0.1`")),
            }
        }
        None if registry.proxy.is_dialled(listener.capture_mode) => {
            Err(Problem::new("is missing though callers dial the listener itself: the port is left out")
                .expected("`127.0.0.1:PORT` of the application"))
        }
        None => Ok(default_upstream(registry, number)),
    }
}

/// By the mesh's `inboundTrafficPolicy`.
fn default_upstream(registry: &Registry<'_>, number: u16) -> Upstream {
    let proxy = registry.proxy;
    match proxy.mesh.inbound_traffic_policy {
        InboundTrafficPolicy::Passthrough => Upstream::OriginalDestination,
        InboundTrafficPolicy::Localhost => {
            let only_v6 = !proxy.ips.is_empty() && proxy.ips.iter().all(IpAddr::is_ipv6);
            let localhost = if only_v6 { IpAddr::V6(std::net::Ipv6Addr::LOCALHOST) } else { LOCALHOST };
            Upstream::Address(SocketAddr::new(localhost, number).into())
        }
    }
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn nameless_port(service: &KnownService<'_>, index: usize) -> Finding {
    let problem = Problem::new("is a name whose number is not known, so the port is left out");
    let problem = problem.remedy("write the number, or add the workload to an EndpointSlice of the service");
    let spec = Path::ROOT.field("spec");
    let (ports, severity) = (spec.field("ports"), Severity::Warning);
    let at = ports.index(index);
    service.meta().finding(severity, Rule::UnknownReference, &at.field("targetPort"), problem)
}

fn protocol_conflict(
    service: &KnownService<'_>,
    index: usize,
    number: u16,
    owner: &KnownService<'_>,
) -> Finding {
    let owner = owner.meta();
    let problem = Problem::new(format!(
        "says another protocol for port {number} than {} ({}), {} and decides",
        owner.id,
        owner.place(),
        owner.comes_first(service.meta())
    ));
    service.port_finding(index, Rule::Conflict, problem.remedy("name both ports alike"))
}
