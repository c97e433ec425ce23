//! How many tries may be under way at once (routing §5.7, §8.6).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::world::{Options, World, rules};
use crate::support::{Endpoint, answer, eventually, ok, send, service};

/// Counts one more, and waits until there are so many.
fn await_all(counter: &AtomicUsize, all: usize) {
    counter.fetch_add(1, Ordering::SeqCst);
    eventually("all are here", || counter.load(Ordering::SeqCst) >= all);
}

/// What became of so many requests at once, all of which fail the first time: how many were tried again, and how many
/// of the others the log flags as over the limit. `policy` is the DestinationRule's.
fn tried_again(requests: usize, policy: &str) -> (usize, usize) {
    let [arrived, decided] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let answered = Arc::clone(&decided);
    let upstream = Endpoint::answering(move |asked, _| {
        if asked.field("x-envoy-attempt-count") == Some("1") {
            // All of them are under way before the first fails.
            await_all(&arrived, requests);
            return answer(503, "first");
        }
        // A try is under way until it is decided of every other request whether there is one.
        await_all(&decided, requests);
        ok("second")
    });
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: app}}\n\
         spec: {{host: app, trafficPolicy: {{{policy}}}}}\n"
    );
    let resources = [
        service("app", &upstream),
        rule,
        rules(&["{route: [{destination: {host: app}}], retries: {attempts: 1, retryOn: 5xx}}"]),
    ];
    // The budget that nobody writes is each worker's own.
    let world = World::start(&resources, &Options { flags: &["--concurrency", "1"], ..Options::default() });
    let port = world.port;
    let asking: Vec<_> = (0..requests)
        .map(|index| {
            let answered = Arc::clone(&answered);
            thread::spawn(move || {
                let body = send(port, &format!("GET / HTTP/1.1\nhost: a\nx-case: r{index}\n\n")).body;
                answered.fetch_add(usize::from(body == "first"), Ordering::SeqCst);
                body
            })
        })
        .collect();
    let bodies: Vec<_> = asking.into_iter().map(|asking| asking.join().unwrap()).collect();
    let second = bodies.iter().filter(|body| *body == "second").count();
    assert_eq!(bodies.iter().filter(|body| *body == "first").count(), requests - second);
    let overflown =
        (0..requests).filter(|index| world.logged(&format!("r{index}")).starts_with("503 UO ")).count();
    (second, overflown)
}

#[test]
fn so_many_tries_as_a_destination_rule_says_are_under_way_at_once() {
    for (policy, requests, expected) in [
        ("connectionPool: {http: {maxRetries: 2}}", 6, (2, 4)),
        ("connectionPool: {http: {maxRetries: 1000}}", 40, (40, 0)),
        // A quarter of what is under way, but two at least; it replaces the other limit.
        (
            "retryBudget: {percent: 25, minRetryConcurrency: 2}, connectionPool: {http: {maxRetries: 1000}}",
            4,
            (2, 2),
        ),
        ("retryBudget: {percent: 25, minRetryConcurrency: 2}", 20, (5, 15)),
        // What is not written of it: 20 %, and three.
        ("retryBudget: {}", 10, (3, 7)),
        // Where nothing is written of either: half, and ten.
        ("loadBalancer: {simple: ROUND_ROBIN}", 60, (30, 30)),
        ("loadBalancer: {simple: ROUND_ROBIN}", 12, (10, 2)),
    ] {
        assert_eq!(tried_again(requests, policy), expected, "{policy}");
    }
}
