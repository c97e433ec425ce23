//! `loadBalancer`, subsets and levels of policies: which endpoint is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use super::gateway::{Gateway, app, entry, ruled};
use crate::support::{Client, Endpoint, eventually};

/// Who answers so many requests, and how often.
pub(super) fn shares(client: &mut Client, path: &str, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(client.get(path).body).or_default() += 1;
    }
    counts
}

#[test]
fn endpoints_share_requests_as_the_balancer_has_it() {
    let (a, b) = (Endpoint::named("a"), Endpoint::named("b"));
    let addresses = [a.address, b.address];
    for (balancer, is_even) in [
        ("{simple: ROUND_ROBIN}", true),
        ("{simple: RANDOM}", false),
        ("{simple: LEAST_REQUEST}", false),
        ("{simple: LEAST_CONN}", false),
        ("{simple: UNSPECIFIED}", false),
    ] {
        let gateway = Gateway::start(&app(&addresses, &format!("{{loadBalancer: {balancer}}}")));
        let counts = shares(&mut gateway.client(), "/", 60);
        let (one, two) = (counts["a"], counts["b"]);
        assert!(one >= 10 && two >= 10, "{balancer}: {counts:?}");
        assert!(!is_even || one == two, "{balancer}: {counts:?}");
    }
}

/// The default is the less busy of two: while one endpoint is stuck the other gets most requests.
#[test]
fn busy_endpoints_are_asked_less() {
    let shared = |policy: &str| {
        let (stuck, free) = (Endpoint::held("stuck", 200), Endpoint::named("free"));
        let gateway = Gateway::start(&app(&[stuck.address, free.address], policy));
        let mut clients: Vec<Client> = (0..40).map(|_| gateway.client()).collect();
        for client in &mut clients {
            let asked = || stuck.requests() + free.requests();
            let before = asked();
            client.ask("/", "");
            eventually("it is under way", || asked() > before);
        }
        stuck.requests()
    };
    // At random it would be twenty of them.
    let stuck = shared("{connectionPool: {http: {maxRetries: 9}}}");
    assert!((1..=14).contains(&stuck), "{stuck}");
    assert_eq!(shared("{loadBalancer: {simple: ROUND_ROBIN}}"), 20);
}

/// An endpoint that is new gets its share little by little.
#[test]
fn new_endpoints_warm_up() {
    thread::scope(|scope| {
        for (simple, more, is_cold) in [
            ("ROUND_ROBIN", "", true),
            ("LEAST_REQUEST", "minimumPercent: 10", true),
            ("ROUND_ROBIN", "minimumPercent: 100", false),
            // The root of the time's share, of a power that leaves next to nothing to wait for.
            ("ROUND_ROBIN", "aggression: 50", false),
        ] {
            scope.spawn(move || a_new_endpoint_warms_up(simple, more, is_cold));
        }
    });
}

fn a_new_endpoint_warms_up(simple: &str, more: &str, is_cold: bool) {
    let (old, new) = (Endpoint::named("old"), Endpoint::named("new"));
    let warmup = format!("{{duration: 8s, {more}}}");
    let policy = format!("{{loadBalancer: {{simple: {simple}, warmup: {warmup}}}}}");
    let gateway = Gateway::start(&app(&[old.address], &policy));
    let mut client = gateway.client();
    // All are new when the first one is asked for the first time: it has to be warm already.
    client.get("/");
    thread::sleep(Duration::from_millis(8500));
    let before = new.requests();
    gateway.change(&app(&[old.address, new.address], &policy));
    eventually("the new endpoint is known", || {
        client.get("/");
        new.requests() > before
    });
    // A tenth of the weight is 9 of 100 requests at first, and still 22 after a second and a half.
    let counts = shares(&mut client, "/", 100);
    assert_eq!(counts["new"] <= 38, is_cold, "{policy}: {counts:?}");
    thread::sleep(Duration::from_millis(8500));
    let counts = shares(&mut client, "/", 100);
    assert!((30..=70).contains(&counts["new"]), "{policy}: {counts:?}");
}

/// Path and further fields of a request with a key.
type Keyed = fn(&str) -> (String, String);

