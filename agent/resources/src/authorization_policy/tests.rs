use super::*;
use crate::{Resource, testing};

fn text(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: web}}\nspec: {spec}\n"
    )
}

fn policy(spec: &str) -> AuthorizationPolicy {
    let resource = testing::valid_without_effect(&text(spec));
    let Resource::AuthorizationPolicy(object) = resource else { panic!("no AuthorizationPolicy") };
    object.spec.clone()
}

#[test]
fn nothing_written_allows_nobody() {
    for spec in ["", "{}", "{action: ALLOW}"] {
        assert_eq!(policy(spec), AuthorizationPolicy::default(), "{spec}");
    }
    let all = policy("{action: DENY, rules: [{}]}");
    assert_eq!((all.action, all.rules.len()), (Action::Deny, 1));
}

#[test]
fn every_field_of_a_rule_is_read() {
    let read = policy(
        "{selector: {matchLabels: {app: web}}, action: ALLOW, rules: [{\
         from: [{source: {principals: [a/b], notPrincipals: ['*/c'], requestPrincipals: ['*'], \
         notRequestPrincipals: [x/y], namespaces: [prod], notNamespaces: [dev], ipBlocks: [10.0.0.0/8], \
         notIpBlocks: [10.1.2.3], remoteIpBlocks: ['fd00::/8'], notRemoteIpBlocks: [1.1.1.1], \
         trustDomains: ['*.local'], notTrustDomains: [old]}}, \
         {source: {serviceAccounts: [prod/web], notServiceAccounts: [web]}}], \
         to: [{operation: {hosts: ['*.a.com'], notHosts: [b.a.com], ports: ['80'], notPorts: ['81'], \
         methods: [GET], notMethods: [PUT], paths: ['/a*', '/b/{*}/c/{**}'], notPaths: [/d]}}], \
         when: [{key: 'request.headers[x-a]', values: ['1'], notValues: ['2']}, \
         {key: 'request.auth.claims[iss]', values: ['*@a.com']}, {key: destination.port, values: ['80']}]}]}",
    );
    let rule = &read.rules[0];
    assert_eq!(rule.from[0].principals.values, ["a/b"]);
    assert_eq!(rule.from[0].remote_ip_blocks.not_values, ["1.1.1.1"]);
    assert_eq!(rule.from[1].service_accounts.not_values, ["web"]);
    assert_eq!(rule.to[0].paths.values.len(), 2);
    assert_eq!(rule.when[1].key, "request.auth.claims[iss]");
    let custom =
        policy("{action: CUSTOM, provider: {name: opa}, rules: [{to: [{operation: {paths: [/a]}}]}]}");
    assert_eq!(custom.provider.as_deref(), Some("opa"));
}

#[test]
fn actions_and_rules_fit_each_other() {
    let cases = [
        ("{action: DENY}", "spec.rules: is missing, so action DENY never applies (write `rules: [{}]`"),
        ("{action: CUSTOM, provider: {name: a}}", "spec.rules: is missing, so action CUSTOM never applies"),
        ("{action: CUSTOM, rules: [{}]}", "spec.provider.name: is missing with action CUSTOM"),
        ("{provider: {name: a}}", "spec.provider: has no meaning with action ALLOW"),
        ("{action: DNEY, rules: [{}]}", "spec.action: is not a known word (found `DNEY`; expected"),
        ("{action: deny, rules: [{}]}", "did you mean `DENY`?"),
        ("{rules: [{from: []}]}", "spec.rules[0].from: is empty (remove it to mean any)"),
        ("{rules: [{to: []}]}", "spec.rules[0].to: is empty"),
        ("{rules: [{from: [{}]}]}", "spec.rules[0].from[0].source: is missing"),
        ("{rules: [{to: [{}]}]}", "spec.rules[0].to[0].operation: is missing"),
        ("{rules: [null]}", "spec.rules[0]: is empty (expected an item after each `-`)"),
        (
            "{action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]}",
            "spec.rules[0]: names only attributes of HTTP",
        ),
        (
            "{action: DENY, rules: [{from: [{source: {requestPrincipals: [a]}}]}]}",
            "names only attributes of HTTP",
        ),
    ];
    testing::assert_complaints(&cases, text);
    policy("{action: DENY, rules: [{to: [{operation: {paths: [/a], ports: ['80']}}]}]}");
    let custom = |rule: &str| text(&format!("{{action: CUSTOM, provider: {{name: a}}, rules: [{rule}]}}"));
    let cases = [
        (
            "{from: [{source: {notNamespaces: [a]}}]}",
            "spec.rules[0].from[0].source.notNamespaces: cannot be used with action CUSTOM",
        ),
        ("{when: [{key: source.principal, values: [a]}]}", "when[0].key: cannot be used with action CUSTOM"),
        ("{when: [{key: 'request.auth.claims[a]', values: [a]}]}", "cannot be used with action CUSTOM"),
    ];
    testing::assert_complaints(&cases, custom);
}

