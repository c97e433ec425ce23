//! Gathers listeners and route tables and puts them in their final order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use resources::{ConnectionSettings, ForwardClientCertDetails};
use snapshot::{
    AccessLogging, Binding, Direction, Draft, FilterChain, FilterChainMatch, ForeignGateway,
    ForwardClientCert, HiddenServices, HttpConnections, Listener, MetricRules, NameTable, NetworkFilter,
    OwnPorts, PathNormalization, PeerAuthentication, RouteConfig, RouteConfigId, Snapshot, TcpProxy,
    TlsContext, TlsContextId, UnservedRules, WeightedClusters, Workloads,
};

use crate::{
    clusters::Clusters,
    http_settings::{SettingsTable, path_normalization},
    proxy::MeshOptions,
};

/// A snapshot in the making. Route tables get their final handles at the end, when all are known.
#[derive(Debug, Default)]
pub(crate) struct DraftBuilder {
    /// What all HTTP chains do to paths.
    path_normalization: PathNormalization,
    settings: SettingsTable,
    connection_settings: ConnectionSettings,
    /// What is told of clients' certificates by sidecars to their workload, and by gateways.
    inbound_certificates: ForwardClientCert,
    gateway_certificates: ForwardClientCert,
    listeners: Vec<Listener>,
    tables: Vec<RouteConfig>,
    tls_contexts: Vec<TlsContext>,
    foreign_gateways: Vec<ForeignGateway>,
    unserved_rules: Vec<UnservedRules>,
    /// Services that a Sidecar keeps from the workload.
    pub(crate) hidden_services: Option<HiddenServices>,
    /// What is written into the access log.
    pub(crate) access_logging: AccessLogging,
    /// Which metrics are kept.
    pub(crate) metric_rules: MetricRules,
    /// Which mutual TLS is asked of clients of a sidecar.
    pub(crate) peer_authentication: Option<PeerAuthentication>,
    /// Proxies before gateways that are believed.
    trusted_proxies: u32,
    /// Where the proxy itself listens, which is no endpoint.
    pub(crate) own_ports: OwnPorts,
}

impl DraftBuilder {
    pub(crate) fn new(mesh: &MeshOptions) -> Self {
        let path_normalization = match mesh.path_normalization {
            resources::PathNormalization::None => PathNormalization::None,
            resources::PathNormalization::Base => PathNormalization::Base,
            resources::PathNormalization::MergeSlashes => PathNormalization::MergeSlashes,
            resources::PathNormalization::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
        };
        let inbound = mesh.proxy_headers.forwarded_client_cert;
        let inbound = inbound.unwrap_or(ForwardClientCertDetails::AppendForward);
        let gateway = mesh.gateway_forward_client_cert.unwrap_or(ForwardClientCertDetails::SanitizeSet);
        let (inbound_certificates, gateway_certificates) = (forward(inbound), forward(gateway));
        Self {
            path_normalization,
            settings: SettingsTable::new(mesh),
            connection_settings: mesh.connection_settings,
            inbound_certificates,
            gateway_certificates,
            trusted_proxies: mesh.trusted_proxies,
            ..Self::default()
        }
    }

    pub(crate) fn add_foreign_gateways(&mut self, gateways: impl Iterator<Item = ForeignGateway>) {
        self.foreign_gateways.extend(gateways);
    }

    pub(crate) fn add_unserved_rules(&mut self, rules: Vec<UnservedRules>) {
        self.unserved_rules.extend(rules);
    }

    pub(crate) fn add_listener(&mut self, listener: Listener) {
        self.listeners.push(listener);
    }

    /// Adds a route table and returns the filter that serves it. Table names are distinct.
    pub(crate) fn add_table(&mut self, table: RouteConfig) -> NetworkFilter {
        let id = RouteConfigId(u32::try_from(self.tables.len()).unwrap_or(u32::MAX));
        self.tables.push(table);
        let path_normalization = self.path_normalization;
        NetworkFilter::Http(HttpConnections { path_normalization, ..HttpConnections::new(id) })
    }

    /// Adds a TLS context. Their names are distinct.
    pub(crate) fn add_tls_context(&mut self, context: TlsContext) -> TlsContextId {
        let id = TlsContextId(u32::try_from(self.tls_contexts.len()).unwrap_or(u32::MAX));
        self.tls_contexts.push(context);
        id
    }

