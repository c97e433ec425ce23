//! Requests that HTTP/2 calls malformed (RFC 9113 §8.2, §8.3), in raw frames: none reaches an endpoint.

use std::{io::Write, net::TcpStream};

use snapshot::UpstreamProtocol;

use crate::{
    floods::{
        END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, frame, greeted, head_of_answer, read_frame,
    },
    http2::{bodiless, text_of, with_raw_client},
    http2_upstream::{Http2Upstream, fields, received},
    support::{Proxy, Upstream},
};

const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];

const METHOD: &[u8] = b"\x82";
const SCHEME: &[u8] = b"\x86";
const PATH: &[u8] = b"\x84";
const AUTHORITY: &[u8] = b"\x41\x04test";

/// A field that stands for itself (RFC 7541 §6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

fn ask(stream: &mut TcpStream, id: u32, block: &[u8]) {
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, id, block)).unwrap();
}

/// Whether the request is answered with 400, or ended for a protocol error: its stream, or the connection with it (RFC
/// 9113 §5.4.1), whereupon there is no more to ask.
fn is_refused(stream: &mut TcpStream) -> (bool, bool) {
    loop {
        let (kind, payload) = read_frame(stream);
        match kind {
            // `:status: 400` of the static table.
            HEADERS => return (payload.contains(&0x8c), true),
            RST_STREAM => return (payload == PROTOCOL_ERROR, true),
            GOAWAY => return (payload[4..8] == PROTOCOL_ERROR, false),
            _ => {}
        }
    }
}

/// Asks with this block, and then for something on the same connection, if it goes on.
fn refused(proxy: &Proxy, what: &str, block: &[u8]) {
    let mut stream = greeted(proxy);
    ask(&mut stream, 1, block);
    let (is_refused, goes_on) = is_refused(&mut stream);
    assert!(is_refused, "{what}");
    if !goes_on {
        return;
    }
    ask(&mut stream, 3, &[METHOD, SCHEME, b"\x04\x05/good", AUTHORITY].concat());
    let answer = head_of_answer(&mut stream);
    assert!(answer.contains(&0x88), "after {what}: {}", answer.escape_ascii());
}

#[test]
fn pseudo_fields_come_once_and_first_and_are_known() {
    let upstream = Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            assert!(head.starts_with("GET /good "), "{head}");
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let plain = field("x-a", "1");
    let all = [METHOD, SCHEME, PATH, AUTHORITY].concat();
    for (what, parts) in [
        ("no :method", vec![SCHEME, PATH, AUTHORITY]),
        ("no :scheme", vec![METHOD, PATH, AUTHORITY]),
        ("no :path", vec![METHOD, SCHEME, AUTHORITY]),
        ("neither :authority nor host", vec![METHOD, SCHEME, PATH]),
        ("an empty :path", vec![METHOD, SCHEME, b"\x04\x00", AUTHORITY]),
        (":method twice", vec![METHOD, &all]),
        (":scheme twice", vec![SCHEME, &all]),
        (":path twice", vec![PATH, &all]),
        (":authority twice", vec![AUTHORITY, &all]),
        ("a field before the last of them", vec![METHOD, SCHEME, PATH, &plain, AUTHORITY]),
        ("that of answers", vec![b"\x88", &all]),
        ("an unknown one", vec![&field(":x", "1"), &all]),
        (":protocol without CONNECT", vec![&field(":protocol", "websocket"), &all]),
        ("one among the fields", vec![&all, &plain, &field(":path", "/other")]),
    ] {
        refused(&proxy, what, &parts.concat());
    }
}

#[test]
fn fields_are_such_as_http_2_has() {
    let upstream = Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            assert!(head.starts_with("GET /good "), "{head}");
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("X-A", "1"),
        ("x a", "1"),
        ("x-a:", "1"),
        ("", "1"),
        ("x-a", "1\r\nx-b: 2"),
        ("x-a", "1\n"),
        ("x-a", "1\0"),
        ("content-length", "1x"),
        ("content-length", "5"),
    ] {
        let block = [METHOD, SCHEME, PATH, AUTHORITY, &field(name, value)].concat();
        refused(&proxy, &format!("{name:?}: {value:?}"), &block);
    }
}

/// What one server takes from the first line and another from the last.
#[test]
fn lengths_and_hosts_come_once() {
    let upstream = Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            assert!(head.starts_with("GET /good "), "{head}");
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    for (name, value) in [("content-length", "0"), ("host", "test")] {
        let twice = [field(name, value), field(name, value)].concat();
        refused(&proxy, name, &[METHOD, SCHEME, PATH, AUTHORITY, &twice].concat());
        refused(&proxy, name, &[METHOD, SCHEME, PATH, &twice].concat());
    }
}

/// HTTP/2 can carry blanks that HTTP/1 cannot: whoever judges a field sees it as the other side will.
#[test]
fn blanks_around_values_are_taken_off() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut request = bodiless("GET", "http://test/");
    request.headers_mut().insert("x-a", " 1\t".parse().unwrap());
    let echoed = text_of(proxy.address, request);
    assert!(echoed.contains("x-a: 1\r\n"), "{echoed}");
    let upstream = Http2Upstream::start(async |_, mut respond| {
        let mut head = http::Response::new(());
        head.headers_mut().insert("x-a", " 1\t".parse().unwrap());
        respond.send_response(head, true).unwrap();
    });
    let proxy = upstream.gateway(UpstreamProtocol::Http2);
    assert_eq!(proxy.connect().get("/").field("x-a"), Some("1"));
}

/// A strict endpoint ends the connection for them, and with it the requests of others.
#[test]
fn trailers_go_on_without_blanks_and_without_what_is_said_in_heads() {
    let asked = fields(&[("x-a", " b\t"), ("x-a", "c"), ("content-length", "5"), ("host", "other")]);
    let (told, telling) = std::sync::mpsc::channel();
    let upstream = Http2Upstream::start(move |request: http::Request<h2::RecvStream>, mut respond| {
        let told = told.clone();
        async move {
            told.send(received(request.into_body()).await.1).unwrap();
            let mut to = respond.send_response(http::Response::new(()), false).unwrap();
            to.send_trailers(fields(&[("grpc-status", " 0"), ("content-length", "7")])).unwrap();
        }
    });
    let proxy = upstream.gateway(UpstreamProtocol::Http2);
    let answered = with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let (response, mut body) = sender.send_request(bodiless("POST", "http://test/"), false).unwrap();
        body.send_trailers(asked).unwrap();
        received(response.await.unwrap().into_body()).await.1
    });
    assert_eq!(telling.recv().unwrap(), Some(fields(&[("x-a", "b"), ("x-a", "c")])));
    assert_eq!(answered, Some(fields(&[("grpc-status", "0")])));
}
