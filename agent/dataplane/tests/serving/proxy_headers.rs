//! Fields that the proxy itself puts into heads, one setting after the other, in both versions of HTTP. What is expected
//! was seen of Envoy 1.40 with the same settings.

use std::sync::Arc;

use dataplane::Settings;
use snapshot::{
    Direction, Forward, HttpSettings, PathMatch, PathRewrite, ProxyHeaders, Rewrite, RouteAction,
    ServerHeader,
};

use crate::{
    http2,
    support::{Proxy, Upstream, gateway_draft, route, route_config, to_cluster},
};

/// A proxy of a side with these settings: `/direct` is answered here, `/new/` gets another path and host and has five
/// seconds, all else goes on to an endpoint that echoes heads.
fn proxy(direction: Direction, headers: ProxyHeaders, settings: Settings) -> (Proxy, Upstream) {
    let upstream = Upstream::echoing_heads();
    // Only sidecars ask for it.
    let original_destination = |_: &_| Ok(Some(([10, 0, 0, 1], 80).into()));
    let proxy = Proxy::start(Settings { original_destination, ..settings }, |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.listeners[0].direction = direction;
        draft.http_settings = vec![Arc::new(HttpSettings { headers, ..HttpSettings::default() })];
        let rewrite = Rewrite {
            path: Some(PathRewrite::Prefix { matched: 5, text: "/".to_owned() }),
            authority: Some("other".to_owned()),
        };
        let forward = Forward {
            rewrite: Some(Box::new(rewrite)),
            timeout: Some(std::time::Duration::from_secs(5)),
            ..to_cluster(Some(0)).into()
        };
        let direct = RouteAction::DirectResponse { status: 200, body: "here".to_owned() };
        draft.route_configs = vec![route_config(
            "*",
            vec![
                route(PathMatch::prefix("/direct"), direct),
                route(PathMatch::prefix("/new/"), RouteAction::Forward(forward)),
                route(PathMatch::Any, RouteAction::Forward(to_cluster(Some(0)).into())),
            ],
        )];
        draft
    });
    (proxy, upstream)
}

/// Head and body of the answer to a request for a path with these fields, over HTTP/1 and over HTTP/2, in lower case.
fn asked(proxy: &Proxy, path: &str, fields: &[(&'static str, &'static str)]) -> [(String, String); 2] {
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut client = proxy.connect();
    let answer = client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n{lines}\r\n")).answer();
    let (head, body, _) = http2::exchange(proxy.address, ("GET", path), fields);
    let line =
        |(name, value): (_, &hyper::header::HeaderValue)| format!("{name}: {}\r\n", value.to_str().unwrap());
    let shown: String = head.headers.iter().map(line).collect();
    [(answer.head.clone(), answer.text().to_owned()), (shown, body)]
        .map(|(head, body)| (head.to_ascii_lowercase(), body.to_ascii_lowercase()))
}

/// Which of the names begin a line.
fn present<'n>(text: &str, names: &[&'n str]) -> Vec<&'n str> {
    let has = |name: &&&str| text.lines().any(|line| line.starts_with(&format!("{name}: ")));
    names.iter().filter(has).copied().collect()
}

#[test]
fn the_name_of_the_server_is_istios_or_given_or_the_endpoints() {
    let named = || ServerHeader::Named("shop".to_owned());
    for (server, direction, from_endpoint, local) in [
        (ServerHeader::Proxy, Direction::Gateway, "server: istio-envoy", Some("server: istio-envoy")),
        (ServerHeader::Proxy, Direction::Outbound, "server: envoy", Some("server: envoy")),
        (named(), Direction::Gateway, "server: shop", Some("server: shop")),
        (named(), Direction::Outbound, "server: shop", Some("server: shop")),
        (ServerHeader::Endpoint, Direction::Gateway, "server: fake", None),
        (ServerHeader::Endpoint, Direction::Outbound, "server: fake", None),
    ] {
        let headers = ProxyHeaders { server, ..ProxyHeaders::default() };
        let (proxy, _upstream) = proxy(direction, headers.clone(), Settings::default());
        let servers =
            |head: &str| head.lines().filter(|line| line.starts_with("server:")).map(str::to_owned).collect();
        for (head, _) in asked(&proxy, "/", &[]) {
            assert_eq!(servers(&head), [from_endpoint], "{headers:?} {direction:?}");
            assert_eq!(present(&head, &["date"]), ["date"]);
        }
        for (head, body) in asked(&proxy, "/direct", &[]) {
            let found: Vec<String> = servers(&head);
            assert_eq!(
                (found.first().map(String::as_str), body.as_str()),
                (local, "here"),
                "{headers:?} {direction:?}"
            );
            assert_eq!(present(&head, &["date"]), ["date"]);
        }
    }
}

