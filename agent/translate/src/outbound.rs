//! The sidecar's outbound listeners (15001): the workload's own calls.
//!
//! HTTP services of one port share a wildcard listener and a route table, because it is the Host that decides. Other
//! services have a listener at each of their addresses, or chains of the wildcard listener when they have none.

mod bound;
mod connections;
mod mesh_rules;
mod virtual_hosts;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use ipnet::IpNet;
use resources::{Finding, GatewayRef, OutboundTrafficPolicy, ResourceSet};
use snapshot::{
    Application, Direction, FilterChain, FilterChainMatch, HostPattern, NetworkFilter, RouteConfig,
    VirtualHost,
};

use crate::{
    clusters::{Clusters, PASSTHROUGH},
    draft::{DraftBuilder, address_name, captured_listener, chain, socket_listener, tcp, wildcard},
    registry::{KnownPort, KnownService, Reached, Registry},
    routes::RouteContext,
    rules::Rules,
};
use bound::{Bound, conflict};
use mesh_rules::MeshRules;

/// Adds the outbound listeners and their route tables.
pub(crate) fn build(
    resources: &ResourceSet,
    (registry, clusters, http_rules): (&Registry<'_>, &Clusters, &Rules<'_>),
    draft: &mut DraftBuilder,
    findings: &mut Vec<Finding>,
) {
    let rules = MeshRules::new(resources, registry, findings);
    let (http, bound) = (BTreeMap::new(), BTreeMap::new());
    let mut outbound =
        Outbound { registry, clusters, http_rules, rules, http, others: Vec::new(), bound, findings };
    for service in &registry.services {
        for port in &service.ports {
            outbound.add_port(service, port, draft);
        }
    }
    outbound.add_hosts_of_no_service();
    outbound.finish(draft);
}

struct Outbound<'o, 's> {
    registry: &'o Registry<'s>,
    clusters: &'o Clusters,
    http_rules: &'o Rules<'s>,
    rules: MeshRules<'o>,
    /// Virtual hosts of the shared tables, by port.
    http: BTreeMap<u16, Vec<VirtualHost>>,
    /// Virtual hosts of the table for port 80 that are no service.
    others: Vec<VirtualHost>,
    /// Connections that are not to a shared table, by the address that they are captured for.
    bound: BTreeMap<SocketAddr, Bound<'o, 's>>,
    findings: &'o mut Vec<Finding>,
}

impl<'o, 's> Outbound<'o, 's> {
    fn add_port(&mut self, service: &'o KnownService<'s>, port: &'o KnownPort<'s>, draft: &mut DraftBuilder) {
        let is_http = port.protocol.is_some_and(resources::Protocol::is_http);
        let is_anywhere = matches!(service.reached, Reached::Anywhere);
        if is_http || (port.protocol.is_none() && is_anywhere) {
            self.add_http(service, port);
        }
        if !is_http {
            self.add_connections(service, port, draft);
        }
    }

    /// The service's names in the table of the port.
    fn add_http(&mut self, service: &'o KnownService<'s>, port: &KnownPort<'_>) {
        if SERVER_FIRST.contains(&port.number)
            && let Some(bound) = self.bound.get(&wildcard(port.number)).filter(|bound| bound.is_taken())
        {
            let what = format!("port {} (where servers speak first) of every address", port.number);
            let lost = bound.owner().map(|owner| conflict((service, port), &what, owner));
            self.findings.extend(lost);
            return;
        }
        let hosts = self.virtual_hosts(service, port.number);
        self.http.entry(port.number).or_default().extend(hosts);
    }

    /// Chains at every address that the port is reached at.
    fn add_connections(
        &mut self,
        service: &'o KnownService<'s>,
        port: &'o KnownPort<'s>,
        draft: &mut DraftBuilder,
    ) {
        let is_tls = port.protocol.is_some_and(resources::Protocol::is_tls);
        let mut own_table = None;
        for (address, networks) in places(service, port) {
            let everywhere = address.ip().is_unspecified();
            if everywhere && networks.is_empty() && self.speaks_http_first(port, is_tls) {
                let problem = resources::Problem::new(format!(
                    "claims port {}, on which servers speak first, and HTTP services have already: it is left out",
                    port.number
                ));
                let problem = problem.remedy("give the ServiceEntry `addresses`");
                self.findings.push(service.port_finding(port.index, resources::Rule::Conflict, problem));
                continue;
            }
            let taken = self.bound.get(&address).is_some_and(Bound::is_taken);
            let parts = self.parts(service, port, everywhere || (is_tls && taken));
            let bound = self.bound.entry(address).or_insert_with(|| Bound::new(address));
            let mut is_served = false;
            for mut part in parts {
                if part.subnets.is_empty() {
                    part.subnets.clone_from(&networks);
                }
                is_served |= bound.add(part, (service, port), self.findings);
            }
            // What is spoken must be found out: HTTP has a table of its own, for this service only.
            if is_served && port.protocol.is_none() && !(everywhere && networks.is_empty()) {
                let filter = match &own_table {
                    Some(filter) => NetworkFilter::clone(filter),
                    None => own_table.insert(self.own_table(service, port.number, draft)).clone(),
                };
                let bound = self.bound.entry(address).or_insert_with(|| Bound::new(address));
                bound.chains.push(on_http(&address_name(address), networks, filter));
            }
        }
    }

