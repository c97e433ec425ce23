//! Requests over HTTP/1 and HTTP/2 to one listener with many routes.

mod cases;
mod endpoints;

use std::collections::HashMap;

use self::{
    cases::{CASES, HTTP2, LAST},
    endpoints::{BEHAVIOURS, Behaviour},
};
use super::{
    Envoy, Proxy, compare,
    config::{cluster, cluster_name},
    full::Full,
    http::{Asked, LOGGED, answers, upstream::upstream},
};
use crate::support::{Client, Endpoint, Setup, eventually, free_port, service_at};

/// The routes, for the program and for Envoy.
const RESOURCES: &str = include_str!("requests/resources.yaml");
const ENVOY: &str = include_str!("requests/envoy.yaml");

/// The only listener.
const GATEWAY: &str = "gateway";

#[test]
fn answers_forwarded_requests_and_log_lines_are_those_of_envoy() {
    let behind = Behind::start();
    compare(
        "requests.txt",
        |envoy| behind.envoy(envoy),
        || behind.program(),
        |proxy| {
            let _holding = behind.hold(proxy);
            asked(proxy)
        },
    );
}

fn asked(proxy: &Proxy) -> Vec<String> {
    let many = format!("GET /plain HTTP/1.1\nhost: a.test\n{}\n", "x-a: 1\n".repeat(101));
    let huge = format!("GET /plain HTTP/1.1\nhost: a.test\nx-a: {}\n\n", "a".repeat(61 * 1024));
    let first = CASES.iter().map(|case| (GATEWAY, *case, Asked::First));
    let last = LAST.iter().copied().chain([&many[..], &huge[..]]).map(|case| (GATEWAY, case, Asked::Last));
    let over_http2 = HTTP2.iter().map(|case| (GATEWAY, *case, Asked::OverHttp2));
    answers(proxy, &first.chain(last).chain(over_http2).collect::<Vec<_>>())
}

/// What is behind the listener.
struct Behind {
    upstream: Endpoint,
    refused: u16,
    full: Full,
    frames: [Endpoint; BEHAVIOURS.len()],
}

impl Behind {
    fn start() -> Self {
        let frames = BEHAVIOURS.map(Behaviour::start);
        Self { upstream: upstream(), refused: free_port(), full: Full::new(), frames }
    }

    /// Services with their endpoints, and what Envoy's clusters say besides.
    fn services(&self) -> Vec<(String, &'static str, Vec<u16>, &'static str)> {
        const OVERFLOW: &str = "circuit_breakers: {thresholds: [{max_requests: 1}]}, ";
        const ONCE: &str = "circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 0}, \
            min_retry_concurrency: 0}}]}, ";
        const HTTP2: &str = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
            {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
            explicit_http_config: {http2_protocol_options: {}}}}, ";
        let up = || vec![self.upstream.port()];
        let plain = [
            ("up", up(), ""),
            ("empty", Vec::new(), ""),
            ("refused", vec![self.refused], ""),
            ("full", vec![self.full.address.port()], "connect_timeout: 0.25s, "),
            ("hashed", up(), "lb_policy: RING_HASH, "),
            ("once", up(), ONCE),
            ("overflow", up(), OVERFLOW),
        ];
        let plain = plain.into_iter().map(|(name, ports, more)| (name.to_owned(), "http", ports, more));
        let frames = (0..).zip(&self.frames);
        let frames =
            frames.map(|(number, frames)| (format!("frames{number}"), "http2", vec![frames.port()], HTTP2));
        plain.chain(frames).collect()
    }

    fn named(&self) -> Vec<(String, &'static str)> {
        let address = |port: u16| format!("127.0.0.1:{port}");
        let frames = self.frames.iter().map(|frames| (frames.address.to_string(), "frames"));
        let plain = [
            (self.upstream.address.to_string(), "up"),
            (address(self.refused), "refused"),
            (self.full.address.to_string(), "full"),
        ];
        plain.into_iter().chain(frames).collect()
    }

    fn envoy(&self, envoy: Envoy) -> Proxy {
        let port = free_port();
        let clusters = self.services();
        let clusters =
            clusters.iter().map(|(name, _, ports, more)| cluster(&cluster_name(name, 80), ports, more));
        let listener =
            ENVOY.replace("<GATEWAY>", &port.to_string()).replace("<LOGGED>", &format!("{LOGGED:?}"));
        let resources = format!("{listener}  clusters:\n{}", clusters.collect::<String>());
        envoy.start(&resources, HashMap::from([(GATEWAY, port)]), self.named())
    }

    fn program(&self) -> Proxy {
        let port = free_port();
        let routes = RESOURCES.replace("<GATEWAY>", &port.to_string());
        let mesh = format!("accessLogFile: /dev/stdout\naccessLogFormat: {LOGGED:?}\n");
        let mut setup = Setup::router().mesh(&mesh).resources("routes.yaml", &routes);
        for (name, protocol, ports, _) in self.services() {
            let service = match ports.first() {
                Some(port) => service_at(&name, (protocol, 80), *port),
                None => format!(
                    "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
                     spec: {{ports: [{{name: {protocol}, port: 80}}]}}\n"
                ),
            };
            setup = setup.resources(&format!("{name}.yaml"), &service);
        }
        let agent = setup.flags(&["--namespace", "default", "--concurrency", "1"]).start();
        agent.await_ready();
        Proxy { endpoints: self.named(), ..Proxy::programs(vec![agent], HashMap::from([(GATEWAY, port)])) }
    }

    /// Takes the only request that one of the clusters may have under way.
    fn hold(&self, proxy: &Proxy) -> Client {
        let before = self.upstream.connections();
        let mut holding = Client::local(proxy.port(GATEWAY));
        holding.send("GET /overflow/plain-unanswered HTTP/1.1\r\nhost: a.test\r\n\r\n");
        eventually("the request is under way", || self.upstream.connections() > before);
        holding
    }
}
