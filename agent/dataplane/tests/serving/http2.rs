//! HTTP/2 with prior knowledge through a gateway, with hyper as the client.

use std::{future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::support::{Proxy, Upstream};

type Sender = http2::SendRequest<Full<Bytes>>;

fn with_client<F: Future>(address: SocketAddr, talk: impl FnOnce(Sender) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        tokio::time::timeout(Duration::from_secs(10), talk(sender)).await.unwrap()
    })
}

fn request(method: &str, path: &str, body: &'static [u8]) -> Request<Full<Bytes>> {
    let uri = format!("http://test{path}");
    Request::builder().method(method).uri(uri).body(Full::new(Bytes::from_static(body))).unwrap()
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
        let draining = proxy.plane.drain(Duration::from_secs(5));
        assert!(draining.await);
        sender.ready().await.unwrap_err();
    });
}
