//! Addresses for ServiceEntries that are written without any (`ISTIO_META_DNS_AUTO_ALLOCATE`): the workload asks its own
//! proxy what their hosts stand for, so that each may have an address that means nobody else.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use resources::{Object, Resolution, ServiceEntry};

use super::Map;
use crate::proxy::Proxy;

/// Addresses of hosts that have none of their own.
#[derive(Debug, Default)]
pub(super) struct Allocated<'s>(Map<&'s str, Vec<IpAddr>>);

impl<'s> Allocated<'s> {
    /// Those that the control plane has given, and one for each other host if the proxy is to. A host keeps its address
    /// when others come and go, except those that would have the same one: one that is written down has it, else the
    /// earlier in the list.
    pub(super) fn new(entries: &[&'s Object<ServiceEntry>], proxy: &Proxy) -> Self {
        let mut allocated = Self::default();
        if !proxy.answers_dns {
            return allocated;
        }
        let mut taken: HashSet<u32> = entries.iter().flat_map(|entry| places_of(&entry.spec)).collect();
        for entry in entries.iter().filter(|entry| may_have_one(entry)) {
            for host in entry.spec.hosts.iter().filter(|host| !host.starts_with('*')) {
                if allocated.0.contains_key(host.as_str()) {
                    continue;
                }
                let given = entry.spec.allocated.iter().filter(|(of, _)| of == host).map(|(_, ip)| *ip);
                let mut ips: Vec<IpAddr> = given.filter(|ip| is_for(proxy, *ip)).collect();
                if ips.is_empty() && proxy.allocates_addresses {
                    let place = place(host, &mut taken);
                    ips.extend(place.into_iter().flat_map(addresses).filter(|ip| is_for(proxy, *ip)));
                }
                if !ips.is_empty() {
                    allocated.0.insert(host, ips);
                }
            }
        }
        allocated
    }

    pub(super) fn of(&self, host: &str) -> &[IpAddr] {
        self.0.get(host).map_or(&[], Vec::as_slice)
    }
}

/// Connections to an entry without a resolution go where they were going, which so must be a real address.
fn may_have_one(entry: &Object<ServiceEntry>) -> bool {
    let resolves = !matches!(entry.spec.resolution, Resolution::None | Resolution::DynamicDns);
    let is_wanted = entry.meta.labels.get(OPT_OUT).is_none_or(|wanted| wanted != "false");
    resolves && is_wanted && entry.spec.addresses.is_empty()
}

const OPT_OUT: &str = "networking.istio.io/enable-autoallocate-ip";

/// Whether the workload has addresses of that family; IPv4 where that is not known.
fn is_for(proxy: &Proxy, ip: IpAddr) -> bool {
    match proxy.ips.as_slice() {
        [] => ip.is_ipv4(),
        own => own.iter().any(|own| own.is_ipv4() == ip.is_ipv4()),
    }
}

/// Addresses in each network: no part of them is 0 or 255 at the end.
const PLACES: u32 = 256 * 254;

/// A place by the host's name, or the next that is free; none when all are taken.
fn place(host: &str, taken: &mut HashSet<u32>) -> Option<u32> {
    // FNV-1a: the same whenever and wherever it is computed.
    let hash =
        host.bytes().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (0..PLACES).map(|step| (hash % PLACES + step) % PLACES).find(|place| taken.insert(*place))
}

/// Places of the addresses that an entry has, whoever gave them. Networks are left out: one of everything would leave
/// nobody a place.
fn places_of(entry: &ServiceEntry) -> impl Iterator<Item = u32> {
    let written = entry.addresses.iter().filter(|net| net.prefix_len() == net.max_prefix_len());
    let given = entry.allocated.iter().map(|(_, ip)| *ip);
    written.map(|net| net.addr()).chain(given).filter_map(place_of)
}

/// The place that [`addresses`] makes that address of.
fn place_of(ip: IpAddr) -> Option<u32> {
    let (third, fourth) = match ip {
        IpAddr::V4(ip) => (ip.octets()[2], ip.octets()[3]),
        IpAddr::V6(ip) => (ip.octets()[14], ip.octets()[15]),
    };
    let place = (u32::from(third) * 254 + u32::from(fourth)).checked_sub(1)?;
    (place < PLACES && addresses(place).contains(&ip)).then_some(place)
}

/// In 240.240.0.0/16 and 2001:2::/48, where Istio has them.
fn addresses(place: u32) -> [IpAddr; 2] {
    let [.., third, fourth] = (place / 254 * 256 + 1 + place % 254).to_be_bytes();
    let low = u16::from_be_bytes([third, fourth]);
    [Ipv4Addr::new(240, 240, third, fourth).into(), Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0xf0f0, low).into()]
}

