//! Websockets where one side or both speak HTTP/2 (RFC 8441).

use std::{
    io::{ErrorKind, Read},
    net::{Shutdown, SocketAddr},
    sync::mpsc,
    time::Duration,
};

use bytes::Bytes;
use dataplane::{LogFormat, Settings};
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture, ext::Protocol, server::SendResponse};
use http::{Request, Response};
use snapshot::{Format, Forward, Mirror, PathMatch, RouteAction, Share, UpstreamProtocol};

use crate::{
    handshakes::Lines,
    http2::with_raw_client,
    http2_upstream::{Http2Upstream, received},
    pools::observed,
    support::{
        Client, PATIENCE, Proxy, Upstream, cluster, endpoints, gateway_draft, route, route_config,
        to_cluster, within,
    },
};

const ACCEPTED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
/// The example of RFC 6455.
const OFFER: &str = "GET /chat HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

fn proxy(endpoint: SocketAddr, protocol: UpstreamProtocol, lines: &Lines) -> Proxy {
    let format = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %REQ(:METHOD)% %REQ(:PATH)% \
                  %REQ(UPGRADE)% %PROTOCOL% %BYTES_RECEIVED% %BYTES_SENT%";
    let format = LogFormat::text(&Format::parse(format).unwrap());
    let settings = lines.settings();
    let access_log = settings.access_log.map(|log| log.with_format(format));
    Proxy::start(Settings { access_log, ..settings }, |address| {
        let mut draft = gateway_draft(address, &[endpoint]);
        draft.clusters[0].protocol = protocol;
        draft
    })
}

/// Asks for a protocol as RFC 8441 has it.
fn offer(
    sender: &mut h2::client::SendRequest<Bytes>,
    protocol: &'static str,
) -> (ResponseFuture, SendStream<Bytes>) {
    let asked = Request::builder().method("CONNECT").uri("http://test/chat");
    let asked = asked.extension(Protocol::from_static(protocol)).header("sec-websocket-version", "13");
    sender.send_request(asked.body(()).unwrap(), false).unwrap()
}

async fn read(from: &mut RecvStream, wanted: &[u8]) {
    let mut bytes = Vec::new();
    while bytes.len() < wanted.len() {
        let data = from.data().await.unwrap().unwrap();
        from.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    assert_eq!(bytes, wanted);
}

/// Sends back what comes; says goodbye once the client has said everything.
fn echo(client: &mut Client) {
    let mut bytes = [0; 64];
    while let Ok(count @ 1..) = client.0.read(&mut bytes) {
        client.send(&bytes[..count]);
    }
    client.send("bye");
}

/// A server of HTTP/2 that takes other protocols and does that.
fn http2_echo() -> Http2Upstream {
    http2(|request, mut respond| async move {
        assert_eq!(request.method(), "CONNECT");
        assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
        assert_eq!((request.uri().path(), request.headers().get("upgrade")), ("/chat", None));
        let mut to = respond.send_response(Response::new(()), false).unwrap();
        let mut from = request.into_body();
        while let Some(data) = from.data().await {
            let data = data.unwrap();
            from.flow_control().release_capacity(data.len()).unwrap();
            to.send_data(data, false).unwrap();
        }
        to.send_data(Bytes::from_static(b"bye"), true).unwrap();
    })
}

fn http2<F: Future<Output = ()> + 'static>(
    answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static,
) -> Http2Upstream {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    Http2Upstream::with(builder, usize::MAX, answer)
}

/// What an HTTP/2 client of an endpoint that echoes sees, and what is logged of it.
fn talk_in_http2(proxy: &Proxy, lines: &Lines, greeting: &[u8]) {
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let (response, mut to) = offer(&mut sender, "websocket");
        let response = response.await.unwrap();
        assert!(sender.is_extended_connect_protocol_enabled());
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("upgrade"), "{response:?}");
        let mut from = response.into_body();
        read(&mut from, greeting).await;
        to.send_data(Bytes::from_static(b"ping"), false).unwrap();
        read(&mut from, b"ping").await;
        // The end of one direction leaves the other open.
        to.send_data(Bytes::from_static(b"last"), true).unwrap();
        assert_eq!(received(from).await.0, b"lastbye");
    });
    let sent = greeting.len() + "pinglastbye".len();
    let expected = format!("101 - via_upstream GET /chat websocket HTTP/2 8 {sent}");
    assert_eq!(lines.with("GET /chat"), expected);
}

