//! A gateway's listeners: the servers of all Gateways that select it, merged by port.

mod attach;
mod passthrough;
mod servers;
mod shadow;
mod tls;

use std::collections::{BTreeMap, HashSet};

use resources::{Finding, ResourceSet};
use snapshot::{Direction, HostPattern, RouteConfig, VirtualHost};

use crate::{
    clusters::Clusters,
    credentials::Contexts,
    draft::{DraftBuilder, chain, socket_listener, tcp},
    hosts::pattern,
    registry::Registry,
    routes::{RouteContext, is_catch_all},
    rules::Rules,
};
use attach::{Attached, Attachments};
use servers::{Address, PortServers, SelectedServer, Spoken};
use shadow::Contributors;

/// Adds the gateway's listeners and their route tables.
pub(crate) fn build(
    resources: &ResourceSet,
    (registry, clusters, rules): (&Registry<'_>, &Clusters, &Rules<'_>),
    mut contexts: Contexts<'_>,
    (draft, findings): (&mut DraftBuilder, &mut Vec<Finding>),
) {
    let servers = servers::selected(resources, &Attachments::new(resources, registry.proxy), registry.proxy);
    findings.extend(attach::unattached(resources, &servers, registry.proxy));
    if servers.is_empty() {
        findings.extend(servers::not_selected(resources, registry.proxy));
    }
    let gateway = Gateway { registry, clusters, rules };
    for (address, port) in servers::by_port(servers, registry, findings) {
        match port.spoken {
            Spoken::Http => gateway.add_http(address, &port, draft, findings),
            Spoken::Tls => gateway.add_tls(address, &port, &mut contexts, (draft, findings)),
            Spoken::Opaque => gateway.add_tcp(address, &port, draft),
        }
    }
}

struct Gateway<'g, 's> {
    registry: &'g Registry<'s>,
    clusters: &'g Clusters,
    rules: &'g Rules<'s>,
}

impl Gateway<'_, '_> {
    /// A listener with one route table for all its servers.
    fn add_http(
        &self,
        address: Address,
        port: &PortServers<'_>,
        draft: &mut DraftBuilder,
        findings: &mut Vec<Finding>,
    ) {
        let hosts = self.virtual_hosts(address, &port.servers, findings);
        let table = draft.add_table(RouteConfig::new(address.table_name(), hosts));
        let mut listener = socket_listener(address.listener_name(), Direction::Gateway, address.socket());
        listener.filter_chains.push(chain(address.listener_name(), table));
        draft.add_listener(listener);
    }

    /// A listener that relays bytes, when a VirtualService says where to.
    fn add_tcp(&self, address: Address, port: &PortServers<'_>, draft: &mut DraftBuilder) {
        let clusters = port.servers.iter().find_map(|server| self.tcp_destinations(server));
        let Some(clusters) = clusters else { return };
        let mut listener = socket_listener(address.listener_name(), Direction::Gateway, address.socket());
        listener.filter_chains.push(chain(address.listener_name(), tcp(clusters)));
        draft.add_listener(listener);
    }

    /// The virtual hosts of all servers of a port: routes of equal hosts follow one another in the order of servers
    /// and of attached VirtualServices, and those that take everything come last.
    fn virtual_hosts(
        &self,
        address: Address,
        servers: &[SelectedServer<'_>],
        findings: &mut Vec<Finding>,
    ) -> Vec<VirtualHost> {
        let mut hosts: BTreeMap<HostPattern, (VirtualHost, Contributors<'_>)> = BTreeMap::new();
        let mut seen = HashSet::new();
        for server in servers {
            let empty = |host: &HostPattern| {
                let name = format!("{host}:{}", server.declared_port());
                let domains = vec![host.clone()];
                (VirtualHost { name, domains, require_tls: false, routes: Vec::new() }, Vec::new())
            };
            if server.redirects_to_https() {
                // A host without any rules is redirected too.
                let own = server.server().hosts.iter().filter_map(|host| pattern(&host.host));
                let ruled = server.attached.iter().map(|attached| attached.host.clone());
                for host in own.chain(ruled) {
                    hosts.entry(host.clone()).or_insert_with(|| empty(&host)).0.require_tls = true;
                }
            }
            for Attached { vs, host, .. } in &server.attached {
                // Two servers of one port may both admit a host; its rules count once.
                if !seen.insert((host, &vs.meta.id, server.declared_port())) {
                    continue;
                }
                let context = self.context(server);
                let Some(routes) = context.routes(vs) else { continue };
                let (entry, contributors) = hosts.entry(host.clone()).or_insert_with(|| empty(host));
                entry.routes.extend(routes);
                contributors.push((vs, context));
            }
        }
        if hosts.is_empty() {
            return vec![blackhole(address.port())];
        }
        let finished = hosts.into_iter().map(|(host_pattern, (mut host, contributors))| {
            shadow::check(&host_pattern, &contributors, findings);
            host.routes.sort_by_key(is_catch_all);
            host
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

/// Answers 404 to everything, for a port that no rules are attached to.
fn blackhole(port: u16) -> VirtualHost {
    VirtualHost {
        name: format!("blackhole:{port}"),
        domains: vec![HostPattern::Any],
        require_tls: false,
        routes: vec![],
    }
}
