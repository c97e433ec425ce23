//! Endpoints that speak HTTP/2: how their connections are kept, and what is counted of gRPC.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use super::gateway::{Gateway, app};
use crate::support::{
    Client, Endpoint, eventually,
    http2::{
        ACK, DATA, END_STREAM, Frame, HEADERS, OPENING, PING, PREFACE_LENGTH, RST_STREAM, SETTINGS, frame,
        head,
    },
    printed, virtual_service,
};

/// What an endpoint has seen.
#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    /// Bytes of their bodies.
    data: AtomicUsize,
    pings: AtomicUsize,
    /// Connections that the proxy has ended.
    ended: AtomicUsize,
}

/// What an endpoint does with requests, and with PINGs.
#[derive(Clone, Copy)]
struct Manners {
    answers: fn(u32) -> Vec<u8>,
    returns_pings: bool,
}

fn nothing(_: u32) -> Vec<u8> {
    Vec::new()
}

fn no_content(stream: u32) -> Vec<u8> {
    head(stream, END_STREAM, &[(":status", "204")])
}

fn endpoint(manners: Manners) -> (Endpoint, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let told = Arc::clone(&seen);
    let endpoint = Endpoint::start(move |client| {
        serve(client, manners, &told);
        told.ended.fetch_add(1, SeqCst);
    });
    (endpoint, seen)
}

fn serve(mut client: Client, manners: Manners, seen: &Seen) {
    let mut preface = [0; PREFACE_LENGTH];
    // Whoever only looks whether somebody listens says nothing.
    if client.0.read_exact(&mut preface).is_err() {
        return;
    }
    client.send(frame(SETTINGS, 0, 0, &[]));
    while let Ok(read) = Frame::read(&mut client.0) {
        match read.kind {
            SETTINGS if read.flags & ACK == 0 => _ = client.send(frame(SETTINGS, ACK, 0, &[])),
            PING if read.flags & ACK == 0 => {
                seen.pings.fetch_add(1, SeqCst);
                if manners.returns_pings {
                    client.send(frame(PING, ACK, 0, &read.payload));
                }
            }
            DATA | HEADERS => {
                if read.kind == DATA {
                    seen.data.fetch_add(read.payload.len(), SeqCst);
                }
                if !read.ends() {
                    continue;
                }
                seen.requests.fetch_add(1, SeqCst);
                client.send((manners.answers)(read.stream));
            }
            _ => {}
        }
    }
}

/// Answers every request without a body.
pub(super) fn answer_no_content(client: Client) {
    serve(client, ANSWERING, &Seen::default());
}

fn gateway(endpoint: &Endpoint, http: &str, more: &str) -> Gateway {
    let pool = format!("{{connectionPool: {{http: {{h2UpgradePolicy: UPGRADE{http}}}{more}}}}}");
    Gateway::start(&app(&[endpoint.address], &pool))
}

const SILENT: Manners = Manners { answers: nothing, returns_pings: true };
const ANSWERING: Manners = Manners { answers: no_content, returns_pings: true };

#[test]
fn a_connection_takes_as_many_requests_at_once_as_the_rule_says() {
    for (http, connections) in [("", 1), (", maxConcurrentStreams: 2", 1), (", maxConcurrentStreams: 1", 2)] {
        let (endpoint, seen) = endpoint(SILENT);
        let gateway = gateway(&endpoint, http, "");
        let mut clients = [gateway.client(), gateway.client()];
        for (number, client) in (1..).zip(&mut clients) {
            client.ask("/", "");
            eventually("it is asked", || seen.requests.load(SeqCst) == number);
        }
        assert_eq!(endpoint.connections(), connections, "{http}");
    }
}

/// Without a PING that comes back the endpoint is taken for gone.
#[test]
fn connections_are_tried_by_pings() {
    const KEEPALIVE: &str = ", http2KeepAlive: {interval: 1s, timeout: 1s}";
    let (kept, kept_seen) = endpoint(SILENT);
    let (lost, lost_seen) = endpoint(Manners { returns_pings: false, ..SILENT });
    let gateways = [&kept, &lost].map(|endpoint| gateway(endpoint, KEEPALIVE, ""));
    let [mut waiting, mut refused] = gateways.each_ref().map(Gateway::client);
    waiting.ask("/", "");
    assert_eq!(refused.ask("/", "").answer().status(), 503);
    assert_eq!(lost_seen.pings.load(SeqCst), 1);
    eventually("there are PINGs", || kept_seen.pings.load(SeqCst) >= 1);
    assert_eq!(kept_seen.ended.load(SeqCst), 0);
}

