//! The clusters of a snapshot, by name.

mod any_name;
mod proxy_itself;
mod to_workload;

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use foldhash::fast::FixedState;
use resources::{
    ConnectionPool, Finding, Labels, OutboundTrafficPolicy, OutlierDetection, Protocol, ResourceSet, Subset,
};
use snapshot::{
    Cluster, ClusterId, ClusterTarget, Connections, Discovery, Dns, DnsName, DnsResolution, DynamicDns,
    Endpoint, LocalityEndpoints, OwnPorts, PolicySource, ServiceName, SourceAddresses, UpstreamTls,
    WeightedClusters,
};

use self::{any_name::of_any_name, proxy_itself::leads_to_proxy, to_workload::to_workload};
use crate::{
    credentials::{Contexts, UpstreamPort},
    destinations::{Destinations, Group, HostPolicy, Near, Policy, apply, arranged, is_in},
    gateway::AutoPassthrough,
    hosts::pattern,
    inbound,
    own_place::OwnPlace,
    proxy::{MeshOptions, Proxy, ProxyKind},
    registry::{KnownEndpoint, KnownPort, KnownService, Registry, Resolution},
    sidecar_scope::SidecarScope,
};

/// Where connections go whose destination nobody knows.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";

/// Where requests go whose host nobody knows, where names are looked up.
pub(crate) const ALLOW_ANY_DYNAMIC_DNS: &str = "AllowAnyDynamicDNSCluster";

/// Where inbound connections go that no service declares.
pub(crate) const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// All clusters, sorted by name.
#[derive(Debug)]
pub(crate) struct Clusters {
    pub(crate) list: Vec<Cluster>,
    ids: HashMap<String, ClusterId, FixedState>,
}

impl Clusters {
    pub(crate) fn new<'s>(
        resources: &ResourceSet,
        (registry, scope): (&Registry<'s>, &SidecarScope<'s>),
        destinations: &Destinations<'_>,
        (contexts, findings): (&mut Contexts<'_>, &mut Vec<Finding>),
    ) -> Self {
        let proxy = registry.proxy;
        let mesh = &proxy.mesh;
        let own_place = OwnPlace::new(resources, registry);
        let tls = RefCell::new((contexts, findings));
        let passed_on = AutoPassthrough::new(resources, proxy);
        let own_ports = proxy.refused_endpoints();
        let maker = ClusterMaker { proxy, own_place, own_ports, destinations, passed_on, tls };
        let known = |service: &&KnownService<'_>| scope.knows(service.meta().namespace(), &service.host);
        let services = registry.services.iter().filter(known);
        let mut list: Vec<Cluster> = services.flat_map(|service| maker.of_service(service)).collect();
        if proxy.kind == ProxyKind::Sidecar {
            let inbound = Some(SourceAddresses::INBOUND);
            list.push(original(PASSTHROUGH, None, mesh));
            list.push(original(INBOUND_PASSTHROUGH, inbound, mesh));
            if scope.outbound_policy() == OutboundTrafficPolicy::AllowAnyDynamicDns {
                let (contexts, findings) = &mut *maker.tls.borrow_mut();
                list.push(of_any_name(mesh, (contexts, findings)));
            }
            list.extend(
                inbound::ports(registry, scope)
                    .0
                    .values()
                    .map(|port| to_workload(port, &maker.own_ports, mesh)),
            );
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        let ids = (0..).map(ClusterId).zip(&list).map(|(id, cluster)| (cluster.name.clone(), id)).collect();
        Self { list, ids }
    }

    /// A target with this name, whether or not there is such a cluster.
    pub(crate) fn target(&self, name: String, weight: u32) -> ClusterTarget {
        ClusterTarget { id: self.ids.get(&name).copied(), name, weight, authority: None, headers: None }
    }

    /// All requests to one cluster.
    pub(crate) fn only(&self, name: impl Into<String>) -> WeightedClusters {
        WeightedClusters::new(vec![self.target(name.into(), 1)])
            .expect("a single destination needs no weight")
    }
}

/// `outbound|<port>|<subset>|<host>`.
pub(crate) fn outbound_name(port: u16, subset: &str, host: &str) -> String {
    ["outbound|", itoa::Buffer::new().format(port), "|", subset, "|", host].concat()
}

/// `outbound_.<port>_.<subset>_.<host>`: how proxies of the mesh name a cluster to each other, as a server name.
pub(crate) fn name_for_peers(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// Says of a pod whether a proxy of the mesh stands before it.
const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";

/// `inbound|<port>||`.
pub(crate) fn inbound_name(port: u16) -> String {
    format!("inbound|{port}||")
}

fn says_mesh_tls(labels: &Labels) -> bool {
    labels.get(TLS_MODE_LABEL).is_some_and(|mode| mode == "istio")
}

/// The service accounts of the endpoints that TLS is spoken to: without a rule for it only those that say so. Empty when
/// one of them is not known.
fn accounts<'e>(endpoints: &[KnownEndpoint<'e>], has_rule: bool) -> BTreeSet<&'e str> {
    let asked = endpoints.iter().filter(|known| has_rule || known.labels.is_some_and(says_mesh_tls));
    asked.map(|known| known.account).collect::<Option<_>>().unwrap_or_default()
}

