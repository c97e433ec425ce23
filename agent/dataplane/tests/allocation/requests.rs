//! Plain requests, one after the other.

use std::sync::atomic::Ordering;

use crate::{ALLOCATIONS, Proxy, ask, gateway};

const REQUESTS: usize = 1000;
// The worker's tick formats the date twice a second; nothing else may allocate.
const TICKS: usize = 40;

#[test]
fn a_thousand_requests_allocate_nothing() {
    let proxy = Proxy::start(gateway);
    let mut client = proxy.connect();
    let mut buffer = [0; 4096];
    for _ in 0..50 {
        ask(&mut client, &mut buffer);
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..REQUESTS {
        ask(&mut client, &mut buffer);
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert!(allocations < TICKS, "{allocations} allocations in {REQUESTS} requests");
}
