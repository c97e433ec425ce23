//! Limits of time and further tries (routing §5.6, §5.7).

use std::{
    net::IpAddr,
    sync::mpsc,
    time::{Duration, Instant},
};

use super::world::{INGRESS, Options, World, rules};
use crate::support::{Client, Endpoint, PATIENCE, answer, free_port, ok, service};

/// Answers with these in order, the last one for ever. `silence` takes five seconds; nothing closes.
fn scripted(answers: &'static [&'static str]) -> Endpoint {
    Endpoint::answering(move |_, number| match answers[(number - 1).min(answers.len() - 1)] {
        "close" => String::new(),
        "silence" => {
            std::thread::sleep(Duration::from_secs(5));
            ok("late")
        }
        "limited" => "HTTP/1.1 429 X\r\nx-envoy-ratelimited: true\r\ncontent-length: 0\r\n\r\n".to_owned(),
        status => answer(status.parse().unwrap(), status),
    })
}

fn world(upstream: &Endpoint, more: &str) -> World {
    World::gateway(&[
        service("app", upstream),
        rules(&[&format!("{{route: [{{destination: {{host: app}}}}]{more}}}")]),
    ])
}

/// How often the endpoint was asked until the client had which answer.
fn tries(answers: &'static [&'static str], more: &str, request: &str) -> (usize, u16) {
    let upstream = scripted(answers);
    let answer = world(&upstream, more).send(request);
    (upstream.asked().len(), answer.status())
}

const GET: &str = "GET / HTTP/1.1\nhost: app\n\n";
const POST: &str = "POST / HTTP/1.1\nhost: app\ncontent-length: 4\n\nbody";

#[test]
fn what_is_tried_again_and_how_often_is_as_written() {
    for (answers, retries, request, expected) in [
        // Istio's default repeats neither statuses nor connections that break.
        (&["503", "200"][..], "", GET, (1, 503)),
        (&["close", "200"], "", POST, (1, 503)),
        (&["503", "503", "503", "200"], ", retries: {attempts: 2, retryOn: 5xx}", GET, (3, 503)),
        (&["503", "503", "200"], ", retries: {attempts: 2, retryOn: 5xx}", GET, (3, 200)),
        (&["500", "200"], ", retries: {attempts: 2, retryOn: gateway-error}", GET, (1, 500)),
        (&["502", "504", "200"], ", retries: {attempts: 2, retryOn: gateway-error}", GET, (3, 200)),
        (&["409", "200"], ", retries: {attempts: 2, retryOn: retriable-4xx}", GET, (2, 200)),
        (&["404", "200"], ", retries: {attempts: 2, retryOn: retriable-4xx}", GET, (1, 404)),
        (&["404", "200"], ", retries: {attempts: 2, retryOn: '404,429'}", GET, (2, 200)),
        (&["302", "200"], ", retries: {attempts: 2, retryOn: '302'}", GET, (2, 200)),
        (&["302", "200"], ", retries: {attempts: 2, retryOn: 5xx}", GET, (1, 302)),
        (&["close", "200"], ", retries: {attempts: 2, retryOn: reset}", POST, (2, 200)),
        // A reset is not a 503 that was received.
        (&["close", "200"], ", retries: {attempts: 2, retryOn: '503'}", POST, (1, 503)),
        (&["503", "200"], ", retries: {attempts: 0}", GET, (1, 503)),
        (&["limited", "200"], ", retries: {attempts: 1, retryOn: envoy-ratelimited}", GET, (2, 200)),
        // Whoever is told that it asks too often does not ask more for any other reason.
        (&["limited", "200"], ", retries: {attempts: 1, retryOn: '429'}", GET, (1, 429)),
        // What the endpoint may have seen is past that.
        (&["close", "200"], ", retries: {attempts: 1, retryOn: reset-before-request}", POST, (1, 503)),
        // Nobody can name the fields.
        (&["503", "200"], ", retries: {attempts: 1, retryOn: retriable-headers}", GET, (1, 503)),
        (&["503", "200"], ", retries: {attempts: 2, retryOn: 'retriable-status-codes'}", GET, (1, 503)),
        (&["503", "200"], ", retries: {attempts: 1, retryOn: '5xx'}", POST, (2, 200)),
    ] {
        assert_eq!(tries(answers, retries, request), expected, "{retries} {answers:?}");
    }
}

