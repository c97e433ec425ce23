//! Offers to speak another protocol (routing §5.11).

use std::io::Read;

use super::world::{Options, World, rules};
use crate::support::{Client, Endpoint, answer, ok, printed, service};

/// Takes any offer and sends back what it gets; other requests get 200.
fn echo() -> Endpoint {
    Endpoint::start(|mut client| {
        while let Ok(request) = client.message() {
            let Some(protocol) = request.field("upgrade").map(str::to_lowercase) else {
                client.send(ok("plain"));
                continue;
            };
            client.send(format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: {protocol}\r\n\
                 sec-websocket-accept: a\r\nx-asked: {} {}\r\n\r\nhello",
                request.asks_for(),
                request.field("x-stream-protocol-version").unwrap_or_default()
            ));
            let mut bytes = [0; 1024];
            while let Ok(count @ 1..) = client.0.read(&mut bytes) {
                client.send(&bytes[..count]);
            }
            return;
        }
    })
}

fn world(endpoint: &Endpoint) -> World {
    World::gateway(&[
        service("app", endpoint),
        rules(&["{rewrite: {uri: /new}, timeout: 2s, route: [{destination: {host: app}}]}"]),
    ])
}

#[test]
fn websocket_is_relayed_for_as_long_as_it_lasts() {
    let world = world(&echo());
    let mut client = Client::local(world.port);
    let offer = "GET /chat HTTP/1.1\r\nhost: app\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                 sec-websocket-key: k\r\n\r\n";
    let switched = client.send(offer).message().unwrap();
    assert_eq!((switched.status(), switched.field("upgrade")), (101, Some("websocket")));
    assert_eq!(switched.field("sec-websocket-accept"), Some("a"));
    assert_eq!(client.exactly(5), b"hello");
    // The limit of time is for the answer, not for what follows it.
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(client.send(b"\x81\x03abc").exactly(5), b"\x81\x03abc");
    }
}

