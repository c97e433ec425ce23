//! Which virtual host and which rule a request meets (routing §4).

use super::world::{Options, World, rules};
use crate::support::virtual_service;

/// A rule that answers with its name.
pub(super) fn rule((name, matches): (&str, &str)) -> String {
    let matches = if matches.is_empty() { String::new() } else { format!("match: [{matches}], ") };
    format!("{{name: {name}, {matches}directResponse: {{status: 200, body: {{string: {name}}}}}}}")
}

/// A VirtualService of the gateway whose rules answer with their names.
pub(super) fn answering(name: &str, hosts: &str, named: &[(&str, &str)]) -> String {
    let http: Vec<_> = named.iter().map(|named| rule(*named)).collect();
    virtual_service(name, &format!("hosts: [{hosts}], gateways: [gw], http: [{}]", http.join(", ")))
}

/// Asks for each and compares the bodies, which name what was met; without one the status.
pub(super) fn expect(world: &World, cases: &[(&str, &str)]) {
    let met: Vec<_> = cases
        .iter()
        .map(|(request, _)| {
            let answer = world.send(&format!("{request}\n\n"));
            (*request, if answer.body.is_empty() { answer.status().to_string() } else { answer.body })
        })
        .collect();
    let met: Vec<_> = met.iter().map(|(request, met)| (*request, met.as_str())).collect();
    assert_eq!(met, cases);
}

#[test]
fn the_most_specific_host_is_met_whatever_its_port_case_and_last_dot() {
    let only = |name: &str, host: &str, path: &str| {
        answering(name, host, &[(name, &format!("{{uri: {{prefix: {path}}}}}"))])
    };
    let world = World::gateway(&[
        only("exact", "a.foo.com", "/a"),
        only("long", "'*.b.foo.com'", "/"),
        only("short", "'*.foo.com'", "/"),
        only("address", "'10.1.2.3'", "/"),
        only("six", "'fd00::1'", "/"),
    ]);
    expect(
        &world,
        &[
            ("GET /a HTTP/1.1\nhost: a.foo.com", "exact"),
            ("GET /a HTTP/1.1\nhost: a.foo.com:8080", "exact"),
            ("GET /a HTTP/1.1\nhost: A.Foo.COM", "exact"),
            ("GET /a HTTP/1.1\nhost: a.foo.com.", "exact"),
            ("GET /a HTTP/1.1\nhost: a.foo.com.:80", "exact"),
            // No fall-through to the wildcard host.
            ("GET /b HTTP/1.1\nhost: a.foo.com", "404"),
            ("GET /b HTTP/1.1\nhost: x.foo.com", "short"),
            ("GET /b HTTP/1.1\nhost: x.y.foo.com", "short"),
            ("GET /b HTTP/1.1\nhost: x.b.foo.com", "long"),
            ("GET /b HTTP/1.1\nhost: b.foo.com", "short"),
            ("GET / HTTP/1.1\nhost: foo.com", "404"),
            ("GET / HTTP/1.1\nhost: 10.1.2.3:80", "address"),
            ("GET / HTTP/1.1\nhost: [fd00::1]:80", "six"),
            ("GET / HTTP/1.1\nhost: [fd00::1]", "six"),
        ],
    );
    let answer = world.send("GET /b HTTP/1.1\nhost: a.foo.com\nx-case: no-route\n\n");
    assert_eq!((answer.status(), answer.body.as_str()), (404, ""));
    assert!(world.logged("no-route").starts_with("404 NR route_not_found - /b"));
    world.send("GET /b HTTP/1.1\nhost: nobody.com\nx-case: no-host\n\n");
    assert!(world.logged("no-host").starts_with("404 NR route_not_found - /b"));
}

#[test]
fn any_host_is_the_last_resort() {
    let world = World::gateway(&[
        answering("named", "a.com", &[("named", "")]),
        answering("any", "'*'", &[("any", "")]),
    ]);
    expect(&world, &[("GET / HTTP/1.1\nhost: a.com", "named"), ("GET / HTTP/1.1\nhost: b.com", "any")]);
}

#[test]
fn rules_are_tried_in_order_and_end_with_the_first_that_takes_everything() {
    let world = World::gateway(&[rules(&[
        &rule(("either", "{uri: {exact: /one}}, {uri: {exact: /two}}")),
        // A method is a condition: what follows is still reached.
        &rule(("put", "{uri: {prefix: /}, method: {exact: PUT}}")),
        &rule(("regex", "{uri: {regex: '/x.*'}}")),
        &rule(("rest", "{uri: {prefix: /}}")),
        &rule(("never", "{uri: {exact: /three}}")),
    ])]);
    expect(
        &world,
        &[
            ("GET /one HTTP/1.1\nhost: a", "either"),
            ("GET /two HTTP/1.1\nhost: a", "either"),
            ("PUT /three HTTP/1.1\nhost: a\ncontent-length: 0", "put"),
            ("GET /xyz HTTP/1.1\nhost: a", "regex"),
            ("GET /three HTTP/1.1\nhost: a", "rest"),
        ],
    );
}

