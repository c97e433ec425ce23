//! The sidecar's inbound listener (15006): calls to the workload, by the port they go to.

mod ports;

use std::sync::Arc;

use resources::{Finding, Protocol};
use snapshot::{
    Application, Direction, FilterChain, FilterChainMatch, HostPattern, NetworkFilter, RetryPolicy,
    RouteConfig, VirtualHost, WeightedClusters,
};

use crate::{
    clusters::{Clusters, INBOUND_PASSTHROUGH, inbound_name},
    draft::{DraftBuilder, chain, dialled_listener, socket_listener, tcp, wildcard},
    registry::Registry,
    routes::default_route,
    rules::inbound_retries,
    sidecar_scope::SidecarScope,
};

pub(crate) use ports::{InboundPort, Upstream, ports};

/// Adds the inbound listener, and those that callers dial themselves.
pub(crate) fn build<'s>(
    registry: &Registry<'s>,
    scope: &SidecarScope<'s>,
    clusters: &Clusters,
    draft: &mut DraftBuilder,
    findings: &mut Vec<Finding>,
) {
    let (ports, conflicts) = ports(registry, scope);
    findings.extend(conflicts);
    let capture = registry.proxy.ports.inbound;
    let mut listener = socket_listener("virtualInbound", Direction::Inbound, wildcard(capture));
    listener
        .filter_chains
        .push(on_port(capture, chain("virtualInbound-blackhole", NetworkFilter::Blackhole)));
    for port in ports.values().filter(|port| port.number != capture) {
        let chains = port_chains(port, clusters, draft);
        match port.socket {
            None => listener.filter_chains.extend(chains),
            Some(address) => {
                let mut own = dialled_listener(Direction::Inbound, address);
                own.filter_chains = chains;
                draft.add_listener(own);
            }
        }
    }
    let names = (INBOUND_PASSTHROUGH, "inbound|http|0");
    let anything = http_table(names, clusters.only(INBOUND_PASSTHROUGH), None);
    let catch_all = draft.add_table(anything);
    listener.filter_chains.push(on_http(chain("virtualInbound-catchall-http", catch_all)));
    listener.default_filter_chain = Some(chain("virtualInbound", tcp(clusters.only(INBOUND_PASSTHROUGH))));
    draft.add_listener(listener);
}

fn port_chains(port: &InboundPort<'_>, clusters: &Clusters, draft: &mut DraftBuilder) -> Vec<FilterChain> {
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
