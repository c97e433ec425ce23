//! Servers on TLS ports, told apart by server name: terminated with a chain each, or passed on unopened.

use std::{collections::BTreeMap, net::IpAddr};

use resources::{Clause, Finding, Object, Problem, Protocol, Rule, Severity, TlsMode, VirtualService};
use snapshot::{
    Direction, FilterChain, FilterChainMatch, HostPattern, NetworkFilter, RouteConfig, TlsContext,
    TlsContextId, Transport,
};

use super::{
    Gateway,
    address::Address,
    servers::{PortServers, SelectedServer},
};
use crate::{
    credentials::Contexts,
    draft::{DraftBuilder, chain, socket_listener, tcp},
    hosts::pattern,
};

/// Server names taken on a port, by whom.
#[derive(Default)]
pub(super) struct Taken<'s>(BTreeMap<HostPattern, Owner<'s>>);

/// Who has a server name: a server, by a rule of a VirtualService when it passes TLS on.
#[derive(Clone, Copy)]
pub(super) struct Owner<'s> {
    pub(super) server: &'s SelectedServer<'s>,
    pub(super) rules: Option<&'s Object<VirtualService>>,
}

impl<'s> Taken<'s> {
    /// Takes a name, unless somebody has it: whom is returned then.
    pub(super) fn take(&mut self, name: &HostPattern, owner: Owner<'s>) -> Option<Owner<'s>> {
        let first = self.0.get(name).copied();
        if first.is_none() {
            self.0.insert(name.clone(), owner);
        }
        first
    }
}

impl Gateway<'_, '_> {
    /// A listener with chains for each server; none when nothing can be served.
    pub(super) fn add_tls(
        &self,
        address: Address<'_>,
        port: &PortServers<'_>,
        contexts: &mut Contexts<'_>,
        (draft, findings): (&mut DraftBuilder, &mut Vec<Finding>),
    ) {
        let mut listener = socket_listener(address.listener_name(), Direction::Gateway, address.binding());
        let mut taken = Taken::default();
        for server in &port.servers {
            match server.tls_mode() {
                TlsMode::Passthrough => {
                    let chains = self.passthrough_chains(server, address, &mut taken, findings);
                    listener.filter_chains.extend(chains);
                }
                TlsMode::AutoPassthrough => {
                    let chains = self.auto_passthrough_chains(server, &mut taken, findings);
                    listener.filter_chains.extend(chains);
                }
                TlsMode::Simple | TlsMode::Mutual | TlsMode::OptionalMutual | TlsMode::IstioMutual => {
                    let Some(names) = server_names(server, address, &mut taken, findings) else { continue };
                    let name = address.server_table_name(server);
                    let before = contexts.before(&name, &names);
                    let context = self.tls_context(server, before, contexts, (draft, findings));
                    let Some(filter) = self.terminated(server, address, (draft, findings)) else { continue };
                    listener.filter_chains.push(tls_chain(name, names, Some(context), filter));
                }
            }
        }
        if !listener.filter_chains.is_empty() {
            draft.add_listener(listener);
        }
    }

    fn tls_context(
        &self,
        server: &SelectedServer<'_>,
        before: Option<&TlsContext>,
        contexts: &mut Contexts<'_>,
        (draft, findings): (&mut DraftBuilder, &mut Vec<Finding>),
    ) -> TlsContextId {
        let (context, unusable) = contexts.of_server(server.tls(), before, draft);
        findings.extend(
            unusable.into_iter().map(|unusable| server.credential_finding(unusable.severity(), unusable)),
        );
        let hosts: Vec<&str> = server.server().hosts.iter().map(|host| host.host.as_str()).collect();
        let doubts = contexts.doubts_about(server.tls(), &hosts);
        findings.extend(doubts.into_iter().map(|doubt| server.credential_finding(Severity::Warning, doubt)));
        context
    }