/// Istio's default repeats what nobody has seen, with a body too, and an endpoint that was tried is avoided.
#[test]
fn an_endpoint_that_refuses_costs_no_request_unless_retries_are_off() {
    let alive = Endpoint::named("alive");
    let dead = free_port();
    let both = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: app}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: v1\nkind: Endpoints\nmetadata: {{name: app}}\nsubsets:\n\
         - {{addresses: [{{ip: 127.0.0.1}}], ports: [{{name: http, port: {dead}}}]}}\n\
         - {{addresses: [{{ip: 127.0.0.1}}], ports: [{{name: http, port: {}}}]}}\n",
        alive.port()
    );
    for (more, request) in [
        ("", GET),
        ("", POST),
        (", retries: {attempts: 1, retryOn: connect-failure}", POST),
        (", retries: {attempts: 1, retryOn: reset-before-request}", POST),
    ] {
        let world = World::gateway(&[
            both.clone(),
            rules(&[&format!("{{route: [{{destination: {{host: app}}}}]{more}}}")]),
        ]);
        for _ in 0..10 {
            assert_eq!(world.send(request).body, "alive", "{more} {request}");
        }
    }
    let off = "{route: [{destination: {host: app}}], retries: {attempts: 0}}";
    let world = World::gateway(&[both, rules(&[off])]);
    assert!((0..20).any(|_| world.send(GET).status() == 503));
}

/// Calls to the workload are repeated when nothing of them has left, and never when the application may have seen them.
#[test]
fn calls_to_an_application_are_tried_again_only_before_it_has_seen_them() {
    let closing = scripted(&["close"]);
    for (application, ingress_protocol, tries) in
        [(free_port(), "HTTP", "3"), (closing.port(), "HTTP", "1"), (free_port(), "GRPC", "1")]
    {
        let application = Some(application);
        let options = Options { is_sidecar: true, application, ingress_protocol, ..Options::default() };
        let world = World::start(&[], &options);
        let mut client = Client::connect((INGRESS.parse::<IpAddr>().unwrap(), world.port).into());
        assert_eq!(client.ask("/", "x-case: inbound\r\n").answer().status(), 503);
        let line = world.logged("inbound");
        assert!(line.ends_with(&format!(" {tries}")), "{line}");
    }
    assert_eq!(closing.asked().len(), 1);
    // What is repeated of calls that leave is not repeated of those that come in.
    let unavailable = Endpoint::answering(|_, _| {
        "HTTP/1.1 200 X\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n"
            .to_owned()
    });
    let options = Options { is_sidecar: true, application: Some(unavailable.port()), ..Options::default() };
    let world = World::start(&[], &options);
    let mut client = Client::connect((INGRESS.parse::<IpAddr>().unwrap(), world.port).into());
    client
        .send("POST /s/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n");
    assert_eq!((client.answer().field("grpc-status"), unavailable.requests()), (Some("14"), 1));
}

#[test]
fn tries_are_counted_and_the_last_answer_is_flagged() {
    let upstream = scripted(&["503"]);
    let world = world(&upstream, ", retries: {attempts: 2, retryOn: 5xx}");
    let answer = world.send("GET / HTTP/1.1\nhost: app\nx-case: spent\n\n");
    assert_eq!((answer.status(), answer.body.as_str()), (503, "503"));
    let counts: Vec<_> = upstream
        .asked()
        .iter()
        .map(|asked| asked.field("x-envoy-attempt-count").unwrap().to_owned())
        .collect();
    assert_eq!(counts, ["1", "2", "3"]);
    let line = world.logged("spent");
    assert!(line.starts_with("503 URX via_upstream ") && line.ends_with(" 3"), "{line}");
}

