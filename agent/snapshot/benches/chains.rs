//! What the choice of a filter chain costs on a port with 1,000 certificates.
//!
//! `cargo bench -p snapshot`. Prints the best of several runs on one core.
#![expect(clippy::print_stdout, reason = "a benchmark tells what it measured")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use snapshot::{
    Application, Binding, ConnectionFacts, Direction, Draft, FilterChain, FilterChainMatch, HostPattern,
    Listener, NetworkFilter, Snapshot, TlsContext, TlsContextId, Transport,
};

const NAMES: usize = 1_000;
const ROUNDS: usize = 100_000;

fn main() {
    let snapshot = port();
    let listener = snapshot
        .bound_listener(&snapshot::Address::Socket(ADDRESS.parse().expect("an address")))
        .expect("it is bound");
    for (what, name) in [
        ("exact name", "www.host-517.example.com"),
        ("name below a wildcard", "a.b.wild-517.example.com"),
        ("name that nobody serves", "www.elsewhere.org"),
    ] {
        let facts = ConnectionFacts {
            destination: ADDRESS.parse().expect("an address"),
            server_name: Some(name),
            transport: Transport::Tls,
            application: Application::Opaque,
        };
        let found = snapshot.select_filter_chain(&facts, listener).is_some();
        let took = best(|| _ = black_box(snapshot.select_filter_chain(black_box(&facts), listener)));
        println!("{what} of {NAMES}: {took:?}, found: {found}");
    }
}

const ADDRESS: &str = "0.0.0.0:443";

/// A listener with a chain and a TLS context for each name, every second a wildcard.
fn port() -> Snapshot {
    let chain = |index: usize| {
        let name = match index % 2 {
            0 => format!("*.wild-{}.example.com", index + 1),
            _ => format!("www.host-{index}.example.com"),
        };
        let server_names = vec![name.parse::<HostPattern>().expect("a host")];
        let transport = Some(Transport::Tls);
        FilterChain {
            name,
            matches: FilterChainMatch { server_names, transport, ..FilterChainMatch::default() },
            tls: Some(TlsContextId(index as u32)),
            filter: NetworkFilter::Blackhole,
        }
    };
    let listener = Listener {
        name: "0.0.0.0_443".to_owned(),
        direction: Direction::Gateway,
        binding: Binding::Socket(ADDRESS.parse().expect("an address")),
        filter_chains: (0..NAMES).map(chain).collect(),
        default_filter_chain: None,
    };
    let context =
        |index: usize| TlsContext { name: format!("kubernetes://{index}"), ..TlsContext::default() };
    let tls_contexts = (0..NAMES).map(context).collect();
    Draft { listeners: vec![listener], tls_contexts, ..Draft::default() }.finish()
}

/// Time of one call, in the best of several rounds.
fn best(mut call: impl FnMut()) -> Duration {
    let round = |_| {
        let start = Instant::now();
        (0..ROUNDS).for_each(|_| call());
        start.elapsed() / ROUNDS as u32
    };
    (0..9).map(round).min().unwrap_or_default()
}
