//! What a sidecar makes of its workload's calls and of calls to it, beside Envoy with what Istio writes for either side.

use std::collections::HashMap;

use super::{
    Envoy, Proxy, compare,
    config::{access_log, address, cluster, typed},
    http::{
        Asked::{self, First, Last, OverHttp2},
        LOGGED, answers,
        upstream::upstream,
    },
};
use crate::support::{Endpoint, Setup, free_port};

/// The client that lines name is the one that proxies before tell of, so that these begin with the one that connects.
fn logged() -> String {
    const PORT: &str = "%DOWNSTREAM_REMOTE_PORT%";
    assert!(LOGGED.starts_with(PORT));
    LOGGED.replace(PORT, "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%").trim_end().to_owned()
        + " %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\n"
}

const OUTBOUND: &str = "outbound";
const INBOUND: &str = "inbound";

/// Fields by which clients and proxies tell of themselves. Those that limit single calls are left out: Envoy believes no
/// application here.
const TOLD: &str = "GET /plain?q=1 HTTP/1.1\nhost: app.test\nx-forwarded-for: 9.9.9.9\nx-forwarded-proto: https\n\
    x-forwarded-host: h\nx-forwarded-port: 1\nx-forwarded-client-cert: By=a;URI=b\nx-request-id: mine\n\
    x-envoy-external-address: 1.1.1.1\nx-envoy-internal: true\nx-envoy-original-path: /o\nx-envoy-original-host: o\n\
    x-envoy-attempt-count: 7\nx-envoy-ip-tags: t\nx-envoy-unknown: 1\nvia: v\nserver: own\nkeep-alive: 1\n\
    proxy-connection: keep-alive\nproxy-authorization: p\nte: trailers, gzip\nconnection: te\n\n";

const CASES: &[(&str, Asked)] = &[
    (TOLD, First),
    ("GET /plain HTTP/1.1\nhost: APP.test:80\n\n", First),
    ("GET /plain/./a/../b//c%2Fd HTTP/1.1\nhost: app.test\n\n", First),
    ("POST /plain HTTP/1.1\nhost: app.test\ncontent-length: 4\n\nbody", First),
    ("GET /close HTTP/1.1\nhost: app.test\n\n", First),
    ("GET /nonsense HTTP/1.1\nhost: app.test\n\n", First),
    ("HEAD /plain HTTP/1.1\nhost: app.test\nconnection: close\n\n", Last),
    ("GET /cut HTTP/1.1\nhost: app.test\nconnection: close\n\n", Last),
    ("GET /plain#f HTTP/1.1\nhost: app.test\nconnection: close\n\n", Last),
    ("GET /plain HTTP/1.1\nconnection: close\n\n", Last),
    ("GET /plain HTTP/1.1\nhost: app.test\nx y: 1\n\n", Last),
    ("GET /plain HTTP/1.1\nhost: app.test\nx-forwarded-for: 1.1.1.1, 2.2.2.2,::3\n\n", First),
    ("GET /plain HTTP/1.1\nhost: app.test\nx-forwarded-for: 1.1.1.1, 2.2.2.2:80\n\n", First),
    ("GET /plain HTTP/1.1\nhost: app.test\nx-forwarded-for: 9.9.9.9\nx-request-id: mine\n\n", OverHttp2),
    ("GET /close HTTP/1.1\nhost: app.test\n\n", OverHttp2),
    ("POST /close HTTP/1.1\nhost: app.test\ncontent-type: application/grpc\n\n", OverHttp2),
];

#[test]
fn both_sides_of_a_sidecar_do_as_envoy_does() {
    let upstream = upstream();
    let ports = || HashMap::from([OUTBOUND, INBOUND].map(|side| (side, free_port())));
    compare(
        "sides.txt",
        |envoy| envoy_with(envoy, &upstream, ports()),
        || program(&upstream, ports()),
        |proxy| {
            let cases = [OUTBOUND, INBOUND]
                .into_iter()
                .flat_map(|side| CASES.iter().map(move |(case, how)| (side, *case, *how)));
            answers(proxy, &cases.collect::<Vec<_>>()).iter().map(|case| without_reason(case)).collect()
        },
    );
}

