//! The kinds of value a setting can have, each right by construction.

use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::invalid::Invalid;
use crate::ports::PortRange;

/// How inbound connections are captured (Istio: `sidecar.istio.io/interceptionMode`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum InterceptionMode {
    /// By rewriting the destination; the proxy sees its own address and asks for the original one.
    #[default]
    Redirect,
    /// By delivering the packet unchanged to a transparent socket; the client's address is kept.
    Tproxy,
}

impl FromStr for InterceptionMode {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "" | "REDIRECT" => Ok(Self::Redirect),
            "TPROXY" => Ok(Self::Tproxy),
            _ => Err(Invalid::new("interception mode", text, "`REDIRECT` or `TPROXY`")),
        }
    }
}

/// The inbound ports to capture (Istio: `traffic.sidecar.istio.io/includeInboundPorts`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum InboundPorts {
    /// Every port but the excluded ones.
    All,
    /// These only; empty switches inbound capture off.
    Listed(Vec<PortRange>),
}

impl InboundPorts {
    /// Whether nothing inbound is captured.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Listed(ports) if ports.is_empty())
    }
}

impl FromStr for InboundPorts {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.trim() == "*" {
            return Ok(Self::All);
        }
        let expected = "1–65535, a range `A:B`, or `*` alone, for example 8080,6000:7000";
        let port = |item: &str| item.parse().map_err(|_| Invalid::new("port", item, expected));
        items(text).map(port).collect::<Result<_, _>>().map(Self::Listed)
    }
}

/// The outbound destinations to capture (Istio: `traffic.sidecar.istio.io/includeOutboundIPRanges`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OutboundRanges {
    /// Every destination but the excluded ones.
    All,
    /// These only; empty captures by port alone.
    Listed(Vec<IpNet>),
}

impl FromStr for OutboundRanges {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.trim() == "*" {
            return Ok(Self::All);
        }
        let expected = "an address with a prefix length, or `*` alone, for example 10.0.0.0/8 or fd00::/8";
        let range = |item: &str| item.parse().map_err(|_| Invalid::new("CIDR", item, expected));
        items(text).map(range).collect::<Result<_, _>>().map(Self::Listed)
    }
}

/// Reads one CIDR; a bare address, or `*`, is none.
pub(crate) fn cidr(text: &str) -> Result<IpNet, Invalid> {
    let expected = "an address with a prefix length, for example 10.0.0.0/8 or fd00::/8";
    text.parse().map_err(|_| Invalid::new("CIDR", text, expected))
}

/// Reads the IPv4 prefix whose destinations count as loopback.
pub(crate) fn loopback_prefix(text: &str) -> Result<Ipv4Net, Invalid> {
    let prefix = text.parse::<Ipv4Net>().ok();
    prefix.filter(|net| net.addr().is_loopback() && net.prefix_len() >= 8).ok_or_else(|| {
        Invalid::new("CIDR", text, "an IPv4 loopback prefix of length 8–32, for example 127.0.0.1/32")
    })
}

/// Whether IPv6 rules are wanted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ipv6Choice {
    /// When an interface other than `lo` has a usable IPv6 address.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
    /// When the first usable address of the machine is IPv6, as istio-iptables decides.
    First,
}

impl FromStr for Ipv6Choice {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "" | "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            "first" => Ok(Self::First),
            _ => Err(Invalid::new("choice", text, "`auto`, `on`, `off` or `first`")),
        }
    }
}

/// A backend of iptables chosen by the user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForcedBackend {
    /// `iptables-legacy`.
    Legacy,
    /// `iptables-nft`.
    Nft,
}

pub(crate) fn forced_backend(text: &str) -> Result<Option<ForcedBackend>, Invalid> {
    match text {
        "" => Ok(None),
        "legacy" => Ok(Some(ForcedBackend::Legacy)),
        "nft" => Ok(Some(ForcedBackend::Nft)),
        _ => Err(Invalid::new("backend", text, "`legacy`, `nft`, or nothing to choose by what is there")),
    }
}

/// Reads a packet mark; 0 would match every unmarked packet.
pub(crate) fn mark(text: &str) -> Result<u32, Invalid> {
    let wrong = || Invalid::new("mark", text, "1–4294967295, for example 1337");
    text.parse().ok().filter(|&mark| mark != 0).ok_or_else(wrong)
}

/// Reads a routing table number; 253–255 are the kernel's own tables.
pub(crate) fn route_table(text: &str) -> Result<u32, Invalid> {
    let wrong = || Invalid::new("route table", text, "1–252 or above 255, for example 133");
    text.parse().ok().filter(|table| !matches!(table, 0 | 253..=255)).ok_or_else(wrong)
}

/// The items of a list: split at commas, blanks around an item and empty items dropped.
pub(crate) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_is_only_the_whole_value() {
        assert_eq!("*".parse::<InboundPorts>().unwrap(), InboundPorts::All);
        assert_eq!("*,80".parse::<InboundPorts>().unwrap_err().item, "*");
        assert_eq!("10.0.0.0/8,*".parse::<OutboundRanges>().unwrap_err().item, "*");
        assert!(cidr("*").is_err());
    }

    #[test]
    fn lists_drop_blanks_and_empty_items() {
        assert_eq!(items(" 6000, 7000,,").collect::<Vec<_>>(), ["6000", "7000"]);
        assert!("".parse::<InboundPorts>().unwrap().is_none());
    }

    #[test]
    fn cidr_needs_a_length_and_keeps_host_bits() {
        assert_eq!(cidr("10.1.2.3/8").unwrap().to_string(), "10.1.2.3/8");
        for bad in ["10.0.0.1", "10.0.0.0/33", "fd00::/129", "host/8", "10.0.0/8"] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_prefix_is_ipv4_loopback() {
        assert!(loopback_prefix("127.0.0.0/8").is_ok());
        for bad in ["127.0.0.0/7", "10.0.0.1/32", "::1/128", "127.0.0.1", ""] {
            assert!(loopback_prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reserved_route_tables_and_mark_zero_are_refused() {
        assert!([133, 252, 256].iter().all(|table: &u32| route_table(&table.to_string()).is_ok()));
        assert!(["0", "253", "254", "255", "x", "-1"].iter().all(|table| route_table(table).is_err()));
        assert!(mark("0").is_err() && mark("4294967296").is_err() && mark("4294967295").is_ok());
    }
}
