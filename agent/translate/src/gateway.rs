//! A gateway's listeners: the servers of all Gateways that select it, merged by port.

mod attach;
mod servers;

use std::collections::{BTreeMap, HashSet};

use resources::{Finding, ResourceSet};
use snapshot::{Direction, HostPattern, RouteConfig, VirtualHost};

use crate::{
    clusters::Clusters,
    draft::{DraftBuilder, chain, socket_listener, tcp},
    registry::Registry,
    routes::{RouteContext, is_catch_all},
};
use attach::{Attached, Attachments};
use servers::{PortServers, SelectedServer, Spoken};

/// Adds the gateway's listeners and their route tables.
pub(crate) fn build(
    resources: &ResourceSet,
    registry: &Registry<'_>,
    clusters: &Clusters,
    draft: &mut DraftBuilder,
    findings: &mut Vec<Finding>,
) {
    let attachments = Attachments::new(resources, registry.proxy);
    let gateway = Gateway { registry, clusters, attachments };
    for (address, port) in servers::by_port(resources, registry, findings) {
        match port.spoken {
            Spoken::Http => gateway.add_http(address, &port, draft),
            Spoken::Opaque => gateway.add_tcp(address, &port, draft),
        }
    }
}

struct Gateway<'g, 's> {
    registry: &'g Registry<'s>,
    clusters: &'g Clusters,
    attachments: Attachments<'g>,
}

impl Gateway<'_, '_> {
    /// A listener with one route table for all its servers.
    fn add_http(&self, address: servers::Address, port: &PortServers<'_>, draft: &mut DraftBuilder) {
        let table =
            draft.add_table(RouteConfig::new(address.table_name(), self.virtual_hosts(address, port)));
        let mut listener = socket_listener(address.listener_name(), Direction::Gateway, address.socket());
        listener.filter_chains.push(chain(address.listener_name(), table));
        draft.add_listener(listener);
    }

    /// A listener that relays bytes, when a VirtualService says where to.
    fn add_tcp(&self, address: servers::Address, port: &PortServers<'_>, draft: &mut DraftBuilder) {
        let clusters = port.servers.iter().find_map(|server| self.tcp_destinations(server));
        let Some(clusters) = clusters else { return };
        let mut listener = socket_listener(address.listener_name(), Direction::Gateway, address.socket());
        listener.filter_chains.push(chain(address.listener_name(), tcp(clusters)));
        draft.add_listener(listener);
    }

    /// The virtual hosts of all servers of a port: routes of equal hosts follow one another in the order of servers
    /// and of attached VirtualServices, and those that take everything come last.
    fn virtual_hosts(&self, address: servers::Address, port: &PortServers<'_>) -> Vec<VirtualHost> {
        let mut hosts: BTreeMap<HostPattern, VirtualHost> = BTreeMap::new();
        let mut seen = HashSet::new();
        for server in &port.servers {
            for Attached { vs, host, .. } in self.attachments.of(server) {
                // Two servers of one port may both admit a host; its rules count once.
                if !seen.insert((host.clone(), vs.meta.id.clone(), server.declared_port())) {
                    continue;
                }
                let Some(routes) = self.context(server).routes(vs) else { continue };
                let entry = hosts.entry(host.clone()).or_insert_with(|| VirtualHost {
                    name: format!("{host}:{}", server.declared_port()),
                    domains: vec![host],
                    routes: Vec::new(),
                });
                entry.routes.extend(routes);
            }
        }
        let mut hosts: Vec<VirtualHost> = hosts.into_values().collect();
        for host in &mut hosts {
            host.routes.sort_by_key(is_catch_all);
        }
        if hosts.is_empty() {
            hosts.push(blackhole(address.port()));
        }
        hosts
    }

    fn tcp_destinations(&self, server: &SelectedServer<'_>) -> Option<snapshot::WeightedClusters> {
        let context = self.context(server);
        self.attachments.of(server).into_iter().find_map(|attached| {
            let rules = attached.vs.spec.tcp.iter();
            let fits = |rule: &&resources::TcpRoute| {
                let counts = |m: &resources::L4Match| {
                    let port = m.port.is_none_or(|port| port == server.declared_port());
                    port && (m.gateways.is_empty() || m.gateways.contains(&server.reference))
                };
                rule.matches.is_empty() || rule.matches.iter().any(counts)
            };
            let rule = rules.into_iter().find(fits)?;
            context.destinations(rule.route.iter().map(|(to, weight)| (to, *weight)), attached.vs)
        })
    }

    fn context<'c>(&'c self, server: &'c SelectedServer<'_>) -> RouteContext<'c> {
        let port = server.declared_port();
        RouteContext { registry: self.registry, clusters: self.clusters, gateway: &server.reference, port }
    }
}

/// Answers 404 to everything, for a port that no rules are attached to.
fn blackhole(port: u16) -> VirtualHost {
    VirtualHost { name: format!("blackhole:{port}"), domains: vec![HostPattern::Any], routes: vec![] }
}
