//! Ports, port ranges, and the one list of ports, marks and identities the product uses by default.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use crate::invalid::Invalid;

/// A TCP or UDP port, 1–65535.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Port(NonZeroU16);

impl Port {
    /// Captured outbound connections arrive here (Istio: `meshConfig.proxyListenPort`).
    pub const OUTBOUND: Self = Self::constant(15001);
    /// Captured inbound connections arrive here (Istio: `meshConfig.proxyInboundListenPort`).
    pub const INBOUND: Self = Self::constant(15006);
    /// The inbound tunnel (HBONE); never redirected in REDIRECT mode.
    pub const TUNNEL: Self = Self::constant(15008);
    /// Captured DNS queries arrive here.
    pub const DNS: Self = Self::constant(15053);
    /// The agent's health checks and merged metrics.
    pub const AGENT: Self = Self::constant(15020);
    /// The proxy's readiness.
    pub const STATUS: Self = Self::constant(15021);
    /// The proxy's own metrics.
    pub const STATS: Self = Self::constant(15090);
    /// The destination port the validator dials.
    pub const PROBE: Self = Self::constant(15002);
    /// Where resolvers listen (RFC 1035, section 4.2).
    pub const RESOLVER: Self = Self::constant(53);

    /// The port with this number, or `None` for 0.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// The port as a number.
    pub fn number(self) -> u16 {
        self.0.get()
    }

    const fn constant(number: u16) -> Self {
        match NonZeroU16::new(number) {
            Some(port) => Self(port),
            None => panic!("a constant port is not 0"),
        }
    }
}

impl FromStr for Port {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        parse_number(text).ok_or_else(|| Invalid::new("port", text, "1–65535, for example 15001"))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A port or an inclusive range of ports, as netfilter's `--dport` takes it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PortRange {
    first: Port,
    last: Port,
}

impl PortRange {
    /// The ports from `first` to `last`; none when that is backwards.
    pub fn new(first: Port, last: Port) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The lowest port.
    pub fn first(self) -> Port {
        self.first
    }

    /// The highest port.
    pub fn last(self) -> Port {
        self.last
    }

    /// Whether `port` lies in the range.
    pub fn contains(self, port: u16) -> bool {
        (self.first.number()..=self.last.number()).contains(&port)
    }
}

impl From<Port> for PortRange {
    fn from(port: Port) -> Self {
        Self { first: port, last: port }
    }
}

impl FromStr for PortRange {
    type Err = Invalid;

    /// Reads `N`, `A:B` or `A-B`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (first, last) = text.split_once([':', '-']).unwrap_or((text, text));
        match (parse_number(first), parse_number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(Invalid::new("port", text, "1–65535 or a range `A:B`, for example 8080 or 6000:7000")),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return self.first.fmt(f);
        }
        write!(f, "{}:{}", self.first, self.last)
    }
}

/// The uid and gid of the proxy when nothing else is said.
pub const PROXY_ID: u32 = 1337;
/// The mark of packets captured by TPROXY.
pub const TPROXY_MARK: u32 = 1337;
/// The mark of the proxy's own connections to its pod in TPROXY mode: they are inbound traffic, unlike the application's.
pub const PROXY_LOOP_MARK: u32 = 1338;
/// The policy routing table that delivers TPROXY packets locally.
pub const TPROXY_ROUTE_TABLE: u32 = 133;
/// Conntrack zone of DNS between the proxy and the resolver.
pub const ZONE_PROXY_RESOLVER: u16 = 1;
/// Conntrack zone of DNS between the application and the proxy.
pub const ZONE_APPLICATION_PROXY: u16 = 2;

/// Decimal digits only: no sign, no blanks, as netfilter's own parser would have it.
fn parse_number(text: &str) -> Option<Port> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().and_then(Port::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_one_to_65535() {
        assert_eq!("1".parse::<Port>().unwrap().number(), 1);
        assert_eq!("65535".parse::<Port>().unwrap().number(), 65535);
        for bad in ["0", "65536", "", "+80", "8o", " 80", "-1", "70000"] {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
    }

    #[test]
    fn range_is_printed_with_a_colon() {
        assert_eq!("6000-7000".parse::<PortRange>().unwrap().to_string(), "6000:7000");
        assert_eq!("6000:7000".parse::<PortRange>().unwrap().to_string(), "6000:7000");
        assert_eq!("80:80".parse::<PortRange>().unwrap().to_string(), "80");
    }

    #[test]
    fn range_backwards_or_half_open_is_refused() {
        for bad in ["7000:6000", ":80", "80:", "1:2:3", "0:80"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn range_includes_both_ends() {
        let range: PortRange = "10:12".parse().unwrap();
        assert_eq!([9, 10, 12, 13].map(|port| range.contains(port)), [false, true, true, false]);
    }
}
