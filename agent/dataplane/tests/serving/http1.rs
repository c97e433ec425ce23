//! HTTP/1 through a gateway, with clients and upstreams that speak raw bytes.

use std::{net::Shutdown, thread, time::Duration};

use dataplane::Settings;
use snapshot::{PathMatch, RouteAction};

use crate::support::{
    PATIENCE, Proxy, Upstream, free_address, gateway_draft, route, route_config, to_cluster,
};

#[test]
fn requests_reach_the_endpoint_and_share_its_connection() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    for path in ["/one", "/two?q=1"] {
        let answer = client.get(path);
        assert_eq!(answer.status(), "200");
        assert!(
            answer.text().starts_with(&format!("GET {path} HTTP/1.1\r\nhost: test\r\n")),
            "{}",
            answer.text()
        );
        assert!(answer.text().contains("x-forwarded-for: 127.0.0.1\r\n"));
        assert_eq!(answer.field("server"), Some("istio-envoy"));
        assert!(answer.field("x-envoy-upstream-service-time").is_some());
        assert!(answer.field("date").is_some_and(|date| date.ends_with("GMT")));
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    client.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\nGET /3 HTTP/1.1\r\nho");
    assert!(client.answer().text().starts_with("GET /1 "));
    assert!(client.answer().text().starts_with("GET /2 "));
    assert!(client.send("st: a\r\n\r\n").answer().text().starts_with("GET /3 "));
}

#[test]
fn a_head_that_drips_in_is_put_together() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    for byte in b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n" {
        client.send([*byte]);
    }
    assert_eq!(client.answer().status(), "200");
}

#[test]
fn empty_lines_before_a_head_are_waited_behind_like_others() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    for path in ["/1", "/2"] {
        client.send("\r\n\r\n");
        // The worker has others to serve.
        assert_eq!(proxy.connect().get("/other").status(), "200");
        assert!(client.get(path).text().starts_with(&format!("GET {path} ")));
    }
}

