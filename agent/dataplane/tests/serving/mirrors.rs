//! Copies of requests: what they may take, and those for endpoints that speak TLS.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use dataplane::Settings;
use snapshot::{ClusterId, ClusterTarget, Forward, Mirror, PathMatch, RouteAction, Share};

use crate::{
    issuer::Issuer,
    origination::{TlsServer, by, dns, tls},
    support::{
        PATIENCE, Proxy, Upstream, cluster, endpoints, gateway_draft, route, route_config, to_cluster,
    },
};

/// Sends requests to an endpoint and copies of them to another, within a time.
fn mirroring(settings: Settings, to: &Upstream, mirror: &Upstream, timeout: Option<Duration>) -> Proxy {
    Proxy::start(settings, |address| {
        let mut draft = gateway_draft(address, &[to.address]);
        draft.clusters.push(cluster("mirror", endpoints(&[mirror.address])));
        let forward = Forward { mirrors: mirrors(), timeout, ..to_cluster(Some(0)).into() };
        draft.route_configs =
            vec![route_config("*", vec![route(PathMatch::Any, RouteAction::Forward(forward))])];
        draft
    })
}

/// All requests, to the second cluster.
fn mirrors() -> Vec<Mirror> {
    let target = ClusterTarget {
        name: "mirror".to_owned(),
        id: Some(ClusterId(1)),
        weight: 1,
        authority: None,
        headers: None,
    };
    vec![Mirror { target, share: Share::ALL, marks_host: true }]
}

/// An endpoint that reads requests, says how many bytes came to the end of each connection, and never answers.
fn silent() -> (Upstream, mpsc::Receiver<usize>) {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::start(move |mut client| _ = tell.send(client.rest_or_reset().len()));
    (upstream, told)
}

#[test]
fn copies_that_would_hold_too_much_are_not_made_and_counted() {
    let (upstream, (mirror, _told)) = (Upstream::echoing_heads(), silent());
    // Two bodies of 80 kB and a copy: that of the second would not leave half to requests.
    let settings = Settings { held_bodies: 400_000, ..Settings::default() };
    let proxy = mirroring(settings, &upstream, &mirror, None);
    let body = "x".repeat(80_000);
    let post = || {
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        assert_eq!(proxy.connect().send(request).answer().status(), "200");
    };
    let dropped = || proxy.runtime.block_on(proxy.plane.counts()).dropped_copies;
    post();
    assert_eq!(dropped(), 0);
    post();
    assert_eq!(dropped(), 1, "the copy before is still held");
    assert_eq!(mirror.connections(), 1);
}

#[test]
fn a_copy_that_is_not_answered_ends_with_the_timeout_of_its_route() {
    let (upstream, (mirror, told)) = (Upstream::echoing_heads(), silent());
    let timeout = Some(Duration::from_secs(1));
    let proxy = mirroring(Settings::default(), &upstream, &mirror, timeout);
    assert_eq!(proxy.connect().get("/").status(), "200");
    let copied = told.recv_timeout(PATIENCE).expect("its connection ends");
    assert!(copied > 0);
}

/// Sends requests for `/copied` to an endpoint in clear text and copies of them to `mirror`, others to `mirror` itself.
fn proxy(clear: &Upstream, (issuer, mirror): (&Issuer, &TlsServer)) -> Proxy {
    let copied = Forward { mirrors: mirrors(), ..to_cluster(Some(0)).into() };
    let direct: Forward = to_cluster(Some(1)).into();
    Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[clear.address]);
        let mut cluster = cluster("mirror", endpoints(&[mirror.address]));
        cluster.tls = Some(Arc::new(tls(by(issuer, &[]))));
        draft.clusters.push(cluster);
        let routes = vec![
            route(PathMatch::exact("/copied"), RouteAction::Forward(copied)),
            route(PathMatch::Any, RouteAction::Forward(direct)),
        ];
        draft.route_configs = vec![route_config("*", routes)];
        draft
    })
}

fn status(proxy: &Proxy, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a.com:8080\r\n\r\n");
    proxy.connect().send(request).answer().status().to_owned()
}

#[test]
fn a_copy_does_not_make_requests_after_it_trust_another_name() {
    let (issuer, clear) = (Issuer::new(), Upstream::echoing_heads());
    let impostor = TlsServer::start(&issuer.issue(&[dns("other.example")], |_| {}), None, &[]);
    let proxy = proxy(&clear, (&issuer, &impostor));
    for _ in 0..3 {
        assert_eq!(status(&proxy, "/copied"), "200");
        thread::sleep(Duration::from_millis(100));
        assert_eq!(status(&proxy, "/"), "503");
    }
}

#[test]
fn copies_are_sent_to_who_proves_the_host_that_was_asked_for() {
    let (issuer, clear) = (Issuer::new(), Upstream::echoing_heads());
    let server = TlsServer::start(&issuer.issue(&[dns("a.com")], |_| {}), None, &[]);
    let proxy = proxy(&clear, (&issuer, &server));
    for path in ["/copied", "/", "/copied"] {
        assert_eq!(status(&proxy, path), "200");
        // Once idle a connection is used again, by either.
        thread::sleep(Duration::from_millis(200));
    }
    let names: Vec<_> = server.seen().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, [Some("a.com".to_owned())]);
}
