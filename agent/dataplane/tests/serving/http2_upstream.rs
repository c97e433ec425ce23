//! Endpoints that speak HTTP/2, asked by HTTP/1 and by HTTP/2 clients.

use std::{
    future::{Future, poll_fn},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use bytes::Bytes;
use dataplane::{AccessLog, LogFormat};
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use snapshot::{Format, Forward, Mirror, PathMatch, RouteAction, Share, UpstreamProtocol};

use crate::{
    http2::{bodiless, with_raw_client},
    support::{
        PATIENCE, Proxy, Upstream, cluster, endpoints, eventually, gateway_draft, route, route_config,
        to_cluster,
    },
};

/// A server that answers every stream with `answer` and counts connections.
pub(crate) struct Http2Upstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Http2Upstream {
    pub(crate) fn start<F: Future<Output = ()> + 'static>(
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static,
    ) -> Self {
        Self::with(h2::server::Builder::new(), usize::MAX, answer)
    }

    /// Says goodbye on a connection after so many streams.
    pub(crate) fn with<F: Future<Output = ()> + 'static>(
        builder: h2::server::Builder,
        streams: usize,
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let answer = std::rc::Rc::new(answer);
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let (builder, answer) = (builder.clone(), std::rc::Rc::clone(&answer));
                    tokio::task::spawn_local(async move {
                        let Ok(mut served) = builder.handshake::<_, Bytes>(stream).await else { return };
                        let mut left = streams;
                        while let Some(Ok((request, respond))) = served.accept().await {
                            tokio::task::spawn_local(answer(request, respond));
                            left -= 1;
                            if left == 0 {
                                served.graceful_shutdown();
                            }
                        }
                    });
                }
            });
        });
        Self { address, connections }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// A gateway in front of it that speaks `protocol` to it.
    pub(crate) fn gateway(&self, protocol: UpstreamProtocol) -> Proxy {
        gateway(self.address, protocol)
    }
}

pub(crate) fn gateway(upstream: SocketAddr, protocol: UpstreamProtocol) -> Proxy {
    Proxy::start(dataplane::Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream]);
        draft.clusters[0].protocol = protocol;
        draft
    })
}

pub(crate) async fn received(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    (bytes, body.trailers().await.unwrap())
}

/// Sends everything, as the receiver makes room.
async fn send_all(to: &mut SendStream<Bytes>, mut data: Bytes) {
    while !data.is_empty() {
        to.reserve_capacity(data.len());
        let room = poll_fn(|cx| to.poll_capacity(cx)).await.unwrap().unwrap();
        to.send_data(data.split_to(room.min(data.len())), false).unwrap();
    }
}

pub(crate) fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// Answers with the head it got, then the body it got, then trailers.
pub(crate) async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (parts, body) = request.into_parts();
    let (body, trailers) = received(body).await;
    let head = format!("{} {} {:?}\n{trailers:?}\n", parts.method, parts.uri, parts.headers);
    let mut answer = Response::new(());
    answer.headers_mut().insert("x-answer", "1".parse().unwrap());
    let mut to = respond.send_response(answer, false).unwrap();
    send_all(&mut to, Bytes::from(head)).await;
    send_all(&mut to, Bytes::from(body)).await;
    to.send_trailers(fields(&[("grpc-status", "0")])).unwrap();
}

#[test]
fn trailers_pass_both_ways_between_http_2_peers() {
    let upstream = Http2Upstream::start(echo);
    let proxy = upstream.gateway(UpstreamProtocol::Http2);
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let mut asked = bodiless("POST", "http://test/a?b=c");
        asked.headers_mut().extend(fields(&[("te", "trailers"), ("x-mine", "2")]));
        let (response, mut body) = sender.send_request(asked, false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), false).unwrap();
        body.send_trailers(fields(&[("x-sum", "3")])).unwrap();
        let (head, answer) = response.await.unwrap().into_parts();
        assert_eq!(head.headers["x-answer"], "1");
        assert_eq!(head.headers["server"], "istio-envoy");
        assert!(!head.headers.contains_key("content-length"), "{head:?}");
        let (text, trailers) = received(answer).await;
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("POST http://test/a?b=c "), "{text}");
        for expected in
            ["\"te\": \"trailers\"", "\"x-mine\": \"2\"", "\"x-forwarded-for\": \"127.0.0.1\"", "x-sum"]
        {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(text.ends_with("hello"), "{text}");
        assert_eq!(trailers.unwrap()["grpc-status"], "0");
    });
}

