//! Bodies of HTTP/1 in every framing, and answers that have none.

use std::{
    io::{ErrorKind, Read},
    net::Shutdown,
    thread,
};

use snapshot::{PathMatch, RouteAction};

use crate::support::{Proxy, Upstream, gateway_draft, route, route_config};

#[test]
fn bodies_of_both_framings_arrive_whole_both_ways() {
    let upstream = Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            let chunked = head.contains("transfer-encoding: chunked");
            let body = if chunked { client.until(b"0\r\n\r\n") } else { client.exactly(300_000) };
            let framing = if chunked { "transfer-encoding: chunked" } else { "content-length: 300000" };
            client.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")).send(&body);
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    let body: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let mut sender = client.0.try_clone().unwrap();
    let copy = body.clone();
    let sending = thread::spawn(move || {
        use std::io::Write;
        sender.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n").unwrap();
        sender.write_all(&copy).unwrap();
    });
    assert!(client.answer().body == body);
    sending.join().unwrap();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nWiki\r\n");
    client.send("5;ext=1\r\npedia\r\n0\r\n\r\n");
    assert_eq!(client.answer().text(), "Wikipedia");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_body_that_ends_with_the_connection_becomes_chunks_and_the_client_stays() {
    let upstream = Upstream::start(|mut client| {
        if client.request_head().is_some() {
            client.send("HTTP/1.1 200 OK\r\n\r\nuntil close");
            client.0.shutdown(Shutdown::Both).unwrap();
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "until close");
    assert_eq!(client.get("/").text(), "until close");
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn http_1_0_clients_are_served_and_closed() {
    let upstream =
        Upstream::answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    let answer = client.send("GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n").rest();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("\r\n\r\nhi"), "{answer}");
    assert!(!answer.contains("transfer-encoding"));
}

/// Without lengths or chunks only a reset tells a broken answer from a whole one.
#[test]
fn http_1_0_clients_see_that_an_answer_is_not_whole() {
    let upstream =
        Upstream::answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\nno chunk");
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    let mut answer = Vec::new();
    let ended = client.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n").0.read_to_end(&mut answer);
    assert_eq!(ended.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    assert!(answer.ends_with(b"\r\n\r\nhi"), "{}", answer.escape_ascii());
}

#[test]
fn answers_without_body_leave_the_connection_usable() {
    let upstream = Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            let answer = match head.split(' ').next() {
                Some("HEAD") => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
                Some("OPTIONS") => "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
                _ => "HTTP/1.1 204 No Content\r\n\r\n",
            };
            client.send(answer);
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    let head = client.head();
    assert!(head.contains("content-length: 1000\r\n"), "{head}");
    let head = client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").head();
    assert!(head.starts_with("HTTP/1.1 204 ") && !head.contains("content-length"), "{head}");
    let head = client.send("OPTIONS / HTTP/1.1\r\nhost: a\r\n\r\n").head();
    assert!(head.starts_with("HTTP/1.1 304 "), "{head}");
    let head = client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").head();
    assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn statuses_without_body_are_answered_without_one() {
    let mut proxy = Proxy::gateway(&[]);
    let mut draft = gateway_draft(proxy.address, &[]);
    let direct = |status| RouteAction::DirectResponse { status, body: "HTTP/1.1 200 EVIL\r\n\r\n".into() };
    draft.route_configs = vec![route_config(
        "test",
        vec![route(PathMatch::exact("/204"), direct(204)), route(PathMatch::Any, direct(304))],
    )];
    proxy.publish(draft);
    let mut client = proxy.connect();
    for status in ["204", "304"] {
        let head = client.send(format!("GET /{status} HTTP/1.1\r\nhost: test\r\n\r\n")).head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(status == "204", !head.contains("content-length"), "{head}");
    }
}

#[test]
fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    let upstream = Upstream::start(|mut client| {
        if client.request_head().is_some() {
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    let answer = client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").rest();
    assert!(answer.ends_with(b"half"));
}

#[test]
fn endpoints_of_http_1_0_are_asked_once_on_a_connection_unless_they_keep_it() {
    for (more, connections) in [("", 2), ("connection: keep-alive\r\n", 1)] {
        let upstream = Upstream::start(move |mut client| {
            while client.request_head().is_some() {
                client.send(format!("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n{more}\r\nhi"));
            }
        });
        let proxy = Proxy::gateway(&[upstream.address]);
        let mut client = proxy.connect();
        assert_eq!([client.get("/").text(), client.get("/").text()], ["hi"; 2], "{more}");
        assert_eq!(upstream.connections(), connections, "{more}");
    }
}
