//! Outlier detection: who is ejected for what, how many at once, and for how long.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use http::Response;
use snapshot::{
    Cluster, Discovery, Draft, Forward, LoadBalancer, OutlierDetection, PathMatch, RouteAction, Tunnel,
    TunnelMethod, UpstreamProtocol,
};

use crate::{
    http2_upstream::Http2Upstream,
    support::{Proxy, Upstream, free_address, gateway_draft, route, route_config, tcp_chain, to_cluster},
};
use dataplane::Settings;

/// A gateway that asks its endpoints in turn and never twice for one request.
fn gateway(endpoints: &[SocketAddr], detection: &OutlierDetection, change: impl Fn(&mut Draft)) -> Proxy {
    Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, endpoints);
        draft.clusters[0].outlier_detection = Some(detection.clone());
        draft.clusters[0].load_balancer = LoadBalancer::RoundRobin(None);
        draft.route_configs = vec![once(None)];
        change(&mut draft);
        draft
    })
}

fn once(timeout: Option<Duration>) -> snapshot::RouteConfig {
    let forward = Forward { timeout, retries: None, ..to_cluster(Some(0)).into() };
    route_config("*", vec![route(PathMatch::Any, RouteAction::Forward(forward))])
}

/// Two of whatever counts are enough, and nothing counts that a test does not name.
fn two(change: impl Fn(&mut OutlierDetection)) -> OutlierDetection {
    let mut detection =
        OutlierDetection { consecutive_5xx: None, max_ejection_percent: 100, ..OutlierDetection::default() };
    change(&mut detection);
    detection
}

fn answering(status: u16) -> Upstream {
    Upstream::start(move |mut client| {
        while client.request_head().is_some() {
            client.send(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"));
        }
    })
}

fn ask(proxy: &Proxy, times: usize) -> Vec<String> {
    let mut client = proxy.connect();
    (0..times).map(|_| client.get("/").status().to_owned()).collect()
}

fn ejected(proxy: &Proxy, endpoints: &[SocketAddr]) -> usize {
    let live = proxy.runtime.block_on(proxy.plane.telemetry().clusters());
    let cluster = Cluster::new("test", Discovery::Endpoints(Vec::new()));
    endpoints.iter().filter(|address| live.endpoint(&cluster, &(**address).into()).is_ejected).count()
}

#[test]
fn an_endpoint_that_has_refused_a_connection_is_shown_so_where_nothing_ejects() {
    let (good, dead) = (answering(200), free_address());
    let proxy = Proxy::gateway(&[good.address, dead]);
    let cluster = Cluster::new("test", Discovery::Endpoints(Vec::new()));
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < Duration::from_secs(30), "never shown");
        ask(&proxy, 4);
        let live = proxy.runtime.block_on(proxy.plane.telemetry().clusters());
        assert!(!live.endpoint(&cluster, &good.address.into()).has_refused);
        // Shown for two seconds at a time.
        if live.endpoint(&cluster, &dead.into()).has_refused {
            assert!(!live.endpoint(&cluster, &dead.into()).is_ejected);
            return;
        }
    }
}

#[test]
fn gateway_errors_are_502_to_504_only() {
    let (broken, unreachable) = (answering(500), answering(502));
    let detection = two(|detection| detection.consecutive_gateway_errors = Some(2));
    let proxy = gateway(&[broken.address, unreachable.address], &detection, |_| {});
    ask(&proxy, 8);
    assert_eq!(ejected(&proxy, &[broken.address]), 0);
    assert_eq!(ejected(&proxy, &[unreachable.address]), 1);
}

#[test]
fn failures_to_connect_are_counted_apart_when_they_are_split() {
    let (broken, dead) = (answering(503), free_address());
    let detection = two(|detection| detection.consecutive_local_failures = Some(2));
    let proxy = gateway(&[broken.address, dead], &detection, |_| {});
    ask(&proxy, 8);
    assert_eq!(ejected(&proxy, &[broken.address]), 0, "its answers count as nothing");
    assert_eq!(ejected(&proxy, &[dead]), 1);
}

#[test]
fn failures_to_connect_are_gateway_errors_when_they_are_not_split() {
    let dead = free_address();
    let detection = two(|detection| detection.consecutive_gateway_errors = Some(2));
    let proxy = gateway(&[dead], &detection, |_| {});
    ask(&proxy, 2);
    assert_eq!(ejected(&proxy, &[dead]), 1);
}