#[test]
fn a_client_of_http_2_talks_to_an_endpoint_of_http_1() {
    let (asked, head) = mpsc::channel();
    let upstream = Upstream::start(move |mut client| {
        asked.send(client.request_head().unwrap()).unwrap();
        client.send([ACCEPTED, "hello"].concat());
        echo(&mut client);
    });
    let lines = Lines::default();
    let proxy = proxy(upstream.address, UpstreamProtocol::Http1, &lines);
    talk_in_http2(&proxy, &lines, b"hello");
    let head = head.recv().unwrap();
    assert!(head.starts_with("GET /chat HTTP/1.1\r\nhost: test\r\n"), "{head}");
    for field in ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"] {
        assert_eq!(head.matches(&format!("\r\n{field}\r\n")).count(), 1, "{field} in {head}");
    }
    // Servers of HTTP/1 refuse offers without a key of 16 bytes.
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    assert_eq!((key.len(), key.ends_with("==")), (24, true), "{key}");
}

#[test]
fn a_client_of_http_2_talks_to_an_endpoint_of_http_2() {
    let (upstream, lines) = (http2_echo(), Lines::default());
    let proxy = proxy(upstream.address, UpstreamProtocol::Http2, &lines);
    talk_in_http2(&proxy, &lines, b"");
}

#[test]
fn a_client_of_http_1_talks_to_an_endpoint_of_http_2() {
    let (upstream, lines) = (http2_echo(), Lines::default());
    let proxy = proxy(upstream.address, UpstreamProtocol::Http2, &lines);
    let mut client = proxy.connect();
    let answer = client.send(OFFER).answer();
    assert_eq!((answer.status(), answer.field("upgrade")), ("101", Some("websocket")));
    assert_eq!(answer.field("connection"), Some("upgrade"));
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(client.send("ping").exactly(4), b"ping");
    client.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"bye");
    assert_eq!(lines.with("GET /chat"), "101 - via_upstream GET /chat websocket HTTP/1.1 4 7");
}

#[test]
fn an_endpoint_of_http_2_that_takes_no_other_protocols_is_not_asked() {
    let upstream = Http2Upstream::start(|_, _| async { panic!("asked against its settings") });
    let lines = Lines::default();
    let proxy = proxy(upstream.address, UpstreamProtocol::Http2, &lines);
    let answer = proxy.connect().send(OFFER).answer();
    assert_eq!(answer.status(), "502");
    assert!(answer.text().ends_with("reset reason: protocol error"), "{}", answer.text());
    let counts = observed(&proxy, upstream.address).counts;
    assert_eq!((counts.rq_total, counts.rq_error), (0, 0));
    let details = "upstream_reset_before_response_started{protocol_error}";
    let logged = lines.with("GET /chat");
    assert!(logged.starts_with(&format!("502 UPE {details} GET")), "{logged}");
}

/// Copies what clients of both versions ask for to a mirror: websockets, and then `/plain`.
fn mirroring(protocol: UpstreamProtocol, endpoint: SocketAddr, mirror: SocketAddr) -> Proxy {
    let proxy = Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[endpoint]);
        draft.clusters.push(cluster("mirror", endpoints(&[mirror])));
        draft.clusters.iter_mut().for_each(|cluster| cluster.protocol = protocol);
        let target = to_cluster(Some(1)).targets()[0].clone();
        let mirrors = vec![Mirror { target, share: Share::ALL, marks_host: false }];
        let action = RouteAction::Forward(Forward { mirrors, ..to_cluster(Some(0)).into() });
        draft.route_configs = vec![route_config("*", vec![route(PathMatch::Any, action)])];
        draft
    });
    assert_eq!(proxy.connect().send(OFFER).answer().status(), "101");
    with_raw_client(proxy.address, async |sender| {
        let (response, _to) = offer(&mut sender.ready().await.unwrap(), "websocket");
        assert_eq!(response.await.unwrap().status(), 200);
    });
    assert_eq!(proxy.connect().get("/plain").status(), "200");
    proxy
}