/// Keys of every kind, by both algorithms: one key, one endpoint; many keys, many endpoints; none, any.
#[test]
fn equal_keys_meet_one_endpoint() {
    let servers = ["a", "b", "c", "d"].map(Endpoint::named);
    let addresses = servers.each_ref().map(|server| server.address);
    let header: Keyed = |key| ("/".to_owned(), format!("x-user: {key}\r\n"));
    let cookie: Keyed = |key| ("/".to_owned(), format!("cookie: other=1; user={key}\r\n"));
    let query: Keyed = |key| (format!("/?a=b&user={key}"), String::new());
    let kinds = [
        ("httpHeaderName: x-user", header),
        ("httpCookie: {name: user, ttl: 0s}", cookie),
        ("httpQueryParameterName: user", query),
    ];
    for algorithm in ["", ", ringHash: {minimumRingSize: 64}", ", maglev: {tableSize: 251}"] {
        for (key, ask) in kinds {
            let policy = format!("{{loadBalancer: {{consistentHash: {{{key}{algorithm}}}}}}}");
            let gateway = Gateway::start(&app(&addresses, &policy));
            let mut client = gateway.client();
            let mut met = |key: &str| {
                let (path, fields) = ask(key);
                client.ask(&path, &fields).answer().body
            };
            let first: Vec<_> = (0..40).map(|user| met(&user.to_string())).collect();
            assert_eq!((0..40).map(|user| met(&user.to_string())).collect::<Vec<_>>(), first, "{policy}");
            let mut all = first;
            all.sort();
            all.dedup();
            assert_eq!(all.len(), 4, "{policy}");
            // Without a key any endpoint will do; where a cookie is made instead it is one for each connection.
            let any: BTreeSet<_> = (0..40).map(|_| gateway.client().get("/").body).collect();
            assert!(any.len() > 1, "{policy}");
        }
    }
}

#[test]
fn clients_without_the_cookie_get_one_that_leads_back() {
    let servers = ["a", "b", "c", "d"].map(Endpoint::named);
    let addresses = servers.each_ref().map(|server| server.address);
    for (cookie, attributes) in [
        ("{name: user, path: /shop, ttl: 10s}", Some("; Max-Age=10; Path=/shop; HttpOnly")),
        (
            "{name: user, ttl: 0s, attributes: [{name: SameSite, value: Strict}, {name: Secure}]}",
            Some("; SameSite=Strict; Secure; HttpOnly"),
        ),
        ("{name: user, ttl: 0s}", Some("; HttpOnly")),
        ("{name: user}", None),
    ] {
        let policy = format!("{{loadBalancer: {{consistentHash: {{httpCookie: {cookie}}}}}}}");
        let gateway = Gateway::start(&app(&addresses, &policy));
        let mut client = gateway.client();
        let answer = client.get("/");
        let set = answer.field("set-cookie");
        assert_eq!(set.and_then(|set| set.find(';').map(|end| &set[end..])), attributes, "{cookie}: {set:?}");
        let Some(set) = set else { continue };
        let own = set.split(';').next().unwrap();
        for _ in 0..10 {
            let again = client.ask("/", &format!("cookie: {own}\r\n")).answer();
            assert_eq!((&again.body, again.field("set-cookie")), (&answer.body, None), "{cookie}");
        }
    }
}

/// Labels of subsets, and whose policy acts.
#[test]
fn a_subset_has_its_endpoints_and_its_policy_only_where_a_route_names_it() {
    let (one, two) = (Endpoint::named("v1"), Endpoint::named("v2"));
    let rule = "subsets: [{name: v1, labels: {version: v1}, \
                trafficPolicy: {connectionPool: {http: {http2MaxRequests: 1}}}}, {name: all}]";
    let endpoints =
        [(one.address, "labels: {version: v1, track: a}"), (two.address, "labels: {version: v2}")];
    let gateway = Gateway::start(&ruled(endpoints, rule));
    let mut client = gateway.client();
    assert_eq!(shares(&mut client, "/subset/v1", 20), BTreeMap::from([("v1".to_owned(), 20)]));
    assert_eq!(shares(&mut client, "/", 40).len(), 2);
}