#[test]
fn what_the_proxy_tells_can_be_switched_off() {
    const OWN: [&str; 6] = [
        "x-request-id",
        "x-envoy-attempt-count",
        "x-envoy-expected-rq-timeout-ms",
        "x-envoy-original-path",
        "x-envoy-original-host",
        "x-forwarded-proto",
    ];
    let all = ProxyHeaders::default();
    for (headers, to_endpoint, to_client) in [
        (all.clone(), &OWN[..], &["x-envoy-upstream-service-time"][..]),
        (ProxyHeaders { request_id: false, ..all.clone() }, &OWN[1..], &["x-envoy-upstream-service-time"]),
        (
            ProxyHeaders { attempt_count: false, ..all.clone() },
            &[OWN[0], OWN[2], OWN[3], OWN[4], OWN[5]],
            &["x-envoy-upstream-service-time"],
        ),
        (ProxyHeaders { debug: false, ..all }, &[OWN[0], OWN[1], OWN[5]], &[]),
    ] {
        let (proxy, _upstream) = proxy(Direction::Gateway, headers.clone(), Settings::default());
        for (head, body) in asked(&proxy, "/new/a", &[]) {
            assert!(body.starts_with("get /a http/1.1\r\nhost: other\r\n"), "{body}");
            assert_eq!(present(&body, &OWN), to_endpoint, "{headers:?}");
            assert_eq!(present(&head, &["x-envoy-upstream-service-time"]), to_client, "{headers:?}");
        }
    }
}

#[test]
fn an_id_that_the_proxy_does_not_give_is_the_clients() {
    let headers = ProxyHeaders { request_id: false, ..ProxyHeaders::default() };
    let (proxy, _upstream) = proxy(Direction::Gateway, headers, Settings::default());
    for (_, body) in asked(&proxy, "/", &[("x-request-id", "mine")]) {
        assert!(body.contains("x-request-id: mine\r\n"), "{body}");
    }
}

/// A UUID of version 4: Istio reads the version, its fifteenth character, as "not traced".
#[test]
fn ids_say_that_nothing_was_decided_about_tracing() {
    let (proxy, _upstream) = proxy(Direction::Gateway, ProxyHeaders::default(), Settings::default());
    for (_, body) in asked(&proxy, "/", &[("x-request-id", "mine")]) {
        let id = body.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
        assert_eq!((id.len(), &id[14..15], id.matches('-').count()), (36, "4", 4), "{id}");
    }
}

#[test]
fn a_replaced_host_is_told_where_that_is_asked_for() {
    let told = ProxyHeaders { forwarded_host: true, ..ProxyHeaders::default() };
    for direction in [Direction::Gateway, Direction::Outbound] {
        let (proxy, _upstream) = proxy(direction, told.clone(), Settings::default());
        for (path, fields, expected) in [
            ("/new/", &[][..], Some("x-forwarded-host: test")),
            ("/new/", &[("x-forwarded-host", "h")], Some("x-forwarded-host: h,test")),
            ("/", &[], None),
            ("/", &[("x-forwarded-host", "h")], Some("x-forwarded-host: h")),
        ] {
            for (_, body) in asked(&proxy, path, fields) {
                let lines: Vec<_> =
                    body.lines().filter(|line| line.starts_with("x-forwarded-host")).collect();
                assert_eq!(lines, Vec::from_iter(expected), "{path} {fields:?} {direction:?}");
            }
        }
    }
    let (proxy, _upstream) = proxy(Direction::Gateway, ProxyHeaders::default(), Settings::default());
    for (_, body) in asked(&proxy, "/new/", &[]) {
        assert!(!body.contains("x-forwarded-host"), "{body}");
    }
}

#[test]
fn gateways_tell_the_port_where_that_is_asked_for() {
    let told = ProxyHeaders { forwarded_port: true, ..ProxyHeaders::default() };
    let trusting = Settings { gateway_trusted_proxies: 1, ..Settings::default() };
    let claimed = &[("x-forwarded-port", "1")][..];
    for (direction, headers, settings, fields, expected) in [
        (Direction::Gateway, told.clone(), Settings::default(), &[][..], Some("own")),
        (Direction::Gateway, told.clone(), Settings::default(), claimed, Some("own")),
        (Direction::Gateway, told.clone(), trusting.clone(), claimed, Some("1")),
        (Direction::Gateway, told.clone(), trusting, &[], Some("own")),
        (Direction::Gateway, ProxyHeaders::default(), Settings::default(), &[], None),
        (Direction::Gateway, ProxyHeaders::default(), Settings::default(), claimed, Some("1")),
        (Direction::Outbound, told.clone(), Settings::default(), &[], None),
        (Direction::Outbound, told, Settings::default(), claimed, Some("1")),
    ] {
        let (proxy, _upstream) = proxy(direction, headers.clone(), settings);
        let own = proxy.address.port().to_string();
        for (_, body) in asked(&proxy, "/", fields) {
            let lines: Vec<_> =
                body.lines().filter_map(|line| line.strip_prefix("x-forwarded-port: ")).collect();
            let expected = expected.map(|port| if port == "own" { own.as_str() } else { port });
            assert_eq!(lines, Vec::from_iter(expected), "{headers:?} {fields:?} {direction:?}");
        }
    }
}
