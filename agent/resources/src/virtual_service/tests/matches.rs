use super::*;

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