/// Whether a request is answered 503 while another one is under way.
fn is_second_refused(gateway: &Gateway, server: &Endpoint, path: &str) -> bool {
    let asked = server.requests();
    server.release(asked);
    let (mut first, mut second) = (gateway.client(), gateway.client());
    first.ask(path, "");
    server.await_asked(asked + 1);
    second.ask(path, "");
    eventually("the second is decided upon", || second.is_answered() || server.requests() > asked + 1);
    server.release(usize::MAX);
    assert_eq!(first.answer().status(), 200);
    second.answer().status() == 503
}

/// A limit of one request at each level, and whether two at once are refused at port 80.
#[test]
fn a_policy_is_overridden_block_by_block_and_at_a_port_as_a_whole() {
    const ONE: &str = "connectionPool: {http: {http2MaxRequests: 1}}";
    const OTHER: &str = "loadBalancer: {simple: RANDOM}";
    let at_port =
        |port: u16, block: &str| format!("portLevelSettings: [{{port: {{number: {port}}}, {block}}}]");
    let subset = |policy: &str| format!("subsets: [{{name: v1, labels: {{}}, trafficPolicy: {{{policy}}}}}]");
    let rule = |policy: &str, subset: &str| format!("trafficPolicy: {{{policy}}}\n  {subset}");
    for (text, path, is_limited) in [
        (rule(ONE, ""), "/", true),
        (rule(&format!("{ONE}, {}", at_port(81, OTHER)), ""), "/", true),
        // What the port leaves out is as by default, not as for the other ports.
        (rule(&format!("{ONE}, {}", at_port(80, OTHER)), ""), "/", false),
        (rule(&format!("{OTHER}, {}", at_port(80, ONE)), ""), "/", true),
        // A subset that says something else leaves the limit; one with a pool of its own replaces it.
        (rule(ONE, &subset(OTHER)), "/subset/v1", true),
        (rule(ONE, &subset("connectionPool: {http: {maxRetries: 7}}")), "/subset/v1", false),
        (rule(OTHER, &subset(ONE)), "/subset/v1", true),
        (rule(OTHER, &subset(ONE)), "/", false),
        (rule(ONE, &subset(&at_port(80, OTHER))), "/subset/v1", false),
    ] {
        let server = Endpoint::held("app", 200);
        let gateway = Gateway::start(&ruled([(server.address, "")], &text));
        assert_eq!(is_second_refused(&gateway, &server, path), is_limited, "{text} at {path}");
    }
}

#[test]
fn what_a_rule_leaves_out_is_as_the_mesh_has_it() {
    let mesh = "defaultTrafficPolicy: {connectionPool: {http: {http2MaxRequests: 1}}}\n";
    let server = Endpoint::held("app", 200);
    for (resources, refused) in [
        (entry([(server.address, "")]), true),
        (app(&[server.address], "{loadBalancer: {simple: RANDOM}}"), true),
        (app(&[server.address], "{connectionPool: {http: {http2MaxRequests: 5}}}"), false),
    ] {
        let gateway = Gateway::start_with(&resources, mesh, &[]);
        assert_eq!(is_second_refused(&gateway, &server, "/"), refused, "{resources}");
    }
}