#[test]
fn interim_answers_are_passed_on() {
    let upstream = Upstream::start(|mut client| {
        while client.request_head().is_some() {
            client.send("HTTP/1.1 100 Continue\r\n\r\n");
            let body = client.exactly(2);
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").send(body);
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 100 "));
    assert_eq!(client.send("ok").answer().text(), "ok");
}

#[test]
fn an_upgrade_to_websocket_turns_into_a_relay() {
    let upstream = Upstream::start(|mut client| {
        if let Some(head) = client.request_head() {
            assert!(head.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{head}");
            client.send(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nhello",
            );
            let heard = client.exactly(4);
            client.send(heard);
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let head = client.head();
    assert!(head.contains("upgrade: websocket\r\n"), "{head}");
    assert_eq!(client.exactly(5), b"hello");
    assert_eq!(client.send("ping").rest(), b"ping");
}

#[test]
fn other_upgrades_are_not_offered_to_the_endpoint() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    let answer =
        client.send("GET / HTTP/1.1\r\nhost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n").answer();
    assert!(!answer.text().to_lowercase().contains("upgrade"), "{}", answer.text());
}

#[test]
fn an_idle_connection_that_the_endpoint_closed_costs_no_request() {
    let upstream = Upstream::start(|mut client| {
        // One request per connection, closed without having said so.
        if client.request_head().is_some() {
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "ok");
    }
}

#[test]
fn what_cannot_be_routed_or_reached_is_answered_as_envoy_does() {
    let upstream = Upstream::echoing_heads();
    let mut proxy = Proxy::gateway(&[upstream.address]);
    let forward = |id| RouteAction::Forward(to_cluster(id).into());
    let mut draft = gateway_draft(proxy.address, &[upstream.address]);
    draft.clusters.push(crate::support::cluster("empty", crate::support::endpoints(&[])));
    draft.clusters.push(crate::support::cluster("dead", crate::support::endpoints(&[free_address()])));
    draft.route_configs = vec![route_config(
        "test",
        vec![
            route(PathMatch::exact("/unknown"), forward(None)),
            route(PathMatch::exact("/empty"), forward(Some(1))),
            route(PathMatch::exact("/dead"), forward(Some(2))),
            route(
                PathMatch::prefix("/direct"),
                RouteAction::DirectResponse { status: 418, body: "tea".into() },
            ),
        ],
    )];
    proxy.publish(draft);
    let mut client = proxy.connect();
    let mut get = |path: &str| {
        let answer = client.get(path);
        (answer.status().to_owned(), answer.text().to_owned())
    };
    assert_eq!(get("/nothing"), ("404".into(), String::new()));
    assert_eq!(get("/unknown"), ("503".into(), String::new()));
    assert_eq!(get("/empty"), ("503".into(), "no healthy upstream".into()));
    let (status, body) = get("/dead");
    assert_eq!(status, "503");
    assert!(body.ends_with("reset reason: remote connection failure"), "{body}");
    assert_eq!(get("/direct"), ("418".into(), "tea".into()));
    let answer = client.send("GET / HTTP/1.1\r\nhost: other\r\n\r\n").answer();
    assert_eq!((answer.status(), answer.text()), ("404", ""));
}

#[test]
fn an_endpoint_that_refuses_costs_a_try_not_the_request() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[free_address(), upstream.address, free_address()]);
    for _ in 0..20 {
        assert_eq!(proxy.connect().get("/").status(), "200");
    }
}

#[test]
fn an_endpoint_that_breaks_http_or_hangs_up_is_reported() {
    for (bytes, status) in
        [(&b""[..], "503"), (b"SSH-2.0-OpenSSH\r\n", "502"), (b"HTTP/1.1 200 OK\r\ncontent", "502")]
    {
        let upstream = Upstream::start(move |mut client| {
            if client.request_head().is_some() {
                client.send(bytes);
            }
        });
        let proxy = Proxy::gateway(&[upstream.address]);
        assert_eq!(proxy.connect().get("/").status(), status, "{bytes:?}");
    }
}

#[test]
fn malformed_requests_are_refused_and_the_connection_closed() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
        ("GET / HTTP/3.0\r\nhost: a\r\n\r\n", "505"),
        ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", "404"),
    ];
    for (request, status) in cases {
        let mut client = proxy.connect();
        let answer = String::from_utf8(client.send(request).rest_after_shutdown()).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
    }
    let huge = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(70_000));
    let mut client = proxy.connect();
    assert_eq!(client.send(huge).answer().status(), "431");
    assert_eq!(upstream.connections(), 0);
}

impl crate::support::Client {
    fn rest_after_shutdown(&mut self) -> Vec<u8> {
        self.0.shutdown(Shutdown::Write).unwrap();
        self.rest()
    }
}

#[test]
fn connections_over_the_limit_are_closed_at_once() {
    let upstream = Upstream::echoing_heads();
    let settings = Settings { max_connections: 1, ..Settings::default() };
    let proxy = Proxy::start(settings, |address| gateway_draft(address, &[upstream.address]));
    let mut first = proxy.connect();
    assert_eq!(first.get("/").status(), "200");
    assert!(proxy.connect().rest().is_empty());
    assert_eq!(proxy.runtime.block_on(proxy.plane.counts()).over_limit, 1);
    assert_eq!(first.get("/").status(), "200");
}

#[test]
fn a_client_that_leaves_does_not_hold_its_endpoint() {
    let (left, noticed) = std::sync::mpsc::channel();
    let left = std::sync::Mutex::new(left);
    let upstream = Upstream::start(move |mut client| {
        if client.request_head().is_some() {
            // Never answers; ends when the proxy closes.
            assert!(client.rest().is_empty());
            left.lock().unwrap().send(()).unwrap();
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    client.send("GET /silent HTTP/1.1\r\nhost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(50));
    drop(client);
    noticed.recv_timeout(PATIENCE).unwrap();
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_switch_of_protocols_nobody_asked_for_is_refused() {
    let upstream = Upstream::answering(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: evil\r\n\r\nraw bytes");
    let proxy = Proxy::gateway(&[upstream.address]);
    assert_eq!(proxy.connect().get("/").status(), "502");
}

#[test]
fn paths_are_routed_and_sent_on_in_their_normal_form() {
    let upstream = Upstream::echoing_heads();
    let mut proxy = Proxy::gateway(&[upstream.address]);
    let mut draft = gateway_draft(proxy.address, &[upstream.address]);
    let secret = RouteAction::DirectResponse { status: 403, body: String::new() };
    draft.route_configs = vec![route_config(
        "*",
        vec![
            route(PathMatch::prefix("/secret"), secret),
            route(PathMatch::Any, RouteAction::Forward(to_cluster(Some(0)).into())),
        ],
    )];
    proxy.publish(draft);
    let mut client = proxy.connect();
    for path in ["/open/../secret", "/%73ecret", "/x/..;a/secret", "/open\\..\\secret", "/./secret?a"] {
        assert_eq!(client.get(path).status(), "403", "{path}");
    }
    let sent = client.get("/a/./b%7E?c=/../d");
    assert!(sent.text().starts_with("GET /a/b~?c=/../d HTTP/1.1\r\n"), "{}", sent.text());
    assert_eq!(client.get("/a%00").status(), "400");
}
