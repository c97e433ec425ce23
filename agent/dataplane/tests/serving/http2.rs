//! HTTP/2 with prior knowledge through a gateway, with hyper as the client.

use std::{future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use dataplane::{DrainTime, Settings};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, Response, body::Incoming, client::conn::http2, http::response::Parts};
use hyper_util::rt::{TokioExecutor, TokioIo};
use snapshot::{HeaderMatch, PathMatch, Pattern, RouteAction, TextMatch};
use tokio::net::TcpStream;

use crate::{
    http2_upstream::received,
    support::{PATIENCE, Proxy, Upstream, gateway_draft, route, route_config, within},
};

pub(crate) type Sender = http2::SendRequest<Full<Bytes>>;

pub(crate) fn with_client<F: Future>(address: SocketAddr, talk: impl FnOnce(Sender) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        tokio::time::timeout(PATIENCE, talk(sender)).await.unwrap()
    })
}

pub(crate) fn request(method: &str, path: &str, body: &'static [u8]) -> Request<Full<Bytes>> {
    let uri = format!("http://test{path}");
    Request::builder().method(method).uri(uri).body(Full::new(Bytes::from_static(body))).unwrap()
}

/// Status and body of the answer to a request for `host`.
pub(crate) fn get(address: SocketAddr, host: &str) -> (u16, String) {
    with_client(address, async |mut sender| {
        let uri = format!("http://{host}/");
        let response = sender.send_request(Request::get(uri).body(Full::default()).unwrap()).await.unwrap();
        (response.status().as_u16(), text(response).await)
    })
}

/// Head, body and trailers of the answer to a request with these fields, on a connection of its own.
pub(crate) fn exchange(
    address: SocketAddr,
    (method, path): (&str, &str),
    fields: &[(&'static str, &'static str)],
) -> (Parts, String, Option<HeaderMap>) {
    let mut asked = request(method, path, b"");
    for (name, value) in fields {
        asked.headers_mut().append(*name, value.parse().unwrap());
    }
    with_client(address, async |mut sender| {
        let (head, body) = sender.send_request(asked).await.unwrap().into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned();
        (head, String::from_utf8(body.to_bytes().to_vec()).unwrap(), trailers)
    })
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[test]
fn requests_reach_an_http_1_endpoint_with_the_same_fields_as_from_http_1_clients() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    with_client(proxy.address, async |mut sender| {
        let mut asked = request("GET", "/a?b=1", b"");
        asked.headers_mut().append("cookie", "a=1".parse().unwrap());
        asked.headers_mut().append("cookie", "b=2".parse().unwrap());
        let response = sender.send_request(asked).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["server"], "istio-envoy");
        assert!(response.headers().contains_key("x-envoy-upstream-service-time"));
        let head = text(response).await;
        assert!(head.starts_with("GET /a?b=1 HTTP/1.1\r\nhost: test\r\n"), "{head}");
        assert!(head.contains("cookie: a=1; b=2\r\n"), "{head}");
        assert!(head.contains("x-forwarded-for: 127.0.0.1\r\n"), "{head}");
        for _ in 0..10 {
            let response = sender.send_request(request("GET", "/again", b"")).await.unwrap();
            assert!(text(response).await.starts_with("GET /again"));
        }
    });
    assert_eq!(upstream.connections(), 1);
}

/// Browsers send each cookie in a line of its own.
#[test]
fn cookies_in_several_lines_are_matched_as_one() {
    let proxy = Proxy::start(Settings::default(), |address| {
        let condition = TextMatch::Regex(Pattern::new("^(.*?;)?( ?user=jason)(;.*)?$").unwrap());
        let jason = HeaderMatch { name: "cookie".to_owned(), condition, invert: false };
        let answering = |text: &str| {
            let action = RouteAction::DirectResponse { status: 200, body: text.to_owned() };
            route(PathMatch::prefix("/"), action)
        };
        let mut own = answering("own");
        own.matches.headers = vec![jason];
        let mut draft = gateway_draft(address, &[]);
        draft.route_configs = vec![route_config("*", vec![own, answering("other")])];
        draft
    });
    with_client(proxy.address, async |mut sender| {
        for (cookies, expected) in [(["a=1", "user=jason"], "own"), (["a=1", "b=jason"], "other")] {
            let mut asked = request("GET", "/", b"");
            for cookie in cookies {
                asked.headers_mut().append("cookie", cookie.parse().unwrap());
            }
            assert_eq!(text(sender.send_request(asked).await.unwrap()).await, expected, "{cookies:?}");
        }
    });
}

