//! The VirtualServices for calls inside the mesh, found by host.

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;
use resources::{
    Finding, GatewayRef, L4Match, Object, Path, Problem, ResourceSet, Rule, Severity, VirtualService,
};
use snapshot::HostPattern;

use crate::{
    hosts::{HostIndex, full_name, pattern},
    proxy::Proxy,
    registry::Registry,
    sidecar_scope::{SidecarScope, Through},
    visibility,
};

pub(super) struct MeshRules<'r> {
    /// Full host names with the oldest VirtualService that has HTTP rules for each, oldest first. There are several of a
    /// host where listeners of the Sidecar see different ones.
    pub(super) hosts: Vec<HostRules<'r>>,
    index: HostIndex<usize>,
    /// VirtualServices with rules for connections, by host, oldest first.
    of_connections: Vec<HostRules<'r>>,
    connections: HostIndex<usize>,
}

/// The VirtualService that is followed for a host by calls through some listeners.
pub(super) struct HostRules<'r> {
    pub(super) host: String,
    pub(super) vs: &'r Object<VirtualService>,
    through: Vec<Through>,
}

impl HostRules<'_> {
    /// Whether calls through one of these listeners follow it.
    pub(super) fn is_followed(&self, through: &[Through]) -> bool {
        self.through.iter().any(|own| through.contains(own))
    }
}

impl<'r> MeshRules<'r> {
    pub(super) fn new(
        resources: &'r ResourceSet,
        registry: &Registry<'_>,
        scope: &SidecarScope<'_>,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let proxy = registry.proxy;
        let (index, connections) = (HostIndex::default(), HostIndex::default());
        let mut rules = Self { hosts: Vec::new(), index, of_connections: Vec::new(), connections };
        let mut owners: HashMap<(String, Through), &Object<VirtualService>> = HashMap::new();
        for vs in resources.virtual_services() {
            if !vs.spec.is_for_mesh() || visibility::virtual_service(vs, proxy).is_none() {
                continue;
            }
            rules.add_connections(vs, scope, proxy);
            for (index, host) in vs.spec.hosts.iter().enumerate().filter(|_| !vs.spec.http.is_empty()) {
                let host = full_name(host, vs.meta.namespace(), proxy);
                let Some(pattern) = pattern(&host) else { continue };
                let seeing = scope.listeners_of_rules(vs.meta.namespace(), &host);
                let owner = |through: &Through| owners.get(&(host.clone(), *through)).copied();
                let (lost, through): (Vec<_>, Vec<_>) =
                    seeing.into_iter().partition(|through| owner(through).is_some());
                if let (true, Some(owner)) = (through.is_empty(), lost.first().and_then(owner)) {
                    findings.push(host_conflict(vs, index, owner));
                }
                if !through.is_empty() {
                    owners.extend(through.iter().map(|through| ((host.clone(), *through), &**vs)));
                    rules.index.insert(&pattern, rules.hosts.len());
                    rules.hosts.push(HostRules { host, vs, through });
                }
            }
        }
        rules
    }

    fn add_connections(&mut self, vs: &'r Object<VirtualService>, scope: &SidecarScope<'_>, proxy: &Proxy) {
        if vs.spec.tcp.is_empty() && vs.spec.tls.is_empty() {
            return;
        }
        let hosts = vs.spec.hosts.iter().map(|host| full_name(host, vs.meta.namespace(), proxy));
        for host in hosts {
            let through = scope.listeners_of_rules(vs.meta.namespace(), &host);
            if let Some(pattern) = pattern(&host).filter(|_| !through.is_empty()) {
                self.connections.insert(&pattern, self.of_connections.len());
                self.of_connections.push(HostRules { host, vs, through });
            }
        }
    }

    /// The VirtualService that owns a host for calls through a listener: the oldest of those that name or cover it.
    pub(super) fn owner(&self, host: &HostPattern, through: Through) -> Option<&'r Object<VirtualService>> {
        let owners = covering(&self.index, host).into_iter();
        owners.filter(|at| self.hosts[*at].is_followed(&[through])).min().map(|at| self.hosts[at].vs)
    }

    /// The hosts of VirtualServices that are only part of what `host` stands for, by name.
    pub(super) fn within(
        &self,
        host: &HostPattern,
        through: Through,
    ) -> Vec<(&str, &'r Object<VirtualService>)> {
        let meeting = self.index.meeting(host).into_iter();
        let narrower = meeting.filter(|(narrower, _)| narrower != host).map(|(_, at)| &self.hosts[at]);
        let followed = narrower.filter(|rules| rules.is_followed(&[through]));
        let mut found: Vec<_> = followed.map(|rules| (&*rules.host, rules.vs)).collect();
        found.sort_unstable_by_key(|(host, _)| *host);
        found
    }

    /// The VirtualServices with rules for connections to a host through a listener, oldest first.
    pub(super) fn of_connections(
        &self,
        host: &HostPattern,
        through: Through,
    ) -> Vec<&'r Object<VirtualService>> {
        let mut found = covering(&self.connections, host);
        found.sort_unstable();
        let found = found.into_iter().map(|at| &self.of_connections[at]);
        let mut followed: Vec<_> =
            found.filter(|rules| rules.is_followed(&[through])).map(|rules| rules.vs).collect();
        // One that names several hosts, of which some cover others, counts once.
        followed.dedup_by(|a, b| std::ptr::eq(*a, *b));
        followed
    }
}

fn covering(index: &HostIndex<usize>, host: &HostPattern) -> Vec<usize> {
    let meeting = index.meeting(host).into_iter();
    meeting.filter(|(narrower, _)| narrower == host).map(|(_, at)| at).collect()
}

/// Whether a match is for the mesh, this port and this workload.
pub(super) fn counts(matches: &L4Match, port: u16, proxy: &Proxy) -> bool {
    let port = matches.port.is_none_or(|wanted| wanted == port);
    let mesh = matches.gateways.is_empty() || matches.gateways.contains(&GatewayRef::Mesh);
    let labels = matches.source_labels.iter().all(|(key, value)| proxy.labels.get(key) == Some(value));
    let namespace = matches.source_namespace.as_ref().is_none_or(|wanted| *wanted == proxy.namespace);
    port && mesh && labels && namespace
}

/// The networks of `destinationSubnets`; a single address is a network of its full length.
pub(super) fn subnets(matches: &L4Match) -> Vec<IpNet> {
    let parse = |text: &String| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok();
    matches.destination_subnets.iter().filter_map(parse).collect()
}

fn host_conflict(vs: &Object<VirtualService>, index: usize, owner: &Object<VirtualService>) -> Finding {
    let owner = &owner.meta;
    let why = owner.comes_first(&vs.meta);
    let problem = Problem::new(format!("belongs to {} ({}), {why}", owner.id, owner.place()));
    let problem =
        problem.found(&vs.spec.hosts[index]).remedy("write all rules of a host in one VirtualService");
    let spec = Path::ROOT.field("spec");
    let hosts = spec.field("hosts");
    vs.meta.finding(Severity::Warning, Rule::Conflict, &hosts.index(index), problem)
}