#[test]
fn connections_end_when_they_are_idle_or_old() {
    let (idle, idle_seen) = endpoint(ANSWERING);
    let (old, old_seen) = endpoint(ANSWERING);
    let first = gateway(&idle, ", idleTimeout: 1s", "");
    let second = gateway(&old, "", ", tcp: {maxConnectionDuration: 1s}");
    assert_eq!(first.client().get("/").status(), 204);
    let mut client = second.client();
    eventually("there is a second connection", || {
        assert_eq!(client.get("/").status(), 204);
        old.connections() == 2
    });
    eventually("the old connection ends", || old_seen.ended.load(SeqCst) >= 1);
    eventually("the idle connection ends", || idle_seen.ended.load(SeqCst) == 1);
}

/// REFUSED_STREAM for the first stream of a connection.
fn refusing_one(stream: u32) -> Vec<u8> {
    if stream == 1 { frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes()) } else { no_content(stream) }
}

/// The same for the first two.
fn refusing_two(stream: u32) -> Vec<u8> {
    if stream <= 3 { frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes()) } else { no_content(stream) }
}

/// An endpoint that does not look at requests may be as busy as it can be: it is asked as often as the rule says.
#[test]
fn streams_that_the_endpoint_refuses_are_tried_again_where_the_rule_says_so() {
    for (retries, status) in [
        ("{attempts: 1, retryOn: refused-stream}", 204),
        ("{attempts: 1, retryOn: 'retriable-4xx'}", 503),
        ("{attempts: 0}", 503),
    ] {
        let (endpoint, seen) = endpoint(Manners { answers: refusing_one, returns_pings: true });
        let route = "route: [{destination: {host: app.example.com, port: {number: 80}}}]";
        let http =
            format!("hosts: [app.example.com], gateways: [gw], http: [{{{route}, retries: {retries}}}]");
        let pool = "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}";
        let yaml = format!("{}---\n{}", app(&[endpoint.address], pool), virtual_service("app", &http));
        let gateway = Gateway::start(&yaml);
        let mut client = gateway.client();
        assert_eq!(client.get("/").status(), status, "{retries}");
        assert_eq!(seen.requests.load(SeqCst), if status == 204 { 2 } else { 1 }, "{retries}");
    }
}

/// Istio's retries, which are those where no rule says anything, cover it.
#[test]
fn bodies_are_sent_again_to_endpoints_that_refuse_their_streams() {
    let (endpoint, seen) = endpoint(Manners { answers: refusing_two, returns_pings: true });
    let route = "route: [{destination: {host: app.example.com, port: {number: 80}}}]";
    let http = format!("hosts: [app.example.com], gateways: [gw], http: [{{{route}}}]");
    let pool = "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}";
    let yaml = format!("{}---\n{}", app(&[endpoint.address], pool), virtual_service("app", &http));
    let gateway = Gateway::start(&yaml);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: app.example.com\r\ncontent-length: 4\r\n\r\nbody");
    assert_eq!(client.answer().status(), 204);
    assert_eq!((seen.requests.load(SeqCst), seen.data.load(SeqCst)), (3, 12));
}

/// A message of one byte.
const MESSAGE: &[u8] = &[0, 0, 0, 0, 1, b'm'];

fn three_messages(stream: u32) -> Vec<u8> {
    [
        head(stream, 0, &[(":status", "200"), ("content-type", "application/grpc")]),
        frame(DATA, 0, stream, &MESSAGE.repeat(3)),
        head(stream, END_STREAM, &[("grpc-status", "5")]),
    ]
    .concat()
}

#[test]
fn messages_of_grpc_are_counted_both_ways() {
    let (endpoint, _) = endpoint(Manners { answers: three_messages, returns_pings: true });
    let gateway = gateway(&endpoint, "", "");
    let mut client = gateway.client();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/service/Method"),
        (":authority", "app.example.com"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let request = [head(1, 0, &fields), frame(DATA, END_STREAM, 1, &MESSAGE.repeat(2))].concat();
    client.0.write_all(&[OPENING, &request].concat()).unwrap();
    let mut heads = 0;
    loop {
        let read = Frame::read(&mut client.0).unwrap();
        heads += usize::from(read.kind == HEADERS);
        if read.stream == 1 && read.ends() {
            break;
        }
    }
    assert_eq!(heads, 2, "a head and trailers");
    const LABELS: [&str; 2] = [r#"reporter="source""#, r#"destination_service="app.example.com""#];
    let stats = gateway.interfaces.stats.clone();
    let value = |name: &str, more: &str| {
        let metrics = printed(&["request", "GET", "/stats/prometheus", "--admin", &stats]);
        let has_all = |line: &&str| {
            line.starts_with(&format!("{name}{{"))
                && LABELS.iter().chain([&more]).all(|label| line.contains(label))
        };
        metrics.lines().find(has_all).and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
    };
    for (name, more, expected) in [
        (
            "istio_requests_total",
            r#"request_protocol="grpc",response_code="200",grpc_response_status="5""#,
            "1",
        ),
        ("istio_request_messages_total", "", "2"),
        ("istio_response_messages_total", "", "3"),
    ] {
        eventually(name, || value(name, more).as_deref() == Some(expected));
    }
}
