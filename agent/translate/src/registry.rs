//! The services a proxy sees, with their full names and endpoints, whichever resource they come from.

mod allocated;
mod endpoint;
mod entry;
mod kubernetes;
mod service;
mod workloads;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use foldhash::fast::FixedState;
use resources::{Finding, Meta, Object, Path, Problem, ResourceSet, Rule, Service, Severity};

use allocated::Allocated;
use endpoint::EndpointPlace;
pub(crate) use endpoint::KnownEndpoint;

use crate::{places::Places, proxy::Proxy, sidecar_scope::SidecarScope, visibility};
use service::{Backends, Target};
pub(crate) use service::{KnownPort, KnownService, Origin, Reached, Resolution};
use workloads::Workloads;

type Map<K, V> = HashMap<K, V, FixedState>;

/// All services visible to a proxy: those of Kubernetes and then those of ServiceEntries, oldest first.
#[derive(Debug)]
pub(crate) struct Registry<'s> {
    pub(crate) proxy: &'s Proxy,
    /// Of several with the same name, each has only the ports that no earlier one has.
    pub(crate) services: Vec<KnownService<'s>>,
    by_host: Map<String, Vec<usize>>,
    /// Full names of services that a Sidecar keeps from the workload: what names them does not concern it.
    hidden: BTreeMap<String, &'s Meta>,
    /// ExternalName services, by their full names.
    aliases: Map<String, Alias<'s>>,
    /// The names of those, sorted, by what they stand for.
    aliased: Map<String, Vec<String>>,
    pub(crate) places: Arc<Places<'s>>,
}

/// A Service that is another name of something else.
#[derive(Debug)]
pub(crate) struct Alias<'s> {
    pub(crate) object: &'s Object<Service>,
    /// What it stands for: the name of a service, or of anything else.
    target: String,
}

impl<'s> Registry<'s> {
    /// Gathers what the proxy sees. A port that two services of one name have is the first one's; the other is a
    /// finding.
    pub(crate) fn new(
        resources: &'s ResourceSet,
        scope: &SidecarScope<'_>,
        proxy: &'s Proxy,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let workloads = Workloads::new(resources);
        let mut registry = Self {
            proxy,
            services: Vec::new(),
            by_host: Map::default(),
            hidden: BTreeMap::new(),
            aliases: Map::default(),
            aliased: Map::default(),
            places: Arc::clone(&workloads.places),
        };
        let visible = |s: &&Arc<Object<Service>>| visibility::sees_service(s, proxy);
        let mut by_service = kubernetes::endpoints_by_service(resources);
        for object in resources.services().iter().filter(visible) {
            match &object.spec.external_name {
                Some(target) if scope.knows(object.meta.namespace(), &kubernetes::host(object, proxy)) => {
                    let target = target.trim_end_matches('.').to_ascii_lowercase();
                    registry.aliases.insert(kubernetes::host(object, proxy), Alias { object, target });
                }
                Some(_) => _ = registry.hidden.insert(kubernetes::host(object, proxy), &object.meta),
                None => {
                    let backends = by_service.take(object, &workloads);
                    registry.add(kubernetes::known(object, backends, proxy), scope, findings);
                }
            }
        }
        let entries = entry::in_order(resources, proxy);
        let allocated = Allocated::new(&entries, proxy);
        for object in entries {
            for host in 0..object.spec.hosts.len() {
                registry.add(entry::known((object, host), &workloads, &allocated, proxy), scope, findings);
            }
        }
        registry.index_aliases();
        registry
    }

    fn add(&mut self, mut service: KnownService<'s>, scope: &SidecarScope<'_>, findings: &mut Vec<Finding>) {
        // Its own services tell the proxy what to take for the workload, whatever that may call.
        if !scope.knows(service.meta().namespace(), &service.host) && !self.is_of_workload(&service) {
            let meta = service.meta();
            self.hidden.insert(service.host, meta);
            return;
        }
        let same = self.by_host.entry(service.host.clone()).or_default();
        if let Some(first) = same.first().copied() {
            let first = &mut self.services[first];
            if matches!(first.origin, Origin::Kubernetes(_)) {
                findings.push(decorates(&service, first));
                if adds_names(&service, first) {
                    first.certificate_names = service.certificate_names;
                }
                return;
            }
            let first = &self.services[same[0]];
            let owners = same.iter().map(|index| &self.services[*index]);
            let taken: HashSet<u16> = owners.flat_map(|o| o.ports.iter().map(|port| port.number)).collect();
            let (lost, kept): (Vec<_>, Vec<_>) =
                service.ports.into_iter().partition(|port| taken.contains(&port.number));
            service.ports = kept;
            findings.extend(lost.iter().map(|port| taken_port(&service, port, first)));
        }
        same.push(self.services.len());
        self.services.push(service);
    }

    /// Whether there is a service of this full name that a Sidecar keeps from the workload.
    pub(crate) fn hides(&self, host: &str) -> bool {
        self.hidden.contains_key(host)
    }

    /// The full names of services that a Sidecar keeps from the workload, sorted.
    pub(crate) fn hidden(&self) -> impl Iterator<Item = &str> {
        self.hidden.keys().map(String::as_str)
    }

