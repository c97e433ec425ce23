//! TLS told apart by server name: passed on unopened, terminated to bytes, or refused with an alert.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::{Mutex, mpsc},
    time::Duration,
};

use dataplane::Settings;
use snapshot::{Draft, FilterChain, FilterChainMatch, NetworkFilter, RouteConfigId, TlsContextId, Transport};

use crate::{
    support::{PATIENCE, Proxy, Upstream, cluster, endpoints, gateway_draft, route_config, tcp_chain},
    tls::{Made, connect, counts, make, tls_draft},
};

/// A terminating proxy for one name, to stand behind another.
fn behind(name: &str, made: &Made, upstream: &Upstream) -> Proxy {
    Proxy::start(Settings::default(), |address| tls_draft(address, upstream.address, &[(name, Some(made))]))
}

/// A listener that passes TLS on by server name, to a cluster each.
fn passthrough_draft(address: SocketAddr, servers: &[(&str, SocketAddr)]) -> Draft {
    let mut draft = gateway_draft(address, &[]);
    draft.listeners[0].filter_chains.clear();
    for (id, (name, to)) in (1..).zip(servers) {
        let matches = FilterChainMatch {
            server_names: vec![name.parse().unwrap()],
            transport: Some(Transport::Tls),
            ..FilterChainMatch::default()
        };
        draft.listeners[0].filter_chains.push(FilterChain { matches, ..tcp_chain(id) });
        draft.clusters.push(cluster(name, endpoints(&[*to])));
    }
    draft
}

#[test]
fn tls_is_passed_on_unopened_by_server_name() {
    let (a, b) = (make(&["a.com"]), make(&["x.b.com"]));
    let upstream = Upstream::echoing_heads();
    let (to_a, to_b) = (behind("a.com", &a, &upstream), behind("*.b.com", &b, &upstream));
    let proxy = Proxy::start(Settings::default(), |address| {
        passthrough_draft(address, &[("a.com", to_a.address), ("*.b.com", to_b.address)])
    });
    for (name, made) in [("a.com", &a), ("x.b.com", &b)] {
        let mut client = connect(&proxy, name, &[made]).unwrap();
        assert_eq!(client.get("/").status(), "200", "{name}");
        assert_eq!(client.get("/").status(), "200", "{name}");
    }
    // Passed on, not opened: no handshake was ours.
    assert!(connect(&proxy, "a.com", &[&b]).is_err());
    let counts = counts(&proxy);
    assert_eq!((counts.connections, counts.no_filter_chain, counts.failed_handshakes), (3, 0, 0));
}

#[test]
fn a_name_that_nobody_serves_is_told_so() {
    let a = make(&["a.com"]);
    let upstream = Upstream::echoing_heads();
    let proxy = behind("a.com", &a, &upstream);
    let error = connect(&proxy, "b.com", &[&a]).err().unwrap();
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    assert_eq!(counts(&proxy).no_filter_chain, 1);
}

#[test]
fn an_address_as_host_serves_clients_that_dial_it() {
    let a = make(&["127.0.0.1"]);
    let upstream = Upstream::echoing_heads();
    let proxy = behind("127.0.0.1", &a, &upstream);
    // rustls sends no server name for an address.
    assert_eq!(connect(&proxy, "127.0.0.1", &[&a]).unwrap().get("/").status(), "200");
    assert!(connect(&proxy, "a.com", &[&a]).is_err());
}

/// A proxy that opens TLS for `a.com` and relays what is inside.
fn relaying(made: &Made, upstream: &Upstream) -> Proxy {
    Proxy::start(Settings::default(), |address| {
        let mut draft = tls_draft(address, upstream.address, &[("a.com", Some(made))]);
        let tls = draft.listeners[0].filter_chains[0].clone();
        draft.listeners[0].filter_chains[0] = FilterChain { filter: tcp_chain(0).filter, ..tls };
        draft
    })
}

#[test]
fn tls_is_opened_and_its_bytes_relayed() {
    let a = make(&["a.com"]);
    let upstream = Upstream::start(|mut client| {
        client.send("220 hello\r\n");
        let said = client.exactly(6);
        client.send(said);
    });
    let proxy = relaying(&a, &upstream);
    let mut client = connect(&proxy, "a.com", &[&a]).unwrap();
    // A server that speaks first is no trouble: the client has spoken TLS by then.
    assert_eq!(client.exactly(11), b"220 hello\r\n");
    std::thread::sleep(Duration::from_millis(20));
    client.send("EHLO\r\n");
    assert_eq!(client.exactly(6), b"EHLO\r\n");
}

#[test]
fn nothing_is_lost_of_a_client_that_ends_without_a_word() {
    const SIZE: usize = 3_000_000;
    let a = make(&["a.com"]);
    let (gone, left) = mpsc::channel();
    let left = Mutex::new(left);
    let (read, all) = mpsc::channel();
    let upstream = Upstream::start(move |mut client| {
        client.send("hello");
        // A slow one: most waits on its way while the client leaves.
        _ = left.lock().unwrap().recv_timeout(Duration::from_secs(1));
        let mut bytes = Vec::new();
        let ended = client.0.read_to_end(&mut bytes).map_err(|error| error.kind());
        read.send((bytes.len(), ended)).unwrap();
    });
    let proxy = relaying(&a, &upstream);
    for announced in [true, false] {
        let mut client = connect(&proxy, "a.com", &[&a]).unwrap();
        // With it come tickets: leaving them unread would be a reset.
        assert_eq!(client.exactly(5), b"hello");
        client.send(vec![b'x'; SIZE]);
        if announced {
            client.0.conn.send_close_notify();
            client.0.flush().unwrap();
        }
        drop(client);
        gone.send(()).unwrap();
        assert_eq!(all.recv_timeout(PATIENCE), Ok((SIZE, Ok(SIZE))), "announced: {announced}");
    }
}

#[test]
fn a_request_for_a_host_of_another_server_goes_there_or_is_sent_away() {
    let made = make(&["a.com", "b.com", "c.com"]);
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::start(Settings::default(), |address| {
        let servers = [("a.com", Some(&made)), ("b.com", Some(&made)), ("c.com", Some(&made))];
        let mut draft = tls_draft(address, upstream.address, &servers);
        let forward = draft.route_configs[0].virtual_hosts()[0].routes.clone();
        draft.route_configs =
            ["a.com", "b.com", "c.com"].map(|host| route_config(host, forward.clone())).into();
        for (id, chain) in (0..).zip(&mut draft.listeners[0].filter_chains) {
            let NetworkFilter::Http(http) = &mut chain.filter else { panic!("not HTTP") };
            http.route_config = RouteConfigId(id);
        }
        // a.com and b.com are one context; c.com has rules of its own.
        draft.listeners[0].filter_chains[1].tls = Some(TlsContextId(0));
        draft
    });
    let mut client = connect(&proxy, "a.com", &[&made]).unwrap();
    for (host, expected) in
        [("a.com", "200"), ("b.com", "200"), ("c.com", "421"), ("d.com", "404"), ("a.com", "200")]
    {
        let answer = client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).answer();
        assert_eq!(answer.status(), expected, "{host}");
    }
    let mut client = connect(&proxy, "c.com", &[&made]).unwrap();
    assert_eq!(client.send("GET / HTTP/1.1\r\nhost: a.com\r\n\r\n").answer().status(), "421");
}
