//! Rewrites, redirects and answers of the proxy's own (routing §5.2–5.4).

use std::{
    io::Read,
    sync::{Arc, Mutex},
};

use super::world::{Options, World, rules};
use crate::support::{Endpoint, service};

/// What the endpoint is asked for, for each path asked of a proxy with these rules: `(match, rewrite, path, asked)`.
fn expect_paths(cases: &[(&str, &str, &str, &str)]) {
    let upstream = Endpoint::named("app");
    let written: Vec<_> = cases
        .iter()
        .enumerate()
        .map(|(index, (matched, rewrite, ..))| {
            let matched = matched.replace("H: ", &format!("headers: {{x-rule: {{exact: '{index}'}}}}, "));
            format!(
                "{{match: [{{{matched}}}], rewrite: {{{rewrite}}}, route: [{{destination: {{host: app}}}}]}}"
            )
        })
        .collect();
    let written: Vec<_> = written.iter().map(String::as_str).collect();
    let world = World::gateway(&[service("app", &upstream), rules(&written)]);
    for (index, (matched, rewrite, path, asked)) in cases.iter().enumerate() {
        let answer = world.send(&format!("GET {path} HTTP/1.1\nhost: app\nx-rule: {index}\n\n"));
        assert_eq!(answer.status(), 200, "{matched} {path}");
        let request = upstream.last();
        assert_eq!(request.asks_for(), format!("GET {asked}"), "{matched} {rewrite} {path}");
        assert_eq!(request.field("x-envoy-original-path"), Some(*path), "{matched} {rewrite} {path}");
    }
}

#[test]
fn paths_are_rewritten_by_how_they_were_matched() {
    expect_paths(&[
        ("H: uri: {prefix: /common}", "uri: /", "/common/api", "//api"),
        ("H: uri: {prefix: /common/}", "uri: /", "/common/api?a=/common/", "/api?a=/common/"),
        ("H: uri: {prefix: /common}", "uri: /new", "/commonly", "/newly"),
        ("H: uri: {prefix: /Common}, ignoreUriCase: true", "uri: /new", "/cOMMON/x", "/new/x"),
        ("H: uri: {exact: /exact}", "uri: /other", "/exact?q=1", "/other?q=1"),
        ("H: uri: {regex: '/r/[a-z]+'}", "uri: /whole", "/r/abc?q", "/whole?q"),
        // Nothing or `/` matched: the leading slash alone is replaced.
        ("H: method: {exact: GET}", "uri: /foo", "/test?q", "/footest?q"),
        ("H: uri: {prefix: /}", "uri: /foo/", "/test", "/foo/test"),
        ("H: uri: {prefix: /same}", "uri: /same", "/same/x", "/same/x"),
    ]);
}

#[test]
fn expressions_rewrite_every_place_where_they_match() {
    expect_paths(&[
        (
            "H: uri: {prefix: /}",
            "uriRegexRewrite: {match: '/v([0-9]+)', rewrite: '/version-\\1'}",
            "/v1/x/v22?v=/v3",
            "/version-1/x/version-22?v=/v3",
        ),
        (
            "H: uri: {prefix: /}",
            "uriRegexRewrite: {match: '^/([^/]+)/([^/]+)(.*)$', rewrite: '/\\2/\\1\\3'}",
            "/a/b/c",
            "/b/a/c",
        ),
        ("H: uri: {prefix: /}", "uriRegexRewrite: {match: 'none', rewrite: 'x'}", "/a", "/a"),
    ]);
}

#[test]
fn the_authority_is_rewritten_and_the_log_prefers_the_path_that_was_asked_for() {
    let upstream = Endpoint::named("app");
    let world = World::gateway(&[
        service("app", &upstream),
        rules(&["{match: [{uri: {prefix: /old}}], rewrite: {uri: /new, authority: 'inner.example:8080'}, \
                 route: [{destination: {host: app}}]}"]),
    ]);
    world.send("GET /old/x HTTP/1.1\nhost: outer.example\nx-case: both\n\n");
    let asked = upstream.last();
    assert_eq!((asked.asks_for(), asked.field("host")), ("GET /new/x", Some("inner.example:8080")));
    assert_eq!(asked.field("x-envoy-original-path"), Some("/old/x"));
    assert_eq!(asked.field("x-envoy-original-host"), Some("outer.example"));
    // Only where `proxyHeaders` asks for it.
    assert_eq!(asked.field("x-forwarded-host"), None);
    let line = world.logged("both");
    assert!(line.contains(" /old/x /new/x "), "{line}");
}