    /// The namespaces that have a service of this full name, hidden or not.
    pub(crate) fn namespaces_of(&self, host: &str) -> impl Iterator<Item = &'s str> {
        let seen = self.services_of(host).map(KnownService::meta);
        let others = self.hidden.get(host).copied();
        let aliases = self.aliases.get(host).map(|alias| &alias.object.meta);
        seen.chain(others).chain(aliases).map(Meta::namespace)
    }

    /// The full names of all services that are no aliases, hidden or not, each with its namespace.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, &'s str)> {
        let seen = self.services.iter().map(|service| (service.host.as_str(), service.meta()));
        let others = self.hidden.iter().map(|(host, meta)| (host.as_str(), *meta));
        seen.chain(others).map(|(host, meta)| (host, meta.namespace()))
    }

    /// The first service with this full name.
    pub(crate) fn service(&self, host: &str) -> Option<&KnownService<'s>> {
        self.services_of(host).next()
    }

    /// The name of the service that a full name stands for: its own, or that of the target of an ExternalName.
    pub(crate) fn resolve<'h>(&'h self, host: &'h str) -> &'h str {
        // An alias of an alias is followed, a circle is not.
        std::iter::successors(Some(host), |host| self.aliases.get(*host).map(|alias| &*alias.target))
            .take(MOST_ALIASES)
            .last()
            .unwrap_or(host)
    }

    /// All ExternalName services with what they stand for.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        self.aliases.iter().map(|(name, alias)| (&**name, &*alias.target))
    }

    /// The full names of ExternalName services, each with its namespace, in no order.
    pub(crate) fn alias_names(&self) -> impl Iterator<Item = (&str, &'s str)> {
        self.aliases.iter().map(|(name, alias)| (name.as_str(), alias.object.meta.namespace()))
    }

    /// The ExternalName service with this full name.
    pub(crate) fn alias(&self, name: &str) -> Option<&'s Object<Service>> {
        self.aliases.get(name).map(|alias| alias.object)
    }

    /// The ExternalName services that stand for a name, sorted, each with its own full name.
    pub(crate) fn aliases_of(&self, host: &str) -> impl Iterator<Item = (&str, &Alias<'s>)> {
        self.aliased.get(host).into_iter().flatten().map(|name| (&**name, &self.aliases[name]))
    }

    fn index_aliases(&mut self) {
        let mut aliased: Map<String, Vec<String>> = Map::default();
        for name in self.aliases.keys() {
            aliased.entry(self.resolve(name).to_owned()).or_default().push(name.clone());
        }
        aliased.values_mut().for_each(|names| names.sort_unstable());
        self.aliased = aliased;
    }

    /// A port of the services with this full name.
    pub(crate) fn port(&self, host: &str, number: u16) -> Option<(&KnownService<'s>, &KnownPort<'s>)> {
        self.ports(host).find(|(_, port)| port.number == number)
    }

    /// All TCP ports of the services with this full name.
    pub(crate) fn ports(&self, host: &str) -> impl Iterator<Item = (&KnownService<'s>, &KnownPort<'s>)> {
        self.services_of(host).flat_map(|service| service.ports.iter().map(move |port| (service, port)))
    }

    /// The number of the only TCP port, when there is just one.
    pub(crate) fn only_port(&self, host: &str) -> Option<u16> {
        let mut ports = self.ports(host);
        ports.next().filter(|_| ports.next().is_none()).map(|(_, port)| port.number)
    }

    fn services_of(&self, host: &str) -> impl Iterator<Item = &KnownService<'s>> {
        self.by_host.get(host).into_iter().flatten().map(|index| &self.services[*index])
    }

    /// The services of the proxy's namespace that the workload stands behind, by its labels or its addresses.
    pub(crate) fn of_workload(&self) -> impl Iterator<Item = &KnownService<'s>> {
        self.services.iter().filter(|service| self.is_of_workload(service))
    }

    fn is_of_workload(&self, service: &KnownService<'_>) -> bool {
        service.meta().namespace() == self.proxy.namespace
            && (service.selects(self.proxy) || self.proxy.ips.iter().any(|ip| service.has_address(*ip)))
    }
}

const MOST_ALIASES: usize = 8;

/// Whether a ServiceEntry tells of names of a Service: all that it can add, in its own namespace, as in Istio. Another
/// namespace must not say who serves; of several it is the first.
fn adds_names(entry: &KnownService<'_>, service: &KnownService<'_>) -> bool {
    let is_at_home = entry.meta().namespace() == service.meta().namespace();
    is_at_home && !entry.certificate_names.is_empty() && service.certificate_names.is_empty()
}

fn decorates(service: &KnownService<'_>, first: &KnownService<'_>) -> Finding {
    let (meta, owner) = (service.meta(), first.meta());
    let added = if adds_names(service, first) { " but for `subjectAltNames`" } else { "" };
    let problem =
        Problem::new(format!("is the name of {} ({}), which stays as it is{added}", owner.id, owner.place()));
    let problem = problem.found(&service.host).remedy("give the ServiceEntry a name of its own");
    let spec = Path::ROOT.field("spec");
    meta.finding(Severity::Warning, Rule::Conflict, &spec.field("hosts"), problem)
}

fn taken_port(service: &KnownService<'_>, port: &KnownPort<'_>, first: &KnownService<'_>) -> Finding {
    let owner = first.meta();
    let problem = Problem::new(format!(
        "is a port of {} in {} ({}), {}: this one is left out",
        service.host,
        owner.id,
        owner.place(),
        owner.comes_first(service.meta())
    ));
    let problem = problem.found(port.number).remedy("write each port of a host in one ServiceEntry");
    service.port_finding(port.index, Rule::Conflict, problem)
}
