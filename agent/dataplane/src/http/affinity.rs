//! The key of a request by which consistent hashing keeps it at one endpoint (DestinationRule `consistentHash`).

use std::net::SocketAddr;

use snapshot::{HashKey, LoadBalancer, RequestHead};

use crate::balance::{hash_address, hash_key};

/// Hash of the key that the cluster asks for; `None` when it asks for none or the request has none.
pub(super) fn hash(request: &impl RequestHead, balancer: &LoadBalancer, peer: SocketAddr) -> Option<u64> {
    let LoadBalancer::ConsistentHash(policy) = balancer else { return None };
    match &policy.key {
        HashKey::Header(name) => request.header(name).map(hash_key),
        HashKey::Cookie { name, .. } => cookie(request, name).map(hash_key),
        HashKey::SourceIp => Some(hash_address(peer.ip())),
        HashKey::QueryParameter(name) => {
            parameter(request.query(), name).map(|value| hash_key(value.as_bytes()))
        }
    }
}

/// The value of a cookie, without quotes.
fn cookie<'r>(request: &'r impl RequestHead, name: &str) -> Option<&'r [u8]> {
    let cookies = request.header("cookie")?;
    let value = cookies.split(|byte| *byte == b';').find_map(|cookie| {
        let rest = cookie.trim_ascii().strip_prefix(name.as_bytes())?;
        rest.trim_ascii_start().strip_prefix(b"=")
    })?;
    let value = value.trim_ascii();
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

/// The first value of a query parameter, as written.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        (found == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use snapshot::{HashFunction, HashPolicy};

    use super::*;

    struct Request {
        target: &'static str,
        headers: &'static [(&'static str, &'static str)],
    }

    impl RequestHead for Request {
        fn method(&self) -> &str {
            "GET"
        }

        fn authority(&self) -> &str {
            "a"
        }

        fn path_and_query(&self) -> &str {
            self.target
        }

        fn header(&self, name: &str) -> Option<&[u8]> {
            self.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_bytes())
        }

        fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8])) {
            self.headers.iter().for_each(|(name, value)| visit(name, value.as_bytes()));
        }
    }

    fn hashed(key: HashKey, request: &Request) -> Option<u64> {
        let policy = HashPolicy { key, function: HashFunction::Ring { minimum_size: 1024 } };
        hash(request, &LoadBalancer::ConsistentHash(policy), ([10, 0, 0, 7], 1234).into())
    }

    fn cookie_key(name: &str) -> HashKey {
        HashKey::Cookie { name: name.to_owned(), path: None, ttl: None, attributes: Vec::new() }
    }

    #[test]
    fn keys_come_from_where_they_are_said_to() {
        let request = Request {
            target: "/a?other=1&user=ann&user=bob",
            headers: &[("x-user", "ann"), ("cookie", "sid2=no; sid=\"ann\"; theme=dark")],
        };
        let ann = Some(hash_key(b"ann"));
        assert_eq!(hashed(HashKey::Header("x-user".to_owned()), &request), ann);
        assert_eq!(hashed(cookie_key("sid"), &request), ann);
        assert_eq!(hashed(HashKey::QueryParameter("user".to_owned()), &request), ann);
        assert_eq!(hashed(HashKey::SourceIp, &request), Some(hash_key(b"10.0.0.7")));
    }

    #[test]
    fn requests_without_the_key_have_no_hash() {
        let request = Request { target: "/", headers: &[("cookie", "sid2=x")] };
        assert_eq!(hashed(HashKey::Header("x-user".to_owned()), &request), None);
        assert_eq!(hashed(cookie_key("sid"), &request), None);
        assert_eq!(hashed(HashKey::QueryParameter("user".to_owned()), &request), None);
        assert_eq!(hash(&request, &LoadBalancer::default(), ([10, 0, 0, 7], 1).into()), None);
    }
}
