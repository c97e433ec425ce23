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
    sidecar_scope::SidecarScope,
    visibility,
};

pub(super) struct MeshRules<'r> {
    /// Distinct full host names with the oldest VirtualService that has HTTP rules for each, oldest first.
    pub(super) hosts: Vec<(String, &'r Object<VirtualService>)>,
    index: HostIndex<usize>,
    /// VirtualServices with rules for connections, oldest first.
    of_connections: Vec<&'r Object<VirtualService>>,
    connections: HostIndex<usize>,
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
        let mut owners: HashMap<String, &Object<VirtualService>> = HashMap::new();
        for vs in resources.virtual_services() {
            if !vs.spec.is_for_mesh() || visibility::virtual_service(vs, proxy).is_none() {
                continue;
            }
            rules.add_connections(vs, scope, proxy);
            for (index, host) in vs.spec.hosts.iter().enumerate().filter(|_| !vs.spec.http.is_empty()) {
                let host = full_name(host, vs.meta.namespace(), proxy);
                if !scope.sees_rules(vs.meta.namespace(), &host) {
                    continue;
                }
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

    fn add_connections(&mut self, vs: &'r Object<VirtualService>, scope: &SidecarScope<'_>, proxy: &Proxy) {
        if vs.spec.tcp.is_empty() && vs.spec.tls.is_empty() {
            return;
        }
        let hosts = vs.spec.hosts.iter().map(|host| full_name(host, vs.meta.namespace(), proxy));
        for host in hosts.filter(|host| scope.sees_rules(vs.meta.namespace(), host)) {
            if let Some(pattern) = pattern(&host) {
                self.connections.insert(&pattern, self.of_connections.len());
            }
        }
        self.of_connections.push(vs);
    }

    /// The VirtualService that owns a host: the oldest of those that name or cover it.
    pub(super) fn owner(&self, host: &HostPattern) -> Option<&'r Object<VirtualService>> {
        covering(&self.index, host).into_iter().min().map(|at| self.hosts[at].1)
    }

    /// The hosts of VirtualServices that are only part of what `host` stands for, by name.
    pub(super) fn within(&self, host: &HostPattern) -> Vec<(&str, &'r Object<VirtualService>)> {
        let meeting = self.index.meeting(host).into_iter();
        let narrower = meeting.filter(|(narrower, _)| narrower != host).map(|(_, at)| at);
        let mut found: Vec<_> = narrower.map(|at| (&*self.hosts[at].0, self.hosts[at].1)).collect();
        found.sort_unstable_by_key(|(host, _)| *host);
        found
    }

    /// The VirtualServices with rules for connections to a host, oldest first.
    pub(super) fn of_connections(&self, host: &HostPattern) -> Vec<&'r Object<VirtualService>> {
        let mut found = covering(&self.connections, host);
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|at| self.of_connections[at]).collect()
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