#[test]
fn grpc_statuses_are_retried_by_their_names() {
    for (word, status, tried) in [
        ("unavailable", 14, 2),
        ("cancelled", 1, 2),
        ("deadline-exceeded", 4, 2),
        ("internal", 13, 2),
        ("resource-exhausted", 8, 2),
        ("unavailable", 13, 1),
        // By default these two.
        ("", 14, 2),
        ("", 1, 2),
        ("", 13, 1),
    ] {
        let upstream = Endpoint::answering(move |_, number| {
            let status = if number == 1 { status } else { 0 };
            format!(
                "HTTP/1.1 200 X\r\ncontent-type: application/grpc\r\ngrpc-status: {status}\r\ncontent-length: 0\r\n\r\n"
            )
        });
        let retries = match word {
            "" => String::new(),
            word => format!(", retries: {{attempts: 1, retryOn: {word}}}"),
        };
        let world = world(&upstream, &retries);
        world.send("POST /s/m HTTP/1.1\nhost: app\ncontent-type: application/grpc\ncontent-length: 0\n\n");
        assert_eq!(upstream.asked().len(), tried, "{word} {status}");
    }
}

#[test]
fn bodies_are_repeated_whole_up_to_a_mebibyte() {
    for (size, tried) in [(1_000_000, 2), (1_100_000, 1)] {
        let upstream = scripted(&["503", "200"]);
        let world = world(&upstream, ", retries: {attempts: 1, retryOn: 5xx}");
        let body = "x".repeat(size);
        world.send(&format!("POST / HTTP/1.1\nhost: app\ncontent-length: {size}\n\n{body}"));
        let asked = upstream.asked();
        assert_eq!(asked.len(), tried, "{size}");
        assert!(asked.iter().all(|asked| asked.body == body), "{size}");
    }
}

#[test]
fn the_mesh_may_replace_the_default_policy() {
    let mesh = "defaultHttpRetryPolicy: {attempts: 1, retryOn: '503', perTryTimeout: 2s}";
    for (rule, answers, tried, status) in [
        ("", &["503", "200"][..], 2, 200),
        ("", &["503", "503", "200"], 2, 503),
        ("", &["silence", "200"], 1, 504),
        // What a rule says replaces it whole.
        (", retries: {attempts: 2}", &["503", "200"], 1, 503),
        (", retries: {attempts: 0}", &["503", "200"], 1, 503),
    ] {
        let upstream = scripted(answers);
        let resources = [
            service("app", &upstream),
            rules(&[&format!("{{route: [{{destination: {{host: app}}}}]{rule}}}")]),
        ];
        let world = World::start(&resources, &Options { mesh, ..Options::default() });
        assert_eq!((world.send(GET).status(), upstream.asked().len()), (status, tried), "{rule} {answers:?}");
    }
}

#[test]
fn requests_that_may_not_be_made_twice_are_spared_where_that_is_asked_for() {
    let mesh = "defaultHttpRetryPolicy: {attempts: 2, retryOn: '503,reset'}";
    for (rule, request, tried) in [
        ("", POST, 1),
        ("", GET, 2),
        // A rule that asks for it gets it.
        (", retries: {attempts: 2, retryOn: '503'}", POST, 2),
    ] {
        let upstream = scripted(&["503", "200"]);
        let resources = [
            service("app", &upstream),
            rules(&[&format!("{{route: [{{destination: {{host: app}}}}]{rule}}}")]),
        ];
        let variables = [("RETRY_ONLY_IDEMPOTENT", "true")];
        let world = World::start(&resources, &Options { mesh, variables: &variables, ..Options::default() });
        world.send(request);
        assert_eq!(upstream.asked().len(), tried, "{rule} {request}");
    }
}