/// Two VirtualServices for one host of a gateway, of which the older one is read last.
#[test]
fn rules_for_one_host_follow_each_other_by_age_and_catch_alls_come_last() {
    let older = answering(
        "z@2025-01-01T00:00:00Z",
        "a.com",
        &[("older-api", "{uri: {prefix: /api}}"), ("older-all", "")],
    );
    let younger = answering(
        "a@2026-01-01T00:00:00Z",
        "a.com",
        &[
            ("younger-v2", "{uri: {prefix: /api/v2}}"),
            ("younger-own", "{uri: {prefix: /own}}"),
            ("younger-all", ""),
        ],
    );
    let world = World::gateway(&[younger, older]);
    expect(
        &world,
        &[
            ("GET /api/v2 HTTP/1.1\nhost: a.com", "older-api"),
            ("GET /own HTTP/1.1\nhost: a.com", "younger-own"),
            ("GET /else HTTP/1.1\nhost: a.com", "older-all"),
        ],
    );
    let log = world.log();
    assert!(log.contains("is never reached for host a.com"), "{log}");
}

#[test]
fn the_narrowest_path_goes_first_where_that_is_asked_for() {
    let older = answering("z@2025-01-01T00:00:00Z", "a.com", &[("all", "")]);
    let api = answering(
        "y@2025-02-01T00:00:00Z",
        "a.com",
        &[
            ("root-get", "{method: {exact: PUT}}"),
            ("api", "{uri: {prefix: /api}}"),
            ("api-again", "{uri: {prefix: /api}, headers: {x-a: {exact: '1'}}}"),
            ("expression", "{uri: {regex: '/api/[a-z]+/e'}}"),
        ],
    );
    let younger = answering(
        "a@2026-01-01T00:00:00Z",
        "a.com",
        &[
            ("v2", "{uri: {prefix: /api/v2}}"),
            ("whole", "{uri: {exact: /api/v2/x}}"),
            ("late", "{uri: {prefix: /api}}"),
        ],
    );
    let variables = &[("POSTERN_LONGEST_PREFIX_FIRST", "true")];
    let world = World::start(&[younger, older, api], &Options { variables, ..Options::default() });
    expect(
        &world,
        &[
            ("GET /api/v2/x HTTP/1.1\nhost: a.com", "whole"),
            ("GET /api/v2/y HTTP/1.1\nhost: a.com", "v2"),
            ("GET /api/v3/e HTTP/1.1\nhost: a.com", "api"),
            ("GET /api/v/e HTTP/1.1\nhost: a.com", "expression"),
            ("GET /api HTTP/1.1\nhost: a.com", "api"),
            ("GET /api HTTP/1.1\nhost: a.com\nx-a: 1", "api-again"),
            ("PUT /else HTTP/1.1\nhost: a.com", "root-get"),
            ("GET /else HTTP/1.1\nhost: a.com", "all"),
        ],
    );
    let log = world.log();
    assert_eq!(log.matches("is never reached for host a.com").count(), 1, "{log}");
}

#[test]
fn expressions_that_match_everything_come_last_unless_they_have_conditions() {
    let matches = |method: &str| format!("{{uri: {{regex: '.*'}}{method}}}");
    let older = answering(
        "z@2025-01-01T00:00:00Z",
        "a.com",
        &[("older-put", &matches(", method: {exact: PUT}")), ("older-all", &matches(""))],
    );
    let younger = answering("a@2026-01-01T00:00:00Z", "a.com", &[("younger-own", "{uri: {prefix: /own}}")]);
    let world = World::gateway(&[younger, older]);
    expect(
        &world,
        &[
            ("PUT /own HTTP/1.1\nhost: a.com\ncontent-length: 0", "older-put"),
            ("GET /own HTTP/1.1\nhost: a.com", "younger-own"),
            ("GET /else HTTP/1.1\nhost: a.com", "older-all"),
        ],
    );
}