struct ClusterMaker<'m, 'c> {
    proxy: &'m Proxy,
    own_place: OwnPlace,
    own_ports: OwnPorts,
    destinations: &'m Destinations<'m>,
    /// The services whose clusters clients name themselves.
    passed_on: AutoPassthrough<'m>,
    tls: RefCell<(&'m mut Contexts<'c>, &'m mut Vec<Finding>)>,
}

impl ClusterMaker<'_, '_> {
    /// One cluster for each port, and one for each subset of it; each once more for clients that name it themselves,
    /// which speak TLS to its endpoints on their own.
    fn of_service(&self, service: &KnownService<'_>) -> Vec<Cluster> {
        let name = service.name();
        let destination = self.destinations.of(&service.host, service.meta().namespace());
        let mut clusters = Vec::new();
        for port in &service.ports {
            let subsets = destination.iter().flat_map(HostPolicy::subsets).map(Some);
            for subset in std::iter::once(None).chain(subsets) {
                let cluster = self.of_port((service, &name), port, subset, destination);
                // Where clients of a gateway were going is the gateway, and what they name is the cluster.
                if cluster.discovery.has_endpoints() && service.is_in_mesh() && self.passed_on.admits(&name) {
                    let subset = subset.map_or("", |subset| subset.name.as_str());
                    let name = name_for_peers(port.number, subset, &service.host);
                    clusters.push(Cluster { name, tls: None, ..cluster.clone() });
                }
                clusters.push(cluster);
            }
        }
        clusters
    }

