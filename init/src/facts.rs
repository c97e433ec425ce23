//! What the rules depend on besides the settings: addresses, resolvers, users and groups of this machine.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use rules::build::{Facts, dns_is_active};
use rules::ports::PROXY_ID;
use rules::program::Ipv6;
use rules::settings::{DnsCapture, Ipv6Choice, Options, Settings};

use crate::failure::Failure;

/// Finds out what the settings leave open. With explicit choices nothing on the machine is looked at.
pub(crate) fn discover(settings: &Settings, options: &Options) -> Result<Facts> {
    let ipv6 = ipv6(settings.ipv6, addresses)?;
    let dns_servers = dns_servers(settings, options)?;
    let facts = Facts { ipv6, dns_servers };
    if settings.dns != DnsCapture::Off && !dns_is_active(settings, &facts) {
        tracing::warn!(
            resolv_conf = %options.resolv_conf.display(),
            "no DNS server found: DNS is not captured; name servers with --dns-servers, or use --capture-all-dns"
        );
    }
    Ok(facts)
}

/// Turns user and group names into numbers by the files of this machine, and fills in the default user.
pub(crate) fn resolve_owners(settings: &mut Settings, options: &Options) -> Result<(), Failure> {
    if settings.proxy_uids.is_empty() {
        settings.fill_owners(id("/etc/passwd", &options.envoy_user).unwrap_or(PROXY_ID));
    }
    settings.fill_owners(PROXY_ID);
    settings.resolve_owners(|name| id("/etc/passwd", name), |name| id("/etc/group", name))?;
    Ok(())
}

/// An address of an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address {
    /// The interface.
    pub(crate) interface: String,
    /// Whether the interface is the loopback interface.
    pub(crate) on_loopback: bool,
    /// The address.
    pub(crate) address: IpAddr,
}

impl Address {
    /// Whether others can reach it.
    pub(crate) fn is_usable(&self) -> bool {
        match self.address {
            IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
            IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
        }
    }
}

fn ipv6(choice: Ipv6Choice, addresses: impl Fn() -> Result<Vec<Address>>) -> Result<Ipv6> {
    match choice {
        Ipv6Choice::On => Ok(Ipv6::On),
        Ipv6Choice::Off => Ok(Ipv6::Off("--ipv6 off".to_owned())),
        Ipv6Choice::Auto => Ok(by_any_address(&addresses()?)),
        Ipv6Choice::First => by_first_address(&addresses()?),
    }
}

fn by_any_address(addresses: &[Address]) -> Ipv6 {
    let mut elsewhere = addresses.iter().filter(|found| !found.on_loopback && found.is_usable());
    if elsewhere.any(|found| found.address.is_ipv6()) {
        return Ipv6::On;
    }
    Ipv6::Off("no interface but lo has an IPv6 address".to_owned())
}

/// As istio-iptables decides: by the first address the kernel lists, `lo` included.
fn by_first_address(addresses: &[Address]) -> Result<Ipv6> {
    let first = addresses.iter().find(|found| found.is_usable());
    let first = first.ok_or_else(|| {
        anyhow!(
            "no address found with --ipv6 first: expected an interface with an address, or --ipv6 on or off"
        )
    })?;
    if first.address.is_ipv6() {
        return Ok(Ipv6::On);
    }
    Ok(Ipv6::Off(format!("the first address, {}, is IPv4", first.address)))
}

/// The addresses of all interfaces, in the kernel's order.
pub(crate) fn addresses() -> Result<Vec<Address>> {
    let interfaces = getifaddrs().context("cannot list the addresses of the network interfaces")?;
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let storage = interface.address?;
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let v6 = || storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
        let on_loopback = interface.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        Some(Address { interface: interface.interface_name, on_loopback, address: v4.or_else(v6)? })
    };
    Ok(interfaces.filter_map(address).collect())
}

