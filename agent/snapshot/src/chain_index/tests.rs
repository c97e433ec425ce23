use std::time::Instant;

use super::*;
use crate::NetworkFilter;

fn chain(name: &str, matches: FilterChainMatch) -> FilterChain {
    FilterChain { name: name.to_owned(), matches, tls: None, filter: NetworkFilter::Blackhole }
}

fn named(name: &str, destination_port: Option<u16>) -> FilterChain {
    let server_names = name.split(' ').map(|name| name.parse().unwrap()).collect();
    chain(name, FilterChainMatch { destination_port, server_names, ..FilterChainMatch::default() })
}

fn with_application(name: &str, port: Option<u16>, application: Option<Application>) -> FilterChain {
    chain(name, FilterChainMatch { destination_port: port, application, ..FilterChainMatch::default() })
}

fn facts(port: u16, server_name: Option<&str>, application: Application) -> ConnectionFacts<'_> {
    let transport = if server_name.is_some() { Transport::Tls } else { Transport::RawBuffer };
    ConnectionFacts { destination: ([10, 0, 0, 1], port).into(), server_name, transport, application }
}

fn selected<'c>(chains: &'c [FilterChain], facts: &ConnectionFacts<'_>) -> &'c str {
    ChainIndex::new(chains, false).select(facts, chains).map_or("none", |position| &chains[position].name)
}

#[test]
fn port_then_application_decides() {
    let http = Some(Application::Http);
    let chains = [with_application("8080", Some(8080), None), with_application("http", None, http)];
    assert_eq!(selected(&chains, &facts(8080, None, Application::Http)), "8080");
    assert_eq!(selected(&chains, &facts(9090, None, Application::Http)), "http");
    assert_eq!(selected(&chains, &facts(9090, None, Application::Opaque)), "none");
}

#[test]
fn the_narrowest_network_that_serves_the_connection_wins() {
    let to = |name: &str, subnets: &[&str], server_name: Option<&str>| {
        let destination_subnets = subnets.iter().map(|net| net.parse().unwrap()).collect();
        let server_names = server_name.iter().map(|name| name.parse().unwrap()).collect();
        chain(name, FilterChainMatch { destination_subnets, server_names, ..FilterChainMatch::default() })
    };
    let chains = [
        to("any", &[], None),
        to("ten", &["10.9.9.9/8", "11.0.0.0/8"], None),
        to("ten too, named", &["10.0.0.0/8"], Some("b.com")),
        to("host, a.com", &["10.0.0.1/32"], Some("a.com")),
    ];
    let selected = |destination: &str, name: Option<&str>| {
        let destination = destination.parse().unwrap();
        selected(&chains, &ConnectionFacts { destination, ..facts(0, name, Application::Opaque) }).to_owned()
    };
    assert_eq!(selected("10.0.0.1:80", Some("a.com")), "host, a.com");
    assert_eq!(selected("[::ffff:10.0.0.1]:80", Some("a.com")), "host, a.com");
    assert_eq!(selected("10.0.0.2:80", Some("a.com")), "ten");
    assert_eq!(selected("10.0.0.1:80", Some("b.com")), "ten too, named");
    assert_eq!(selected("10.0.0.1:80", None), "ten");
    assert_eq!(selected("11.0.0.1:80", None), "ten");
    assert_eq!(selected("12.0.0.1:80", Some("a.com")), "any");
    assert_eq!(selected("[fd00::1]:80", None), "any");
}

#[test]
fn most_specific_server_name_wins_without_going_back() {
    let chains = [
        named("*.foo.com", None),
        named("a.foo.com", None),
        named("*.com", None),
        named("other.com", Some(443)),
        chain("any", FilterChainMatch::default()),
    ];
    assert_eq!(selected(&chains, &facts(80, Some("A.foo.com"), Application::Opaque)), "a.foo.com");
    assert_eq!(selected(&chains, &facts(80, Some("b.foo.com"), Application::Opaque)), "*.foo.com");
    assert_eq!(selected(&chains, &facts(80, Some("foo.com"), Application::Opaque)), "*.com");
    assert_eq!(selected(&chains, &facts(80, Some("foo.org"), Application::Opaque)), "any");
    assert_eq!(selected(&chains, &facts(80, None, Application::Opaque)), "any");
    assert_eq!(selected(&chains, &facts(443, Some("a.foo.com"), Application::Opaque)), "none");
}

