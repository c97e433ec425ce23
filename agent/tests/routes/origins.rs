//! Requests across origins (routing §5.10).

use super::world::{World, rules};
use crate::support::{Endpoint, Message, service};

const ALLOWED: [&str; 6] = ["origin", "methods", "headers", "max-age", "credentials", "expose-headers"];

/// The fields `access-control-…` of an answer, in the order of [`ALLOWED`].
fn told(answer: &Message) -> [Option<String>; 6] {
    ALLOWED.map(|name| {
        let name = if name == "max-age" || name == "expose-headers" {
            format!("access-control-{name}")
        } else {
            format!("access-control-allow-{name}")
        };
        let found = answer.fields(&name);
        assert!(found.len() < 2, "{answer:?}");
        found.first().map(|value| (*value).to_owned())
    })
}

fn some(values: [&str; 6]) -> [Option<String>; 6] {
    values.map(|value| (!value.is_empty()).then(|| value.to_owned()))
}

#[test]
fn preflights_are_answered_here_and_other_answers_name_the_origin() {
    let upstream = Endpoint::answering(|_, _| {
        "HTTP/1.1 200 X\r\ncontent-length: 3\r\naccess-control-allow-origin: *\r\n\r\napp".to_owned()
    });
    let policy = "allowOrigins: [{exact: 'https://a'}, {prefix: 'https://p.'}, {regex: 'https://r[0-9]'}], \
                  allowMethods: [GET, PUT], allowHeaders: [x-a, x-b], exposeHeaders: [x-c, x-d], maxAge: 60s, \
                  allowCredentials: true";
    let world = World::gateway(&[
        service("app", &upstream),
        rules(&[
            &format!(
                "{{match: [{{uri: {{prefix: /ignore}}}}], corsPolicy: {{{policy}, unmatchedPreflights: IGNORE}}, \
                 route: [{{destination: {{host: app}}}}]}}"
            ),
            &format!(
                "{{match: [{{uri: {{prefix: /get}}, method: {{exact: GET}}}}], corsPolicy: {{{policy}}}, \
                 route: [{{destination: {{host: app}}}}]}}"
            ),
            "{match: [{uri: {prefix: /old}}], corsPolicy: {allowOrigin: ['https://o', '*']}, route: [{destination: {host: app}}]}",
            &format!(
                "{{match: [{{uri: {{prefix: /}}}}], corsPolicy: {{{policy}}}, route: [{{destination: {{host: app}}}}]}}"
            ),
        ]),
    ]);
    let preflight = |path: &str, origin: &str| {
        let asked = upstream.asked().len();
        let answer = world.send(&format!(
            "OPTIONS {path} HTTP/1.1\nhost: a\norigin: {origin}\naccess-control-request-method: PUT\n\n"
        ));
        (answer, upstream.asked().len() > asked)
    };
    for origin in ["https://a", "https://p.com", "https://r1"] {
        let (answer, forwarded) = preflight("/", origin);
        assert_eq!((answer.status(), answer.body.as_str(), forwarded), (200, "", false), "{origin}");
        assert_eq!(told(&answer), some([origin, "GET,PUT", "x-a,x-b", "60", "true", "x-c,x-d"]));
    }
    for origin in ["https://b", "https://r12", "http://a"] {
        let (answer, forwarded) = preflight("/", origin);
        assert_eq!((answer.body.as_str(), forwarded), ("app", true), "{origin}");
        assert_eq!(told(&answer), some(["*", "", "", "", "", ""]), "what the endpoint says stays");
        let (answer, forwarded) = preflight("/ignore", origin);
        assert_eq!((answer.status(), answer.body.as_str(), forwarded), (200, "", false), "{origin}");
        assert_eq!(told(&answer), some([""; 6]));
    }
    // A rule for GET never sees the preflight; it meets the next one.
    assert_eq!(preflight("/get", "https://a").0.status(), 200);
    let (answer, _) = preflight("/old", "https://any");
    assert_eq!(told(&answer)[0].as_deref(), Some("https://any"));

    let actual = |origin: &str| world.send(&format!("GET / HTTP/1.1\nhost: a\norigin: {origin}\n\n"));
    assert_eq!(told(&actual("https://a")), some(["https://a", "", "", "", "true", "x-c,x-d"]));
    assert_eq!(told(&actual("https://b")), some(["*", "", "", "", "", ""]));
    // Without the method that is asked for it is no preflight.
    let answer = world.send("OPTIONS / HTTP/1.1\nhost: a\norigin: https://a\n\n");
    assert_eq!(answer.body, "app");
}

/// A preflight is answered though every request is aborted or held up.
#[test]
fn preflights_are_answered_before_faults_are_injected() {
    let ruled = |path: &str, fault: &str| {
        format!(
            "{{match: [{{uri: {{prefix: {path}}}}}], fault: {{{fault}}}, route: [{{destination: {{host: app}}}}], \
             corsPolicy: {{allowOrigins: [{{exact: 'https://a'}}], allowMethods: [PUT]}}}}"
        )
    };
    let world = World::gateway(&[
        service("app", &Endpoint::named("app")),
        rules(&[
            &ruled("/abort", "abort: {httpStatus: 418, percentage: {value: 100}}"),
            // Longer than anybody here waits.
            &ruled("/", "delay: {fixedDelay: 3600s, percentage: {value: 100}}"),
        ]),
    ]);
    for path in ["/abort", "/"] {
        let answer = world.send(&format!(
            "OPTIONS {path} HTTP/1.1\nhost: x\norigin: https://a\naccess-control-request-method: PUT\n\n"
        ));
        assert_eq!(
            (answer.status(), answer.field("access-control-allow-methods")),
            (200, Some("PUT")),
            "{path}"
        );
    }
    assert_eq!(
        world.send("PUT /abort HTTP/1.1\nhost: x\norigin: https://a\ncontent-length: 0\n\n").status(),
        418
    );
}
