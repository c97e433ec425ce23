//! Injected delays and aborts (routing §5.8).

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::world::{INGRESS, Options, World, rules};
use crate::support::{Client, Endpoint, printed, service, virtual_service};

fn rule(path: &str, fault: &str, more: &str) -> String {
    format!(
        "{{match: [{{uri: {{prefix: {path}}}}}], fault: {{{fault}}}, route: [{{destination: {{host: app}}}}]{more}}}"
    )
}

#[test]
fn faults_are_injected_at_their_share_and_not_retried() {
    let upstream = Endpoint::named("app");
    let written = [
        rule(
            "/abort",
            "abort: {httpStatus: 418, percentage: {value: 100}}",
            ", retries: {attempts: 3, retryOn: '418,5xx'}",
        ),
        rule("/never", "abort: {httpStatus: 418}, delay: {fixedDelay: 5s}", ""),
        rule(
            "/half",
            "abort: {httpStatus: 503, percentage: {value: 50}}",
            ", retries: {attempts: 5, retryOn: 5xx}",
        ),
        rule("/grpc", "abort: {grpcStatus: NOT_FOUND, percentage: {value: 100}}", ""),
    ];
    let written: Vec<_> = written.iter().map(String::as_str).collect();
    let world = World::gateway(&[service("app", &upstream), rules(&written)]);
    let answer = world.send("GET /abort HTTP/1.1\nhost: a\nx-case: abort\n\n");
    assert_eq!((answer.status(), answer.body.as_str()), (418, "fault filter abort"));
    assert!(world.logged("abort").starts_with("418 FI fault_filter_abort "), "{}", world.logged("abort"));
    assert_eq!(upstream.asked().len(), 0);
    // A share that is not written is none.
    assert_eq!(world.get("/never").body, "app");
    let failed = (0..400).filter(|_| world.get("/half").status() == 503).count();
    assert!((150..=250).contains(&failed), "{failed} of 400");
    let answer =
        world.send("POST /grpc HTTP/1.1\nhost: a\ncontent-type: application/grpc\ncontent-length: 0\n\n");
    assert_eq!((answer.status(), answer.body.as_str()), (200, ""));
    assert_eq!(
        (answer.field("grpc-status"), answer.field("grpc-message")),
        (Some("5"), Some("fault filter abort"))
    );
}

#[test]
fn a_delay_comes_before_the_abort_and_outside_of_the_limits_of_time() {
    let upstream = Endpoint::named("app");
    let delay = "delay: {fixedDelay: 400ms, percentage: {value: 100}}";
    let both = format!("{delay}, abort: {{httpStatus: 418, percentage: {{value: 100}}}}");
    let written = [
        rule("/delay", delay, ", timeout: 200ms"),
        rule("/both", &both, ""),
        // Envoy counts both in the log.
        rule("/percent", "delay: {fixedDelay: 400ms, percent: 100}", ""),
    ];
    let written: Vec<_> = written.iter().map(String::as_str).collect();
    let world = World::gateway(&[service("app", &upstream), rules(&written)]);
    for (path, status, logged) in [
        ("/delay", 200, "200 DI via_upstream "),
        ("/both", 418, "418 DI,FI fault_filter_abort "),
        ("/percent", 200, "200 DI via_upstream "),
    ] {
        let start = Instant::now();
        let answer = world.send(&format!("GET {path} HTTP/1.1\nhost: a\nx-case: {path}\n\n"));
        assert_eq!(answer.status(), status, "{path}");
        assert!(start.elapsed() >= Duration::from_millis(400), "{path}: {:?}", start.elapsed());
        assert!(world.logged(path).starts_with(logged), "{path}: {}", world.logged(path));
    }
}

/// Dice are thrown for each: of half and half a quarter of all requests meets both, and a quarter neither.
#[test]
fn delays_and_aborts_are_a_matter_of_chance_for_themselves() {
    const ASKED: usize = 400;
    let upstream = Endpoint::named("app");
    let half = "percentage: {value: 50}";
    let both = format!("delay: {{fixedDelay: 1ms, {half}}}, abort: {{httpStatus: 418, {half}}}");
    let world = World::gateway(&[service("app", &upstream), rules(&[&rule("/", &both, "")])]);
    let mut client = Client::local(world.port);
    for _ in 0..ASKED {
        client.ask("/", "x-case: dice\r\n").answer();
    }
    world.send("GET / HTTP/1.1\nhost: a\nx-case: last\n\n");
    world.logged("last");
    let log = world.access_log();
    for outcome in ["dice 200 - ", "dice 200 DI ", "dice 418 FI ", "dice 418 DI,FI "] {
        let count = log.lines().filter(|line| line.starts_with(outcome)).count();
        // Nearly six standard deviations to each side.
        assert!((50..=150).contains(&count), "{outcome}: {count} of {ASKED}");
    }
}

/// One of a million is the least that counts.
#[test]
fn shares_are_counted_in_millionths() {
    let abort = |path: &str, value: &str| {
        rule(path, &format!("abort: {{httpStatus: 418, percentage: {{value: {value}}}}}"), "")
    };
    let written = [abort("/one", "0.0001"), abort("/most", "99.9999"), abort("/third", "33.33333")];
    let written: Vec<_> = written.iter().map(String::as_str).collect();
    let world = World::gateway(&[service("app", &Endpoint::named("app")), rules(&written)]);
    let dump = printed(&["request", "GET", "/config_dump", "--admin", &world.interfaces.admin]);
    let dump: Value = serde_json::from_str(&dump).unwrap();
    for (path, numerator) in [("/one", 1), ("/most", 999_999), ("/third", 333_333)] {
        let route = route_of(&dump, path).unwrap_or_else(|| panic!("no {path} in {dump}"));
        let abort = &route["typed_per_filter_config"]["envoy.filters.http.fault"]["abort"]["percentage"];
        assert_eq!(*abort, json!({"numerator": numerator, "denominator": "MILLION"}), "{path}");
    }
}

/// The route of a prefix, anywhere in a dump.
fn route_of<'d>(dump: &'d Value, prefix: &str) -> Option<&'d Value> {
    match dump {
        Value::Object(_) if dump["match"]["prefix"] == prefix => Some(dump),
        Value::Object(fields) => fields.values().find_map(|value| route_of(value, prefix)),
        Value::Array(values) => values.iter().find_map(|value| route_of(value, prefix)),
        _ => None,
    }
}

/// Whoever serves a call injects nothing: the caller has.
#[test]
fn faults_are_injected_where_calls_leave() {
    let application = Endpoint::named("app");
    let fault = "fault: {abort: {httpStatus: 418, percentage: {value: 100}}}";
    let spec = format!(
        "hosts: [app.example.com], http: [{{{fault}, route: [{{destination: {{host: app.example.com}}}}]}}]"
    );
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: app}}\nspec: {{hosts: [app.example.com], \
         ports: [{{number: <PORT>, name: http, protocol: HTTP}}], resolution: STATIC, \
         endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]}}\n",
        application.port()
    );
    let options = Options { is_sidecar: true, application: Some(application.port()), ..Options::default() };
    let world = World::start(&[entry, virtual_service("app", &spec)], &options);
    let asked = |host: IpAddr| Client::connect((host, world.port).into()).get("/").status();
    assert_eq!(asked([127, 0, 0, 1].into()), 418);
    assert_eq!(asked(INGRESS.parse().unwrap()), 200);
}