#[test]
fn bodies_go_both_ways_and_many_requests_share_the_connection() {
    let upstream = Upstream::start(|mut client| {
        while client.request_head().is_some() {
            let body = client.exactly(100_000);
            client.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n186a0\r\n").send(&body);
            client.send("\r\n0\r\n\r\n");
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    with_client(proxy.address, async |sender| {
        let body: &'static [u8] = vec![b'x'; 100_000].leak();
        let asking = (0..20).map(|_| {
            let mut sender = sender.clone();
            tokio::spawn(
                async move { text(sender.send_request(request("POST", "/", body)).await.unwrap()).await },
            )
        });
        for answer in asking.collect::<Vec<_>>() {
            assert_eq!(answer.await.unwrap().len(), 100_000);
        }
    });
}

#[test]
fn local_answers_and_broken_endpoints_are_those_of_http_1() {
    let upstream = Upstream::answering(b"nonsense\r\n\r\n");
    let proxy = Proxy::gateway(&[upstream.address]);
    with_client(proxy.address, async |mut sender| {
        let response = sender.send_request(request("GET", "/", b"")).await.unwrap();
        assert_eq!(response.status(), 502);
        assert_eq!(response.headers()["content-type"], "text/plain");
        assert!(text(response).await.contains("protocol error"));
    });
    let empty = Proxy::gateway(&[]);
    with_client(empty.address, async |mut sender| {
        let response = sender.send_request(request("GET", "/", b"")).await.unwrap();
        assert_eq!((response.status().as_u16(), text(response).await.as_str()), (503, "no healthy upstream"));
    });
}

#[test]
fn an_answer_that_breaks_off_resets_its_stream_only() {
    let upstream = Upstream::start(|mut client| {
        if let Some(head) = client.request_head() {
            let broken = head.starts_with("GET /broken");
            client.send(if broken {
                "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            });
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    with_client(proxy.address, async |mut sender| {
        // The reset may overtake the head.
        if let Ok(response) = sender.send_request(request("GET", "/broken", b"")).await {
            assert!(response.into_body().collect().await.is_err());
        }
        let response = sender.send_request(request("GET", "/whole", b"")).await.unwrap();
        assert_eq!(text(response).await, "ok");
    });
}

#[test]
fn draining_lets_a_connection_go_with_its_last_request() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    with_client(proxy.address, async |mut sender| {
        assert_eq!(sender.send_request(request("GET", "/", b"")).await.unwrap().status(), 200);
        let draining = proxy.plane.drain(within(5));
        assert!(draining.await);
        sender.ready().await.unwrap_err();
    });
}

#[test]
fn a_busy_connection_made_while_draining_is_told_to_go() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    let second = Duration::from_secs(1);
    let asking = async {
        // Idle connections have been told by now.
        tokio::time::sleep(second * 3 / 2).await;
        let stream = TcpStream::connect(proxy.address).await.unwrap();
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut answered = 0;
        while answered < 1000 && sender.ready().await.is_ok() {
            let Ok(response) = sender.send_request(request("GET", "/", b"")).await else { break };
            assert_eq!(response.status(), 200);
            answered += 1;
            tokio::time::sleep(second / 5).await;
        }
        answered
    };
    let drain = proxy.plane.drain(DrainTime { minimum: second * 4, limit: PATIENCE });
    let (answered, ended) = proxy.runtime.block_on(async { tokio::join!(asking, drain) });
    assert!(answered > 0 && ended, "{answered} answered, ended: {ended}");
}

/// Speaks HTTP/2 without anything that reads or resets on its own.
pub(crate) fn with_raw_client<F: Future>(
    address: SocketAddr,
    talk: impl FnOnce(h2::client::SendRequest<Bytes>) -> F,
) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        tokio::time::timeout(PATIENCE, talk(sender)).await.unwrap()
    })
}

/// The body of the answer to a request without one, on a connection of its own.
pub(crate) fn text_of(address: SocketAddr, request: Request<()>) -> String {
    with_raw_client(address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let answer = sender.send_request(request, true).unwrap().0.await.unwrap();
        String::from_utf8(received(answer.into_body()).await.0).unwrap()
    })
}

pub(crate) fn bodiless(method: &str, uri: &str) -> Request<()> {
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

async fn upload(body: &mut h2::SendStream<Bytes>, mut left: usize) {
    while left > 0 {
        body.reserve_capacity(left);
        let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap().min(left);
        body.send_data(Bytes::from(vec![b'u'; room]), false).unwrap();
        left -= room;
    }
    body.send_data(Bytes::new(), true).unwrap();
}

#[test]
fn an_upload_goes_on_while_the_client_does_not_read_the_answer() {
    const UPLOADED: usize = 2_000_000;
    let upstream = Upstream::start(|mut client| {
        client.request_head().unwrap();
        client.send("HTTP/1.1 200 OK\r\ncontent-length: 500001\r\n\r\n").send(vec![b'a'; 500_000]);
        client.exactly(UPLOADED);
        client.send("z");
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let mut asked = bodiless("POST", "http://test/");
        asked.headers_mut().insert("content-length", UPLOADED.into());
        let (response, mut body) = sender.send_request(asked, false).unwrap();
        upload(&mut body, UPLOADED).await;
        let mut answer = response.await.unwrap().into_body();
        let mut read = 0;
        while let Some(data) = answer.data().await {
            let data = data.unwrap();
            read += data.len();
            answer.flow_control().release_capacity(data.len()).unwrap();
        }
        assert_eq!(read, 500_001);
    });
}

#[test]
fn interim_answers_are_passed_on() {
    let upstream = Upstream::answering(
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    let proxy = Proxy::gateway(&[upstream.address]);
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let (mut response, _) = sender.send_request(bodiless("GET", "http://test/"), true).unwrap();
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(
            (interim.status().as_u16(), interim.headers()["link"].as_bytes()),
            (103, &b"</a.css>"[..])
        );
        assert!(!interim.headers().contains_key("server"));
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

#[test]
fn a_client_that_takes_its_request_back_frees_the_endpoint() {
    let (gone, noticed) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |mut client| {
        client.request_head().unwrap();
        gone.send(client.rest().len()).unwrap();
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let (response, mut body) = sender.send_request(bodiless("GET", "http://test/"), true).unwrap();
        while upstream.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        body.send_reset(h2::Reason::CANCEL);
        drop(response);
        // The connection of the client is open still: it is the reset that counts.
        while noticed.try_recv() != Ok(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_client_that_only_takes_requests_back_is_sent_away() {
    let upstream = Upstream::start(|mut client| drop(client.rest()));
    let proxy = Proxy::gateway(&[upstream.address]);
    with_raw_client(proxy.address, async |mut sender| {
        let mut asked = 0;
        let refused = loop {
            match std::future::poll_fn(|cx| sender.poll_ready(cx)).await {
                Err(error) => break error,
                Ok(()) => asked += 1,
            }
            let Ok((response, mut body)) = sender.send_request(bodiless("GET", "http://test/"), true) else {
                continue;
            };
            // Each is accepted before it is taken back, so that the codec's own limit does not see it.
            tokio::time::sleep(Duration::from_micros(500)).await;
            body.send_reset(h2::Reason::CANCEL);
            drop(response);
            assert!(asked < 5000, "nobody minds");
        };
        assert_eq!(refused.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{refused}");
        assert!(asked >= 20);
    });
}

#[test]
fn more_fields_than_an_http_1_request_may_have_are_refused() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    with_client(proxy.address, async |mut sender| {
        let mut asked = request("GET", "/", b"");
        (0..101).for_each(|i| _ = asked.headers_mut().append("x-a", i.into()));
        let response = sender.send_request(asked).await.unwrap();
        assert_eq!(response.status(), 431);
    });
}
