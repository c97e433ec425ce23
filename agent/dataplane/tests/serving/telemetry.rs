//! What is counted, as it can be read while it happens.

use std::{
    thread,
    time::{Duration, Instant},
};

use dataplane::{ConnectionMeasures, Settings};

use crate::support::{Proxy, Upstream, gateway_draft, tcp_chain};

/// A gateway that relays opaque bytes to `upstream`.
fn relay(upstream: &Upstream) -> Proxy {
    Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.listeners[0].filter_chains = vec![tcp_chain(0)];
        draft
    })
}

/// Opened, closed, received and sent of each series, by their flags.
fn connections(proxy: &Proxy) -> Vec<(String, [u64; 4])> {
    let told =
        |measures: &ConnectionMeasures| [measures.opened, measures.closed, measures.received, measures.sent];
    let telemetry = proxy.telemetry();
    let mut all: Vec<_> =
        telemetry.connections.iter().map(|(key, sums)| (key.flags.to_string(), told(sums))).collect();
    all.sort();
    all
}

fn eventually(proxy: &Proxy, expected: &[(&str, [u64; 4])]) {
    let expected: Vec<_> = expected.iter().map(|(flags, told)| ((*flags).to_owned(), *told)).collect();
    let start = Instant::now();
    while connections(proxy) != expected {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", connections(proxy));
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_opaque_connection_counts_from_its_beginning_and_its_bytes_as_they_move() {
    let echo = Upstream::start(|mut client| {
        let heard = client.exactly(4);
        client.send(heard).send("and more").rest();
    });
    let proxy = relay(&echo);
    let mut client = proxy.connect();
    eventually(&proxy, &[("", [1, 0, 0, 0])]);
    assert_eq!(client.send("ping").exactly(12), b"pingand more");
    eventually(&proxy, &[("", [1, 0, 4, 12])]);
    drop(client);
    eventually(&proxy, &[("", [1, 1, 4, 12])]);
}

#[test]
fn what_a_connection_moved_stays_where_it_was_counted_when_it_breaks() {
    let resetting = Upstream::start(|mut client| {
        client.exactly(4);
        client.send("last words");
        // Closed with something unread, it is reset.
        thread::sleep(Duration::from_millis(100));
    });
    let proxy = relay(&resetting);
    let mut client = proxy.connect();
    client.send("ping and what nobody reads");
    client.rest_or_reset();
    eventually(&proxy, &[("", [1, 0, 26, 10]), ("UR", [0, 1, 0, 0])]);
}