#[test]
fn a_name_once_chosen_is_not_left_for_a_better_transport() {
    let mut tls_only = named("a.com", None);
    tls_only.matches.application = Some(Application::Mesh);
    let chains = [tls_only, chain("any", FilterChainMatch::default())];
    assert_eq!(selected(&chains, &facts(80, Some("a.com"), Application::Opaque)), "none");
}

#[test]
fn an_address_as_name_is_for_tls_without_a_name() {
    let chains = [named("10.0.0.1 fd00::1", None), named("*.com", None)];
    let tls = |destination: &str| ConnectionFacts {
        destination: destination.parse().unwrap(),
        server_name: None,
        transport: Transport::Tls,
        application: Application::Opaque,
    };
    for dialled in ["10.0.0.1:443", "[fd00::1]:443", "[::ffff:10.0.0.1]:443"] {
        assert_eq!(selected(&chains, &tls(dialled)), "10.0.0.1 fd00::1", "{dialled}");
    }
    assert_eq!(selected(&chains, &tls("10.0.0.2:443")), "none");
    let clear = ConnectionFacts { transport: Transport::RawBuffer, ..tls("10.0.0.1:443") };
    assert_eq!(selected(&chains, &clear), "none");
}

#[test]
fn protocols_of_the_mesh_are_told_from_others() {
    let offered = |names: &[&str]| Application::of_offered(names.iter().map(|name| name.as_bytes()));
    assert_eq!(offered(&["h2", "http/1.1"]), Application::Opaque);
    assert_eq!(offered(&["istio-peer-exchange", "istio"]), Application::Mesh);
    assert_eq!(offered(&["istio", "istio-http/1.1"]), Application::MeshHttp);
    let mesh = |name: &str, application| with_application(name, None, Some(application));
    let chains = [mesh("mesh", Application::Mesh), with_application("other", None, None)];
    let tls = |application| facts(80, Some("x"), application);
    assert_eq!(selected(&chains, &tls(Application::MeshHttp)), "mesh");
    assert_eq!(selected(&chains, &tls(Application::Mesh)), "mesh");
    assert_eq!(selected(&chains, &tls(Application::Opaque)), "other");
    let chains = [mesh("mesh", Application::Mesh), mesh("http", Application::MeshHttp)];
    assert_eq!(selected(&chains, &tls(Application::MeshHttp)), "http");
    assert_eq!(selected(&chains, &tls(Application::Mesh)), "mesh");
}

#[test]
fn what_must_be_read_depends_on_the_chains_of_the_port() {
    let http = Some(Application::Http);
    let tls = |port| {
        let mut chain = named("a.com", port);
        chain.matches.transport = Some(Transport::Tls);
        chain
    };
    let mut mesh = with_application("mesh", Some(7443), Some(Application::Mesh));
    mesh.matches.transport = Some(Transport::Tls);
    let chains = [
        with_application("a", Some(8080), None),
        with_application("b", Some(9090), http),
        with_application("c", Some(9090), None),
        with_application("d", None, http),
        tls(Some(443)),
        mesh,
        with_application("e", Some(7443), None),
    ];
    let index = ChainIndex::new(&chains, false);
    assert_eq!(index.inspection(8080), Inspection::Nothing);
    assert_eq!(index.inspection(9090), Inspection::Protocol { hello: false });
    assert_eq!(index.inspection(7070), Inspection::Protocol { hello: false });
    assert_eq!(index.inspection(443), Inspection::Hello);
    assert_eq!(index.inspection(7443), Inspection::Protocol { hello: true });
    let with_default = ChainIndex::new(&[tls(None)], true);
    assert_eq!(with_default.inspection(443), Inspection::Protocol { hello: true });
}

