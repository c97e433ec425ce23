//! What resources name that does not exist.

mod destination_rules;
mod meant;

use std::{
    cell::OnceCell,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use resources::{
    Destination, DestinationRule, Finding, GatewayRef, Object, Path, Problem, ResourceSet, Rule,
    SERVICE_NAME_LABEL, Severity, VirtualService, did_you_mean,
};

use crate::{
    destinations::{Destinations, HostPolicy},
    gateway,
    hosts::{full_name, pattern, service_host},
    proxy::ProxyKind,
    registry::{KnownService, Registry},
    rules::Rules,
    visibility,
};

/// Findings for every gateway, service, port and subset that a VirtualService names in vain, and for EndpointSlices
/// that no service gets endpoints from.
///
/// Only what concerns the proxy is looked at: in a gateway rules for gateways, in a sidecar rules for the mesh.
pub(crate) fn check(
    resources: &ResourceSet,
    (registry, rules, destinations): (&Registry<'_>, &Rules, &Destinations<'_>),
) -> Vec<Finding> {
    let gateways: BTreeSet<GatewayRef> =
        resources.gateways().iter().map(|gateway| gateway::reference(gateway)).collect();
    let (gateways, namesakes) = (&gateways, &OnceCell::new());
    let destination_rules = resources.destination_rules();
    let checker = || Checker {
        registry,
        rules,
        destinations,
        destination_rules,
        gateways,
        namesakes,
        findings: Vec::new(),
    };
    let mut findings = Vec::new();
    for vs in resources.virtual_services() {
        let concerns = match registry.proxy.kind {
            ProxyKind::Sidecar => vs.spec.is_for_mesh(),
            ProxyKind::Router => vs.spec.gateways.iter().any(|gateway| *gateway != GatewayRef::Mesh),
        };
        if concerns && visibility::virtual_service(vs, registry.proxy).is_some() {
            let check = || checker().check(vs);
            findings.extend(match rules.prepared(vs) {
                Some(prepared) => prepared.references(check),
                None => check(),
            });
        }
    }
    let mut rest = checker();
    rest.check_slices(resources);
    rest.check_destination_rules(resources);
    findings.extend(rest.findings);
    findings
}

/// What goes to a destination.
#[derive(Clone, Copy)]
enum Sent {
    Requests,
    Copies,
    Connections,
}

impl Sent {
    /// What becomes of it where the destination is not there.
    fn lost(self) -> &'static str {
        match self {
            Self::Requests => "requests are answered 503",
            Self::Copies => "no copies are sent",
            Self::Connections => "connections are closed",
        }
    }
}

struct Checker<'c, 's> {
    registry: &'c Registry<'s>,
    rules: &'c Rules,
    destinations: &'c Destinations<'s>,
    /// Those of other proxies too.
    destination_rules: &'c [Arc<Object<DestinationRule>>],
    gateways: &'c BTreeSet<GatewayRef>,
    /// The first service with each first label, gathered when it is first asked for.
    namesakes: &'c OnceCell<HashMap<&'c str, &'c str>>,
    findings: Vec<Finding>,
}

