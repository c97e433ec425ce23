//! Which fields of a request and of its answer go on, and in what form.

use dataplane::Settings;
use snapshot::Direction;

use crate::{
    http2,
    support::{Proxy, Upstream, gateway_draft},
};

/// A proxy of a side before an endpoint that echoes heads.
fn proxy(direction: Direction) -> (Proxy, Upstream) {
    let upstream = Upstream::echoing_heads();
    // Only sidecars ask for it.
    let original_destination = |_: &_| Ok(Some(([10, 0, 0, 1], 80).into()));
    let proxy = Proxy::start(Settings { original_destination, ..Settings::default() }, |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.listeners[0].direction = direction;
        draft
    });
    (proxy, upstream)
}

#[test]
fn fields_about_a_connection_go_no_further_and_others_do() {
    let (proxy, _upstream) = proxy(Direction::Gateway);
    for (line, goes_on) in [
        ("Keep-Alive: timeout=5", false),
        ("Proxy-Connection: keep-alive", false),
        ("TE: gzip", false),
        ("Upgrade: h2c", false),
        ("X-Named: 1", false),
        ("Proxy-Authorization: Basic YQ==", true),
        ("Authorization: Basic YQ==", true),
        ("under_score: 1", true),
        ("X-Empty: ", true),
        ("Expect: 100-continue", true),
    ] {
        let mut client = proxy.connect();
        // What others rely on cannot be taken away by name.
        let named = "x-named, authorization, x-forwarded-proto, x-request-id";
        let head = format!("GET / HTTP/1.1\r\nhost: test\r\nconnection: {named}\r\n{line}\r\n\r\n");
        let answer = client.send(head).answer();
        let name = line.split(':').next().unwrap();
        let found = answer.text().lines().any(|found| found.starts_with(&format!("{name}:")));
        assert_eq!(found, goes_on, "{line}: {}", answer.text());
        assert!(!answer.text().to_lowercase().contains("connection:"), "{}", answer.text());
        assert_eq!((answer.field("via"), answer.field("connection")), (None, None), "{}", answer.head);
    }
}

#[test]
fn names_keep_their_case_and_lines_their_order() {
    let upstream = Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            client.send(format!(
                "HTTP/1.1 200 OK\r\nX-B: 1\r\nx-a: 2\r\nX-b: 3\r\nContent-Length: {}\r\n\r\n{head}",
                head.len()
            ));
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let answer = proxy
        .connect()
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-Second: 1\r\nx-First: 2\r\nX-second: 3\r\n\r\n")
        .answer();
    assert!(answer.text().contains("\r\nX-Second: 1\r\nx-First: 2\r\nX-second: 3\r\n"), "{}", answer.text());
    assert!(answer.head.contains("\r\nX-B: 1\r\nx-a: 2\r\nX-b: 3\r\n"), "{}", answer.head);
}

/// There is no tracing: the name of an operation passes between proxies, and ends at the edge and at the workload.
#[test]
fn names_of_operations_stay_in_the_mesh() {
    let field = [("x-envoy-decorator-operation", "checkout")];
    for (direction, goes_on) in
        [(Direction::Outbound, true), (Direction::Inbound, false), (Direction::Gateway, false)]
    {
        let (proxy, _upstream) = proxy(direction);
        let text = "GET / HTTP/1.1\r\nhost: test\r\nX-Envoy-Decorator-Operation: checkout\r\n\r\n";
        let over_http1 = proxy.connect().send(text).answer().text().to_lowercase();
        let (_, over_http2, _) = http2::exchange(proxy.address, ("GET", "/"), &field);
        for head in [over_http1, over_http2] {
            assert_eq!(
                head.contains("x-envoy-decorator-operation: checkout"),
                goes_on,
                "{direction:?} {head}"
            );
        }
    }
}

#[test]
fn of_an_authority_and_a_host_that_differ_the_authority_counts() {
    let (proxy, _upstream) = proxy(Direction::Gateway);
    let (_, head, _) = http2::exchange(proxy.address, ("GET", "/"), &[("host", "other")]);
    let hosts: Vec<_> = head.lines().filter(|line| line.to_lowercase().starts_with("host:")).collect();
    assert_eq!(hosts, ["host: test"]);
}

#[test]
fn paths_have_their_normal_form_and_escaped_slashes_stay() {
    let (proxy, _upstream) = proxy(Direction::Gateway);
    for (path, expected) in [
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a%2Fb%2f..%5Cc", "/a%2Fb%2f..%5Cc"),
        ("/a//b", "/a//b"),
        ("/%41?%41=/../x", "/A?%41=/../x"),
    ] {
        let over_http1 = proxy.connect().get(path).text().to_owned();
        let (_, over_http2, _) = http2::exchange(proxy.address, ("GET", path), &[]);
        for head in [over_http1, over_http2] {
            assert!(head.starts_with(&format!("GET {expected} HTTP/1.1\r\n")), "{path}: {head}");
        }
    }
}

#[test]
fn answers_to_head_tell_a_length_and_have_no_body() {
    let upstream = Upstream::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    for _ in 0..2 {
        let head = client.send("HEAD / HTTP/1.1\r\nhost: test\r\n\r\n").head();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 5\r\n"), "{head}");
    }
    let (head, body, _) = http2::exchange(proxy.address, ("HEAD", "/"), &[]);
    assert_eq!((head.headers["content-length"].to_str().unwrap(), &*body), ("5", ""));
}
