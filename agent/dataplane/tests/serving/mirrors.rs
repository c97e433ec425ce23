//! Copies of requests for endpoints that speak TLS.

use std::{sync::Arc, thread, time::Duration};

use dataplane::Settings;
use snapshot::{ClusterId, ClusterTarget, Forward, Mirror, PathMatch, RouteAction, Share};

use crate::{
    mutual::Issuer,
    origination::{TlsServer, by, dns, tls},
    support::{Proxy, Upstream, cluster, endpoints, gateway_draft, route, route_config, to_cluster},
};

/// Sends requests for `/copied` to an endpoint in clear text and copies of them to `mirror`, others to `mirror` itself.
fn proxy(clear: &Upstream, (issuer, mirror): (&Issuer, &TlsServer)) -> Proxy {
    let target = ClusterTarget {
        name: "mirror".to_owned(),
        id: Some(ClusterId(1)),
        weight: 1,
        authority: None,
        headers: None,
    };
    let mirrors = vec![Mirror { target, share: Share::ALL, marks_host: true }];
    let copied = Forward { mirrors, ..to_cluster(Some(0)).into() };
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
