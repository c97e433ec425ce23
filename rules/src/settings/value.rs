//! The kinds of value a setting can have, each right by construction.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

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

/// The name of a network interface; a trailing `+` stands for any ending, as in iptables.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Interface(String);

impl Interface {
    /// The loopback interface.
    pub fn loopback() -> Self {
        Self("lo".to_owned())
    }

    /// Whether `name` is this interface, or begins as this wildcard does.
    pub fn matches(&self, name: &str) -> bool {
        self.0.strip_suffix('+').map_or(self.0 == name, |prefix| name.starts_with(prefix))
    }

    /// The name as iptables takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Interface {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let stem = text.strip_suffix('+').unwrap_or(text);
        let good = text.len() <= 15
            && stem.starts_with(|first: char| first.is_ascii_alphabetic())
            && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if good {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new(
            "interface",
            text,
            "1–15 characters, a letter first, then letters, digits, `.`, `_`, `-`, and at most one `+` at the end, for example eth0 or veth+",
        ))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user or a group, by number or by name. The kernel knows numbers only.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Owner {
    /// A uid or gid.
    Id(u32),
    /// A name that still has to be looked up.
    Name(String),
}

impl FromStr for Owner {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong =
            || Invalid::new("user or group", text, "a number 0–4294967294 or a name, for example 1337");
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            // The highest number is the kernel's "no such id".
            return text.parse().ok().filter(|&id| id != u32::MAX).map(Self::Id).ok_or_else(wrong);
        }
        let named = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && text.len() <= 32
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-$".contains(&byte));
        if named { Ok(Self::Name(text.to_owned())) } else { Err(wrong()) }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Which groups' outbound traffic is captured (`ISTIO_OUTBOUND_OWNER_GROUPS`, `…_EXCLUDE`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OwnerGroups {
    /// Every group but these.
    AllBut(Vec<Owner>),
    /// These groups only.
    Only(Vec<Owner>),
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

/// Reads a boolean as Go's `strconv.ParseBool` does.
///
/// # Errors
/// The text is none of its words.
pub fn switch(text: &str) -> Result<bool, Invalid> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Invalid::new("boolean", text, "`true` or `false`")),
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

/// Reads a duration as Go's `time.ParseDuration` does, but for signs and zero, which no setting here can mean.
///
/// # Errors
/// The text is no such duration.
pub fn duration(text: &str) -> Result<Duration, Invalid> {
    let wrong =
        || Invalid::new("duration", text, "a time above zero with its unit, for example 500ms or 1m30s");
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let (unit, after) = unit(&rest[digits..]).ok_or_else(wrong)?;
        seconds += number * unit;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero()).ok_or_else(wrong)
}

/// The unit at the start of `text`, in seconds, and what follows it.
fn unit(text: &str) -> Option<(f64, &str)> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    UNITS.iter().find_map(|(name, seconds)| Some((*seconds, text.strip_prefix(name)?)))
}

/// The items of a list: split at commas, blanks around an item and empty items dropped.
pub(crate) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        assert_eq!(duration("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1.5h").unwrap(), Duration::from_secs(5400));
        for bad in ["", "5", "s", "-5s", "0s", "5 s", "5sec", "1e400s", "1..5s", "99999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn interface_names_follow_the_kernels_limit() {
        for good in ["eth0", "net1", "veth+", "a.b_c-d", "abcdefghijklmno"] {
            assert!(good.parse::<Interface>().is_ok(), "{good}");
        }
        for bad in ["", "+", "0eth", "eth 0", "eth++", "abcdefghijklmnop", "et+h", "-i", "éth0"] {
            assert!(bad.parse::<Interface>().is_err(), "{bad}");
        }
    }

    #[test]
    fn interface_wildcard_matches_any_ending() {
        let any: Interface = "veth+".parse().unwrap();
        assert!(any.matches("veth") && any.matches("veth12"));
        assert!(!any.matches("eth0"));
        assert!(!Interface::loopback().matches("lo2"));
    }

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

    #[test]
    fn booleans_are_gos_words() {
        assert!(["1", "t", "T", "true", "TRUE", "True"].iter().all(|word| switch(word).unwrap()));
        assert!(["0", "f", "F", "false", "FALSE", "False"].iter().all(|word| !switch(word).unwrap()));
        assert!(["", "yes", "tRue", "2"].iter().all(|word| switch(word).is_err()));
    }

    #[test]
    fn owners_are_numbers_or_names() {
        assert_eq!("1337".parse::<Owner>().unwrap(), Owner::Id(1337));
        assert_eq!("istio-proxy".parse::<Owner>().unwrap(), Owner::Name("istio-proxy".to_owned()));
        for bad in ["", "4294967295", "12ab", "-1", "a b", "*"] {
            assert!(bad.parse::<Owner>().is_err(), "{bad}");
        }
    }
}
