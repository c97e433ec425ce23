//! `connectionPool` limits and `retryBudget`: how much may be under way at once.

use std::{thread, time::Duration};

use super::gateway::{Gateway, app};
use crate::support::{Client, Endpoint, Message, eventually};

const SOON: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_millis(1000);

/// Answers to requests that are all under way at the same time, in the order they were sent.
fn at_once(gateway: &Gateway, path: &str, requests: usize) -> Vec<Message> {
    let mut clients: Vec<Client> = (0..requests).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.ask(path, "");
        // So that they arrive in this order.
        thread::sleep(SOON);
    }
    clients.iter_mut().map(Client::answer).collect()
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
        let server = Endpoint::slow("app", 200, LONG);
        let gateway = Gateway::start(&app(&[server.address], &format!("{{connectionPool: {pool}}}")));
        let answers = at_once(&gateway, "/", expected.len());
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
    let server = Endpoint::slow("app", 200, SOON);
    let gateway = Gateway::start(&app(&[server.address], "{connectionPool: {http: {http2MaxRequests: 1}}}"));
    let mut client = gateway.client();
    (0..4).for_each(|_| assert_eq!(client.get("/").status(), 200));
}

/// A further try has its place until it is answered.
#[test]
fn a_try_counts_until_its_answer_is_there() {
    let server = Endpoint::slow("app", 500, Duration::from_millis(1500));
    let gateway = Gateway::start(&app(&[server.address], "{connectionPool: {http: {maxRetries: 1}}}"));
    let (mut first, mut second) = (gateway.client(), gateway.client());
    first.ask("/again", "");
    thread::sleep(Duration::from_millis(700));
    second.ask("/again", "");
    assert_eq!((second.answer().status(), first.answer().status()), (500, 500));
    assert_eq!(server.requests(), 3);
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
        let server = Endpoint::slow("app", 500, LONG);
        let gateway = Gateway::start(&app(&[server.address], policy));
        let mut clients: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
        for client in &mut clients {
            client.ask("/again", "");
        }
        assert!(clients.iter_mut().all(|client| client.answer().status() == 500));
        assert_eq!(server.requests(), requests, "{policy}");
        if requests < 8 {
            gateway.access_line(&["\" 500 UO "]);
        }
    }
}

#[test]
fn opaque_connections_over_the_limit_are_closed() {
    let server = Endpoint::opaque("app");
    let gateway = Gateway::start(&app(&[server.address], "{connectionPool: {tcp: {maxConnections: 1}}}"));
    let mut first = gateway.opaque_client();
    assert_eq!(first.send("one\n").line(), "app");
    assert!(gateway.opaque_client().ends_within(Duration::from_secs(5)));
    gateway.access_line(&["\" 0 UO "]);
    drop(first);
    eventually("its place is free", || gateway.opaque_client().send("two\n").line() == "app");
}
