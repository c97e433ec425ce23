//! Clusters that have the name of each request, or the server name of each connection, resolved when it is asked for.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dataplane::Settings;
use snapshot::{
    ClusterId, ClusterTarget, Direction, Discovery, Draft, DynamicDns, FilterChain, Forward, HostPattern,
    Mirror, PathMatch, RouteAction, Share, Transport,
};

use crate::{
    dns::{asking, name_server, name_server_for},
    handshakes::Lines,
    http2,
    support::{
        Client, Proxy, Upstream, cluster, endpoints, gateway_draft, route, route_config, tcp_chain,
        to_cluster,
    },
    tls::{connect, make, tls_draft},
};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Nobody listens there.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);

/// `Settings::original_destination` is a plain function.
static DIALLED: OnceLock<SocketAddr> = OnceLock::new();

fn zone(name: &str) -> Vec<Ipv4Addr> {
    match name {
        "here.example.com." => vec![HERE],
        "there.example.com." | "other.net." => vec![THERE],
        "half.example.com." => vec![NOWHERE, HERE],
        _ => Vec::new(),
    }
}

fn draft(address: SocketAddr, hosts: &str, port: Option<u16>) -> Draft {
    let mut draft = gateway_draft(address, &[]);
    let hosts: HostPattern = hosts.parse().unwrap();
    draft.clusters[0].discovery = Discovery::DynamicDns(DynamicDns { hosts, port, begins_tls: false });
    draft
}

