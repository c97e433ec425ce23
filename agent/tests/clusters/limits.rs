//! `connectionPool` limits and `retryBudget`: how much may be under way at once.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::gateway::{Gateway, app};
use crate::support::{Client, Endpoint, Message, eventually, printed};

/// Answers to requests that are all under way at the same time, in the order they were sent.
fn at_once(gateway: &Gateway, endpoint: &Endpoint, requests: usize) -> Vec<Message> {
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..requests {
        let mut client = gateway.client();
        client.ask("/", "");
        clients.push(client);
        // So that they are decided upon in this order. One that waits for a connection shows nowhere.
        let start = Instant::now();
        while decided(endpoint, &clients) < clients.len() && start.elapsed() < Duration::from_millis(500) {
            thread::sleep(Duration::from_millis(5));
        }
    }
    endpoint.release(usize::MAX);
    clients.iter_mut().map(Client::answer).collect()
}

/// How many requests the endpoint has seen, or have their answer without it.
fn decided(endpoint: &Endpoint, clients: &[Client]) -> usize {
    endpoint.requests() + clients.iter().filter(|client| client.is_answered()).count()
}

/// Two requests more than one at a time of whatever is limited. Zero is no limit.
#[test]
fn what_is_over_a_limit_is_answered_503_at_once() {
    let cases: [(&str, &[u16]); 7] = [
        ("{http: {http2MaxRequests: 1}}", &[200, 503, 503]),
        ("{http: {http2MaxRequests: 2}}", &[200, 200, 503]),
        ("{http: {http2MaxRequests: 0}}", &[200, 200, 200]),
        ("{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}", &[200, 200, 503]),
        ("{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 0}}", &[200, 200, 200]),
        ("{tcp: {maxConnections: 0}, http: {http1MaxPendingRequests: 1}}", &[200, 200, 200]),
        // Requests of HTTP/2 wait for no connection.
        ("{http: {http2MaxRequests: 3, http1MaxPendingRequests: 1}}", &[200, 200, 200]),
    ];
    for (pool, expected) in cases {
        let server = Endpoint::held("app", 200);
        let gateway = Gateway::start(&app(&[server.address], &format!("{{connectionPool: {pool}}}")));
        let answers = at_once(&gateway, &server, expected.len());
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status()).collect();
        assert_eq!(statuses, expected, "{pool}");
        for refused in answers.iter().filter(|answer| answer.status() == 503) {
            assert_eq!(refused.field("x-envoy-overloaded"), Some("true"), "{pool}");
            let body = "upstream connect error or disconnect/reset before headers. reset reason: overflow";
            assert_eq!(refused.body, body, "{pool}");
        }
        if expected.contains(&503) {
            gateway.access_line(&["\" 503 UO upstream_reset_before_response_started{overflow}"]);
        }
    }
}

#[test]
fn a_limit_counts_again_when_what_was_under_way_is_over() {
    let server = Endpoint::named("app");
    let gateway = Gateway::start(&app(&[server.address], "{connectionPool: {http: {http2MaxRequests: 1}}}"));
    let mut client = gateway.client();
    (0..4).for_each(|_| assert_eq!(client.get("/").status(), 200));
}

/// A further try has its place until it is answered.
#[test]
fn a_try_counts_until_its_answer_is_there() {
    let server = Endpoint::held("app", 500);
    let gateway = Gateway::start(&app(&[server.address], "{connectionPool: {http: {maxRetries: 1}}}"));
    let (mut first, mut second) = (gateway.client(), gateway.client());
    first.ask("/again", "");
    server.await_asked(1);
    second.ask("/again", "");
    server.await_asked(2);
    // The first is made again, and has the only place when the second one fails.
    server.release(1);
    server.await_asked(3);
    server.release(2);
    assert_eq!(second.answer().status(), 500);
    server.release(usize::MAX);
    assert_eq!((first.answer().status(), server.requests()), (500, 3));
    // Then there is room again.
    assert_eq!(first.get("/again").status(), 500);
    assert_eq!(server.requests(), 5);
}

/// Four requests fail together and each would be made once more.
#[test]
fn only_so_many_are_tried_again_at_once() {
    let cases = [
        ("{connectionPool: {http: {maxRetries: 1}}}", 5),
        ("{connectionPool: {http: {maxRetries: 3}}}", 7),
        ("{connectionPool: {http: {maxRetries: 0}}}", 8),
        ("{loadBalancer: {simple: RANDOM}}", 8),
        // Of four requests half may be repeated; `maxRetries` does not count then.
        ("{retryBudget: {percent: 50, minRetryConcurrency: 1}, connectionPool: {http: {maxRetries: 4}}}", 6),
        ("{retryBudget: {percent: 0, minRetryConcurrency: 3}}", 7),
        ("{retryBudget: {}}", 7),
    ];
    for (policy, requests) in cases {
        let server = Endpoint::held("app", 500);
        let gateway = Gateway::start(&app(&[server.address], policy));
        let mut clients: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
        for client in &mut clients {
            client.ask("/again", "");
        }
        server.await_asked(4);
        server.release(4);
        eventually("each is made again or answered", || decided(&server, &clients) == 8);
        server.release(usize::MAX);
        assert!(clients.iter_mut().all(|client| client.answer().status() == 500));
        assert_eq!(server.requests(), requests, "{policy}");
        if requests < 8 {
            gateway.access_line(&["\" 500 UO "]);
        }
    }
}

/// Under Envoy's names, while it is so and how often.
#[test]
fn limits_that_are_reached_are_told() {
    let (name, policy) = ("outbound|80||app.example.com", "{connectionPool: {http: {http2MaxRequests: 1}}}");
    let server = Endpoint::held("app", 200);
    let gateway = Gateway::start(&app(&[server.address], policy));
    let told = || {
        let metrics = printed(&["request", "GET", "/stats/prometheus", "--admin", &gateway.interfaces.stats]);
        [
            "circuit_breakers_default_rq_open",
            "circuit_breakers_default_cx_open",
            "upstream_rq_active_overflow",
        ]
        .map(|family| {
            let series = format!("envoy_cluster_{family}{{cluster_name=\"{name}\"}} ");
            let value = metrics.lines().find_map(|line| line.strip_prefix(&*series));
            value.unwrap_or_else(|| panic!("no {series} in\n{metrics}")).to_owned()
        })
    };
    assert_eq!(told(), ["0", "0", "0"]);
    let mut first = gateway.client();
    first.ask("/", "");
    server.await_asked(1);
    assert_eq!(gateway.client().get("/").status(), 503);
    assert_eq!(told(), ["1", "0", "1"]);
    server.release(usize::MAX);
    assert_eq!(first.answer().status(), 200);
    eventually("there is room again", || told() == ["0", "0", "1"]);
}

#[test]
fn opaque_connections_over_the_limit_are_closed() {
    let server = Endpoint::opaque("app");
    let gateway = Gateway::start(&app(&[server.address], "{connectionPool: {tcp: {maxConnections: 1}}}"));
    let mut first = gateway.opaque_client();
    assert_eq!(first.send("one\n").line(), "app");
    assert!(gateway.opaque_client().ends());
    gateway.access_line(&["\" 0 UO "]);
    drop(first);
    eventually("its place is free", || gateway.opaque_client().send("two\n").line() == "app");
}
