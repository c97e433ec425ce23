//! The Sidecar resource of a workload: which services and rules its proxy sees, and through which listeners.

mod unmatched;
mod unused;

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use resources::{
    ConnectionPool, EgressHost, EgressListener, EgressNamespace, Finding, IngressListener, Object,
    OutboundTrafficPolicy, Path, Problem, Protocol, ResourceSet, Rule, Severity, Sidecar, VirtualService,
};

use crate::{
    hosts::{covers, full_name},
    proxy::{Proxy, ProxyKind},
    visibility,
};

/// What a proxy sees of everything that is exported to it.
#[derive(Debug)]
pub(crate) struct SidecarScope<'s> {
    proxy: &'s Proxy,
    sidecar: Option<&'s Object<Sidecar>>,
    /// Full names that the rules it sees lead to.
    destinations: HashSet<String>,
}

/// The listener of `egress` that a call goes through; there is one alone where no Sidecar lists any.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Through(usize);

/// How a port of a service is listened on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Egress {
    /// The listener that says so.
    pub(crate) through: Through,
    /// An address instead of those of the service.
    pub(crate) bind: Option<IpAddr>,
    /// Whether the workload dials the listener itself, so that it needs a socket.
    pub(crate) is_socket: bool,
    /// What is spoken there, whatever the service says.
    pub(crate) protocol: Option<Protocol>,
}

impl<'s> SidecarScope<'s> {
    /// Chooses the proxy's Sidecar: of its namespace one that selects it, else one without selector; else one without
    /// selector of the root namespace. Each time the oldest; a second one without selector is a finding.
    pub(crate) fn new(resources: &'s ResourceSet, proxy: &'s Proxy, findings: &mut Vec<Finding>) -> Self {
        let none = Self { proxy, sidecar: None, destinations: HashSet::new() };
        if proxy.kind == ProxyKind::Router {
            return none;
        }
        let all = || resources.sidecars().iter().map(Arc::as_ref);
        let of = |namespace: &str| {
            let namespace = namespace.to_owned();
            all().filter(move |sidecar| sidecar.meta.namespace() == namespace)
        };
        let selects = |sidecar: &&Object<Sidecar>| {
            let selector = sidecar.spec.workload_selector.as_ref().filter(|labels| !labels.is_empty());
            selector.is_some_and(|wanted| visibility::has_labels(&proxy.labels, wanted))
        };
        let is_default = |sidecar: &&Object<Sidecar>| {
            sidecar.spec.workload_selector.as_ref().is_none_or(resources::Labels::is_empty)
        };
        for namespace in [&proxy.namespace, &proxy.mesh.root_namespace] {
            findings.extend(superfluous(of(namespace).filter(is_default)));
        }
        let sidecar = of(&proxy.namespace)
            .find(selects)
            .or_else(|| of(&proxy.namespace).find(is_default))
            .or_else(|| of(&proxy.mesh.root_namespace).find(is_default));
        let mut scope = Self { sidecar, ..none };
        if scope.limits() {
            scope.destinations = scope.destinations_of_rules(resources);
            scope.destinations.extend(scope.egress_proxy().map(|(host, ..)| host));
        }
        scope
    }

    /// Whether the proxy has to know a service: because its workload may call it, or because rules lead to it.
    pub(crate) fn knows(&self, namespace: &str, host: &str) -> bool {
        let seen = || self.egress().iter().any(|listener| self.through(listener, namespace, host));
        !self.limits() || seen() || self.destinations.contains(host)
    }

    /// The listeners through which calls follow the rules of a VirtualService for one of its hosts.
    pub(crate) fn listeners_of_rules(&self, namespace: &str, host: &str) -> Vec<Through> {
        if !self.limits() {
            return vec![Through::default()];
        }
        let listeners = self.egress().iter().enumerate();
        let seeing = listeners.filter(|(_, listener)| self.overlaps(listener, namespace, host));
        seeing.map(|(at, _)| Through(at)).collect()
    }

    /// The listeners through which hosts that are no service are called at a port.
    pub(crate) fn listeners_of_port(&self, port: u16) -> Vec<Through> {
        if !self.limits() {
            return vec![Through::default()];
        }
        self.of_port(port).into_iter().map(|(through, _)| through).collect()
    }

