//! The sidecar's outbound listeners (15001): the workload's own calls.
//!
//! HTTP services of one port share a wildcard listener and a route table, because it is the Host that decides. Other
//! services have a listener at each of their addresses, or chains of the wildcard listener when they have none.

mod at;
mod bound;
mod connections;
mod mesh_rules;
mod virtual_hosts;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;
use resources::{Finding, GatewayRef, OutboundTrafficPolicy, Problem, ResourceSet, Rule};
use snapshot::{
    Application, Binding, Direction, FilterChain, FilterChainMatch, HostPattern, Listener, NetworkFilter,
    RetryPolicy, RouteConfig, VirtualHost, WeightedClusters,
};

use crate::{
    clusters::{Clusters, PASSTHROUGH, outbound_name},
    draft::{DraftBuilder, bridging_grpc_web, chain, socket_listener, tcp, wildcard},
    registry::{KnownPort, KnownService, Reached, Registry},
    routes::RouteContext,
    rules::{Rules, default_retries},
    sidecar_scope::{SidecarScope, Through},
};
use at::{At, Shared};
use bound::{Bound, conflict};
use mesh_rules::MeshRules;

/// Adds the outbound listeners and their route tables.
pub(crate) fn build(
    resources: &ResourceSet,
    (registry, clusters, http_rules, scope): (&Registry<'_>, &Clusters, &Rules, &SidecarScope<'_>),
    draft: &mut DraftBuilder,
    findings: &mut Vec<Finding>,
) {
    let rules = MeshRules::new(resources, registry, scope, findings);
    let (http, others, http_at, bound) = (BTreeMap::new(), Vec::new(), BTreeMap::new(), BTreeMap::new());
    let default_retries = default_retries(&registry.proxy.mesh);
    let mut outbound = Outbound {
        registry,
        clusters,
        http_rules,
        scope,
        rules,
        default_retries,
        http,
        others,
        http_at,
        grpc_web: BTreeSet::new(),
        bound,
        used: BTreeSet::new(),
        findings,
    };
    for service in &registry.services {
        for port in &service.ports {
            outbound.add_port(service, port, draft);
        }
        outbound.add_at_unix_sockets(service, draft);
    }
    outbound.add_hosts_of_no_service();
    outbound.findings.extend(scope.unused_egress(&outbound.used));
    outbound.findings.extend(scope.unmatched_hosts(&outbound.used, resources, registry));
    draft.hidden_services = scope.hidden_services(registry);
    outbound.finish(draft);
}

struct Outbound<'o, 's> {
    registry: &'o Registry<'s>,
    clusters: &'o Clusters,
    http_rules: &'o Rules,
    scope: &'o SidecarScope<'s>,
    rules: MeshRules<'o>,
    /// Of services that no rules are for.
    default_retries: Option<Arc<RetryPolicy>>,
    /// Virtual hosts of the shared tables.
    http: BTreeMap<Shared<'s>, Vec<VirtualHost>>,
    /// Virtual hosts of the table for port 80 that are no service.
    others: Vec<VirtualHost>,
    /// Where a shared table is served, when not on every address.
    http_at: BTreeMap<Shared<'s>, At<'s>>,
    /// Tables for which some service says GRPC-WEB.
    grpc_web: BTreeSet<Shared<'s>>,
    /// Connections that are not to a shared table, by where they come in.
    bound: BTreeMap<At<'s>, Bound<'o, 's>>,
    /// Listeners of the Sidecar that something goes through.
    used: BTreeSet<Through>,
    findings: &'o mut Vec<Finding>,
}

/// A port of a service, and the listener of the Sidecar through which it is called.
#[derive(Clone, Copy)]
struct Call<'c, 'o, 's> {
    service: &'o KnownService<'s>,
    port: &'c KnownPort<'s>,
    through: Through,
}

impl<'o, 's> Outbound<'o, 's> {
    fn add_port(&mut self, service: &'o KnownService<'s>, port: &KnownPort<'s>, draft: &mut DraftBuilder) {
        let namespace = service.meta().namespace();
        let Some(egress) = self.scope.egress_of(namespace, &service.host, port.number) else { return };
        let port = &port.speaking(egress.protocol);
        let at = egress.address(port.number).map(|address| match egress.is_socket {
            true => At::Dialled(address),
            false => At::Captured(address),
        });
        self.add_port_at(Call { service, port, through: egress.through }, at, draft);
    }

    /// The service at the unix sockets through which the workload calls it: these have no ports, so it is the first of
    /// its ports that speaks as the listener does.
    fn add_at_unix_sockets(&mut self, service: &'o KnownService<'s>, draft: &mut DraftBuilder) {
        let scope = self.scope;
        for (path, protocol, through) in scope.unix_egress(service.meta().namespace(), &service.host) {
            if let Some(port) = first_speaking(service, protocol) {
                let port = &port.speaking(protocol);
                self.add_port_at(Call { service, port, through }, Some(At::Unix(path)), draft);
            }
        }
    }

