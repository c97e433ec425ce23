//! `outlierDetection`: for what, and for how long, endpoints are left alone.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::gateway::{Gateway, app};
use crate::support::{Endpoint, answer, eventually, free_port, printed};

/// Statuses of four requests to the only endpoint, 0 when nobody was asked any more.
fn four(endpoint: SocketAddr, detection: &str) -> Vec<u16> {
    let gateway = Gateway::start(&app(&[endpoint], &format!("{{outlierDetection: {{{detection}}}}}")));
    let mut client = gateway.client();
    let answers = (0..4).map(|_| client.get("/"));
    answers.map(|answer| if answer.body == "no healthy upstream" { 0 } else { answer.status() }).collect()
}

#[test]
fn endpoints_are_left_alone_for_what_the_rule_names() {
    let cases: [(u16, &str, [u16; 4]); 12] = [
        (500, "consecutive5xxErrors: 2", [500, 500, 0, 0]),
        // Five where nothing is said; of few endpoints one always goes.
        (500, "interval: 1s", [500, 500, 500, 500]),
        (500, "consecutive5xxErrors: 2, maxEjectionPercent: 10", [500, 500, 0, 0]),
        (500, "consecutive5xxErrors: 0", [500; 4]),
        (404, "consecutive5xxErrors: 2", [404; 4]),
        (500, "consecutive5xxErrors: 0, consecutiveGatewayErrors: 2", [500; 4]),
        (502, "consecutive5xxErrors: 0, consecutiveGatewayErrors: 2", [502, 502, 0, 0]),
        (503, "consecutiveGatewayErrors: 3", [503, 503, 503, 0]),
        (504, "consecutive5xxErrors: 0, consecutiveGatewayErrors: 0", [504; 4]),
        (404, "consecutive5xxErrors: 2, outlierDetectionHttpErrorCodes: [404, 429]", [404, 404, 0, 0]),
        (500, "consecutive5xxErrors: 2, outlierDetectionHttpErrorCodes: [404]", [500; 4]),
        (500, "consecutive5xxErrors: 2, minHealthPercent: 50", [500; 4]),
    ];
    for (status, detection, expected) in cases {
        let server = Endpoint::failing("app", status);
        assert_eq!(four(server.address, detection), expected, "{status}: {detection}");
    }
}

#[test]
fn endpoints_that_refuse_count_as_gateway_errors_or_apart() {
    let dead: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    for (detection, expected) in [
        ("consecutive5xxErrors: 2", [503, 503, 0, 0]),
        ("consecutive5xxErrors: 0, consecutiveGatewayErrors: 2", [503, 503, 0, 0]),
        ("consecutive5xxErrors: 2, splitExternalLocalOriginErrors: true", [503; 4]),
        ("splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2", [503, 503, 0, 0]),
    ] {
        assert_eq!(four(dead, detection), expected, "{detection}");
    }
}

/// Of four that all fail; the first always goes.
#[test]
fn no_more_endpoints_are_left_alone_than_the_rule_lets_go() {
    for (percent, gone) in [
        ("", 1),
        (", maxEjectionPercent: 49", 1),
        (", maxEjectionPercent: 50", 2),
        (", maxEjectionPercent: 100", 4),
    ] {
        let servers = ["a", "b", "c", "d"].map(|name| Endpoint::failing(name, 500));
        let addresses = servers.each_ref().map(|server| server.address);
        let policy = format!(
            "{{loadBalancer: {{simple: ROUND_ROBIN}}, outlierDetection: {{consecutive5xxErrors: 1, baseEjectionTime: 600s{percent}}}}}"
        );
        let gateway = Gateway::start(&app(&addresses, &policy));
        let mut client = gateway.client();
        for _ in 0..20 {
            client.get("/");
        }
        let asked = servers.each_ref().map(Endpoint::requests);
        assert_eq!(asked.iter().filter(|asked| **asked == 1).count(), gone, "{percent}: {asked:?}");
    }
}

/// Who asks for answers within a millisecond takes the endpoint away from nobody.
#[test]
fn the_time_a_client_gives_does_not_speak_against_an_endpoint() {
    let slow = Endpoint::held("app", 200);
    let gateway = Gateway::start(&app(
        &[slow.address],
        "{outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 100}}",
    ));
    for _ in 0..4 {
        let call = "POST / HTTP/1.1\r\nhost: app\r\ncontent-type: application/grpc\r\ngrpc-timeout: 1m\r\n\
                    content-length: 0\r\n\r\n";
        assert_eq!(gateway.client().send(call).answer().field("grpc-status"), Some("4"));
    }
    slow.release(usize::MAX);
    assert_eq!(gateway.client().get("/").status(), 200);
}

/// Each time for longer, and asked again after it.
#[test]
fn endpoints_come_back_when_their_time_is_over() {
    const BASE: Duration = Duration::from_millis(400);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    let server = Endpoint::answering(move |_, _| {
        kept.lock().unwrap().push(Instant::now());
        answer(500, "app")
    });
    let detection = "{outlierDetection: {consecutive5xxErrors: 1, interval: 600s, baseEjectionTime: 400ms}}";
    let gateway = Gateway::start(&app(&[server.address], detection));
    let mut client = gateway.client();
    eventually("it was asked four times", || {
        let answer = client.get("/");
        assert!(answer.status() == 500 || answer.body == "no healthy upstream", "{answer:?}");
        server.requests() == 4
    });
    let asked = asked.lock().unwrap();
    for (times, pair) in (1..).zip(asked.windows(2)) {
        // Whoever is looked at a moment early does not come back before time.
        let away = pair[1].duration_since(pair[0]);
        assert!(away >= BASE * times * 9 / 10, "ejected for the {times}th time, away for {away:?}");
    }
}

