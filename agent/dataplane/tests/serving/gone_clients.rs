//! Clients that leave while their requests wait for something: nobody is asked any more, and nothing is held.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use dataplane::Settings;
use snapshot::{Fault, Forward, PathMatch, RetryPolicy, RouteAction, Share};

use crate::{
    actions::with_routes,
    support::{Client, Proxy, Upstream, eventually, forwarding, gateway_draft, retrying, route, to_cluster},
};

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";

/// Answers each request after a while, and counts them.
fn counting(pause: Duration, answer: &'static str) -> (Upstream, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let upstream = Upstream::start(move |mut client: Client| {
        while client.request_head().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            thread::sleep(pause);
            client.send(answer);
        }
    });
    (upstream, asked)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";

#[test]
fn a_request_that_waits_for_a_connection_is_not_sent_for_a_client_that_has_left() {
    let (upstream, asked) = counting(Duration::from_secs(2), OK);
    let proxy = Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.clusters[0].limits.max_connections = Some(1);
        draft.clusters[0].limits.max_pending_requests = Some(1);
        draft
    });
    let mut first = proxy.connect();
    first.send(POST);
    eventually("it is asked", || asked.load(Ordering::SeqCst) == 1);
    let mut leaving = proxy.connect();
    leaving.send(POST);
    thread::sleep(Duration::from_millis(300));
    drop(leaving);
    thread::sleep(Duration::from_millis(300));
    // The only place among those who wait is free again.
    let mut last = proxy.connect();
    last.send(POST);
    assert_eq!((first.answer().status(), last.answer().status()), ("200", "200"));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn no_further_try_is_made_for_a_client_that_has_left() {
    let (upstream, asked) = counting(Duration::ZERO, BUSY);
    let on = snapshot::RetryOn { conditions: Vec::new(), statuses: vec![503] };
    // Pauses are random, of three seconds at most.
    let policy = RetryPolicy { attempts: 100, on, backoff: Duration::from_secs(3), ..retrying() };
    let forward = Forward { retries: Some(Arc::new(policy)), ..to_cluster(Some(0)).into() };
    let proxy = with_routes(&[upstream.address], vec![route(PathMatch::Any, RouteAction::Forward(forward))]);
    let mut client = proxy.connect();
    client.send(POST);
    eventually("the first try", || asked.load(Ordering::SeqCst) > 0);
    drop(client);
    thread::sleep(Duration::from_millis(500));
    let before = asked.load(Ordering::SeqCst);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(asked.load(Ordering::SeqCst), before);
}

#[test]
fn a_delayed_request_is_not_sent_for_a_client_that_has_left() {
    let (upstream, asked) = counting(Duration::ZERO, OK);
    let mut delayed = route(PathMatch::Any, forwarding());
    let delay = Some((Duration::from_millis(500), Share::ALL));
    delayed.fault = Some(Box::new(Fault { delay, abort: None }));
    let proxy = with_routes(&[upstream.address], vec![delayed]);
    let mut client = proxy.connect();
    client.send(POST);
    thread::sleep(Duration::from_millis(100));
    drop(client);
    thread::sleep(Duration::from_millis(800));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    // What a client sends ahead while it waits is served in its turn.
    let mut client = proxy.connect();
    client.send(POST);
    thread::sleep(Duration::from_millis(100));
    client.send(POST);
    assert_eq!((client.answer().status(), client.answer().status()), ("200", "200"));
}