    /// What a port needs to be called at an address, or where its service is.
    fn add_port_at(&mut self, call: Call<'_, 'o, 's>, at: Option<At<'s>>, draft: &mut DraftBuilder) {
        let Call { service, port, through } = call;
        self.used.insert(through);
        let is_http = port.protocol.is_some_and(resources::Protocol::is_http);
        let is_anywhere = matches!(service.reached, Reached::Anywhere) || at.is_some();
        if is_http || (port.protocol.is_none() && is_anywhere) {
            self.add_http(call, at);
        }
        if !is_http {
            let places = match at {
                Some(at) => BTreeMap::from([(at, Vec::new())]),
                None => places(service, port),
            };
            self.add_connections(call, places, draft);
        }
    }

    /// The service's names in the table of the port.
    fn add_http(&mut self, call: Call<'_, 'o, 's>, at: Option<At<'s>>) {
        let Call { service, port, .. } = call;
        let place = at.unwrap_or(At::Captured(wildcard(port.number)));
        if SERVER_FIRST.contains(&port.number)
            && let Some(owner) = self.bound.get(&place).and_then(Bound::owner)
        {
            let what = format!("port {} (where servers speak first) of every address", port.number);
            self.findings.push(conflict((service, port), (place, &what), owner));
            return;
        }
        let hosts = self.virtual_hosts(call);
        let table = place.table(port.number);
        self.http.entry(table).or_default().extend(hosts);
        self.http_at.insert(table, place);
        if port.protocol == Some(resources::Protocol::GrpcWeb) {
            self.grpc_web.insert(table);
        }
    }

    /// Chains at every address that the port is reached at.
    fn add_connections(
        &mut self,
        call: Call<'_, 'o, 's>,
        places: BTreeMap<At<'s>, Vec<IpNet>>,
        draft: &mut DraftBuilder,
    ) {
        let Call { service, port, .. } = call;
        let is_tls = port.protocol.is_some_and(resources::Protocol::is_tls);
        let mut own_table = None;
        for (at, networks) in places {
            let is_shared = at.is_socket() || at.is_every_address();
            if is_shared && networks.is_empty() && self.speaks_http_first(at, port, is_tls) {
                self.findings.push(http_has_it(service, port));
                continue;
            }
            let taken = self.bound.get(&at).is_some_and(|bound| bound.owner().is_some());
            let parts = self.parts(call, is_shared || (is_tls && taken));
            let bound = self.bound.entry(at).or_insert_with(|| Bound::new(at));
            let mut is_served = false;
            for mut part in parts {
                if part.subnets.is_empty() {
                    part.subnets.clone_from(&networks);
                }
                is_served |= bound.add(part, (service, port), self.findings);
            }
            // What is spoken must be found out: HTTP has a table of its own, for this service only.
            if is_served && port.protocol.is_none() && !(is_shared && networks.is_empty()) {
                let filter = match &own_table {
                    Some(filter) => NetworkFilter::clone(filter),
                    None => own_table.insert(self.own_table(call, draft)).clone(),
                };
                let bound = self.bound.entry(at).or_insert_with(|| Bound::new(at));
                bound.chains.push(on_http(&at.name(), networks, filter));
            }
        }
    }

    /// Whether the shared table has the port already and bytes could not be told from HTTP there.
    fn speaks_http_first(&self, at: At<'s>, port: &KnownPort<'_>, is_tls: bool) -> bool {
        !is_tls && SERVER_FIRST.contains(&port.number) && self.http.contains_key(&at.table(port.number))
    }

    /// `<host>:<port>`, a table for one service whatever the Host.
    fn own_table(&self, call: Call<'_, '_, '_>, draft: &mut DraftBuilder) -> NetworkFilter {
        let host = VirtualHost { domains: vec![HostPattern::Any], ..self.virtual_host(call) };
        draft.add_table(RouteConfig::new(host.name.clone(), vec![host]))
    }

