//! What names are resolved to, and the endpoints that come of it.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use foldhash::fast::FixedState;
use snapshot::{Dns, DnsResolution, Endpoint, LocalityEndpoints};

use super::Names;

/// What each name was resolved to; nothing when it was asked for in vain.
#[derive(Debug, Default)]
pub(crate) struct Resolutions(pub(super) HashMap<Box<str>, Arc<[IpAddr]>, FixedState>);

impl Resolutions {
    #[cfg(test)]
    pub(crate) fn of(known: HashMap<Box<str>, Arc<[IpAddr]>, FixedState>) -> Self {
        Self(known)
    }

    /// Whether all of `names` were asked for, successfully or not.
    pub(crate) fn cover(&self, names: &Names) -> bool {
        names.keys().all(|name| self.0.contains_key(name))
    }

    /// Whether a cluster's names stand for what they stand for in `other`.
    pub(crate) fn agree_with(&self, other: &Self, dns: &Dns) -> bool {
        let known = |all: &Self, name: &str| all.0.get(name).map(Arc::as_ptr);
        dns.names.iter().all(|name| known(self, &name.host) == known(other, &name.host))
    }

    /// The endpoints that a cluster's names stand for now.
    pub(crate) fn localities(&self, dns: &Dns) -> Vec<LocalityEndpoints> {
        let mut localities: Vec<LocalityEndpoints> = Vec::new();
        for name in &dns.names {
            let literal = name.host.parse().ok();
            let resolved = self.0.get(name.host.as_str()).map(|addresses| &**addresses).unwrap_or_default();
            let used = match dns.resolution {
                DnsResolution::Strict => resolved.len(),
                DnsResolution::Logical => 1,
            };
            let addresses = literal.iter().chain(resolved.iter().take(used));
            let endpoints = addresses
                .map(|ip| Endpoint { weight: name.weight, ..Endpoint::at(SocketAddr::new(*ip, name.port)) });
            let known = localities
                .iter_mut()
                .find(|known| known.locality == name.locality && known.priority == name.priority);
            match known {
                Some(known) => known.endpoints.extend(endpoints),
                None => localities.push(LocalityEndpoints {
                    locality: name.locality.clone(),
                    priority: name.priority,
                    weight: name.locality_weight,
                    endpoints: endpoints.collect(),
                }),
            }
        }
        for locality in &mut localities {
            // Several names may stand for one address.
            locality.endpoints.sort();
            locality.endpoints.dedup_by(|a, b| a.address == b.address);
        }
        localities
    }
}

#[cfg(test)]
mod tests {
    use snapshot::{DnsName, Locality};

    use super::*;

    fn name(host: &str, port: u16, priority: u32) -> DnsName {
        let (host, locality) = (host.to_owned(), Locality::default());
        DnsName { host, port, weight: 1, locality, priority, locality_weight: None }
    }

    fn resolutions(known: &[(&str, &[&str])]) -> Resolutions {
        let parsed = |addresses: &[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect();
        Resolutions(known.iter().map(|(name, addresses)| ((*name).into(), parsed(addresses))).collect())
    }

    fn addresses(localities: &[LocalityEndpoints]) -> Vec<(u32, Vec<String>)> {
        let texts = |locality: &LocalityEndpoints| {
            locality.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
        };
        localities.iter().map(|locality| (locality.priority, texts(locality))).collect()
    }

    #[test]
    fn names_become_endpoints_by_priority() {
        let known = resolutions(&[("a.com", &["10.0.0.1", "10.0.0.2"]), ("b.com", &["10.0.0.2", "fd00::1"])]);
        let names = vec![
            name("a.com", 80, 0),
            name("b.com", 80, 0),
            name("b.com", 81, 1),
            name("10.9.9.9", 82, 1),
            name("unknown.com", 80, 2),
        ];
        let strict = Dns { resolution: DnsResolution::Strict, names };
        assert_eq!(
            addresses(&known.localities(&strict)),
            [
                (0, vec!["10.0.0.1:80".to_owned(), "10.0.0.2:80".into(), "[fd00::1]:80".into()]),
                (1, vec!["10.0.0.2:81".into(), "10.9.9.9:82".into(), "[fd00::1]:81".into()]),
                (2, vec![]),
            ]
        );
        let logical = Dns { resolution: DnsResolution::Logical, names: vec![name("a.com", 80, 0)] };
        assert_eq!(addresses(&known.localities(&logical)), [(0, vec!["10.0.0.1:80".to_owned()])]);
    }

    #[test]
    fn coverage_counts_names_asked_in_vain() {
        let known = resolutions(&[("a.com", &[])]);
        let named =
            |names: &[&str]| names.iter().map(|name| ((*name).into(), DnsResolution::Strict)).collect();
        assert!(known.cover(&named(&["a.com"])));
        assert!(!known.cover(&named(&["a.com", "b.com"])));
    }
}
