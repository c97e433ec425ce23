//! What `istioctl proxy-config` printed of Istio 1.0.2's gateway for the six httpbin scenarios, in today's names: no
//! Service translated ports there, names of HTTPS route tables have grown by Gateway and namespace, and domains have
//! lost their ports.

use std::{collections::BTreeSet, fs};

use resources::{Files, ReadDefaults};
use snapshot::{FilterChain, NetworkFilter, PathMatch, RouteAction, Snapshot, VirtualHost};
use translate::translate;

use crate::support;

/// Listeners as `name [server names] terminated or clear, table`; hosts as `table name [domains] redirect`; routes as
/// `table host prefix cluster`.
struct Dump {
    scenario: &'static str,
    facts: &'static [&'static str],
}

const HTTPBIN: &str = "outbound|8000||httpbin.default.svc.cluster.local";

const DUMPS: [Dump; 6] = [
    Dump {
        scenario: "httpbin",
        facts: &[
            "listener 0.0.0.0_6280 [] clear http.6280",
            "host http.6280 192.168.0.62:6280 [192.168.0.62] not redirected",
            "route http.6280 192.168.0.62:6280 /status HTTPBIN",
            "route http.6280 192.168.0.62:6280 /delay HTTPBIN",
            "route http.6280 192.168.0.62:6280 /headers HTTPBIN",
        ],
    },
    Dump {
        scenario: "httpbin-tls",
        facts: &[
            "listener 0.0.0.0_443 [] terminated https.443.https.httpbin-gateway-tls.default",
            "listener 0.0.0.0_80 [] clear http.80",
            "host http.80 192.168.0.62:80 [192.168.0.62] redirected",
            // Today a host without rules is redirected, too.
            "host http.80 *:80 [*] redirected",
            "host https.443.https.httpbin-gateway-tls.default 192.168.0.62:443 [192.168.0.62] not redirected",
            "route http.80 192.168.0.62:80 /status HTTPBIN",
            "route http.80 192.168.0.62:80 /delay HTTPBIN",
            "route http.80 192.168.0.62:80 /headers HTTPBIN",
            "route https.443.https.httpbin-gateway-tls.default 192.168.0.62:443 /status HTTPBIN",
            "route https.443.https.httpbin-gateway-tls.default 192.168.0.62:443 /delay HTTPBIN",
            "route https.443.https.httpbin-gateway-tls.default 192.168.0.62:443 /headers HTTPBIN",
        ],
    },
    Dump {
        scenario: "httpbin-mtls",
        facts: &[
            "listener 0.0.0.0_443 [] terminated https.443.https.httpbin-gateway-mtls.default",
            "host https.443.https.httpbin-gateway-mtls.default 192.168.0.62:443 [192.168.0.62] not redirected",
            "route https.443.https.httpbin-gateway-mtls.default 192.168.0.62:443 /status HTTPBIN",
            "route https.443.https.httpbin-gateway-mtls.default 192.168.0.62:443 /delay HTTPBIN",
            "route https.443.https.httpbin-gateway-mtls.default 192.168.0.62:443 /headers HTTPBIN",
        ],
    },
    Dump { scenario: "httpbin-dual-one-server", facts: DUAL },
    Dump { scenario: "httpbin-dual-two-servers", facts: DUAL },
    Dump {
        scenario: "httpbin-dual-tls",
        facts: &[
            "listener 0.0.0.0_443 [httpbin-a.AKS] terminated https.443.https-httpbina.httpbin-dual-gateway-tls.default",
            "listener 0.0.0.0_443 [httpbin-b.AKS] terminated https.443.https-httpbinb.httpbin-dual-gateway-tls.default",
            "host https.443.https-httpbina.httpbin-dual-gateway-tls.default httpbin-a.AKS:443 [httpbin-a.AKS] not redirected",
            "host https.443.https-httpbinb.httpbin-dual-gateway-tls.default httpbin-b.AKS:443 [httpbin-b.AKS] not redirected",
            "route https.443.https-httpbina.httpbin-dual-gateway-tls.default httpbin-a.AKS:443 /status \
             outbound|8000||httpbin-a.default.svc.cluster.local",
            "route https.443.https-httpbinb.httpbin-dual-gateway-tls.default httpbin-b.AKS:443 /headers \
             outbound|8000||httpbin-b.default.svc.cluster.local",
        ],
    },
];

