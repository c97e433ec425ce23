//! Rules that are left to other VirtualServices (routing §6).

use super::world::{World, rules};
use crate::support::{Endpoint, answer, ok, service, virtual_service};

/// What a request is answered by: the name in the body, or the status.
fn met(world: &World, request: &str) -> String {
    let answered = world.send(&format!("{request}\n\n"));
    if answered.status() == 200 { answered.body } else { answered.status().to_string() }
}

/// A rule that answers with its name.
fn own(name: &str, matched: &str) -> String {
    format!("{{name: {name}, match: [{matched}], directResponse: {{status: 200, body: {{string: {name}}}}}}}")
}

#[test]
fn rules_of_a_delegate_stand_in_the_place_of_the_rule_that_delegates() {
    let http = [
        own("exact", "{uri: {exact: /shop/cart}}"),
        own("header", "{uri: {prefix: /shop}, headers: {x-a: {exact: '1'}}}"),
        own("method", "{method: {exact: PUT}}"),
        own("regex-outside", "{uri: {regex: '/shop/r.*'}}"),
        own("elsewhere", "{uri: {prefix: /other}}"),
        own("same-header", "{headers: {x-root: {exact: other}}}"),
        own("rest", "{uri: {prefix: /shop/}}"),
    ];
    let world = World::gateway(&[
        rules(&[
            "{name: root, match: [{uri: {prefix: /shop}, headers: {x-root: {exact: r}}}], delegate: {name: shop, namespace: prod}}",
            "{match: [{uri: {prefix: /absent}}], delegate: {name: absent}}",
            "{match: [{uri: {prefix: /closed}}], delegate: {name: closed, namespace: prod}}",
            &own("after", "{uri: {prefix: /}}"),
        ]),
        virtual_service("prod/shop", &format!("http: [{}]", http.join(", "))),
        virtual_service(
            "prod/closed",
            &format!("exportTo: ['.'], http: [{}]", own("closed", "{uri: {prefix: /closed}}")),
        ),
    ]);
    for (request, body) in [
        ("GET /shop/cart HTTP/1.1\nhost: a\nx-root: r", "exact"),
        ("GET /shop/x HTTP/1.1\nhost: a\nx-root: r\nx-a: 1", "header"),
        ("PUT /shopping HTTP/1.1\nhost: a\nx-root: r\ncontent-length: 0", "method"),
        ("GET /shop/rest HTTP/1.1\nhost: a\nx-root: r", "rest"),
        // The conditions of the rule that delegates hold for all of them.
        ("GET /shop/cart HTTP/1.1\nhost: a", "after"),
        ("PUT /else HTTP/1.1\nhost: a\nx-root: r\ncontent-length: 0", "after"),
        ("GET /other HTTP/1.1\nhost: a\nx-root: r", "after"),
        ("GET /shop/x HTTP/1.1\nhost: a\nx-root: other", "after"),
        // Who is missing, or not exported, costs only its own rule.
        ("GET /absent HTTP/1.1\nhost: a", "after"),
        ("GET /closed HTTP/1.1\nhost: a", "after"),
    ] {
        assert_eq!(met(&world, request), body, "{request}");
    }
    world.send("GET /shop/cart HTTP/1.1\nhost: a\nx-root: r\nx-case: named\n\n");
    assert!(
        world.logged("named").starts_with("200 - direct_response root-exact "),
        "{}",
        world.logged("named")
    );
    let log = world.log();
    for left_out in [
        "VirtualService prod/shop: spec.http[3]",
        "VirtualService prod/shop: spec.http[4]",
        "VirtualService prod/shop: spec.http[5]",
        "default/rules: spec.http[1]",
        "default/rules: spec.http[2]",
    ] {
        assert!(log.contains(left_out), "{left_out}: {log}");
    }
}