#[test]
fn paths_match_without_their_query_plainly_in_part_or_whole() {
    let world = World::gateway(&[rules(&[
        &rule(("exact", "{uri: {exact: /exact}}")),
        &rule(("exact-any-case", "{uri: {exact: /Shout}, ignoreUriCase: true}")),
        &rule(("prefix", "{uri: {prefix: /foo}}")),
        &rule(("prefix-any-case", "{uri: {prefix: /LOUD}, ignoreUriCase: true}")),
        // The case of expressions always counts.
        &rule(("regex", "{uri: {regex: '/r/[a-z]+'}, ignoreUriCase: true}")),
    ])]);
    expect(
        &world,
        &[
            ("GET /exact?a=/foo HTTP/1.1\nhost: a", "exact"),
            ("GET /exact/ HTTP/1.1\nhost: a", "404"),
            ("GET /Exact HTTP/1.1\nhost: a", "404"),
            ("GET /sHOUT HTTP/1.1\nhost: a", "exact-any-case"),
            ("GET /foobar?x HTTP/1.1\nhost: a", "prefix"),
            ("GET /FOO HTTP/1.1\nhost: a", "404"),
            ("GET /loudest HTTP/1.1\nhost: a", "prefix-any-case"),
            ("GET /r/abc?q=1 HTTP/1.1\nhost: a", "regex"),
            ("GET /r/abc/d HTTP/1.1\nhost: a", "404"),
            ("GET /x/r/abc HTTP/1.1\nhost: a", "404"),
            ("GET /r/ABC HTTP/1.1\nhost: a", "404"),
            // What is matched is the path as it is normalised.
            ("GET /x/../exact HTTP/1.1\nhost: a", "exact"),
        ],
    );
}

#[test]
fn scheme_method_and_authority_match_as_they_came() {
    let world = World::gateway(&[rules(&[
        &rule(("https", "{scheme: {exact: https}}")),
        &rule(("put", "{method: {exact: PUT}}")),
        &rule(("p", "{method: {regex: 'P.*'}}")),
        &rule(("with-port", "{authority: {exact: 'a.com:8080'}}")),
        &rule(("authority", "{authority: {prefix: a.}}")),
        &rule(("http", "{scheme: {prefix: ht}, authority: {regex: '[b-d][.]com'}}")),
    ])]);
    expect(
        &world,
        &[
            ("PUT / HTTP/1.1\nhost: x\ncontent-length: 0", "put"),
            ("PATCH / HTTP/1.1\nhost: x\ncontent-length: 0", "p"),
            ("put / HTTP/1.1\nhost: x\ncontent-length: 0", "404"),
            ("GET / HTTP/1.1\nhost: a.com:8080", "with-port"),
            ("GET / HTTP/1.1\nhost: a.com", "authority"),
            ("GET / HTTP/1.1\nhost: c.com", "http"),
            ("GET / HTTP/1.1\nhost: C.com", "404"),
            ("GET / HTTP/1.1\nhost: c.com:80", "404"),
            // A client of a gateway does not say how it came.
            ("GET / HTTP/1.1\nhost: x\nx-forwarded-proto: https", "404"),
        ],
    );
}

#[test]
fn header_conditions_hold_when_one_line_of_the_name_fits() {
    let world = World::gateway(&[rules(&[
        &rule(("both", "{headers: {x-a: {exact: '1'}, x-b: {prefix: b}}}")),
        &rule(("list", "{headers: {x-list: {exact: 'one,two'}}}")),
        &rule(("line", "{headers: {x-list: {regex: 'o.e|t'}}}")),
        &rule(("expression", "{headers: {x-a: {regex: '[0-9]+'}}}")),
        &rule(("present", "{headers: {x-present: {}}}")),
        &rule(("star", "{headers: {x-star: {regex: '*'}}}")),
        // Keys that the documents say are ignored are names like others.
        &rule(("named-method", "{headers: {method: {exact: m}}}")),
        &rule(("without", "{headers: {x-w: {}}, withoutHeaders: {x-v: {exact: no}, x-u: {}}}")),
        &rule(("without-any", "{headers: {x-k: {}}, withoutHeaders: {x-l: {regex: '*'}}}")),
        // What is missing is empty text, which this expression matches.
        &rule(("never", "{headers: {x-m: {}}, withoutHeaders: {x-n: {regex: '.*'}}}")),
    ])]);
    expect(
        &world,
        &[
            ("GET / HTTP/1.1\nhost: a\nX-A: 1\nX-B: bcd", "both"),
            ("GET / HTTP/1.1\nhost: a\nx-b: bcd", "404"),
            ("GET / HTTP/1.1\nhost: a\nx-list: one,two", "list"),
            ("GET / HTTP/1.1\nhost: a\nx-list: one\nX-List: two", "line"),
            ("GET / HTTP/1.1\nhost: a\nx-list: two\nx-list: one", "line"),
            ("GET / HTTP/1.1\nhost: a\nx-list: two\nx-list: two", "404"),
            ("GET / HTTP/1.1\nhost: a\nx-a: 123", "expression"),
            ("GET / HTTP/1.1\nhost: a\nx-a: 123b", "404"),
            ("GET / HTTP/1.1\nhost: a\nx-present: ", "present"),
            ("GET / HTTP/1.1\nhost: a\nx-star: x", "star"),
            ("GET / HTTP/1.1\nhost: a\nmethod: m", "named-method"),
            ("GET / HTTP/1.1\nhost: a\nx-w: 1", "without"),
            ("GET / HTTP/1.1\nhost: a\nx-w: 1\nx-v: yes", "without"),
            ("GET / HTTP/1.1\nhost: a\nx-w: 1\nx-v: no", "404"),
            ("GET / HTTP/1.1\nhost: a\nx-w: 1\nx-v: yes\nx-v: no", "404"),
            ("GET / HTTP/1.1\nhost: a\nx-w: 1\nx-u: ", "404"),
            ("GET / HTTP/1.1\nhost: a\nx-k: 1", "without-any"),
            ("GET / HTTP/1.1\nhost: a\nx-k: 1\nx-l: ", "404"),
            ("GET / HTTP/1.1\nhost: a\nx-m: 1", "404"),
            ("GET / HTTP/1.1\nhost: a\nx-m: 1\nx-n: 1", "404"),
        ],
    );
}

