//! Who a client is and where it comes back to: trusted proxies before a gateway, cookies for consistent hashing.

use std::time::Duration;

use dataplane::Settings;
use snapshot::{Cluster, HashFunction, HashKey, HashPolicy, LoadBalancer};

use crate::support::{Proxy, Upstream, cluster, endpoints, gateway_draft};

/// What reaches the endpoint of a client that says where it came by, behind so many trusted proxies.
fn forwarded(proxies: u32) -> String {
    let said =
        b"x-forwarded-for: 6.6.6.6, 7.7.7.7\r\nx-forwarded-for: 8.8.8.8\r\nx-forwarded-proto: https\r\n";
    forwarded_of(proxies, said)
}

/// The same of a client that says so.
fn forwarded_of(proxies: u32, said: &[u8]) -> String {
    let upstream = Upstream::echoing_heads();
    let settings = Settings { gateway_trusted_proxies: proxies, ..Settings::default() };
    let proxy = Proxy::start(settings, |address| gateway_draft(address, &[upstream.address]));
    let head = [b"GET / HTTP/1.1\r\nhost: test\r\n", said, b"\r\n"].concat();
    proxy.connect().send(head).answer().text().to_owned()
}

#[test]
fn gateways_believe_as_many_proxies_as_they_are_told() {
    for (proxies, client, scheme) in [
        (0, "127.0.0.1", "http"),
        (1, "8.8.8.8", "https"),
        (2, "7.7.7.7", "https"),
        (3, "6.6.6.6", "https"),
        // Fewer have passed it on than there should be.
        (4, "127.0.0.1", "https"),
    ] {
        let head = forwarded(proxies);
        assert!(head.contains(&format!("x-envoy-external-address: {client}\r\n")), "{proxies}: {head}");
        assert!(
            head.to_lowercase().contains(&format!("x-forwarded-proto: {scheme}\r\n")),
            "{proxies}: {head}"
        );
        assert!(
            head.contains("x-forwarded-for: 6.6.6.6, 7.7.7.7,8.8.8.8,127.0.0.1\r\n"),
            "{proxies}: {head}"
        );
    }
}

#[test]
fn nothing_that_a_client_writes_hides_what_a_trusted_proxy_says_of_it() {
    for said in [
        &b"x-forwarded-for: \xff, 1.2.3.4\r\n"[..],
        b"x-forwarded-for: 6.6.6.6\xff\r\nx-forwarded-for: 1.2.3.4\r\n",
        b"x-forwarded-for: ,, \r\nx-forwarded-for:\t1.2.3.4\r\n",
        b"x-forwarded-for: 1.2.3.4\r\nx-forwarded-for:\r\n",
    ] {
        let head = forwarded_of(1, said);
        assert!(head.contains("x-envoy-external-address: 1.2.3.4\r\n"), "{head}");
    }
    for said in [&b"x-forwarded-for: 1.2.3.4, \xff\r\n"[..], b"x-forwarded-for: 1.2.3.4,\r\n"] {
        let head = forwarded_of(1, said);
        assert!(head.contains("x-envoy-external-address: 127.0.0.1\r\n"), "{head}");
    }
    // Nobody has passed it on.
    assert!(forwarded_of(1, b"x-forwarded-for:\r\n").contains("x-forwarded-for: 127.0.0.1\r\n"));
}

#[test]
fn a_client_of_a_trusted_proxy_that_came_by_https_is_not_redirected_there() {
    const HTTPS: &str = "x-forwarded-proto: https\r\n";
    let upstream = Upstream::echoing_heads();
    let status = |proxies, said: &str| {
        let settings = Settings { gateway_trusted_proxies: proxies, ..Settings::default() };
        let proxy = Proxy::start(settings, |address| {
            let mut draft = gateway_draft(address, &[upstream.address]);
            let mut hosts = draft.route_configs[0].virtual_hosts().to_vec();
            hosts[0].require_tls = true;
            draft.route_configs[0] = snapshot::RouteConfig::new("http.80", hosts);
            draft
        });
        let head = format!("GET / HTTP/1.1\r\nhost: test\r\n{said}\r\n");
        proxy.connect().send(head).answer().status().to_owned()
    };
    assert_eq!((status(0, HTTPS), status(1, HTTPS)), ("301".to_owned(), "200".to_owned()));
    // The client's own line, and that of a proxy which adds one.
    assert_eq!(status(1, &format!("{HTTPS}x-forwarded-proto: http\r\n")), "301");
}

#[test]
fn a_client_without_the_cookie_gets_one_and_comes_back_to_its_endpoint() {
    let upstreams: Vec<_> = (0..4).map(|_| Upstream::echoing_heads()).collect();
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    let proxy = Proxy::start(Settings::default(), |address| {
        let key = HashKey::Cookie {
            name: "sid".to_owned(),
            path: Some("/".to_owned()),
            ttl: Some(Duration::ZERO),
            attributes: Vec::new(),
        };
        let policy = HashPolicy { key, function: HashFunction::Ring { minimum_size: 1024 } };
        let load_balancer = LoadBalancer::ConsistentHash(policy);
        let mut draft = gateway_draft(address, &[]);
        draft.clusters[0] = Cluster { load_balancer, ..cluster("test", endpoints(&addresses)) };
        draft
    });
    let answer = proxy.connect().get("/");
    let cookie = answer.field("set-cookie").unwrap();
    let (cookie, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly");
    for _ in 0..20 {
        let said = format!("GET / HTTP/1.1\r\nhost: test\r\ncookie: a=b; {cookie}\r\n\r\n");
        let answer = proxy.connect().send(said).answer();
        assert_eq!((answer.status(), answer.field("set-cookie")), ("200", None));
    }
    let served = upstreams.iter().filter(|upstream| upstream.connections() > 0).count();
    assert_eq!(served, 1);
}