    /// The listeners for a port: those that have it for themselves, else the one without.
    fn of_port(&self, port: u16) -> Vec<(Through, &'s EgressListener)> {
        let (own, others): (Vec<_>, Vec<_>) = self
            .egress()
            .iter()
            .enumerate()
            .map(|(at, listener)| (Through(at), listener))
            .filter(|(_, listener)| unix(listener).is_none())
            .filter(|(_, listener)| number(listener).is_none_or(|number| number == port))
            .partition(|(_, listener)| number(listener).is_some());
        if own.is_empty() { others } else { own }
    }

    /// How the workload calls a port of a service; `None` when it may not, or not through the proxy.
    ///
    /// A listener with a port has that port for itself; the one without takes every other.
    pub(crate) fn egress_of(&self, namespace: &str, host: &str, port: u16) -> Option<Egress> {
        let is_captured = self.proxy.ports.is_some();
        if !self.limits() {
            return is_captured.then(Egress::default);
        }
        let fits = |(_, listener): &(Through, &EgressListener)| self.through(listener, namespace, host);
        let (through, listener) = self.of_port(port).into_iter().find(fits)?;
        let egress = Egress { through, ..Egress::of(listener, self.proxy.is_dialled(listener.capture_mode)) };
        (is_captured || egress.is_socket).then_some(egress)
    }

    /// The unix sockets through which the workload calls a service, and what is spoken there, whatever the service says.
    pub(crate) fn unix_egress(
        &self,
        namespace: &str,
        host: &str,
    ) -> impl Iterator<Item = (&'s str, Option<Protocol>, Through)> {
        let through = move |listener: &EgressListener| self.through(listener, namespace, host);
        self.egress().iter().enumerate().filter(move |(_, listener)| through(listener)).filter_map(
            |(at, listener)| {
                let path = unix(listener).filter(|path| self.first_at(path) == at)?;
                Some((path, listener.port.as_ref().and_then(|port| port.protocol), Through(at)))
            },
        )
    }

    /// The first listener at a unix socket, which has it for itself.
    fn first_at(&self, path: &str) -> usize {
        self.egress().iter().position(|listener| unix(listener) == Some(path)).unwrap_or_default()
    }

    /// What happens to calls to unknown hosts.
    pub(crate) fn outbound_policy(&self) -> OutboundTrafficPolicy {
        let own = self.sidecar.and_then(|sidecar| sidecar.spec.outbound_traffic_policy.as_ref());
        own.map_or(self.proxy.mesh.outbound_traffic_policy, |policy| policy.mode)
    }

    /// The service that takes calls to unknown destinations, with its port and subset.
    pub(crate) fn egress_proxy(&self) -> Option<(String, u16, &'s str)> {
        let sidecar = self.sidecar?;
        let to = sidecar.spec.outbound_traffic_policy.as_ref()?.egress_proxy.as_ref()?;
        let host = full_name(&to.host, sidecar.meta.namespace(), self.proxy);
        Some((host, to.port?, to.subset.as_deref().unwrap_or_default()))
    }

