mod actions;
mod matches;

use super::*;
use crate::testing::{document, findings, virtual_service};

fn text(spec: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs, namespace: prod}}\nspec:\n  {spec}\n"
    )
}

const HOSTS: &str = "hosts: [a.com]\ngateways: [gw]";
const ROUTE: &str = "route: [{destination: {host: web}}]";

fn rule(fields: &str) -> String {
    text(&format!("{HOSTS}\nhttp: [{{{fields}}}]"))
}

/// Exactly one finding, which contains `wrong`.
fn assert_one(text: &str, wrong: &str) {
    let findings = findings(text);
    assert_eq!(findings.len(), 1, "{text}\n{findings:#?}");
    assert!(findings[0].contains(wrong), "{text}\n{findings:#?}");
}

#[test]
fn gateways_are_named_relative_to_the_resource() {
    let spec = format!("hosts: [a.com]\ngateways: [gw, ./own, other/gw, mesh]\nhttp: [{{{ROUTE}}}]");
    let names: Vec<_> = virtual_service(&text(&spec)).spec.gateways.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["prod/gw", "prod/own", "other/gw", "mesh"]);
    let spec = format!("hosts: [Web]\nhttp: [{{{ROUTE}}}]");
    let vs = virtual_service(&text(&spec));
    assert!(vs.spec.is_for_mesh());
    assert_eq!(vs.spec.hosts, ["web"]);
    assert_one(
        &text(&format!("hosts: [a.com]\ngateways: [gw.other.svc.cluster.local]\nhttp: [{{{ROUTE}}}]")),
        "spec.gateways[0]: names a Gateway by an old form (found `gw.other.svc.cluster.local`; write `other/gw`)",
    );
    assert_one(&text(&format!("hosts: [a.com]\ngateways: [a/b/c]\nhttp: [{{{ROUTE}}}]")), "names no Gateway");
}

#[test]
fn hosts_are_distinct_and_not_too_wide() {
    let with =
        |hosts: &str, gateways: &str| text(&format!("hosts: [{hosts}]\n{gateways}\nhttp: [{{{ROUTE}}}]"));
    assert_one(&with("'*'", ""), "spec.hosts[0]: is too wide for calls inside the mesh");
    assert_eq!(findings(&with("'*'", "gateways: [gw]")), Vec::<String>::new());
    assert_one(&with("a.com, A.com", ""), "spec.hosts[1]: is written twice");
    assert_one(&with("'*.com', a.com", ""), "spec.hosts[1]: overlaps another host");
    assert_one(&with("'*com'", ""), "spec.hosts[0]: is a partial wildcard");
}

#[test]
fn a_resource_without_rules_is_refused() {
    assert_one(&text(HOSTS), "spec: has no rules (expected at least one of `http`, `tls` and `tcp`)");
    assert_one(
        &text("http: [{route: [{destination: {host: a}}]}]\ngateways: [gw]"),
        "spec.gateways: has no meaning",
    );
    for (rules, field) in [("tls: [{match: [{sniHosts: [a.com]}]", "tls"), ("tcp: [{match: []", "tcp")] {
        let expected = format!("spec.{field}: has no meaning in a VirtualService without hosts");
        assert_one(&text(&format!("{rules}, {ROUTE}}}]")), &expected);
    }
    let export = |list: &str| text(&format!("{HOSTS}\nexportTo: {list}\nhttp: [{{{ROUTE}}}]"));
    assert_one(&export("['*', a]"), "spec.exportTo: holds `*` and other namespaces");
    assert_one(&export("[a/b]"), "spec.exportTo[0]: names no namespace");
}

#[test]
fn every_rule_says_one_thing_to_do() {
    let expected = "(expected one of `route`, `redirect`, `directResponse` and `delegate`)";
    assert_one(&rule("name: a"), &format!("spec.http[0]: says nothing to do {expected}"));
    assert_one(
        &rule(&format!("{ROUTE}, directResponse: {{status: 200}}")),
        "says several things to do (found `route, directResponse`",
    );
    assert_one(
        &rule("directResponse: {status: 200}, fault: {abort: {httpStatus: 500, percentage: {value: 1}}}"),
        "spec.http[0].fault: cannot be combined with `directResponse`",
    );
}

