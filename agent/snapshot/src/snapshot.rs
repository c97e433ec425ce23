//! A snapshot, and the draft it is made of.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use foldhash::fast::FixedState;

use crate::{
    AccessLogging, Address, Application, Binding, Cluster, ConnectionFacts, Discovery, FilterChain,
    ForeignGateway, HiddenServices, HttpSettings, HttpSettingsId, Inspection, Listener, MetricRules,
    NameTable, NetworkFilter, OwnPorts, PeerAuthentication, RouteConfig, TcpProxy, TlsContext, TlsContextId,
    Transport, UnservedRules, Workloads, chain_index::ChainIndex,
};

/// Position of a listener in [`Snapshot::listeners`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ListenerId(pub u32);

/// Position of a route configuration in [`Snapshot::route_configs`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RouteConfigId(pub u32);

/// Position of a cluster in [`Snapshot::clusters`]. Valid within one snapshot only; across snapshots a cluster is
/// known by its name.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClusterId(pub u32);

/// Everything a snapshot holds, before its indexes are made.
///
/// The order of `listeners`, `route_configs`, `clusters` and `tls_contexts` is the order in which the dump prints them; translation
/// keeps it sorted so that equal resources give equal snapshots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// All listeners: with a socket of their own, capturing, and captured.
    pub listeners: Vec<Listener>,
    /// All route configurations, referred to by [`RouteConfigId`].
    pub route_configs: Vec<RouteConfig>,
    /// All clusters, referred to by [`ClusterId`].
    pub clusters: Vec<Cluster>,
    /// All ways to terminate TLS, referred to by [`TlsContextId`].
    pub tls_contexts: Vec<TlsContext>,
    /// How HTTP connections are treated, referred to by [`HttpSettingsId`]; empty is the default alone.
    pub http_settings: Vec<Arc<HttpSettings>>,
    /// Gateways that are for other proxies; only [`explain`](crate::explain()) speaks of them.
    pub foreign_gateways: Vec<ForeignGateway>,
    /// VirtualServices that a gateway takes no rules from; only [`explain`](crate::explain()) speaks of them.
    pub unserved_rules: Vec<UnservedRules>,
    /// Services that a Sidecar keeps from the workload; only [`explain`](crate::explain()) speaks of them.
    pub hidden_services: Option<HiddenServices>,
    /// Which mutual TLS is asked of clients of a sidecar; only [`explain`](crate::explain()) speaks of it here.
    pub peer_authentication: Option<PeerAuthentication>,
    /// The workloads of the mesh by their addresses; only metrics speak of them.
    pub workloads: Workloads,
    /// What is written into the access log.
    pub access_logging: AccessLogging,
    /// Which metrics are kept.
    pub metric_rules: MetricRules,
    /// Proxies before gateways that are believed; only [`explain`](crate::explain()) asks for them here.
    pub trusted_proxies: u32,
    /// Where the proxy itself listens, which is no endpoint.
    pub own_ports: OwnPorts,
    /// What names of services stand for; empty where nobody asks the proxy.
    pub names: NameTable,
}

impl Draft {
    /// Makes the draft immutable and searchable.
    ///
    /// When two listeners claim the same address the first one has it: translation decides conflicts before it comes
    /// here.
    pub fn finish(mut self) -> Snapshot {
        if self.http_settings.is_empty() {
            self.http_settings.push(Arc::default());
        }
        let mut by_address = AddressMap::<Address>::default();
        let mut captured_exact = AddressMap::<SocketAddr>::default();
        let mut captured_port = HashMap::default();
        for (id, listener) in (0..).map(ListenerId).zip(&self.listeners) {
            if let Some(address) = listener.binding.bound() {
                by_address.entry(address).or_insert(id);
            }
            match listener.binding {
                Binding::Socket(_) | Binding::Dialled(_) | Binding::Unix(_) => {}
                Binding::Captured(address) if address.ip().is_unspecified() => {
                    _ = captured_port.entry(address.port()).or_insert(id);
                }
                Binding::Captured(address) => _ = captured_exact.entry(address).or_insert(id),
            }
        }
        let index = |l: &Listener| ChainIndex::new(&l.filter_chains, l.default_filter_chain.is_some());
        let chains = self.listeners.iter().map(index).collect();
        let tells_clients_apart = self.listeners.iter().any(|listener| self.tells_clients_apart(listener));
        Snapshot { draft: self, chains, by_address, captured_exact, captured_port, tells_clients_apart }
    }
}