    /// What serves the clear text of a server: HTTP by a table of its own, or bytes by its `tcp` rules.
    fn terminated(
        &self,
        server: &SelectedServer<'_>,
        address: Address<'_>,
        (draft, findings): (&mut DraftBuilder, &mut Vec<Finding>),
    ) -> Option<NetworkFilter> {
        if server.server().port.protocol == Protocol::Https {
            let hosts = self.virtual_hosts(address, std::slice::from_ref(server), findings);
            return Some(draft.add_table(RouteConfig::new(address.server_table_name(server), hosts)));
        }
        let destinations = self.tcp_destinations(server);
        if destinations.is_none() {
            findings.push(without_rules(server, "tcp"));
        }
        destinations.map(tcp)
    }
}

pub(super) fn tls_chain(
    name: String,
    server_names: Vec<HostPattern>,
    tls: Option<TlsContextId>,
    filter: NetworkFilter,
) -> FilterChain {
    let matches =
        FilterChainMatch { server_names, transport: Some(Transport::Tls), ..FilterChainMatch::default() };
    FilterChain { matches, tls, ..chain(name, filter) }
}

/// The server names that are this server's own; empty stands for every name and for none. `None` when all its hosts
/// belong to servers that come first.
fn server_names<'s>(
    server: &'s SelectedServer<'s>,
    address: Address<'_>,
    taken: &mut Taken<'s>,
    findings: &mut Vec<Finding>,
) -> Option<Vec<HostPattern>> {
    let mut names: Vec<HostPattern> = Vec::new();
    for (index, host) in server.server().hosts.iter().enumerate() {
        let Some(name) = pattern(&host.host) else { continue };
        match taken.take(&name, Owner { server, rules: None }) {
            None => {
                if host.host.parse::<IpAddr>().is_ok() {
                    findings.push(address_as_host(server, index));
                }
                names.push(name);
            }
            // Written twice, for two namespaces.
            Some(_) if names.contains(&name) => {}
            Some(first) => findings.push(taken_host(server, index, first, address)),
        }
    }
    match names.as_slice() {
        [] => None,
        [HostPattern::Any] => Some(Vec::new()),
        _ => Some(names),
    }
}

/// Says that a server's connections have nowhere to go.
pub(super) fn without_rules(server: &SelectedServer<'_>, field: &str) -> Finding {
    let problem =
        Problem::new("leads nowhere: no VirtualService of this Gateway has a rule for its connections");
    let problem = problem.remedy(format!("add a VirtualService with this Gateway and a `{field}` route"));
    server.finding(Rule::UnknownReference, "port", problem)
}

fn address_as_host(server: &SelectedServer<'_>, host: usize) -> Finding {
    let problem = Problem::new("is an address, which clients never send as server name: taken are clients that send none and dial it")
        .found(&server.server().hosts[host].host)
        .remedy("use host `*` for clients that dial another address, such as that of a load balancer");
    server.host_finding(Rule::Invalid, host, problem)
}

fn taken_host(loser: &SelectedServer<'_>, host: usize, winner: Owner<'_>, address: Address<'_>) -> Finding {
    let problem = taken_by(winner, loser, address, "the host is left out here");
    let problem = problem.found(&loser.server().hosts[host].host).remedy("give each host to one server");
    loser.host_finding(Rule::Conflict, host, problem)
}

pub(super) fn taken_by(
    winner: Owner<'_>,
    loser: &SelectedServer<'_>,
    address: Address<'_>,
    so: &str,
) -> Clause {
    let meta = &winner.server.gateway.meta;
    let by = winner.rules.map_or(String::new(), |rules| format!(" with {}", rules.meta.id));
    let place = winner.rules.map_or_else(|| winner.server.place(), |rules| rules.meta.place().clone());
    Problem::new(format!(
        "is served on port {} by server `{}` of {}{by} ({place}), {}: {so}",
        address.port(),
        winner.server.server().port.name,
        meta.id,
        meta.comes_first(&loser.gateway.meta),
    ))
}
