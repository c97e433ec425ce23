//! Plain requests, one after the other.

use std::{sync::atomic::Ordering, time::Instant};

use crate::{ALLOCATIONS, Proxy, ask, gateway};

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
