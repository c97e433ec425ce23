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
fn conditions_on_text_are_exactly_one() {
    let with = |condition: &str| rule(&format!("match: [{{uri: {condition}}}], {ROUTE}"));
    assert_eq!(findings(&with("{exact: /a}")), Vec::<String>::new());
    assert_one(&with("{exact: /a, prefix: /b}"), "match[0].uri: has several conditions");
    assert_one(&with("{}"), "match[0].uri: has no condition");
    assert_one(&with("{prefix: ''}"), "match[0].uri.prefix: is empty");
    assert_one(&with("{regex: ''}"), "match[0].uri.regex: has a length out of range");
    assert_one(&with("{prefx: /a}"), "did you mean `prefix`?");
}

#[test]
fn paths_that_no_request_has_are_named() {
    let with = |uri: &str| rule(&format!("match: [{{uri: {uri}}}], {ROUTE}"));
    for (uri, wrong) in [
        (
            r#"{exact: "a b"}"#,
            "uri.exact: can never match: clients write a blank as `%20` (found `a b`; write it so, too",
        ),
        ("{prefix: /a?b}", "uri.prefix: can never match: the path ends before the `?`"),
        (r#"{exact: "/a#b"}"#, "can never match: clients keep what follows a `#` to themselves"),
        ("{prefix: api}", "every path begins with `/` (found `api`; write `/api`)"),
    ] {
        assert_one(&with(uri), wrong);
    }
    for uri in ["{exact: '*'}", "{prefix: /}", "{exact: /a%20b}", "{regex: 'api'}", "{exact: /ü}"] {
        assert!(findings(&with(uri)).is_empty(), "{uri}");
    }
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
fn conditions_on_headers_name_headers() {
    let with = |name: &str| rule(&format!("match: [{{headers: {{'{name}': {{exact: a}}}}}}], {ROUTE}"));
    assert_one(
        &with("@request.auth.claims.sub"),
        "match[0].headers[@request.auth.claims.sub]: is not supported yet: the match is left out",
    );
    assert_one(&with("uri"), "headers[uri]: is compared with a header named `uri` (use `uri` of the match");
    assert_one(&with("a b"), "headers[a b]: is not a header name");
}

#[test]
fn values_of_actions_are_checked() {
    for (field, wrong) in [
        ("timeout: 5", "timeout: is not a duration (found `5`"),
        ("timeout: 100us", "timeout: is not a whole number of milliseconds"),
        ("retries: {attempts: -1}", "retries.attempts: is negative"),
        ("retries: {perTryTimeout: 1s}", "retries.attempts: is 0 or missing"),
        ("retries: {attempts: 1, retryOn: gateway-eror}", "did you mean `gateway-error`?"),
        (
            "rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}",
            "rewrite: has both `uri` and `uriRegexRewrite`",
        ),
        (
            "fault: {delay: {percentage: {value: 101}, fixedDelay: 1s}}",
            "fault.delay.percentage.value: is no percentage",
        ),
        ("fault: {delay: {}}", "fault.delay.fixedDelay: is missing"),
        ("fault: {abort: {httpStatus: 100}}", "fault.abort.httpStatus: is no status code that can be sent"),
        ("fault: {abort: {grpcStatus: unavailable}}", "did you mean `UNAVAILABLE`?"),
        ("mirror: {host: a}, mirrors: [{destination: {host: b}}]", "mirrors: is written beside `mirror`"),
        ("corsPolicy: {maxAge: 1500ms}", "corsPolicy.maxAge: is not a whole number of seconds"),
        ("headers: {request: {set: {'a b': c}}}", "headers.request.set[a b]: is not a header name"),
        ("headers: {request: {remove: [Host]}}", "headers.request.remove[0]: cannot be removed"),
        ("headers: {request: {set: {':path': /}}}", "headers.request.set[:path]: is not a header name"),
        ("headers: {request: {set: {a: 50% off}}}", "headers.request.set[a]: holds a lone `%`"),
        ("headers: {request: {set: {a: '%REQ(b)'}}}", "headers.request.set[a]: holds a lone `%`"),
        ("headers: {request: {add: {a: \"b\\nc\"}}}", "headers.request.add[a]: holds a line break"),
        (
            "headers: {request: {set: {Host: a, ':authority': b}}}",
            "headers.request.set: sets the authority twice, as `Host` and as `:authority`",
        ),
        (
            "headers: {request: {add: {host: a}}}, rewrite: {authority: b}",
            "headers.request.add: sets the authority, as `rewrite.authority` does",
        ),
        (
            "headers: {response: {set: {':authority': a}}}",
            "headers.response.set[:authority]: is no header of a response",
        ),
        ("rewrite: {}", "rewrite: is empty"),
        ("rewrite: {uri: \"/a\\r\\n\"}", "rewrite.uri: holds a blank or a control character"),
        (
            "rewrite: {uriRegexRewrite: {match: '(?!a)', rewrite: b}}",
            "uriRegexRewrite.match: is no regular expression: look-around",
        ),
        ("rewrite: {uriRegexRewrite: {match: '', rewrite: b}}", "match: has a length out of range"),
        (
            "rewrite: {uriRegexRewrite: {match: '(a)', rewrite: '\\2'}}",
            "uriRegexRewrite.rewrite: names a group that the expression does not have",
        ),
        ("rewrite: {uriRegexRewrite: {match: a, rewrite: 'b\\'}}", "rewrite: has a lone backslash"),
        ("retries: {attempts: 1, perTryTimeout: 0s}", "retries.perTryTimeout: is too short"),
        ("retries: {attempts: 1, backoff: 0s}", "retries.backoff: is too short"),
        ("fault: {delay: {fixedDelay: 0s}}", "fault.delay.fixedDelay: is too short"),
        ("fault: {}", "fault: is empty"),
        (
            "fault: {delay: {fixedDelay: 1s, percentage: {value: 0.00001}}}",
            "percentage.value: is no percentage (found `0.00001`; expected 0, or 0.0001–100)",
        ),
        ("fault: {delay: {fixedDelay: 1s, percent: 50}}", "fault.delay.percent: is deprecated"),
        (
            "fault: {delay: {fixedDelay: 1s, exponentialDelay: 1s}}",
            "exponentialDelay: is not supported by Istio either (use `fixedDelay`)",
        ),
        (
            "fault: {abort: {httpStatus: 500, http2Error: a}}",
            "http2Error: is not supported by Istio either (use `httpStatus`)",
        ),
        ("fault: {abort: {percentage: {value: 1}}}", "fault.abort: has no status and aborts nothing"),
        ("fault: {abort: {httpStatus: 500, grpcStatus: OK}}", "has both `httpStatus` and `grpcStatus`"),
        ("mirror: {host: a}, mirrorPercent: 50", "mirrorPercent: is deprecated"),
        ("mirror: {host: a}, mirrorPercentage: {value: -1}", "mirrorPercentage.value: is no percentage"),
        ("corsPolicy: {allowMethods: ['G T']}", "allowMethods[0]: is not a known word"),
        ("corsPolicy: {allowHeaders: ['']}", "allowHeaders[0]: is not a header name"),
        ("corsPolicy: {allowOrigins: [{}]}", "corsPolicy.allowOrigins[0]: names no origin"),
        ("corsPolicy: {allowOrigin: ['*']}", "corsPolicy.allowOrigin: is deprecated"),
    ] {
        let findings = findings(&rule(&format!("{field}, {ROUTE}")));
        assert_eq!(findings.len(), 1, "{field}: {findings:#?}");
        assert!(findings[0].contains(wrong), "{field}: {findings:#?}");
    }
    for (redirect, wrong) in [
        ("{}", "redirect: is empty"),
        ("{uri: /a, prefixRewrite: /b}", "has both `uri` and `prefixRewrite`"),
        ("{uri: /a, redirectCode: 304}", "redirectCode: is not a redirect"),
        ("{scheme: ftp}", "scheme: is not a known word"),
        ("{uri: '/a b'}", "redirect.uri: holds a blank or a control character"),
        ("{uri: /a, port: 1, derivePort: FROM_REQUEST_PORT}", "has both `port` and `derivePort`"),
    ] {
        let findings = findings(&rule(&format!("match: [{{uri: {{prefix: /}}}}], redirect: {redirect}")));
        assert!(findings.iter().any(|finding| finding.contains(wrong)), "{redirect}: {findings:#?}");
    }
}

#[test]
fn the_authority_of_a_destination_comes_before_that_of_the_rule() {
    let with = |field: &str, own: &str| {
        rule(&format!("{field}, route: [{{destination: {{host: a}}, headers: {{request: {{{own}}}}}}}]"))
    };
    for (field, overruled) in [
        ("rewrite: {authority: a}", "`rewrite.authority`"),
        ("headers: {request: {set: {host: a}}}", "that of the rule's `headers`"),
    ] {
        let text = with(field, "add: {':authority': b}");
        let expected = format!(
            "spec.http[0].route[0].headers.request.add: sets the authority, so {overruled} has no effect for this \
             destination (remove one of the two)"
        );
        assert_one(&text, &expected);
        assert_eq!(document(&text).resources.len(), 1, "it is taken all the same");
        assert_eq!(findings(&with(field, "set: {a: b}")), Vec::<String>::new());
    }
    assert_eq!(findings(&with("rewrite: {uri: /}", "set: {host: b}")), Vec::<String>::new());
}

#[test]
fn direct_responses_have_a_status_that_can_be_sent() {
    let vs = virtual_service(&rule("directResponse: {status: 503, body: {string: later}}"));
    let expected = DirectResponse { status: 503, body: "later".to_owned() };
    assert_eq!(vs.spec.http[0].direct_response, Some(expected));
    assert_one(
        &rule("directResponse: {status: 199}"),
        "directResponse.status: is no status code that can be sent (found `199`; expected 200–599)",
    );
    assert_one(&rule("directResponse: {}"), "directResponse.status: is missing");
}

#[test]
fn older_shares_are_whole_percents() {
    for fields in ["fault: {delay: {fixedDelay: 1s, percent: 101}}", "mirror: {host: a}, mirrorPercent: 101"]
    {
        let findings = findings(&rule(&format!("{fields}, {ROUTE}")));
        assert!(findings[1].contains("is no percentage (found `101`; expected 0–100)"), "{findings:#?}");
    }
}

#[test]
fn answers_and_redirects_replace_what_routes_do() {
    for answer in ["redirect: {uri: /b}", "directResponse: {status: 200}"] {
        let name = answer.split(':').next().unwrap();
        for (field, path) in [
            ("rewrite: {uri: /}", "rewrite"),
            ("fault: {abort: {httpStatus: 500, percentage: {value: 1}}}", "fault"),
        ] {
            let expected = format!("spec.http[0].{path}: cannot be combined with `{name}`");
            assert_one(&rule(&format!("{answer}, {field}")), &expected);
        }
    }
    assert_one(
        &rule("redirect: {uri: /b}, directResponse: {status: 200}"),
        "says several things to do (found `redirect, directResponse`",
    );
    assert_one(
        &rule("match: [{uri: {exact: /a}}], redirect: {prefixRewrite: /b}"),
        "spec.http[0].redirect.prefixRewrite: needs every match to be by prefix",
    );
    assert_one(
        &rule(&format!("directResponse: {{status: 200, body: {{string: '{}'}}}}", "a".repeat((1 << 20) + 1))),
        "directResponse.body: is too large (found `1048577 bytes`; expected at most 1 MiB)",
    );
    assert_one(
        &rule(&format!("directResponse: {{status: 200, body: {{string: '{}'}}}}", "a".repeat(103_000))),
        "directResponse.body: is large",
    );
}

#[test]
fn bodies_may_be_written_in_base64() {
    let body = |body: &str| rule(&format!("directResponse: {{status: 200, body: {body}}}"));
    let vs = virtual_service(&body("{bytes: w6k=}"));
    assert_eq!(vs.spec.http[0].direct_response.as_ref().unwrap().body, "é");
    assert_one(&body("{bytes: 'é'}"), "directResponse.body.bytes: is not base64");
    assert_one(&body("{bytes: /w==}"), "directResponse.body.bytes: is not text");
    assert_one(&body("{bytes: '', string: a}"), "directResponse.body: has both `string` and `bytes`");
}

#[test]
fn sources_are_spelt_as_kubernetes_does() {
    let with = |field: &str| rule(&format!("match: [{{{field}}}], {ROUTE}"));
    assert_one(&with("sourceNamespace: 'a b'"), "match[0].sourceNamespace: is not a namespace name");
    assert_one(&with("sourceLabels: {app: 'a*'}"), "match[0].sourceLabels[app]: is not a label value");
    assert_one(&with("gateways: [a/b/c]"), "match[0].gateways[0]: names no Gateway");
    assert_one(
        &text(&format!("{HOSTS}\ntcp: [{{match: [{{sourceNamespace: A}}], {ROUTE}}}]")),
        "spec.tcp[0].match[0].sourceNamespace: is not a namespace name",
    );
}

#[test]
fn claims_are_for_gateways() {
    let with = |gateways: &str, own: &str| {
        text(&format!(
            "hosts: [a.com]\ngateways: [{gateways}]\nhttp: [{{match: [{{headers: {{'@request.auth.claims.sub': {{exact: a}}}}{own}}}], {ROUTE}}}]"
        ))
    };
    let refused = "spec.http[0].match[0]: asks for claims of a token, which only gateways look at";
    let last = |text: &str| findings(text).pop().unwrap_or_default();
    assert!(last(&with("gw, mesh", "")).contains(refused));
    assert!(last(&with("gw", ", gateways: [mesh]")).contains(refused));
    assert!(!last(&with("gw, mesh", ", gateways: [gw]")).contains(refused));
}

#[test]
fn any_value_of_a_header_is_no_expression_elsewhere() {
    let with = |condition: &str| rule(&format!("match: [{{{condition}}}], {ROUTE}"));
    assert_eq!(findings(&with("headers: {a: {regex: '*'}}")), Vec::<String>::new());
    assert_one(&with("uri: {regex: '*'}"), "match[0].uri.regex: is no regular expression (found `*`");
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

#[test]
fn rules_that_are_never_reached_are_named() {
    let rules = |rules: &str| text(&format!("{HOSTS}\nhttp:\n{rules}"));
    let to = |conditions: &str| format!("- {{match: [{conditions}], {ROUTE}}}\n");
    let prefix = |path: &str| to(&format!("{{uri: {{prefix: {path}}}}}"));
    assert_one(
        &rules(&(prefix("/api") + &prefix("/api/v2"))),
        "spec.http[1].match[0]: is never reached: spec.http[0].match[0] takes all its requests",
    );
    let named = format!("- {{name: all, {ROUTE}}}\n");
    assert_one(
        &rules(&(named.clone() + &prefix("/b"))),
        "spec.http[1].match[0]: is never reached: spec.http[0] (`all`)",
    );
    assert_one(&rules(&(prefix("/") + &named)), "spec.http[1]: is never reached: spec.http[0].match[0]");
    assert_one(
        &rules(&(prefix("/") + &to("{uri: {prefix: /a}, ignoreUriCase: true}"))),
        "spec.http[1].match[0]: is never reached: spec.http[0].match[0]",
    );
    let any_case = to("{uri: {prefix: /API}, ignoreUriCase: true}");
    assert_eq!(findings(&rules(&(prefix("/API") + &any_case + &prefix("/b")))), Vec::<String>::new());
    // Other conditions leave something to those after them.
    let narrow = to("{uri: {prefix: /api}, port: 80}");
    assert_eq!(findings(&rules(&(narrow + &prefix("/api") + &prefix("/b")))), Vec::<String>::new());
}
