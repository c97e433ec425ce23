//! What is counted of gRPC calls.

use bytes::Bytes;
use dataplane::RequestMeasures;
use h2::{RecvStream, server::SendResponse};
use http::{Request, Response};
use snapshot::{NetworkFilter, UpstreamProtocol};

use crate::{
    http2::{bodiless, with_raw_client},
    http2_upstream::{Http2Upstream, fields, received},
    support::{Proxy, eventually, gateway_draft},
};

/// Answers with three messages, one of them empty, cut where no message ends.
async fn three(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let content_type = request.headers()["content-type"].clone();
    received(request.into_body()).await;
    let mut answer = Response::new(());
    answer.headers_mut().insert("content-type", content_type);
    let mut to = respond.send_response(answer, false).unwrap();
    to.send_data(Bytes::from_static(b"\0\0\0\0\x03ab"), false).unwrap();
    to.send_data(Bytes::from_static(b"c\0\0\0\0\0\x01\0\0"), false).unwrap();
    to.send_data(Bytes::from_static(b"\0\x01d"), false).unwrap();
    to.send_trailers(fields(&[("grpc-status", "5")])).unwrap();
}

fn gateway(upstream: &Http2Upstream) -> Proxy {
    Proxy::start(dataplane::Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.clusters[0].protocol = UpstreamProtocol::Http2;
        let NetworkFilter::Http(http) = &mut draft.listeners[0].filter_chains[0].filter else {
            panic!("no HTTP")
        };
        http.grpc_web = true;
        draft
    })
}

/// The only request's key and counts. It is counted when it has ended, which may be a little after the client has seen
/// that.
fn counted(proxy: &Proxy) -> (Option<Option<u8>>, RequestMeasures) {
    let mut counted = None;
    eventually("it is counted", || {
        counted = proxy.telemetry().requests.into_iter().next();
        counted.is_some()
    });
    let (key, measures) = counted.unwrap();
    (key.grpc, measures)
}

#[test]
fn messages_are_counted_wherever_frames_cut_them() {
    let upstream = Http2Upstream::start(three);
    for (content_type, grpc, messages) in [
        ("application/grpc+proto", Some(Some(5)), (2, 3)),
        // Nobody says that its bodies hold messages.
        ("application/json", None, (0, 0)),
    ] {
        let proxy = gateway(&upstream);
        with_raw_client(proxy.address, async |sender| {
            let mut sender = sender.ready().await.unwrap();
            let mut asked = bodiless("POST", "http://test/s/m");
            asked.headers_mut().extend(fields(&[("te", "trailers"), ("content-type", content_type)]));
            let (response, mut to) = sender.send_request(asked, false).unwrap();
            for piece in [&b"\0\0"[..], b"\0\0\x02a", b"b\0\0\0\0", b"\x01c"] {
                to.send_data(Bytes::from_static(piece), false).unwrap();
            }
            to.send_data(Bytes::new(), true).unwrap();
            received(response.await.unwrap().into_body()).await;
        });
        let (key, measures) = counted(&proxy);
        assert_eq!((key, measures.messages), (grpc, messages), "{content_type}");
    }
}

#[test]
fn messages_of_grpc_web_are_counted_as_those_of_grpc() {
    let upstream = Http2Upstream::start(three);
    // `\0\0\0\0\x02ab` `\0\0\0\0\0`, each encoded by itself.
    for (content_type, body) in [
        ("application/grpc-web+proto", &b"\0\0\0\0\x02ab\0\0\0\0\0"[..]),
        ("application/grpc-web-text", b"AAAAAAJhYg==AAAAAAA="),
    ] {
        let proxy = gateway(&upstream);
        let mut client = proxy.connect();
        client.send(format!(
            "POST /s/m HTTP/1.1\r\nhost: a\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{}",
            body.len(),
            std::str::from_utf8(body).unwrap()
        ));
        assert_eq!(client.answer().status(), "200");
        let (key, measures) = counted(&proxy);
        assert_eq!((key, measures.messages), (Some(Some(5)), (2, 3)), "{content_type}");
    }
}
