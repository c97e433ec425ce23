//! What routes do with requests: rewrite, redirect, answer, change headers, inject faults, judge origins.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use dataplane::Settings;
use snapshot::{
    AbortStatus, ClusterId, ClusterTarget, CorsPolicy, Direction, Edits, Fault, Format, Forward, HeaderEdits,
    Mirror, PathMatch, PathRewrite, Redirect, RedirectPort, Rewrite, Route, RouteAction, SearchPattern,
    Share, TextMatch, WeightedClusters,
};

use crate::support::{
    Answer, Proxy, Upstream, cluster, endpoints, eventually, gateway_draft, route, route_config, to_cluster,
};

/// A gateway whose one cluster has these endpoints, with these routes.
pub(crate) fn with_routes(endpoints: &[SocketAddr], routes: Vec<Route>) -> Proxy {
    Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, endpoints);
        draft.route_configs = vec![route_config("*", routes)];
        draft
    })
}

fn forward() -> Forward {
    to_cluster(Some(0)).into()
}

fn rewriting(path: &str, rewrite: Rewrite) -> Route {
    let forward = Forward { rewrite: Some(Box::new(rewrite)), ..forward() };
    route(PathMatch::prefix(path), RouteAction::Forward(forward))
}

pub(crate) fn edits(remove: &[&str], set: &[(&str, &str)], add: &[(&str, &str)]) -> Edits {
    let values = |list: &[(&str, &str)]| {
        list.iter().map(|(name, value)| ((*name).to_owned(), Format::parse(value).unwrap())).collect()
    };
    Edits {
        remove: remove.iter().map(|name| (*name).to_owned()).collect(),
        set: values(set),
        add: values(add),
    }
}

fn ask(proxy: &Proxy, head: &str) -> Answer {
    proxy.connect().send(head.replace('\n', "\r\n")).answer()
}

#[test]
fn paths_and_authority_are_rewritten_and_the_original_path_is_told() {
    let upstream = Upstream::echoing_heads();
    let path = |rewrite| Rewrite { path: Some(rewrite), authority: None };
    let regex = PathRewrite::Regex {
        search: SearchPattern::new("/v([0-9]+)").unwrap(),
        replacement: r"/version-\1".to_owned(),
    };
    let proxy = with_routes(
        &[upstream.address],
        vec![
            rewriting("/prefix/", path(PathRewrite::Prefix { matched: 8, text: "/".to_owned() })),
            rewriting("/whole", path(PathRewrite::Whole("/other".to_owned()))),
            rewriting("/regex", path(regex)),
            rewriting("/host", Rewrite { path: None, authority: Some("inner.example".to_owned()) }),
        ],
    );
    let starts = |path: &str, line: &str| {
        let head = proxy.connect().get(path).text().to_owned();
        assert!(head.starts_with(&format!("GET {line} HTTP/1.1\r\nhost: test\r\n")), "{head}");
        assert!(head.contains(&format!("x-envoy-original-path: {path}\r\n")), "{head}");
    };
    starts("/prefix/api?q=/prefix/", "/api?q=/prefix/");
    starts("/whole/deep?a=b", "/other?a=b");
    starts("/regex/v1/v2?v3=/v4", "/regex/version-1/version-2?v3=/v4");
    let head = proxy.connect().get("/host").text().to_owned();
    assert!(head.starts_with("GET /host HTTP/1.1\r\nhost: inner.example\r\n"), "{head}");
    assert!(!head.contains("x-envoy-original-path") && !head.contains("x-forwarded-host"), "{head}");
}

#[test]
fn redirects_name_the_new_place_and_have_no_body() {
    let redirect = |redirect| route(PathMatch::prefix("/"), RouteAction::Redirect(redirect));
    let plain = Redirect { status: 301, path: None, authority: None, port: None, scheme: None };
    let to = |redirected: Redirect, head: &str| {
        let proxy = with_routes(&[], vec![redirect(redirected)]);
        let answer = ask(&proxy, head);
        assert_eq!((answer.field("content-length"), answer.text()), (Some("0"), ""));
        assert_eq!(answer.field("content-type"), None);
        (answer.status().to_owned(), answer.field("location").unwrap().to_owned())
    };
    let head = "GET /old/a?q HTTP/1.1\nhost: a.example:81\n\n";
    let found = to(Redirect { status: 302, scheme: Some("https".to_owned()), ..plain.clone() }, head);
    assert_eq!(found, ("302".to_owned(), "https://a.example:81/old/a?q".to_owned()));
    let moved = Redirect {
        path: Some(PathRewrite::Prefix { matched: 4, text: "/new".to_owned() }),
        authority: Some("b.example".to_owned()),
        port: Some(RedirectPort::Number(8080)),
        ..plain
    };
    assert_eq!(to(moved, head).1, "http://b.example:8080/new/a?q");
}

