//! Requests on HTTP/2 connections that their endpoint ends before it has looked at them (GOAWAY, RFC 9113 §6.8).

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use snapshot::UpstreamProtocol;

use crate::{
    floods::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, SETTINGS, frame, read_frame},
    http2_upstream::gateway,
    support::Upstream,
};

const DATA: u8 = 0;
const BODY: &str = "body";

/// Reads a request up to the end of its body.
fn read_request(stream: &mut TcpStream) {
    stream.read_exact(&mut [0; 24]).unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    let mut body = Vec::new();
    while body.len() < BODY.len() {
        if let (DATA, payload) = read_frame(stream) {
            body.extend(payload);
        }
    }
    assert_eq!(body, BODY.as_bytes());
}

/// By a route without retries, as this one is: another connection is no other try.
#[test]
fn what_a_goaway_leaves_out_is_sent_again_with_its_body() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let upstream = Upstream::start(move |mut client| {
        let stream = &mut client.0;
        read_request(stream);
        // `:status: 200`, or that no stream was looked at.
        let answer = match count.fetch_add(1, Ordering::SeqCst) {
            0 => frame(GOAWAY, 0, 0, &[0; 8]),
            _ => frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x88]),
        };
        stream.write_all(&answer).unwrap();
        client.rest_or_reset();
    });
    let proxy = gateway(upstream.address, UpstreamProtocol::Http2);
    let mut client = proxy.connect();
    let request = format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    assert_eq!(client.send(request).answer().status(), "200");
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}