/// Who is asked from `r1/z1/s1`, while all are well and when the nearest refuse.
#[test]
fn what_is_near_is_asked_first_where_failures_are_noticed() {
    const EJECT: &str =
        "outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 600s, maxEjectionPercent: 100}";
    let places = ["r1/z1/s1", "r1/z1/s2", "r1/z2/s1", "r2/z1/s1", "r3/z1/s1"];
    let cases: [(&str, &[&str]); 7] = [
        (EJECT, &["r1/z1/s1"]),
        ("loadBalancer: {localityLbSetting: {enabled: true}}", &places),
        (
            "outlierDetection: {consecutive5xxErrors: 1}, loadBalancer: {localityLbSetting: {enabled: false}}",
            &places,
        ),
        (
            "loadBalancer: {localityLbSetting: {distribute: [{from: r1/z1/*, to: {'r2/*': 50, r1/z2/s1: 50}}]}}",
            &["r1/z2/s1", "r2/z1/s1"],
        ),
        (
            "loadBalancer: {localityLbSetting: {distribute: [{from: '*', to: {r3/z1/s1: 100}}]}}",
            &["r3/z1/s1"],
        ),
        (
            "outlierDetection: {consecutive5xxErrors: 1}, \
             loadBalancer: {localityLbSetting: {failoverPriority: [version]}}",
            &["r2/z1/s1"],
        ),
        (
            "loadBalancer: {zoneAwareLbSetting: {enabled: true, minClusterSize: 100}}",
            &["r1/z1/s1", "r1/z1/s2", "r1/z2/s1"],
        ),
    ];
    let servers = places.map(Endpoint::named);
    let fields: Vec<String> = places
        .iter()
        .map(|place| {
            format!(
                "locality: {place}, labels: {{version: {}}}",
                if *place == "r2/z1/s1" { "v1" } else { "v2" }
            )
        })
        .collect();
    for (policy, asked) in cases {
        let endpoints = servers.iter().zip(&fields).map(|(server, fields)| (server.address, fields.as_str()));
        let resources = ruled(endpoints, &format!("trafficPolicy: {{{policy}}}"));
        let gateway =
            Gateway::start_with(&resources, "", &["--locality", "r1/z1/s1", "--labels", "version=v1"]);
        let counts = shares(&mut gateway.client(), "/", 100);
        assert_eq!(
            counts.keys().collect::<Vec<_>>(),
            asked.iter().collect::<Vec<_>>(),
            "{policy}: {counts:?}"
        );
    }
}

/// As the nearest places fail one after the other, the next take over in Istio's order.
#[test]
fn the_next_place_takes_over_when_the_nearest_fails() {
    let places = ["r1/z1/s1", "r1/z1/s2", "r1/z2/s1", "r3/z1/s1", "r2/z1/s1"];
    let mut resources = Vec::new();
    let good = places.map(Endpoint::named);
    let bad = places.map(|place| Endpoint::failing(place, 500));
    for failing in 0..places.len() {
        let endpoints: Vec<_> = (0..places.len())
            .map(|n| {
                let server = if n < failing { &bad[n] } else { &good[n] };
                (server.address, format!("locality: {}", places[n]))
            })
            .collect();
        let endpoints = endpoints.iter().map(|(address, fields)| (*address, fields.as_str()));
        resources.push(ruled(
            endpoints,
            "trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 600s, \
             maxEjectionPercent: 100}, \
             loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r3}]}}}",
        ));
    }
    for (failing, resources) in resources.iter().enumerate() {
        let gateway = Gateway::start_with(resources, "", &["--locality", "r1/z1/s1"]);
        let mut client = gateway.client();
        let asked: Vec<_> = (0..failing + 3).map(|_| client.get("/")).collect();
        let statuses: Vec<_> = asked.iter().map(|answer| answer.status()).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 500).count(), failing, "{statuses:?}");
        let order: Vec<_> = asked.iter().map(|answer| answer.body.as_str()).collect();
        assert_eq!(order[..=failing], places[..=failing]);
        assert!(order[failing..].iter().all(|place| *place == places[failing]), "{order:?}");
    }
}

/// What is tried again goes to the endpoint of the key, though it has failed and another is there.
#[test]
fn tries_of_a_request_with_a_key_stay_at_its_endpoint() {
    let servers = ["a", "b", "c"].map(|name| Endpoint::failing(name, 500));
    let addresses = servers.each_ref().map(|server| server.address);
    let policy = "{loadBalancer: {consistentHash: {httpHeaderName: x-key}}}";
    let gateway = Gateway::start(&app(&addresses, policy));
    let mut client = gateway.client();
    for key in 0..20 {
        assert_eq!(client.ask("/again", &format!("x-key: {key}\r\n")).answer().status(), 500);
    }
    let keys = servers.each_ref().map(|server| {
        let mut counts = BTreeMap::<String, usize>::new();
        for asked in server.asked() {
            *counts.entry(asked.field("x-key").unwrap().to_owned()).or_default() += 1;
        }
        counts
    });
    assert!(keys.iter().flat_map(BTreeMap::values).all(|tries| *tries == 2), "{keys:?}");
    assert_eq!(keys.iter().map(BTreeMap::len).sum::<usize>(), 20, "{keys:?}");
}
