//! The sidecar's inbound listener (15006): calls to the workload, by the port they go to.

use std::{collections::BTreeMap, sync::Arc};

use resources::{Finding, Path, Problem, Protocol, Rule, Severity};
use snapshot::{
    Application, Direction, FilterChain, FilterChainMatch, HostPattern, NetworkFilter, RetryPolicy,
    RouteConfig, VirtualHost, WeightedClusters,
};

use crate::{
    clusters::{Clusters, INBOUND_PASSTHROUGH, inbound_name},
    draft::{DraftBuilder, chain, socket_listener, tcp, wildcard},
    registry::{KnownService, Registry},
    routes::default_route,
    rules::inbound_retries,
};

/// A port of the workload that a service declares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InboundPort {
    /// The workload's port.
    pub(crate) number: u16,
    /// The service's port, which names the virtual host.
    service_port: u16,
    /// What is spoken; `None` is found out from the first bytes.
    pub(crate) protocol: Option<Protocol>,
}

/// Adds the inbound listener.
pub(crate) fn build(
    registry: &Registry<'_>,
    clusters: &Clusters,
    draft: &mut DraftBuilder,
    findings: &mut Vec<Finding>,
) {
    let (ports, conflicts) = ports(registry);
    findings.extend(conflicts);
    let capture = registry.proxy.ports.inbound;
    let mut listener = socket_listener("virtualInbound", Direction::Inbound, wildcard(capture));
    listener
        .filter_chains
        .push(on_port(capture, chain("virtualInbound-blackhole", NetworkFilter::Blackhole)));
    for port in ports.values().filter(|port| port.number != capture) {
        listener.filter_chains.extend(port_chains(port, clusters, draft));
    }
    let names = (INBOUND_PASSTHROUGH, "inbound|http|0");
    let anything = http_table(names, clusters.only(INBOUND_PASSTHROUGH), None);
    let catch_all = draft.add_table(anything);
    listener.filter_chains.push(on_http(chain("virtualInbound-catchall-http", catch_all)));
    listener.default_filter_chain = Some(chain("virtualInbound", tcp(clusters.only(INBOUND_PASSTHROUGH))));
    draft.add_listener(listener);
}

/// The declared ports of the workload by number. The oldest service that declares a port decides what is spoken
/// there; a younger one that disagrees is a finding.
pub(crate) fn ports(registry: &Registry<'_>) -> (BTreeMap<u16, InboundPort>, Vec<Finding>) {
    let mut ports: BTreeMap<u16, (InboundPort, &KnownService<'_>)> = BTreeMap::new();
    let mut findings = Vec::new();
    for service in registry.of_workload() {
        for port in &service.ports {
            let Some(number) = service.target_port(port, &registry.proxy.ips) else {
                findings.push(nameless_port(service, port.index));
                continue;
            };
            let declared = InboundPort { number, service_port: port.number, protocol: port.protocol };
            match ports.get(&number) {
                Some((earlier, owner)) if earlier.protocol != declared.protocol => {
                    findings.push(protocol_conflict(service, port.index, declared, owner));
                }
                Some(_) => {}
                None => _ = ports.insert(number, (declared, service)),
            }
        }
    }
    (ports.into_iter().map(|(number, (port, _))| (number, port)).collect(), findings)
}

fn port_chains(port: &InboundPort, clusters: &Clusters, draft: &mut DraftBuilder) -> Vec<FilterChain> {
    let name = format!("0.0.0.0_{}", port.number);
    let cluster = inbound_name(port.number);
    let opaque = || on_port(port.number, chain(name.clone(), tcp(clusters.only(cluster.clone()))));
    let mut http = || {
        let host = format!("inbound|http|{}", port.service_port);
        let retries = (port.protocol != Some(Protocol::Grpc)).then(inbound_retries);
        let table = draft.add_table(http_table((&cluster, &host), clusters.only(&*cluster), retries));
        on_port(port.number, chain(name.clone(), table))
    };
    match port.protocol {
        Some(protocol) if protocol.is_http() => vec![http()],
        Some(_) => vec![opaque()],
        None => vec![on_http(http()), opaque()],
    }
}

/// A table with one virtual host that sends everything to one cluster.
fn http_table(
    (name, host): (&str, &str),
    cluster: WeightedClusters,
    retries: Option<Arc<RetryPolicy>>,
) -> RouteConfig {
    let routes = vec![default_route("default", cluster, retries)];
    RouteConfig::new(
        name,
        vec![VirtualHost {
            name: host.to_owned(),
            domains: vec![HostPattern::Any],
            require_tls: false,
            routes,
        }],
    )
}

fn on_port(port: u16, mut chain: FilterChain) -> FilterChain {
    chain.matches.destination_port = Some(port);
    chain
}

fn on_http(chain: FilterChain) -> FilterChain {
    let matches = FilterChainMatch { application: Some(Application::Http), ..chain.matches };
    FilterChain { matches, ..chain }
}

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
    declared: InboundPort,
    owner: &KnownService<'_>,
) -> Finding {
    let owner = owner.meta();
    let problem = Problem::new(format!(
        "says another protocol for port {} than {} ({}), which comes first and decides",
        declared.number,
        owner.id,
        owner.place()
    ));
    let problem = problem.remedy("name both ports alike");
    let spec = Path::ROOT.field("spec");
    let ports = spec.field("ports");
    service.meta().finding(Severity::Warning, Rule::Conflict, &ports.index(index), problem)
}
