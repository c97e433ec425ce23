//! Consistent hashing: a key leads to the endpoint that Envoy would choose.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket, sockopt,
};
use std::os::fd::AsRawFd;

use super::{
    Envoy, Proxy, compare,
    config::{cluster_name, http_gateway},
};
use crate::support::{Client, Endpoint, Setup, free_port, gateway, ok, pod, virtual_service};

/// A service, how its endpoints are hashed to, and how that is written for either proxy.
struct Place {
    name: &'static str,
    weights: [u32; 5],
    /// Of the DestinationRule.
    hash: &'static str,
    /// Of Envoy's cluster, and of its route.
    cluster: &'static str,
    policy: &'static str,
}

const BY_HEADER: &str = "{header: {header_name: x-key}}";
const RING: &str = "lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 1024}, ";
const EQUAL: [u32; 5] = [1; 5];

const PLACES: [Place; 8] = [
    Place { name: "ring", weights: EQUAL, hash: "httpHeaderName: x-key", cluster: RING, policy: BY_HEADER },
    Place {
        name: "small-ring",
        weights: EQUAL,
        hash: "httpHeaderName: x-key, ringHash: {minimumRingSize: 64}",
        cluster: "lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 64}, ",
        policy: BY_HEADER,
    },
    Place {
        name: "weighted-ring",
        weights: [1, 2, 3, 4, 5],
        hash: "httpHeaderName: x-key",
        cluster: RING,
        policy: BY_HEADER,
    },
    Place {
        name: "maglev",
        weights: EQUAL,
        hash: "httpHeaderName: x-key, maglev: {}",
        cluster: "lb_policy: MAGLEV, ",
        policy: BY_HEADER,
    },
    Place {
        name: "weighted-maglev",
        weights: [1, 2, 3, 4, 5],
        hash: "httpHeaderName: x-key, maglev: {tableSize: 251}",
        cluster: "lb_policy: MAGLEV, maglev_lb_config: {table_size: 251}, ",
        policy: BY_HEADER,
    },
    Place {
        name: "query",
        weights: EQUAL,
        hash: "httpQueryParameterName: key",
        cluster: RING,
        policy: "{query_parameter: {name: key}}",
    },
    Place {
        name: "cookie",
        weights: EQUAL,
        hash: "httpCookie: {name: key, ttl: 60s}",
        cluster: RING,
        policy: "{cookie: {name: key, ttl: 60s}}",
    },
    Place {
        name: "source",
        weights: EQUAL,
        hash: "useSourceIp: true",
        cluster: RING,
        policy: "{connection_properties: {source_ip: true}}",
    },
];

#[test]
fn keys_lead_to_the_endpoints_that_envoy_chooses() {
    let endpoints: Vec<_> = (1..=5).map(|n| endpoint(at(n))).collect();
    assert_eq!(endpoints.len(), EQUAL.len());
    compare("hashing.txt", envoy_with, program, |proxy| {
        PLACES.iter().map(|place| format!("{}:\n{}", place.name, chosen(proxy, place.name))).collect()
    });
}

/// The endpoint of each of many keys.
fn chosen(proxy: &Proxy, place: &str) -> String {
    let mut client = Client::local(proxy.port("gateway"));
    let mut chosen = |n: u32| {
        let path = format!("/{place}/?key=user-{n}");
        client.ask(&path, &format!("x-key: user-{n}\r\ncookie: key=user-{n}\r\n")).answer().body
    };
    (0..64).map(|n| chosen(n) + if n % 16 == 15 { "\n" } else { " " }).collect()
}

/// Tables are made of addresses, so these are the same in every run.
fn at(n: u8) -> SocketAddr {
    pod(100 + n, 7893)
}

/// Says its number. Another run of the tests may have the same endpoints, whose answers are the same.
fn endpoint(address: SocketAddr) -> Endpoint {
    let SocketAddr::V4(bound) = address else { panic!("no address of IPv4") };
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    setsockopt(&socket, sockopt::ReusePort, &true).unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::from(bound)).unwrap();
    listen(&socket, Backlog::MAXCONN).unwrap();
    let number = bound.ip().octets()[3] - 100;
    Endpoint::listening(TcpListener::from(socket), move |mut client| {
        while client.message().is_ok() {
            client.send(ok(&number.to_string()));
        }
    })
}

fn program() -> Proxy {
    let port = free_port();
    let mut rules = String::new();
    let mut setup = Setup::router();
    for Place { name, weights, hash, .. } in &PLACES {
        let host = format!("{name}.example.com");
        rules += &format!(
            "{{match: [{{uri: {{prefix: /{name}/}}}}], retries: {{attempts: 0}}, route: [{{destination: {{host: {host}}}}}]}}, "
        );
        let endpoints = (1..).zip(weights).map(|(n, weight)| {
            format!("  - {{address: {}, ports: {{http: {}}}, weight: {weight}}}\n", at(n).ip(), at(n).port())
        });
        let service = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  \
             hosts: [{host}]\n  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
             endpoints:\n{}---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\n\
             spec: {{host: {host}, trafficPolicy: {{loadBalancer: {{consistentHash: {{{hash}}}}}}}}}\n",
            endpoints.collect::<String>()
        );
        setup = setup.resources(&format!("{name}.yaml"), &service);
    }
    let rules = virtual_service("gw", &format!("hosts: ['*'], gateways: [gw], http: [{rules}]"));
    let agent = setup
        .resources("gateway.yaml", &(gateway("gw", port, "HTTP", "") + "---\n" + &rules))
        .flags(&["--namespace", "default", "--concurrency", "1"])
        .start();
    agent.await_ready();
    Proxy::programs(vec![agent], HashMap::from([("gateway", port)]))
}

fn envoy_with(envoy: Envoy) -> Proxy {
    let port = free_port();
    let (mut routes, mut clusters) = (String::new(), String::new());
    for Place { name, weights, cluster, policy, .. } in &PLACES {
        let full = cluster_name(name, 80);
        routes += &format!(
            "{{match: {{prefix: /{name}/}}, route: {{cluster: \"{full}\", hash_policy: [{policy}]}}}}, "
        );
        let endpoints = (1..).zip(weights).map(|(n, weight)| {
            let (ip, port) = (at(n).ip(), at(n).port());
            let address = format!("{{socket_address: {{address: {ip}, port_value: {port}}}}}");
            format!("{{endpoint: {{address: {address}}}, load_balancing_weight: {weight}}}, ")
        });
        let endpoints = endpoints.collect::<String>();
        clusters += &format!(
            "  - {{name: \"{full}\", {cluster}load_assignment: {{cluster_name: \"{full}\", \
             endpoints: [{{lb_endpoints: [{endpoints}]}}]}}}}\n"
        );
    }
    let resources = format!("{}  clusters:\n{clusters}", http_gateway(port, &routes));
    envoy.start(&resources, HashMap::from([("gateway", port)]), Vec::new())
}
