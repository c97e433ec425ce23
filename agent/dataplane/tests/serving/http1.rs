//! HTTP/1 through a gateway, with clients and upstreams that speak raw bytes.

use std::{
    io::{ErrorKind, Read},
    net::Shutdown,
    thread,
    time::Duration,
};

use crate::support::{
    PATIENCE, Proxy, Upstream, free_address, gateway_draft, route, route_config, to_cluster, within,
};
use dataplane::{DrainTime, Settings};
use snapshot::{PathMatch, RouteAction};

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
    let answer = client.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n").rest();
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
    assert_eq!(upstream.connections(), 1);
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
fn a_new_snapshot_serves_the_next_request_of_a_living_connection() {
    let (first, second) = (Upstream::answering(OLD), Upstream::answering(NEW));
    let mut proxy = Proxy::gateway(&[first.address]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "old");
    proxy.publish(gateway_draft(proxy.address, &[second.address]));
    assert_eq!(client.get("/").text(), "new");
}

const OLD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold";
const NEW: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nnew";

#[test]
fn draining_closes_idle_connections_and_lets_running_requests_finish() {
    let upstream = Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            if head.starts_with("GET /slow") {
                thread::sleep(Duration::from_millis(300));
            }
            client.send(OLD);
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let (mut idle, mut busy) = (proxy.connect(), proxy.connect());
    assert_eq!(idle.get("/").status(), "200");
    let slow = thread::spawn(move || {
        let answer = busy.get("/slow");
        (answer.field("connection").map(str::to_owned), answer.text().to_owned(), busy.rest())
    });
    thread::sleep(Duration::from_millis(100));
    assert!(proxy.runtime.block_on(proxy.plane.drain(within(5))));
    assert!(idle.rest().is_empty());
    let (connection, body, rest) = slow.join().unwrap();
    // The answer's head was not yet written when the drain began, so it could still say so.
    assert_eq!((connection.as_deref(), body.as_str(), rest.len()), (Some("close"), "old", 0));
}

#[test]
fn a_drain_within_an_answer_leaves_time_for_the_request_behind_it() {
    let (half, halfway) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |mut client| {
        while let Some(head) = client.request_head() {
            client.send(&OLD[..OLD.len() - 1]);
            if head.starts_with("GET /first") {
                half.send(()).unwrap();
                thread::sleep(Duration::from_millis(500));
            }
            client.send(&OLD[OLD.len() - 1..]);
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    client.send("GET /first HTTP/1.1\r\nhost: test\r\n\r\n");
    let asking = thread::spawn(move || {
        let first = client.answer();
        thread::sleep(Duration::from_millis(200));
        let second = client.get("/second");
        assert!(client.rest().is_empty());
        (first, second)
    });
    halfway.recv().unwrap();
    thread::sleep(Duration::from_millis(100));
    assert!(proxy.runtime.block_on(proxy.plane.drain(within(5))));
    let (first, second) = asking.join().unwrap();
    assert_eq!((first.field("connection"), first.text()), (None, "old"));
    assert_eq!((second.field("connection"), second.text()), (Some("close"), "old"));
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
fn a_switch_of_protocols_nobody_asked_for_is_refused() {
    let upstream = Upstream::answering(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: evil\r\n\r\nraw bytes");
    let proxy = Proxy::gateway(&[upstream.address]);
    assert_eq!(proxy.connect().get("/").status(), "502");
}

#[test]
fn an_endpoint_that_is_gone_from_the_configuration_loses_its_idle_connections() {
    let (ended, noticed) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let first = Upstream::start(move |mut client| {
        while client.request_head().is_some() {
            client.send(OLD);
        }
        ended.lock().unwrap().send(()).unwrap();
    });
    let second = Upstream::answering(NEW);
    let mut proxy = Proxy::gateway(&[first.address]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "old");
    proxy.publish(gateway_draft(proxy.address, &[second.address]));
    // The client's connection lives on; it must not keep the old snapshot.
    noticed.recv_timeout(PATIENCE).unwrap();
    assert_eq!(client.get("/").text(), "new");
}

#[test]
fn a_listener_moves_to_a_narrower_address_on_its_port() {
    let upstream = Upstream::answering(OLD);
    let mut proxy = Proxy::gateway(&[upstream.address]);
    let everywhere = std::net::SocketAddr::from(([0, 0, 0, 0], proxy.address.port()));
    proxy.publish(gateway_draft(everywhere, &[upstream.address]));
    assert_eq!(proxy.connect().get("/").text(), "old");
    proxy.publish(gateway_draft(proxy.address, &[upstream.address]));
    assert_eq!(proxy.connect().get("/").text(), "old");
}

#[test]
fn a_silent_connection_made_while_draining_does_not_hold_it() {
    let upstream = Upstream::answering(OLD);
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut busy = proxy.connect();
    busy.send("GET / HTTP/1.1\r\nhost: ");
    let address = proxy.address;
    let late = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        let mut silent = crate::support::Client::connect(address);
        assert!(silent.rest().is_empty());
        busy.send("a\r\n\r\n");
        assert_eq!(busy.answer().field("connection"), Some("close"));
    });
    assert!(proxy.runtime.block_on(proxy.plane.drain(within(8))));
    late.join().unwrap();
}

#[test]
fn new_connections_may_be_silent_until_the_minimum_of_a_drain_is_over() {
    let upstream = Upstream::answering(OLD);
    let proxy = Proxy::gateway(&[upstream.address]);
    let second = Duration::from_secs(1);
    let address = proxy.address;
    let late = thread::spawn(move || {
        thread::sleep(second * 3 / 4);
        let (mut slow, mut silent) =
            (crate::support::Client::connect(address), crate::support::Client::connect(address));
        thread::sleep(second * 2);
        let answer = slow.get("/");
        assert_eq!((answer.text(), answer.field("connection")), ("old", Some("close")));
        assert!(silent.rest().is_empty());
    });
    let start = std::time::Instant::now();
    let drain = DrainTime { minimum: second * 4, limit: PATIENCE };
    assert!(proxy.runtime.block_on(proxy.plane.drain(drain)), "nobody holds it");
    assert!(start.elapsed() >= second * 4, "after {:?}", start.elapsed());
    late.join().unwrap();
}

#[test]
fn a_connection_made_as_the_minimum_of_a_drain_ends_is_served() {
    let upstream = Upstream::answering(OLD);
    let settings = Settings { draining_patience: Duration::from_secs(5), ..Settings::default() };
    let proxy = Proxy::start(settings, |address| gateway_draft(address, &[upstream.address]));
    let address = proxy.address;
    let late = thread::spawn(move || {
        let mut client = crate::support::Client::connect(address);
        thread::sleep(Duration::from_millis(1500));
        assert_eq!(client.get("/").text(), "old");
    });
    let drain = DrainTime { minimum: Duration::from_secs(1), limit: PATIENCE };
    assert!(proxy.runtime.block_on(proxy.plane.drain(drain)), "nobody holds it");
    late.join().unwrap();
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