#[test]
fn direct_responses_carry_body_and_the_routes_headers() {
    let headers = HeaderEdits {
        response: edits(&["server"], &[("content-type", "application/json")], &[("x-path", "%REQ(:PATH)%")]),
        ..HeaderEdits::default()
    };
    let action = RouteAction::DirectResponse { status: 503, body: "{}".to_owned() };
    let with_headers =
        Route { headers: Some(Box::new(headers)), ..route(PathMatch::prefix("/json"), action.clone()) };
    let proxy = with_routes(&[], vec![with_headers, route(PathMatch::Any, action)]);
    let answer = proxy.connect().get("/json?a");
    assert_eq!((answer.status(), answer.text()), ("503", "{}"));
    assert_eq!(answer.field("content-type"), Some("application/json"));
    assert_eq!((answer.field("x-path"), answer.field("server")), (Some("/json?a"), Some("istio-envoy")));
    let answer = proxy.connect().get("/");
    assert_eq!((answer.field("content-type"), answer.text()), (Some("text/plain"), "{}"));
}

#[test]
fn headers_of_requests_are_removed_set_and_added_with_values_of_the_request() {
    let upstream = Upstream::echoing_heads();
    let headers = HeaderEdits {
        request: edits(
            &["x-gone", "x-forwarded-proto"],
            &[("x-set", "%REQ(X-Kept)%/%PROTOCOL%"), ("x-empty", "%REQ(x-none)%")],
            &[("x-kept", "100%%"), ("x-from", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")],
        ),
        ..HeaderEdits::default()
    };
    let route =
        Route { headers: Some(Box::new(headers)), ..route(PathMatch::Any, RouteAction::Forward(forward())) };
    let proxy = with_routes(&[upstream.address], vec![route]);
    let head =
        "GET / HTTP/1.1\nhost: a\nX-Gone: 1\nX-Kept: k\nx-kept: second\nX-Set: old\nx-empty: stays\n\n";
    let head = ask(&proxy, head).text().to_owned();
    for line in ["X-Kept: k", "x-kept: 100%", "x-set: k/HTTP/1.1", "x-empty: stays", "x-from: 127.0.0.1"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
    }
    for name in ["X-Gone", "X-Set", "x-forwarded-proto"] {
        assert!(!head.contains(&format!("\r\n{name}:")), "{name} in {head}");
    }
}

#[test]
fn headers_of_answers_are_changed_by_destination_and_route() {
    let upstream = Upstream::answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nX-Gone: 1\r\nx-a: of upstream\r\nx-b: b\r\n\r\n",
    );
    let of = |set: &[(&str, &str)], remove: &[&str]| {
        Some(Box::new(HeaderEdits { response: edits(remove, set, &[]), ..HeaderEdits::default() }))
    };
    let target = |weight| ClusterTarget {
        name: "test".to_owned(),
        id: Some(ClusterId(0)),
        weight,
        authority: None,
        headers: of(&[("x-who", "destination"), ("x-a", "was %RESP(X-A)% %RESPONSE_CODE%")], &["x-gone"]),
    };
    let answer = |targets: Vec<ClusterTarget>| {
        let forward = WeightedClusters::new(targets).unwrap().into();
        let route = Route {
            headers: of(&[("x-who", "route"), ("x-up", "%UPSTREAM_HOST%")], &[]),
            ..route(PathMatch::Any, RouteAction::Forward(forward))
        };
        with_routes(&[upstream.address], vec![route]).connect().get("/")
    };
    let single = answer(vec![target(1)]);
    assert_eq!((single.field("x-who"), single.field("x-gone")), (Some("route"), None));
    assert_eq!(single.field("x-a"), Some("was of upstream 200"));
    assert_eq!(single.field("x-up"), Some(upstream.address.to_string().as_str()));
    let weighted = answer(vec![target(1), ClusterTarget { weight: 0, ..target(1) }]);
    assert_eq!((weighted.field("x-who"), weighted.field("x-b")), (Some("route"), Some("b")));
}

#[test]
fn routes_change_neither_the_name_of_the_server_nor_that_there_is_a_date() {
    let upstream = Upstream::answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nserver: app\r\ndate: of upstream\r\n\r\n",
    );
    let answer = |remove: &[&str], set: &[(&str, &str)]| {
        let response = edits(remove, set, &[]);
        let headers = Some(Box::new(HeaderEdits { response, ..HeaderEdits::default() }));
        let forwarding = route(PathMatch::Any, RouteAction::Forward(forward()));
        with_routes(&[upstream.address], vec![Route { headers, ..forwarding }]).connect().get("/")
    };
    let removed = answer(&["date", "server"], &[]);
    assert!(removed.field("date").is_some_and(|date| date.ends_with("GMT")), "{:?}", removed.field("date"));
    assert_eq!(removed.field("server"), Some("istio-envoy"));
    let set = answer(&[], &[("server", "mine"), ("date", "never")]);
    assert_eq!((set.field("server"), set.field("date")), (Some("istio-envoy"), Some("never")));
}