#[test]
fn mirrors_get_no_copies_of_offers() {
    let (told, asked) = mpsc::channel();
    let telling = told.clone();
    let mirror = Upstream::start(move |mut client| {
        telling.send(client.request_head().unwrap().split(' ').nth(1).unwrap().to_owned()).unwrap();
    });
    let upstream = Upstream::start(|mut client| {
        let is_offer = client.request_head().unwrap().contains("upgrade");
        client.send(if is_offer { ACCEPTED } else { "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" });
    });
    let _proxy = mirroring(UpstreamProtocol::Http1, upstream.address, mirror.address);
    assert_eq!(asked.recv_timeout(PATIENCE).unwrap(), "/plain");

    let answering = |told: Option<mpsc::Sender<String>>| {
        http2(move |request: Request<RecvStream>, mut respond| {
            told.iter().for_each(|told| told.send(request.uri().path().to_owned()).unwrap());
            async move {
                _ = respond.send_response(Response::new(()), true);
            }
        })
    };
    let (upstream, mirror) = (answering(None), answering(Some(told)));
    let _proxy = mirroring(UpstreamProtocol::Http2, upstream.address, mirror.address);
    assert_eq!(asked.recv_timeout(PATIENCE).unwrap(), "/plain");
}

#[test]
fn refusals_are_passed_on() {
    let refusing = Upstream::answering(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let also_refusing = http2(|_, mut respond| async move {
        let head = Response::builder().status(403).body(()).unwrap();
        let mut to = respond.send_response(head, false).unwrap();
        to.send_data(Bytes::from_static(b"no"), true).unwrap();
    });
    for (endpoint, protocol) in
        [(refusing.address, UpstreamProtocol::Http1), (also_refusing.address, UpstreamProtocol::Http2)]
    {
        let proxy = proxy(endpoint, protocol, &Lines::default());
        let answer = proxy.connect().send(OFFER).answer();
        assert_eq!((answer.status(), answer.text()), ("403", "no"));
        assert_eq!(answer.field("upgrade"), None);
        with_raw_client(proxy.address, async |sender| {
            let (response, _to) = offer(&mut sender.ready().await.unwrap(), "websocket");
            let response = response.await.unwrap();
            assert_eq!(response.status(), 403);
            assert_eq!(received(response.into_body()).await.0, b"no");
        });
    }
}

#[test]
fn a_good_answer_to_the_request_alone_is_no_agreement() {
    let upstream = Upstream::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let lines = Lines::default();
    let proxy = proxy(upstream.address, UpstreamProtocol::Http1, &lines);
    with_raw_client(proxy.address, async |sender| {
        let (response, _to) = offer(&mut sender.ready().await.unwrap(), "websocket");
        let response = response.await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().get("content-length")), (200, None));
        assert!(response.into_body().is_end_stream());
    });
    assert!(lines.with("GET /chat").starts_with("200 - websocket_handshake_unsuccessful "));
}

#[test]
fn other_protocols_are_refused() {
    let (upstream, lines) = (Upstream::echoing_heads(), Lines::default());
    let proxy = proxy(upstream.address, UpstreamProtocol::Http1, &lines);
    with_raw_client(proxy.address, async |sender| {
        let (response, _to) = offer(&mut sender.ready().await.unwrap(), "connect-udp");
        assert_eq!(response.await.unwrap().status(), 403);
    });
    assert!(lines.with("connect-udp").starts_with("403 - upgrade_failed GET /chat"));
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn protocols_without_keys_pass_between_the_versions() {
    let (asked, head) = mpsc::channel();
    let of_http1 = Upstream::start(move |mut client| {
        asked.send(client.request_head().unwrap()).unwrap();
        client.send("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\r\n");
        echo(&mut client);
    });
    let of_http2 = http2(|request, mut respond| async move {
        assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "SPDY/3.1");
        respond
            .send_response(Response::new(()), false)
            .unwrap()
            .send_data(Bytes::from_static(b"hi"), true)
            .unwrap();
    });
    let started = |endpoint, protocol| {
        let upgrades = "SPDY/3.1".parse().unwrap();
        Proxy::start(Settings { upgrades, ..Settings::default() }, |address| {
            let mut draft = gateway_draft(address, &[endpoint]);
            draft.clusters[0].protocol = protocol;
            draft
        })
    };
    let proxy = started(of_http1.address, UpstreamProtocol::Http1);
    with_raw_client(proxy.address, async |sender| {
        let (response, mut to) = offer(&mut sender.ready().await.unwrap(), "SPDY/3.1");
        let mut from = response.await.unwrap().into_body();
        to.send_data(Bytes::from_static(b"ping"), false).unwrap();
        read(&mut from, b"ping").await;
    });
    let head = head.recv().unwrap();
    assert!(head.contains("\r\nupgrade: SPDY/3.1\r\n") && !head.contains("sec-websocket-key"), "{head}");

    let proxy = started(of_http2.address, UpstreamProtocol::Http2);
    let mut client = proxy.connect();
    let answer = client.send(OFFER.replace("upgrade: websocket", "upgrade: SPDY/3.1")).answer();
    assert_eq!((answer.status(), answer.field("upgrade")), ("101", Some("SPDY/3.1")));
    assert_eq!(answer.field("sec-websocket-accept"), None);
    client.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"hi");
}