    fn context(&self, port: u16) -> RouteContext<'_> {
        let (registry, clusters, rules) = (self.registry, self.clusters, self.http_rules);
        RouteContext { registry, clusters, rules, gateway: &GatewayRef::Mesh, port }
    }

    /// The listeners, and the one that captures everything.
    fn finish(mut self, draft: &mut DraftBuilder) {
        for (shared, mut hosts) in std::mem::take(&mut self.http) {
            hosts.sort_by(|a, b| a.name.cmp(&b.name));
            // After the services: a domain that both claim is the service's.
            if shared == Shared::Port(HTTP) {
                hosts.append(&mut self.others);
            }
            let at = match (self.http_at.get(&shared), shared) {
                (Some(at), _) => *at,
                (None, Shared::Port(port)) => At::Captured(wildcard(port)),
                (None, Shared::Unix(path)) => At::Unix(path),
            };
            hosts.push(self.unknown_host(at));
            let table = draft.add_table(RouteConfig::new(shared.to_string(), hosts));
            let table = bridging_grpc_web(table, self.grpc_web.contains(&shared));
            let bound = self.bound.entry(at).or_insert_with(|| Bound::new(at));
            bound.chains.insert(0, on_http(&at.name(), Vec::new(), table));
        }
        for (at, bound) in std::mem::take(&mut self.bound) {
            let passed = || chain("PassthroughFilterChain", self.unknown_destination());
            // Who dials an address of a service, or the proxy itself, means no other.
            let is_passed = !at.is_socket() && at.is_every_address();
            draft.add_listener(Listener {
                filter_chains: bound.chains,
                default_filter_chain: bound.rest.or_else(|| is_passed.then(passed)),
                ..at.listener()
            });
        }
        if let Some(ports) = self.registry.proxy.ports {
            let mut listener = self.capture_listener(ports.outbound);
            if self.scope.outbound_policy() == OutboundTrafficPolicy::AllowAnyDynamicDns {
                let hosts = vec![self.unknown_host(At::Captured(wildcard(ports.outbound)))];
                let table = draft.add_table(RouteConfig::new(CATCHALL_HTTP, hosts));
                listener.filter_chains.push(on_http(CATCHALL_HTTP, Vec::new(), table));
            }
            draft.add_listener(listener);
        }
    }

    /// The one that captured connections arrive at.
    fn capture_listener(&self, capture: u16) -> Listener {
        let mut listener =
            socket_listener("virtualOutbound", Direction::Outbound, Binding::Socket(wildcard(capture)));
        let loops = FilterChainMatch { destination_port: Some(capture), ..FilterChainMatch::default() };
        let blackhole = chain("virtualOutbound-blackhole", NetworkFilter::Blackhole);
        listener.filter_chains.push(FilterChain { matches: loops, ..blackhole });
        listener.default_filter_chain =
            Some(chain("virtualOutbound-catchall-tcp", self.unknown_destination()));
        listener
    }

    fn unknown_destination(&self) -> NetworkFilter {
        match self.scope.outbound_policy() {
            OutboundTrafficPolicy::AllowAny | OutboundTrafficPolicy::AllowAnyDynamicDns => {
                tcp(self.passed_on())
            }
            OutboundTrafficPolicy::RegistryOnly => NetworkFilter::Blackhole,
        }
    }

    /// Where calls to unknown destinations go that are allowed.
    fn passed_on(&self) -> WeightedClusters {
        match self.scope.egress_proxy() {
            None => self.clusters.only(PASSTHROUGH),
            Some((host, port, subset)) => self.clusters.only(outbound_name(port, subset, &host)),
        }
    }
}

const HTTP: u16 = 80;

/// Requests to ports that no service has, where their hosts are looked up.
const CATCHALL_HTTP: &str = "virtualOutbound-catchall-http";

/// Ports on which servers are known to speak first, so that nothing may be found out from the first bytes.
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

/// The addresses that a port is reached at: its own with no network, or any with those it is in.
fn places<'s>(service: &KnownService<'s>, port: &KnownPort<'_>) -> BTreeMap<At<'s>, Vec<IpNet>> {
    let everywhere = At::Captured(wildcard(port.number));
    match &service.reached {
        Reached::Anywhere => BTreeMap::from([(everywhere, Vec::new())]),
        Reached::AtEndpoints => {
            let endpoints = service.endpoints(port);
            let addresses = endpoints.iter().filter_map(|endpoint| endpoint.address()?.socket());
            addresses.map(|address| (At::Captured(address), Vec::new())).collect()
        }
        Reached::At(networks) => {
            let mut places: BTreeMap<At<'s>, Vec<IpNet>> = BTreeMap::new();
            for network in networks {
                match network.prefix_len() == network.max_prefix_len() {
                    true => {
                        let own = At::Captured((network.addr(), port.number).into());
                        places.entry(own).or_default();
                    }
                    false => places.entry(everywhere).or_default().push(network.trunc()),
                }
            }
            places
        }
    }
}

/// The first port of a service that speaks HTTP, or does not, as a listener of this protocol does. Bytes may be relayed to
/// any.
fn first_speaking<'k, 's>(
    service: &'k KnownService<'s>,
    protocol: Option<resources::Protocol>,
) -> Option<&'k KnownPort<'s>> {
    let Some(wanted) = protocol else { return service.ports.first() };
    let fits = |own: resources::Protocol| own.is_http() == wanted.is_http();
    let fitting = service.ports.iter().find(|port| port.protocol.is_none_or(fits));
    fitting.or_else(|| service.ports.first().filter(|_| !wanted.is_http()))
}

fn http_has_it(service: &KnownService<'_>, port: &KnownPort<'_>) -> Finding {
    let problem = Problem::new(format!(
        "claims port {}, on which servers speak first, and HTTP services have already: it is left out",
        port.number
    ));
    service.port_finding(port.index, Rule::Conflict, problem.remedy("give the ServiceEntry `addresses`"))
}

fn on_http(name: &str, destination_subnets: Vec<IpNet>, filter: NetworkFilter) -> FilterChain {
    let application = Some(Application::Http);
    let matches = FilterChainMatch { destination_subnets, application, ..FilterChainMatch::default() };
    FilterChain { name: name.to_owned(), matches, tls: None, filter }
}
