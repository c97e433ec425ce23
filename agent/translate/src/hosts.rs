//! Host names: short ones made full, the names a service answers to, and where two sets of patterns meet.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    ops::Bound,
};

use snapshot::HostPattern;

use crate::proxy::Proxy;

/// The host that a name in a VirtualService of `namespace` means: a name without a dot is a service beside it, any
/// other stands as it is.
pub(crate) fn full_name(host: &str, namespace: &str, proxy: &Proxy) -> String {
    let is_short = host != "*" && !host.contains('.') && host.parse::<IpAddr>().is_err();
    if is_short { service_host(host, namespace, proxy) } else { host.to_owned() }
}

/// `<name>.<namespace>.svc.<domain>`.
pub(crate) fn service_host(name: &str, namespace: &str, proxy: &Proxy) -> String {
    [name, ".", namespace, ".svc.", &proxy.cluster_domain].concat()
}

/// `<host>:<port>`.
pub(crate) fn host_and_port(host: &str, port: u16) -> String {
    [host, ":", itoa::Buffer::new().format(port)].concat()
}

/// The names that calls from `proxy` may use for a service, the full one first.
pub(crate) fn service_domains(
    name: &str,
    namespace: &str,
    ips: &[IpAddr],
    proxy: &Proxy,
) -> Vec<HostPattern> {
    let is_own = namespace == proxy.namespace;
    let mut domains = Vec::with_capacity(3 + usize::from(is_own) + ips.len());
    domains.push(service_host(name, namespace, proxy));
    if is_own {
        domains.push(name.to_owned());
    }
    domains.push([name, ".", namespace].concat());
    domains.push([name, ".", namespace, ".svc"].concat());
    domains.extend(ips.iter().map(|ip| ip_host(*ip)));
    domains.iter_mut().for_each(|domain| domain.make_ascii_lowercase());
    domains.into_iter().map(HostPattern::Exact).collect()
}

/// Whether a host, `*.suffix` or `*` covers all of another.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    match wide.strip_prefix('*') {
        Some(suffix) => narrow.strip_prefix('*').unwrap_or(narrow).ends_with(suffix),
        None => wide == narrow,
    }
}

/// The pattern of a host as a resource writes it; IPv6 addresses get the brackets they have in a request.
pub(crate) fn pattern(host: &str) -> Option<HostPattern> {
    match host.parse::<Ipv6Addr>() {
        Ok(ip) => Some(HostPattern::Exact(ip_host(ip.into()))),
        Err(_) => host.strip_suffix('.').unwrap_or(host).parse().ok(),
    }
}

/// An address as the host of a request.
pub(crate) fn ip_host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Host patterns with a value each, searched for those that overlap another pattern.
///
/// Kept by reversed name, so that everything below a suffix is one range: gateways may have thousands of hosts.
#[derive(Debug)]
pub(crate) struct HostIndex<T> {
    exact: BTreeMap<String, Vec<T>>,
    suffix: BTreeMap<String, Vec<T>>,
    any: Vec<T>,
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        Self { exact: BTreeMap::new(), suffix: BTreeMap::new(), any: Vec::new() }
    }
}

impl<T: Copy> HostIndex<T> {
    pub(crate) fn insert(&mut self, pattern: &HostPattern, value: T) {
        match pattern {
            HostPattern::Exact(name) => self.exact.entry(reversed(name)).or_default().push(value),
            HostPattern::Suffix(suffix) => self.suffix.entry(reversed(suffix)).or_default().push(value),
            HostPattern::Any => self.any.push(value),
        }
    }

    /// The values of all patterns that overlap `pattern`, each with the narrower of the two.
    pub(crate) fn meeting(&self, pattern: &HostPattern) -> Vec<(HostPattern, T)> {
        let mut found = Vec::new();
        let mut same = |values: Option<&Vec<T>>| {
            found.extend(values.into_iter().flatten().map(|value| (pattern.clone(), *value)));
        };
        same(Some(&self.any));
        let (HostPattern::Exact(name) | HostPattern::Suffix(name)) = pattern else {
            self.all_narrower(&mut found);
            return found;
        };
        let is_suffix = matches!(pattern, HostPattern::Suffix(_));
        let dots = name.match_indices('.').map(|(at, _)| at).filter(|at| *at > 0 || is_suffix);
        // Most meshes have no wildcard names, and turning names around costs more than looking.
        if !self.suffix.is_empty() {
            dots.for_each(|at| same(self.suffix.get(&reversed(&name[at..]))));
        }
        if is_suffix {
            self.below(&reversed(name), &mut found);
        } else if !self.exact.is_empty() {
            same(self.exact.get(&reversed(name)));
        }
        found
    }

