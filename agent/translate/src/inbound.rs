//! The sidecar's inbound listener (15006): calls to the workload, by the port they go to.

mod asked;
mod ports;

use std::sync::Arc;

use resources::{Finding, MutualTlsMode, Problem, Protocol, Rule, Severity};
use snapshot::{
    Binding, Direction, FilterChain, HostPattern, NetworkFilter, RetryPolicy, RouteConfig, TlsContextId,
    VirtualHost, WeightedClusters,
};

use asked::{Asked, Served};

use crate::{
    clusters::{Clusters, INBOUND_PASSTHROUGH, inbound_name},
    credentials::Contexts,
    draft::{DraftBuilder, bridging_grpc_web, chain, dialled_listener, socket_listener, tcp, wildcard},
    mutual_tls::MutualTls,
    registry::Registry,
    routes::default_route,
    rules::inbound_retries,
    sidecar_scope::SidecarScope,
};

pub(crate) use ports::{InboundPort, Upstream, ports};

/// Adds the inbound listener, unless nothing is captured, and those that callers dial themselves.
pub(crate) fn build<'s>(
    (registry, scope, clusters): (&Registry<'s>, &SidecarScope<'s>, &Clusters),
    mutual_tls: &MutualTls<'_>,
    contexts: &mut Contexts<'_>,
    (draft, findings): (&mut DraftBuilder, &mut Vec<Finding>),
) {
    let (ports, conflicts) = ports(registry, scope);
    findings.extend(conflicts);
    let capture = registry.proxy.ports.map(|ports| ports.inbound);
    let asked = Asked::new(mutual_tls, registry.proxy, contexts, (draft, findings));
    let mut captured = Vec::new();
    for port in ports.values().filter(|port| Some(port.number) != capture) {
        let name = format!("0.0.0.0_{}", port.number);
        let mode = asked.mode(port.number);
        let chains = match own_tls((port, &name), mode, (scope, contexts), (draft, findings)) {
            Some(tls) => {
                let terminated = InboundPort { protocol: within_tls(port.protocol), ..port.clone() };
                vec![Asked::terminated(&name, tls, served(&terminated, clusters, draft))]
            }
            None => asked.chains((&name, &name), mode, &served(port, clusters, draft)),
        };
        let chains = chains.into_iter().map(|chain| on_port(port.number, chain));
        match port.socket {
            None => captured.extend(chains),
            Some(address) => {
                let mut own = dialled_listener(Direction::Inbound, address);
                own.filter_chains = chains.collect();
                draft.add_listener(own);
            }
        }
    }
    let Some(capture) = capture else { return };
    let mut listener =
        socket_listener("virtualInbound", Direction::Inbound, Binding::Socket(wildcard(capture)));
    listener
        .filter_chains
        .push(on_port(capture, chain("virtualInbound-blackhole", NetworkFilter::Blackhole)));
    listener.filter_chains.extend(captured);
    let names = (INBOUND_PASSTHROUGH, "inbound|http|0");
    let http = draft.add_table(http_table(names, clusters.only(INBOUND_PASSTHROUGH), None));
    let anything = Served::Either { http, opaque: tcp(clusters.only(INBOUND_PASSTHROUGH)) };
    let names = ("virtualInbound-catchall-http", "virtualInbound");
    // Ports that no service declares, but a policy names.
    let named = mutual_tls.ports().filter(|port| !ports.contains_key(port) && *port != capture);
    for port in named {
        let chains = asked.chains(names, asked.mode(port), &anything);
        listener.filter_chains.extend(chains.into_iter().map(|chain| on_port(port, chain)));
    }
    listener.filter_chains.extend(asked.chains(names, asked.elsewhere(), &anything));
    draft.add_listener(listener);
}

/// How a port's own TLS is terminated (Sidecar `ingress[].tls`), where it has some and the mesh asks for none there.
fn own_tls(
    (port, name): (&InboundPort<'_>, &str),
    mode: MutualTlsMode,
    (scope, contexts): (&SidecarScope<'_>, &mut Contexts<'_>),
    (draft, findings): (&mut DraftBuilder, &mut Vec<Finding>),
) -> Option<TlsContextId> {
    let (index, tls) = port.tls?;
    if mode != MutualTlsMode::Disable {
        let problem =
            Problem::new(format!("has no effect while port {} takes mutual TLS of the mesh", port.number));
        let problem =
            problem.remedy("write a PeerAuthentication with mode DISABLE for the port (`portLevelMtls`)");
        findings.extend(scope.ingress_finding((index, "tls"), (Severity::Warning, Rule::Conflict), problem));
        return None;
    }
    let before = contexts.before(name, &[]);
    let (context, unusable) = contexts.of_server(tls, before, draft);
    findings.extend(unusable.into_iter().filter_map(|wrong| {
        let at = format!("tls.{}", wrong.field);
        scope.ingress_finding((index, &at), (wrong.severity(), wrong.rule), wrong.problem)
    }));
    Some(context)
}

/// What is left of a protocol when its TLS is terminated.
fn within_tls(protocol: Option<Protocol>) -> Option<Protocol> {
    protocol.map(|protocol| match protocol {
        Protocol::Https => Protocol::Http,
        Protocol::Tls => Protocol::Tcp,
        other => other,
    })
}

fn served(port: &InboundPort<'_>, clusters: &Clusters, draft: &mut DraftBuilder) -> Served {
    let cluster = inbound_name(port.number);
    let opaque = tcp(clusters.only(&*cluster));
    let mut http = || {
        let host = format!("inbound|http|{}", port.service_port);
        let is_grpc = matches!(port.protocol, Some(Protocol::Grpc | Protocol::GrpcWeb));
        let retries = (!is_grpc).then(inbound_retries);
        let table = draft.add_table(http_table((&cluster, &host), clusters.only(&*cluster), retries));
        bridging_grpc_web(table, port.protocol == Some(Protocol::GrpcWeb))
    };
    match port.protocol {
        Some(protocol) if protocol.is_http() => Served::Http(http()),
        Some(_) => Served::Opaque(opaque),
        None => Served::Either { http: http(), opaque },
    }
}

/// A table with one virtual host that sends everything to one cluster.
fn http_table(
    (name, host): (&str, &str),
    cluster: WeightedClusters,
    retries: Option<Arc<RetryPolicy>>,
) -> RouteConfig {
    let routes = vec![default_route("default", cluster, retries)].into();
    RouteConfig::new(
        name,
        vec![VirtualHost {
            name: host.to_owned(),
            domains: vec![HostPattern::Any],
            require_tls: false,
            required_by: String::new(),
            tls_exempt: Vec::new(),
            routes,
        }],
    )
}

fn on_port(port: u16, mut chain: FilterChain) -> FilterChain {
    chain.matches.destination_port = Some(port);
    chain
}