#[test]
fn mirrors_get_trailers_too() {
    let (told, seen) = std::sync::mpsc::channel();
    let mirror = Http2Upstream::start(move |request: Request<RecvStream>, mut respond| {
        let told = told.clone();
        async move {
            let authority = request.uri().authority().unwrap().to_string();
            told.send((authority, received(request.into_body()).await)).unwrap();
            respond.send_response(Response::new(()), true).unwrap();
        }
    });
    let upstream = Http2Upstream::start(echo);
    let proxy = Proxy::start(dataplane::Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.clusters[0].protocol = UpstreamProtocol::Http2;
        draft.clusters.push(cluster("mirror", endpoints(&[mirror.address])));
        let target = to_cluster(Some(1)).targets()[0].clone();
        let mirrors = vec![Mirror { target, share: Share::ALL, marks_host: false }];
        let forward = Forward { mirrors, ..to_cluster(Some(0)).into() };
        let routes = vec![route(PathMatch::Any, RouteAction::Forward(forward))];
        draft.route_configs = vec![route_config("*", routes)];
        draft
    });
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let mut asked = bodiless("POST", "http://test/");
        asked.headers_mut().extend(fields(&[("te", "trailers")]));
        let (response, mut body) = sender.send_request(asked, false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), false).unwrap();
        body.send_trailers(fields(&[("x-sum", "3")])).unwrap();
        received(response.await.unwrap().into_body()).await;
    });
    let (authority, (body, trailers)) = seen.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (authority.as_str(), &body[..], trailers),
        ("test", &b"hello"[..], Some(fields(&[("x-sum", "3")])))
    );
}

#[test]
fn the_log_shows_fields_and_trailers_of_an_answer() {
    let upstream = Http2Upstream::start(echo);
    let log = tempfile::NamedTempFile::new().unwrap();
    let format = "%REQ(:PATH)% %RESP(X-ANSWER)% %TRAILER(GRPC-STATUS)% %TRAILER(NONE)% %GRPC_STATUS% %PROTOCOL% \
                  %UPSTREAM_PROTOCOL% %RESPONSE_CODE_DETAILS%";
    let format = LogFormat::text(&Format::parse(format).unwrap());
    let access_log = Some(AccessLog::open(log.path()).unwrap().with_format(format));
    let proxy = Proxy::start(dataplane::Settings { access_log, ..Default::default() }, |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.clusters[0].protocol = UpstreamProtocol::Http2;
        draft
    });
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let (response, _) = sender.send_request(bodiless("POST", "http://test/a"), true).unwrap();
        received(response.await.unwrap().into_body()).await;
    });
    let line = || std::fs::read_to_string(log.path()).unwrap();
    eventually("a line", || !line().is_empty());
    assert_eq!(line(), "/a 1 0 - OK HTTP/2 HTTP/2 via_upstream\n");
}

#[test]
fn calls_are_counted_with_their_grpc_status() {
    let upstream = Http2Upstream::start(echo);
    let proxy = upstream.gateway(UpstreamProtocol::Http2);
    with_raw_client(proxy.address, async |sender| {
        for content_type in ["application/grpc", "application/json"] {
            let mut sender = sender.clone().ready().await.unwrap();
            let mut asked = bodiless("POST", "http://test/pkg.Service/Call");
            asked.headers_mut().extend(fields(&[("te", "trailers"), ("content-type", content_type)]));
            let (response, _) = sender.send_request(asked, true).unwrap();
            received(response.await.unwrap().into_body()).await;
        }
    });
    // Counted when the stream has ended, which may be a little after the client has seen it.
    let grpc = || {
        let telemetry = proxy.telemetry();
        let mut grpc: Vec<_> = telemetry.requests.keys().map(|key| key.grpc).collect();
        grpc.sort();
        grpc
    };
    eventually("both are counted", || grpc() == [None, Some(Some(0))]);
}