#[test]
fn an_unknown_field_refuses_the_policy() {
    for spec in [
        "{acton: DENY}",
        "{rules: [{fromm: []}]}",
        "{rules: [{from: [{source: {principal: [a], ipBlocks: [1.1.1.1]}}]}]}",
        "{rules: [{to: [{operation: {path: [/a], ports: ['80']}}]}]}",
        "{rules: [{when: [{key: source.ip, values: [1.1.1.1], notvalues: [a]}]}]}",
    ] {
        let document = testing::document(&text(spec));
        assert_eq!(document.refused.len(), 1, "{spec}");
        assert!(
            document.findings[0].to_string().contains("is not a field of this object (did you mean"),
            "{spec}"
        );
    }
}

#[test]
fn values_fit_their_attribute() {
    let source = |fields: &str| text(&format!("{{rules: [{{from: [{{source: {{{fields}}}}}]}}]}}"));
    let many = format!("serviceAccounts: [{}]", vec!["a"; 17].join(","));
    let cases = [
        ("", "spec.rules[0].from[0].source: is empty (expected at least one condition; remove `from`"),
        ("principals: []", "source: is empty"),
        ("principals: ['']", "source.principals[0]: is empty"),
        ("ipBlocks: [10.0.0.0/33]", "source.ipBlocks[0]: is no address or range (found `10.0.0.0/33`"),
        ("notRemoteIpBlocks: [web]", "source.notRemoteIpBlocks[0]: is no address or range"),
        ("serviceAccounts: [a/b/c]", "source.serviceAccounts[0]: is not a service account"),
        ("serviceAccounts: ['*']", "source.serviceAccounts[0]: is not a service account"),
        (&many, "source.serviceAccounts: has too many entries (found `17`; expected at most 16)"),
        ("serviceAccounts: [a], namespaces: [b]", "source: names service accounts beside"),
        ("trustDomains: [a/b]", "source.trustDomains[0]: is not a trust domain"),
        ("trustDomains: ['a*b']", "source.trustDomains[0]: is not a trust domain"),
    ];
    testing::assert_complaints(&cases, source);
    let operation = |fields: &str| text(&format!("{{rules: [{{to: [{{operation: {{{fields}}}}}]}}]}}"));
    let cases = [
        ("", "spec.rules[0].to[0].operation: is empty"),
        ("ports: ['65536']", "operation.ports[0]: is not a port (found `65536`; expected 0–65535)"),
        ("notPorts: [http]", "operation.notPorts[0]: is not a port"),
        (
            "ports: [80]",
            "operation.ports[0]: has the wrong type (found `80`; expected text; put it in quotes)",
        ),
        ("methods: ['']", "operation.methods[0]: is empty"),
        ("paths: ['/a/{**}/{*}']", "operation.paths[0]: goes on after `{**}`"),
        ("paths: ['/a{*}']", "operation.paths[0]: holds a brace that is no placeholder"),
        ("paths: ['/a b/{*}']", "operation.paths[0]: has a segment that cannot stand beside placeholders"),
    ];
    testing::assert_complaints(&cases, operation);
    let when = |fields: &str| text(&format!("{{rules: [{{when: [{{{fields}}}]}}]}}"));
    let cases = [
        ("values: [a]", "spec.rules[0].when[0].key: is missing"),
        ("key: source.ip", "spec.rules[0].when[0]: asks nothing (expected `values` or `notValues`)"),
        ("key: source.ip, values: [web]", "when[0].values[0]: is no address or range"),
        (
            "key: source.ips, values: [a]",
            "when[0].key: is not a known attribute (found `source.ips`; did you mean `source.ip`?)",
        ),
        (
            "key: request.headers, values: [a]",
            "when[0].key: lacks a name in brackets (found `request.headers`; expected `request.headers[name]`)",
        ),
        ("key: destination.namespace, values: [a]", "when[0].key: is no attribute any more"),
        ("key: 'destination.labels[a]', values: [a]", "use `selector.matchLabels`"),
        ("key: connection.sni, notValues: ['']", "when[0].notValues[0]: is empty"),
    ];
    testing::assert_complaints(&cases, when);
}