#[test]
fn a_limit_of_time_counts_all_tries_and_a_try_may_have_one_of_its_own() {
    for (more, flags, at_least, most_tries) in [
        (", timeout: 300ms", "504 UT response_timeout ", 300, 1),
        (
            ", retries: {attempts: 1, perTryTimeout: 200ms, retryOn: connect-failure}",
            "504 UT upstream_per_try_timeout ",
            200,
            1,
        ),
        (
            ", timeout: 350ms, retries: {attempts: 9, perTryTimeout: 200ms, retryOn: gateway-error}",
            "504 UT ",
            350,
            2,
        ),
    ] {
        let upstream = scripted(&["silence"]);
        let world = world(&upstream, more);
        let start = Instant::now();
        let answer = world.send("GET / HTTP/1.1\nhost: app\nx-case: late\n\n");
        assert_eq!((answer.status(), answer.body.as_str()), (504, "upstream request timeout"), "{more}");
        assert!(start.elapsed() >= Duration::from_millis(at_least), "{more}: {:?}", start.elapsed());
        assert!(upstream.asked().len() <= most_tries, "{more}");
        assert!(world.logged("late").starts_with(flags), "{more}: {}", world.logged("late"));
    }
    // Nought and nothing are no limit.
    for more in [", timeout: 0s", ""] {
        let upstream = scripted(&["silence"]);
        assert_eq!(world(&upstream, more).get("/").body, "late", "{more}");
    }
}

#[test]
fn one_slow_try_is_given_up_for_another() {
    let upstream = scripted(&["silence", "200"]);
    let world = world(&upstream, ", retries: {attempts: 1, perTryTimeout: 1s, retryOn: gateway-error}");
    assert_eq!((world.get("/").status(), upstream.asked().len()), (200, 2));
}

#[test]
fn deadlines_of_grpc_clients_count_up_to_the_limit_of_the_rule() {
    for (timeout, deadline, limit) in
        [("", "200m", 200), (", timeout: 200ms", "9S", 200), (", timeout: 9s", "200m", 200)]
    {
        let upstream = scripted(&["silence"]);
        let world = world(&upstream, timeout);
        let start = Instant::now();
        let answer = world.send(&format!(
            "POST /s/m HTTP/1.1\nhost: app\ncontent-type: application/grpc\ngrpc-timeout: {deadline}\ncontent-length: 0\n\n"
        ));
        assert_eq!(answer.status(), 200, "{timeout}");
        assert!(matches!(answer.field("grpc-status"), Some("4" | "14")), "{timeout}: {answer:?}");
        assert!(start.elapsed() >= Duration::from_millis(limit), "{timeout}: {:?}", start.elapsed());
    }
}

#[test]
fn clients_of_gateways_set_no_limits_and_no_tries() {
    let upstream = scripted(&["503", "200"]);
    let world = world(&upstream, "");
    let answer = world.send(
        "GET / HTTP/1.1\nhost: app\nx-envoy-retry-on: 5xx\nx-envoy-max-retries: 3\nx-envoy-upstream-rq-timeout-ms: 1\n\
         x-envoy-upstream-rq-per-try-timeout-ms: 1\n\n",
    );
    assert_eq!((answer.status(), upstream.asked().len()), (503, 1));
    assert!(!upstream.last().head.contains("x-envoy-upstream-rq"), "{:?}", upstream.last());
}

/// Nothing repeats a POST: each must be sent on a connection that is still good.
#[test]
fn requests_that_nobody_repeats_are_not_sent_on_connections_that_endpoints_have_closed() {
    let (closed, after) = mpsc::channel();
    let endpoint = Endpoint::start(move |mut client| {
        _ = client.message();
        client.send(ok("once"));
        drop(client);
        _ = closed.send(());
    });
    let world = World::gateway(&[
        service("app", &endpoint),
        rules(&["{route: [{destination: {host: app}}], retries: {attempts: 0}}"]),
    ]);
    let mut client = Client::local(world.port);
    for _ in 0..30 {
        client.send("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 4\r\n\r\nbody");
        let answer = client.answer();
        assert_eq!((answer.status(), answer.body.as_str()), (200, "once"));
        after.recv_timeout(PATIENCE).unwrap();
    }
}
