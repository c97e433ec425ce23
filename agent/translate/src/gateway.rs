//! A gateway's listeners: the servers of all Gateways that select it, merged by port.

mod address;
mod attach;
mod auto_passthrough;
mod exempt;
mod https_ports;
mod passthrough;
mod precedence;
mod redirected;
mod selection;
mod servers;
mod shadow;
mod tls;
mod unattached;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use resources::{Finding, GatewayRef, Object, Protocol, ResourceSet};
use snapshot::{Direction, HostPattern, HttpsPorts, Route, RouteConfig, RouteList, VirtualHost};

use crate::{
    clusters::Clusters,
    credentials::Contexts,
    draft::{DraftBuilder, bridging_grpc_web, chain, socket_listener, tcp},
    hosts::pattern,
    registry::Registry,
    routes::{RouteContext, is_catch_all},
    rules::Rules,
};
use address::Address;
use attach::{Attached, Attachments};
pub(crate) use auto_passthrough::AutoPassthrough;
use precedence::precedence;
use servers::{PortServers, SelectedServer, Spoken};
use shadow::Contributors;
use tls::without_rules;
use unattached::Unattached;

/// Adds the gateway's listeners and their route tables.
pub(crate) fn build(
    resources: &ResourceSet,
    (registry, clusters, rules): (&Registry<'_>, &Clusters, &Rules),
    contexts: &mut Contexts<'_>,
    (draft, findings): (&mut DraftBuilder, &mut Vec<Finding>),
) {
    let servers =
        selection::selected(resources, &Attachments::new(resources, registry.proxy), registry.proxy);
    let unattached = Unattached::new(resources, &servers, registry.proxy);
    findings.extend(unattached.findings());
    if servers.is_empty() {
        findings.extend(selection::not_selected(resources, registry.proxy));
    }
    draft.add_foreign_gateways(selection::foreign(resources, registry.proxy));
    draft.add_unserved_rules(unattached.unserved_rules());
    let ports = servers::by_port(servers, registry, findings);
    let gateway = Gateway { registry, clusters, rules, https: Arc::new(https_ports::of(&ports)) };
    for (address, port) in ports {
        match port.spoken {
            Spoken::Http => gateway.add_http(address, &port, draft, findings),
            Spoken::Tls => gateway.add_tls(address, &port, contexts, (draft, findings)),
            Spoken::Opaque => gateway.add_tcp(address, &port, (draft, findings)),
        }
    }
}

/// The name by which VirtualServices refer to a Gateway.
pub(crate) fn reference(gateway: &Object<resources::Gateway>) -> GatewayRef {
    GatewayRef::Named { namespace: gateway.meta.namespace().to_owned(), name: gateway.meta.name().to_owned() }
}

struct Gateway<'g, 's> {
    registry: &'g Registry<'s>,
    clusters: &'g Clusters,
    rules: &'g Rules,
    https: Arc<HttpsPorts>,
}

impl Gateway<'_, '_> {
    /// A listener with one route table for all its servers.
    fn add_http(
        &self,
        address: Address<'_>,
        port: &PortServers<'_>,
        draft: &mut DraftBuilder,
        findings: &mut Vec<Finding>,
    ) {
        let hosts = self.virtual_hosts(address, &port.servers, findings);
        let mut table = RouteConfig::new(address.table_name(), hosts);
        if port.servers.iter().any(SelectedServer::redirects_to_https) {
            table = table.with_https_ports(Arc::clone(&self.https));
        }
        let is_grpc_web = |server: &SelectedServer<'_>| server.server().port.protocol == Protocol::GrpcWeb;
        let table = bridging_grpc_web(draft.add_table(table), port.servers.iter().any(is_grpc_web));
        let mut listener = socket_listener(address.listener_name(), Direction::Gateway, address.binding());
        listener.filter_chains.push(chain(address.listener_name(), table));
        draft.add_listener(listener);
    }

    /// A listener that relays bytes, when a VirtualService says where to.
    fn add_tcp(
        &self,
        address: Address<'_>,
        port: &PortServers<'_>,
        (draft, findings): (&mut DraftBuilder, &mut Vec<Finding>),
    ) {
        let clusters = port.servers.iter().find_map(|server| self.tcp_destinations(server));
        let Some(clusters) = clusters else {
            // It keeps others from the port all the same.
            findings.extend(port.servers.iter().map(|server| without_rules(server, "tcp")));
            return;
        };
        let mut listener = socket_listener(address.listener_name(), Direction::Gateway, address.binding());
        listener.filter_chains.push(chain(address.listener_name(), tcp(clusters)));
        draft.add_listener(listener);
    }

    /// The virtual hosts of all servers of a port: routes of equal hosts follow one another in the order of servers
    /// and of attached VirtualServices, and those that take everything come last.
    fn virtual_hosts(
        &self,
        address: Address<'_>,
        servers: &[SelectedServer<'_>],
        findings: &mut Vec<Finding>,
    ) -> Vec<VirtualHost> {
        let mut hosts: BTreeMap<HostPattern, HostRules<'_>> = BTreeMap::new();
        let mut seen = HashSet::new();
        for server in servers {
            let empty = || HostRules { port: server.declared_port(), ..HostRules::default() };
            if server.redirects_to_https() {
                // A host without any rules is redirected too.
                let own = server.server().hosts.iter().filter_map(|host| pattern(&host.host));
                let ruled = server.attached.iter().map(|attached| attached.host.clone());
                let exempt = exempt::paths(server, findings);
                for host in own.chain(ruled) {
                    let rules = hosts.entry(host).or_insert_with(empty);
                    rules.required_by.get_or_insert(server);
                    rules.tls_exempt.extend(exempt.iter().cloned());
                }
            }
            for Attached { vs, host, .. } in &server.attached {
                // Two servers of one port may both admit a host; its rules count once.
                if !seen.insert((host, &vs.meta.id, server.declared_port())) {
                    continue;
                }
                let context = self.context(server);
                let Some(routes) = context.routes(vs) else { continue };
                let rules = hosts.entry(host.clone()).or_insert_with(empty);
                rules.routes.push(routes);
                rules.contributors.push((vs, context));
            }
        }
        if hosts.is_empty() {
            return vec![blackhole(address.port())];
        }
        let narrowest_first = self.registry.proxy.mesh.narrowest_route_first;
        findings.extend(redirected::check(servers));
        let finished = hosts.into_iter().map(|(host, rules)| {
            shadow::check(&host, &rules.contributors, narrowest_first, findings);
            rules.finish(host, narrowest_first)
        });
        finished.collect()
    }

    fn tcp_destinations(&self, server: &SelectedServer<'_>) -> Option<snapshot::WeightedClusters> {
        let context = self.context(server);
        server.attached.iter().find_map(|attached| {
            let rules = attached.vs.spec.tcp.iter();
            let fits = |rule: &&resources::TcpRoute| {
                rule.matches.is_empty() || rule.matches.iter().any(|m| server.fits(m))
            };
            let rule = rules.into_iter().find(fits)?;
            context.destinations(rule.route.iter().map(|(to, weight)| (to, *weight)), attached.vs)
        })
    }

    fn context<'c>(&'c self, server: &'c SelectedServer<'_>) -> RouteContext<'c> {
        let port = server.declared_port();
        let (registry, clusters, rules) = (self.registry, self.clusters, self.rules);
        RouteContext { registry, clusters, rules, gateway: &server.reference, port }
    }
}

