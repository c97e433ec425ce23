use super::*;

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
