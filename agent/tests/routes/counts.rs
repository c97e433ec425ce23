//! Routes that have counts of their own (`statPrefix`).

use std::collections::BTreeMap;

use super::world::{World, rules};
use crate::support::{
    Client, Endpoint, answer, eventually, free_port,
    http2::{END_STREAM, Frame, OPENING, head},
    ok, printed, service, service_at,
};

/// Answers 503 to every odd request for `/flaky` and to all for `/bad`; that for `/slow` takes longer than anybody waits.
fn endpoint() -> Endpoint {
    Endpoint::answering(|request, number| match request.asks_for() {
        "GET /flaky" if number % 2 == 1 => answer(503, "once more"),
        "GET /bad" => answer(503, "bad"),
        "GET /slow" => loop {
            std::thread::park();
        },
        _ => ok("app"),
    })
}

fn world(app: &Endpoint) -> World {
    let rule = |path: &str, prefix: &str, action: &str| {
        format!("{{match: [{{uri: {{prefix: /{path}}}, statPrefix: \"{prefix}\"}}], {action}}}")
    };
    let to = |host: &str, more: &str| format!("route: [{{destination: {{host: {host}}}}}]{more}");
    let again = "retries: {attempts: 1, retryOn: '5xx,connect-failure'}";
    let all = [
        rule("flaky", "flaky", &to("app", &format!(", {again}"))),
        rule("bad", "bad", &to("app", &format!(", {again}"))),
        rule("dead", "dead", &to("dead", &format!(", {again}"))),
        rule("nobody", "nobody", &to("nobody", "")),
        rule("slow", "slow", &to("app", ", timeout: 0.2s")),
        rule("direct", "direct", "directResponse: {status: 201}"),
        rule("fault", "fault", &to("app", ", fault: {abort: {httpStatus: 418, percentage: {value: 100}}}")),
        rule("odd", "a b/c-é:x", &to("app", "")),
        // What differs only in what no name of a metric may hold is one.
        rule("same", "a b/c-é.x", &to("app", "")),
        rule("empty", "", &to("app", "")),
        rule("unasked", "unasked", &to("app", "")),
        format!("{{{}}}", to("app", "")),
    ];
    let nobody = "apiVersion: v1\nkind: Service\nmetadata: {name: nobody}\n\
                  spec: {ports: [{name: http, port: 80}]}\n"
        .to_owned();
    let dead = service_at("dead", ("http", 80), free_port());
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    World::gateway(&[service("app", app), dead, nobody, rules(&all)])
}

/// The counts of every prefix, without the host's part of their names.
fn counted(world: &World, interface: &str) -> BTreeMap<String, u64> {
    let metrics = printed(&["request", "GET", "/stats/prometheus", "--admin", interface]);
    let ours = format!("envoy_vhost___{}_route_", world.port);
    let told = metrics.lines().filter_map(|line| line.strip_prefix(&*ours)?.rsplit_once(' '));
    let whole = told.filter(|(name, _)| !name.contains("_time_"));
    whole.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// Of a prefix: what is not 0.
fn of(counts: &BTreeMap<String, u64>, prefix: &str) -> String {
    let begin = format!("{prefix}_upstream_rq");
    let told = counts.iter().filter(|(_, value)| **value > 0);
    let told = told.filter_map(|(name, value)| Some(format!("{}={value}", name.strip_prefix(&*begin)?)));
    told.collect::<Vec<_>>().join(" ").replace("response_code", "code")
}

const FIXED: [&str; 6] =
    ["_retry", "_retry_limit_exceeded", "_retry_overflow", "_retry_success", "_timeout", "_total"];

#[test]
fn requests_to_a_route_with_a_prefix_are_counted_as_envoy_counts_them() {
    let app = endpoint();
    let world = world(&app);
    let before = counted(&world, &world.interfaces.stats);
    for prefix in ["flaky", "dead", "direct", "unasked", "a_b_c____x"] {
        let mut names = before.keys().filter_map(|name| name.strip_prefix(&format!("{prefix}_upstream_rq")));
        assert!(FIXED.iter().all(|name| names.next() == Some(name)) && names.next().is_none(), "{before:?}");
    }
    assert!(before.values().all(|value| *value == 0) && before.len() == 9 * FIXED.len(), "{before:?}");
    for (path, status) in [
        ("/flaky", 200),
        ("/bad", 503),
        ("/dead", 503),
        ("/nobody", 503),
        ("/slow", 504),
        ("/direct", 201),
        ("/fault", 418),
        ("/odd", 200),
        ("/same", 200),
        ("/empty", 200),
        ("/else", 200),
    ] {
        assert_eq!(world.get(path).status(), status, "{path}");
    }
    over_http2(&world, "/odd");
    let mut after = BTreeMap::new();
    eventually("three requests under the odd prefix", || {
        after = counted(&world, &world.interfaces.stats);
        of(&after, "a_b_c____x") == "_completed=3 _total=3 {code=\"200\"}=3 {code_class=\"2xx\"}=3"
    });
    for (prefix, expected) in [
        ("flaky", "_completed=1 _retry=1 _retry_success=1 _total=2 {code=\"200\"}=1 {code_class=\"2xx\"}=1"),
        (
            "bad",
            "_completed=1 _retry=1 _retry_limit_exceeded=1 _total=2 {code=\"503\"}=1 {code_class=\"5xx\"}=1",
        ),
        ("dead", "_completed=1 _retry=1 _retry_limit_exceeded=1 {code=\"503\"}=1 {code_class=\"5xx\"}=1"),
        ("nobody", "_completed=1 {code=\"503\"}=1 {code_class=\"5xx\"}=1"),
        ("slow", "_completed=1 _timeout=1 _total=1 {code=\"504\"}=1 {code_class=\"5xx\"}=1"),
        // No endpoint was to be asked.
        ("direct", ""),
        ("fault", ""),
        ("unasked", ""),
    ] {
        assert_eq!(of(&after, prefix), expected, "{prefix}");
    }
    assert_eq!(counted(&world, &world.interfaces.agent), after, "the merged metrics");
    let times = printed(&["request", "GET", "/stats?filter=_time", "--admin", &world.interfaces.admin]);
    assert!(times.contains("_route_a_b_c____x_upstream_rq_time_count{}: 3"), "{times}");
}

fn over_http2(world: &World, path: &str) {
    let mut client = Client::local(world.port);
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "app"), (":path", path)];
    client.send(OPENING).send(head(1, END_STREAM, &fields));
    while !Frame::read(&mut client.0).unwrap().ends() {}
}

#[test]
fn the_bytes_of_bodies_are_counted_both_ways() {
    let world =
        World::gateway(&[service("app", &endpoint()), rules(&["{route: [{destination: {host: app}}]}"])]);
    for _ in 0..2 {
        let answer = world.send("POST / HTTP/1.1\nhost: app\ncontent-length: 4\n\nbody");
        assert_eq!(answer.body, "app");
    }
    for (family, expected) in [("istio_request_bytes", ["8", "2"]), ("istio_response_bytes", ["6", "2"])] {
        let of = |metrics: &str, name: &str| {
            let found = metrics.lines().find(|line| line.starts_with(&format!("{family}_{name}{{")));
            found.and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
        };
        eventually("both are counted", || {
            let metrics =
                printed(&["request", "GET", "/stats/prometheus", "--admin", &world.interfaces.stats]);
            ["sum", "count"].map(|name| of(&metrics, name)) == expected.map(|value| Some(value.to_owned()))
        });
    }
}
