//! Time limits and further tries.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use dataplane::Settings;
use snapshot::{
    Binding, Direction, Discovery, Endpoint, Forward, HeaderEdits, LocalityEndpoints, PathMatch,
    RetryCondition as On, RetryOn, RetryPolicy, RouteAction,
};

use crate::{
    actions::{edits, with_routes},
    support::{
        Client, PATIENCE, Proxy, Upstream, free_address, gateway_draft, retrying, route, route_config,
        to_cluster,
    },
};

fn policy(attempts: u32, conditions: &[On], statuses: &[u16]) -> RetryPolicy {
    let on = RetryOn { conditions: conditions.to_vec(), statuses: statuses.to_vec() };
    RetryPolicy { attempts, on, ..retrying() }
}

fn proxy(endpoints: &[SocketAddr], timeout: Option<Duration>, policy: Option<RetryPolicy>) -> Proxy {
    let forward = Forward { timeout, retries: policy.map(Arc::new), ..to_cluster(Some(0)).into() };
    with_routes(endpoints, vec![route(PathMatch::Any, RouteAction::Forward(forward))])
}

/// Answers with these in turn, then with the last for ever; keeps the heads and bodies of requests.
fn scripted(answers: &'static [&'static str]) -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let upstream = Upstream::start(move |mut client: Client| {
        while let Some(mut request) = client.request_head() {
            if let Some((_, rest)) = request.split_once("content-length: ") {
                let length = rest.split_once("\r\n").unwrap().0.parse().unwrap();
                request += &String::from_utf8(client.exactly(length)).unwrap();
            } else if request.contains("transfer-encoding: chunked") {
                request += &String::from_utf8(client.chunks()).unwrap();
            }
            let number = {
                let mut seen = seen.lock().unwrap();
                seen.push(request);
                seen.len()
            };
            match answers[(number - 1).min(answers.len() - 1)] {
                "close" => return,
                "silence" => thread::sleep(Duration::from_secs(3)),
                answer => _ = client.send(answer),
            }
        }
    });
    (upstream, asked)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

#[test]
fn answers_that_the_policy_covers_are_asked_for_again_and_the_tries_are_counted() {
    let (upstream, asked) = scripted(&[UNAVAILABLE, UNAVAILABLE, OK]);
    let proxy = proxy(&[upstream.address], None, Some(policy(2, &[On::ServerError], &[])));
    let answer = proxy.connect().get("/");
    assert_eq!((answer.status(), answer.text()), ("200", "ok"));
    let asked = asked.lock().unwrap();
    for (request, count) in asked.iter().zip(1..=3) {
        assert!(request.contains(&format!("\r\nx-envoy-attempt-count: {count}\r\n")), "{request}");
    }
    assert_eq!(asked.len(), 3);
}

#[test]
fn the_last_answer_goes_to_the_client_when_tries_are_used_up() {
    let (upstream, asked) = scripted(&[UNAVAILABLE]);
    let proxy = proxy(&[upstream.address], None, Some(policy(2, &[], &[503])));
    let mut client = proxy.connect();
    let answer = client.get("/");
    assert_eq!((answer.status(), answer.text()), ("503", "busy"));
    assert_eq!(asked.lock().unwrap().len(), 3);
    assert_eq!(client.get("/").status(), "503");
}

#[test]
fn what_the_policy_does_not_cover_is_passed_on() {
    let (upstream, asked) = scripted(&[UNAVAILABLE]);
    for policy in [Some(retrying()), Some(policy(2, &[On::Retriable4xx], &[502])), None] {
        assert_eq!(proxy(&[upstream.address], None, policy).connect().get("/").text(), "busy");
    }
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[test]
fn a_connection_that_ends_without_an_answer_is_a_reset() {
    let (upstream, asked) = scripted(&["close", OK]);
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody";
    let proxied = proxy(&[upstream.address], None, Some(policy(1, &[On::Reset], &[])));
    assert_eq!(proxied.connect().send(post).answer().text(), "ok");
    let requests = asked.lock().unwrap().clone();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.ends_with("\r\n\r\nbody")), "{requests:?}");
    let (upstream, _) = scripted(&["close"]);
    let proxied = proxy(&[upstream.address], None, Some(retrying()));
    let answer = proxied.connect().send(post).answer();
    assert_eq!((answer.status(), answer.text().ends_with("connection termination")), ("503", true));
}

