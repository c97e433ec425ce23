//! What a change of the configuration does to connections that are open: nothing, unless what serves them is gone.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use bytes::Bytes;
use dataplane::{AccessLog, Settings};
use snapshot::{Binding, Draft, NetworkFilter, PathMatch, RouteAction};

use crate::{
    floods::{END_HEADERS, END_STREAM, GET, HEADERS, frame, greeted, head, head_of_answer},
    http2::{request, with_client},
    support::{
        Client, Proxy, Upstream, cluster, endpoints, eventually, free_address, gateway_draft, route,
        route_config, tcp_chain,
    },
};

/// Sends back what comes, to the end.
fn echo(client: &mut Client) {
    let mut bytes = [0; 64];
    while let Ok(read @ 1..) = client.0.read(&mut bytes) {
        client.send(&bytes[..read]);
    }
}

/// Everything that can change around a connection: another route, cluster, endpoint, and one listener more.
fn changed(address: SocketAddr, upstreams: &[SocketAddr]) -> Draft {
    let mut draft = gateway_draft(address, upstreams);
    let direct = RouteAction::DirectResponse { status: 200, body: "changed".to_owned() };
    draft.route_configs = vec![route_config("*", vec![route(PathMatch::Any, direct)])];
    let mut further = draft.listeners[0].clone();
    further.binding = Binding::Socket(free_address());
    draft.listeners.push(further);
    draft.clusters.push(cluster("further", endpoints(&[])));
    draft
}

#[test]
fn opaque_connections_go_on_when_even_their_endpoint_is_gone() {
    let echo = Upstream::start(|mut client| echo(&mut client));
    let opaque = |address, upstreams: &[SocketAddr]| {
        let mut draft = gateway_draft(address, upstreams);
        draft.listeners[0].filter_chains = vec![tcp_chain(0)];
        draft
    };
    let mut proxy = Proxy::start(Settings::default(), |address| opaque(address, &[echo.address]));
    let mut client = proxy.connect();
    assert_eq!(client.send("one").exactly(3), b"one");
    proxy.publish(opaque(proxy.address, &[]));
    assert_eq!(client.send("two").exactly(3), b"two");
    proxy.publish(changed(proxy.address, &[]));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(client.send("three").exactly(5), b"three");
}

#[test]
fn websockets_go_on_when_their_route_is_gone() {
    let upstream = Upstream::start(|mut client| {
        client.request_head().unwrap();
        client.send("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
        echo(&mut client);
    });
    let mut proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").head();
    assert_eq!(client.send("one").exactly(3), b"one");
    proxy.publish(changed(proxy.address, &[]));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(client.send("two").exactly(3), b"two");
    assert_eq!(proxy.connect().get("/").text(), "changed");
}

/// An endpoint that answers once the barrier is passed, and says that it has been asked by reaching it.
fn slow(barrier: &Arc<Barrier>) -> Upstream {
    let barrier = Arc::clone(barrier);
    Upstream::start(move |mut client| {
        while client.request_head().is_some() {
            barrier.wait();
            barrier.wait();
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow");
        }
    })
}

#[test]
fn an_endpoint_that_leaves_ends_what_it_was_asked_and_is_asked_nothing_more() {
    let barrier = Arc::new(Barrier::new(2));
    let (leaving, staying) = (slow(&barrier), Upstream::echoing_heads());
    let mut proxy = Proxy::gateway(&[leaving.address]);
    let address = proxy.address;
    let asking = thread::spawn(move || Client::connect(address).get("/").text().to_owned());
    barrier.wait();
    proxy.publish(gateway_draft(address, &[staying.address]));
    for _ in 0..5 {
        assert!(proxy.connect().get("/").text().starts_with("GET / "));
    }
    assert!(crate::http2::get(address, "test").1.starts_with("GET / "));
    barrier.wait();
    assert_eq!(asking.join().unwrap(), "slow");
    assert_eq!(leaving.connections(), 1);
}

#[test]
fn connections_of_a_removed_listener_end_with_what_is_under_way_and_others_stay() {
    let barrier = Arc::new(Barrier::new(2));
    let upstream = slow(&barrier);
    let other = free_address();
    let both = |address: SocketAddr| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        let mut second = draft.listeners[0].clone();
        (second.name, second.binding) = ("second".to_owned(), Binding::Socket(other));
        draft.listeners.push(second);
        draft
    };
    let mut proxy = Proxy::start(Settings::default(), both);
    let ask = |client: &mut Client| {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        barrier.wait();
        barrier.wait();
        assert_eq!(client.answer().text(), "slow");
    };
    let (mut staying, mut idle) = (proxy.connect(), Client::connect(other));
    ask(&mut staying);
    ask(&mut idle);
    let mut busy = Client::connect(other);
    busy.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    barrier.wait();
    proxy.publish(gateway_draft(proxy.address, &[upstream.address]));
    // Nobody has to ask to find out.
    assert!(idle.rest().is_empty());
    TcpListener::bind(other).unwrap();
    barrier.wait();
    let answer = busy.answer();
    assert_eq!((answer.text(), answer.field("connection")), ("slow", Some("close")));
    assert!(busy.rest().is_empty());
    ask(&mut staying);
}