#[cfg(test)]
mod tests {
    use resources::{Files, ReadDefaults};

    use super::*;
    use crate::proxy::ProxyKind;

    /// `later.example.com` would have 240.240.164.175 by its name.
    fn of_later(other: &str) -> Vec<String> {
        let entry = |name: &str, resolution: &str, more: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: prod}}\n\
                 spec:\n  hosts: [{name}.example.com]\n  resolution: {resolution}\n  \
                 ports: [{{number: 80, name: http, protocol: HTTP}}]\n{more}---\n"
            )
        };
        let mut files = Files::new(ReadDefaults::default());
        files.replace_file("test.yaml", &(entry("later", "DNS", "") + &entry("other", "STATIC", other)));
        let (resources, findings) = files.resources();
        let proxy =
            Proxy { answers_dns: true, allocates_addresses: true, ..Proxy::new(ProxyKind::Sidecar, "prod") };
        let entries: Vec<_> = resources.service_entries().iter().map(AsRef::as_ref).collect();
        assert_eq!(entries.len(), 2, "{findings:?}");
        let allocated = Allocated::new(&entries, &proxy);
        allocated.of("later.example.com").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_that_are_written_down_are_given_to_nobody_else() {
        assert_eq!(of_later(""), ["240.240.164.175"]);
        for other in [
            "  addresses: [240.240.164.175]\n",
            "  addresses: ['2001:2::f0f0:a4af']\n",
            "status: {addresses: [{host: other.example.com, value: 240.240.164.175}]}\n",
        ] {
            assert_eq!(of_later(other), ["240.240.164.176"], "{other}");
        }
        assert_eq!(of_later("  addresses: [240.240.0.0/16]\n"), ["240.240.164.175"]);
    }

    #[test]
    fn every_address_has_its_place() {
        for place in 0..PLACES {
            assert_eq!(addresses(place).map(place_of), [Some(place); 2]);
        }
        for none in ["240.240.0.0", "240.240.1.255", "240.241.0.1", "10.0.0.1", "2001:2::7"] {
            assert_eq!(place_of(none.parse().unwrap()), None, "{none}");
        }
    }

    #[test]
    fn hosts_keep_their_addresses_and_share_none() {
        let mut taken = HashSet::new();
        let first = place("a.example.com", &mut taken).unwrap();
        assert_eq!(place("a.example.com", &mut HashSet::new()), Some(first));
        assert_eq!(place("a.example.com", &mut taken), Some((first + 1) % PLACES));
        let all: HashSet<_> = (0..PLACES).map(addresses).collect();
        assert_eq!(all.len(), PLACES as usize);
        assert!(all.iter().all(|[v4, _]| v4.to_string().starts_with("240.240.")));
        let ends: Vec<_> = [0, PLACES - 1].map(|place| addresses(place)[0].to_string()).into();
        assert_eq!(ends, ["240.240.0.1", "240.240.255.254"]);
    }

    #[test]
    fn nobody_has_one_when_all_are_taken() {
        let mut taken: HashSet<u32> = (0..PLACES).collect();
        assert_eq!(place("a.example.com", &mut taken), None);
    }
}