#[test]
fn requests_that_may_not_be_made_twice_are_spared_where_that_is_asked_for() {
    let tries = |method: &str, only_idempotent| {
        let (upstream, asked) = scripted(&[UNAVAILABLE, "close", OK]);
        let policy = RetryPolicy { only_idempotent, ..policy(2, &[On::ServerError], &[]) };
        let proxy = proxy(&[upstream.address], None, Some(policy));
        proxy.connect().send(format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")).answer();
        asked.lock().unwrap().len()
    };
    assert_eq!((tries("PUT", true), tries("POST", true), tries("POST", false)), (3, 1, 3));
    // Nobody has seen what could not be sent.
    let (good, _) = scripted(&[OK]);
    let policy = RetryPolicy { only_idempotent: true, ..retrying() };
    let proxy = proxy(&[free_address(), good.address], None, Some(policy));
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    assert!((0..10).all(|_| proxy.connect().send(post).answer().status() == "200"));
}

#[test]
fn bodies_that_come_in_pieces_are_repeated_whole_up_to_a_mebibyte() {
    let chunks = |proxy: &Proxy, size: usize| {
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n");
        thread::sleep(Duration::from_millis(50));
        client.send(format!("{size:x}\r\n{}\r\n", "x".repeat(size))).send("0\r\n\r\n");
        client.answer()
    };
    let (upstream, asked) = scripted(&[UNAVAILABLE, OK]);
    let retrying = || Some(policy(1, &[On::GatewayError], &[]));
    let answer = chunks(&proxy(&[upstream.address], None, retrying()), 100_000);
    assert_eq!(answer.text(), "ok");
    let body = |request: &String| request.split_once("\r\n\r\n").unwrap().1.replace("\r\n", "");
    let bodies: Vec<_> = asked.lock().unwrap().iter().map(body).collect();
    assert_eq!(bodies.len(), 2);
    assert!(bodies[0] == bodies[1] && bodies[0].matches('x').count() == 100_000);
    let (upstream, asked) = scripted(&[UNAVAILABLE, OK]);
    let answer = chunks(&proxy(&[upstream.address], None, retrying()), 1_100_000);
    assert_eq!((answer.text(), asked.lock().unwrap().len()), ("busy", 1));
}

#[test]
fn another_endpoint_is_tried_and_the_one_that_failed_avoided() {
    let (bad, asked_bad) = scripted(&[UNAVAILABLE]);
    let (good, _) = scripted(&[OK]);
    let proxy = proxy(&[bad.address, good.address], None, Some(policy(1, &[On::ServerError], &[])));
    let mut client = proxy.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert!(!asked_bad.lock().unwrap().is_empty());
}

#[test]
fn the_third_try_leaves_the_locality_where_the_policy_says_so() {
    let (near, _) = scripted(&[UNAVAILABLE]);
    let (far, _) = scripted(&[OK]);
    let place = |priority, address| LocalityEndpoints {
        priority,
        endpoints: vec![Endpoint::at(address)],
        ..LocalityEndpoints::default()
    };
    let status = |remote_localities| {
        let policy = RetryPolicy { remote_localities, ..policy(2, &[On::ServerError], &[]) };
        let proxy = Proxy::start(Settings::default(), |address| {
            let mut draft = gateway_draft(address, &[]);
            let places = vec![place(0, near.address), place(1, far.address)];
            draft.clusters[0].discovery = Discovery::Endpoints(places);
            let forward = Forward { retries: Some(Arc::new(policy)), ..to_cluster(Some(0)).into() };
            let routes = vec![route(PathMatch::Any, RouteAction::Forward(forward))];
            draft.route_configs = vec![route_config("*", routes)];
            draft
        });
        proxy.connect().get("/").status().to_owned()
    };
    assert_eq!((status(true).as_str(), status(false).as_str()), ("200", "503"));
}

#[test]
fn connections_that_fail_are_retried_only_where_the_route_says_so() {
    let (good, _) = scripted(&[OK]);
    let endpoints = [free_address(), good.address];
    let with = proxy(&endpoints, None, Some(retrying()));
    let without = proxy(&endpoints, None, None);
    let refused = |proxy: &Proxy| (0..20).filter(|_| proxy.connect().get("/").status() == "503").count();
    assert_eq!(refused(&with), 0);
    assert!(refused(&without) > 0);
}

#[test]
fn a_request_that_takes_too_long_is_answered_504() {
    let (upstream, _) = scripted(&["silence"]);
    let start = Instant::now();
    let answer = proxy(&[upstream.address], Some(Duration::from_millis(200)), None).connect().get("/");
    assert_eq!((answer.status(), answer.text()), ("504", "upstream request timeout"));
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
}

#[test]
fn an_answer_that_is_not_through_in_time_is_cut_off() {
    let upstream = Upstream::start(|mut client| {
        client.request_head();
        client.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        client.rest_or_reset();
    });
    let proxy = proxy(&[upstream.address], Some(Duration::from_millis(200)), None);
    let mut client = proxy.connect();
    let answer = client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").rest();
    assert!(answer.ends_with(b"\r\n\r\nhalf"));
}

#[test]
fn one_slow_try_is_given_up_for_another() {
    let (upstream, asked) = scripted(&["silence", OK]);
    let policy =
        RetryPolicy { per_try_timeout: Some(Duration::from_secs(1)), ..policy(1, &[On::GatewayError], &[]) };
    let proxied = proxy(&[upstream.address], Some(PATIENCE), Some(policy.clone()));
    assert_eq!(proxied.connect().get("/").text(), "ok");
    assert_eq!(asked.lock().unwrap().len(), 2);
    let (upstream, _) = scripted(&["silence"]);
    let answer = proxy(&[upstream.address], None, Some(policy)).connect().get("/");
    assert_eq!((answer.status(), answer.text()), ("504", "upstream request timeout"));
}

#[test]
fn the_whole_limit_counts_all_tries() {
    let (upstream, asked) = scripted(&[UNAVAILABLE]);
    let policy = RetryPolicy { backoff: Duration::from_secs(2), ..policy(50, &[On::ServerError], &[]) };
    let answer =
        proxy(&[upstream.address], Some(Duration::from_millis(300)), Some(policy)).connect().get("/");
    assert_eq!((answer.status(), answer.text()), ("503", "busy"));
    assert!(asked.lock().unwrap().len() < 20);
}

#[test]
fn grpc_clients_set_their_own_deadline() {
    let (upstream, _) = scripted(&["silence"]);
    let proxy = proxy(&[upstream.address], None, None);
    let answer = proxy
        .connect()
        .send("POST /s/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ngrpc-timeout: 100m\r\ncontent-length: 0\r\n\r\n")
        .answer();
    assert_eq!((answer.status(), answer.field("grpc-status")), ("200", Some("4")));
}

/// The answer that is passed on because there is no time for another try must not leave its connection to the endpoint
/// that would have been asked next.
#[test]
fn connections_stay_with_their_endpoints_when_there_is_no_time_for_another_try() {
    let endpoint = || {
        Upstream::start(|mut client| {
            let port = client.0.local_addr().unwrap().port();
            while let Some(head) = client.request_head() {
                match head.starts_with("GET /busy") {
                    true => client.send(UNAVAILABLE),
                    false => client.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{port:05}")),
                };
            }
        })
    };
    let (a, b) = (endpoint(), endpoint());
    let policy = RetryPolicy { backoff: Duration::from_secs(3600), ..policy(2, &[], &[503]) };
    let (timeout, retries) = (Some(Duration::from_secs(5)), Some(Arc::new(policy)));
    let busy = Forward { timeout, retries, ..to_cluster(Some(0)).into() };
    let mut told = route(PathMatch::Any, RouteAction::Forward(to_cluster(Some(0)).into()));
    let response = edits(&[], &[("x-upstream", "%UPSTREAM_REMOTE_ADDRESS%")], &[]);
    told.headers = Some(Box::new(HeaderEdits { response, ..HeaderEdits::default() }));
    let busy = route(PathMatch::exact("/busy"), RouteAction::Forward(busy));
    let proxy = with_routes(&[a.address, b.address], vec![busy, told]);
    let mut client = proxy.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/busy").text(), "busy");
        for _ in 0..4 {
            let answer = client.get("/");
            let told = answer.field("x-upstream").unwrap().to_owned();
            assert!(
                told.ends_with(&format!(":{}", answer.text())),
                "{told} is said, {} answered",
                answer.text()
            );
        }
    }
}