#[test]
fn a_connection_whose_place_comes_back_in_time_stays() {
    let upstream = Upstream::echoing_heads();
    let other = free_address();
    let both = |address: SocketAddr| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        let mut second = draft.listeners[0].clone();
        (second.name, second.binding) = ("second".to_owned(), Binding::Socket(other));
        draft.listeners.push(second);
        draft
    };
    let mut proxy = Proxy::start(Settings::default(), both);
    let (mut staying, mut leaving) = (proxy.connect(), Client::connect(other));
    for client in [&mut staying, &mut leaving] {
        assert_eq!(client.get("/").status(), "200");
    }
    let without = |serving: usize| {
        let mut draft = both(proxy.address);
        let gone = draft.listeners.iter_mut().take(serving);
        gone.for_each(|listener| listener.filter_chains[0].filter = NetworkFilter::Blackhole);
        draft
    };
    let (without_both, mut without_second) = (without(2), both(proxy.address));
    without_second.listeners[1].filter_chains[0].filter = NetworkFilter::Blackhole;
    proxy.publish(without_both);
    proxy.publish(without_second);
    // Both have had the same time.
    assert!(leaving.rest().is_empty());
    let answer = staying.get("/");
    assert_eq!((answer.status(), answer.field("connection")), ("200", None));
}

/// A gateway whose connections have all the time there is for what is on its way, and one where it is listens next.
fn patient_gateway(upstream: SocketAddr) -> (Proxy, SocketAddr) {
    let settings = Settings { draining_patience: Duration::from_secs(60), ..Settings::default() };
    (Proxy::start(settings, |address| gateway_draft(address, &[upstream])), free_address())
}

/// The answer before has told the client nothing; what it has sent since was sent in good faith.
#[test]
fn what_is_on_its_way_when_a_listener_is_removed_is_answered() {
    let upstream = Upstream::echoing_heads();
    let (mut proxy, next) = patient_gateway(upstream.address);
    let (mut asked, mut begun, mut fresh) = (proxy.connect(), proxy.connect(), proxy.connect());
    for client in [&mut asked, &mut begun] {
        assert_eq!(client.get("/").status(), "200");
    }
    begun.send("POST / HTTP/1.1\r\nhost: te");
    // Accepted, or it would be nobody's.
    await_accepted(&proxy, 3);
    proxy.publish(gateway_draft(next, &[]));
    asked.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n");
    begun.send("st\r\ncontent-length: 0\r\n\r\n");
    fresh.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    for client in [&mut asked, &mut begun, &mut fresh] {
        let answer = client.answer();
        assert_eq!((answer.status(), answer.field("connection")), ("200", Some("close")));
        assert!(client.rest().is_empty());
    }
}

/// A chain that serves no HTTP any more, as when a port is for opaque bytes, or PERMISSIVE becomes STRICT.
#[test]
fn what_is_on_its_way_when_its_chain_is_gone_is_answered_and_what_comes_later_is_told_so() {
    let upstream = Upstream::echoing_heads();
    let log = tempfile::NamedTempFile::new().unwrap();
    let access_log = Some(AccessLog::open(log.path()).unwrap());
    let settings = Settings { access_log, ..Settings::default() };
    let mut proxy = Proxy::start(settings, |address| gateway_draft(address, &[upstream.address]));
    let mut begun: Vec<_> = (0..100).map(|_| proxy.connect()).collect();
    for client in &mut begun {
        client.send("GET / HTTP/1.1\r\nhost: te");
    }
    await_accepted(&proxy, 100);
    let mut changed = gateway_draft(proxy.address, &[upstream.address]);
    changed.listeners[0].filter_chains[0].filter = NetworkFilter::Blackhole;
    proxy.publish(changed);
    let mut told = begun.iter_mut().map(|client| {
        let answer = client.send("st\r\n\r\n").answer();
        assert_eq!(answer.field("connection"), Some("close"));
        thread::sleep(Duration::from_millis(100));
        answer.status().to_owned()
    });
    assert_eq!(told.find(|status| status != "200").as_deref(), Some("404"));
    eventually("it is logged", || {
        std::fs::read_to_string(log.path()).unwrap().contains("404 NR route_not_found")
    });
}

/// Waits until so many connections were accepted, and each was looked at.
fn await_accepted(proxy: &Proxy, count: u64) {
    let accepted = || proxy.runtime.block_on(proxy.plane.counts()).connections >= count;
    eventually("connections are accepted", accepted);
    assert!(accepted());
}

#[test]
fn streams_that_cross_the_goodbye_of_a_removed_listener_are_answered() {
    let upstream = Upstream::echoing_heads();
    let (mut proxy, next) = patient_gateway(upstream.address);
    let mut stream = greeted(&proxy);
    let ask = |number| frame(HEADERS, END_STREAM | END_HEADERS, number, &head(GET));
    stream.write_all(&ask(1)).unwrap();
    assert!(head_of_answer(&mut stream).contains(&STATUS_200));
    proxy.publish(gateway_draft(next, &[]));
    // The client has not read yet that it is to go.
    stream.write_all(&ask(3)).unwrap();
    assert!(head_of_answer(&mut stream).contains(&STATUS_200));
}

/// Of the static table.
const STATUS_200: u8 = 0x88;

#[test]
fn http_2_clients_of_a_removed_listener_are_told_to_go() {
    let barrier = Arc::new(Barrier::new(2));
    let upstream = slow(&barrier);
    let mut proxy = Proxy::gateway(&[upstream.address]);
    let (removed, next) = (proxy.address, free_address());
    let publishing = thread::spawn(move || {
        barrier.wait();
        proxy.publish(gateway_draft(next, &[]));
        barrier.wait();
        proxy
    });
    with_client(removed, async |mut sender| {
        let response = sender.send_request(request("GET", "/", b"")).await.unwrap();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        assert_eq!(body.to_bytes(), Bytes::from("slow"));
        // The connection ends by itself.
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    drop(publishing.join().unwrap());
}
