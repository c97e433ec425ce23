//! How long a request waits for its next try, where that goes, and who may ask for tries (routing §5.7).

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::world::{Options, World, rules};
use crate::support::{Endpoint, answer, free_port, ok, service};

/// Answers 503 ever.
fn failing() -> Endpoint {
    Endpoint::failing("failing", 503)
}

fn rule(retries: &str) -> String {
    rules(&[&format!("{{route: [{{destination: {{host: app}}}}], retries: {{retryOn: 5xx, {retries}}}}}")])
}

/// A Service with these endpoints.
fn shared(endpoints: &[SocketAddr]) -> String {
    let subsets = endpoints.iter().map(|endpoint| {
        format!(
            "{{addresses: [{{ip: {}}}], ports: [{{name: http, port: {}}}]}}",
            endpoint.ip(),
            endpoint.port()
        )
    });
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: app}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: v1\nkind: Endpoints\nmetadata: {{name: app}}\nsubsets: [{}]\n",
        subsets.collect::<Vec<_>>().join(", ")
    )
}

/// A ServiceEntry for `app.example.com` at the sidecar's port.
fn entry(endpoints: &[SocketAddr]) -> String {
    let endpoints = endpoints
        .iter()
        .map(|endpoint| format!("{{address: {}, ports: {{http: {}}}}}", endpoint.ip(), endpoint.port()));
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: app}}\nspec: {{hosts: [app.example.com], \
         ports: [{{number: <PORT>, name: http, protocol: HTTP}}], resolution: STATIC, endpoints: [{}]}}\n",
        endpoints.collect::<Vec<_>>().join(", ")
    )
}

fn policy(of_traffic: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: app}}\n\
         spec: {{host: app, trafficPolicy: {{{of_traffic}}}}}\n"
    )
}

/// Up to 25 ms, 50 ms, 100 ms and so on: two seconds of twenty tries are what chance gives, and 600 ms are what it does
/// not get below.
#[test]
fn tries_wait_longer_each_time() {
    let upstream = failing();
    let world = World::gateway(&[service("app", &upstream), rule("attempts: 20")]);
    let begun = Instant::now();
    assert_eq!(world.get("/").status(), 503);
    assert_eq!(upstream.requests(), 21);
    assert!(begun.elapsed() >= Duration::from_millis(600), "{:?}", begun.elapsed());
}

/// Never longer than ten times what is written: without that the last of these waits would take five seconds each, and
/// nobody here waits that long for an answer.
#[test]
fn waits_grow_to_ten_times_the_first() {
    let upstream = failing();
    let world = World::gateway(&[service("app", &upstream), rule("attempts: 50, backoff: 10ms")]);
    assert_eq!(world.get("/").status(), 503);
    assert_eq!(upstream.requests(), 51);
}

/// Any time up to the two seconds that are written.
#[test]
fn chance_keeps_tries_of_many_requests_apart() {
    const ASKING: usize = 16;
    let times = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&times);
    let upstream = Endpoint::answering(move |request, _| {
        let (number, is_first) = (
            request.field("x-number").unwrap().to_owned(),
            request.field("x-envoy-attempt-count") == Some("1"),
        );
        kept.lock().unwrap().push((number, Instant::now()));
        if is_first { answer(503, "") } else { ok("") }
    });
    // As many tries at once as there are requests.
    let pool = policy("connectionPool: {http: {maxRetries: 1000}}");
    let world = World::gateway(&[service("app", &upstream), pool, rule("attempts: 1, backoff: 2s")]);
    thread::scope(|scope| {
        for number in 0..ASKING {
            let world = &world;
            scope.spawn(move || {
                let request = format!("GET / HTTP/1.1\nhost: app\nx-number: {number}\n\n");
                assert_eq!(world.send(&request).status(), 200);
            });
        }
    });
    let times = times.lock().unwrap();
    let waits: Vec<_> = (0..ASKING)
        .map(|number| {
            let of: Vec<_> =
                times.iter().filter(|(of, _)| *of == number.to_string()).map(|(_, at)| *at).collect();
            assert_eq!(of.len(), 2, "request {number}");
            of[1] - of[0]
        })
        .collect();
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(*most >= Duration::from_millis(500) && *most - *least >= Duration::from_millis(200), "{waits:?}");
}

