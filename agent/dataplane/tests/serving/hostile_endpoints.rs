//! Endpoints that never stop, or never read: what they can make the proxy hold is bounded, and they are let go.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use dataplane::Settings;
use snapshot::UpstreamProtocol;

use crate::{
    floods::{
        CONTINUATION, END_HEADERS, END_STREAM, GET, HEADERS, RST_STREAM, SETTINGS, frame, greeted, head,
    },
    http2_upstream,
    support::{Client, PATIENCE, Proxy, Upstream, gateway_draft},
};

/// More than all buffers between two sockets together.
const FAR_TOO_MUCH: usize = 50_000_000;

fn impatient(upstream: &Upstream) -> Proxy {
    let settings = Settings { idle_timeout: Duration::from_millis(500), ..Settings::default() };
    Proxy::start(settings, |address| gateway_draft(address, &[upstream.address]))
}

/// Answers with `beginning` and then with `more` until the connection ends; tells how much that was.
fn endless(beginning: &'static str, more: &'static str) -> (Upstream, Receiver<usize>) {
    let (gone, noticed) = channel();
    let upstream = Upstream::start(move |mut client: Client| {
        client.request_head().unwrap();
        client.send(beginning);
        let (batch, mut sent) = (more.repeat(1000), 0);
        while sent < FAR_TOO_MUCH && client.0.write_all(batch.as_bytes()).is_ok() {
            sent += batch.len();
        }
        gone.send(sent).unwrap();
    });
    (upstream, noticed)
}

fn sent(noticed: &Receiver<usize>) -> usize {
    noticed.recv_timeout(PATIENCE).expect("the endpoint is held")
}

#[test]
fn bodies_that_break_their_framing_arrive_as_far_as_they_go() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for rest in ["4\r\nhalf\r\n0\r\nno field\r\n\r\n", "4\r\nhalf\r\nnonsense\r\n", "4\r\nhalf, and more"] {
        let answer: &'static str = format!("{head}{rest}").leak();
        let upstream = Upstream::answering(answer.as_bytes());
        let proxy = impatient(&upstream);
        let answer = proxy.connect().send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").rest_or_reset();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{rest:?}: {answer:?}");
        assert!(answer.ends_with("\r\n\r\n4\r\nhalf\r\n"), "{rest:?}: {answer:?}");
    }
}

#[test]
fn trailers_without_end() {
    let beginning = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n";
    let (upstream, noticed) = endless(beginning, "x-more: more\r\n");
    let proxy = impatient(&upstream);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = client.rest_or_reset();
    assert!(!answer.ends_with(b"0\r\n\r\n"), "it looks whole: {}", answer.escape_ascii());
    assert!(sent(&noticed) < FAR_TOO_MUCH);
}

#[test]
fn interim_answers_without_end_for_a_client_that_never_reads() {
    // Each is large, so that few fill all buffers: how long each takes is not what this is about.
    let hints = format!("HTTP/1.1 103 Early Hints\r\nlink: </{}>\r\n\r\n", "a".repeat(8000));
    let (upstream, noticed) = endless("", hints.leak());
    let proxy = impatient(&upstream);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(sent(&noticed) < FAR_TOO_MUCH);
}

#[test]
fn interim_answers_without_end_for_a_client_of_http_2_that_never_reads() {
    let hints = format!("HTTP/1.1 103 Early Hints\r\nlink: </{}>\r\n\r\n", "a".repeat(8000));
    let (upstream, noticed) = endless("", hints.leak());
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = greeted(&proxy);
    client.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head(GET))).unwrap();
    assert!(sent(&noticed) < FAR_TOO_MUCH);
}

#[test]
fn interim_answers_without_end_in_http_2() {
    let (gone, noticed) = channel();
    let upstream = Upstream::start(move |mut client: Client| {
        client.send(frame(SETTINGS, 0, 0, &[]));
        client.until(b"SM\r\n\r\n");
        while kind_of_frame(&mut client) != HEADERS {}
        // `:status: 103`, and a field that no table remembers.
        let mut hints = [&b"\x08\x03103"[..], b"\x00\x01a\x7f\xa1\x1e"].concat();
        hints.extend([b'x'; 4000]);
        client.send(frame(HEADERS, END_HEADERS, 1, &hints).repeat(200));
        while kind_of_frame(&mut client) != RST_STREAM {}
        gone.send(()).unwrap();
    });
    let proxy = http2_upstream::gateway(upstream.address, UpstreamProtocol::Http2);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    noticed.recv_timeout(PATIENCE).expect("the endpoint is listened to");
    let answers = String::from_utf8(client.until(b"reset reason: protocol error")).unwrap();
    assert!(answers.starts_with("HTTP/1.1 103 "), "{answers}");
    assert!(answers.contains("\r\n\r\nHTTP/1.1 502 "), "{answers}");
}

#[test]
fn an_endpoint_that_never_reads_a_body() {
    let upstream = Upstream::start(|mut client| {
        client.request_head().unwrap();
        thread::sleep(2 * PATIENCE);
    });
    let proxy = impatient(&upstream);
    let mut client = proxy.connect();
    client.0.set_write_timeout(Some(PATIENCE)).unwrap();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n");
    let mut uploaded = 0;
    let ended = loop {
        match client.0.write(&[b'x'; 10_000]) {
            Ok(written) if uploaded < FAR_TOO_MUCH => uploaded += written,
            ended => break ended,
        }
    };
    let error = ended.expect_err("everything was taken").kind();
    assert!(error != io::ErrorKind::WouldBlock, "the client is held after {uploaded} bytes");
}

/// Reads a frame; what it is.
fn kind_of_frame(client: &mut Client) -> u8 {
    let head = client.exactly(9);
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    client.exactly(length as usize);
    head[3]
}

#[test]
fn a_head_without_end_in_http_2() {
    let (gone, noticed) = channel();
    let upstream = Upstream::start(move |mut client: Client| {
        client.send(frame(SETTINGS, 0, 0, &[]));
        client.until(b"SM\r\n\r\n");
        while kind_of_frame(&mut client) != HEADERS {}
        // `:status: 200`, and fields that no table remembers.
        client.send(frame(HEADERS, 0, 1, &[0x88]));
        let (batch, mut sent) = (frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b").repeat(1000), 0);
        while sent < FAR_TOO_MUCH && client.0.write_all(&batch).is_ok() {
            sent += batch.len();
        }
        gone.send(sent).unwrap();
    });
    let proxy = http2_upstream::gateway(upstream.address, UpstreamProtocol::Http2);
    assert_eq!(proxy.connect().get("/").status(), "502");
    assert!(sent(&noticed) < FAR_TOO_MUCH);
}
