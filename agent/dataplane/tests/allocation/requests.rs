//! Plain requests, one after the other.

use std::{io::Write, sync::atomic::Ordering, time::Instant};

use crate::{ALLOCATIONS, HTTP2_PREFACE, LARGE, Proxy, ask, gateway, http2_request, read_until};

const REQUESTS: usize = 1000;
// What a worker does now and then, such as formatting the date; nothing else may allocate.
const NOW_AND_THEN: usize = 40;

#[test]
fn a_thousand_requests_allocate_nothing() {
    let proxy = Proxy::start(gateway);
    let mut client = proxy.connect();
    let mut buffer = [0; 4096];
    for _ in 0..50 {
        ask(&mut client, &mut buffer);
    }
    let (start, before) = (Instant::now(), ALLOCATIONS.load(Ordering::Relaxed));
    for _ in 0..REQUESTS {
        ask(&mut client, &mut buffer);
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    // Every half second there is a tick, of which a machine that is busy with other tests has room for many.
    let ticks = start.elapsed().as_secs() as usize * 2;
    let allowed = NOW_AND_THEN + 2 * ticks;
    assert!(allocations < allowed, "{allocations} allocations in {REQUESTS} requests and {ticks} ticks");
}

#[test]
fn requests_of_http_2_find_their_room_made() {
    let proxy = Proxy::start(gateway);
    let mut client = proxy.connect();
    let mut buffer = [0; 4096];
    client.write_all(HTTP2_PREFACE).expect("a preface");
    let mut streams = (0..).map(|number| number * 2 + 1);
    let mut ask = |stream| {
        client.write_all(&http2_request(stream)).expect("a request");
        read_until(&mut client, &mut buffer, b"hello").expect("an answer");
    };
    streams.by_ref().take(50).for_each(&mut ask);
    let before = LARGE.load(Ordering::Relaxed);
    streams.take(REQUESTS).for_each(&mut ask);
    let large = LARGE.load(Ordering::Relaxed) - before;
    // The codec makes a buffer now and then.
    assert!(large < REQUESTS / 10, "{large} large allocations in {REQUESTS} requests");
}
