//! How long connections live and how they are kept (`connectionPool`).

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{Backlog, listen};

use super::gateway::{Gateway, app};
use crate::support::{Endpoint, PATIENCE, eventually};

const TICK: Duration = Duration::from_secs(1);

/// An endpoint that says how long each connection lived after its last request.
fn telling_ends() -> (Endpoint, mpsc::Receiver<Duration>) {
    let (ended, ends) = mpsc::channel();
    let server = Endpoint::start(move |mut client| {
        let mut last = Instant::now();
        while client.message().is_ok() {
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            last = Instant::now();
        }
        _ = ended.send(last.elapsed());
    });
    (server, ends)
}

#[test]
fn idle_connections_to_endpoints_are_closed_in_time() {
    // Looked at twice a second.
    let (server, ends) = telling_ends();
    let gateway = Gateway::start(&app(&[server.address], "{connectionPool: {http: {idleTimeout: 1500ms}}}"));
    let mut client = gateway.client();
    assert_eq!(client.get("/").status(), 200);
    let idle = ends.recv_timeout(PATIENCE).unwrap();
    assert!(idle.as_millis() >= 1400, "{idle:?}");
    // Nobody notices.
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(server.connections(), 2);
}

#[test]
fn connections_to_endpoints_are_kept_for_an_hour_where_nothing_is_said() {
    let (server, ends) = telling_ends();
    let gateway = Gateway::start(&app(&[server.address], "{connectionPool: {http: {maxRetries: 9}}}"));
    let mut client = gateway.client();
    assert_eq!(client.get("/").status(), 200);
    ends.recv_timeout(Duration::from_secs(3)).unwrap_err();
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(server.connections(), 1);
}

#[test]
fn connections_carry_so_many_requests_and_live_so_long() {
    let cases = [
        ("{http: {maxRequestsPerConnection: 1}}", Duration::ZERO, 4..=4),
        ("{http: {maxRequestsPerConnection: 2}}", Duration::ZERO, 2..=2),
        ("{http: {maxRequestsPerConnection: 0}}", Duration::ZERO, 1..=1),
        ("{tcp: {maxConnectionDuration: 1s}}", Duration::from_millis(700), 2..=3),
    ];
    for (pool, pause, connections) in cases {
        let server = Endpoint::named("app");
        let gateway = Gateway::start(&app(&[server.address], &format!("{{connectionPool: {pool}}}")));
        let mut client = gateway.client();
        for _ in 0..4 {
            assert_eq!(client.get("/").status(), 200, "{pool}");
            thread::sleep(pause);
        }
        assert!(connections.contains(&server.connections()), "{pool}: {}", server.connections());
    }
}

#[test]
fn opaque_connections_end_when_idle_or_old() {
    for pool in ["{tcp: {idleTimeout: 1s}}", "{tcp: {maxConnectionDuration: 1s}}"] {
        let server = Endpoint::opaque("app");
        let gateway = Gateway::start(&app(&[server.address], &format!("{{connectionPool: {pool}}}")));
        let mut client = gateway.opaque_client();
        let begun = Instant::now();
        assert_eq!(client.send("hello\n").line(), "app");
        assert!(client.ends(), "{pool}");
        let lived = begun.elapsed();
        assert!(lived >= TICK, "{pool}: {lived:?}");
        // As in Envoy, time without a byte shows by nothing but the duration.
        gateway.access_line(&[if pool.contains("Duration") { "- - -\" 0 DT - " } else { "- - -\" 0 - - " }]);
    }
}

#[test]
fn a_connection_at_work_outlives_the_idle_timeout_but_not_the_duration() {
    let talks = |pool: &str| {
        let server = Endpoint::opaque("app");
        let gateway = Gateway::start(&app(&[server.address], &format!("{{connectionPool: {pool}}}")));
        let mut client = gateway.opaque_client();
        (0..16).all(|_| {
            thread::sleep(Duration::from_millis(250));
            client.send("hello\n").line() == "app"
        })
    };
    assert!(talks("{tcp: {idleTimeout: 3s}}"));
    assert!(!talks("{tcp: {maxConnectionDuration: 1s}}"));
}

/// An address where connections are neither accepted nor refused: nobody takes those that wait already.
fn silent() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listen(&listener.as_fd(), Backlog::new(0).unwrap()).unwrap();
    let attempt = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
    let waiting: Vec<TcpStream> = std::iter::from_fn(attempt).take(16).collect();
    assert!(waiting.len() < 16, "the queue is never full");
    (address, listener, waiting)
}

#[test]
fn connecting_takes_no_longer_than_it_may() {
    let (silent, _listener, _waiting) = silent();
    for (policy, mesh, atleast) in [
        ("{connectionPool: {tcp: {connectTimeout: 500ms}}}", "", 500),
        ("{loadBalancer: {simple: RANDOM}}", "connectTimeout: 1s\n", 1000),
    ] {
        let gateway = Gateway::start_with(&app(&[silent], policy), mesh, &[]);
        let begun = Instant::now();
        let answer = gateway.client().get("/");
        let took = begun.elapsed().as_millis();
        assert_eq!(answer.status(), 503, "{policy}");
        // Ten seconds where nobody says anything.
        assert!((atleast..9_000).contains(&took), "{policy}: {took} ms");
        gateway.access_line(&["\" 503 UF ", "connection_timeout"]);
    }
}

/// Of the established connections to a port: whether the kernel's timer for keepalive runs, and for how many more
/// hundredths of a second.
fn keepalive_to(address: SocketAddr) -> Option<u64> {
    let remote = format!("0100007F:{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row[2] == remote && row[3] == "01")?;
    let (timer, due) = row[5].split_once(':').unwrap();
    (timer == "02").then(|| u64::from_str_radix(due, 16).unwrap())
}

#[test]
fn silent_endpoints_are_probed_where_that_is_asked_for() {
    for (mesh, pool, expected) in [
        ("", "{tcp: {tcpKeepalive: {time: 30s, interval: 5s, probes: 3}}}", Some(30)),
        ("", "{tcp: {maxConnections: 9}}", None),
        ("tcpKeepalive: {time: 30s}\n", "{tcp: {maxConnections: 9}}", Some(30)),
    ] {
        let server = Endpoint::named("app");
        let resources = app(&[server.address], &format!("{{connectionPool: {pool}}}"));
        let gateway = Gateway::start_with(&resources, mesh, &[]);
        let mut client = gateway.client();
        assert_eq!(client.get("/").status(), 200);
        let mut left = None;
        if expected.is_some() {
            eventually("the timer runs", || {
                left = keepalive_to(server.address);
                left.is_some()
            });
        }
        // The timer runs meanwhile; without the setting it would be two hours.
        let seconds = left.map(|hundredths| hundredths.div_ceil(100));
        assert!(seconds <= expected && seconds.is_some() == expected.is_some(), "{pool}: {seconds:?}");
        assert_eq!(keepalive_to(server.address).is_some(), expected.is_some(), "{pool}");
    }
}