/// Applications are told why, which Envoy does not.
fn without_reason(case: &str) -> String {
    let lines = case.lines().filter(|line| !line.starts_with("x-postern-reason: "));
    lines.collect::<Vec<_>>().join("\n")
}

/// The endpoint, and the port of each side in the names of clusters.
fn named(upstream: &Endpoint, ports: &HashMap<&'static str, u16>) -> Vec<(String, &'static str)> {
    let [outbound, inbound] = [OUTBOUND, INBOUND].map(|side| ports[side]);
    vec![
        (upstream.address.to_string(), "up"),
        (format!("|{outbound}|"), "|own|"),
        (format!("|{inbound}|"), "|own|"),
    ]
}

fn envoy_with(envoy: Envoy, upstream: &Endpoint, ports: HashMap<&'static str, u16>) -> Proxy {
    let [to, from] = clusters(&ports);
    let listeners = listener(
        ports[OUTBOUND],
        &to,
        "stat_prefix: outbound",
        "include_request_attempt_count: true, ",
    ) + &listener(
        ports[INBOUND],
        &from,
        "stat_prefix: inbound, server_name: istio-envoy, forward_client_cert_details: APPEND_FORWARD, \
         set_current_client_cert_details: {subject: true, dns: true, uri: true}",
        "",
    );
    let clusters: String = [to, from].iter().map(|name| cluster(name, &[upstream.port()], "")).collect();
    let named = named(upstream, &ports);
    envoy.start(&format!("  listeners:\n{listeners}  clusters:\n{clusters}"), ports, named)
}

/// Istio's names for the cluster of the entry and for that of the workload's own port.
fn clusters(ports: &HashMap<&'static str, u16>) -> [String; 2] {
    [format!("outbound|{}||app.test", ports[OUTBOUND]), format!("inbound|{}||", ports[INBOUND])]
}

fn listener(port: u16, cluster: &str, manager: &str, host: &str) -> String {
    let router = typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router", "");
    let route =
        format!("{{name: default, match: {{prefix: /}}, route: {{cluster: \"{cluster}\", timeout: 0s}}}}");
    let http = typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        &format!(
            "{manager}, use_remote_address: false, normalize_path: true, stream_idle_timeout: 0s, {}, \
             http_filters: [{router}], route_config: {{virtual_hosts: \
             [{{name: any, domains: [\"*\"], {host}routes: [{route}]}}]}}",
            access_log(&logged(), "")
        ),
    );
    format!("  - {{address: {}, filter_chains: [{{filters: [{http}]}}]}}\n", address(port))
}

fn program(upstream: &Endpoint, ports: HashMap<&'static str, u16>) -> Proxy {
    let [outbound, inbound] = [OUTBOUND, INBOUND].map(|side| ports[side]);
    let endpoint = upstream.port();
    let resources = format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: own}}\nspec:\n  egress:\n  \
         - {{port: {{number: {outbound}, name: http, protocol: HTTP}}, bind: 127.0.0.1, captureMode: NONE, hosts: ['*/*']}}\n  \
         ingress:\n  - {{port: {{number: {inbound}, name: http, protocol: HTTP}}, bind: 127.0.0.1, captureMode: NONE, \
         defaultEndpoint: '127.0.0.1:{endpoint}'}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: app}}\nspec: {{hosts: [app.test], \
         ports: [{{number: {outbound}, name: http, protocol: HTTP}}], resolution: STATIC, \
         endpoints: [{{address: 127.0.0.1, ports: {{http: {endpoint}}}}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: app}}\nspec: {{hosts: [app.test], \
         http: [{{name: default, retries: {{attempts: 0}}, route: [{{destination: {{host: app.test}}}}]}}]}}\n"
    );
    let agent = Setup::sidecar()
        .resources("all.yaml", &resources)
        .mesh(&format!("accessLogFile: /dev/stdout\naccessLogFormat: {:?}\n", logged()))
        .flags(&["--namespace", "default", "--concurrency", "1"])
        .start();
    agent.await_ready();
    let endpoints = named(upstream, &ports);
    Proxy { endpoints, ..Proxy::programs(vec![agent], ports) }
}
