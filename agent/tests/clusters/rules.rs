//! Which DestinationRules hold for a service, and what of them. Each rule here has its clients keep a cookie that is
//! called like the rule, so that the first answer tells which rule held.

use std::fmt::Write as _;

use super::gateway::Gateway;
use crate::support::{Endpoint, service, virtual_service};

/// Names of rules, their hosts, and more of them.
type Rules<'r> = &'r [(&'r str, &'r str, &'r str)];

/// The rule `namespace/name` for a host, with more of its `spec`.
fn rule(name: &str, host: &str, more: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{host: '{host}', trafficPolicy: {policy}{more}}}\n---\n",
        policy = cookie(name)
    )
}

fn cookie(name: &str) -> String {
    format!("{{loadBalancer: {{consistentHash: {{httpCookie: {{name: {name}, ttl: 60s}}}}}}}}")
}

/// Name of the cookie that the first answer to a path has; empty without one.
fn held(gateway: &Gateway, path: &str) -> String {
    let answer = gateway.client().get(path);
    assert_eq!(answer.status(), 200, "{path}: {}", gateway.log());
    let cookie = answer.field("set-cookie").unwrap_or_default();
    cookie.split('=').next().unwrap_or_default().to_owned()
}

/// The gateway is in `default` and has the label `app: gateway`; the services are in `prod`.
#[test]
fn the_rule_of_the_nearest_namespace_holds_and_there_that_of_the_most_specific_host() {
    const SELECTING: &str = ", workloadSelector: {matchLabels: {app: gateway}}";
    const SELECTING_OTHERS: &str = ", workloadSelector: {matchLabels: {app: other}}";
    // Rules with `<host>` for the service's own, and which of them holds.
    let cases: [(Rules<'_>, &str); 12] = [
        (
            &[("istio-system/root", "<host>", ""), ("prod/its", "<host>", ""), ("default/own", "<host>", "")],
            "own",
        ),
        (&[("istio-system/root", "<host>", ""), ("prod/its", "<host>", "")], "its"),
        (&[("istio-system/root", "<host>", "")], "root"),
        (&[("elsewhere/foreign", "<host>", "")], ""),
        (&[("istio-system/root", "*.local", "")], "root"),
        (&[("default/wide", "*.prod.svc.cluster.local", ""), ("default/own", "<host>", "")], "own"),
        // However specific the rules of farther namespaces are.
        (&[("default/wide", "*.prod.svc.cluster.local", ""), ("prod/its", "<host>", "")], "wide"),
        (&[("prod/its", "<host>", ", exportTo: ['.']"), ("istio-system/root", "<host>", "")], "root"),
        (&[("prod/its", "<host>", ", exportTo: [default]"), ("istio-system/root", "<host>", "")], "its"),
        (&[("default/a-own", "<host>", ""), ("default/selecting", "<host>", SELECTING)], "selecting"),
        (&[("default/a-other", "<host>", SELECTING_OTHERS), ("default/own", "<host>", "")], "own"),
        // A short name is one of the rule's own namespace.
        (&[("default/short", "<short>", ""), ("prod/its", "<short>", "")], "its"),
    ];
    let endpoint = Endpoint::named("app");
    // `*.local` and the like are for every service, so that each case has a gateway of its own.
    for (rules, expected) in cases {
        let mut yaml = service("prod/app", &endpoint) + "---\n";
        for (name, host, more) in rules {
            let host = host.replace("<host>", "app.prod.svc.cluster.local").replace("<short>", "app");
            yaml += &rule(name, &host, more);
        }
        yaml += &virtual_service(
            "app",
            "hosts: [app.example.com], gateways: [gw], \
             http: [{route: [{destination: {host: app.prod.svc.cluster.local}}]}]",
        );
        let gateway = Gateway::start_with(&yaml, "", &["--labels", "app=gateway"]);
        assert_eq!(held(&gateway, "/"), expected, "{rules:?}");
    }
}

/// Of several rules for one host the first has the policy, and all their subsets are there.
#[test]
fn rules_of_one_host_are_merged() {
    let subset = |name: &str, of: &str| format!("{{name: {name}, trafficPolicy: {}}}", cookie(of));
    let subsets = |list: &[String]| format!(", subsets: [{}]", list.join(", "));
    let young = rule("default/young", "app", &subsets(&[subset("v1", "of-young-v1"), subset("v2", "of-v2")]));
    let old = rule("default/old", "app", &subsets(&[subset("v1", "of-v1")]));
    // The policy of a younger rule holds where the older one has none.
    let bare = old.replacen(&format!("trafficPolicy: {}, ", cookie("old")), "", 1);
    for (old, whole) in [(old, "old"), (bare, "young")] {
        let mut yaml = service("app", &Endpoint::named("app")) + "---\n";
        for (text, created) in [(&old, "2025"), (&young, "2026")] {
            let metadata = format!("creationTimestamp: '{created}-01-01T00:00:00Z', name:");
            yaml += &text.replacen("name:", &metadata, 1);
        }
        let mut routes = String::new();
        for (path, subset) in [("/v1", "subset: v1, "), ("/v2", "subset: v2, "), ("/", "")] {
            write!(
                routes,
                "{{match: [{{uri: {{exact: {path}}}}}], route: [{{destination: {{{subset}host: app.default.svc.cluster.local}}}}]}}, "
            )
            .unwrap();
        }
        yaml +=
            &virtual_service("app", &format!("hosts: [app.example.com], gateways: [gw], http: [{routes}]"));
        let gateway = Gateway::start(&yaml);
        assert_eq!(["/", "/v1", "/v2"].map(|path| held(&gateway, path)), [whole, "of-v1", "of-v2"]);
    }
}
