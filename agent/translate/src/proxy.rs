//! Who the snapshot is for.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use resources::{
    CaptureMode, ClientTls, ConnectionSettings, DefaultTrafficPolicy, ForwardClientCertDetails,
    InboundTrafficPolicy, Labels, MeshDefaults, MeshTls, OutboundTrafficPolicy, PathNormalization,
    ProxyHeaders, Retries,
};
use snapshot::{Locality, OwnPorts};

/// The proxy whose snapshot is made, and the workload it stands beside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proxy {
    /// Sidecar or gateway.
    pub kind: ProxyKind,
    /// Namespace of the workload.
    pub namespace: String,
    /// Name of the workload.
    pub name: String,
    /// Addresses of the workload.
    pub ips: Vec<IpAddr>,
    /// Labels of the workload.
    pub labels: Labels,
    /// Where the workload runs; `None` takes it from its labels, its Pod or its Node, when they tell.
    pub locality: Option<Locality>,
    /// Node that the workload runs on, if it was told (`ISTIO_META_NODE_NAME`); its Pod may tell, too.
    pub node: Option<String>,
    /// The cluster of Kubernetes it runs in, for metrics (`ISTIO_META_CLUSTER_ID`).
    pub cluster_id: String,
    /// Last part of every service name: `cluster.local`.
    pub cluster_domain: String,
    /// Where captured connections arrive; `None` when nothing is captured (`interceptionMode: NONE`), so that only the
    /// listeners of a Sidecar resource are served, each at a socket of its own.
    pub ports: Option<CapturePorts>,
    /// Where the proxy itself listens besides, each with the flag that says so: no server of a Gateway can be there, and
    /// no endpoint.
    pub own_ports: Vec<(SocketAddr, &'static str)>,
    /// Whether the workload's questions about names come to the proxy (`ISTIO_META_DNS_CAPTURE`).
    pub answers_dns: bool,
    /// Whether ServiceEntries without addresses get one each then (`ISTIO_META_DNS_AUTO_ALLOCATE`).
    pub allocates_addresses: bool,
    /// Where the workload's own certificate is, if it has one.
    pub identity: Option<WorkloadIdentity>,
    /// Whether nobody knows which mutual TLS is asked of clients, because what says so cannot be read: none comes in
    /// clear text then.
    pub is_protection_unknown: bool,
    /// Settings of the whole mesh.
    pub mesh: MeshOptions,
}

/// Files with the certificate by which the workload is known in the mesh, as Istio, cert-manager and SPIRE mount them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WorkloadIdentity {
    /// Path of the certificate chain, PEM.
    pub certificate: String,
    /// Path of the private key, PEM.
    pub key: String,
    /// Path of the mesh's CA certificates, PEM.
    pub roots: String,
}

impl WorkloadIdentity {
    /// The files in a directory: `cert-chain.pem`, `key.pem` and `root-cert.pem`.
    pub fn in_directory(directory: &str) -> Self {
        let file = |name: &str| format!("{}/{name}", directory.trim_end_matches('/'));
        Self { certificate: file("cert-chain.pem"), key: file("key.pem"), roots: file("root-cert.pem") }
    }

    /// The paths of all its files.
    pub fn paths(&self) -> [&str; 3] {
        [&self.certificate, &self.key, &self.roots]
    }
}

impl Proxy {
    /// A proxy with nothing but a kind and a namespace.
    pub fn new(kind: ProxyKind, namespace: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: String::new(),
            ips: Vec::new(),
            labels: Labels::new(),
            locality: None,
            node: None,
            cluster_id: "Kubernetes".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            ports: Some(CapturePorts::default()),
            own_ports: Vec::new(),
            answers_dns: false,
            allocates_addresses: false,
            identity: None,
            is_protection_unknown: false,
            mesh: MeshOptions::default(),
        }
    }

    /// Where no endpoint is.
    pub(crate) fn refused_endpoints(&self) -> OwnPorts {
        OwnPorts::new(self.own_ports.iter().map(|(own, _)| *own))
    }

    /// The flag that says where the proxy itself listens, if that is at this port.
    pub(crate) fn own_port(&self, port: u16) -> Option<&'static str> {
        self.own_ports.iter().find(|(own, _)| own.port() == port).map(|(_, flag)| *flag)
    }

    /// Whether a listener of a Sidecar resource is reached at a socket of its own, not by redirection.
    pub(crate) fn is_dialled(&self, mode: CaptureMode) -> bool {
        match mode {
            CaptureMode::None => true,
            CaptureMode::Default => self.ports.is_none(),
            CaptureMode::Iptables => false,
        }
    }

    /// The cluster domain in the suffix that short names get, `<namespace>.svc.cluster.local` (Istio's `--domain`).
    pub fn cluster_domain_of(suffix: &str) -> &str {
        suffix.split_once(".svc.").map_or(suffix, |(_, domain)| domain).trim_end_matches('.')
    }
}

/// What a proxy does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyKind {
    /// Stands beside a workload and serves its captured connections.
    Sidecar,
    /// Listens at the edge of the mesh (`proxy router`).
    Router,
}

/// Ports that captured connections are redirected to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CapturePorts {
    /// The application's own connections.
    pub outbound: u16,
    /// Connections to the application.
    pub inbound: u16,
}

impl Default for CapturePorts {
    fn default() -> Self {
        Self { outbound: 15001, inbound: 15006 }
    }
}