#[test]
fn where_no_protocol_may_be_asked_for_clients_of_http_2_are_told() {
    let upstream = Upstream::echoing_heads();
    let settings = Settings { upgrades: "none".parse().unwrap(), ..Settings::default() };
    let proxy = Proxy::start(settings, |address| gateway_draft(address, &[upstream.address]));
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let plain = Request::builder().uri("http://test/").body(()).unwrap();
        assert_eq!(sender.send_request(plain, true).unwrap().0.await.unwrap().status(), 200);
        assert!(!sender.is_extended_connect_protocol_enabled());
    });
}

#[test]
fn resets_go_both_ways() {
    let (ended, how) = mpsc::channel();
    let upstream = Upstream::start(move |mut client| {
        client.request_head().unwrap();
        client.send(ACCEPTED);
        match &client.exactly(5)[..] {
            b"reset" => socket2::SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap(),
            _ => {
                client.send("so long");
                ended.send(client.0.read(&mut [0]).map_err(|error| error.kind())).unwrap();
            }
        }
    });
    let lines = Lines::default();
    let proxy = proxy(upstream.address, UpstreamProtocol::Http1, &lines);
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let (response, mut to) = offer(&mut sender, "websocket");
        let mut from = response.await.unwrap().into_body();
        to.send_data(Bytes::from_static(b"reset"), false).unwrap();
        let error = from.data().await.unwrap().unwrap_err();
        assert_eq!((error.is_remote(), error.reason()), (true, Some(Reason::CONNECT_ERROR)));

        let (response, mut to) = offer(&mut sender, "websocket");
        let mut from = response.await.unwrap().into_body();
        to.send_data(Bytes::from_static(b"leave"), false).unwrap();
        read(&mut from, b"so long").await;
        to.send_reset(Reason::CANCEL);
        assert_eq!(
            tokio::task::spawn_blocking(move || how.recv()).await.unwrap(),
            Ok(Err(ErrorKind::ConnectionReset))
        );
    });
    let details = "upstream_reset_after_response_started{connection_termination}";
    assert!(lines.with("101 UC").starts_with(&format!("101 UC {details} GET /chat")));
    lines.with("101 DC downstream_remote_disconnect GET /chat");
}

#[test]
fn neither_a_timeout_nor_draining_cuts_it() {
    let upstream = http2_echo();
    let proxy = Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.clusters[0].protocol = UpstreamProtocol::Http2;
        let timeout = Some(Duration::from_millis(200));
        let action = RouteAction::Forward(Forward { timeout, ..to_cluster(Some(0)).into() });
        draft.route_configs = vec![route_config("*", vec![route(PathMatch::Any, action)])];
        draft
    });
    with_raw_client(proxy.address, async |sender| {
        let (response, mut to) = offer(&mut sender.ready().await.unwrap(), "websocket");
        let mut from = response.await.unwrap().into_body();
        let draining = proxy.plane.drain(within(8));
        let talking = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(400)).await;
                to.send_data(Bytes::from_static(b"ping"), false).unwrap();
                read(&mut from, b"ping").await;
            }
            to.send_data(Bytes::new(), true).unwrap();
            assert_eq!(received(from).await.0, b"bye");
        };
        assert!(tokio::join!(draining, talking).0, "it was cut");
    });
}