    /// Whether the shared table has the port already and bytes could not be told from HTTP there.
    fn speaks_http_first(&self, port: &KnownPort<'_>, is_tls: bool) -> bool {
        !is_tls && SERVER_FIRST.contains(&port.number) && self.http.contains_key(&port.number)
    }

    /// `<host>:<port>`, a table for one service whatever the Host.
    fn own_table(&self, service: &KnownService<'_>, port: u16, draft: &mut DraftBuilder) -> NetworkFilter {
        let host = VirtualHost { domains: vec![HostPattern::Any], ..self.virtual_host(service, port) };
        draft.add_table(RouteConfig::new(host.name.clone(), vec![host]))
    }

    fn context(&self, port: u16) -> RouteContext<'_> {
        let (registry, clusters, rules) = (self.registry, self.clusters, self.http_rules);
        RouteContext { registry, clusters, rules, gateway: &GatewayRef::Mesh, port }
    }

    /// The listeners and the one that captures everything.
    fn finish(mut self, draft: &mut DraftBuilder) {
        for (port, mut hosts) in std::mem::take(&mut self.http) {
            hosts.sort_by(|a, b| a.name.cmp(&b.name));
            // After the services: a domain that both claim is the service's.
            if port == HTTP {
                hosts.append(&mut self.others);
            }
            hosts.push(self.unknown_host());
            let table = draft.add_table(RouteConfig::new(port.to_string(), hosts));
            let address = wildcard(port);
            let bound = self.bound.entry(address).or_insert_with(|| Bound::new(address));
            bound.chains.insert(0, on_http(&address_name(address), Vec::new(), table));
        }
        for (address, bound) in std::mem::take(&mut self.bound) {
            let mut listener = captured_listener(address);
            let passed = || chain("PassthroughFilterChain", self.unknown_destination());
            // Who dials an address of a service means no other.
            let rest = bound.rest.or_else(|| address.ip().is_unspecified().then(passed));
            listener.filter_chains = bound.chains;
            listener.default_filter_chain = rest;
            draft.add_listener(listener);
        }
        let capture = self.registry.proxy.ports.outbound;
        let mut listener = socket_listener("virtualOutbound", Direction::Outbound, wildcard(capture));
        let loops = FilterChainMatch { destination_port: Some(capture), ..FilterChainMatch::default() };
        let blackhole = chain("virtualOutbound-blackhole", NetworkFilter::Blackhole);
        listener.filter_chains.push(FilterChain { matches: loops, ..blackhole });
        listener.default_filter_chain =
            Some(chain("virtualOutbound-catchall-tcp", self.unknown_destination()));
        draft.add_listener(listener);
    }

    fn unknown_destination(&self) -> NetworkFilter {
        match self.registry.proxy.mesh.outbound_traffic_policy {
            OutboundTrafficPolicy::AllowAny => tcp(self.clusters.only(PASSTHROUGH)),
            OutboundTrafficPolicy::RegistryOnly => NetworkFilter::Blackhole,
        }
    }
}

const HTTP: u16 = 80;

/// Ports on which servers are known to speak first, so that nothing may be found out from the first bytes.
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

/// The addresses that a port is reached at: its own with no network, or any with those it is in.
fn places(service: &KnownService<'_>, port: &KnownPort<'_>) -> BTreeMap<SocketAddr, Vec<IpNet>> {
    let everywhere = wildcard(port.number);
    match &service.reached {
        Reached::Anywhere => BTreeMap::from([(everywhere, Vec::new())]),
        Reached::AtEndpoints => {
            let endpoints = service.endpoints(port);
            let addresses: BTreeSet<SocketAddr> =
                endpoints.iter().filter_map(|endpoint| endpoint.address()).collect();
            addresses.into_iter().map(|address| (address, Vec::new())).collect()
        }
        Reached::At(networks) => {
            let mut places: BTreeMap<SocketAddr, Vec<IpNet>> = BTreeMap::new();
            for network in networks {
                match network.prefix_len() == network.max_prefix_len() {
                    true => _ = places.entry((network.addr(), port.number).into()).or_default(),
                    false => places.entry(everywhere).or_default().push(network.trunc()),
                }
            }
            places
        }
    }
}

fn on_http(name: &str, destination_subnets: Vec<IpNet>, filter: NetworkFilter) -> FilterChain {
    let application = Some(Application::Http);
    let matches = FilterChainMatch { destination_subnets, application, ..FilterChainMatch::default() };
    FilterChain { name: name.to_owned(), matches, tls: None, filter }
}
