//! What clusters refuse, eject and give up: requests one after the other, while others are under way.

mod cases;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use self::cases::{Behind, COUNTERS, PLACES, Place, Step};
use super::{
    Envoy, Proxy, compare,
    config::{access_log, address, cluster, cluster_name, typed},
    http::{Asked, LOGGED, answers, upstream::upstream_counting},
};
use crate::support::{
    Client, Endpoint, Setup, eventually, free_port, gateway, printed, service_at, virtual_service,
};

const GATEWAY: &str = "gateway";

/// A metric that tells that as many requests wait for a connection as may.
const WAITING: &str = "circuit_breakers_default_rq_pending_open";

/// A metric that tells how many endpoints are ejected.
const EJECTED: &str = "outlier_detection_ejections_active";

#[test]
fn clusters_limit_eject_and_give_up_as_in_envoy() {
    let behind = Endpoints::start();
    compare(
        "clusters.txt",
        |envoy| envoy_with(envoy, &behind),
        || program(&behind),
        |proxy| PLACES.iter().map(|place| told(proxy, place, &behind)).collect(),
    );
}

struct Endpoints {
    upstream: Endpoint,
    unanswered: Arc<AtomicUsize>,
    refused: u16,
}

impl Endpoints {
    fn start() -> Self {
        let unanswered = Arc::default();
        Self { upstream: upstream_counting(Arc::clone(&unanswered)), unanswered, refused: free_port() }
    }

    fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::SeqCst)
    }

    fn port(&self, place: &Place) -> u16 {
        match place.behind {
            Behind::Upstream => self.upstream.port(),
            Behind::Nobody => self.refused,
        }
    }

    fn named(&self) -> Vec<(String, &'static str)> {
        vec![(self.upstream.address.to_string(), "up"), (format!("127.0.0.1:{}", self.refused), "refused")]
    }
}

/// The answers and lines of a place's requests, and what is counted in the end.
fn told(proxy: &Proxy, Place { name, steps, .. }: &Place, behind: &Endpoints) -> String {
    let mut told = format!("{name}\n");
    let mut held = Vec::new();
    for step in *steps {
        match *step {
            Step::Hold(path) => {
                let before = behind.unanswered();
                held.push(begun(proxy, name, path));
                eventually("it is left unanswered", || behind.unanswered() > before);
            }
            Step::Wait(path) => {
                held.push(begun(proxy, name, path));
                eventually("it waits", || counted(&metrics(proxy), name, WAITING) == "1");
            }
            Step::Ejected => eventually("it is ejected", || counted(&metrics(proxy), name, EJECTED) == "1"),
            Step::Ask(paths) => {
                let case = |path: &&str| format!("GET /{name}/{path} HTTP/1.1\nhost: test\n\n");
                let cases: Vec<_> = paths.iter().map(case).collect();
                let cases: Vec<_> = cases.iter().map(|case| (GATEWAY, &**case, Asked::First)).collect();
                told += &format!("\n{}\n", answers(proxy, &cases).join("\n\n"));
            }
        }
    }
    // The program has metrics of limits only for clusters that have any.
    let metrics = metrics(proxy);
    let counters = COUNTERS.iter().map(|counter| (counter, counted(&metrics, name, counter)));
    for (counter, value) in counters.filter(|(_, value)| *value != "0") {
        told += &format!("\n{counter}: {value}");
    }
    told
}

/// A request that is not answered yet.
fn begun(proxy: &Proxy, name: &str, path: &str) -> Client {
    let mut client = Client::local(proxy.port(GATEWAY));
    client.send(format!("GET /{name}/{path} HTTP/1.1\r\nhost: test\r\n\r\n"));
    client
}

fn metrics(proxy: &Proxy) -> String {
    printed(&["request", "GET", "/stats/prometheus", "--admin", &proxy.admin])
}

/// What a metric of a cluster is; zero where there is none.
fn counted<'m>(metrics: &'m str, name: &str, counter: &str) -> &'m str {
    let series = format!("envoy_cluster_{counter}{{cluster_name=\"{}\"}} ", cluster_name(name, 80));
    metrics.lines().find_map(|line| line.strip_prefix(&*series)).unwrap_or("0")
}

fn program(behind: &Endpoints) -> Proxy {
    let port = free_port();
    let mut rules = String::new();
    let mut setup =
        Setup::router().mesh(&format!("accessLogFile: /dev/stdout\naccessLogFormat: {LOGGED:?}\n"));
    for place in PLACES {
        let Place { name, policy, retries, .. } = place;
        let retries = if retries.is_empty() { "attempts: 0" } else { retries };
        rules += &format!(
            "{{name: default, match: [{{uri: {{prefix: /{name}/}}}}], retries: {{{retries}}}, \
             route: [{{destination: {{host: {name}}}}}]}}, "
        );
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\n\
             spec: {{host: {name}, trafficPolicy: {{{policy}}}}}\n"
        );
        let service = service_at(name, ("http", 80), behind.port(place));
        setup = setup.resources(&format!("{name}.yaml"), &(service + "---\n" + &rule));
    }
    let rules = virtual_service("gw", &format!("hosts: ['*'], gateways: [gw], http: [{rules}]"));
    let agent = setup
        .resources("gateway.yaml", &(gateway("gw", port, "HTTP", "") + "---\n" + &rules))
        .flags(&["--namespace", "default", "--concurrency", "1"])
        .start();
    agent.await_ready();
    Proxy { endpoints: behind.named(), ..Proxy::programs(vec![agent], HashMap::from([(GATEWAY, port)])) }
}

fn envoy_with(envoy: Envoy, behind: &Endpoints) -> Proxy {
    let port = free_port();
    let (mut routes, mut clusters) = (String::new(), String::new());
    for place in PLACES {
        let Place { name, envoy, retry_policy, .. } = place;
        let full = cluster_name(name, 80);
        routes += &format!(
            "{{name: default, match: {{prefix: /{name}/}}, \
             route: {{cluster: \"{full}\", timeout: 0s, retry_policy: {{{retry_policy}}}}}}}, "
        );
        clusters += &cluster(&full, &[behind.port(place)], envoy);
    }
    let router = typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router", "");
    let host =
        format!("{{name: any, domains: [\"*\"], include_request_attempt_count: true, routes: [{routes}]}}");
    let http = typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        &format!(
            "stat_prefix: gateway, use_remote_address: true, normalize_path: true, server_name: istio-envoy, \
             stream_idle_timeout: 0s, {}, http_filters: [{router}], route_config: {{virtual_hosts: [{host}]}}",
            access_log(LOGGED, "")
        ),
    );
    let at = address(port);
    let listeners = format!("  listeners:\n  - {{address: {at}, filter_chains: [{{filters: [{http}]}}]}}\n");
    let resources = format!("{listeners}  clusters:\n{clusters}");
    envoy.start(&resources, HashMap::from([(GATEWAY, port)]), behind.named())
}