const DUAL: &[&str] = &[
    "listener 0.0.0.0_80 [] clear http.80",
    "host http.80 httpbin-a.AKS:80 [httpbin-a.AKS] not redirected",
    "host http.80 httpbin-b.AKS:80 [httpbin-b.AKS] not redirected",
    "route http.80 httpbin-a.AKS:80 /status outbound|8000||httpbin-a.default.svc.cluster.local",
    "route http.80 httpbin-b.AKS:80 /headers outbound|8000||httpbin-b.default.svc.cluster.local",
];

const AKS: &str = "7cb9a9b7b318440399a0.eastus.aksapp.io";

#[test]
fn the_gateway_serves_what_istio_printed() {
    for Dump { scenario, facts } in DUMPS {
        let expected: BTreeSet<String> =
            facts.iter().map(|fact| fact.replace("AKS", AKS).replace("HTTPBIN", HTTPBIN)).collect();
        assert_eq!(found(scenario), expected, "{scenario}");
    }
}

fn found(scenario: &str) -> BTreeSet<String> {
    let path = support::inputs().into_iter().find(|path| path.ends_with(format!("{scenario}.yaml"))).unwrap();
    let input = fs::read_to_string(path).unwrap();
    let documents = input.split("---\n").filter(|document| !document.contains("name: istio-ingressgateway"));
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", &documents.collect::<Vec<_>>().join("---\n"));
    let (set, _) = files.resources();
    let proxy = support::proxy(input.lines().next().unwrap());
    let certificates = support::certificate_files(&set, &proxy);
    facts(&translate(&set, &support::credentials(&certificates), &proxy).snapshot)
}

fn facts(snapshot: &Snapshot) -> BTreeSet<String> {
    let chains = snapshot.listeners().iter().flat_map(|listener| {
        listener.filter_chains.iter().map(|chain| listener_fact(snapshot, &listener.name, chain))
    });
    let tables = snapshot
        .route_configs()
        .iter()
        .flat_map(|table| table.virtual_hosts().iter().flat_map(|host| host_facts(table.name(), host)));
    chains.chain(tables).collect()
}

fn listener_fact(snapshot: &Snapshot, listener: &str, chain: &FilterChain) -> String {
    let NetworkFilter::Http(http) = &chain.filter else { panic!("{chain:?}") };
    let names: Vec<_> = chain.matches.server_names.iter().map(ToString::to_string).collect();
    let wrapped = if chain.tls.is_some() { "terminated" } else { "clear" };
    let table = snapshot.route_config(http.route_config).name();
    format!("listener {listener} [{}] {wrapped} {table}", names.join(" "))
}

fn host_facts(table: &str, host: &VirtualHost) -> Vec<String> {
    let domains: Vec<_> = host.domains.iter().map(ToString::to_string).collect();
    let redirected = if host.require_tls { "redirected" } else { "not redirected" };
    let mut facts = vec![format!("host {table} {} [{}] {redirected}", host.name, domains.join(" "))];
    for route in host.routes.iter() {
        let PathMatch::Prefix(prefix) = &route.matches.path else { panic!("{route:?}") };
        let RouteAction::Forward(forward) = &route.action else { panic!("{route:?}") };
        let clusters: Vec<_> = forward.clusters.targets().iter().map(|target| target.name.as_str()).collect();
        facts.push(format!("route {table} {} {} {}", host.name, prefix.text, clusters.join(" ")));
    }
    facts
}
