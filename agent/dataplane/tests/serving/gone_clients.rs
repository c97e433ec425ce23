//! Clients that leave while their requests wait for something: nobody is asked any more, and nothing is held.

use std::{
    sync::{
        Arc, Barrier,
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

/// Answers each request at once, and counts them.
fn counting(answer: &'static str) -> (Upstream, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let upstream = Upstream::start(move |mut client: Client| {
        while client.request_head().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            client.send(answer);
        }
    });
    (upstream, asked)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";

/// Waits until nobody but so many clients is served.
fn await_clients(proxy: &Proxy, count: u64) {
    let active = || proxy.runtime.block_on(proxy.plane.counts()).active_connections;
    eventually(&format!("{count} clients"), || active() == count);
}

/// Answers nothing before it is told to, and counts what it is asked.
fn held() -> (Upstream, Arc<AtomicUsize>, Arc<Barrier>) {
    let (asked, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(2)));
    let (count, wait) = (Arc::clone(&asked), Arc::clone(&told));
    let upstream = Upstream::start(move |mut client: Client| {
        while client.request_head().is_some() {
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                wait.wait();
            }
            client.send(OK);
        }
    });
    (upstream, asked, told)
}

#[test]
fn a_request_that_waits_for_a_connection_is_not_sent_for_a_client_that_has_left() {
    let (upstream, asked, told) = held();
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
    await_clients(&proxy, 2);
    drop(leaving);
    await_clients(&proxy, 1);
    // The only place among those who wait is free again.
    let mut last = proxy.connect();
    last.send(POST);
    await_clients(&proxy, 2);
    told.wait();
    assert_eq!((first.answer().status(), last.answer().status()), ("200", "200"));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// A request sent ahead keeps the end of the connection from being read.
#[test]
fn who_has_asked_more_and_left_holds_no_endpoint() {
    let (upstream, asked, told) = held();
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut leaving = proxy.connect();
    leaving.send(POST.repeat(2));
    eventually("it is asked", || asked.load(Ordering::SeqCst) == 1);
    drop(leaving);
    await_clients(&proxy, 0);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    told.wait();
}

#[test]
fn no_further_try_is_made_for_a_client_that_has_left() {
    let (upstream, asked) = counting(BUSY);
    let on = snapshot::RetryOn { conditions: Vec::new(), statuses: vec![503] };
    // Pauses are random, of three seconds at most.
    let policy = RetryPolicy { attempts: 100, on, backoff: Duration::from_secs(3), ..retrying() };
    let forward = Forward { retries: Some(Arc::new(policy)), ..to_cluster(Some(0)).into() };
    let proxy = with_routes(&[upstream.address], vec![route(PathMatch::Any, RouteAction::Forward(forward))]);
    let mut client = proxy.connect();
    client.send(POST);
    eventually("the first try", || asked.load(Ordering::SeqCst) > 0);
    drop(client);
    await_clients(&proxy, 0);
    let before = asked.load(Ordering::SeqCst);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(asked.load(Ordering::SeqCst), before);
}

#[test]
fn a_delayed_request_is_not_sent_for_a_client_that_has_left() {
    let (upstream, asked) = counting(OK);
    let delayed = |path: &str, seconds: f32| {
        let mut delayed = route(PathMatch::prefix(path), forwarding());
        let delay = Some((Duration::from_secs_f32(seconds), Share::ALL));
        delayed.fault = Some(Box::new(Fault { delay, abort: None }));
        delayed
    };
    let routes = vec![delayed("/long", 20.0), delayed("/", 0.5)];
    let proxy = with_routes(&[upstream.address], routes);
    let mut client = proxy.connect();
    client.send(POST.replace("POST /", "POST /long"));
    await_clients(&proxy, 1);
    drop(client);
    // Long before its time.
    await_clients(&proxy, 0);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    // What a client sends ahead while it waits is served in its turn.
    let mut client = proxy.connect();
    client.send(POST);
    thread::sleep(Duration::from_millis(100));
    client.send(POST);
    assert_eq!((client.answer().status(), client.answer().status()), ("200", "200"));
}