/// Two servers on one port of two addresses, each telling which it is.
fn two_servers() -> (Upstream, Upstream) {
    let telling = |body: &'static [u8]| {
        move |mut client: Client| {
            while client.request_head().is_some() {
                client.send(body);
            }
        }
    };
    let here = Upstream::start(telling(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhere"));
    let there = (THERE, here.address.port()).into();
    let there = Upstream::start_at(there, telling(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nthere"));
    (here, there)
}

fn body(client: &mut Client, host: &str) -> String {
    let answer = client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).answer();
    format!("{} {}", answer.status(), answer.text())
}

#[test]
fn each_request_goes_to_the_name_that_it_asks_for() {
    let (here, there) = two_servers();
    let port = Some(here.address.port());
    let proxy = Proxy::start(asking(name_server(zone)), |address| draft(address, "*.example.com", port));
    let mut client = proxy.connect();
    assert_eq!(body(&mut client, "here.example.com"), "200 here");
    assert_eq!(body(&mut client, "THERE.example.com:8080"), "200 there");
    assert_eq!(body(&mut client, "here.example.com."), "200 here");
    assert_eq!((here.connections(), there.connections()), (1, 1), "connections are kept by name");
    assert_eq!(body(&mut client, "half.example.com"), "200 here", "the next address after one that fails");
    assert_eq!(body(&mut client, "unknown.example.com"), "503 DNS resolution failure");
    assert_eq!(body(&mut client, "other.net"), "503 no healthy upstream", "not one of its names");
    assert_eq!(body(&mut client, "127.0.0.1"), "503 no healthy upstream", "an address is no name of it");
}

#[test]
fn any_name_and_address_at_the_port_that_was_dialled() {
    let (_here, there) = two_servers();
    let dialled: SocketAddr = (NOWHERE, there.address.port()).into();
    DIALLED.set(dialled).unwrap();
    let settings =
        Settings { original_destination: |_| Ok(DIALLED.get().copied()), ..asking(name_server(zone)) };
    let proxy = Proxy::start(settings, |address| {
        let mut draft = draft(address, "*", None);
        draft.listeners[0].direction = Direction::Outbound;
        draft
    });
    let mut client = proxy.connect();
    assert_eq!(body(&mut client, "other.net"), "200 there");
    assert_eq!(body(&mut client, "127.0.0.1"), "200 here");
    assert_eq!(body(&mut client, ""), "503 no healthy upstream");
}

#[test]
fn questions_are_not_repeated_while_an_answer_is_good() {
    /// That a name cannot be resolved is remembered for so many seconds.
    const REMEMBERED: u64 = 5;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let server = name_server_for(3600, move |name| {
        counted.fetch_add(1, Ordering::SeqCst);
        zone(name)
    });
    let (here, _there) = two_servers();
    let port = Some(here.address.port());
    let proxy = Proxy::start(asking(server), |address| draft(address, "*.example.com", port));
    for _ in 0..20 {
        assert_eq!(body(&mut proxy.connect(), "here.example.com"), "200 here");
    }
    assert_eq!(asked.swap(0, Ordering::SeqCst), 1);
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(body(&mut proxy.connect(), "unknown.example.com"), "503 DNS resolution failure");
    }
    // IPv6 is asked for when there is no IPv4 address.
    let (asked, times) = (asked.load(Ordering::SeqCst) as u64, 1 + start.elapsed().as_secs() / REMEMBERED);
    assert!((2..=2 * times).contains(&asked), "asked {asked} times where {times} answers were good");
}

#[test]
fn a_client_that_leaves_while_its_name_is_asked_for_is_logged() {
    // It answers nothing.
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let lines = Lines::default();
    let Settings { access_log, .. } = lines.settings();
    let settings = Settings { access_log, ..asking(server.local_addr().unwrap()) };
    let proxy = Proxy::start(settings, |address| draft(address, "*.example.com", Some(80)));
    let mut client = proxy.connect();
    client.send("GET /left HTTP/1.1\r\nhost: here.example.com\r\n\r\n");
    server.recv_from(&mut [0; 512]).unwrap();
    drop(client);
    let logged = lines.with("GET /left");
    assert!(logged.contains(" 0 DC downstream_remote_disconnect "), "{logged}");
}

#[test]
fn requests_of_http2_clients_go_to_the_names_they_ask_for() {
    let (here, _there) = two_servers();
    let port = Some(here.address.port());
    let proxy = Proxy::start(asking(name_server(zone)), |address| draft(address, "*.example.com", port));
    let asked = |host: &str| http2::get(proxy.address, host);
    assert_eq!(asked("there.example.com"), (200, "there".to_owned()));
    assert_eq!(asked("unknown.example.com"), (503, "DNS resolution failure".to_owned()));
}

#[test]
fn copies_go_to_the_names_that_are_asked_for_once_these_are_known() {
    let (_here, there) = two_servers();
    let upstream = Upstream::echoing_heads();
    let port = Some(there.address.port());
    let proxy = Proxy::start(asking(name_server(zone)), |address| {
        let mut draft = draft(address, "*.example.com", port);
        draft.clusters.insert(0, cluster("test", endpoints(&[upstream.address])));
        let target = ClusterTarget { id: Some(ClusterId(1)), ..to_cluster(None).targets()[0].clone() };
        let mirrors = vec![Mirror { target, share: Share::ALL, marks_host: false }];
        let action = RouteAction::Forward(Forward { mirrors, ..to_cluster(Some(0)).into() });
        draft.route_configs = vec![route_config("*", vec![route(PathMatch::Any, action)])];
        draft
    });
    let mut client = proxy.connect();
    for _ in 0..500 {
        // Nobody waits for what is asked of the name servers, nor for what has no address.
        assert!(body(&mut client, "unknown.example.com").starts_with("200 "));
        assert!(body(&mut client, "there.example.com").starts_with("200 "));
        if there.connections() > 0 {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("no copy came");
}

#[test]
fn connections_go_to_the_server_name_of_their_hello() {
    let made = make(&["here.example.com", "there.example.com", "other.net"]);
    let upstream = Upstream::echoing_heads();
    let behind =
        Proxy::start(Settings::default(), |at| tls_draft(at, upstream.address, &[("*", Some(&made))]));
    let port = Some(behind.address.port());
    let proxy = Proxy::start(asking(name_server(zone)), |address| {
        let mut draft = draft(address, "*.example.com", port);
        let mut chain = FilterChain { name: "sni".to_owned(), ..tcp_chain(0) };
        chain.matches.server_names = vec![HostPattern::Any];
        chain.matches.transport = Some(Transport::Tls);
        draft.listeners[0].filter_chains = vec![chain];
        draft
    });
    assert_eq!(connect(&proxy, "here.example.com", &[&made]).unwrap().get("/").status(), "200");
    for name in ["there.example.com", "unknown.example.com", "other.net"] {
        assert!(connect(&proxy, name, &[&made]).is_err(), "{name}");
    }
}
