//! Requests that share connections to endpoints of HTTP/2, and when those end.

use std::{
    future::poll_fn,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Request, Response};
use snapshot::{Cluster, LoadBalancer, UpstreamProtocol};

use crate::{
    http2_upstream::{Http2Upstream, echo, received},
    support::{Proxy, Upstream, gateway_draft},
};

#[test]
fn requests_share_a_connection_up_to_what_the_endpoint_takes() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(2);
    let upstream = Http2Upstream::with(builder, usize::MAX, async |_, mut respond: SendResponse<Bytes>| {
        tokio::time::sleep(Duration::from_millis(300)).await;
        respond.send_response(Response::new(()), true).unwrap();
    });
    let proxy = upstream.gateway(UpstreamProtocol::Http2);
    let mut clients: Vec<_> = (0..6).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.answer().status(), "200");
    }
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn a_connection_that_is_going_away_takes_no_new_requests_and_loses_none() {
    let upstream = Http2Upstream::with(h2::server::Builder::new(), 3, echo);
    let proxy = upstream.gateway(UpstreamProtocol::Http2);
    let mut client = proxy.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/").status(), "200");
    }
    assert!(upstream.connections() >= 5, "{}", upstream.connections());
}

#[test]
fn a_refused_request_is_asked_again_and_a_reset_one_is_not() {
    let upstream = Http2Upstream::start({
        let asked = Arc::new(AtomicUsize::new(0));
        move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                match request.uri().path() {
                    "/refused" if first => respond.send_reset(h2::Reason::REFUSED_STREAM),
                    "/reset" => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                    _ => _ = respond.send_response(Response::new(()), true).unwrap(),
                }
            }
        }
    });
    let proxy = upstream.gateway(UpstreamProtocol::Http2);
    let mut client = proxy.connect();
    assert_eq!(client.get("/refused").status(), "200");
    let reset = client.get("/reset");
    assert_eq!((reset.status(), reset.text().ends_with("reset reason: remote reset")), ("503", true));
    assert_eq!(client.get("/").status(), "200");
}

#[test]
fn a_limited_connection_carries_one_request_after_the_other_and_is_then_replaced() {
    let upstream = Http2Upstream::start(async |request, mut respond: SendResponse<Bytes>| {
        received(request.into_body()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        respond.send_response(Response::new(()), true).unwrap();
    });
    let proxy = Proxy::start(dataplane::Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.clusters[0].protocol = UpstreamProtocol::Http2;
        draft.clusters[0].limits.max_connections = Some(1);
        draft.clusters[0].connections.max_concurrent_streams = Some(1);
        draft.clusters[0].connections.max_requests = Some(3);
        draft
    });
    let mut clients: Vec<_> = (0..6).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    assert!(clients.iter_mut().all(|client| client.answer().status() == "200"));
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn an_idle_connection_keeps_no_other_endpoint_from_having_one() {
    let (a, b) = (Http2Upstream::start(echo), Http2Upstream::start(echo));
    let proxy = Proxy::start(dataplane::Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[a.address, b.address]);
        draft.clusters[0].protocol = UpstreamProtocol::Http2;
        draft.clusters[0].load_balancer = LoadBalancer::RoundRobin(None);
        draft.clusters[0].limits.max_connections = Some(1);
        draft
    });
    let mut client = proxy.connect();
    (0..4).for_each(|_| assert_eq!(client.get("/").status(), "200"));
    assert_eq!((a.connections(), b.connections()), (1, 1));
}

#[test]
fn many_requests_share_a_connection_without_keeping_each_other_from_their_answers() {
    share_without_keeping_each_other(|cluster| cluster.connections.max_concurrent_streams = Some(STREAMS));
}

#[test]
fn requests_that_crowd_a_connection_do_not_keep_each_other_from_their_answers() {
    share_without_keeping_each_other(|cluster| cluster.limits.max_connections = Some(1));
}

const STREAMS: u32 = 160;

fn share_without_keeping_each_other(rule: impl Fn(&mut Cluster)) {
    let upstream = Http2Upstream::start(async |request: Request<RecvStream>, respond| match request.uri() {
        uri if uri.path() == "/large" => large(respond).await,
        _ => echo(request, respond).await,
    });
    let proxy = Proxy::start(dataplane::Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.clusters[0].protocol = UpstreamProtocol::Http2;
        rule(&mut draft.clusters[0]);
        draft
    });
    // Clients that never read fill the windows of their requests.
    let unread: Vec<_> = (1..STREAMS)
        .map(|_| {
            let mut client = proxy.connect();
            client.send("GET /large HTTP/1.1\r\nhost: test\r\n\r\n");
            client.exactly(1);
            client
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(proxy.connect().get("/").status(), "200");
    assert_eq!((unread.len() as u32, upstream.connections()), (STREAMS - 1, 1));
}

/// Answers with more than anybody takes who does not read.
async fn large(mut respond: SendResponse<Bytes>) {
    let mut to = respond.send_response(Response::new(()), false).unwrap();
    // The client goes away at the end of its test.
    let mut left = 16 * 1024 * 1024;
    while left > 0 {
        to.reserve_capacity(left);
        let Some(Ok(room)) = poll_fn(|cx| to.poll_capacity(cx)).await else { return };
        left -= room.min(left);
        if to.send_data(Bytes::from(vec![b'a'; room]), left == 0).is_err() {
            return;
        }
    }
}

#[test]
fn a_connection_that_answers_no_pings_ends_with_its_requests() {
    // Settings, and then not a word more.
    let upstream = Upstream::start(|mut client| {
        client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        client.rest();
    });
    let proxy = Proxy::start(dataplane::Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        let (interval, timeout) = (Duration::from_millis(100), Duration::from_millis(100));
        draft.clusters[0].protocol = UpstreamProtocol::Http2;
        draft.clusters[0].connections.http2_keepalive = Some(snapshot::Http2KeepAlive { interval, timeout });
        draft
    });
    let mut client = proxy.connect();
    let answer = client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n").answer();
    assert_eq!((answer.status(), answer.text().contains("reset reason: ")), ("503", true));
}

/// How many requests share a connection is a rule only where one is written.
#[test]
fn requests_crowd_a_connection_where_there_may_be_no_other() {
    const CLIENTS: usize = 150;
    let upstream = Http2Upstream::start(async |_, mut respond: SendResponse<Bytes>| {
        // An answer without end, as to somebody who watches.
        let _body = respond.send_response(Response::new(()), false).unwrap();
        std::future::pending::<()>().await;
    });
    let proxy = Proxy::start(dataplane::Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.clusters[0].protocol = UpstreamProtocol::Http2;
        draft.clusters[0].limits.max_connections = Some(1);
        draft
    });
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    for client in &mut clients {
        assert!(client.head().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(upstream.connections(), 1);
}
