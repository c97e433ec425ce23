//! What clients of a listener may do and for how long, where its settings say so.

mod cases;

use std::collections::HashMap;

use self::cases::{CASES, MALFORMED, PLACES, Place};
use super::{
    Envoy, Proxy, compare,
    config::{access_log, address, cluster, cluster_name, typed},
    http::{Asked, LOGGED, answers_at_once, upstream::upstream},
};
use crate::support::{Agent, Endpoint, Setup, free_port, gateway, service, virtual_service};

#[test]
fn limits_of_listeners_are_those_of_envoy() {
    let upstream = upstream();
    let large = format!("GET /large HTTP/1.1\nhost: test\nx: {}\n\n", "a".repeat(5000));
    let mut cases = CASES.to_vec();
    cases.push(("small", &large, Asked::Last));
    compare(
        "limits.txt",
        |envoy| envoy_with(envoy, &upstream),
        || programs(&upstream),
        |proxy| answers_at_once(proxy, &cases),
    );
}

#[test]
fn malformed_requests_of_http2_are_treated_as_by_envoy() {
    let upstream = upstream();
    let cases: Vec<_> = MALFORMED.iter().map(|case| ("plain", *case, Asked::InFrames)).collect();
    compare(
        "malformed.txt",
        |envoy| envoy_with(envoy, &upstream),
        || programs(&upstream),
        |proxy| answers_at_once(proxy, &cases),
    );
}

fn ports() -> HashMap<&'static str, u16> {
    PLACES.iter().map(|place| (place.name, free_port())).collect()
}

/// What lines call the endpoint, whose port is another one in every run.
fn named(upstream: &Endpoint) -> Vec<(String, &'static str)> {
    vec![(upstream.address.to_string(), "up")]
}

/// Envoy with a listener for each place.
fn envoy_with(envoy: Envoy, upstream: &Endpoint) -> Proxy {
    let ports = ports();
    let name = cluster_name("app", 80);
    let listeners: String = PLACES.iter().map(|place| listener(place, ports[place.name], &name)).collect();
    let clusters = cluster(&name, &[upstream.port()], "");
    envoy.start(&format!("  listeners:\n{listeners}  clusters:\n{clusters}"), ports, named(upstream))
}

fn listener(Place { manager, common, .. }: &Place, port: u16, cluster: &str) -> String {
    let route = format!("{{match: {{prefix: /}}, route: {{cluster: \"{cluster}\", timeout: 0s}}}}");
    let host =
        format!("{{name: any, domains: [\"*\"], include_request_attempt_count: true, routes: [{route}]}}");
    let router = typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router", "");
    let silence = if manager.contains("stream_idle_timeout") { "" } else { "stream_idle_timeout: 0s, " };
    let http = typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        &format!(
            "stat_prefix: gateway, use_remote_address: true, normalize_path: true, server_name: istio-envoy, \
             http_protocol_options: {{accept_http_10: true}}, {silence}{manager}\
             common_http_protocol_options: {{{common}}}, {}, http_filters: [{router}], \
             route_config: {{virtual_hosts: [{host}]}}",
            access_log(LOGGED, "")
        ),
    );
    format!("  - {{address: {}, filter_chains: [{{filters: [{http}]}}]}}\n", address(port))
}

/// The program, as often as there are places: its settings are those of a whole process.
fn programs(upstream: &Endpoint) -> Proxy {
    let ports = ports();
    let agents: Vec<_> = PLACES.iter().map(|place| program(place, ports[place.name], upstream)).collect();
    agents.iter().for_each(Agent::await_ready);
    Proxy { endpoints: named(upstream), ..Proxy::programs(agents, ports) }
}

fn program(Place { settings, variables, .. }: &Place, port: u16, upstream: &Endpoint) -> Agent {
    let route = "http: [{retries: {attempts: 0}, route: [{destination: {host: app}}]}]";
    let mut yaml = gateway("gw", port, "HTTP", "") + "---\n" + &service("app", upstream) + "---\n";
    yaml += &virtual_service("gw", &format!("hosts: ['*'], gateways: [gw], {route}"));
    let mesh = format!(
        "accessLogFile: /dev/stdout\naccessLogFormat: {LOGGED:?}\n\
         defaultConfig: {{connectionSettings: {{{settings}}}}}\n"
    );
    let flags = ["--namespace", "default", "--concurrency", "1"];
    Setup::router().resources("all.yaml", &yaml).mesh(&mesh).flags(&flags).variables(variables).start()
}