fn faulty(fault: Fault, endpoints: &[SocketAddr]) -> Proxy {
    let action = RouteAction::Forward(forward());
    with_routes(endpoints, vec![Route { fault: Some(Box::new(fault)), ..route(PathMatch::Any, action) }])
}

#[test]
fn an_injected_abort_answers_in_the_upstreams_place() {
    let upstream = Upstream::echoing_heads();
    let abort = |status, share| Fault { delay: None, abort: Some((status, share)) };
    let proxy = faulty(abort(AbortStatus::Http(418), Share::ALL), &[upstream.address]);
    let answer = proxy.connect().get("/");
    assert_eq!((answer.status(), answer.text()), ("418", "fault filter abort"));
    let proxy = faulty(abort(AbortStatus::Grpc(14), Share::ALL), &[upstream.address]);
    let answer = proxy.connect().get("/");
    assert_eq!((answer.status(), answer.text()), ("200", "fault filter abort"));
    let answer =
        ask(&proxy, "POST /s/m HTTP/1.1\nhost: a\ncontent-type: application/grpc\ncontent-length: 0\n\n");
    assert_eq!((answer.status(), answer.field("grpc-status"), answer.text()), ("200", Some("14"), ""));
    assert_eq!(answer.field("grpc-message"), Some("fault filter abort"));
    assert_eq!(upstream.connections(), 0);
    let never = faulty(abort(AbortStatus::Http(418), Share::of_percent(0.0)), &[upstream.address]);
    assert_eq!(never.connect().get("/").status(), "200");
}

#[test]
fn an_injected_delay_comes_before_the_answer() {
    let upstream = Upstream::echoing_heads();
    let proxy = faulty(
        Fault { delay: Some((Duration::from_millis(300), Share::ALL)), abort: None },
        &[upstream.address],
    );
    let start = Instant::now();
    let answer = proxy.connect().get("/");
    assert_eq!(answer.status(), "200");
    let waited = u64::try_from(start.elapsed().as_millis()).unwrap();
    assert!(waited >= 300, "{waited}");
    let service_time: u64 = answer.field("x-envoy-upstream-service-time").unwrap().parse().unwrap();
    assert!(service_time + 300 <= waited, "the delay is not the endpoint's: {service_time} of {waited}");
}

#[test]
fn a_delayed_request_takes_no_place_among_those_of_its_cluster() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.clusters[0].limits.max_requests = Some(1);
        let delay = Some((Duration::from_millis(1200), Share::ALL));
        let delayed = route(PathMatch::prefix("/"), RouteAction::Forward(forward()));
        let delayed = Route { fault: Some(Box::new(Fault { delay, abort: None })), ..delayed };
        draft.route_configs = vec![route_config("*", vec![delayed])];
        draft
    });
    let mut clients: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        // Far enough from each other to be alone once the delay is over.
        std::thread::sleep(Duration::from_millis(500));
    }
    for client in &mut clients {
        assert_eq!(client.answer().status(), "200");
    }
}

#[test]
fn preflights_are_answered_and_other_answers_name_the_origin() {
    let upstream = Upstream::answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nAccess-Control-Allow-Origin: *\r\n\r\n",
    );
    let policy = CorsPolicy {
        allow_origins: vec![TextMatch::Exact("https://a".to_owned())],
        allow_methods: "GET,PUT".to_owned(),
        max_age: Some(60),
        ..CorsPolicy::default()
    };
    let action = RouteAction::Forward(forward());
    let cors = Route { cors: Some(Box::new(policy)), ..route(PathMatch::Any, action) };
    let proxy = with_routes(&[upstream.address], vec![cors]);
    let preflight = "OPTIONS / HTTP/1.1\nhost: a\norigin: https://a\naccess-control-request-method: PUT\n\n";
    let answer = ask(&proxy, preflight);
    assert_eq!((answer.status(), upstream.connections()), ("200", 0));
    assert_eq!(answer.field("access-control-allow-origin"), Some("https://a"));
    assert_eq!(answer.field("access-control-allow-methods"), Some("GET,PUT"));
    assert_eq!(answer.field("access-control-max-age"), Some("60"));
    let answer = ask(&proxy, "GET / HTTP/1.1\nhost: a\norigin: https://a\n\n");
    assert_eq!(
        answer.head.matches("llow-origin: ").count() + answer.head.matches("llow-Origin: ").count(),
        1
    );
    assert_eq!(answer.field("access-control-allow-origin"), Some("https://a"));
    let answer = ask(&proxy, &preflight.replace("https://a", "https://b"));
    assert_eq!((answer.field("access-control-allow-origin"), upstream.connections()), (Some("*"), 1));
}

