//! Draining: connections end, requests that are on their way do not.

use std::{thread, time::Duration};

use dataplane::{DrainTime, Settings};

use crate::{
    new_snapshots::OLD,
    support::{PATIENCE, Proxy, Upstream, gateway_draft, within},
};

#[test]
fn draining_closes_idle_connections_and_lets_running_requests_finish() {
    let upstream = Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            if head.starts_with("GET /slow") {
                thread::sleep(Duration::from_millis(300));
            }
            client.send(OLD);
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let (mut idle, mut busy) = (proxy.connect(), proxy.connect());
    assert_eq!(idle.get("/").status(), "200");
    let slow = thread::spawn(move || {
        let answer = busy.get("/slow");
        (answer.field("connection").map(str::to_owned), answer.text().to_owned(), busy.rest())
    });
    thread::sleep(Duration::from_millis(100));
    assert!(proxy.runtime.block_on(proxy.plane.drain(within(5))));
    assert!(idle.rest().is_empty());
    let (connection, body, rest) = slow.join().unwrap();
    // The answer's head was not yet written when the drain began, so it could still say so.
    assert_eq!((connection.as_deref(), body.as_str(), rest.len()), (Some("close"), "old", 0));
}

#[test]
fn a_drain_within_an_answer_leaves_time_for_the_request_behind_it() {
    let (half, halfway) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |mut client| {
        while let Some(head) = client.request_head() {
            client.send(&OLD[..OLD.len() - 1]);
            if head.starts_with("GET /first") {
                half.send(()).unwrap();
                thread::sleep(Duration::from_millis(500));
            }
            client.send(&OLD[OLD.len() - 1..]);
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    client.send("GET /first HTTP/1.1\r\nhost: test\r\n\r\n");
    let asking = thread::spawn(move || {
        let first = client.answer();
        thread::sleep(Duration::from_millis(200));
        let second = client.get("/second");
        assert!(client.rest().is_empty());
        (first, second)
    });
    halfway.recv().unwrap();
    thread::sleep(Duration::from_millis(100));
    assert!(proxy.runtime.block_on(proxy.plane.drain(within(5))));
    let (first, second) = asking.join().unwrap();
    assert_eq!((first.field("connection"), first.text()), (None, "old"));
    assert_eq!((second.field("connection"), second.text()), (Some("close"), "old"));
}

#[test]
fn a_silent_connection_made_while_draining_does_not_hold_it() {
    let upstream = Upstream::answering(OLD);
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut busy = proxy.connect();
    busy.send("GET / HTTP/1.1\r\nhost: ");
    let address = proxy.address;
    let late = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        let mut silent = crate::support::Client::connect(address);
        assert!(silent.rest().is_empty());
        busy.send("a\r\n\r\n");
        assert_eq!(busy.answer().field("connection"), Some("close"));
    });
    assert!(proxy.runtime.block_on(proxy.plane.drain(within(8))));
    late.join().unwrap();
}

#[test]
fn new_connections_may_be_silent_until_the_minimum_of_a_drain_is_over() {
    let upstream = Upstream::answering(OLD);
    let proxy = Proxy::gateway(&[upstream.address]);
    let second = Duration::from_secs(1);
    let address = proxy.address;
    let late = thread::spawn(move || {
        thread::sleep(second * 3 / 4);
        let (mut slow, mut silent) =
            (crate::support::Client::connect(address), crate::support::Client::connect(address));
        thread::sleep(second * 2);
        let answer = slow.get("/");
        assert_eq!((answer.text(), answer.field("connection")), ("old", Some("close")));
        assert!(silent.rest().is_empty());
    });
    let start = std::time::Instant::now();
    let drain = DrainTime { minimum: second * 4, limit: PATIENCE };
    assert!(proxy.runtime.block_on(proxy.plane.drain(drain)), "nobody holds it");
    assert!(start.elapsed() >= second * 4, "after {:?}", start.elapsed());
    late.join().unwrap();
}

#[test]
fn a_connection_made_as_the_minimum_of_a_drain_ends_is_served() {
    let upstream = Upstream::answering(OLD);
    let settings = Settings { draining_patience: Duration::from_secs(5), ..Settings::default() };
    let proxy = Proxy::start(settings, |address| gateway_draft(address, &[upstream.address]));
    let address = proxy.address;
    let late = thread::spawn(move || {
        let mut client = crate::support::Client::connect(address);
        thread::sleep(Duration::from_millis(1500));
        assert_eq!(client.get("/").text(), "old");
    });
    let drain = DrainTime { minimum: Duration::from_secs(1), limit: PATIENCE };
    assert!(proxy.runtime.block_on(proxy.plane.drain(drain)), "nobody holds it");
    late.join().unwrap();
}