#[test]
fn what_a_delegate_does_not_say_is_said_by_the_rule_that_delegates() {
    let app = Endpoint::named("app");
    let world = World::gateway(&[
        service("prod/app", &app),
        rules(&[
            "{match: [{uri: {prefix: /a}}], delegate: {name: d, namespace: prod}, rewrite: {uri: /root}, \
             headers: {request: {set: {x-who: root, x-root: r}}}, timeout: 5s, \
             corsPolicy: {allowOrigins: [{exact: 'https://a'}]}}",
        ]),
        virtual_service(
            "prod/d",
            "http: [{match: [{uri: {prefix: /a/own}}], rewrite: {uri: /own}, headers: {request: {set: {x-who: own}}}, \
             route: [{destination: {host: app}}]}, {route: [{destination: {host: app}}]}]",
        ),
    ]);
    world.send("GET /a/own HTTP/1.1\nhost: x\n\n");
    let asked = app.last();
    // A value as a whole: fields of both are not mixed.
    assert_eq!(
        (asked.asks_for(), asked.field("x-who"), asked.field("x-root")),
        ("GET /own", Some("own"), None)
    );
    assert_eq!(asked.field("x-envoy-expected-rq-timeout-ms"), Some("5000"));
    let answer = world.send("GET /a/x HTTP/1.1\nhost: x\norigin: https://a\n\n");
    let asked = app.last();
    assert_eq!((asked.asks_for(), asked.field("x-who")), ("GET /root/x", Some("root")));
    assert_eq!(answer.field("access-control-allow-origin"), Some("https://a"));
}

#[test]
fn a_delegate_does_not_delegate() {
    let world = World::gateway(&[
        rules(&[
            "{match: [{uri: {prefix: /a}}], delegate: {name: one}}",
            &own("after", "{uri: {prefix: /}}"),
        ]),
        virtual_service(
            "one",
            "http: [{match: [{uri: {prefix: /a/b}}], delegate: {name: two}}, {match: [{uri: {prefix: /a/c}}], directResponse: {status: 200, body: {string: one}}}]",
        ),
        virtual_service("two", &format!("http: [{}]", own("two", "{uri: {prefix: /a/b}}"))),
    ]);
    assert_eq!(met(&world, "GET /a/b HTTP/1.1\nhost: x"), "after");
    assert_eq!(met(&world, "GET /a/c HTTP/1.1\nhost: x"), "one");
    world.log_line(&["VirtualService default/one", "delegates though it is delegated to"]);
}

#[test]
fn tries_faults_and_mirrors_are_inherited() {
    let failing = Endpoint::answering(|_, number| if number == 1 { answer(503, "") } else { ok("again") });
    let copies = Endpoint::named("copy");
    let root = |path: &str, more: &str| {
        format!("{{match: [{{uri: {{prefix: {path}}}}}], delegate: {{name: d}}, {more}}}")
    };
    let world = World::gateway(&[
        service("app", &failing),
        service("copy", &copies),
        rules(&[
            &root("/retries", "retries: {attempts: 1, retryOn: 5xx}"),
            &root("/fault", "fault: {abort: {httpStatus: 418, percentage: {value: 100}}}"),
            &root("/mirror", "mirror: {host: copy}"),
        ]),
        virtual_service("d", "http: [{route: [{destination: {host: app}}]}]"),
    ]);
    assert_eq!(met(&world, "GET /retries HTTP/1.1\nhost: x"), "again");
    assert_eq!(failing.requests(), 2);
    assert_eq!(met(&world, "GET /fault HTTP/1.1\nhost: x"), "418");
    assert_eq!(met(&world, "GET /mirror HTTP/1.1\nhost: x"), "again");
    assert_eq!(copies.await_asked(1)[0].asks_for(), "GET /mirror");
}