    /// Sorts everything by name and makes the snapshot.
    pub(crate) fn finish(mut self, clusters: Clusters, workloads: Workloads, names: NameTable) -> Snapshot {
        let (route_configs, table_place) = sorted(self.tables, RouteConfig::name);
        let (tls_contexts, tls_place) = sorted(self.tls_contexts, |context| &context.name);
        for listener in &mut self.listeners {
            let forward_client_cert = match listener.direction {
                Direction::Inbound => self.inbound_certificates,
                Direction::Gateway => self.gateway_certificates,
                Direction::Outbound => ForwardClientCert::Sanitize,
            };
            for chain in listener.filter_chains.iter_mut().chain(&mut listener.default_filter_chain) {
                if let NetworkFilter::Http(http) = &mut chain.filter {
                    http.forward_client_cert = forward_client_cert;
                    http.settings = self.settings.id(listener.direction);
                    (http.path_normalization, http.escaped_slashes) = path_normalization(
                        http.path_normalization,
                        &self.connection_settings,
                        listener.direction,
                    );
                    http.route_config = RouteConfigId(table_place[http.route_config.0 as usize]);
                }
                if let Some(tls) = &mut chain.tls {
                    *tls = TlsContextId(tls_place[tls.0 as usize]);
                }
            }
        }
        self.listeners.sort_by(|a, b| a.name.cmp(&b.name));
        Draft {
            listeners: self.listeners,
            route_configs,
            clusters: clusters.list,
            tls_contexts,
            http_settings: self.settings.finish(),
            foreign_gateways: self.foreign_gateways,
            unserved_rules: self.unserved_rules,
            hidden_services: self.hidden_services,
            peer_authentication: self.peer_authentication,
            workloads,
            names,
            access_logging: self.access_logging,
            metric_rules: self.metric_rules,
            trusted_proxies: self.trusted_proxies,
            own_ports: self.own_ports,
        }
        .finish()
    }
}

fn forward(written: ForwardClientCertDetails) -> ForwardClientCert {
    match written {
        ForwardClientCertDetails::Sanitize => ForwardClientCert::Sanitize,
        ForwardClientCertDetails::ForwardOnly => ForwardClientCert::ForwardOnly,
        ForwardClientCertDetails::AppendForward => ForwardClientCert::AppendForward,
        ForwardClientCertDetails::SanitizeSet => ForwardClientCert::SanitizeSet,
        ForwardClientCertDetails::AlwaysForwardOnly => ForwardClientCert::AlwaysForwardOnly,
    }
}

/// The items by name, and for each old position the new one.
fn sorted<T>(items: Vec<T>, name: impl Fn(&T) -> &str) -> (Vec<T>, Vec<u32>) {
    let mut numbered: Vec<(usize, T)> = items.into_iter().enumerate().collect();
    numbered.sort_by(|(_, a), (_, b)| name(a).cmp(name(b)));
    let mut place = vec![0; numbered.len()];
    for (new, (old, _)) in (0..).zip(&numbered) {
        place[*old] = new;
    }
    (numbered.into_iter().map(|(_, item)| item).collect(), place)
}

/// A chain without conditions.
pub(crate) fn chain(name: impl Into<String>, filter: NetworkFilter) -> FilterChain {
    FilterChain { name: name.into(), matches: FilterChainMatch::default(), tls: None, filter }
}

/// Bytes to these clusters.
/// The filter of a port whose protocol is GRPC-WEB, if it is one.
pub(crate) fn bridging_grpc_web(mut filter: NetworkFilter, is_wanted: bool) -> NetworkFilter {
    if let NetworkFilter::Http(http) = &mut filter {
        http.grpc_web = is_wanted;
    }
    filter
}

pub(crate) fn tcp(clusters: WeightedClusters) -> NetworkFilter {
    NetworkFilter::Tcp(TcpProxy { clusters })
}

/// A listener with a socket of its own: of the capture port itself, or a gateway's.
pub(crate) fn socket_listener(name: impl Into<String>, direction: Direction, binding: Binding) -> Listener {
    listener(name.into(), direction, binding)
}

/// A listener that is dialled by its address.
pub(crate) fn dialled_listener(direction: Direction, address: SocketAddr) -> Listener {
    listener(address_name(address), direction, Binding::Dialled(address))
}

/// A listener for captured connections to an address.
pub(crate) fn captured_listener(address: SocketAddr) -> Listener {
    listener(address_name(address), Direction::Outbound, Binding::Captured(address))
}

/// `<ip>_<port>`, the name Istio gives a listener.
pub(crate) fn address_name(address: SocketAddr) -> String {
    format!("{}_{}", address.ip(), address.port())
}

/// A port on every address.
pub(crate) fn wildcard(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

fn listener(name: String, direction: Direction, binding: Binding) -> Listener {
    Listener { name, direction, binding, filter_chains: Vec::new(), default_filter_chain: None }
}
