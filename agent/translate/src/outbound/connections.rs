//! What becomes of the connections to a port that is not HTTP: the `tls` and `tcp` rules of VirtualServices, else the
//! service itself.

use resources::{Object, TcpRoute, TlsRoute, VirtualService};
use snapshot::HostPattern;

use super::{
    Call, Outbound,
    bound::Part,
    mesh_rules::{counts, subnets},
};
use crate::{clusters::outbound_name, draft::tcp, hosts::pattern};

impl Outbound<'_, '_> {
    /// The parts that the connections to a port are divided into, in order. `is_shared` says that other services may be
    /// reached at the same address.
    pub(super) fn parts(
        &self,
        Call { service, port, through }: Call<'_, '_, '_>,
        is_shared: bool,
    ) -> Vec<Part> {
        let is_tls = port.protocol.is_some_and(resources::Protocol::is_tls);
        let own = Part::all(tcp(self.clusters.only(outbound_name(port.number, "", &service.host))));
        let Some(host) = pattern(&service.host) else { return vec![own] };
        let rules = self.rules.of_connections(&host, through);
        if !is_tls {
            return self.tcp_parts(&rules, port.number, own);
        }
        let parts: Vec<Part> = rules.iter().flat_map(|vs| self.tls_parts(vs, port.number)).collect();
        match parts.is_empty() {
            true if is_shared => vec![Part { names: Some(vec![host]), ..own }],
            true => vec![own],
            false => parts,
        }
    }

    fn tls_parts(&self, vs: &Object<VirtualService>, port: u16) -> Vec<Part> {
        let proxy = self.registry.proxy;
        let of_rule = |rule: &TlsRoute| {
            let filter = self.destinations(&rule.route, vs, port)?;
            let fitting = rule.matches.iter().filter(|matches| counts(&matches.l4, port, proxy));
            let parts = fitting.map(|matches| {
                let names: Vec<HostPattern> =
                    matches.sni_hosts.iter().filter_map(|name| pattern(name)).collect();
                let names = if names.contains(&HostPattern::Any) { Vec::new() } else { names };
                Part { subnets: subnets(&matches.l4), names: Some(names), filter: filter.clone() }
            });
            Some(parts.collect::<Vec<_>>())
        };
        vs.spec.tls.iter().filter_map(of_rule).flatten().collect()
    }

    /// Rules for some destinations, up to the first for all; without one the service itself comes last.
    fn tcp_parts(&self, rules: &[&Object<VirtualService>], port: u16, own: Part) -> Vec<Part> {
        let mut parts = Vec::new();
        for (vs, rule) in rules.iter().flat_map(|vs| vs.spec.tcp.iter().map(move |rule| (vs, rule))) {
            let Some(networks) = self.networks(rule, port) else { continue };
            let Some(filter) = self.destinations(&rule.route, vs, port) else { continue };
            let takes_all = networks.is_empty();
            parts.push(Part { subnets: networks, names: None, filter });
            if takes_all {
                return parts;
            }
        }
        parts.push(own);
        parts
    }

    /// The destinations a rule is for, empty for all; `None` when it is not for this port and workload.
    fn networks(&self, rule: &TcpRoute, port: u16) -> Option<Vec<ipnet::IpNet>> {
        if rule.matches.is_empty() {
            return Some(Vec::new());
        }
        let mut fitting =
            rule.matches.iter().filter(|matches| counts(matches, port, self.registry.proxy)).peekable();
        fitting.peek()?;
        let mut networks = Vec::new();
        for matches in fitting {
            match subnets(matches) {
                all if all.is_empty() => return Some(all),
                some => networks.extend(some),
            }
        }
        Some(networks)
    }

    fn destinations(
        &self,
        route: &[(resources::Destination, i32)],
        vs: &Object<VirtualService>,
        port: u16,
    ) -> Option<snapshot::NetworkFilter> {
        let route = route.iter().map(|(to, weight)| (to, *weight));
        self.context(port).destinations(route, vs).map(tcp)
    }
}
