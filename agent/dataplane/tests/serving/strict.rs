//! What two implementations could read differently is refused, whole and before anything reaches an endpoint; bounds hold
//! with a reason.

use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

use dataplane::Settings;

use crate::support::{Client, PATIENCE, Proxy, Upstream, gateway_draft};

/// The status of the only answer to these bytes, after which the connection is closed.
fn refused(proxy: &Proxy, request: impl AsRef<[u8]>) -> String {
    let mut client = proxy.connect();
    // The connection may be closed before all of it was taken.
    let answer = client.send(request).answer();
    let rest = client.rest();
    assert!(rest.is_empty(), "{:?} after {}", String::from_utf8_lossy(&rest), answer.head);
    assert_eq!(answer.field("connection"), Some("close"));
    answer.status().to_owned()
}

#[test]
fn messages_that_could_be_framed_differently_reach_no_endpoint() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for (what, head) in [
        (
            "both framings",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "both, the other way",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        ),
        ("differing lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 5\r\n\r\n"),
        ("a list of lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0, 5\r\n\r\n"),
        (
            "equal lengths",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        ),
        ("a list of equal lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello"),
        ("a signed length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\n"),
        (
            "chunked not last",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked twice",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked hidden by a control byte",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        ),
        ("chunks in HTTP/1.0", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("a folded line", "POST / HTTP/1.1\r\nhost: a\r\nx: 1\r\n transfer-encoding: chunked\r\n\r\n"),
        ("a space before the colon", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 5\r\n\r\n"),
        ("a bare LF", "GET / HTTP/1.1\r\nhost: a\nx: 1\r\n\r\n"),
        ("a bare CR", "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r2\r\n\r\n"),
        ("a NUL", "GET / HTTP/1.1\r\nhost: a\r\nx: 1\x002\r\n\r\n"),
        ("a name that is no token", "GET / HTTP/1.1\r\nhost: a\r\nx(y): 1\r\n\r\n"),
        ("a name without a value", "GET / HTTP/1.1\r\nhost: a\r\ncontent-length\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
        ("a list of hosts", "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n"),
        ("no host", "GET / HTTP/1.1\r\nx: 1\r\n\r\n"),
        ("a fragment", "GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("a space in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("user information in the target", "GET http://u@a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ] {
        assert_eq!(refused(&proxy, format!("{head}{smuggled}")), "400", "{what}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn chunks_that_break_their_framing_end_the_request_and_the_connection() {
    let upstream = Upstream::start(|mut client| drop(client.rest()));
    let proxy = Proxy::gateway(&[upstream.address]);
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for body in [
        "5\r\nhello0\r\n\r\n",
        "g\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-1\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5 6\r\nhello\r\n0\r\n\r\n",
        "0\r\nx y: 1\r\n\r\n",
    ] {
        assert_eq!(
            refused(&proxy, format!("{head}{body}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")),
            "400",
            "{body:?}"
        );
    }
}

#[test]
fn the_authority_of_the_target_counts_and_replaces_the_host_field() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    let answer = client.send("GET http://b.com/x?y HTTP/1.1\r\nHost: a.com\r\n\r\n").answer();
    assert!(answer.text().starts_with("GET /x?y HTTP/1.1\r\nhost: b.com\r\n"), "{}", answer.text());
    assert!(!answer.text().contains("a.com"));
}

#[test]
fn heads_are_bounded_in_bytes_and_fields_both_ways() {
    let many = |count: usize| "x-a: 1\r\n".repeat(count);
    let upstream = Upstream::start(move |mut client| {
        while let Some(head) = client.request_head() {
            let fields = if head.starts_with("GET /many") {
                many(101)
            } else {
                format!("x: {}\r\n", "a".repeat(61_500))
            };
            client.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{fields}\r\n"));
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    assert_eq!(refused(&proxy, format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", many(100))), "431");
    assert_eq!(
        refused(&proxy, format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(61_500))),
        "431"
    );
    assert_eq!(upstream.connections(), 0);
    let mut client = proxy.connect();
    for path in ["/many", "/large"] {
        let answer = client.get(path);
        assert_eq!((answer.status(), answer.text().contains("protocol error")), ("502", true), "{path}");
    }
}

#[test]
fn trailers_and_chunk_extensions_without_end_are_refused() {
    let upstream = Upstream::start(|mut client| drop(client.rest()));
    let proxy = Proxy::gateway(&[upstream.address]);
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(refused(&proxy, format!("{head}0\r\n{}", "x: 1\r\n".repeat(20_000))), "400");
    assert_eq!(refused(&proxy, format!("{head}0\r\nx: {}", "x".repeat(100_000))), "400");
    assert_eq!(refused(&proxy, format!("{head}5;{}", "x".repeat(100_000))), "400");
}

#[test]
fn a_client_that_expects_to_be_told_is_told_by_the_endpoint() {
    let upstream = Upstream::start(|mut client| {
        let head = client.request_head().unwrap();
        assert!(head.contains("Expect: 100-continue\r\n"), "{head}");
        client.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = client.exactly(2);
        client.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").send(body);
        // The next is turned down without reading its body.
        client.request_head().unwrap();
        client.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n");
        client.rest();
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    let expecting = "POST / HTTP/1.1\r\nhost: a\r\nExpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    assert_eq!(client.send(expecting).head(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.send("hi").answer().text(), "hi");
    let turned_down = client.send(expecting).answer();
    // Whether the body comes nobody knows, so nothing else can come on this connection.
    assert_eq!((turned_down.status(), turned_down.field("connection")), ("417", Some("close")));
}

fn hurried(settings: Settings, upstream: &Upstream) -> Proxy {
    Proxy::start(settings, |address| gateway_draft(address, &[upstream.address]))
}

#[test]
fn a_head_that_drips_in_for_too_long_is_answered_and_closed() {
    let upstream = Upstream::echoing_heads();
    let settings = Settings { head_timeout: Duration::from_millis(500), ..Settings::default() };
    let proxy = hurried(settings, &upstream);
    let mut client = proxy.connect();
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\n");
    // Each byte is progress, but a head has a time as a whole. Timers are coarse and a closing connection is read for
    // another second, so a busy machine may take several.
    while start.elapsed() < PATIENCE && client.0.write_all(b"x").is_ok() {
        thread::sleep(Duration::from_millis(50));
    }
    assert!(start.elapsed() < PATIENCE, "nobody minds");
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_preface_that_drips_in_has_one_time_as_a_whole() {
    let upstream = Upstream::echoing_heads();
    let settings = Settings { head_timeout: Duration::from_millis(500), ..Settings::default() };
    let proxy = hurried(settings, &upstream);
    let mut client = proxy.connect();
    client.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // Far longer than the limit, in pauses shorter than it.
    let whole = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r";
    let let_go = whole.iter().position(|byte| {
        client.send([*byte]);
        !matches!(client.0.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    });
    assert!(let_go.is_some_and(|after| after < whole.len() - 1), "nobody minds: {let_go:?}");
}

#[test]
fn a_body_that_stops_coming_frees_the_endpoint() {
    let upstream = Upstream::start(|mut client| drop(client.rest()));
    let settings = Settings { idle_timeout: Duration::from_millis(500), ..Settings::default() };
    let proxy = hurried(settings, &upstream);
    let mut client = proxy.connect();
    let answer = client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").answer();
    assert_eq!((answer.status(), answer.text()), ("408", "stream timeout"));
    assert!(client.rest().is_empty());
}

#[test]
fn a_client_that_never_reads_is_let_go_with_its_endpoint() {
    let (gone, noticed) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |mut client: Client| {
        client.request_head().unwrap();
        client.send("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n");
        let mut sent = 0;
        while client.0.write_all(&[b'x'; 10_000]).is_ok() {
            sent += 10_000;
        }
        gone.send(sent).unwrap();
    });
    let settings = Settings { idle_timeout: Duration::from_millis(500), ..Settings::default() };
    let proxy = hurried(settings, &upstream);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let sent = noticed.recv_timeout(PATIENCE).expect("the endpoint is held");
    assert!(sent < 50_000_000, "{sent} bytes are somewhere");
}

#[test]
fn a_connection_without_requests_ends_after_its_time_and_one_at_work_does_not() {
    let slow = Upstream::start(|mut client| {
        while client.request_head().is_some() {
            thread::sleep(Duration::from_millis(900));
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let settings = Settings { keep_alive: Duration::from_millis(300), ..Settings::default() };
    let proxy = hurried(settings, &slow);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), "200", "its answer took longer");
    assert!(client.rest().is_empty());
}
