//! Rules for connections: TLS by server name, TCP by port.

use super::{Destination, GatewayRef, http::check_weights, http_match::check_source};
use crate::{
    Labels, Path,
    decode::{Context, Fields, PortNumber, Shape},
    finding::Problem,
    host,
};

/// A rule for TLS that is not terminated (`TLSRoute`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsRoute {
    /// Connections the rule is for, any one of these; at least one.
    pub matches: Vec<TlsMatch>,
    /// Destinations with their weights; at least one.
    pub route: Vec<(Destination, i32)>,
}

impl Shape for TlsRoute {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { matches: fields.required("match"), route: read_route(fields) }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.matches.is_empty() {
            context.error(
                &at.field("match"),
                Problem::new("is empty").expected("at least one match with `sniHosts`"),
            );
        }
        check_route(&self.route, at, context);
    }
}

/// A rule for TCP connections (`TCPRoute`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TcpRoute {
    /// Connections the rule is for, any one of these; empty means all.
    pub matches: Vec<L4Match>,
    /// Destinations with their weights; at least one.
    pub route: Vec<(Destination, i32)>,
}

impl Shape for TcpRoute {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { matches: fields.or_default("match"), route: read_route(fields) }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        check_route(&self.route, at, context);
    }
}

/// `TLSMatchAttributes`: all conditions must hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsMatch {
    /// Server names, in lower case; at least one.
    pub sni_hosts: Vec<String>,
    /// The other conditions.
    pub l4: L4Match,
}

impl Shape for TlsMatch {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let sni_hosts: Vec<String> = fields.required("sniHosts");
        Self {
            sni_hosts: sni_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            l4: L4Match::read(fields),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let hosts = at.field("sniHosts");
        if self.sni_hosts.is_empty() {
            context.error(&hosts, Problem::new("is empty").expected("at least one server name"));
        }
        for (index, name) in self.sni_hosts.iter().enumerate() {
            if let Err(wrong) = host::check_wildcard_host(name) {
                context.error(&hosts.index(index), Problem::new(wrong).found(name).expected("a server name"));
            }
        }
        self.l4.check(at, context);
    }
}

/// `L4MatchAttributes`: all conditions must hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct L4Match {
    /// Subnets of the original destination, any one of these.
    pub destination_subnets: Vec<String>,
    /// Declared port of the server, or of the service in a sidecar.
    pub port: Option<u16>,
    /// Labels the proxy's workload must have.
    pub source_labels: Labels,
    /// Namespace the proxy's workload must be in.
    pub source_namespace: Option<String>,
    /// Gateways this match is for, instead of the VirtualService's.
    pub gateways: Vec<GatewayRef>,
}

impl Shape for L4Match {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.refuse_unknown();
        // Istio accepts and ignores it.
        let _: Option<String> = fields.planned("sourceSubnet");
        let port: Option<PortNumber> = fields.optional("port");
        Self {
            destination_subnets: fields.or_default("destinationSubnets"),
            port: port.map(PortNumber::get),
            source_labels: fields.or_default("sourceLabels"),
            source_namespace: fields.optional("sourceNamespace"),
            gateways: fields.or_default("gateways"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        check_source(&self.source_labels, self.source_namespace.as_deref(), at, context);
        let subnets = at.field("destinationSubnets");
        for (index, subnet) in
            self.destination_subnets.iter().enumerate().filter(|(_, subnet)| !host::is_subnet(subnet))
        {
            let problem = Problem::new("is no subnet").found(subnet);
            context.error(
                &subnets.index(index),
                problem.expected("an address such as `10.0.0.1`, or `10.0.0.0/8`"),
            );
        }
    }
}

/// `RouteDestination`.
#[derive(Default)]
struct Weighted(Destination, i32);

impl Shape for Weighted {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.required("destination"), fields.or_default("weight"))
    }
}

fn read_route(fields: &mut Fields<'_, '_, '_>) -> Vec<(Destination, i32)> {
    let route: Vec<Weighted> = fields.required("route");
    route.into_iter().map(|Weighted(destination, weight)| (destination, weight)).collect()
}

fn check_route(route: &[(Destination, i32)], at: &Path<'_>, context: &mut Context<'_>) {
    let at = at.field("route");
    if route.is_empty() {
        context.error(&at, Problem::new("is empty").expected("at least one destination"));
    }
    check_weights(route.iter().map(|(_, weight)| *weight), &at, context);
}