    /// What the proxy takes for its workload; empty leaves it to the services.
    pub(crate) fn ingress(&self) -> &'s [IngressListener] {
        self.sidecar.map_or(&[], |sidecar| &sidecar.spec.ingress)
    }

    /// Limits of the connections to the workload.
    pub(crate) fn inbound_pool(&self) -> Option<&'s ConnectionPool> {
        self.sidecar.and_then(|sidecar| sidecar.spec.inbound_connection_pool.as_ref())
    }

    /// A finding about one of the listeners of `ingress`.
    pub(crate) fn ingress_finding(
        &self,
        (index, field): (usize, &str),
        (severity, rule): (Severity, Rule),
        problem: Problem,
    ) -> Option<Finding> {
        let spec = Path::ROOT.field("spec");
        let list = spec.field("ingress");
        let item = list.index(index);
        let at = item.field(field);
        self.sidecar.map(|sidecar| sidecar.meta.finding(severity, rule, &at, problem))
    }

    fn limits(&self) -> bool {
        !self.egress().is_empty()
    }

    fn egress(&self) -> &'s [EgressListener] {
        self.sidecar.map_or(&[], |sidecar| &sidecar.spec.egress)
    }

    fn through(&self, listener: &EgressListener, namespace: &str, host: &str) -> bool {
        self.any_host(listener, namespace, |wanted| covers(wanted, host))
    }

    fn overlaps(&self, listener: &EgressListener, namespace: &str, host: &str) -> bool {
        self.any_host(listener, namespace, |wanted| covers(wanted, host) || covers(host, wanted))
    }

    /// Whether a host of the listener fits and none that fits is excluded.
    fn any_host(&self, listener: &EgressListener, namespace: &str, fits: impl Fn(&str) -> bool) -> bool {
        let fits = |host: &&EgressHost| self.is_of(host, namespace) && fits(&host.host);
        let (mut excluded, mut added) = (false, false);
        for host in listener.hosts.iter().filter(fits) {
            excluded |= host.is_excluded;
            added |= !host.is_excluded;
        }
        added && !excluded
    }

    fn is_of(&self, host: &EgressHost, namespace: &str) -> bool {
        match &host.namespace {
            EgressNamespace::Any => true,
            // In the root namespace `.` stands for the namespace of each workload.
            EgressNamespace::Own => namespace == self.proxy.namespace,
            EgressNamespace::None => false,
            EgressNamespace::Named(name) => name == namespace,
        }
    }

    /// Where the rules lead that are for hosts the workload may call, and those that other rules hand over to.
    fn destinations_of_rules(&self, resources: &ResourceSet) -> HashSet<String> {
        let seen = |vs: &&Arc<Object<VirtualService>>| {
            let namespace = vs.meta.namespace();
            let calls = || {
                let hosts = vs.spec.hosts.iter().map(|host| full_name(host, namespace, self.proxy));
                vs.spec.is_for_mesh()
                    && hosts.into_iter().any(|host| !self.listeners_of_rules(namespace, &host).is_empty())
            };
            visibility::virtual_service(vs, self.proxy).is_some() && (vs.spec.is_delegate() || calls())
        };
        let mut found = HashSet::new();
        for vs in resources.virtual_services().iter().filter(seen) {
            let spec = &vs.spec;
            let http = spec.http.iter().flat_map(|rule| {
                let mirrors = rule.mirrors.iter().map(|mirror| &mirror.destination);
                rule.route.iter().map(|to| &to.destination).chain(mirrors)
            });
            let tls = spec.tls.iter().flat_map(|rule| &rule.route).map(|(to, _)| to);
            let tcp = spec.tcp.iter().flat_map(|rule| &rule.route).map(|(to, _)| to);
            found.extend(
                http.chain(tls).chain(tcp).map(|to| full_name(&to.host, vs.meta.namespace(), self.proxy)),
            );
        }
        found
    }
}

impl Egress {
    fn of(listener: &EgressListener, is_socket: bool) -> Self {
        let written = listener.bind.as_deref().and_then(|bind| bind.parse().ok());
        let port = listener.port.as_ref().filter(|port| port.number != 0);
        Self {
            through: Through::default(),
            bind: written.or_else(|| is_socket.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST))),
            is_socket,
            protocol: port.and_then(|port| port.protocol),
        }
    }

    /// Where a port is listened on, when not at the addresses of its service.
    pub(crate) fn address(&self, port: u16) -> Option<SocketAddr> {
        self.bind.map(|bind| SocketAddr::new(bind, port))
    }
}

/// The path of a listener at a unix socket.
fn unix(listener: &EgressListener) -> Option<&str> {
    resources::unix_path(listener.bind.as_deref()?)
}

/// The port of a listener that has one.
fn number(listener: &EgressListener) -> Option<u16> {
    listener.port.as_ref().map(|port| port.number)
}

/// Says of every Sidecar without selector but the oldest that it has no effect.
fn superfluous<'s>(mut defaults: impl Iterator<Item = &'s Object<Sidecar>>) -> Vec<Finding> {
    let Some(first) = defaults.next() else { return Vec::new() };
    let spec = Path::ROOT.field("spec");
    let say = |sidecar: &Object<Sidecar>| {
        let problem = Problem::new(format!(
            "is the second Sidecar without `workloadSelector` in its namespace and has no effect beside {} ({}), {}",
            first.meta.id,
            first.meta.place(),
            first.meta.comes_first(&sidecar.meta)
        ));
        let problem = problem.remedy("add a `workloadSelector`, or write both in one");
        sidecar.meta.finding(Severity::Warning, Rule::Conflict, &spec, problem)
    };
    defaults.map(say).collect()
}
