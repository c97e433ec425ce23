//! What rules change in the fields of requests and answers (routing §5.5).

use std::net::SocketAddr;

use super::world::{World, rules};
use crate::support::{Endpoint, Message, service};

/// An endpoint whose answers say which fields they had.
fn upstream() -> Endpoint {
    Endpoint::answering(|_, _| {
        "HTTP/1.1 200 X\r\ncontent-length: 0\r\nx-gone: 1\r\nX-Old: of upstream\r\nx-more: first\r\n\r\n"
            .to_owned()
    })
}

/// What a rule with these `headers`, and a destination with those, makes of a request and of its answer.
fn changed(of_rule: &str, of_destination: &str, weighted: bool) -> (Message, Message, u16) {
    let upstream = upstream();
    let destination = format!("{{destination: {{host: app}}, weight: 1, headers: {{{of_destination}}}}}");
    let more = if weighted { ", {destination: {host: app}, weight: 0}" } else { "" };
    let rule = format!("{{route: [{destination}{more}], headers: {{{of_rule}}}}}");
    let world = World::gateway(&[service("app", &upstream), rules(&[&rule])]);
    let answer =
        world.send("GET /path?q HTTP/1.1\nhost: app:80\nX-Gone: 1\nX-Old: old\nx-more: first\nx-kept: k\n\n");
    (upstream.last(), answer, upstream.port())
}

#[test]
fn fields_are_removed_then_set_then_added_in_both_directions() {
    let edits =
        "remove: [x-gone, x-more], set: {x-old: new, x-b: b, x-a: a}, add: {x-more: added, x-old: further}";
    let edits = format!("request: {{{edits}}}, response: {{{edits}}}");
    for weighted in [false, true] {
        let (request, answer, _) = changed(&edits, "", weighted);
        for message in [&request, &answer] {
            assert_eq!(message.field("x-gone"), None, "{message:?}");
            assert_eq!(message.fields("x-old"), ["new", "further"], "{message:?}");
            assert_eq!(message.fields("x-more"), ["added"], "{message:?}");
            let place = |name: &str| message.head.find(name).unwrap();
            assert!(place("x-a: a") < place("x-b: b"), "sorted by name: {message:?}");
        }
        assert_eq!(request.field("x-kept"), Some("k"));
    }
}

#[test]
fn the_only_destination_has_the_last_word_and_among_several_the_rule_has() {
    let of = |who: &str| format!("request: {{set: {{x-who: {who}}}}}, response: {{set: {{x-who: {who}}}}}");
    for (weighted, last) in [(false, "destination"), (true, "rule")] {
        let (request, answer, _) = changed(&of("rule"), &of("destination"), weighted);
        assert_eq!((request.field("x-who"), answer.field("x-who")), (Some(last), Some(last)), "{weighted}");
    }
}

#[test]
fn the_host_in_request_edits_is_an_authority_rewrite() {
    for (edits, host) in [
        ("request: {set: {Host: set.example}}", "set.example"),
        ("request: {set: {':authority': set.example}}", "set.example"),
        ("request: {add: {host: added.example}}", "added.example"),
        ("request: {set: {host: set.example}, add: {host: added.example}}", "set.example"),
    ] {
        let (request, ..) = changed(edits, "", false);
        assert_eq!(request.fields("host"), [host], "{edits}");
        assert_eq!(request.field("x-envoy-original-host"), Some("app:80"), "{edits}");
    }
    let (request, ..) = changed("", "request: {set: {host: of.destination}}", false);
    assert_eq!(request.fields("host"), ["of.destination"]);
}

#[test]
fn values_may_hold_what_envoy_knows_of_the_request() {
    let operators = [
        ("req", "'%REQ(x-old)%'", "old"),
        ("path", "'%REQ(:PATH)%'", "/path?q"),
        ("authority", "'%REQ(:authority)%'", "app:80"),
        ("cut", "'%REQ(x-none?x-old):2%'", "ol"),
        ("percent", "'100%%'", "100%"),
        ("address", "'%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%'", "127.0.0.1"),
        ("protocol", "'%PROTOCOL%'", "HTTP/1.1"),
        ("mixed", "'a%REQ(x-old)%b%PROTOCOL%'", "aoldbHTTP/1.1"),
    ];
    let set: Vec<_> = operators.iter().map(|(name, format, _)| format!("x-{name}: {format}")).collect();
    let set = set.join(", ");
    let edits = format!(
        "request: {{set: {{{set}}}}}, response: {{set: {{{set}, x-up: '%UPSTREAM_HOST%', x-was: '%RESP(x-old)%'}}}}"
    );
    let (request, answer, port) = changed(&edits, "", false);
    for message in [&request, &answer] {
        for (name, format, value) in operators {
            assert_eq!(message.field(&format!("x-{name}")), Some(value), "{format} {message:?}");
        }
    }
    assert_eq!(answer.field("x-up"), Some(format!("127.0.0.1:{port}").as_str()));
    assert_eq!(answer.field("x-was"), Some("of upstream"));
}

/// When the request came, where the proxy is, and who asked, with the port.
#[test]
fn operators_tell_time_place_and_client() {
    let edits = "request: {set: {x-start: '%START_TIME%', x-host: '%HOSTNAME%', \
                 x-client: '%DOWNSTREAM_REMOTE_ADDRESS%'}}";
    let (request, ..) = changed(edits, "", false);
    let start = request.field("x-start").unwrap();
    let form: String = start.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(form, "0000-00-00T00:00:00.000Z");
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(request.field("x-host"), Some(hostname.trim_end()));
    let client: SocketAddr = request.field("x-client").unwrap().parse().unwrap();
    assert!(client.ip().is_loopback() && client.port() != 0, "{client}");
}