#[test]
fn http_1_clients_are_served_in_their_own_framing() {
    let upstream = Http2Upstream::start(echo);
    let proxy = upstream.gateway(UpstreamProtocol::Http2);
    let mut client = proxy.connect();
    for _ in 0..3 {
        client.send("POST /x HTTP/1.1\r\nHost: test\r\nX-Mine: 2\r\nConnection: x-gone\r\nX-Gone: 1\r\n");
        client.send("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.status(), answer.field("transfer-encoding")), ("200", Some("chunked")));
        assert_eq!(answer.field("x-answer"), Some("1"));
        let text = answer.text();
        assert!(text.starts_with("POST http://test/x "), "{text}");
        assert!(text.contains("\"x-mine\": \"2\"") && !text.contains("x-gone"), "{text}");
        assert!(!text.contains("transfer-encoding"), "{text}");
        assert!(text.ends_with("hello"), "{text}");
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn answers_that_end_with_their_head_have_a_length_for_http_1_clients() {
    let upstream = Http2Upstream::start(async |request: Request<RecvStream>, mut respond| {
        let mut answer = Response::new(());
        match request.uri().path() {
            "/204" => *answer.status_mut() = http::StatusCode::NO_CONTENT,
            "/head" => _ = answer.headers_mut().insert("content-length", 12.into()),
            _ => {}
        }
        respond.send_response(answer, true).unwrap();
    });
    let proxy = upstream.gateway(UpstreamProtocol::Http2);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").field("content-length"), Some("0"));
    let none = client.get("/204");
    assert_eq!((none.status(), none.field("content-length")), ("204", None));
    let head = client.send("HEAD /head HTTP/1.1\r\nhost: test\r\n\r\n").head();
    assert!(head.contains("content-length: 12\r\n"), "{head}");
    assert_eq!(client.get("/").status(), "200");
}

#[test]
fn large_bodies_move_both_ways_at_the_pace_of_the_slower_side() {
    let upstream = Http2Upstream::start(echo);
    let proxy = upstream.gateway(UpstreamProtocol::Http2);
    let body = vec![b'x'; 3_000_000];
    let mut client = proxy.connect();
    client
        .send(format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len()))
        .send(&body);
    assert!(client.answer().body.ends_with(&body));
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let (response, mut to) = sender.send_request(bodiless("POST", "http://test/"), false).unwrap();
        send_all(&mut to, Bytes::from(body.clone())).await;
        to.send_data(Bytes::new(), true).unwrap();
        let (answer, _) = received(response.await.unwrap().into_body()).await;
        assert!(answer.ends_with(&body));
    });
}

#[test]
fn the_version_of_the_client_is_kept_where_the_cluster_says_so() {
    let upstream = Http2Upstream::start(echo);
    let proxy = upstream.gateway(UpstreamProtocol::AsDownstream);
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let (response, _) = sender.send_request(bodiless("GET", "http://test/"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
    let http1 = Upstream::echoing_heads();
    let proxy = gateway(http1.address, UpstreamProtocol::AsDownstream);
    assert!(proxy.connect().get("/").text().starts_with("GET / HTTP/1.1\r\n"));
}

#[test]
fn an_answer_that_breaks_off_ends_what_carries_it() {
    let upstream = Http2Upstream::start(async |_, mut respond: SendResponse<Bytes>| {
        let mut to = respond.send_response(Response::new(()), false).unwrap();
        to.send_data(Bytes::from_static(b"half"), false).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        to.send_reset(h2::Reason::INTERNAL_ERROR);
    });
    let proxy = upstream.gateway(UpstreamProtocol::Http2);
    let mut client = proxy.connect();
    let rest = client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").rest();
    assert!(rest.ends_with(b"4\r\nhalf\r\n"), "{}", String::from_utf8_lossy(&rest));
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let (response, _) = sender.send_request(bodiless("GET", "http://test/"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), &b"half"[..]);
        assert!(body.data().await.unwrap().is_err());
    });
}

#[test]
fn an_endpoint_that_speaks_http_1_only_is_a_protocol_error() {
    let upstream = Upstream::answering(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    let proxy = gateway(upstream.address, UpstreamProtocol::Http2);
    let answer = proxy.connect().get("/");
    assert_eq!((answer.status(), answer.text().contains("protocol error")), ("502", true));
}

#[test]
fn interim_answers_and_expectations_reach_http_1_clients() {
    let upstream =
        Http2Upstream::start(async |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            assert_eq!(request.headers()["expect"], "100-continue");
            respond.send_informational(Response::builder().status(100).body(()).unwrap()).unwrap();
            assert_eq!(received(request.into_body()).await.0, b"hi");
            respond.send_response(Response::new(()), true).unwrap();
        });
    let proxy = upstream.gateway(UpstreamProtocol::Http2);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.send("hi").answer().status(), "200");
}
