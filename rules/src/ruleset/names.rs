//! Names of netfilter: address families, tables and chains.

use std::borrow::Cow;
use std::fmt;

use ipnet::IpNet;

/// An address family of netfilter.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, IPv4 first, as everything is emitted.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Whether `net` is of this family.
    pub fn has(self, net: &IpNet) -> bool {
        matches!((self, net), (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_)))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A table of netfilter, in the order documents list them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum TableName {
    /// Packet filtering.
    Filter,
    /// Packet alteration.
    Mangle,
    /// Address translation; sees the first packet of a connection only.
    Nat,
    /// Before connection tracking.
    Raw,
    /// Mandatory access control.
    Security,
}

impl TableName {
    pub(crate) const ALL: [(Self, &'static str); 5] = [
        (Self::Filter, "filter"),
        (Self::Mangle, "mangle"),
        (Self::Nat, "nat"),
        (Self::Raw, "raw"),
        (Self::Security, "security"),
    ];

    /// The table with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, text)| *text == name).map(|(table, _)| *table)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(table, _)| table == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// The name of a chain.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChainName(Cow<'static, str>);

impl ChainName {
    /// Built in: packets that come in.
    pub const PREROUTING: Self = Self::constant("PREROUTING");
    /// Built in: packets that this machine sends.
    pub const OUTPUT: Self = Self::constant("OUTPUT");
    /// Inbound traffic: what to capture and what to leave alone.
    pub const INBOUND: Self = Self::constant("ISTIO_INBOUND");
    /// Outbound traffic: what to capture and what to leave alone.
    pub const OUTBOUND: Self = Self::constant("ISTIO_OUTPUT");
    /// To the outbound port of the proxy.
    pub const REDIRECT: Self = Self::constant("ISTIO_REDIRECT");
    /// To the inbound port of the proxy.
    pub const IN_REDIRECT: Self = Self::constant("ISTIO_IN_REDIRECT");
    /// DNS queries.
    pub const OUTBOUND_DNS: Self = Self::constant("ISTIO_OUTPUT_DNS");
    /// Packets of connections that TPROXY has captured already.
    pub const DIVERT: Self = Self::constant("ISTIO_DIVERT");
    /// To the transparent socket of the proxy.
    pub const TPROXY: Self = Self::constant("ISTIO_TPROXY");
    /// Packets that belong to no connection.
    pub const DROP: Self = Self::constant("ISTIO_DROP");

    /// The chain with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(Cow::Owned(name.into()))
    }

    const fn constant(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the kernel itself calls this chain.
    pub fn is_built_in(&self) -> bool {
        matches!(self.as_str(), "PREROUTING" | "INPUT" | "FORWARD" | "OUTPUT" | "POSTROUTING")
    }

    /// Whether the chain is ours by its name, whoever made it.
    pub fn is_own(&self) -> bool {
        self.0.starts_with("ISTIO_")
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
