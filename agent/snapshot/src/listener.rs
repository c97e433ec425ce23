//! Listeners: where connections come in.

use std::net::SocketAddr;

use crate::{Address, UnixPath, filter_chain::FilterChain};

/// Where connections come in and what serves them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listener {
    /// Istio's name: `0.0.0.0_8080`, `virtualOutbound`, `10.0.0.7_3306`.
    pub name: String,
    /// Which side of the workload it serves; decides the headers added.
    pub direction: Direction,
    /// How connections reach it.
    pub binding: Binding,
    /// Chosen among by [`crate::Snapshot::select_filter_chain`].
    pub filter_chains: Vec<FilterChain>,
    /// Serves what no other chain accepts; without it such connections are closed (NR).
    pub default_filter_chain: Option<FilterChain>,
}

/// Side of the workload that a listener serves.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Direction {
    /// The application's own calls (15001).
    Outbound,
    /// Calls to the application (15006).
    Inbound,
    /// Traffic entering the mesh at a gateway.
    Gateway,
}

impl Direction {
    /// Whether what a client says of its scheme (`x-forwarded-proto`) counts. At gateways it does for proxies before
    /// them that are believed (`numTrustedProxies`).
    pub fn believes_scheme(self, has_trusted_proxies: bool) -> bool {
        self != Self::Gateway || has_trusted_proxies
    }
}

/// How connections reach a listener.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Binding {
    /// A socket of its own, of a gateway or for captured connections. An unspecified IPv4 address also takes IPv6 connections where the kernel has IPv6.
    Socket(SocketAddr),
    /// A socket of its own that a sidecar's workload or its callers dial themselves (Sidecar `captureMode: NONE`).
    Dialled(SocketAddr),
    /// A unix socket of its own, of a gateway or that a sidecar's workload connects to (Sidecar `bind: unix://…`).
    Unix(UnixPath),
    /// No socket: connections captured by the outbound listener whose original destination is this address. An
    /// unspecified address stands for every address of either family.
    Captured(SocketAddr),
}

impl Binding {
    /// What the socket is bound to; `None` without one.
    pub fn bound(&self) -> Option<Address> {
        match self {
            Self::Socket(at) | Self::Dialled(at) => Some((*at).into()),
            Self::Unix(path) => Some(path.clone().into()),
            Self::Captured(_) => None,
        }
    }

    /// Whether clients of a sidecar mean the proxy itself here, and nobody they were on their way to.
    pub fn is_dialled(&self) -> bool {
        matches!(self, Self::Dialled(_) | Self::Unix(_))
    }

    /// The IP address and port that it is for, if it is for one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(at) | Self::Dialled(at) | Self::Captured(at) => Some(*at),
            Self::Unix(_) => None,
        }
    }
}
