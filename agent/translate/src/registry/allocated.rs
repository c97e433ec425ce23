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
    /// when others come and go, except those that would have the same one: the earlier in the list has it.
    pub(super) fn new(entries: &[&'s Object<ServiceEntry>], proxy: &Proxy) -> Self {
        let mut allocated = Self::default();
        if !proxy.answers_dns {
            return allocated;
        }
        let mut taken = HashSet::new();
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

/// In 240.240.0.0/16 and 2001:2::/48, where Istio has them.
fn addresses(place: u32) -> [IpAddr; 2] {
    let [.., third, fourth] = (place / 254 * 256 + 1 + place % 254).to_be_bytes();
    let low = u16::from_be_bytes([third, fourth]);
    [Ipv4Addr::new(240, 240, third, fourth).into(), Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0xf0f0, low).into()]
}

#[cfg(test)]
mod tests {
    use super::*;

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
