//! How requests are shared among places, some of whose endpoints are ejected.

use std::collections::{BTreeMap, HashMap};

use super::{
    Envoy, Proxy, compare,
    config::{address, cluster_name, http_gateway},
};
use crate::support::{Client, Endpoint, Setup, free_port, gateway, ok, virtual_service};

/// A service whose endpoints are in places, and how that is written for either proxy.
struct Place {
    name: &'static str,
    /// Locality and answer; those that answer `bad` are ejected.
    endpoints: &'static [(&'static str, &'static str)],
    /// `localityLbSetting` of the DestinationRule.
    setting: &'static str,
    /// In Envoy: priority and weight of each locality in the order of the endpoints.
    localities: &'static [(&'static str, u32, u32)],
    /// Of a hundred requests.
    shares: &'static [(&'static str, usize)],
}

const NEAR: &str = "r1/z1/s1";
const BESIDE: &str = "r1/z2/s1";
const FAR: &str = "r2/z1/s1";

/// So many that chance exceeds the tolerance, of a hundred, once in a million runs.
const REQUESTS: usize = 1000;
const TOLERANCE: usize = 8;

/// After so many in a row everybody who is to be ejected is.
const SETTLED: usize = 100;

const PLACES: &[Place] = &[
    Place {
        name: "nearest",
        endpoints: &[(FAR, "far"), (NEAR, "near"), (BESIDE, "beside")],
        setting: "enabled: true",
        localities: &[(FAR, 2, 0), (NEAR, 0, 0), (BESIDE, 1, 0)],
        shares: &[("near", 100)],
    },
    // Half of the endpoints count as 70 %.
    Place {
        name: "half",
        endpoints: &[(NEAR, "near"), (NEAR, "bad"), (FAR, "far")],
        setting: "enabled: true",
        localities: &[(NEAR, 0, 0), (FAR, 1, 0)],
        shares: &[("near", 70), ("far", 30)],
    },
    // Three quarters are enough.
    Place {
        name: "most",
        endpoints: &[(NEAR, "near"), (NEAR, "near"), (NEAR, "near"), (NEAR, "bad"), (FAR, "far")],
        setting: "enabled: true",
        localities: &[(NEAR, 0, 0), (FAR, 1, 0)],
        shares: &[("near", 100)],
    },
    // What nobody can take where it belongs goes on: 35 % to the second, 65 % to the third.
    Place {
        name: "cascade",
        endpoints: &[
            (NEAR, "bad"),
            (BESIDE, "beside"),
            (BESIDE, "bad"),
            (BESIDE, "bad"),
            (BESIDE, "bad"),
            (FAR, "far"),
        ],
        setting: "enabled: true",
        localities: &[(NEAR, 0, 0), (BESIDE, 1, 0), (FAR, 2, 0)],
        shares: &[("beside", 35), ("far", 65)],
    },
    // Too few in all are shared by what is left.
    Place {
        name: "scarce",
        endpoints: &[
            (NEAR, "near"),
            (NEAR, "bad"),
            (NEAR, "bad"),
            (NEAR, "bad"),
            (FAR, "far"),
            (FAR, "bad"),
            (FAR, "bad"),
            (FAR, "bad"),
        ],
        setting: "enabled: true",
        localities: &[(NEAR, 0, 0), (FAR, 1, 0)],
        shares: &[("near", 50), ("far", 50)],
    },
    Place {
        name: "weighted",
        endpoints: &[(NEAR, "near"), (BESIDE, "beside"), (FAR, "far")],
        setting: "distribute: [{from: 'r1/*', to: {'r1/z1/*': 60, 'r1/z2/*': 30, 'r2/*': 10}}]",
        localities: &[(NEAR, 0, 60), (BESIDE, 0, 30), (FAR, 0, 10)],
        shares: &[("near", 60), ("beside", 30), ("far", 10)],
    },
    // The first counts for 70 % of its weight.
    Place {
        name: "weighted-half",
        endpoints: &[(NEAR, "near"), (NEAR, "bad"), (FAR, "far")],
        setting: "distribute: [{from: 'r1/*', to: {'r1/*': 80, 'r2/*': 20}}]",
        localities: &[(NEAR, 0, 80), (FAR, 0, 20)],
        shares: &[("near", 74), ("far", 26)],
    },
];

#[test]
fn places_have_the_shares_that_envoy_gives_them() {
    let endpoints: Vec<_> = PLACES
        .iter()
        .map(|place| place.endpoints.iter().map(|(_, name)| endpoint(name)).collect::<Vec<_>>())
        .collect();
    compare(
        "localities.txt",
        |envoy| envoy_with(envoy, &endpoints),
        || program(&endpoints),
        |proxy| PLACES.iter().map(|place| shares(proxy, place)).collect(),
    );
}

/// Answers with its name; who is bad, with an error.
fn endpoint(name: &'static str) -> Endpoint {
    if name == "bad" { Endpoint::failing(name, 500) } else { Endpoint::answering(move |_, _| ok(name)) }
}

