//! DestinationRules for what is not there: services, ports, workloads with the labels of a subset.

use resources::{
    Destination, DestinationRule, Finding, Object, Path, Problem, ResourceSet, Rule, Severity, Subset,
    TrafficPolicy, VirtualService,
};

use super::Checker;
use crate::{
    destinations::is_in,
    hosts::full_name,
    registry::{KnownEndpoint, KnownService},
    visibility,
};

impl Checker<'_, '_> {
    /// What every DestinationRule that the proxy sees names in vain.
    pub(super) fn check_destination_rules(&mut self, resources: &ResourceSet) {
        let proxy = self.registry.proxy;
        let all = resources.destination_rules().iter();
        for rule in all.filter(|rule| visibility::destination_rule(rule, proxy).is_some()) {
            let host = full_name(&rule.spec.host, rule.meta.namespace(), proxy);
            match self.registry.service(&host) {
                Some(service) => self.check_parts(rule, service),
                None => self.check_host(rule, &host),
            }
        }
    }

    /// Only connections are tunnelled: requests go to the endpoint as they are.
    pub(super) fn check_tunnel(
        &mut self,
        vs: &Object<VirtualService>,
        (to, service): (&Destination, &KnownService<'_>),
        at: &Path<'_>,
    ) {
        let Some(known) = self.destinations.of(&service.host, service.meta().namespace()) else { return };
        let subset = to.subset.as_ref().and_then(|name| known.subsets().find(|known| known.name == *name));
        if known.policy(subset, to.port.unwrap_or_default()).tunnel.is_some() {
            let problem = Problem::new(format!(
                "goes to the endpoint without the `tunnel` of DestinationRule {}, which is for `tcp` and `tls` routes",
                known.name()
            ));
            let problem =
                problem.remedy("write a `tcp` or `tls` route, or name a destination without `tunnel`");
            self.findings.push(vs.meta.finding(Severity::Warning, Rule::Conflict, at, problem));
        }
    }

    /// A service of Kubernetes that is not there. What other hosts there are, nobody lists.
    fn check_host(&mut self, rule: &Object<DestinationRule>, host: &str) {
        let of_kubernetes = format!(".svc.{}", self.registry.proxy.cluster_domain);
        let is_known = host.contains('*')
            || self.registry.hides(host)
            || self.registry.service(self.registry.resolve(host)).is_some();
        if !is_known && host.ends_with(&of_kubernetes) {
            let problem = Problem::new("there is no such service, so the rule has no effect").written(host);
            let spec = Path::ROOT.field("spec");
            self.findings.push(warning(rule, &spec.field("host"), problem.remedy(self.where_it_is(host))));
        }
    }

    /// Ports that the service does not have, and subsets that none of its endpoints is in.
    fn check_parts(&mut self, rule: &Object<DestinationRule>, service: &KnownService<'_>) {
        let spec = Path::ROOT.field("spec");
        let policies = spec.field("trafficPolicy");
        self.check_ports(rule, service, (rule.spec.traffic_policy.as_ref(), &policies));
        let subsets = spec.field("subsets");
        let mut endpoints = None;
        for (index, subset) in rule.spec.subsets.iter().enumerate() {
            let at = subsets.index(index);
            self.check_ports(rule, service, (subset.traffic_policy.as_ref(), &at.field("trafficPolicy")));
            if !subset.labels.is_empty() {
                let endpoints: &Vec<_> = endpoints.get_or_insert_with(|| endpoints_of(service));
                self.findings.extend(
                    empty(subset, endpoints, service)
                        .map(|problem| warning(rule, &at.field("labels"), problem)),
                );
            }
        }
    }

    fn check_ports(
        &mut self,
        rule: &Object<DestinationRule>,
        service: &KnownService<'_>,
        (policy, at): (Option<&TrafficPolicy>, &Path<'_>),
    ) {
        let list = at.field("portLevelSettings");
        let settings = policy.map(|policy| policy.port_level.as_slice()).unwrap_or_default();
        for (index, setting) in settings.iter().enumerate() {
            let number = setting.port;
            if self.registry.port(&service.host, number).is_some() {
                continue;
            }
            let known = self.registry.ports(&service.host).map(|(_, port)| port.number.to_string());
            let known: Vec<String> = known.collect();
            let problem = Problem::new(format!(
                "service {} has no such port, so these settings have no effect",
                service.host
            ));
            let item = list.index(index);
            let port = item.field("port");
            let problem = problem.written(number).expected(known.join(", "));
            self.findings.push(warning(rule, &port.field("number"), problem));
        }
    }
}

fn endpoints_of<'s>(service: &KnownService<'s>) -> Vec<KnownEndpoint<'s>> {
    service.ports.iter().flat_map(|port| service.endpoints(port)).collect()
}

/// What is wrong with a subset that has no endpoint. Where the labels of some are not known they may be in it: only
/// who has the Pods can tell.
fn empty(subset: &Subset, endpoints: &[KnownEndpoint<'_>], service: &KnownService<'_>) -> Option<Problem> {
    let is_possible =
        |endpoint: &KnownEndpoint<'_>| endpoint.labels.is_none() || is_in(subset, endpoint.labels);
    if endpoints.is_empty() || endpoints.iter().any(is_possible) {
        return None;
    }
    let labels: Vec<String> = subset.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let problem = Problem::new(format!(
        "no endpoint of {} has these labels, so requests for the subset are answered 503",
        service.host
    ));
    Some(problem.found(labels.join(",")).remedy("compare with the labels of its Pods"))
}

fn warning(rule: &Object<DestinationRule>, at: &Path<'_>, problem: Problem) -> Finding {
    rule.meta.finding(Severity::Warning, Rule::UnknownReference, at, problem)
}