#[test]
fn the_endpoint_that_failed_is_avoided_unless_the_rule_says_otherwise() {
    for (balancer, retries, may_return) in [
        ("RANDOM", "attempts: 1", false),
        ("RANDOM", "attempts: 1, retryIgnorePreviousHosts: true", false),
        ("RANDOM", "attempts: 1, retryIgnorePreviousHosts: false", true),
        // The request that has failed does not make its endpoint the busier one.
        ("LEAST_REQUEST", "attempts: 1, retryIgnorePreviousHosts: false", true),
    ] {
        let (a, b) = (failing(), failing());
        let world = World::gateway(&[
            shared(&[a.address, b.address]),
            policy(&format!("loadBalancer: {{simple: {balancer}}}")),
            rule(&format!("backoff: 1ms, {retries}")),
        ]);
        for number in 0..40 {
            world.send(&format!("GET /{number} HTTP/1.1\nhost: app\n\n"));
        }
        let asked: Vec<_> = a.asked().iter().map(|asked| asked.asks_for().to_owned()).collect();
        assert_eq!(asked.len() + b.requests(), 80);
        let twice = asked.windows(2).any(|pair| pair[0] == pair[1]);
        assert_eq!(twice, may_return, "{balancer}, {retries}: {asked:?}");
    }
}

/// By the policy that is there where no rule says anything: of three tries two are at different endpoints.
#[test]
fn the_default_policy_avoids_the_endpoint_that_failed() {
    let unavailable = || {
        Endpoint::answering(|_, _| {
            "HTTP/1.1 200 X\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n"
                .to_owned()
        })
    };
    let (a, b) = (unavailable(), unavailable());
    let world = World::gateway(&[
        shared(&[a.address, b.address]),
        policy("loadBalancer: {simple: RANDOM}"),
        rules(&["{route: [{destination: {host: app}}]}"]),
    ]);
    for number in 0..40 {
        world.send(&format!(
            "POST /{number} HTTP/1.1\nhost: app\ncontent-type: application/grpc\ncontent-length: 0\n\n"
        ));
    }
    let asked = a.asked();
    assert_eq!(asked.len() + b.requests(), 120);
    for number in 0..40 {
        let path = format!("POST /{number}");
        let times = asked.iter().filter(|asked| asked.asks_for() == path).count();
        assert!((1..=2).contains(&times), "{path}: {times} of three");
    }
}

/// Istio's retries hold where no VirtualService says anything, too.
#[test]
fn calls_without_any_rule_are_tried_again() {
    let alive = Endpoint::named("alive");
    let dead = ([127, 0, 0, 1], free_port()).into();
    let options = Options { is_sidecar: true, ..Options::default() };
    let world = World::start(&[entry(&[dead, alive.address])], &options);
    for _ in 0..20 {
        assert_eq!(world.send("GET / HTTP/1.1\nhost: app.example.com\n\n").body, "alive");
    }
}

/// An application may ask its own sidecar for them.
#[test]
fn applications_set_limits_and_tries_of_their_calls() {
    let upstream = Endpoint::answering(|request, number| match request.asks_for() {
        "GET /late" => {
            thread::sleep(Duration::from_secs(2));
            ok("late")
        }
        _ if number < 4 => answer(503, ""),
        _ => ok("fourth"),
    });
    let options = Options { is_sidecar: true, ..Options::default() };
    let world = World::start(&[entry(&[upstream.address])], &options);
    let ask = |path: &str, fields: &str| {
        world.send(&format!("GET {path} HTTP/1.1\nhost: app.example.com\n{fields}\n"))
    };
    assert_eq!(ask("/", "x-envoy-retry-on: 5xx\nx-envoy-max-retries: 3\n").body, "fourth");
    let asked = upstream.last();
    assert!(
        !asked.head.contains("x-envoy-max-retries") && !asked.head.contains("x-envoy-retry-on"),
        "{asked:?}"
    );
    assert_eq!(ask("/late", "x-envoy-upstream-rq-timeout-ms: 200\n").status(), 504);
    assert_eq!(ask("/late", "x-envoy-upstream-rq-per-try-timeout-ms: 200\nx-case: try\n").status(), 504);
    assert!(world.logged("try").starts_with("504 UT upstream_per_try_timeout "), "{}", world.logged("try"));
    assert_eq!(ask("/late", "").body, "late");
}