/// In the log with the cause, and its return; in metrics under Envoy's names.
#[test]
fn ejections_are_told() {
    let server = Endpoint::failing("app", 503);
    let detection = "{outlierDetection: {consecutive5xxErrors: 2, interval: 600s, baseEjectionTime: 400ms}}";
    let gateway = Gateway::start(&app(&[server.address], detection));
    let metric = |name: &str| {
        let metrics = printed(&["request", "GET", "/stats/prometheus", "--admin", &gateway.interfaces.stats]);
        let series = format!(
            "envoy_cluster_outlier_detection_{name}{{cluster_name=\"outbound|80||app.example.com\"}} "
        );
        metrics.lines().find_map(|line| line.strip_prefix(&*series)).map(str::to_owned)
    };
    let value = |name: &str| metric(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!([value("ejections_active"), value("ejections_enforced_total")], ["0", "0"]);
    let mut client = gateway.client();
    (0..2).for_each(|_| assert_eq!(client.get("/").status(), 503));
    gateway.log_line(&[
        "ejected for 400ms",
        "cluster=\"outbound|80||app.example.com\"",
        "cause=consecutive errors, the last an answer of 503",
    ]);
    assert_eq!(value("ejections_enforced_total"), "1");
    assert_eq!(value("ejections_enforced_consecutive_5xx"), "1");
    assert_eq!(value("ejections_enforced_consecutive_gateway_failure"), "0");
    gateway.log_line(&["back after its ejection", &format!("upstream={}", server.address)]);
    assert_eq!(value("ejections_active"), "0");
    // What has no rule says nothing.
    let plain = Gateway::start(&app(&[server.address], "{loadBalancer: {simple: RANDOM}}"));
    let metrics = printed(&["request", "GET", "/stats/prometheus", "--admin", &plain.interfaces.stats]);
    assert!(!metrics.contains("envoy_cluster_outlier") && !metrics.contains("circuit_breakers"), "{metrics}");
}

#[test]
fn who_is_away_is_counted() {
    let server = Endpoint::failing("app", 502);
    let detection = "{outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 1}}";
    let gateway = Gateway::start(&app(&[server.address], detection));
    assert_eq!(gateway.client().get("/").status(), 502);
    let findings = printed(&["request", "GET", "/findings", "--admin", &gateway.interfaces.admin]);
    let told = format!(
        "warning: 1 of 1 endpoints of outbound|80||app.example.com are left alone for their failures: {} (",
        server.address
    );
    assert!(findings.contains(&told), "{findings}");
    let metrics = printed(&["request", "GET", "/stats/prometheus", "--admin", &gateway.interfaces.stats]);
    for line in [
        "ejections_active{cluster_name=\"outbound|80||app.example.com\"} 1",
        "consecutive_gateway_failure{cluster_name=\"outbound|80||app.example.com\"} 1",
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
}

/// An endpoint that refuses connections is left alone after as many as the rule says.
#[test]
fn endpoints_that_refuse_opaque_connections_are_left_alone() {
    let server = Endpoint::opaque("good");
    let dead: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let policy = "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 100}}";
    let gateway = Gateway::start(&app(&[dead, server.address], policy));
    for _ in 0..12 {
        assert_eq!(gateway.opaque_client().send("x\n").line(), "good");
    }
    let clusters = printed(&["request", "GET", "/clusters", "--admin", &gateway.interfaces.admin]);
    let told = |what: &str| clusters.contains(&format!("outbound|81||app.example.com::{dead}::{what}\n"));
    assert!(told("cx_connect_fail::2") && told("health_flags::/failed_outlier_check"), "{clusters}");
}

/// What holds where nothing is said takes too long to be waited for.
#[test]
fn times_and_limits_that_are_not_written_are_those_of_istio() {
    let detection = |policy: &str| {
        let gateway = Gateway::start(&app(&[([127, 0, 0, 1], free_port()).into()], policy));
        let dump = printed(&["request", "GET", "/config_dump", "--admin", &gateway.interfaces.admin]);
        let dump: Value = serde_json::from_str(&dump).unwrap();
        let clusters = dump["configs"][0]["dynamic_active_clusters"].as_array().unwrap().clone();
        let mut clusters = clusters.into_iter().map(|mut active| active["cluster"].take());
        clusters.find(|cluster| cluster["name"] == "outbound|80||app.example.com").unwrap()
    };
    let cluster = detection("{outlierDetection: {}}");
    assert_eq!(cluster["connect_timeout"], "10s");
    let told = &cluster["outlier_detection"];
    for (field, expected) in [
        ("consecutive_5xx", json!(5)),
        ("interval", json!("10s")),
        ("base_ejection_time", json!("30s")),
        ("max_ejection_percent", json!(10)),
    ] {
        assert_eq!(told[field], expected, "{field}");
    }
    let own = detection(
        "{outlierDetection: {interval: 3s, baseEjectionTime: 7s}, connectionPool: {tcp: {connectTimeout: 4s}}}",
    );
    let told = &own["outlier_detection"];
    assert_eq!([&told["interval"], &told["base_ejection_time"], &own["connect_timeout"]], ["3s", "7s", "4s"]);
}
