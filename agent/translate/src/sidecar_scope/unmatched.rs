//! Hosts of a Sidecar that nothing has, and services that it keeps from the workload.

use std::collections::BTreeSet;

use resources::{
    EgressHost, EgressListener, EgressNamespace, Finding, Path, Problem, ResourceSet, Rule, Severity,
    did_you_mean,
};
use snapshot::HiddenServices;

use super::{SidecarScope, Through, covers};
use crate::{
    hosts::{full_name, service_host},
    registry::Registry,
    visibility,
};

impl SidecarScope<'_> {
    /// Findings for hosts of `egress` that no service and no VirtualService has. Listeners that nothing goes through at
    /// all have findings of their own.
    pub(crate) fn unmatched_hosts(
        &self,
        used: &BTreeSet<Through>,
        resources: &ResourceSet,
        registry: &Registry<'_>,
    ) -> Vec<Finding> {
        let Some(sidecar) = self.sidecar else { return Vec::new() };
        let spec = Path::ROOT.field("spec");
        let list = spec.field("egress");
        let mut findings = Vec::new();
        let listeners = self.egress().iter().enumerate();
        let told = |(at, listener): &(usize, &EgressListener)| {
            listener.port.is_none() || used.contains(&Through(*at))
        };
        for (at, listener) in listeners.filter(told) {
            for (index, host) in listener.hosts.iter().enumerate() {
                if self.may_be_empty(host) || self.is_had(host, resources, registry) {
                    continue;
                }
                let item = list.index(at);
                let hosts = item.field("hosts");
                let problem = Problem::new("matches no service, so it lets the workload call nothing");
                let problem = problem.written(host).remedy(self.meant(host, registry));
                let at = hosts.index(index);
                findings.push(sidecar.meta.finding(Severity::Warning, Rule::UnknownReference, &at, problem));
            }
        }
        findings
    }

    /// Whether nobody expects something behind a host: whole namespaces, what is taken away, and what a Sidecar for all
    /// namespaces says of each.
    fn may_be_empty(&self, host: &EgressHost) -> bool {
        let is_elsewhere =
            self.sidecar.is_some_and(|sidecar| sidecar.meta.namespace() != self.proxy.namespace);
        host.is_excluded
            || host.host == "*"
            || host.namespace == EgressNamespace::None
            || host.namespace == EgressNamespace::Own && is_elsewhere
    }

    fn is_had(&self, host: &EgressHost, resources: &ResourceSet, registry: &Registry<'_>) -> bool {
        let is_service = match host.host.starts_with('*') {
            false => registry.namespaces_of(&host.host).any(|namespace| self.is_of(host, namespace)),
            true => registry
                .names()
                .chain(registry.alias_names())
                .any(|(name, namespace)| self.is_of(host, namespace) && covers(&host.host, name)),
        };
        let rules = || resources.virtual_services().iter().filter(|vs| vs.spec.is_for_mesh());
        is_service
            || rules().any(|vs| {
                let namespace = vs.meta.namespace();
                let names = vs.spec.hosts.iter().map(|host| full_name(host, namespace, self.proxy));
                self.is_of(host, namespace)
                    && visibility::virtual_service(vs, self.proxy).is_some()
                    && names.into_iter().any(|name| covers(&host.host, &name) || covers(&name, &host.host))
            })
    }

    /// What to write instead: the service is in another namespace, is written by its short name, or is spelt nearly so.
    fn meant(&self, host: &EgressHost, registry: &Registry<'_>) -> String {
        if let Some(namespace) = registry.namespaces_of(&host.host).next() {
            return format!("the service is in namespace `{namespace}`: write `{namespace}/{}`", host.host);
        }
        let namespace = match &host.namespace {
            EgressNamespace::Named(name) => name,
            _ => &self.proxy.namespace,
        };
        let name = host.host.split('.').next().unwrap_or_default();
        let whole = service_host(name, namespace, self.proxy);
        if whole != host.host && registry.namespaces_of(&whole).next().is_some() {
            return format!("hosts are written whole: did you mean `{whole}`?");
        }
        let beside = registry.names().filter(|(_, namespace)| self.is_of(host, namespace));
        let near = did_you_mean(&host.host, beside.map(|(name, _)| name));
        near.unwrap_or_else(|| "add the Service or ServiceEntry, or correct the name".to_owned())
    }

    /// The services that are kept from the workload, to name them to whoever asks why they are not called.
    pub(crate) fn hidden_services(&self, registry: &Registry<'_>) -> Option<HiddenServices> {
        let sidecar = self.sidecar.filter(|_| self.limits())?;
        let hosts = registry.hidden().map(str::to_owned).collect();
        let beside = service_host("", &self.proxy.namespace, self.proxy);
        Some(HiddenServices { sidecar: sidecar.meta.id.to_string(), beside, hosts })
    }
}
