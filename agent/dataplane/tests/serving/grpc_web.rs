//! gRPC-Web in front of an endpoint that speaks gRPC. How answers look is compared with Envoy's in `envoy`.

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Request, Response};
use snapshot::{NetworkFilter, UpstreamProtocol};

use crate::{
    http2::{bodiless, with_raw_client},
    http2_upstream::{Http2Upstream, fields, received},
    support::{Proxy, gateway_draft},
};

/// Answers with the fields that matter and the body it got, and then with a status.
async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (parts, body) = request.into_parts();
    let (body, _) = received(body).await;
    let field = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap());
    let told = [field("content-type"), field("te"), field("content-length")];
    let mut answer = Response::new(());
    answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let mut to = respond.send_response(answer, false).unwrap();
    to.send_data(Bytes::from(format!("{told:?} {}", String::from_utf8(body).unwrap())), false).unwrap();
    to.send_trailers(fields(&[("grpc-status", "0")])).unwrap();
}

fn gateway(upstream: &Http2Upstream, protocol: UpstreamProtocol, grpc_web: bool) -> Proxy {
    Proxy::start(dataplane::Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.clusters[0].protocol = protocol;
        let NetworkFilter::Http(http) = &mut draft.listeners[0].filter_chains[0].filter else {
            panic!("no HTTP")
        };
        http.grpc_web = grpc_web;
        draft
    })
}

const TRAILERS: &str = "\0\0\0\u{f}grpc-status:0\r\n";

#[test]
fn calls_become_grpc_and_trailers_a_frame() {
    let upstream = Http2Upstream::start(echo);
    let proxy = gateway(&upstream, UpstreamProtocol::Http2, true);
    let mut client = proxy.connect();
    let ask = "POST /s/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web+proto\r\n\
               content-length: 4\r\n\r\nbody";
    let answer = client.send(ask).answer();
    assert_eq!(answer.field("content-type"), Some("application/grpc-web+proto"));
    let told = r#"[Some("application/grpc"), Some("trailers"), Some("4")] body"#;
    let body = String::from_utf8_lossy(&answer.body);
    assert_eq!(body, format!("{told}\u{fffd}{TRAILERS}"));
    // The connection goes on.
    let text = "POST /s/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web-text\r\n\
                transfer-encoding: chunked\r\n\r\n3\r\nYm9\r\n5\r\nkeQ==\r\n0\r\n\r\n";
    let answer = client.send(text).answer();
    assert!(
        answer.body.starts_with(br#"[Some("application/grpc"), Some("trailers"), None] body"#),
        "{answer:?}"
    );
}

#[test]
fn clients_of_http_2_are_bridged_too() {
    let upstream = Http2Upstream::start(echo);
    let proxy = gateway(&upstream, UpstreamProtocol::Http2, true);
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let mut asked = bodiless("POST", "http://test/s/m");
        let content = ("content-type", "application/grpc-web-text");
        asked.headers_mut().extend(fields(&[content, ("accept", "application/grpc-web-text")]));
        let (response, mut to) = sender.send_request(asked, false).unwrap();
        to.send_data(Bytes::from_static(b"Ym9"), false).unwrap();
        to.send_data(Bytes::from_static(b"keQ=="), true).unwrap();
        let (head, body) = response.await.unwrap().into_parts();
        assert_eq!(head.headers["content-type"], "application/grpc-web-text+proto");
        let (body, trailers) = received(body).await;
        // `body` with what stands before it, and the frame of trailers, each encoded by itself.
        assert!(body.ends_with(b"gAAAAA9ncnBjLXN0YXR1czowDQo="), "{}", body.escape_ascii());
        assert_eq!(trailers, None);
    });
}

#[test]
fn what_is_no_base64_is_refused_and_what_is_not_asked_for_stays() {
    let upstream = Http2Upstream::start(echo);
    let ask = "POST /s/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web-text\r\n\
               content-length: 3\r\n\r\nYm9";
    let refused = gateway(&upstream, UpstreamProtocol::Http2, true);
    let answer = refused.connect().send(ask).answer();
    assert_eq!((answer.status(), answer.field("grpc-status")), ("400", Some("13")));
    let untouched = gateway(&upstream, UpstreamProtocol::Http2, false).connect().send(ask).answer();
    assert!(
        untouched.body.starts_with(br#"[Some("application/grpc-web-text"), None, Some("3")] Ym9"#),
        "{untouched:?}"
    );
}

#[test]
fn base64_that_is_cut_off_before_trailers_is_refused() {
    let upstream = Http2Upstream::start(echo);
    let proxy = gateway(&upstream, UpstreamProtocol::Http2, true);
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let mut status_after = async |text: &'static str| {
            let mut asked = bodiless("POST", "http://test/s/m");
            asked.headers_mut().extend(fields(&[("content-type", "application/grpc-web-text")]));
            let (response, mut to) = sender.send_request(asked, false).unwrap();
            to.send_data(Bytes::from_static(text.as_bytes()), false).unwrap();
            to.send_trailers(fields(&[("x-checksum", "1")])).unwrap();
            response.await.unwrap().status().as_u16()
        };
        assert_eq!((status_after("Ym9keQ==").await, status_after("Ym9keQ").await), (200, 400));
    });
}