/// Rules of a delegate must fit into the rule that delegates; one that does not is left out, and said so.
#[test]
fn rules_of_a_delegate_fit_by_every_kind_of_condition() {
    const QUERY: &str = "{uri: {prefix: /q}, queryParams: {a: {exact: '1'}}, withoutHeaders: {x-no: {}}}";
    let root = |matched: &str, name: &str| format!("{{match: [{matched}], delegate: {{name: {name}}}}}");
    let delegate = |name: &str, named: &[(&str, &str)]| {
        let http: Vec<_> = named.iter().map(|(name, matched)| own(name, matched)).collect();
        virtual_service(name, &format!("http: [{}]", http.join(", ")))
    };
    let world = World::gateway(&[
        rules(&[
            &root(QUERY, "query"),
            &root("{uri: {prefix: /port}, port: <PORT>}", "port"),
            &root("{uri: {prefix: /own-port}, port: 1}", "own-port"),
            &root("{uri: {prefix: /regex}, headers: {x-r: {regex: 'a+'}}}", "regex"),
            &root("{uri: {prefix: /gateways}, gateways: [gw]}", "gateways"),
            &root("{uri: {prefix: /labels}, sourceLabels: {app: client}}", "labels"),
            &root("{uri: {prefix: /own-label}, sourceLabels: {app: other}}", "own-label"),
            &root("{uri: {prefix: /Case}, ignoreUriCase: true}", "case"),
            &own("after", "{uri: {prefix: /}}"),
        ]),
        delegate(
            "query",
            &[
                ("other-value", "{uri: {prefix: /q/1}, queryParams: {a: {exact: '2'}}}"),
                ("more", "{uri: {prefix: /q/2}, queryParams: {b: {exact: '2'}}}"),
                ("without", "{uri: {prefix: /q/3}, withoutHeaders: {x-not: {}}}"),
            ],
        ),
        delegate(
            "port",
            &[("other", "{uri: {prefix: /port/1}, port: 1}"), ("any", "{uri: {prefix: /port/2}}")],
        ),
        // Where it would be served if it were enough that the delegate's own condition holds.
        delegate("own-port", &[("own-port", "{uri: {prefix: /own-port}, port: <PORT>}")]),
        delegate("own-label", &[("own-label", "{uri: {prefix: /own-label}, sourceLabels: {app: client}}")]),
        delegate("regex", &[("conflict", "{headers: {x-r: {exact: a}}}")]),
        delegate(
            "gateways",
            &[
                ("own", "{uri: {prefix: /gateways/1}, gateways: [gw]}"),
                ("more", "{uri: {prefix: /gateways/2}, gateways: [gw, mesh]}"),
            ],
        ),
        delegate(
            "labels",
            &[
                ("other", "{uri: {prefix: /labels/1}, sourceLabels: {app: other}}"),
                ("own", "{uri: {prefix: /labels/2}, sourceLabels: {version: v1}}"),
            ],
        ),
        delegate(
            "case",
            &[
                ("exactly", "{uri: {prefix: /Case/1}}"),
                ("any", "{uri: {prefix: /Case/2}, ignoreUriCase: true}"),
            ],
        ),
    ]);
    for (request, body) in [
        ("/q/1?a=1", "after"),
        ("/q/1?a=2", "after"),
        ("/q/2?a=1&b=2", "more"),
        ("/q/2?b=2", "after"),
        ("/q/2?a=1", "after"),
        ("/q/3?a=1", "without"),
        ("/port/1", "after"),
        ("/port/2", "any"),
        ("/own-port", "after"),
        ("/own-label", "after"),
        ("/gateways/1", "own"),
        ("/gateways/2", "after"),
        ("/labels/1", "after"),
        ("/labels/2", "own"),
        ("/Case/1", "after"),
        ("/case/2", "any"),
    ] {
        assert_eq!(met(&world, &format!("GET {request} HTTP/1.1\nhost: a")), body, "{request}");
    }
    for (field, body) in [("x-not", "after"), ("x-no", "after"), ("x-yes", "without")] {
        assert_eq!(met(&world, &format!("GET /q/3?a=1 HTTP/1.1\nhost: a\n{field}: 1")), body, "{field}");
    }
    assert_eq!(met(&world, "GET /regex/ HTTP/1.1\nhost: a\nx-r: a"), "after");
}

/// One of the delegate's matches may fit several of the rule that delegates, and holds within each of these.
#[test]
fn a_match_of_a_delegate_holds_within_every_match_that_it_fits() {
    let world = World::gateway(&[
        rules(&[
            "{match: [{uri: {prefix: /a}}, {uri: {prefix: /b}, headers: {x-b: {exact: '1'}}}], delegate: {name: d}}",
            &own("after", "{uri: {prefix: /}}"),
        ]),
        virtual_service(
            "d",
            &format!(
                "http: [{}, {}]",
                own("one", "{uri: {prefix: /a/1}}"),
                own("both", "{method: {exact: GET}}")
            ),
        ),
    ]);
    for (request, body) in [
        ("GET /a/1 HTTP/1.1\nhost: x", "one"),
        ("GET /a/2 HTTP/1.1\nhost: x", "both"),
        ("GET /b HTTP/1.1\nhost: x\nx-b: 1", "both"),
        ("GET /b HTTP/1.1\nhost: x", "after"),
        ("GET /c HTTP/1.1\nhost: x\nx-b: 1", "after"),
    ] {
        assert_eq!(met(&world, request), body, "{request}");
    }
}