impl<'c> Checker<'c, '_> {
    fn check(mut self, vs: &Object<VirtualService>) -> Vec<Finding> {
        let spec = Path::ROOT.field("spec");
        if self.registry.proxy.kind == ProxyKind::Router {
            self.check_gateways(vs, &spec);
        }
        self.check_http(vs, &spec);
        let tls = vs.spec.tls.iter().map(|rule| rule.route.as_slice()).collect();
        let tcp = vs.spec.tcp.iter().map(|rule| rule.route.as_slice()).collect();
        self.check_connections(vs, "tls", tls, &spec);
        self.check_connections(vs, "tcp", tcp, &spec);
        self.findings
    }

    /// Destinations of the rules for connections.
    fn check_connections(
        &mut self,
        vs: &Object<VirtualService>,
        field: &str,
        rules: Vec<&[(Destination, i32)]>,
        spec: &Path<'_>,
    ) {
        let list = spec.field(field);
        for (index, route) in rules.iter().enumerate() {
            let item = list.index(index);
            let at = item.field("route");
            for (index, (to, _)) in route.iter().enumerate() {
                self.check_destination(vs, (to, Sent::Connections), &at.index(index).field("destination"));
            }
        }
    }

    /// Destinations of the rules, those of delegates included.
    fn check_http(&mut self, vs: &Object<VirtualService>, spec: &Path<'_>) {
        let http = spec.field("http");
        for rule in self.rules.of(vs) {
            let item = http.index(rule.index);
            let route = item.field("route");
            for (index, to) in rule.http().route.iter().enumerate() {
                self.check_destination(
                    &rule.owner,
                    (&to.destination, Sent::Requests),
                    &route.index(index).field("destination"),
                );
            }
            let (one, several) = (item.field("mirror"), item.field("mirrors"));
            let is_one = rule.owner.meta.writes(&one);
            for (index, to) in rule.http().mirrors.iter().enumerate() {
                let to = (&to.destination, Sent::Copies);
                match is_one {
                    true => self.check_destination(&rule.owner, to, &one),
                    false => {
                        let at = several.index(index);
                        self.check_destination(&rule.owner, to, &at.field("destination"));
                    }
                }
            }
        }
    }

    fn check_slices(&mut self, resources: &ResourceSet) {
        for slice in resources.endpoint_slices() {
            let problem = match slice.meta.labels.get(SERVICE_NAME_LABEL) {
                None => Problem::new("names no service, so none uses its endpoints")
                    .expected(format!("a label `{SERVICE_NAME_LABEL}`")),
                Some(name) => {
                    let host = service_host(name, slice.meta.namespace(), self.registry.proxy);
                    let Some(service) = self.registry.service(&host) else { continue };
                    let written: Vec<&str> = slice.spec.ports.iter().map(|port| port.name.as_str()).collect();
                    if service.ports.iter().any(|port| written.contains(&port.name)) || written.is_empty() {
                        continue;
                    }
                    let names: Vec<String> =
                        service.ports.iter().map(|port| format!("`{}`", port.name)).collect();
                    let problem =
                        Problem::new(format!("has no port named like one of {}", service.meta().id));
                    problem.found(written.join(", ")).expected(names.join(" or "))
                }
            };
            let finding = slice.meta.finding(Severity::Warning, Rule::UnknownReference, &Path::ROOT, problem);
            self.findings.push(finding);
        }
    }

    fn check_gateways(&mut self, vs: &Object<VirtualService>, spec: &Path<'_>) {
        let at = spec.field("gateways");
        for (index, gateway) in vs.spec.gateways.iter().enumerate() {
            if *gateway != GatewayRef::Mesh && !self.gateways.contains(gateway) {
                let problem = Problem::new("there is no such Gateway").written(gateway);
                let problem = problem.remedy(self.gateway_meant(gateway));
                self.report(vs, &at.index(index), problem);
            }
        }
    }

    fn check_destination(
        &mut self,
        vs: &Object<VirtualService>,
        (to, sent): (&Destination, Sent),
        at: &Path<'_>,
    ) {
        let so = sent.lost();
        let written = full_name(&to.host, vs.meta.namespace(), self.registry.proxy);
        let host = self.registry.resolve(&written);
        let Some(service) = self.registry.service(host) else {
            if self.registry.hides(host) {
                return;
            }
            let problem = Problem::new(format!("there is no such service, so {so}")).written(host);
            let problem = match self.meant(&to.host) {
                _ if host != written => {
                    problem.remedy(format!("ExternalName {written} stands for it: add a ServiceEntry"))
                }
                Some(meant) => {
                    problem.remedy(format!("a name with a dot stands as it is: did you mean `{meant}`?"))
                }
                None => problem.remedy(self.where_it_is(host)),
            };
            return self.report(vs, &at.field("host"), problem);
        };
        let ports = || -> Vec<String> {
            self.registry.ports(host).map(|(_, port)| port.number.to_string()).collect()
        };
        match to.port {
            Some(port) if self.registry.port(host, port).is_none() => {
                let problem = Problem::new(format!("service {host} has no such port, so {so}"));
                let at = at.field("port");
                self.report(vs, &at.field("number"), problem.written(port).expected(ports().join(", ")));
            }
            None if self.registry.ports(host).nth(1).is_some() => {
                let problem = Problem::new(format!("is missing though service {host} has several ports"));
                let problem = problem.expected(format!("one of {}", ports().join(", ")));
                self.report(vs, &at.field("port"), problem.remedy("the port the client used is taken"));
            }
            _ => {}
        }
        if let Some(subset) = &to.subset {
            let known = self.destinations.of(host, service.meta().namespace());
            if known.is_none_or(|known| known.subsets().all(|known| known.name != *subset)) {
                let problem = self.unknown_subset(service, (subset, so), known);
                self.report(vs, &at.field("subset"), problem);
            }
        }
        if !matches!(sent, Sent::Connections) {
            self.check_tunnel(vs, (to, service), at);
        }
    }

    fn unknown_subset(
        &self,
        service: &KnownService<'_>,
        (subset, so): (&str, &str),
        destination: Option<HostPolicy<'_>>,
    ) -> Problem {
        let elsewhere = self.subset_elsewhere(service, subset);
        let Some(destination) = destination else {
            let problem = match elsewhere {
                Some(_) => "no DestinationRule that counts here is for this host",
                None => "no valid DestinationRule is for this host",
            };
            return Problem::new(format!("{problem}, so {so}")).written(subset).remedy(
                elsewhere.unwrap_or_else(|| {
                    "write a DestinationRule with this subset, or leave it out to send to the whole service"
                        .to_owned()
                }),
            );
        };
        let names: Vec<_> = destination.subsets().map(|known| format!("`{}`", known.name)).collect();
        let near = did_you_mean(subset, destination.subsets().map(|known| known.name.as_str()));
        let meta = &destination.rule().meta;
        let (id, place) = (&meta.id, meta.place());
        let problem = Problem::new(format!("{id} ({place}) has no such subset, so {so}"));
        let problem = problem.written(subset);
        let problem = match names.is_empty() {
            true => problem.expected("no subset, for the rule has none"),
            false => problem.expected(names.join(" or ")),
        };
        problem.perhaps_remedy(near.or(elsewhere))
    }

    /// Which rule has the subset although it does not count for the service here, and what would make it count.
    fn subset_elsewhere(&self, service: &KnownService<'_>, subset: &str) -> Option<String> {
        let proxy = self.registry.proxy;
        let has_it = |rule: &&Arc<Object<DestinationRule>>| {
            let named = || pattern(&full_name(&rule.spec.host, rule.meta.namespace(), proxy));
            rule.spec.subsets.iter().any(|known| known.name == subset)
                && named().is_some_and(|host| host.covers(&service.host))
        };
        let rule = self.destination_rules.iter().find(has_it)?;
        let (own, of_service) = (proxy.namespace.as_str(), service.meta().namespace());
        let namespace = rule.meta.namespace();
        let why = if rule.spec.workload_selector.is_some() {
            "is for some workloads only (`workloadSelector`)".to_owned()
        } else if namespace != own && visibility::destination_rule(rule, proxy).is_none() {
            format!("is not exported to namespace `{own}`: add it to `exportTo`")
        } else if ![own, of_service, &proxy.mesh.root_namespace].contains(&namespace) {
            format!("counts in its own namespace only: move it to `{of_service}`, that of the service")
        } else {
            "gives way to the one that counts: write the subset there".to_owned()
        };
        Some(format!("{} ({}) has it, but {why}", rule.meta.id, rule.meta.place()))
    }

    fn report(&mut self, vs: &Object<VirtualService>, at: &Path<'_>, problem: Problem) {
        self.findings.push(vs.meta.finding(Severity::Warning, Rule::UnknownReference, at, problem));
    }
}