#[test]
fn an_endpoint_that_does_not_switch_answers_as_to_any_request() {
    let upstream = Endpoint::answering(|_, _| answer(426, "no"));
    let world = world(&upstream);
    let offer = "GET /chat HTTP/1.1\nhost: app\nconnection: upgrade\nupgrade: websocket\n\n";
    let refused = world.send(offer);
    assert_eq!((refused.status(), refused.body.as_str()), (426, "no"));
    let asked = upstream.last();
    assert_eq!((asked.asks_for(), asked.field("upgrade")), ("GET /newchat", Some("websocket")));
    assert_eq!(asked.field("connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
}

#[test]
fn other_offers_are_ignored_and_the_request_is_served() {
    let upstream = Endpoint::named("app");
    let world = world(&upstream);
    for offer in ["h2c", "TLS/1.2", "foo/2"] {
        let request = format!(
            "GET / HTTP/1.1\nhost: app\nconnection: upgrade, http2-settings\nhttp2-settings: AAMAAABkAAQAAP__\nupgrade: {offer}\n\n"
        );
        assert_eq!(world.send(&request).body, "app", "{offer}");
        let asked = upstream.last();
        assert_eq!((asked.field("upgrade"), asked.field("http2-settings")), (None, None), "{offer}");
    }
    // An offer without the option in `connection` is none.
    assert_eq!(world.send("GET / HTTP/1.1\nhost: app\nupgrade: websocket\n\n").body, "app");
    assert_eq!(upstream.last().field("upgrade"), None);
}

#[test]
fn tunnels_are_not_opened_for_clients() {
    let upstream = Endpoint::named("app");
    let world =
        World::gateway(&[service("app", &upstream), rules(&["{route: [{destination: {host: app}}]}"])]);
    let answer = world.send("CONNECT app:80 HTTP/1.1\nhost: app:80\nx-case: connect\n\n");
    assert_eq!((answer.status(), upstream.asked().len()), (404, 0));
    assert!(world.logged("connect").starts_with("404 NR route_not_found"), "{}", world.logged("connect"));
}

#[test]
fn routes_see_an_offer_that_is_passed_on_and_no_other() {
    let upstream = Endpoint::named("app");
    let world = World::gateway(&[
        service("app", &upstream),
        rules(&[
            "{match: [{headers: {upgrade: {exact: websocket}, connection: {exact: 'keep-alive, Upgrade'}}}], \
             rewrite: {uri: /chat}, route: [{destination: {host: app}}]}",
            "{match: [{headers: {upgrade: {regex: '.+'}}}], directResponse: {status: 299}}",
            "{directResponse: {status: 204}}",
        ]),
    ]);
    let offer = |lines: &str| world.send(&format!("GET / HTTP/1.1\nhost: app\n{lines}\n\n"));
    assert_eq!(offer("connection: keep-alive, Upgrade\nupgrade: websocket").body, "app");
    let asked = upstream.last();
    assert_eq!((asked.fields("upgrade"), asked.fields("connection")), (vec!["websocket"], vec!["upgrade"]));
    assert_eq!(offer("connection: upgrade\nupgrade: WebSocket").status(), 299);
    assert_eq!(offer("connection: upgrade\nupgrade: h2c").status(), 204);
    assert_eq!(offer("upgrade: websocket").status(), 204);
}

#[test]
fn what_is_listed_is_passed_on_and_nothing_else() {
    let upstream = echo();
    let resources = [
        service("app", &upstream),
        rules(&[
            "{match: [{headers: {upgrade: {exact: SPDY/3.1}}}], rewrite: {uri: /exec}, \
              route: [{destination: {host: app}}]}",
            "{match: [{headers: {upgrade: {regex: '.+'}}}], directResponse: {status: 299}}",
            "{route: [{destination: {host: app}}]}",
        ]),
    ];
    let variables = [("POSTERN_UPGRADES", "SPDY/3.1, tcp")];
    let world = World::start(&resources, &Options { variables: &variables, ..Options::default() });
    // As `kubectl exec` asks.
    let mut client = Client::local(world.port);
    let offer = "POST / HTTP/1.1\r\nhost: app\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\
                 x-stream-protocol-version: v4.channel.k8s.io\r\ncontent-length: 0\r\n\r\n";
    let switched = client.send(offer).message().unwrap();
    assert_eq!((switched.status(), switched.field("upgrade")), (101, Some("spdy/3.1")));
    assert_eq!(switched.field("x-asked"), Some("POST /exec v4.channel.k8s.io"));
    assert_eq!(client.exactly(5), b"hello");
    assert_eq!(client.send(b"\x80\x03\x00\x01").exactly(4), b"\x80\x03\x00\x01");
    for ignored in ["websocket", "SPDY/3", "SPDY/3.1, tcp"] {
        let answer =
            world.send(&format!("GET / HTTP/1.1\nhost: app\nconnection: upgrade\nupgrade: {ignored}\n\n"));
        assert_eq!(answer.body, "plain", "{ignored}");
    }
    let url = format!("http://app:{}/", world.port);
    let explained = |protocol: &str| {
        let admin = &world.interfaces.admin;
        let offer = format!("Upgrade: {protocol}");
        printed(&[
            "explain",
            "request",
            "POST",
            &url,
            "-H",
            "Connection: upgrade",
            "-H",
            &offer,
            "--admin",
            admin,
        ])
    };
    assert!(explained("SPDY/3.1").contains("/exec"), "{}", explained("SPDY/3.1"));
    assert!(!explained("websocket").contains("299"), "{}", explained("websocket"));
    let dump = printed(&["request", "GET", "/config_dump", "--admin", &world.interfaces.admin]);
    let dump: String = dump.split_whitespace().collect();
    let listed = r#""upgrade_configs":[{"upgrade_type":"SPDY/3.1"},{"upgrade_type":"tcp"}]"#;
    assert!(dump.contains(listed), "{dump}");
}

#[test]
fn where_nothing_is_listed_no_protocol_is_passed_on() {
    let upstream = echo();
    let resources = [service("app", &upstream), rules(&["{route: [{destination: {host: app}}]}"])];
    let variables = [("POSTERN_UPGRADES", "none")];
    let world = World::start(&resources, &Options { variables: &variables, ..Options::default() });
    let offer = "GET / HTTP/1.1\nhost: app\nconnection: upgrade\nupgrade: websocket\n\n";
    assert_eq!(world.send(offer).body, "plain");
}