/// What is gathered for one host of a port.
#[derive(Default)]
struct HostRules<'c> {
    /// Declared port of the first server that has the host.
    port: u16,
    /// The first server that wants https.
    required_by: Option<&'c SelectedServer<'c>>,
    tls_exempt: BTreeSet<String>,
    /// Of each VirtualService, in the order in which they count.
    routes: Vec<RouteList>,
    contributors: Contributors<'c>,
}

impl HostRules<'_> {
    fn finish(mut self, host: HostPattern, narrowest_first: bool) -> VirtualHost {
        let all =
            |lists: &[RouteList]| lists.iter().flat_map(|list| list.iter().cloned()).collect::<Vec<Route>>();
        let routes = match self.routes.len() {
            _ if narrowest_first => {
                let mut routes = all(&self.routes);
                routes.sort_by_cached_key(|route| precedence(&route.matches));
                routes.into()
            }
            // Its own catch-all is last already.
            1 => self.routes.remove(0),
            _ => {
                let mut routes = all(&self.routes);
                routes.sort_by_key(is_catch_all);
                routes.into()
            }
        };
        let name = format!("{host}:{}", self.port);
        VirtualHost {
            name,
            domains: vec![host],
            require_tls: self.required_by.is_some(),
            required_by: self.required_by.map(SelectedServer::in_words).unwrap_or_default(),
            tls_exempt: self.tls_exempt.into_iter().collect(),
            routes,
        }
    }
}

/// Answers 404 to everything, for a port that no rules are attached to.
fn blackhole(port: u16) -> VirtualHost {
    VirtualHost {
        name: format!("blackhole:{port}"),
        domains: vec![HostPattern::Any],
        require_tls: false,
        required_by: String::new(),
        tls_exempt: Vec::new(),
        routes: vec![].into(),
    }
}