#[test]
fn destinations_and_weights_are_checked() {
    assert_one(
        &rule("route: [{destination: {host: '*'}}]"),
        "spec.http[0].route[0].destination.host: is a wildcard",
    );
    assert_one(
        &rule("route: [{destination: {port: {number: 80}}}]"),
        "spec.http[0].route[0].destination.host: is missing",
    );
    assert_one(
        &rule("route: [{destination: {host: a, port: {number: 0}}}]"),
        "destination.port.number: is out of range",
    );
    assert_one(
        &rule("route: [{destination: {host: a, port: 80}}]"),
        "destination.port: has the wrong type (found `80`; expected an object)",
    );
    assert_one(&rule("route: [{destination: {host: a}, weight: -1}]"), "route[0].weight: is negative");
    assert_one(&rule("route: [{destination: {host: 'a b'}}]"), "destination.host: is not a host name");
    assert_one(
        &rule("route: [{destination: {host: a, subset: 'v 1'}}]"),
        "route[0].destination.subset: is not a subset name (found `v 1`",
    );
    assert_one(
        &rule("route: [{destination: {host: a}}, {destination: {host: b}}]"),
        "spec.http[0].route: has only destinations of weight 0",
    );
    assert_one(
        &rule("route: {destination: {host: a}}"),
        "spec.http[0].route: has the wrong type (found `an object`; expected a list)",
    );
}

#[test]
fn every_match_and_action_is_read_without_a_word() {
    for field in [
        "timeout: 5s",
        "retries: {attempts: 3, perTryTimeout: 2s, retryOn: 'gateway-error,503'}",
        "rewrite: {uri: /}",
        "fault: {delay: {percentage: {value: 0.1}, fixedDelay: 5s}}",
        "mirror: {host: b}, mirrorPercentage: {value: 50}",
        "mirrors: [{destination: {host: b}}]",
        "corsPolicy: {allowOrigins: [{exact: 'https://a.com'}], maxAge: 24h}",
        "headers: {request: {set: {x-a: b}, remove: [x-c]}}",
        "match: [{headers: {x: {exact: a}}, method: {exact: GET}, queryParams: {a: {exact: b}}}]",
        "match: [{withoutHeaders: {x: {}}, ignoreUriCase: true, uri: {prefix: /a}}]",
    ] {
        assert_eq!(findings(&rule(&format!("{field}, {ROUTE}"))), Vec::<String>::new(), "{field}");
    }
    assert_eq!(findings(&rule("redirect: {uri: /a, redirectCode: 302}")), Vec::<String>::new());
    assert_eq!(findings(&rule("delegate: {name: b, namespace: c}")), Vec::<String>::new());
}

#[test]
fn server_names_are_within_the_hosts() {
    let with = |names: &str| {
        text(&format!(
            "hosts: [a.com, '*.b.com']\ngateways: [gw]\ntls: [{{match: [{{sniHosts: [{names}]}}], {ROUTE}}}]"
        ))
    };
    assert_eq!(findings(&with("A.com, x.b.com, '*.c.b.com'")), Vec::<String>::new());
    assert_one(
        &with("c.com"),
        "spec.tls[0].match[0].sniHosts[0]: is within none of the hosts (found `c.com`",
    );
    assert_one(&with("a.com, b.com"), "sniHosts[1]: is within none of the hosts");
    assert_one(&with("10.0.0.1"), "sniHosts[0]: is an address, which clients do not send as server name");
}

#[test]
fn connection_rules_are_complete() {
    let tls = "tls: [{match: [{port: 443, sniHosts: [A.com]}], route: [{destination: {host: web}}]}]";
    let vs = virtual_service(&text(&format!("{HOSTS}\n{tls}")));
    assert_eq!(vs.spec.tls[0].matches[0].sni_hosts, ["a.com"]);
    let with = |rules: &str| text(&format!("{HOSTS}\n{rules}"));
    assert_one(&with("tls: [{route: [{destination: {host: a}}]}]"), "spec.tls[0].match: is missing");
    assert_one(
        &with("tls: [{match: [{port: 1}], route: [{destination: {host: a}}]}]"),
        "match[0].sniHosts: is missing",
    );
    assert_one(&with("tcp: [{match: [{port: 1}]}]"), "spec.tcp[0].route: is missing");
    assert_one(&with("tcp: [{route: []}]"), "spec.tcp[0].route: is empty");
    assert_one(
        &with("tcp: [{match: [{destinationSubnets: [10.0.0.0/33]}], route: [{destination: {host: a}}]}]"),
        "destinationSubnets[0]: is no subnet",
    );
}
