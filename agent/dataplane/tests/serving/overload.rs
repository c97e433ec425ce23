//! A process that has too much of something: what it refuses, in which form, and that it serves again.

use dataplane::{AccessLog, LogFormat, Overload, Pressure, Settings};
use snapshot::Format;

use crate::{
    http2,
    support::{Answer, Proxy, Upstream, eventually, gateway_draft},
};

fn overloaded(overload: &Overload, settings: Settings) -> (Proxy, Upstream) {
    let upstream = Upstream::echoing_heads();
    let settings = Settings { overload: overload.clone(), ..settings };
    let proxy = Proxy::start(settings, |address| gateway_draft(address, &[upstream.address]));
    (proxy, upstream)
}

fn is_refused(answer: &Answer) {
    assert_eq!((answer.status(), answer.text()), ("503", "envoy overloaded"));
    assert_eq!(
        (answer.field("content-type"), answer.field("server")),
        (Some("text/plain"), Some("istio-envoy"))
    );
}

#[test]
fn requests_are_refused_while_memory_is_short_and_connections_go_on() {
    let (overload, log) = (Overload::default(), tempfile::NamedTempFile::new().unwrap());
    let format = LogFormat::text(
        &Format::parse("%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n").unwrap(),
    );
    let access_log = Some(AccessLog::open(log.path()).unwrap().with_format(format));
    let (proxy, upstream) = overloaded(&overload, Settings { access_log, ..Settings::default() });
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), "200");
    overload.set_pressure(Pressure::Requests);
    is_refused(&client.get("/"));
    is_refused(&proxy.connect().get("/"));
    assert_eq!(http2::get(proxy.address, "test"), (503, "envoy overloaded".to_owned()));
    // What is not read of a request ends its connection.
    let mut sending = proxy.connect();
    is_refused(&sending.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\nhalf").answer());
    assert!(sending.rest_or_reset().is_empty());
    overload.set_pressure(Pressure::None);
    assert_eq!(client.get("/").status(), "200");
    assert_eq!(upstream.connections(), 1);
    eventually("each refusal has a line", || {
        let lines = std::fs::read_to_string(log.path()).unwrap();
        lines.lines().filter(|line| *line == "503 - overload").count() == 4
    });
}

#[test]
fn large_heads_are_refused_before_they_are_whole() {
    let (overload, log) = (Overload::default(), tempfile::NamedTempFile::new().unwrap());
    let format =
        LogFormat::text(&Format::parse("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %BYTES_SENT%\n").unwrap());
    let access_log = Some(AccessLog::open(log.path()).unwrap().with_format(format));
    let (proxy, upstream) = overloaded(&overload, Settings { access_log, ..Settings::default() });
    let (mut small, mut large) = (proxy.connect(), proxy.connect());
    for client in [&mut small, &mut large] {
        assert_eq!(client.get("/").status(), "200");
        client.send("GET / HTTP/1.1\r\nhost: test\r\n");
    }
    overload.set_pressure(Pressure::Requests);
    let field = format!("x-large: {}\r\n", "x".repeat(20_000));
    is_refused(&large.send(&field).answer());
    assert!(large.rest_or_reset().is_empty());
    overload.set_pressure(Pressure::None);
    assert_eq!(small.send("\r\n").answer().status(), "200");
    let whole = format!("GET / HTTP/1.1\r\nhost: test\r\n{field}\r\n");
    assert_eq!(proxy.connect().send(whole).answer().status(), "200");
    assert_eq!(upstream.connections(), 1);
    eventually("the refusal has a line", || {
        std::fs::read_to_string(log.path()).unwrap().lines().any(|line| line == "503 overload 16")
    });
}

#[test]
fn calls_of_grpc_are_refused_in_their_own_form() {
    let overload = Overload::default();
    let (proxy, _upstream) = overloaded(&overload, Settings::default());
    overload.set_pressure(Pressure::Requests);
    let call = [("content-type", "application/grpc+proto")];
    let (head, body, trailers) = http2::exchange(proxy.address, ("POST", "/"), &call);
    assert_eq!((head.status.as_u16(), &*body, trailers), (200, "", None));
    for (name, value) in
        [("content-type", "application/grpc"), ("grpc-status", "14"), ("grpc-message", "envoy overloaded")]
    {
        assert_eq!(head.headers[name], value, "{name}");
    }
}

#[test]
fn with_even_less_memory_connections_are_closed_too() {
    let overload = Overload::default();
    let (proxy, _upstream) = overloaded(&overload, Settings::default());
    let mut before = proxy.connect();
    assert_eq!(before.get("/").status(), "200");
    overload.set_pressure(Pressure::Connections);
    assert!(proxy.connect().rest_or_reset().is_empty());
    is_refused(&before.get("/"));
    assert_eq!(proxy.runtime.block_on(proxy.plane.counts()).over_limit, 1);
    overload.set_pressure(Pressure::None);
    assert_eq!(proxy.connect().get("/").status(), "200");
}

#[test]
fn the_limit_of_connections_is_that_of_all_workers() {
    let overload = Overload::new(Some(3));
    let (proxy, _upstream) = overloaded(&overload, Settings { workers: 2, ..Settings::default() });
    let mut open: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
    for client in &mut open {
        assert_eq!(client.get("/").status(), "200");
    }
    for _ in 0..4 {
        assert!(proxy.connect().rest_or_reset().is_empty());
    }
    assert_eq!(proxy.runtime.block_on(proxy.plane.counts()).over_limit, 4);
    drop(open.pop());
    eventually("a place is free", || {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        client.rest_or_reset().starts_with(b"HTTP/1.1 200")
    });
}