/// How many of a hundred requests each has, once those are ejected who are to be: what they should have where they are
/// near it.
fn shares(proxy: &Proxy, Place { name, shares, .. }: &Place) -> String {
    let mut client = Client::local(proxy.port("gateway"));
    let mut get = || client.get(&format!("/{name}/")).body;
    let mut good = 0;
    while good < SETTLED {
        good = if get() == "bad" { 0 } else { good + 1 };
    }
    let mut counts = BTreeMap::<_, usize>::new();
    (0..REQUESTS).for_each(|_| *counts.entry(get()).or_default() += 1);
    let told = counts.iter().map(|(name, count)| {
        let expected = shares.iter().find(|(expected, _)| expected == name).map_or(0, |(_, share)| *share);
        let share = count * 100 / REQUESTS;
        let share = if share.abs_diff(expected) <= TOLERANCE { expected } else { share };
        format!("\n{name}: {share} %")
    });
    format!("{name}{}", told.collect::<String>())
}

fn program(endpoints: &[Vec<Endpoint>]) -> Proxy {
    let port = free_port();
    let mut rules = String::new();
    let mut setup = Setup::router();
    for (Place { name, endpoints: places, setting, .. }, endpoints) in PLACES.iter().zip(endpoints) {
        let host = format!("{name}.example.com");
        rules += &format!(
            "{{match: [{{uri: {{prefix: /{name}/}}}}], retries: {{attempts: 0}}, route: [{{destination: {{host: {host}}}}}]}}, "
        );
        let endpoints = places.iter().zip(endpoints).map(|((locality, _), endpoint)| {
            let port = endpoint.port();
            format!("  - {{address: 127.0.0.1, ports: {{http: {port}}}, locality: {locality}}}\n")
        });
        let service = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  \
             hosts: [{host}]\n  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
             endpoints:\n{}---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\n\
             spec: {{host: {host}, trafficPolicy: {{loadBalancer: {{localityLbSetting: {{{setting}}}}}, \
             outlierDetection: {{consecutive5xxErrors: 1, interval: 600s, baseEjectionTime: 600s, \
             maxEjectionPercent: 100}}}}}}\n",
            endpoints.collect::<String>()
        );
        setup = setup.resources(&format!("{name}.yaml"), &service);
    }
    let rules = virtual_service("gw", &format!("hosts: ['*'], gateways: [gw], http: [{rules}]"));
    let agent = setup
        .resources("gateway.yaml", &(gateway("gw", port, "HTTP", "") + "---\n" + &rules))
        .flags(&["--namespace", "default", "--concurrency", "1", "--locality", NEAR])
        .start();
    agent.await_ready();
    Proxy::programs(vec![agent], HashMap::from([("gateway", port)]))
}

fn envoy_with(envoy: Envoy, endpoints: &[Vec<Endpoint>]) -> Proxy {
    let port = free_port();
    let (mut routes, mut clusters) = (String::new(), String::new());
    for (place, endpoints) in PLACES.iter().zip(endpoints) {
        let full = cluster_name(place.name, 80);
        routes += &format!("{{match: {{prefix: /{}/}}, route: {{cluster: \"{full}\"}}}}, ", place.name);
        let localities: String = place.localities.iter().map(|at| locality(*at, place, endpoints)).collect();
        clusters += &format!(
            "  - {{name: \"{full}\", lb_policy: LEAST_REQUEST, outlier_detection: {{consecutive_5xx: 1, \
             interval: 600s, base_ejection_time: 600s, max_ejection_percent: 100, enforcing_success_rate: 0}}, \
             common_lb_config: {{healthy_panic_threshold: {{value: 0}}, update_merge_window: 0s, \
             locality_weighted_lb_config: {{}}}}, \
             load_assignment: {{cluster_name: \"{full}\", endpoints: [{localities}]}}}}\n"
        );
    }
    let resources = format!("{}  clusters:\n{clusters}", http_gateway(port, &routes));
    envoy.start(&resources, HashMap::from([("gateway", port)]), Vec::new())
}

/// The endpoints of a place that are in a locality, with its priority and weight.
fn locality((name, priority, weight): (&str, u32, u32), place: &Place, endpoints: &[Endpoint]) -> String {
    let there = place.endpoints.iter().zip(endpoints).filter(|((at, _), _)| *at == name);
    let there: String = there
        .map(|(_, endpoint)| format!("{{endpoint: {{address: {}}}}}, ", address(endpoint.port())))
        .collect();
    let parts: Vec<_> = name.split('/').collect();
    let at = format!("{{region: {}, zone: {}, sub_zone: {}}}", parts[0], parts[1], parts[2]);
    let weight = weight.max(1);
    format!(
        "{{locality: {at}, priority: {priority}, load_balancing_weight: {weight}, lb_endpoints: [{there}]}}, "
    )
}
