//! `outlierDetection`: for what, and for how long, endpoints are left alone.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::gateway::{Gateway, app};
use crate::support::{Endpoint, eventually, free_port};

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
    let server = Endpoint::failing("app", 500);
    let detection = "{outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 3s}}";
    let gateway = Gateway::start(&app(&[server.address], detection));
    let mut client = gateway.client();
    assert_eq!(client.get("/").status(), 500);
    assert_eq!(client.get("/").body, "no healthy upstream");
    let away = Instant::now();
    eventually("it is asked again", || client.get("/").status() == 500);
    assert!(away.elapsed() >= Duration::from_millis(2500), "{:?}", away.elapsed());
    assert_eq!(client.get("/").body, "no healthy upstream");
}
