//! Copies of requests (routing §5.9).

use std::time::Duration;

use super::world::{Options, World, rules};
use crate::support::{Endpoint, service};

#[test]
fn copies_are_made_of_what_the_rule_makes_of_a_request_and_nobody_waits_for_them() {
    let (app, copy, more) =
        (Endpoint::named("app"), Endpoint::held("copy", 200), Endpoint::held("more", 200));
    let world = World::gateway(&[
        service("app", &app),
        service("copy", &copy),
        service("more", &more),
        rules(&[
            "{match: [{uri: {prefix: /one}}], rewrite: {uri: /new}, headers: {request: {set: {x-a: a}}}, \
             route: [{destination: {host: app}}], mirror: {host: copy}}",
            "{match: [{uri: {prefix: /two}}], route: [{destination: {host: app}}], \
             mirrors: [{destination: {host: copy}}, {destination: {host: more}, percentage: {value: 100}}]}",
            "{match: [{uri: {prefix: /none}}], route: [{destination: {host: app}}], mirror: {host: copy}, \
             mirrorPercentage: {value: 0}}",
            "{match: [{uri: {prefix: /old-none}}], route: [{destination: {host: app}}], mirror: {host: copy}, \
             mirrorPercent: 0}",
            "{match: [{uri: {prefix: /old-all}}], route: [{destination: {host: app}}], mirror: {host: more}, \
             mirrorPercent: 100}",
        ]),
    ]);
    let answer = world.send("POST /one/x HTTP/1.1\nhost: a.com\ncontent-length: 4\n\nbody");
    assert_eq!(answer.body, "app");
    let copied = &copy.await_asked(1)[0];
    assert_eq!((copied.asks_for(), copied.body.as_str()), ("POST /new/x", "body"));
    assert_eq!((copied.field("host"), copied.field("x-a")), (Some("a.com"), Some("a")));
    assert_eq!(world.get("/two").body, "app");
    assert_eq!((copy.await_asked(2).len(), more.await_asked(1).len()), (2, 1));
    for _ in 0..50 {
        assert_eq!(world.get("/none").body, "app");
        assert_eq!(world.get("/old-none").body, "app");
    }
    assert_eq!((app.asked().len(), copy.asked().len()), (102, 2));
    assert_eq!(world.get("/old-all").body, "app");
    assert_eq!(more.await_asked(2)[1].asks_for(), "GET /old-all");
}

#[test]
fn a_share_of_requests_is_copied_and_large_bodies_are_not() {
    let (app, half, all) = (Endpoint::named("app"), Endpoint::named("half"), Endpoint::named("all"));
    let world = World::gateway(&[
        service("app", &app),
        service("half", &half),
        service("all", &all),
        rules(&[
            "{match: [{uri: {prefix: /half}}], route: [{destination: {host: app}}], mirror: {host: half}, \
             mirrorPercentage: {value: 50}}",
            "{route: [{destination: {host: app}}], mirror: {host: all}}",
        ]),
    ]);
    for _ in 0..200 {
        assert_eq!(world.get("/half").body, "app");
    }
    half.await_asked(60);
    // Too many would show a little later.
    std::thread::sleep(Duration::from_millis(300));
    assert!(half.requests() <= 140, "{} of 200", half.requests());
    let large = "x".repeat(1_100_000);
    let request = format!("POST / HTTP/1.1\nhost: a\ncontent-length: {}\n\n{large}", large.len());
    assert_eq!(world.send(&request).body, "app");
    // What comes after it is copied, so that it would have been, too.
    assert_eq!(world.get("/after").body, "app");
    assert_eq!(all.await_asked(1)[0].asks_for(), "GET /after");
}

#[test]
fn copies_are_marked_where_that_is_asked_for() {
    let (app, copy) = (Endpoint::named("app"), Endpoint::named("copy"));
    let resources = [
        service("app", &app),
        service("copy", &copy),
        rules(&["{route: [{destination: {host: app}}], mirror: {host: copy}}"]),
    ];
    let variables = [("DISABLE_SHADOW_HOST_SUFFIX", "false")];
    let world = World::start(&resources, &Options { variables: &variables, ..Options::default() });
    world.send("GET / HTTP/1.1\nhost: a.com:80\n\n");
    assert_eq!(copy.await_asked(1)[0].field("host"), Some("a.com-shadow:80"));
    assert_eq!(app.last().field("host"), Some("a.com:80"));
}
