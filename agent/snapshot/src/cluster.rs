//! Clusters: named groups of endpoints that requests and connections are sent to.

mod balance;
mod limits;
mod plan;
mod policy_source;
mod tunnel;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use crate::{Address, HostName, HostPattern, tls::UpstreamTls};

pub use balance::{HashFunction, HashKey, HashPolicy, LoadBalancer, SlowStart};
pub use limits::{Connections, Http2KeepAlive, Keepalive, Limits, OutlierDetection, RetryBudget};
pub use plan::{EndpointGroup, EndpointLevel, EndpointPlan};
pub use policy_source::{PolicyLevel, PolicySource, PolicySources};
pub use tunnel::{Tunnel, TunnelMethod};

/// A destination that routes name.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Istio's name: `outbound|<port>|<subset>|<host>`, `inbound|<port>||`, `PassthroughCluster`.
    pub name: String,
    /// Where the endpoints come from.
    pub discovery: Discovery,
    /// Local addresses to connect from, when the kernel should not choose.
    pub source: Option<SourceAddresses>,
    /// How long connecting to one endpoint may take.
    pub connect_timeout: Duration,
    /// The service it stands for, for metrics; `None` for generated clusters.
    pub service: Option<ServiceName>,
    /// The resource its policies were written in, `<namespace>/<name>` of a DestinationRule.
    pub destination_rule: Option<String>,
    /// Where what holds for it is written; only [`explain`](crate::explain()) speaks of it.
    pub policy_sources: PolicySources,
    /// The protocol spoken to the endpoints.
    pub protocol: UpstreamProtocol,
    /// How an endpoint is picked.
    pub load_balancer: LoadBalancer,
    /// When endpoints are left alone for a while; `None` never.
    pub outlier_detection: Option<OutlierDetection>,
    /// How much may be under way at once.
    pub limits: Limits,
    /// How long connections live and how they are kept.
    pub connections: Connections,
    /// PROXY protocol header sent first on every connection.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Where proxies at the endpoints are asked to take opaque connections.
    pub tunnel: Option<Tunnel>,
    /// TLS to the endpoints; `None` speaks clear text.
    pub tls: Option<Arc<UpstreamTls>>,
}

impl Cluster {
    /// A cluster with Istio's defaults and no service of its own.
    pub fn new(name: impl Into<String>, discovery: Discovery) -> Self {
        Self {
            name: name.into(),
            discovery,
            source: None,
            connect_timeout: Duration::from_secs(10),
            service: None,
            destination_rule: None,
            policy_sources: PolicySources::default(),
            protocol: UpstreamProtocol::default(),
            load_balancer: LoadBalancer::default(),
            outlier_detection: None,
            limits: Limits::default(),
            connections: Connections::default(),
            proxy_protocol: None,
            tunnel: None,
            tls: None,
        }
    }

    /// The places that have endpoints; none when the cluster has no list of its own.
    pub fn localities(&self) -> &[LocalityEndpoints] {
        match &self.discovery {
            Discovery::Endpoints(localities) => localities,
            Discovery::OriginalDestination | Discovery::Dns(_) | Discovery::DynamicDns(_) => &[],
        }
    }

    /// All endpoints in the order of their localities.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.localities().iter().flat_map(|locality| &locality.endpoints)
    }
}

/// The service that a cluster stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceName {
    /// Full host name.
    pub host: String,
    /// Name in its namespace; the host for what is no Kubernetes service.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The first address that clients may write instead of its name; only `explain` asks for it.
    pub address: Option<IpAddr>,
}

/// The protocol spoken to a cluster's endpoints.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2; by prior knowledge in clear text.
    Http2,
    /// The version the client speaks.
    AsDownstream,
}

/// Version of the PROXY protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// The binary header.
    V2,
}

/// How a cluster's endpoints are known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Discovery {
    /// These and no others. Translation lists only those that may be used.
    Endpoints(Vec<LocalityEndpoints>),
    /// The address the connection was going to before it was captured.
    OriginalDestination,
    /// What DNS says about some names, asked again as time goes by.
    Dns(Dns),
    /// What DNS says about the name that each request or connection asks for.
    DynamicDns(DynamicDns),
}

impl Discovery {
    /// Whether the cluster has endpoints before anything is sent to it: listed, or names that are resolved all the time.
    pub fn has_endpoints(&self) -> bool {
        matches!(self, Self::Endpoints(_) | Self::Dns(_))
    }

    /// Endpoints of one locality, alike in priority and weight.
    pub fn of_addresses(addresses: impl IntoIterator<Item = impl Into<Address>>) -> Self {
        let endpoints: Vec<_> = addresses.into_iter().map(Endpoint::at).collect();
        let localities = if endpoints.is_empty() { Vec::new() } else { vec![endpoints.into()] };
        Self::Endpoints(localities)
    }
}