/// The part of Istio's MeshConfig that translation reads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MeshOptions {
    /// What happens to connections and requests for unknown destinations.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// How hosts are spoken to whose names are looked up (`outboundTrafficPolicy.tls`); `None` is in clear text.
    pub outbound_tls: Option<ClientTls>,
    /// Where calls to the workload go.
    pub inbound_traffic_policy: InboundTrafficPolicy,
    /// What is done to paths before they are matched.
    pub path_normalization: PathNormalization,
    /// How requests are retried where no rule says it (`defaultHttpRetryPolicy`); `None` is Istio's default.
    pub default_retries: Option<Retries>,
    /// What DestinationRules are laid over (`defaultTrafficPolicy`).
    pub default_traffic_policy: DefaultTrafficPolicy,
    /// What resources lay their own over.
    pub defaults: MeshDefaults,
    /// Whether those retries leave out requests that may not be made twice (`RETRY_ONLY_IDEMPOTENT`).
    pub default_retries_spare_others: bool,
    /// How long connecting to an endpoint may take (`connectTimeout`).
    pub connect_timeout: Duration,
    /// How long opaque connections may be silent where no DestinationRule says it (`ISTIO_META_IDLE_TIMEOUT`); `None` for
    /// ever.
    pub tcp_idle_timeout: Option<Duration>,
    /// Proxies before gateways that are believed (`numTrustedProxies`).
    pub trusted_proxies: u32,
    /// Whether there is an access log where no Telemetry asks for one (`accessLogFile`).
    pub access_log: bool,
    /// Namespace whose DestinationRules and Sidecar are the last resort (`rootNamespace`).
    pub root_namespace: String,
    /// Whether a Gateway selects only proxies of its own namespace (`PILOT_SCOPE_GATEWAY_TO_NAMESPACE`).
    pub scope_gateways_to_namespace: bool,
    /// Whether routes of a gateway's host are tried by how narrow their paths are, and not as they are written
    /// (`POSTERN_LONGEST_PREFIX_FIRST`).
    pub narrowest_route_first: bool,
    /// Whether `-shadow` is appended to the host of mirrored requests, as before Istio had a switch for it
    /// (`DISABLE_SHADOW_HOST_SUFFIX=false`).
    pub mirrors_mark_host: bool,
    /// The trust domain of the mesh: what its SPIFFE identities begin with (`trustDomain`).
    pub trust_domain: String,
    /// Further trust domains whose identities count as those of the mesh (`trustDomainAliases`).
    pub trust_domain_aliases: Vec<String>,
    /// Whether pods that speak the mesh's mutual TLS are spoken to in it without a rule (`enableAutoMtls`).
    pub auto_mtls: bool,
    /// Versions and algorithms of the mesh's mutual TLS (`meshMTLS`).
    pub mesh_mtls: MeshTls,
    /// Versions and algorithms of other TLS, where servers say nothing (`tlsDefaults`).
    pub tls_defaults: MeshTls,
    /// What gateways tell of clients' certificates (`forwardClientCertDetails`); `SANITIZE_SET` when nothing is said.
    pub gateway_forward_client_cert: Option<ForwardClientCertDetails>,
    /// Fields that the proxy itself puts into heads (`proxyHeaders`). Sidecars tell their workload of clients'
    /// certificates by `APPEND_FORWARD` when nothing is said.
    pub proxy_headers: ProxyHeaders,
    /// What clients may do, and for how long (`connectionSettings`).
    pub connection_settings: ConnectionSettings,
}

impl Default for MeshOptions {
    fn default() -> Self {
        Self {
            outbound_traffic_policy: OutboundTrafficPolicy::AllowAny,
            outbound_tls: None,
            inbound_traffic_policy: InboundTrafficPolicy::default(),
            path_normalization: PathNormalization::default(),
            default_retries: None,
            default_retries_spare_others: false,
            default_traffic_policy: DefaultTrafficPolicy::default(),
            defaults: MeshDefaults::default(),
            connect_timeout: Duration::from_secs(10),
            tcp_idle_timeout: Some(Duration::from_secs(3600)),
            trusted_proxies: 0,
            access_log: true,
            root_namespace: "istio-system".to_owned(),
            scope_gateways_to_namespace: false,
            narrowest_route_first: false,
            mirrors_mark_host: false,
            trust_domain: "cluster.local".to_owned(),
            trust_domain_aliases: Vec::new(),
            auto_mtls: true,
            mesh_mtls: MeshTls::default(),
            tls_defaults: MeshTls::default(),
            gateway_forward_client_cert: None,
            proxy_headers: ProxyHeaders::default(),
            connection_settings: ConnectionSettings::default(),
        }
    }
}

impl MeshOptions {
    /// The trust domains that peers may be of, each once, the mesh's own first.
    pub(crate) fn trust_domains(&self) -> Vec<&str> {
        let mut domains = vec![self.trust_domain.as_str()];
        for alias in &self.trust_domain_aliases {
            if !domains.contains(&alias.as_str()) {
                domains.push(alias);
            }
        }
        domains
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_domain_follows_svc() {
        assert_eq!(Proxy::cluster_domain_of("prod.svc.cluster.local"), "cluster.local");
        assert_eq!(Proxy::cluster_domain_of("prod.svc.corp.example."), "corp.example");
        assert_eq!(Proxy::cluster_domain_of("cluster.local"), "cluster.local");
    }
}