/// The first bytes of each connection are kept, and that is all it gets.
#[test]
fn the_server_name_of_originated_tls_is_the_authority_as_it_is_rewritten() {
    let hellos = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&hellos);
    let endpoint = Endpoint::start(move |mut client| {
        let mut hello = [0; 4096];
        let count = client.0.read(&mut hello).unwrap();
        kept.lock().unwrap().push(String::from_utf8_lossy(&hello[..count]).into_owned());
    });
    let world = World::gateway(&[
        service("app", &endpoint),
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: app}\n\
         spec: {host: app, trafficPolicy: {tls: {mode: SIMPLE}}}\n"
            .to_owned(),
        rules(&[
            "{match: [{uri: {prefix: /new}}], rewrite: {authority: 'inner.example:8443'}, retries: {attempts: 0}, \
             route: [{destination: {host: app}}]}",
            "{retries: {attempts: 0}, route: [{destination: {host: app}}]}",
        ]),
    ]);
    for (path, name, other) in
        [("/new", "inner.example", "outer.example"), ("/", "outer.example", "inner.example")]
    {
        hellos.lock().unwrap().clear();
        let answer = world.send(&format!("GET {path} HTTP/1.1\nhost: outer.example:80\n\n"));
        assert_eq!(answer.status(), 503, "no certificate was shown");
        let hellos = hellos.lock().unwrap();
        assert!(hellos.iter().all(|hello| hello.contains(name) && !hello.contains(other)), "{hellos:?}");
        assert!(!hellos.is_empty());
        // HTTP/2 is offered only where it would be spoken.
        assert!(hellos.iter().all(|hello| !hello.contains("\u{2}h2")), "{hellos:?}");
    }
}

#[test]
fn redirects_say_where_to_by_what_is_written_and_what_was_asked_for() {
    let cases = [
        // match, redirect, host, path, status, location
        ("uri: {prefix: /a0}", "uri: /new", "a.com", "/a0/x?q=1", 301, "http://a.com/new?q=1"),
        ("uri: {prefix: /a1}", "uri: '/new?own=1'", "a.com", "/a1?q=1", 301, "http://a.com/new?own=1"),
        ("uri: {prefix: /a2}", "authority: b.com", "a.com:8080", "/a2/x?q", 301, "http://b.com/a2/x?q"),
        ("uri: {prefix: /a3}", "redirectCode: 302, uri: /n", "a.com:8080", "/a3", 302, "http://a.com:8080/n"),
        ("uri: {prefix: /a4}", "redirectCode: 303, uri: /n", "a.com", "/a4", 303, "http://a.com/n"),
        ("uri: {prefix: /a5}", "redirectCode: 307, uri: /n", "a.com", "/a5", 307, "http://a.com/n"),
        ("uri: {prefix: /a6}", "redirectCode: 308, uri: /n", "a.com", "/a6", 308, "http://a.com/n"),
        ("uri: {prefix: /a7/}", "prefixRewrite: /p/", "a.com", "/a7/x?q", 301, "http://a.com/p/x?q"),
        ("uri: {prefix: /a8}", "scheme: https", "a.com:80", "/a8", 301, "https://a.com/a8"),
        ("uri: {prefix: /a9}", "scheme: https", "a.com:8080", "/a9", 301, "https://a.com:8080/a9"),
        ("uri: {prefix: /b0}", "port: 8443, scheme: https", "a.com:81", "/b0", 301, "https://a.com:8443/b0"),
        ("uri: {prefix: /b1}", "port: 443, scheme: https", "a.com:81", "/b1", 301, "https://a.com/b1"),
        ("uri: {prefix: /b2}", "port: 80", "a.com:81", "/b2", 301, "http://a.com/b2"),
        (
            "uri: {prefix: /b3}",
            "derivePort: FROM_PROTOCOL_DEFAULT, scheme: https",
            "a.com:81",
            "/b3",
            301,
            "https://a.com/b3",
        ),
        (
            "uri: {prefix: /b4}",
            "derivePort: FROM_REQUEST_PORT",
            "a.com",
            "/b4",
            301,
            "http://a.com:LISTENER/b4",
        ),
        ("uri: {prefix: /b5}", "authority: 'b.com:99'", "a.com", "/b5", 301, "http://b.com:99/b5"),
    ];
    let written: Vec<_> = cases
        .iter()
        .map(|(matched, redirect, ..)| format!("{{match: [{{{matched}}}], redirect: {{{redirect}}}}}"))
        .collect();
    let written: Vec<_> = written.iter().map(String::as_str).collect();
    let world = World::gateway(&[rules(&written)]);
    for (_, redirect, host, path, status, location) in cases {
        let answer = world.send(&format!("GET {path} HTTP/1.1\nhost: {host}\n\n"));
        let location = location.replace("LISTENER", &world.port.to_string());
        let (is, to) = (answer.status(), answer.field("location"));
        assert_eq!(
            (is, to, answer.body.as_str()),
            (status, Some(location.as_str()), ""),
            "{redirect} {host}"
        );
    }
}