fn dns_servers(settings: &Settings, options: &Options) -> Result<Vec<IpAddr>> {
    if settings.dns != DnsCapture::Listed {
        return Ok(Vec::new());
    }
    if let Some(servers) = &options.dns_servers {
        return Ok(servers.clone());
    }
    let path = &options.resolv_conf;
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read the DNS servers from {}: name them with --dns-servers instead", path.display())
    })?;
    Ok(name_servers(&text))
}

/// The `nameserver` lines of a resolv.conf, in order; a zone suffix is cut, as netfilter knows none.
fn name_servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        let address = words.next()?.split('%').next()?;
        let parsed = address.parse().ok();
        if parsed.is_none() {
            tracing::warn!(
                address,
                "resolv.conf names a server that is no address: its queries are not captured"
            );
        }
        parsed
    };
    text.lines().filter_map(server).collect()
}

/// The number of a user or group, by a file like /etc/passwd or /etc/group: both hold it in the third field.
fn id(database: &str, name: &str) -> Option<u32> {
    let text = std::fs::read_to_string(Path::new(database)).ok()?;
    id_in(&text, name)
}

fn id_in(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

/// The address with which the proxy hands an inbound IPv6 connection to the application, to be added to `lo`.
pub(crate) fn passthrough_v6() -> Ipv6Addr {
    match rules::build::passthrough_source(rules::ruleset::Family::V6) {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => address.to_ipv6_mapped(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(choice: Ipv6Choice, list: &[(&str, bool)]) -> Result<Ipv6> {
        let found = |(address, on_loopback): &(&str, bool)| Address {
            interface: if *on_loopback { "lo" } else { "eth0" }.to_owned(),
            address: address.parse().unwrap(),
            on_loopback: *on_loopback,
        };
        ipv6(choice, || Ok(list.iter().map(found).collect()))
    }

    fn is_on(choice: Ipv6Choice, list: &[(&str, bool)]) -> bool {
        decide(choice, list).unwrap() == Ipv6::On
    }

    const DUAL: [(&str, bool); 5] =
        [("127.0.0.1", true), ("10.77.0.2", false), ("::1", true), ("fe80::1", false), ("fd00::2", false)];

    #[test]
    fn auto_notices_ipv6_behind_ipv4() {
        assert!(is_on(Ipv6Choice::Auto, &DUAL));
        assert!(!is_on(Ipv6Choice::First, &DUAL));
    }

    #[test]
    fn an_address_left_on_loopback_is_no_ipv6() {
        let left = [("127.0.0.1", true), ("::1", true), ("::6", true), ("fe80::1", false)];
        assert!(!is_on(Ipv6Choice::Auto, &left));
        assert!(is_on(Ipv6Choice::First, &left));
    }

    #[test]
    fn no_address_fails_only_when_the_first_decides() {
        assert!(decide(Ipv6Choice::First, &[("127.0.0.1", true), ("169.254.0.1", false)]).is_err());
        assert!(!is_on(Ipv6Choice::Auto, &[]));
    }

    #[test]
    fn told_choices_look_at_nothing() {
        let nobody = || -> Result<Vec<Address>> { panic!("looked at the interfaces") };
        assert_eq!(ipv6(Ipv6Choice::On, nobody).unwrap(), Ipv6::On);
        assert!(matches!(ipv6(Ipv6Choice::Off, nobody).unwrap(), Ipv6::Off(_)));
    }

    #[test]
    fn name_servers_are_read_in_order_without_zone() {
        let text = "# comment\nsearch a.b\nnameserver 10.96.0.10\n nameserver\tfe80::1%eth0 # x\nnameserver bad\nnameserver\n";
        let expected: Vec<IpAddr> = vec!["10.96.0.10".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(name_servers(text), expected);
    }

    #[test]
    fn ids_are_in_the_third_field() {
        let text = "root:x:0:0::/root:/bin/sh\nistio-proxy:x:1337:1337::/:\nbroken\nodd:x:n:1\n";
        assert_eq!(id_in(text, "istio-proxy"), Some(1337));
        assert_eq!(id_in(text, "odd"), None);
        assert_eq!(id_in(text, "broken"), None);
        assert_eq!(id_in(text, "istio"), None);
    }
}
