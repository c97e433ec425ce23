//! The names that HTTP calls may go to, and their routes.

use resources::OutboundTrafficPolicy;
use snapshot::{HostPattern, Route, RouteAction, RouteList, RouteMatch, VirtualHost};

use super::{
    Call, HTTP, Outbound,
    at::{At, Shared},
    mesh_rules::HostRules,
};
use crate::{
    clusters::{ALLOW_ANY_DYNAMIC_DNS, outbound_name},
    hosts::{HostIndex, host_and_port, ip_host, pattern, service_domains},
    registry::{Alias, KnownService, Origin, Reached},
    routes::default_route,
    sidecar_scope::Through,
};

impl Outbound<'_, '_> {
    /// The virtual hosts of a service in a shared table: its own, and those of its other names or of parts of a
    /// wildcard name for which a VirtualService has rules.
    pub(super) fn virtual_hosts(&self, call: Call<'_, '_, '_>) -> Vec<VirtualHost> {
        let Call { service, port, through } = call;
        let port = port.number;
        let mut hosts = vec![self.virtual_host(call)];
        for (name, alias) in self.registry.aliases_of(&service.host) {
            let domains = self.domains_of_alias(alias);
            match pattern(name).and_then(|name| self.routes(&name, port, through)) {
                None => hosts[0].domains.extend(domains),
                Some(routes) => hosts.push(virtual_host(host_and_port(name, port), domains, routes)),
            }
        }
        let narrower =
            pattern(&service.host).map(|host| self.rules.within(&host, through)).unwrap_or_default();
        for (name, vs) in narrower {
            let (Some(domain), Some(routes)) = (pattern(name), self.context(port).routes(vs)) else {
                continue;
            };
            hosts.push(virtual_host(host_and_port(name, port), vec![domain], routes));
        }
        hosts
    }

    /// One virtual host: the rules of the VirtualService that owns the service's name, else everything to the service.
    pub(super) fn virtual_host(&self, Call { service, port, through }: Call<'_, '_, '_>) -> VirtualHost {
        let port = port.number;
        let name = pattern(&service.host);
        let default = || {
            let clusters = self.clusters.only(outbound_name(port, "", &service.host));
            vec![default_route("default", clusters, self.default_retries.clone())].into()
        };
        let routes = name.as_ref().and_then(|name| self.routes(name, port, through)).unwrap_or_else(default);
        virtual_host(host_and_port(&service.host, port), self.domains(service), routes)
    }

    fn routes(&self, name: &HostPattern, port: u16, through: Through) -> Option<RouteList> {
        self.rules.owner(name, through).and_then(|vs| self.context(port).routes(vs))
    }

    /// The names a service answers to, the full one first.
    fn domains(&self, service: &KnownService<'_>) -> Vec<HostPattern> {
        let Origin::Kubernetes(object) = service.origin else {
            let ips = service.ips().map(|ip| HostPattern::Exact(ip_host(ip)));
            return pattern(&service.host).into_iter().chain(ips).collect();
        };
        let ips: Vec<_> = service.ips().collect();
        let (name, namespace) = (object.meta.name(), object.meta.namespace());
        let mut domains = service_domains(name, namespace, &ips, self.registry.proxy);
        if matches!(service.reached, Reached::AtEndpoints) {
            // Pods of a StatefulSet have names of their own below it.
            let below: Vec<_> = domains.iter().filter_map(|domain| pattern(&format!("*.{domain}"))).collect();
            domains.extend(below);
        }
        domains
    }

    fn domains_of_alias(&self, alias: &Alias<'_>) -> Vec<HostPattern> {
        let meta = &alias.object.meta;
        service_domains(meta.name(), meta.namespace(), &[], self.registry.proxy)
    }

    /// Hosts of VirtualServices that are no service are served on port 80 only, as in Istio.
    pub(super) fn add_hosts_of_no_service(&mut self) {
        if self.rules.hosts.is_empty() {
            return;
        }
        let mut services = HostIndex::default();
        for host in self.registry.services.iter().filter_map(|service| pattern(&service.host)) {
            services.insert(&host, ());
        }
        let through = self.scope.listeners_of_port(HTTP);
        for HostRules { host, vs, .. } in self.rules.hosts.iter().filter(|rules| rules.is_followed(&through))
        {
            let is_served = |domain: &HostPattern| !services.meeting(domain).is_empty();
            let known = self.registry.service(self.registry.resolve(host)).is_some();
            let Some(domain) = pattern(host).filter(|domain| !known && !is_served(domain)) else { continue };
            let Some(routes) = self.context(HTTP).routes(vs) else { continue };
            self.others.push(virtual_host(host_and_port(host, HTTP), vec![domain], routes));
        }
        self.others.sort_by(|a, b| a.name.cmp(&b.name));
        // Without capture they are served beside a service's socket, or not at all.
        if !self.others.is_empty() && self.registry.proxy.ports.is_some() {
            self.http.entry(Shared::Port(HTTP)).or_default();
            self.used.extend(through);
        }
    }

    /// What becomes of requests for hosts that nobody knows.
    pub(super) fn unknown_host(&self, at: At<'_>) -> VirtualHost {
        let policy = match at.is_socket() {
            // Where they were going is the proxy itself.
            true => OutboundTrafficPolicy::RegistryOnly,
            false => self.scope.outbound_policy(),
        };
        let (name, route) = match policy {
            OutboundTrafficPolicy::AllowAny => {
                ("allow_any", default_route("allow_any", self.passed_on(), None))
            }
            OutboundTrafficPolicy::AllowAnyDynamicDns => {
                let named = self.clusters.only(ALLOW_ANY_DYNAMIC_DNS);
                ("allow_any", default_route("allow_any", named, None))
            }
            OutboundTrafficPolicy::RegistryOnly => {
                let action = RouteAction::DirectResponse { status: 502, body: String::new() };
                let name = Some("block_all".to_owned());
                ("block_all", Route { name, ..Route::new(RouteMatch::default(), action) })
            }
        };
        virtual_host(name.to_owned(), vec![HostPattern::Any], vec![route].into())
    }
}

fn virtual_host(name: String, domains: Vec<HostPattern>, routes: RouteList) -> VirtualHost {
    VirtualHost {
        name,
        domains,
        require_tls: false,
        required_by: String::new(),
        tls_exempt: Vec::new(),
        routes,
    }
}
