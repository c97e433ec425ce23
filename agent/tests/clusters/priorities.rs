//! `localityLbSetting`: which endpoints come first, and when the next ones help.

use std::collections::BTreeSet;

use super::{
    balance::shares,
    gateway::{Gateway, ruled},
};
use crate::support::{Endpoint, eventually, printed, virtual_service};

/// Prefers endpoints of version v1.
const PREFERRING: &str = "trafficPolicy: {loadBalancer: {localityLbSetting: {failoverPriority: [version=v1]}}, \
     outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 600s, maxEjectionPercent: 100}}";
const V1: &str = "labels: {version: v1}";
const V2: &str = "labels: {version: v2}";

#[test]
fn endpoints_with_the_preferred_label_take_everything_while_there_are_enough() {
    let (one, two) = (Endpoint::named("one"), Endpoint::named("two"));
    let endpoints = [(one.address, V2), (two.address, V1)];
    let gateway = Gateway::start(&ruled(endpoints, PREFERRING));
    let counts = shares(&mut gateway.client(), "/", 40);
    assert_eq!(counts.get("two"), Some(&40), "{counts:?}");
}

/// One of two endpoints counts as 70 % of them: the others get the rest.
#[test]
fn endpoints_behind_help_when_too_few_are_left() {
    let (bad, good, behind) =
        (Endpoint::failing("bad", 500), Endpoint::named("good"), Endpoint::named("behind"));
    let endpoints = [(bad.address, V1), (good.address, V1), (behind.address, V2)];
    let gateway = Gateway::start(&ruled(endpoints, PREFERRING));
    let mut client = gateway.client();
    eventually("the bad one is left alone", || client.get("/").status() == 500);
    let counts = shares(&mut client, "/", 400);
    // Five standard deviations to each side of 120.
    let helped = counts["behind"];
    assert!((75..=165).contains(&helped) && counts["good"] + helped == 400, "{counts:?}");
}

/// The zone of an EndpointSlice's endpoint.
#[test]
fn endpoints_of_services_are_where_their_slice_says() {
    let server = Endpoint::named("app");
    let port = server.port();
    let yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\n\
         ports: [{{name: http, port: {port}}}]\nendpoints: [{{addresses: [127.0.0.1], zone: z1}}]\n"
    );
    let route = "hosts: [app.example.com], gateways: [gw], http: [{route: [{destination: {host: web}}]}]";
    let gateway = Gateway::start(&format!("{yaml}---\n{}", virtual_service("web", route)));
    assert_eq!(gateway.client().get("/").body, "app");
    let clusters = printed(&["request", "GET", "/clusters", "--admin", &gateway.interfaces.admin]);
    let told = format!("outbound|80||web.default.svc.cluster.local::127.0.0.1:{port}::zone::z1\n");
    assert!(clusters.contains(&told), "{clusters}");
}

/// Of three tries the last one leaves the endpoints that come first.
#[test]
fn tries_leave_the_nearest_endpoints_where_the_rule_says_so() {
    for (more, status, tries) in [("", 503, 3), (", retryRemoteLocalities: true", 200, 2)] {
        let (near, far) = (Endpoint::failing("near", 503), Endpoint::named("far"));
        let resources = ruled(
            [(near.address, "locality: r1/z1/s1"), (far.address, "locality: r2/z1/s1")],
            "trafficPolicy: {outlierDetection: {consecutive5xxErrors: 0}}",
        );
        let route = "route: [{destination: {host: app.example.com, port: {number: 80}}}]";
        let retries = format!("retries: {{attempts: 2, retryOn: 5xx, backoff: 1ms{more}}}");
        let spec = format!("hosts: [app.example.com], gateways: [gw], http: [{{{retries}, {route}}}]");
        let yaml = format!("{resources}---\n{}", virtual_service("app", &spec));
        let gateway = Gateway::start_with(&yaml, "", &["--locality", "r1/z1/s1"]);
        assert_eq!(gateway.client().get("/").status(), status, "{more}");
        assert_eq!(near.requests(), tries, "{more}");
    }
}

/// Where the rule says nothing of places, what the mesh says holds.
#[test]
fn the_mesh_says_how_places_count_where_no_rule_does() {
    let both = BTreeSet::from(["far".to_owned(), "near".to_owned()]);
    let only = |name: &str| BTreeSet::from([name.to_owned()]);
    const OWN: &str = ", loadBalancer: {localityLbSetting: {enabled: true}}";
    for (mesh, own, asked) in [
        ("", "", only("near")),
        ("localityLbSetting: {enabled: false}\n", "", both),
        ("localityLbSetting: {enabled: false}\n", OWN, only("near")),
        ("localityLbSetting: {distribute: [{from: '*', to: {'r2/*': 100}}]}\n", "", only("far")),
    ] {
        let (near, far) = (Endpoint::named("near"), Endpoint::named("far"));
        let resources = ruled(
            [(near.address, "locality: r1/z1/s1"), (far.address, "locality: r2/z1/s1")],
            &format!("trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 1}}{own}}}"),
        );
        let gateway = Gateway::start_with(&resources, mesh, &["--locality", "r1/z1/s1"]);
        let counts = shares(&mut gateway.client(), "/", 40);
        assert_eq!(counts.into_keys().collect::<BTreeSet<_>>(), asked, "{mesh}{own}");
    }
}