    fn all_narrower(&self, found: &mut Vec<(HostPattern, T)>) {
        for (name, values) in &self.exact {
            found.extend(values.iter().map(|value| (HostPattern::Exact(reversed(name)), *value)));
        }
        for (suffix, values) in &self.suffix {
            found.extend(values.iter().map(|value| (HostPattern::Suffix(reversed(suffix)), *value)));
        }
    }

    /// Patterns strictly below a suffix.
    fn below(&self, reversed_suffix: &str, found: &mut Vec<(HostPattern, T)>) {
        for (name, values) in under(&self.exact, reversed_suffix) {
            found.extend(values.iter().map(|value| (HostPattern::Exact(reversed(name)), *value)));
        }
        for (suffix, values) in under(&self.suffix, reversed_suffix) {
            found.extend(values.iter().map(|value| (HostPattern::Suffix(reversed(suffix)), *value)));
        }
    }
}

fn under<'m, T>(map: &'m BTreeMap<String, T>, prefix: &'m str) -> impl Iterator<Item = (&'m String, &'m T)> {
    let from = (Bound::Excluded(prefix), Bound::Unbounded);
    map.range::<str, _>(from).take_while(move |(name, _)| name.starts_with(prefix))
}

fn reversed(name: &str) -> String {
    name.chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProxyKind;

    fn meeting(patterns: &[&str], host: &str) -> Vec<String> {
        let mut index = HostIndex::default();
        for (at, text) in patterns.iter().enumerate() {
            index.insert(&pattern(text).unwrap(), at);
        }
        let mut found: Vec<_> = index.meeting(&pattern(host).unwrap()).into_iter().collect();
        found.sort_by_key(|(_, at)| *at);
        found.into_iter().map(|(narrower, at)| format!("{}={narrower}", patterns[at])).collect()
    }

    #[test]
    fn the_narrower_of_two_patterns_is_kept() {
        let all = ["*", "*.foo.com", "a.foo.com", "*.a.foo.com", "foo.com", "b.com"];
        assert_eq!(meeting(&all, "a.foo.com"), ["*=a.foo.com", "*.foo.com=a.foo.com", "a.foo.com=a.foo.com"]);
        assert_eq!(
            meeting(&all, "*.foo.com"),
            ["*=*.foo.com", "*.foo.com=*.foo.com", "a.foo.com=a.foo.com", "*.a.foo.com=*.a.foo.com"]
        );
        assert_eq!(meeting(&all, "*").len(), 6);
        assert_eq!(
            meeting(&all, "*.a.foo.com"),
            ["*=*.a.foo.com", "*.foo.com=*.a.foo.com", "*.a.foo.com=*.a.foo.com"]
        );
        assert_eq!(meeting(&all, "c.org"), ["*=c.org"]);
    }

    #[test]
    fn short_names_become_services_beside_the_resource() {
        let proxy = Proxy::new(ProxyKind::Sidecar, "prod");
        assert_eq!(full_name("reviews", "test", &proxy), "reviews.test.svc.cluster.local");
        for host in ["reviews.prod", "*", "10.0.0.1", "fd00::1", "*.com"] {
            assert_eq!(full_name(host, "test", &proxy), host);
        }
    }

    #[test]
    fn the_bare_name_is_known_in_its_own_namespace_only() {
        let proxy = Proxy::new(ProxyKind::Sidecar, "prod");
        let shown = |namespace: &str| {
            let ips = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
            let domains = service_domains("reviews", namespace, &ips, &proxy);
            domains.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let full = "reviews.prod.svc.cluster.local";
        assert_eq!(
            shown("prod"),
            [full, "reviews", "reviews.prod", "reviews.prod.svc", "10.0.0.1", "[fd00::1]"]
        );
        assert!(!shown("test").contains(&"reviews".to_owned()));
    }
}