/// The walk over all chains that the index replaces: the same answer, one condition after the other.
fn walked<'c>(chains: &'c [FilterChain], connection: &ConnectionFacts<'_>) -> &'c str {
    let rank_of_name = |m: &FilterChainMatch| {
        let covering = m.server_names.iter().filter(|pattern| match connection.server_name {
            Some(name) => pattern.covers(&name.to_ascii_lowercase()),
            None => **pattern == HostPattern::Any,
        });
        let rank = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(_) => usize::MAX,
            HostPattern::Suffix(suffix) => suffix.len(),
            HostPattern::Any => 0,
        };
        if m.server_names.is_empty() { Some(0) } else { covering.map(rank).max() }
    };
    let mut left: Vec<&FilterChain> = chains.iter().collect();
    keep_best(&mut left, |m| optional(m.destination_port, connection.destination.port()));
    keep_best(&mut left, rank_of_name);
    keep_best(&mut left, |m| optional(m.transport, connection.transport));
    keep_best(&mut left, |m| application(m, connection.application));
    left.first().map_or("none", |chain| &chain.name)
}

fn keep_best(chains: &mut Vec<&FilterChain>, rank: impl Fn(&FilterChainMatch) -> Option<usize>) {
    let best = chains.iter().filter_map(|chain| rank(&chain.matches)).max();
    chains.retain(|chain| best.is_some() && rank(&chain.matches) == best);
}

#[test]
fn the_index_always_finds_what_a_walk_finds() {
    const NAMES: [&str; 6] = ["a.com", "b.com", "*.com", "*.b.com", "x.b.com", "*"];
    const APPLICATIONS: [Application; 4] =
        [Application::Http, Application::Opaque, Application::Mesh, Application::MeshHttp];
    // A small generator of our own: the crate needs no other randomness.
    let mut state = 0x9e37_79b9_u64;
    let mut draw = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % limit
    };
    for _ in 0..3000 {
        let chains: Vec<FilterChain> = (0..draw(9))
            .map(|number| {
                let server_names = (0..draw(3)).map(|_| NAMES[draw(6)].parse().unwrap()).collect();
                let matches = FilterChainMatch {
                    destination_port: [None, Some(1), Some(2)][draw(3)],
                    server_names,
                    transport: [None, Some(Transport::Tls), Some(Transport::RawBuffer)][draw(3)],
                    application: [None, Some(APPLICATIONS[draw(4)])][draw(2)],
                    ..FilterChainMatch::default()
                };
                chain(&number.to_string(), matches)
            })
            .collect();
        let name = [None, Some("a.com"), Some("y.b.com"), Some("B.com"), Some("none.org")][draw(5)];
        let port = u16::try_from(draw(3)).unwrap();
        let connection = facts(port, name, APPLICATIONS[draw(4)]);
        assert_eq!(
            selected(&chains, &connection),
            walked(&chains, &connection),
            "{chains:#?} {connection:?}"
        );
    }
}

#[test]
fn a_thousand_names_cost_no_more_than_a_few() {
    let some = |count: usize| -> Vec<FilterChain> {
        (0..count).map(|number| named(&format!("host-{number}.example.com"), None)).collect()
    };
    let time = |chains: &[FilterChain]| {
        let index = ChainIndex::new(chains, false);
        let last = format!("host-{}.example.com", chains.len() - 1);
        let asked = facts(443, Some(&last), Application::Opaque);
        let start = Instant::now();
        for _ in 0..2000 {
            assert_eq!(std::hint::black_box(index.select(&asked, chains)), Some(chains.len() - 1));
        }
        start.elapsed() / 2000
    };
    // The best of several: other work on the machine only ever adds.
    let best = |chains: &[FilterChain]| (0..20).map(|_| time(chains)).min().unwrap();
    let (few, many) = (best(&some(4)), best(&some(1000)));
    assert!(many < few * 8 + std::time::Duration::from_nanos(400), "{few:?} for 4, {many:?} for 1000");
}
