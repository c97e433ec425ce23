//! Policies of clusters (DestinationRule): how endpoints are picked, when they are left alone, how much may be under
//! way, how long connections live.

use std::{
    net::{Shutdown, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use snapshot::{
    Cluster, Draft, HashFunction, HashKey, HashPolicy, LoadBalancer, OutlierDetection, ProxyProtocol,
};

use crate::{
    handshakes::Lines,
    support::{Client, Proxy, Upstream, eventually, free_address, gateway_draft, tcp_chain},
};
use dataplane::Settings;

/// A gateway whose one cluster is as `change` makes it.
fn gateway(endpoints: &[SocketAddr], change: impl Fn(&mut Cluster)) -> Proxy {
    Proxy::start(Settings::default(), |address| draft(address, endpoints, change))
}

fn draft(address: SocketAddr, endpoints: &[SocketAddr], change: impl Fn(&mut Cluster)) -> Draft {
    let mut draft = gateway_draft(address, endpoints);
    change(&mut draft.clusters[0]);
    draft
}

/// A gateway that relays opaque bytes.
fn relay(endpoints: &[SocketAddr], change: impl Fn(&mut Cluster)) -> Proxy {
    Proxy::start(Settings::default(), |address| {
        let mut draft = draft(address, endpoints, change);
        draft.listeners[0].filter_chains = vec![tcp_chain(0)];
        draft
    })
}

/// Answers with `status`, and its own port as the body.
fn answering(status: u16) -> Upstream {
    Upstream::start(move |mut client| {
        let port = client.0.local_addr().unwrap().port();
        while client.request_head().is_some() {
            client.send(format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\n\r\n{port:05}"));
        }
    })
}

/// Answers when a second is over.
fn slow() -> Upstream {
    Upstream::start(|mut client| {
        while client.request_head().is_some() {
            thread::sleep(Duration::from_secs(1));
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    })
}

/// Statuses of requests that are all under way at the same time, in the order they were sent.
fn at_once(proxy: &Proxy, requests: usize) -> Vec<(String, bool)> {
    let mut clients: Vec<Client> = (0..requests).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        // So that they arrive in this order.
        thread::sleep(Duration::from_millis(50));
    }
    let answers = clients.iter_mut().map(Client::answer);
    answers.map(|answer| (answer.status().to_owned(), answer.field("x-envoy-overloaded").is_some())).collect()
}

/// `Keep-Alive: timeout` of an endpoint that closes idle connections.
#[test]
fn connections_that_their_server_is_about_to_close_are_not_used_again() {
    let connections = |answer| {
        let upstream = Upstream::answering(answer);
        let proxy = gateway(&[upstream.address], |_| {});
        let mut client = proxy.connect();
        assert_eq!(client.get("/").status(), "200");
        thread::sleep(Duration::from_millis(700));
        assert_eq!(client.get("/").status(), "200");
        upstream.connections()
    };
    assert_eq!(connections(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nKeep-Alive: timeout=1\r\n\r\n"), 2);
    assert_eq!(connections(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nKeep-Alive: timeout=9\r\n\r\n"), 1);
}

#[test]
fn requests_over_the_limit_are_answered_503_overflow() {
    let slow = slow();
    let proxy = gateway(&[slow.address], |cluster| cluster.limits.max_requests = Some(2));
    let answered = ("200".to_owned(), false);
    let overflow = ("503".to_owned(), true);
    assert_eq!(at_once(&proxy, 3), [answered.clone(), answered.clone(), overflow]);
    assert_eq!(at_once(&proxy, 1), [answered], "those that ended make room");
}

#[test]
fn requests_wait_for_a_connection_and_too_many_are_refused() {
    let slow = slow();
    let proxy = gateway(&[slow.address], |cluster| {
        cluster.limits.max_connections = Some(1);
        cluster.limits.max_pending_requests = Some(1);
    });
    let answered = ("200".to_owned(), false);
    assert_eq!(at_once(&proxy, 3), [answered.clone(), answered, ("503".to_owned(), true)]);
    assert_eq!(slow.connections(), 1);
}

#[test]
fn each_endpoint_has_a_connection_whatever_the_limit() {
    let (a, b) = (slow(), slow());
    let proxy = gateway(&[a.address, b.address], |cluster| {
        cluster.limits.max_connections = Some(1);
        cluster.limits.max_pending_requests = Some(0);
        cluster.load_balancer = LoadBalancer::RoundRobin(None);
    });
    let answered = ("200".to_owned(), false);
    let overflow = ("503".to_owned(), true);
    assert_eq!(at_once(&proxy, 3), [answered.clone(), answered, overflow]);
    assert_eq!((a.connections(), b.connections()), (1, 1));
}

/// Those who wait for one endpoint's connection do not miss that it is free because others were told.
#[test]
fn beyond_the_limit_each_endpoint_serves_those_who_wait_for_it() {
    let (a, b) = (slow(), slow());
    let proxy = gateway(&[a.address, b.address], |cluster| {
        cluster.limits.max_connections = Some(1);
        cluster.load_balancer = LoadBalancer::RoundRobin(None);
    });
    assert_eq!(at_once(&proxy, 8), vec![("200".to_owned(), false); 8]);
    assert_eq!((a.connections(), b.connections()), (1, 1));
}

#[test]
fn an_idle_connection_is_kept_when_another_endpoint_has_its_first() {
    let (a, b) = (answering(200), answering(200));
    let proxy = gateway(&[a.address, b.address], |cluster| {
        cluster.limits.max_connections = Some(1);
        cluster.load_balancer = LoadBalancer::RoundRobin(None);
    });
    let mut client = proxy.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/").status(), "200");
    }
    assert_eq!((a.connections(), b.connections()), (1, 1));
}

#[test]
fn connections_serve_as_many_requests_as_they_may() {
    let web = answering(200);
    let proxy = gateway(&[web.address], |cluster| cluster.connections.max_requests = Some(2));
    let mut client = proxy.connect();
    (0..6).for_each(|_| assert_eq!(client.get("/").status(), "200"));
    assert_eq!(web.connections(), 3);
}

#[test]
fn round_robin_takes_turns() {
    let (a, b) = (answering(200), answering(200));
    let proxy =
        gateway(&[a.address, b.address], |cluster| cluster.load_balancer = LoadBalancer::RoundRobin(None));
    let mut client = proxy.connect();
    let bodies: Vec<_> = (0..6).map(|_| client.get("/").body).collect();
    assert!(bodies.windows(2).all(|pair| pair[0] != pair[1]), "{bodies:?}");
}

fn by_header(function: HashFunction) -> LoadBalancer {
    LoadBalancer::ConsistentHash(HashPolicy { key: HashKey::Header("x-user".to_owned()), function })
}

#[test]
fn equal_keys_meet_one_endpoint_and_keep_it_across_a_publication() {
    let endpoints: Vec<_> = (0..4).map(|_| answering(200)).collect();
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    for function in [HashFunction::Ring { minimum_size: 1024 }, HashFunction::Maglev { table_size: 65537 }] {
        let mut proxy = gateway(&addresses, |cluster| cluster.load_balancer = by_header(function));
        let mut client = proxy.connect();
        let mut ask = |user: usize| {
            client.send(format!("GET / HTTP/1.1\r\nhost: test\r\nx-user: {user}\r\n\r\n")).answer().body
        };
        let first: Vec<_> = (0..40).map(&mut ask).collect();
        assert_eq!((0..40).map(&mut ask).collect::<Vec<_>>(), first);
        let mut met = first.clone();
        met.sort();
        met.dedup();
        assert_eq!(met.len(), 4);
        proxy.publish(draft(proxy.address, &addresses, |cluster| {
            cluster.load_balancer = by_header(function);
            cluster.connections.max_requests = Some(1000);
        }));
        assert_eq!((0..40).map(&mut ask).collect::<Vec<_>>(), first);
    }
}

fn eject_after_two(cluster: &mut Cluster) {
    let settings = OutlierDetection { consecutive_5xx: Some(2), ..OutlierDetection::default() };
    cluster.outlier_detection = Some(settings);
    cluster.load_balancer = LoadBalancer::RoundRobin(None);
}

#[test]
fn an_endpoint_that_answers_with_errors_is_left_alone_even_after_a_publication() {
    let (bad, good) = (answering(500), answering(200));
    let endpoints = [bad.address, good.address];
    let mut proxy = gateway(&endpoints, eject_after_two);
    let mut client = proxy.connect();
    let statuses: Vec<_> = (0..12).map(|_| client.get("/").status().to_owned()).collect();
    assert_eq!(statuses.iter().filter(|status| *status == "500").count(), 2, "{statuses:?}");
    let draft = draft(proxy.address, &endpoints, |cluster| {
        eject_after_two(cluster);
        cluster.limits.max_requests = Some(100);
    });
    proxy.publish(draft);
    assert!((0..12).all(|_| client.get("/").status() == "200"));
}

#[test]
fn an_endpoint_that_cannot_be_connected_to_is_left_alone_too() {
    let good = answering(200);
    let dead = free_address();
    let proxy = gateway(&[dead, good.address], eject_after_two);
    let mut client = proxy.connect();
    assert!((0..12).all(|_| client.get("/").status() == "200"));
}

#[test]
fn when_all_are_left_alone_nobody_is_asked() {
    let bad = answering(503);
    let proxy = gateway(&[bad.address], eject_after_two);
    let mut client = proxy.connect();
    let statuses: Vec<_> = (0..3).map(|_| client.get("/").text().to_owned()).collect();
    assert_eq!(statuses[2], "no healthy upstream");
}

#[test]
fn opaque_connections_go_to_another_endpoint_when_one_is_dead() {
    let echo = Upstream::start(|mut client| {
        let heard = client.exactly(4);
        client.send(heard);
    });
    let dead = free_address();
    let proxy =
        relay(&[dead, echo.address], |cluster| cluster.load_balancer = LoadBalancer::RoundRobin(None));
    for _ in 0..4 {
        assert_eq!(proxy.connect().send("ping").exactly(4), b"ping");
    }
}

#[test]
fn opaque_connections_over_the_limit_are_closed() {
    static OPEN: AtomicUsize = AtomicUsize::new(0);
    let echo = Upstream::start(|mut client| {
        OPEN.fetch_add(1, Ordering::SeqCst);
        let heard = client.exactly(4);
        client.send(heard);
        // The first one stays until its client leaves.
        if OPEN.load(Ordering::SeqCst) == 1 {
            client.rest();
        }
    });
    let proxy = relay(&[echo.address], |cluster| cluster.limits.max_connections = Some(1));
    let mut first = proxy.connect();
    assert_eq!(first.send("ping").exactly(4), b"ping");
    assert!(proxy.connect().rest().is_empty());
    assert_eq!(OPEN.load(Ordering::SeqCst), 1);
    drop(first);
    eventually("its place is free", || proxy.connect().send("ping").rest_or_reset() == b"ping");
}

#[test]
fn opaque_connections_end_when_idle_for_the_clusters_time_or_as_old_as_they_may_get() {
    let echo = Upstream::start(|mut client| _ = client.rest());
    let changes: [fn(&mut Cluster); 2] = [
        |cluster| cluster.connections.tcp_idle_timeout = Some(Duration::from_millis(500)),
        |cluster| cluster.connections.max_duration = Some(Duration::from_millis(500)),
    ];
    for change in changes {
        let proxy = relay(&[echo.address], change);
        assert!(proxy.connect().rest().is_empty());
    }
}

#[test]
fn endpoints_are_told_the_client_by_the_proxy_protocol() {
    let opaque = Upstream::start(|mut client| {
        let line = client.until(b"\r\n");
        client.send(line).rest();
    });
    let proxy = relay(&[opaque.address], |cluster| cluster.proxy_protocol = Some(ProxyProtocol::V1));
    let mut client = proxy.connect();
    let own = client.0.local_addr().unwrap();
    let line = String::from_utf8(client.send("x").until(b"\r\n")).unwrap();
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", own.port(), proxy.address.port());
    assert_eq!(line, expected);

    let web = Upstream::start(|mut client| {
        let header = client.exactly(28);
        assert_eq!(&header[..12], b"\r\n\r\n\0\r\nQUIT\n");
        while client.request_head().is_some() {
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let proxy = gateway(&[web.address], |cluster| cluster.proxy_protocol = Some(ProxyProtocol::V2));
    let mut client = proxy.connect();
    (0..2).for_each(|_| assert_eq!(client.get("/").status(), "200"));
    // No connection stands for two clients.
    assert_eq!(web.connections(), 2);
}

#[test]
fn gateways_behind_a_balancer_learn_the_client_from_its_header() {
    let web = Upstream::echoing_heads();
    let settings = Settings { gateway_proxy_protocol: true, ..Settings::default() };
    let proxy = Proxy::start(settings, |address| gateway_draft(address, &[web.address]));
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x07\x10\0\0\x50";
    for header in [&b"PROXY TCP4 192.0.2.1 10.0.0.7 4096 80\r\n"[..], v2] {
        let mut client = proxy.connect();
        // In two pieces, as a network may deliver it.
        client.send(&header[..14]);
        thread::sleep(Duration::from_millis(20));
        let answer = client.send(&header[14..]).get("/");
        assert!(answer.text().contains("x-forwarded-for: 192.0.2.1\r\n"), "{}", answer.text());
    }
    let answer = proxy.connect().send("PROXY UNKNOWN\r\n").get("/");
    assert!(answer.text().contains("x-forwarded-for: 127.0.0.1\r\n"), "{}", answer.text());
}

#[test]
fn connections_without_the_header_that_a_gateway_expects_are_counted_and_logged() {
    let lines = Lines::default();
    let settings = Settings { gateway_proxy_protocol: true, ..lines.settings() };
    let proxy = Proxy::start(settings, |address| gateway_draft(address, &[]));
    // Shorter than any header, and neither closes its side: what cannot become one is refused at once.
    for bytes in ["GET / HTTP/1.1\r\nhost: test\r\n\r\n", "GET"] {
        assert!(proxy.connect().send(bytes).rest_or_reset().is_empty());
    }
    lines.with(" 0 - - no_PROXY_header_(versions_1_and_2_of_the_protocol_are_understood) ");
    let mut cut_short = proxy.connect();
    cut_short.send("PROXY TCP4 192.0").0.shutdown(Shutdown::Write).unwrap();
    assert!(cut_short.rest().is_empty());
    lines.with(" 0 - - the_connection_ended_within_the_PROXY_header ");
    // As probes do.
    let mut silent = proxy.connect();
    silent.0.shutdown(Shutdown::Write).unwrap();
    assert!(silent.rest().is_empty());
    assert_eq!(proxy.runtime.block_on(proxy.plane.counts()).without_proxy_header, 3);
}