/// A sidecar's side towards other services, with a limit and Istio's policy.
fn sidecar(endpoint: SocketAddr) -> Proxy {
    Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[endpoint]);
        draft.listeners[0].direction = Direction::Outbound;
        draft.listeners[0].binding = Binding::Dialled(address);
        let (timeout, retries) = (Some(Duration::from_secs(5)), Some(Arc::new(retrying())));
        let forward = Forward { timeout, retries, ..to_cluster(Some(0)).into() };
        let routes = vec![route(PathMatch::Any, RouteAction::Forward(forward))];
        draft.route_configs = vec![route_config("*", routes)];
        draft
    })
}

#[test]
fn applications_set_limits_of_time_for_their_own_calls() {
    let (upstream, asked) = scripted(&["silence"]);
    let proxy = sidecar(upstream.address);
    let ask = |fields: &str| {
        proxy.connect().send(format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n")).answer()
    };
    let answer = ask("x-envoy-upstream-rq-timeout-ms: 150");
    assert_eq!((answer.status(), answer.text()), ("504", "upstream request timeout"));
    let answer = ask("X-Envoy-Upstream-Rq-Per-Try-Timeout-Ms: 100");
    assert_eq!(answer.status(), "504");
    let asked = asked.lock().unwrap();
    let told = |request: &String| {
        let value = request.split_once("x-envoy-expected-rq-timeout-ms: ").unwrap().1.to_owned();
        assert!(!request.to_lowercase().contains("x-envoy-upstream-rq"), "{request}");
        value.split_once("\r\n").unwrap().0.to_owned()
    };
    assert_eq!(asked.iter().map(told).collect::<Vec<_>>(), ["150", "100"]);
}

#[test]
fn applications_say_what_is_worth_another_try_and_each_is_told_the_time_left() {
    let (upstream, asked) = scripted(&[UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, OK]);
    let proxy = sidecar(upstream.address);
    let ask = "GET / HTTP/1.1\r\nhost: a\r\nx-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 3\r\n\r\n";
    assert_eq!(proxy.connect().send(ask).answer().text(), "ok");
    let asked = asked.lock().unwrap();
    let left = |request: &String| {
        let (_, rest) = request.split_once("x-envoy-expected-rq-timeout-ms: ").unwrap();
        rest.split_once("\r\n").unwrap().0.parse::<u64>().unwrap()
    };
    let left: Vec<_> = asked.iter().map(left).collect();
    assert!(left.len() == 4 && left[0] == 5000 && left.is_sorted_by(|a, b| a >= b), "{left:?}");
    assert!(left[3] < 5000 && asked.iter().all(|request| !request.contains("retry-on")), "{asked:?}");
}

/// Any number of tries may be asked for; a port where nobody listens refuses each within microseconds.
#[test]
fn tries_at_an_endpoint_that_was_asked_before_come_after_a_pause() {
    let proxy = proxy(&[free_address()], None, Some(policy(12, &[On::ConnectFailure], &[])));
    let start = Instant::now();
    assert_eq!(proxy.connect().get("/").status(), "503");
    // Twelve pauses of 125 ms on average.
    assert!(start.elapsed() > Duration::from_millis(300), "{:?}", start.elapsed());
}

#[test]
fn clients_of_gateways_cannot_set_limits_or_tries() {
    let (upstream, asked) = scripted(&[UNAVAILABLE]);
    let answer = proxy(&[upstream.address], None, None)
        .connect()
        .send(
            "GET / HTTP/1.1\r\nhost: a\r\nx-envoy-retry-on: 5xx\r\nx-envoy-upstream-rq-timeout-ms: 1\r\n\r\n",
        )
        .answer();
    assert_eq!(answer.text(), "busy");
    let asked = asked.lock().unwrap();
    assert!(asked.len() == 1 && !asked[0].contains("-timeout-ms"), "{asked:?}");
}

#[test]
fn an_endpoint_that_refuses_is_asked_again_only_after_a_while_or_when_all_do() {
    let (dead, alive) = (free_address(), Upstream::answering(OK.as_bytes()));
    let proxy = proxy(&[dead, alive.address], None, None);
    let mut client = proxy.connect();
    let mut refused = |requests: u32| (0..requests).filter(|_| client.get("/").status() == "503").count();
    // Without a memory of it, half of the requests would go there.
    assert_eq!(refused(40), 1);
    thread::sleep(Duration::from_millis(2100));
    assert_eq!(refused(40), 1, "it is tried again");
    drop(alive);
}

#[test]
fn when_every_endpoint_refuses_each_is_asked() {
    let dead = free_address();
    let proxy = proxy(&[dead], None, None);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), "503");
    let listener = std::net::TcpListener::bind(dead).unwrap();
    thread::spawn(move || {
        let mut client = Client(listener.accept().unwrap().0);
        client.request_head();
        client.send(OK);
    });
    assert_eq!(client.get("/").status(), "200", "it takes connections again");
}
