//! The key of a request by which consistent hashing keeps it at one endpoint (DestinationRule `consistentHash`).

use std::{net::SocketAddr, time::Duration};

use snapshot::{HashKey, LoadBalancer, RequestHead};

use crate::{
    balance::{hash_address, hash_key},
    connection::NOBODY,
};

/// What keeps a request at an endpoint.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Affinity {
    /// Of the key that the cluster asks for; `None` when it asks for none or the request has none.
    pub(super) hash: Option<u64>,
    /// The cookie that the client gets so that it will have the key.
    pub(super) cookie: Option<String>,
}

/// Looks for the key that the cluster asks for. A cookie that is missing is made if it is to be; its value comes from
/// both ends of the connection, as Envoy's does, so that requests which come together get the same.
pub(super) fn of(
    request: &impl RequestHead,
    balancer: &LoadBalancer,
    (peer, local): (SocketAddr, SocketAddr),
) -> Affinity {
    let LoadBalancer::ConsistentHash(policy) = balancer else { return Affinity::default() };
    let hash = match &policy.key {
        HashKey::Header(name) => request.header(name).map(hash_key),
        HashKey::Cookie { name, path, ttl, attributes } => match (cookie(request, name), ttl) {
            (Some(value), _) => Some(hash_key(value)),
            (None, None) => None,
            (None, Some(ttl)) => {
                let value = format!("{:016x}", hash_key(format!("{peer}{local}").as_bytes()));
                let hash = Some(hash_key(value.as_bytes()));
                let cookie = Some(set_cookie((name, &value), *ttl, path.as_deref(), attributes));
                return Affinity { hash, cookie };
            }
        },
        // Clients of a unix socket have none.
        HashKey::SourceIp => (peer != NOBODY).then(|| hash_address(peer.ip())),
        HashKey::QueryParameter(name) => {
            parameter(request.query(), name).map(|value| hash_key(value.as_bytes()))
        }
    };
    Affinity { hash, cookie: None }
}

/// The value of `set-cookie`, as Envoy writes it. A life of zero ends with the browser's session.
fn set_cookie(
    (name, value): (&str, &str),
    ttl: Duration,
    path: Option<&str>,
    attributes: &[(String, Option<String>)],
) -> String {
    let mut cookie = format!("{name}=\"{value}\"");
    let mut push = |name: &str, value: Option<&str>| {
        cookie.extend(["; ", name]);
        cookie.extend(value.into_iter().flat_map(|value| ["=", value]));
    };
    if !ttl.is_zero() {
        push("Max-Age", Some(&ttl.as_secs().to_string()));
    }
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        push("Path", Some(path));
    }
    attributes.iter().for_each(|(name, value)| push(name, value.as_deref()));
    push("HttpOnly", None);
    cookie
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
        let ends = (([10, 0, 0, 7], 1234).into(), ([10, 0, 0, 1], 80).into());
        of(request, &LoadBalancer::ConsistentHash(policy), ends).hash
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
        let ends = (([10, 0, 0, 7], 1).into(), ([10, 0, 0, 1], 80).into());
        assert_eq!(of(&request, &LoadBalancer::default(), ends), Affinity::default());
    }

    #[test]
    fn cookies_are_written_as_envoy_does() {
        let attributes = [("SameSite".to_owned(), Some("Lax".to_owned())), ("Secure".to_owned(), None)];
        assert_eq!(
            set_cookie(("sid", "1"), Duration::from_secs(60), Some("/a"), &attributes),
            "sid=\"1\"; Max-Age=60; Path=/a; SameSite=Lax; Secure; HttpOnly"
        );
        assert_eq!(set_cookie(("sid", "1"), Duration::ZERO, None, &[]), "sid=\"1\"; HttpOnly");
    }
}