#[test]
fn query_conditions_hold_for_the_first_value_as_it_is_written() {
    let world = World::gateway(&[rules(&[
        &rule(("exact", "{queryParams: {q: {exact: a%20b}}}")),
        &rule(("prefix", "{queryParams: {p: {prefix: v}}}")),
        &rule(("regex", "{queryParams: {r: {regex: '[0-9]+'}}}")),
        &rule(("present", "{queryParams: {here: {}}}")),
    ])]);
    expect(
        &world,
        &[
            ("GET /?q=a%20b HTTP/1.1\nhost: a", "exact"),
            ("GET /?x=1&q=a%20b&q=c HTTP/1.1\nhost: a", "exact"),
            ("GET /?q=c&q=a%20b HTTP/1.1\nhost: a", "404"),
            ("GET /?q=a+b HTTP/1.1\nhost: a", "404"),
            ("GET /?p=v2 HTTP/1.1\nhost: a", "prefix"),
            ("GET /?r=12 HTTP/1.1\nhost: a", "regex"),
            ("GET /?r=12b HTTP/1.1\nhost: a", "404"),
            ("GET /?here HTTP/1.1\nhost: a", "present"),
            ("GET /?here= HTTP/1.1\nhost: a", "present"),
            ("GET /?Here=1 HTTP/1.1\nhost: a", "404"),
        ],
    );
}

#[test]
fn ports_labels_and_gateways_decide_which_rules_there_are() {
    let world = World::gateway(&[rules(&[
        &rule(("other-port", "{uri: {prefix: /port}, port: 1}")),
        &rule(("other-label", "{uri: {prefix: /label}, sourceLabels: {app: other}}")),
        &rule(("labels", "{uri: {prefix: /label}, sourceLabels: {app: client, version: v1}}")),
        &rule(("other-namespace", "{uri: {prefix: /namespace}, sourceNamespace: prod}")),
        &rule(("namespace", "{uri: {prefix: /namespace}, sourceNamespace: default}")),
        // With gateways, labels do not count.
        &rule(("gateways", "{uri: {prefix: /gateways}, gateways: [gw], sourceLabels: {app: other}}")),
        &rule(("mesh", "{uri: {prefix: /mesh}, gateways: [mesh]}")),
        // One of them is enough.
        &rule(("one", "{uri: {prefix: /one}, port: 1}, {uri: {prefix: /two}}")),
    ])]);
    expect(
        &world,
        &[
            ("GET /port HTTP/1.1\nhost: a", "404"),
            ("GET /label HTTP/1.1\nhost: a", "labels"),
            ("GET /namespace HTTP/1.1\nhost: a", "namespace"),
            ("GET /gateways HTTP/1.1\nhost: a", "gateways"),
            ("GET /mesh HTTP/1.1\nhost: a", "404"),
            ("GET /one HTTP/1.1\nhost: a", "404"),
            ("GET /two HTTP/1.1\nhost: a", "one"),
        ],
    );
}

#[test]
fn routes_are_called_by_their_rule_and_match_in_the_log() {
    let world = World::gateway(&[rules(&[
        "{name: rule, match: [{name: match, uri: {prefix: /both}}, {uri: {prefix: /rule}}], directResponse: {status: 200}}",
        "{match: [{name: match, uri: {prefix: /match}}], directResponse: {status: 200}}",
        "{match: [{uri: {prefix: /none}}], directResponse: {status: 200}}",
    ])]);
    for (path, name) in [("/both", "rule.match"), ("/rule", "rule"), ("/match", "match"), ("/none", "-")] {
        world.send(&format!("GET {path} HTTP/1.1\nhost: a\nx-case: {path}\n\n"));
        assert_eq!(world.logged(path).split(' ').nth(3), Some(name), "{path}");
    }
}