impl Draft {
    fn tells_clients_apart(&self, listener: &Listener) -> bool {
        let contexts = listener.filter_chains.iter().filter_map(|chain| chain.tls);
        let mut asked = contexts.map(|id| &self.tls_contexts[id.0 as usize].clients);
        asked.next().is_some_and(|first| asked.any(|other| other != first))
    }
}

/// An immutable, complete description of what the proxy serves.
#[derive(Clone, Debug)]
pub struct Snapshot {
    draft: Draft,
    /// By the position of the listener.
    chains: Vec<ChainIndex>,
    by_address: AddressMap<Address>,
    captured_exact: AddressMap<SocketAddr>,
    captured_port: HashMap<u16, ListenerId, FixedState>,
    /// Whether server names of one listener ask clients for different certificates.
    tells_clients_apart: bool,
}

type AddressMap<A> = HashMap<A, ListenerId, FixedState>;

impl Snapshot {
    /// All listeners, in dump order.
    pub fn listeners(&self) -> &[Listener] {
        &self.draft.listeners
    }

    /// All route configurations, in dump order.
    pub fn route_configs(&self) -> &[RouteConfig] {
        &self.draft.route_configs
    }

    /// All clusters, in dump order.
    pub fn clusters(&self) -> &[Cluster] {
        &self.draft.clusters
    }

    /// VirtualServices that a gateway takes no rules from.
    pub fn unserved_rules(&self) -> &[UnservedRules] {
        &self.draft.unserved_rules
    }

    /// Services that a Sidecar keeps from the workload.
    pub fn hidden_services(&self) -> Option<&HiddenServices> {
        self.draft.hidden_services.as_ref()
    }

    /// Gateways that are for other proxies.
    pub fn foreign_gateways(&self) -> &[ForeignGateway] {
        &self.draft.foreign_gateways
    }

    /// Which mutual TLS is asked of clients of a sidecar, and by whom; the filter chains are what does it.
    pub fn peer_authentication(&self) -> Option<&PeerAuthentication> {
        self.draft.peer_authentication.as_ref()
    }

    /// The workloads of the mesh by their addresses.
    pub fn workloads(&self) -> &Workloads {
        &self.draft.workloads
    }

    /// Proxies before gateways that are believed (`numTrustedProxies`).
    pub fn trusted_proxies(&self) -> u32 {
        self.draft.trusted_proxies
    }

    /// Where the proxy itself listens, which is no endpoint.
    pub fn own_ports(&self) -> &OwnPorts {
        &self.draft.own_ports
    }

    /// What is written into the access log.
    pub fn access_logging(&self) -> &AccessLogging {
        &self.draft.access_logging
    }

    /// Which metrics are kept, and under which labels.
    pub fn metric_rules(&self) -> &MetricRules {
        &self.draft.metric_rules
    }

    /// What names of services stand for; empty where nobody asks the proxy.
    pub fn names(&self) -> &NameTable {
        &self.draft.names
    }

    /// All ways to terminate TLS, in dump order.
    pub fn tls_contexts(&self) -> &[TlsContext] {
        &self.draft.tls_contexts
    }

    /// The listener with this handle; handles come from this snapshot, so it exists.
    pub fn listener(&self, id: ListenerId) -> &Listener {
        &self.draft.listeners[id.0 as usize]
    }

    /// The route configuration with this handle.
    pub fn route_config(&self, id: RouteConfigId) -> &RouteConfig {
        &self.draft.route_configs[id.0 as usize]
    }

    /// The cluster with this handle.
    pub fn cluster(&self, id: ClusterId) -> &Cluster {
        &self.draft.clusters[id.0 as usize]
    }

    /// The TLS context with this handle.
    pub fn tls_context(&self, id: TlsContextId) -> &TlsContext {
        &self.draft.tls_contexts[id.0 as usize]
    }