#[test]
fn no_more_than_the_percentage_are_away_at_once() {
    let endpoints: Vec<_> = (0..4).map(|_| answering(500)).collect();
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    for (percent, away) in [(50, 2), (10, 1), (100, 4)] {
        let detection = two(|detection| {
            detection.consecutive_5xx = Some(2);
            detection.max_ejection_percent = percent;
        });
        let proxy = gateway(&addresses, &detection, |_| {});
        ask(&proxy, 20);
        assert_eq!(ejected(&proxy, &addresses), away, "of 4 with {percent} %");
    }
}

#[test]
fn when_too_few_are_well_all_are_asked() {
    let endpoints = [answering(500), answering(500)];
    let addresses = [endpoints[0].address, endpoints[1].address];
    for (min_health_percent, last) in [(0, "503"), (60, "500")] {
        let detection = two(|detection| {
            detection.consecutive_5xx = Some(2);
            detection.min_health_percent = min_health_percent;
        });
        let proxy = gateway(&addresses, &detection, |_| {});
        let statuses = ask(&proxy, 6);
        assert_eq!(ejected(&proxy, &addresses), 2);
        assert_eq!(statuses[5], last, "{statuses:?}");
    }
}

#[test]
fn answers_that_come_too_late_count() {
    let slow = Upstream::start(|mut client| while client.request_head().is_some() {});
    let detection = two(|detection| detection.consecutive_gateway_errors = Some(2));
    let timeout = Some(Duration::from_millis(100));
    let proxy = gateway(&[slow.address], &detection, |draft| draft.route_configs = vec![once(timeout)]);
    assert_eq!(ask(&proxy, 3), ["504", "504", "503"]);
    assert_eq!(ejected(&proxy, &[slow.address]), 1);
}

#[test]
fn a_grpc_status_in_the_head_counts_as_the_http_status_it_stands_for() {
    for (in_head, status, away) in [(true, "14", 1), (true, "5", 0), (false, "14", 0)] {
        let grpc = Http2Upstream::start(move |_, mut respond| async move {
            let answer = Response::builder().header("content-type", "application/grpc");
            if in_head {
                _ = respond.send_response(answer.header("grpc-status", status).body(()).unwrap(), true);
                return;
            }
            let mut body = respond.send_response(answer.body(()).unwrap(), false).unwrap();
            let trailers =
                http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]);
            _ = body.send_trailers(trailers);
        });
        let detection = two(|detection| detection.consecutive_5xx = Some(2));
        let proxy = gateway(&[grpc.address], &detection, |draft| {
            draft.clusters[0].protocol = UpstreamProtocol::Http2;
        });
        assert_eq!(ask(&proxy, 2), ["200", "200"]);
        assert_eq!(ejected(&proxy, &[grpc.address]), away, "{status} in the head: {in_head}");
    }
}

#[test]
fn endpoints_come_back_when_their_time_is_over() {
    let broken = answering(500);
    let detection = two(|detection| {
        detection.consecutive_5xx = Some(2);
        detection.base_ejection_time = Duration::from_millis(1000);
    });
    let proxy = gateway(&[broken.address], &detection, |_| {});
    assert_eq!(ask(&proxy, 3), ["500", "500", "503"]);
    // Looked at twice a second.
    thread::sleep(Duration::from_millis(2000));
    assert_eq!(ask(&proxy, 3), ["500", "500", "503"]);
}

#[test]
fn opaque_connections_that_come_about_make_up_for_those_that_do_not() {
    // A forward proxy that opens every other tunnel.
    let asked = AtomicUsize::new(0);
    let through = Upstream::start(move |mut client| {
        client.request_head();
        match asked.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => client.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"),
            _ => client.send("HTTP/1.1 200 OK\r\n\r\nhere"),
        };
    });
    let detection = two(|detection| detection.consecutive_5xx = Some(2));
    let proxy = gateway(&[through.address], &detection, |draft| {
        draft.listeners[0].filter_chains = vec![tcp_chain(0)];
        let (far_end, method) = ("far.test:80".to_owned(), TunnelMethod::Connect);
        draft.clusters[0].tunnel = Some(Tunnel { far_end, method });
    });
    for _ in 0..5 {
        assert_eq!(proxy.connect().rest_or_reset(), b"");
        assert_eq!(proxy.connect().rest_or_reset(), b"here");
    }
}
