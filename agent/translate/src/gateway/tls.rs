//! Servers that terminate TLS: one chain and one route table each, told apart by server name.

use std::{collections::BTreeMap, net::IpAddr};

use resources::{Finding, Problem, Rule};
use snapshot::{Direction, FilterChain, FilterChainMatch, HostPattern, RouteConfig, Transport};

use super::{
    Gateway,
    servers::{Address, PortServers, SelectedServer},
};
use crate::{
    credentials::Contexts,
    draft::{DraftBuilder, chain, socket_listener},
    hosts::pattern,
};

/// Server names taken on a port, by the server that has them.
type Taken<'s> = BTreeMap<HostPattern, &'s SelectedServer<'s>>;

impl Gateway<'_, '_> {
    /// A listener with a chain and a table for each server.
    pub(super) fn add_https(
        &self,
        address: Address,
        port: &PortServers<'_>,
        contexts: &mut Contexts<'_>,
        (draft, findings): (&mut DraftBuilder, &mut Vec<Finding>),
    ) {
        let mut listener = socket_listener(address.listener_name(), Direction::Gateway, address.socket());
        let mut taken = Taken::new();
        if port.servers.iter().all(|server| server.credential_source().is_none()) {
            return;
        }
        for server in &port.servers {
            let server_names = server_names(server, address, &mut taken, findings);
            let Some(server_names) = server_names else { continue };
            let (context, unusable) = match server.credential_source() {
                Some(source) => contexts.context(source, draft),
                None => (contexts.refusing(draft), None),
            };
            findings.extend(unusable.map(|unusable| server.credential_finding(unusable)));
            let hosts = self.virtual_hosts(address, std::slice::from_ref(server), findings);
            let name = address.server_table_name(server);
            let table = draft.add_table(RouteConfig::new(name.clone(), hosts));
            let matches = FilterChainMatch {
                server_names,
                transport: Some(Transport::Tls),
                ..FilterChainMatch::default()
            };
            listener.filter_chains.push(FilterChain { matches, tls: Some(context), ..chain(name, table) });
        }
        draft.add_listener(listener);
    }
}

/// The server names that are this server's own; empty stands for every name and for none. `None` when all its hosts
/// belong to servers that come first.
fn server_names<'s>(
    server: &'s SelectedServer<'s>,
    address: Address,
    taken: &mut Taken<'s>,
    findings: &mut Vec<Finding>,
) -> Option<Vec<HostPattern>> {
    let mut names: Vec<HostPattern> = Vec::new();
    for (index, host) in server.server().hosts.iter().enumerate() {
        let Some(name) = pattern(&host.host) else { continue };
        if host.host.parse::<IpAddr>().is_ok() {
            let problem = Problem::new("is an address, which clients never send as server name").found(&name);
            let problem = problem.remedy("use a server with host `*` for clients that dial an address");
            findings.push(server.host_finding(Rule::Invalid, index, problem));
        }
        match taken.get(&name) {
            None => {
                taken.insert(name.clone(), server);
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

fn taken_host(
    loser: &SelectedServer<'_>,
    host: usize,
    winner: &SelectedServer<'_>,
    address: Address,
) -> Finding {
    let problem = Problem::new(format!(
        "is served on port {} by server `{}` of {} ({}), which comes first: the host is left out here",
        address.port(),
        winner.server().port.name,
        winner.gateway.meta.id,
        winner.gateway.meta.place(),
    ));
    let problem = problem.found(&loser.server().hosts[host].host).remedy("give each host to one server");
    loser.host_finding(Rule::Conflict, host, problem)
}