#[test]
fn sidecars_answer_as_gateways_do_but_under_envoys_name() {
    let action = RouteAction::DirectResponse { status: 200, body: "hi".to_owned() };
    let original_destination = |_: &_| Ok(Some(([10, 0, 0, 1], 80).into()));
    let proxy = Proxy::start(Settings { original_destination, ..Settings::default() }, |address| {
        let mut draft = gateway_draft(address, &[]);
        draft.listeners[0].direction = Direction::Outbound;
        draft.route_configs = vec![route_config("*", vec![route(PathMatch::Any, action)])];
        draft
    });
    let answer = proxy.connect().get("/");
    assert_eq!((answer.text(), answer.field("server")), ("hi", Some("envoy")));
}

#[test]
fn local_answers_to_grpc_clients_are_trailers_only() {
    let proxy = Proxy::gateway(&[]);
    let ask = |kind: &str| {
        let head = format!("POST /s/m HTTP/1.1\nhost: a\ncontent-type: {kind}\ncontent-length: 0\n\n");
        ask(&proxy, &head)
    };
    for kind in ["application/grpc", "application/grpc+proto"] {
        let answer = ask(kind);
        assert_eq!((answer.status(), answer.text()), ("200", ""));
        assert_eq!(answer.field("content-type"), Some("application/grpc"));
        assert_eq!(answer.field("grpc-status"), Some("14"));
        assert_eq!(answer.field("grpc-message"), Some("no healthy upstream"));
    }
    assert_eq!(ask("application/grpc-web").status(), "503");
}

/// Keeps the requests it gets, and answers none.
fn silent() -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let upstream = Upstream::start(move |mut client| {
        while let Some(mut head) = client.request_head() {
            if head.contains("transfer-encoding: chunked") {
                head += &String::from_utf8(client.until(b"0\r\n\r\n")).unwrap();
            }
            seen.lock().unwrap().push(head);
        }
    });
    (upstream, asked)
}

#[test]
fn mirrors_get_whole_copies_and_nobody_waits_for_them() {
    let upstream = Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            if head.contains("chunked") {
                client.until(b"0\r\n\r\n");
            }
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let (mirror, copies) = silent();
    let proxy = |share| {
        let target = ClusterTarget {
            name: "mirror".to_owned(),
            id: Some(ClusterId(1)),
            weight: 1,
            authority: None,
            headers: None,
        };
        let mirrors = vec![Mirror { target, share, marks_host: true }];
        let forward = Forward { mirrors, ..forward() };
        Proxy::start(Settings::default(), |address| {
            let mut draft = gateway_draft(address, &[upstream.address]);
            draft.clusters.push(cluster("mirror", endpoints(&[mirror.address])));
            let route = route(PathMatch::Any, RouteAction::Forward(forward));
            draft.route_configs = vec![route_config("*", vec![route])];
            draft
        })
    };
    let all = proxy(Share::ALL);
    let mut client = all.connect();
    assert_eq!(client.get("/bodiless").text(), "ok");
    client.send("POST /pieces HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(client.send("2\r\ncd\r\n0\r\n\r\n").answer().text(), "ok");
    eventually("two copies", || copies.lock().unwrap().len() == 2);
    let seen = copies.lock().unwrap().clone();
    assert!(seen[0].starts_with("GET /bodiless HTTP/1.1\r\nhost: test-shadow\r\n"), "{seen:?}");
    assert!(seen[1].ends_with("\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"), "{seen:?}");
    assert_eq!(proxy(Share::of_percent(0.0)).connect().get("/").text(), "ok");
    assert_eq!(copies.lock().unwrap().len(), 2);
}

#[test]
fn gateways_believe_no_control_headers_and_tell_who_asked() {
    let upstream = Upstream::echoing_heads();
    let action = RouteAction::Forward(Forward { timeout: Some(Duration::from_secs(5)), ..forward() });
    let proxy = with_routes(&[upstream.address], vec![route(PathMatch::Any, action)]);
    let head = "GET / HTTP/1.1\nhost: a\nX-Envoy-Retry-On: 5xx\nx-envoy-original-path: /o\nx-envoy-mine: 1\n\
                x-envoy-external-address: 1.1.1.1\nx-envoy-expected-rq-timeout-ms: 1\n\n";
    let head = ask(&proxy, head).text().to_ascii_lowercase();
    assert!(!head.contains("retry-on") && !head.contains("original-path"), "{head}");
    let lines =
        ["x-envoy-mine: 1", "x-envoy-external-address: 127.0.0.1", "x-envoy-expected-rq-timeout-ms: 5000"];
    for line in lines {
        assert_eq!(head.matches(line.split(':').next().unwrap()).count(), 1, "{head}");
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
    }
}