/// Endpoints in one place (Envoy's `LocalityLbEndpoints`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LocalityEndpoints {
    /// Where they are.
    pub locality: Locality,
    /// 0 is asked first; the next when too few of it are healthy.
    pub priority: u32,
    /// Share of the requests among the localities of one priority; `None` divides by endpoints.
    pub weight: Option<u32>,
    /// Sorted by address.
    pub endpoints: Vec<Endpoint>,
}

impl From<Vec<Endpoint>> for LocalityEndpoints {
    fn from(endpoints: Vec<Endpoint>) -> Self {
        Self { endpoints, ..Self::default() }
    }
}

/// Region, zone and subzone; each may be empty.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Locality {
    /// Topology region.
    pub region: String,
    /// Topology zone.
    pub zone: String,
    /// Topology subzone.
    pub sub_zone: String,
}

impl Locality {
    /// Reads `region/zone/subzone`, written from the left as far as it is known.
    pub fn of_path(path: &str) -> Self {
        let mut parts = path.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { region: next(), zone: next(), sub_zone: next() }
    }
}

/// One address that serves a cluster.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Endpoint {
    /// What to connect to.
    pub address: Address,
    /// Share of the requests relative to the others, at least 1.
    pub weight: u32,
    /// Whether a proxy of the mesh stands before it (label `security.istio.io/tlsMode: istio`).
    pub speaks_mesh_tls: bool,
}

impl Endpoint {
    /// An endpoint of weight 1.
    pub fn at(address: impl Into<Address>) -> Self {
        Self { address: address.into(), weight: 1, speaks_mesh_tls: false }
    }
}

/// Names to be resolved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dns {
    /// Which of the addresses are used.
    pub resolution: DnsResolution,
    /// The names, or addresses that need no asking.
    pub names: Vec<DnsName>,
}

/// Names that are looked up when they are asked for (ServiceEntry `DYNAMIC_DNS`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DynamicDns {
    /// Those that may be; others have no endpoint.
    pub hosts: HostPattern,
    /// Port to connect to; `None` is the one that the client dialled.
    pub port: Option<u16>,
    /// Whether TLS is begun where clients speak HTTP in clear text, whose usual port is another one then.
    pub begins_tls: bool,
}

impl DynamicDns {
    /// The port to connect to for a client that dialled this one.
    pub fn port_for(&self, dialled: u16) -> u16 {
        self.port.unwrap_or(if self.begins_tls && dialled == 80 { 443 } else { dialled })
    }

    /// The name to look up for an authority or server name; `None` when it is none of the cluster's.
    pub fn name_of<'a>(&self, asked: &'a str) -> Option<HostName<'a>> {
        let host = HostName::of_authority(asked);
        (!host.as_str().is_empty() && self.hosts.covers(host.as_str())).then_some(host)
    }
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DnsResolution {
    /// All of them (ServiceEntry `DNS`).
    Strict,
    /// The first of the last answer, for new connections (ServiceEntry `DNS_ROUND_ROBIN`).
    Logical,
}

/// A name to be resolved and the port to connect to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DnsName {
    /// Host name or IP address.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// Share of the requests relative to the others, at least 1.
    pub weight: u32,
    /// Where it is.
    pub locality: Locality,
    /// 0 is asked first.
    pub priority: u32,
    /// Share of the requests among the localities of one priority; `None` divides by endpoints.
    pub locality_weight: Option<u32>,
}

/// Source addresses by family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SourceAddresses {
    /// Used towards IPv4 endpoints.
    pub v4: Ipv4Addr,
    /// Used towards IPv6 endpoints.
    pub v6: Ipv6Addr,
}

impl SourceAddresses {
    /// 127.0.0.6 and ::6, by which the interception rules know that a connection comes from the inbound side of the
    /// proxy and must reach the application (Istio's `InboundPassthroughCluster`).
    pub const INBOUND: Self =
        Self { v4: Ipv4Addr::new(127, 0, 0, 6), v6: Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6) };

    /// The address to bind before connecting to `destination`.
    pub fn towards(&self, destination: IpAddr) -> IpAddr {
        match destination {
            IpAddr::V4(_) => self.v4.into(),
            IpAddr::V6(_) => self.v6.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_that_is_begun_for_clients_of_clear_text_has_a_port_of_its_own() {
        let of = |port, begins_tls| DynamicDns { hosts: HostPattern::Any, port, begins_tls };
        assert_eq!([80, 8080].map(|dialled| of(None, false).port_for(dialled)), [80, 8080]);
        assert_eq!([80, 8080].map(|dialled| of(None, true).port_for(dialled)), [443, 8080]);
        assert_eq!(of(Some(9), true).port_for(80), 9);
    }
}
