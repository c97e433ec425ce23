//! TLS of the mesh that is passed on unopened to the cluster that its client names (`AUTO_PASSTHROUGH`), as between the
//! networks of a mesh.

use resources::{Finding, GatewayRef, Problem, ResourceSet, Rule, ServerHost, TlsMode};
use snapshot::{Application, FilterChain, FilterChainMatch, HostPattern, ServiceName};

use super::{
    Gateway,
    attach::admits,
    reference,
    selection::selects,
    servers::SelectedServer,
    tls::{Owner, Taken, tls_chain},
};
use crate::{
    draft::tcp,
    hosts::pattern,
    proxy::{Proxy, ProxyKind},
};

/// The services that clients of this gateway may name.
pub(crate) struct AutoPassthrough<'s>(Vec<(GatewayRef, &'s ServerHost)>);

impl<'s> AutoPassthrough<'s> {
    /// Gathers the hosts of all servers with this mode.
    pub(crate) fn new(resources: &'s ResourceSet, proxy: &Proxy) -> Self {
        if proxy.kind != ProxyKind::Router {
            return Self(Vec::new());
        }
        let mut hosts = Vec::new();
        for gateway in resources.gateways().iter().filter(|gateway| selects(gateway, proxy)) {
            for server in &gateway.spec.servers {
                let is_meant = server.port.protocol.is_tls()
                    && server.tls.as_ref().is_some_and(|tls| tls.mode == TlsMode::AutoPassthrough);
                if is_meant {
                    hosts.extend(server.hosts.iter().map(|host| (reference(gateway), host)));
                }
            }
        }
        Self(hosts)
    }

    /// Whether a server leads to the service.
    pub(crate) fn admits(&self, service: &ServiceName) -> bool {
        self.0.iter().any(|(gateway, host)| leads_to(host, gateway, service))
    }
}

impl Gateway<'_, '_> {
    /// A chain for each cluster that clients of the server may name. One that a server before has leads to the same.
    pub(super) fn auto_passthrough_chains<'s>(
        &self,
        server: &'s SelectedServer<'s>,
        taken: &mut Taken<'s>,
        findings: &mut Vec<Finding>,
    ) -> Vec<FilterChain> {
        let mut chains = Vec::new();
        let mut has_services = false;
        let hosts = &server.server().hosts;
        for cluster in self.clusters.list.iter().filter(|cluster| cluster.name.starts_with("outbound_.")) {
            let Some(service) = &cluster.service else { continue };
            if !hosts.iter().any(|host| leads_to(host, &server.reference, service)) {
                continue;
            }
            has_services = true;
            let name = HostPattern::Exact(cluster.name.to_ascii_lowercase());
            if taken.take(&name, Owner { server, rules: None }).is_none() {
                let filter = tcp(self.clusters.only(&cluster.name));
                let chain = tls_chain(cluster.name.clone(), vec![name], None, filter);
                // Nobody but the mesh: what is behind takes its certificates only.
                let matches = FilterChainMatch { application: Some(Application::Mesh), ..chain.matches };
                chains.push(FilterChain { matches, ..chain });
            }
        }
        if !has_services {
            let problem = Problem::new("leads nowhere: no service of the mesh has one of these hosts");
            let problem = problem
                .found(hosts.iter().map(|host| host.host.as_str()).collect::<Vec<_>>().join(", "))
                .remedy("name services, such as `*.local` for all of Kubernetes");
            findings.push(server.finding(Rule::UnknownReference, "hosts", problem));
        }
        chains
    }
}

fn leads_to(host: &ServerHost, gateway: &GatewayRef, service: &ServiceName) -> bool {
    let covers = |pattern: HostPattern| pattern.covers(&service.host.to_ascii_lowercase());
    admits(&host.namespace, gateway, &service.namespace) && pattern(&host.host).is_some_and(covers)
}
