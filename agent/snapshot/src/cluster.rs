//! Clusters: named groups of endpoints that requests and connections are sent to.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

/// A destination that routes name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cluster {
    /// Istio's name: `outbound|<port>|<subset>|<host>`, `inbound|<port>||`, `PassthroughCluster`.
    pub name: String,
    /// Where the endpoints come from.
    pub discovery: Discovery,
    /// Local addresses to connect from, when the kernel should not choose.
    pub source: Option<SourceAddresses>,
    /// How long connecting to one endpoint may take.
    pub connect_timeout: Duration,
}

/// How a cluster's endpoints are known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Discovery {
    /// These and no others. Translation lists only those that may be used.
    Endpoints(Vec<Endpoint>),
    /// The address the connection was going to before it was captured.
    OriginalDestination,
}

/// One address that serves a cluster.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Endpoint {
    /// Address and port to connect to.
    pub address: SocketAddr,
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