#[test]
fn answers_of_the_proxys_own_have_their_status_body_and_fields() {
    let large = "x".repeat(200_000);
    let world = World::gateway(&[rules(&[
        "{match: [{uri: {prefix: /text}}], directResponse: {status: 418, body: {string: tea}}}",
        "{match: [{uri: {prefix: /bytes}}], directResponse: {status: 599, body: {bytes: dGVh}}}",
        "{match: [{uri: {prefix: /empty}}], directResponse: {status: 204}}",
        "{match: [{uri: {prefix: /json}}], directResponse: {status: 200, body: {string: '{}'}}, \
         headers: {response: {set: {content-type: application/json}, add: {x-a: '%REQ(x-q)%'}}}}",
        &format!(
            "{{match: [{{uri: {{prefix: /large}}}}], directResponse: {{status: 200, body: {{string: {large}}}}}}}"
        ),
    ])]);
    let parts = |request: &str| {
        let answer = world.send(request);
        let kind = answer.field("content-type").map(str::to_owned);
        (answer.status(), answer.body.clone(), kind, answer)
    };
    let plain = Some("text/plain".to_owned());
    let (status, body, kind, _) = parts("GET /text HTTP/1.1\nhost: a\n\n");
    assert_eq!((status, body.as_str(), &kind), (418, "tea", &plain));
    let (status, body, kind, _) = parts("GET /bytes HTTP/1.1\nhost: a\n\n");
    assert_eq!((status, body.as_str(), &kind), (599, "tea", &plain));
    let (status, body, kind, _) = parts("GET /empty HTTP/1.1\nhost: a\n\n");
    assert_eq!((status, body.as_str(), kind), (204, "", None));
    let (status, body, kind, answer) = parts("GET /json HTTP/1.1\nhost: a\nx-q: mine\n\n");
    assert_eq!((status, body.as_str(), kind.as_deref()), (200, "{}", Some("application/json")));
    assert_eq!(answer.field("x-a"), Some("mine"));
    assert_eq!(world.get("/large").body.len(), 200_000);
    let answer = world.send("HEAD /text HTTP/1.1\nhost: a\n\n");
    assert_eq!((answer.status(), answer.field("content-length")), (418, Some("3")));
}

/// Where what came before the proxy spoke TLS with the client.
#[test]
fn redirects_to_clear_text_leave_out_the_port_of_https() {
    const TRUSTING: &str = "defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}";
    let options = Options { mesh: TRUSTING, ..Options::default() };
    let world = World::start(&[rules(&["{redirect: {scheme: http}}"])], &options);
    for (came_by, host, location) in [
        ("https", "a.com:443", "http://a.com/x"),
        ("https", "a.com:8443", "http://a.com:8443/x"),
        ("http", "a.com:443", "http://a.com:443/x"),
    ] {
        let answer = world.send(&format!("GET /x HTTP/1.1\nhost: {host}\nx-forwarded-proto: {came_by}\n\n"));
        assert_eq!(answer.field("location"), Some(location), "{came_by} {host}");
    }
}

#[test]
fn answers_of_the_proxys_own_are_told_to_grpc_in_its_words() {
    let statuses =
        [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14), (500, 2)];
    let written = statuses.map(|(status, _)| {
        format!("{{match: [{{uri: {{prefix: /{status}}}}}], directResponse: {{status: {status}, body: {{string: '5 % of é'}}}}}}")
    });
    let world = World::gateway(&[rules(&written.each_ref().map(String::as_str))]);
    for (status, of_grpc) in statuses {
        let answer = world.send(&format!(
            "POST /{status} HTTP/1.1\nhost: a\ncontent-type: application/grpc\ncontent-length: 0\n\n"
        ));
        let told =
            ["content-type", "grpc-status", "grpc-message"].map(|name| answer.field(name).map(str::to_owned));
        let expected =
            ["application/grpc".to_owned(), of_grpc.to_string(), "5 %25 of %C3%A9".to_owned()].map(Some);
        assert_eq!((answer.status(), answer.body.as_str(), told), (200, "", expected), "{status}");
    }
}