    /// The settings with this handle.
    pub fn http_settings(&self, id: HttpSettingsId) -> &Arc<HttpSettings> {
        &self.draft.http_settings[usize::from(id.0)]
    }

    /// Whether server names of one listener ask clients for different certificates, so that it is worth looking
    /// whether a request is [misdirected](Self::is_misdirected).
    pub fn tells_clients_apart(&self) -> bool {
        self.tells_clients_apart
    }

    /// The listener whose own socket is bound to `address`.
    pub fn bound_listener(&self, address: &Address) -> Option<ListenerId> {
        self.by_address.get(address).copied()
    }

    /// The listener for a connection that the outbound socket captured on its way to `original_destination`.
    ///
    /// Exact address and port first, then the port on any address (`0.0.0.0_<port>`), as Envoy chooses with
    /// `use_original_dst`; `None` means the capturing listener serves it itself.
    pub fn captured_listener(&self, original_destination: SocketAddr) -> Option<ListenerId> {
        let exact = self.captured_exact.get(&original_destination);
        exact.or_else(|| self.captured_port.get(&original_destination.port())).copied()
    }

    /// Returns the filter chain that serves a connection, or `None` when the listener has none for it.
    ///
    /// Follows Envoy's order: destination port, server name, transport protocol, application protocol. Each step keeps
    /// the most specific matches and drops the rest, without going back: a chain dropped for its port is never revived
    /// by a matching server name.
    pub fn select_filter_chain(
        &self,
        connection: &ConnectionFacts<'_>,
        listener: ListenerId,
    ) -> Option<&FilterChain> {
        let chains = &self.chains[listener.0 as usize];
        let listener = self.listener(listener);
        let chosen = chains.select(connection, &listener.filter_chains);
        chosen.map(|at| &listener.filter_chains[at]).or(listener.default_filter_chain.as_ref())
    }

    /// Whether a server may be waited for that speaks before its client, which would be sent to `proxy`.
    ///
    /// Not at the address of a service whose port is declared to be HTTP: opaque bytes go on to that very address then,
    /// where nobody need be. To dial it in vain leaves connection tracking with an entry that was never redirected, and
    /// the application may be given its port next.
    pub fn server_may_speak_first(
        &self,
        proxy: &TcpProxy,
        destination: SocketAddr,
        listener: ListenerId,
    ) -> bool {
        let goes_on = |id: ClusterId| self.cluster(id).discovery == Discovery::OriginalDestination;
        let of_http = ConnectionFacts {
            destination,
            application: Application::Http,
            server_name: None,
            transport: Transport::RawBuffer,
        };
        let is_http_service = || match self.select_filter_chain(&of_http, listener).map(|chain| &chain.filter)
        {
            Some(NetworkFilter::Http(http)) => {
                self.route_config(http.route_config).has_address(destination.ip())
            }
            _ => false,
        };
        !(proxy.clusters.targets().iter().filter_map(|target| target.id).any(goes_on) && is_http_service())
    }

    /// What has to be read of a connection to `destination_port` before its filter chain is known.
    pub fn inspection(&self, listener: ListenerId, destination_port: u16) -> Inspection {
        self.chains[listener.0 as usize].inspection(destination_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Direction;

    fn captured(name: &str, address: &str) -> Listener {
        Listener {
            name: name.to_owned(),
            direction: Direction::Outbound,
            binding: Binding::Captured(address.parse().unwrap()),
            filter_chains: vec![],
            default_filter_chain: None,
        }
    }

    #[test]
    fn exact_address_wins_over_wildcard_port() {
        let draft = Draft {
            listeners: vec![captured("0.0.0.0_80", "0.0.0.0:80"), captured("10.0.0.1_80", "10.0.0.1:80")],
            ..Draft::default()
        };
        let snapshot = draft.finish();
        let name = |to: &str| {
            snapshot.captured_listener(to.parse().unwrap()).map(|id| snapshot.listener(id).name.as_str())
        };
        assert_eq!(name("10.0.0.1:80"), Some("10.0.0.1_80"));
        assert_eq!(name("10.0.0.2:80"), Some("0.0.0.0_80"));
        assert_eq!(name("[fd00::2]:80"), Some("0.0.0.0_80"));
        assert_eq!(name("10.0.0.1:81"), None);
    }
}
