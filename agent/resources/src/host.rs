//! What counts as a host name in a resource.

use std::{collections::HashSet, net::IpAddr};

/// Whether `text` is a name of dot-separated labels (RFC 1123 with Istio's allowance for `_`), case ignored.
pub(crate) fn is_dns_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    !text.is_empty() && text.len() <= LONGEST_NAME && text.split('.').all(is_label)
}

/// Whether `text` may name a resource of Kubernetes (RFC 1123 subdomain, whose labels may be of any length there).
pub(crate) fn is_resource_name(text: &str) -> bool {
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last())
    };
    text.len() <= LONGEST_NAME && text.split('.').all(is_part)
}

/// Of a DNS name, and so of resources.
pub(crate) const LONGEST_NAME: usize = 253;

/// Of a label of a DNS name.
pub(crate) const LONGEST_LABEL: usize = 63;

/// Whether `text` is a single label of letters, digits, `-` and `_`, at most 63 long.
pub(crate) fn is_label(text: &str) -> bool {
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    let bytes = text.as_bytes();
    bytes.len() <= LONGEST_LABEL && bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

/// Whether a host is a name without a dot, which only means something within a namespace.
pub(crate) fn is_short(host: &str) -> bool {
    !host.contains(['.', '*']) && host.parse::<IpAddr>().is_err()
}

/// Whether `text` is digits and dots, and so nobody's name: a mistyped address.
pub(crate) fn looks_like_address(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// Whether `text` is an address, or a range of them such as `10.0.0.0/8`.
pub(crate) fn is_subnet(text: &str) -> bool {
    let (address, length) = text.split_once('/').unwrap_or((text, "0"));
    let longest = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= longest)
}

/// Whether `text` may name a namespace.
pub(crate) fn is_namespace(text: &str) -> bool {
    is_label(text) && !text.contains('_') && !text.contains(char::is_uppercase)
}

/// What a wildcard-capable host field may hold: a name, `*.suffix`, `*`, or an IP address.
///
/// # Errors
///
/// A clause telling what is wrong with the host.
pub(crate) fn check_wildcard_host(host: &str) -> Result<(), &'static str> {
    if host == "*" || is_dns_name(host) || host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    match host.strip_prefix('*') {
        Some(rest) if rest.strip_prefix('.').is_some_and(is_dns_name) => Ok(()),
        Some(rest) if !rest.contains('*') => Err("is a partial wildcard"),
        _ if host.contains('*') => Err("has a wildcard that is not at its beginning"),
        _ => Err("is not a host name"),
    }
}

/// Whether one of two host patterns (1.6 in Istio's terms: a name, `*.suffix` or `*`) covers all of the other.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    covers(a, b) || covers(b, a)
}

/// Whether one of the patterns, names and `*.suffix` and `*`, covers all of `host`, itself a name or `*.suffix`.
pub(crate) fn is_covered(host: &str, patterns: &HashSet<&str>) -> bool {
    let rest = host.strip_prefix('*').unwrap_or(host);
    let mut suffixes = rest.match_indices('.').map(|(dot, _)| &rest[dot..]);
    patterns.contains(host)
        || patterns.contains("*")
        || suffixes.any(|suffix| patterns.contains(format!("*{suffix}").as_str()))
}

fn covers(a: &str, b: &str) -> bool {
    match a.strip_prefix('*') {
        Some(suffix) => b.strip_prefix('*').unwrap_or(b).ends_with(suffix),
        None => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_wildcards_and_addresses_are_hosts() {
        for host in ["a.com", "*.a.com", "*", "192.168.0.62", "fd00::1", "a_b.c", "reviews", "a.com."] {
            assert_eq!(check_wildcard_host(host), Ok(()), "{host}");
        }
    }

    #[test]
    fn malformed_hosts_are_told_apart() {
        assert_eq!(check_wildcard_host("*bar.com"), Err("is a partial wildcard"));
        assert_eq!(check_wildcard_host("foo.*"), Err("has a wildcard that is not at its beginning"));
        assert_eq!(check_wildcard_host("*.foo.*"), Err("has a wildcard that is not at its beginning"));
        for host in ["", "a..b", "-a.com", "a b", "a/b", "a:80", "http://a"] {
            assert_eq!(check_wildcard_host(host), Err("is not a host name"), "{host}");
        }
    }

    #[test]
    fn covering_follows_suffixes() {
        let is_covered =
            |host: &str, patterns: &[&str]| is_covered(host, &patterns.iter().copied().collect());
        for (host, pattern) in [
            ("a.com", "a.com"),
            ("a.b.com", "*.b.com"),
            ("x.a.b.com", "*.b.com"),
            ("*.b.com", "*.com"),
            ("a", "*"),
        ] {
            assert!(is_covered(host, &["z.org", pattern]), "{host} {pattern}");
            assert!(covers(pattern, host), "{host} {pattern}");
        }
        for (host, pattern) in
            [("b.com", "*.b.com"), ("*.com", "a.com"), ("*.com", "*.b.com"), ("ab.com", "*.b.com")]
        {
            assert!(!is_covered(host, &[pattern]), "{host} {pattern}");
        }
    }

    #[test]
    fn overlap_follows_suffixes() {
        assert!(overlap("*.foo.com", "a.foo.com"));
        assert!(overlap("a.foo.com", "*"));
        assert!(overlap("*.foo.com", "*.a.foo.com"));
        assert!(!overlap("*.foo.com", "foo.com"));
        assert!(!overlap("a.com", "b.com"));
    }
}
