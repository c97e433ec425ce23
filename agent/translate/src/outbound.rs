//! The sidecar's outbound listeners (15001): the workload's own calls.
//!
//! HTTP services of one port share a wildcard listener and a route table, because it is the Host that decides. Other
//! services have a listener at each of their addresses.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
};

use resources::{
    Finding, GatewayRef, Object, OutboundTrafficPolicy, Path, Problem, Protocol, ResourceSet, Rule,
    ServicePort, Severity, VirtualService,
};
use snapshot::{
    Application, Direction, FilterChain, FilterChainMatch, HostPattern, NetworkFilter, Route, RouteAction,
    RouteConfig, RouteMatch, VirtualHost,
};

use crate::{
    clusters::{Clusters, PASSTHROUGH, outbound_name},
    draft::{DraftBuilder, address_name, captured_listener, chain, socket_listener, tcp, wildcard},
    hosts::{HostIndex, full_name, pattern, service_domains},
    registry::{KnownEndpoint, KnownService, Registry},
    routes::{RouteContext, default_route},
    rules::{Rules, default_retries},
    visibility,
};

/// Adds the outbound listeners and their route tables.
pub(crate) fn build(
    resources: &ResourceSet,
    (registry, clusters, http_rules): (&Registry<'_>, &Clusters, &Rules<'_>),
    draft: &mut DraftBuilder,
    findings: &mut Vec<Finding>,
) {
    let rules = MeshRules::new(resources, registry, findings);
    let (http, taken) = (BTreeMap::new(), BTreeMap::new());
    let mut outbound =
        Outbound { registry, clusters, http_rules, rules, http, others: Vec::new(), taken, findings };
    for service in registry.services.iter().filter(|service| !service.is_alias()) {
        for (index, port) in service.tcp_ports_indexed() {
            outbound.add_port(service, index, port, draft);
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
    /// Addresses that have a listener, with the service it is for.
    taken: BTreeMap<SocketAddr, &'o KnownService<'s>>,
    findings: &'o mut Vec<Finding>,
}

impl<'o, 's> Outbound<'o, 's> {
    fn add_port(
        &mut self,
        service: &'o KnownService<'s>,
        index: usize,
        port: &ServicePort,
        draft: &mut DraftBuilder,
    ) {
        match port.application_protocol() {
            Some(protocol) if protocol.is_http() => {
                let host = self.virtual_host(service, port.port);
                self.http.entry(port.port).or_default().push(host);
            }
            protocol => {
                let addresses = self.free_addresses(service, index, port);
                if !addresses.is_empty() {
                    self.add_addresses(service, port, protocol, &addresses, draft);
                }
            }
        }
    }

    /// One virtual host: the rules of the VirtualService that owns the service's name, else everything to the service.
    fn virtual_host(&self, service: &KnownService<'_>, port: u16) -> VirtualHost {
        let meta = &service.object.meta;
        let ips = &service.object.spec.cluster_ips;
        let rules = self.rules.owner(&service.host).and_then(|vs| self.context(port).routes(vs));
        let default = || {
            let clusters = self.clusters.only(outbound_name(port, "", &service.host));
            default_route("default", clusters, Some(default_retries()))
        };
        let routes = rules.unwrap_or_else(|| vec![default()]);
        VirtualHost {
            name: format!("{}:{port}", service.host),
            domains: service_domains(meta.name(), meta.namespace(), ips, self.registry.proxy),
            require_tls: false,
            routes,
        }
    }

    fn context(&self, port: u16) -> RouteContext<'_> {
        let (registry, clusters, rules) = (self.registry, self.clusters, self.http_rules);
        RouteContext { registry, clusters, rules, gateway: &GatewayRef::Mesh, port }
    }

    /// The addresses a service's port is reached at that no older service has.
    fn free_addresses(
        &mut self,
        service: &'o KnownService<'s>,
        index: usize,
        port: &ServicePort,
    ) -> Vec<SocketAddr> {
        let spec = &service.object.spec;
        let addresses: BTreeSet<SocketAddr> = match spec.is_headless {
            true => service.endpoints(port).iter().filter_map(KnownEndpoint::address).collect(),
            false => spec.cluster_ips.iter().map(|ip| SocketAddr::new(*ip, port.port)).collect(),
        };
        let mut free = Vec::new();
        for address in addresses {
            match self.taken.get(&address) {
                Some(owner) => self.findings.push(address_conflict(service, index, address, owner)),
                None => {
                    self.taken.insert(address, service);
                    free.push(address);
                }
            }
        }
        free
    }

    fn add_addresses(
        &self,
        service: &KnownService<'_>,
        port: &ServicePort,
        protocol: Option<Protocol>,
        addresses: &[SocketAddr],
        draft: &mut DraftBuilder,
    ) {
        let cluster = || tcp(self.clusters.only(outbound_name(port.port, "", &service.host)));
        // What is spoken must be found out: HTTP has a table of its own, for this service only.
        let http = protocol.is_none().then(|| {
            let host =
                VirtualHost { domains: vec![HostPattern::Any], ..self.virtual_host(service, port.port) };
            draft.add_table(RouteConfig::new(host.name.clone(), vec![host]))
        });
        for address in addresses {
            let mut listener = captured_listener(*address);
            let name = listener.name.clone();
            listener.filter_chains.extend(http.clone().map(|filter| on_http(&name, filter)));
            listener.default_filter_chain = Some(chain(name, cluster()));
            draft.add_listener(listener);
        }
    }

    /// Hosts of VirtualServices that are no service are served on port 80 only, as in Istio.
    fn add_hosts_of_no_service(&mut self) {
        let mut services = HostIndex::default();
        for service in &self.registry.services {
            services.insert(&HostPattern::Exact(service.host.clone()), ());
        }
        for (host, vs) in &self.rules.hosts {
            let Some(domain) = pattern(host).filter(|domain| services.meeting(domain).is_empty()) else {
                continue;
            };
            let Some(routes) = self.context(HTTP).routes(vs) else { continue };
            self.others.push(VirtualHost {
                name: format!("{host}:{HTTP}"),
                domains: vec![domain],
                require_tls: false,
                routes,
            });
        }
        self.others.sort_by(|a, b| a.name.cmp(&b.name));
        if !self.others.is_empty() {
            self.http.entry(HTTP).or_default();
        }
    }

    /// The shared listeners and the one that captures everything.
    fn finish(mut self, draft: &mut DraftBuilder) {
        for (port, mut hosts) in std::mem::take(&mut self.http) {
            hosts.sort_by(|a, b| a.name.cmp(&b.name));
            // After the services: a domain that both claim is the service's.
            if port == HTTP {
                hosts.append(&mut self.others);
            }
            hosts.push(self.unknown_host());
            let table = draft.add_table(RouteConfig::new(port.to_string(), hosts));
            let mut listener = captured_listener(wildcard(port));
            listener.filter_chains.push(on_http(&address_name(wildcard(port)), table));
            listener.default_filter_chain = Some(chain("PassthroughFilterChain", self.unknown_destination()));
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

    fn unknown_host(&self) -> VirtualHost {
        let (name, route) = match self.registry.proxy.mesh.outbound_traffic_policy {
            OutboundTrafficPolicy::AllowAny => {
                ("allow_any", default_route("allow_any", self.clusters.only(PASSTHROUGH), None))
            }
            OutboundTrafficPolicy::RegistryOnly => {
                let action = RouteAction::DirectResponse { status: 502, body: String::new() };
                let name = Some("block_all".to_owned());
                ("block_all", Route { name, ..Route::new(RouteMatch::default(), action) })
            }
        };
        VirtualHost {
            name: name.to_owned(),
            domains: vec![HostPattern::Any],
            require_tls: false,
            routes: vec![route],
        }
    }
}

const HTTP: u16 = 80;

fn on_http(name: &str, filter: NetworkFilter) -> FilterChain {
    let matches = FilterChainMatch { application: Some(Application::Http), ..FilterChainMatch::default() };
    FilterChain { name: name.to_owned(), matches, tls: None, filter }
}

/// The VirtualServices for calls inside the mesh, found by host.
struct MeshRules<'r> {
    /// Distinct full host names with the oldest VirtualService for each, oldest first.
    hosts: Vec<(String, &'r Object<VirtualService>)>,
    index: HostIndex<usize>,
}

impl<'r> MeshRules<'r> {
    fn new(resources: &'r ResourceSet, registry: &Registry<'_>, findings: &mut Vec<Finding>) -> Self {
        let proxy = registry.proxy;
        let mut rules = Self { hosts: Vec::new(), index: HostIndex::default() };
        let mut owners: HashMap<String, &Object<VirtualService>> = HashMap::new();
        for vs in resources.virtual_services() {
            if !vs.spec.is_for_mesh() || visibility::virtual_service(vs, &proxy.namespace).is_none() {
                continue;
            }
            findings.extend(without_effect(vs));
            for (index, host) in vs.spec.hosts.iter().enumerate().filter(|_| !vs.spec.http.is_empty()) {
                let host = full_name(host, vs.meta.namespace(), proxy);
                if let Some(owner) = owners.get(&host) {
                    findings.push(host_conflict(vs, index, owner));
                } else if let Some(pattern) = pattern(&host) {
                    owners.insert(host.clone(), vs);
                    rules.index.insert(&pattern, rules.hosts.len());
                    rules.hosts.push((host, vs));
                }
            }
        }
        rules
    }

    /// The VirtualService that owns a host: the oldest of those that name or cover it.
    fn owner(&self, host: &str) -> Option<&'r Object<VirtualService>> {
        let covering = self.index.meeting(&HostPattern::Exact(host.to_owned()));
        covering.into_iter().map(|(_, at)| at).min().map(|at| self.hosts[at].1)
    }
}

/// Rules for connections, which sidecars do not follow yet.
fn without_effect(vs: &Object<VirtualService>) -> Option<Finding> {
    let field = match (vs.spec.tcp.is_empty(), vs.spec.tls.is_empty()) {
        (false, _) => "tcp",
        (_, false) => "tls",
        _ => return None,
    };
    let problem = Problem::new("is not supported yet for calls inside the mesh and has no effect on them");
    let spec = Path::ROOT.field("spec");
    Some(vs.meta.finding(Severity::Warning, Rule::NotSupported, &spec.field(field), problem))
}

fn host_conflict(vs: &Object<VirtualService>, index: usize, owner: &Object<VirtualService>) -> Finding {
    let owner = &owner.meta;
    let problem = Problem::new(format!("belongs to {} ({}), which comes first", owner.id, owner.place()));
    let problem =
        problem.found(&vs.spec.hosts[index]).remedy("write all rules of a host in one VirtualService");
    let spec = Path::ROOT.field("spec");
    let hosts = spec.field("hosts");
    vs.meta.finding(Severity::Warning, Rule::Conflict, &hosts.index(index), problem)
}

fn address_conflict(
    service: &KnownService<'_>,
    index: usize,
    address: SocketAddr,
    owner: &KnownService<'_>,
) -> Finding {
    let owner = &owner.object.meta;
    let problem =
        Problem::new(format!("claims {address}, which {} ({}) has already", owner.id, owner.place()));
    let spec = Path::ROOT.field("spec");
    let ports = spec.field("ports");
    let problem = problem.remedy("give each service an address of its own");
    service.object.meta.finding(Severity::Warning, Rule::Conflict, &ports.index(index), problem)
}