    fn of_port(
        &self,
        (service, name): (&KnownService<'_>, &ServiceName),
        port: &KnownPort<'_>,
        subset: Option<&Subset>,
        destination: Option<HostPolicy<'_>>,
    ) -> Cluster {
        let written =
            destination.map(|destination| destination.policy(subset, port.number)).unwrap_or_default();
        let mesh = &self.proxy.mesh.default_traffic_policy;
        let pool = over(written.connection_pool, mesh.connection_pool.as_ref(), ConnectionPool::over);
        let detection =
            over(written.outlier_detection, mesh.outlier_detection.as_ref(), OutlierDetection::over);
        let of_mesh = [mesh.connection_pool.is_some(), mesh.outlier_detection.is_some()];
        let policy_sources = HostPolicy::sources(destination, &written, subset, of_mesh);
        let policy = Policy {
            connection_pool: pool.as_deref(),
            outlier_detection: detection.as_deref(),
            mesh: Some(&self.proxy.mesh.defaults),
            ..written
        };
        let mut endpoints = self.endpoints(service, port);
        endpoints.retain(|known| subset.is_none_or(|subset| is_in(subset, known.labels)));
        let accounts = accounts(&endpoints, policy.tls.is_some());
        let discovery = self.discovery((service, port), endpoints, &policy);
        let subset_name = subset.map_or("", |subset| subset.name.as_str());
        let mut cluster = Cluster {
            service: Some(name.clone()),
            destination_rule: destination.map(|destination| destination.name()),
            policy_sources,
            ..blank(outbound_name(port.number, subset_name, &service.host), discovery, &self.proxy.mesh)
        };
        apply(&policy, port.protocol, &mut cluster);
        cluster.tls = self.upstream_tls(
            (&policy, destination, subset),
            UpstreamPort {
                host: &service.host,
                namespace: &name.namespace,
                subset: subset_name,
                port: port.number,
                is_in_mesh: service.is_in_mesh(),
                names: service.certificate_names,
                accounts: &accounts,
            },
        );
        if cluster.tls.is_some() && policy.tls.is_none() {
            cluster.policy_sources.tls = Some(PolicySource::Mesh("enableAutoMtls"));
        }
        cluster
    }

    /// Where a port is served, which is nowhere at the proxy itself.
    fn endpoints<'s>(&self, service: &KnownService<'s>, port: &KnownPort<'_>) -> Vec<KnownEndpoint<'s>> {
        let at = |known: &KnownEndpoint<'_>| known.address().and_then(|address| address.socket());
        let is_own = |known: &KnownEndpoint<'_>| at(known).is_some_and(|at| self.own_ports.refuse(at, None));
        let (own, endpoints) = service.endpoints(port).into_iter().partition::<Vec<_>, _>(is_own);
        let own = own.iter().filter_map(at);
        self.tls.borrow_mut().1.extend(own.map(|at| leads_to_proxy((service, port), at, self.proxy)));
        endpoints
    }

    /// TLS to the endpoints. What is wrong with it is said where it is asked for.
    fn upstream_tls(
        &self,
        (policy, destination, subset): (&Policy<'_>, Option<HostPolicy<'_>>, Option<&Subset>),
        port: UpstreamPort<'_>,
    ) -> Option<Arc<UpstreamTls>> {
        let (contexts, findings) = &mut *self.tls.borrow_mut();
        let number = port.port;
        let (tls, unusable) = contexts.of_upstream(policy.tls, port);
        if let (Some(destination), Some(level), Some(_)) = (destination, policy.levels.tls, policy.tls) {
            destination.with_tls((level, subset, number), |rule, at| {
                findings.extend(unusable.into_iter().map(|wrong| {
                    rule.meta.finding(wrong.severity(), wrong.rule, &at.field(wrong.field), wrong.problem)
                }));
            });
        }
        tls
    }

    /// How endpoints are found.
    fn discovery(
        &self,
        (service, port): (&KnownService<'_>, &KnownPort<'_>),
        endpoints: Vec<KnownEndpoint<'_>>,
        policy: &Policy<'_>,
    ) -> Discovery {
        match service.resolution {
            // Clients of a headless service choose the pod themselves, except where HTTP lets us choose, and those of
            // a gateway, who dial that.
            Resolution::ChosenByClient
                if self.proxy.kind == ProxyKind::Sidecar && !port.protocol.is_some_and(Protocol::is_http) =>
            {
                Discovery::OriginalDestination
            }
            Resolution::Listed | Resolution::ChosenByClient => {
                self.listed(endpoints, service.is_in_mesh(), policy)
            }
            Resolution::OriginalDestination => Discovery::OriginalDestination,
            Resolution::Dns(resolution) => self.resolved(endpoints, resolution, policy),
            Resolution::DynamicDns => {
                let hosts = pattern(&service.host);
                let port = service.target_port(port, &[]);
                hosts.map_or(Discovery::Endpoints(Vec::new()), |hosts| {
                    Discovery::DynamicDns(DynamicDns { hosts, port, begins_tls: false })
                })
            }
        }
    }

    /// Endpoints by where they are.
    fn listed(&self, endpoints: Vec<KnownEndpoint<'_>>, is_in_mesh: bool, policy: &Policy<'_>) -> Discovery {
        let near = endpoints.into_iter().filter_map(|known| {
            let labels = known.labels.filter(|_| is_in_mesh);
            let speaks_mesh_tls = labels.is_some_and(says_mesh_tls);
            let endpoint = Endpoint { address: known.address()?, weight: known.weight, speaks_mesh_tls };
            Some(Near { endpoint, locality: known.locality, labels: known.labels })
        });
        let groups = self.arranged(near.collect(), policy).into_iter();
        let group = |Group { locality, priority, weight, endpoints }: Group<Endpoint>| LocalityEndpoints {
            locality,
            priority,
            weight,
            endpoints,
        };
        Discovery::Endpoints(groups.map(group).collect())
    }

    /// Names to be resolved, by where what they stand for is.
    fn resolved(
        &self,
        endpoints: Vec<KnownEndpoint<'_>>,
        resolution: DnsResolution,
        policy: &Policy<'_>,
    ) -> Discovery {
        let near = endpoints.into_iter().filter_map(|known| {
            // A unix socket has no name to look up: reading refuses it here.
            let (host, port) = known.host_and_port()?;
            let endpoint = (host, port, known.weight);
            Some(Near { endpoint, locality: known.locality, labels: known.labels })
        });
        let names = self.arranged(near.collect(), policy).into_iter().flat_map(|group| {
            let Group { locality, priority, weight: locality_weight, endpoints } = group;
            endpoints.into_iter().map(move |(host, port, weight)| DnsName {
                host,
                port,
                weight,
                locality: locality.clone(),
                priority,
                locality_weight,
            })
        });
        Discovery::Dns(Dns { resolution, names: names.collect() })
    }

    fn arranged<E: Ord>(&self, near: Vec<Near<'_, E>>, policy: &Policy<'_>) -> Vec<Group<E>> {
        arranged(near, policy, &self.own_place.caller(self.proxy))
    }
}

/// What is written, with what it leaves out as the mesh has it.
fn over<'w, T: Clone>(
    written: Option<&'w T>,
    mesh: Option<&'w T>,
    laid_over: impl Fn(&T, &T) -> T,
) -> Option<Cow<'w, T>> {
    match (written, mesh) {
        (Some(written), Some(mesh)) => Some(Cow::Owned(laid_over(written, mesh))),
        (one, other) => one.or(other).map(Cow::Borrowed),
    }
}

fn original(name: &str, source: Option<SourceAddresses>, mesh: &MeshOptions) -> Cluster {
    let mut cluster = Cluster { source, ..blank(name, Discovery::OriginalDestination, mesh) };
    let connection_pool = mesh.default_traffic_policy.connection_pool.as_ref();
    apply(&Policy { connection_pool, ..Policy::default() }, None, &mut cluster);
    cluster
}

/// A cluster as the mesh has it where no DestinationRule says anything.
fn blank(name: impl Into<String>, discovery: Discovery, mesh: &MeshOptions) -> Cluster {
    let connections = Connections { tcp_idle_timeout: mesh.tcp_idle_timeout, ..Connections::default() };
    Cluster { connect_timeout: mesh.connect_timeout, connections, ..Cluster::new(name, discovery) }
}
