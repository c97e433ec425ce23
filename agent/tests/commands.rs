//! `config`, `explain`, `wait` and `request`, from a directory and from a running agent: both must say the same.

mod access_log;
mod admin;
mod draining;
mod explain;
mod findings;
mod live;
mod log_lines;
mod mesh;
mod options;
mod overload;
mod probes;
mod readiness;
mod validate;

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Setup, agent, free_port, printed};

/// A directory with a shop, whose gateway listens on the port returned.
fn shop() -> (TempDir, u16) {
    let (directory, port) = (TempDir::new().unwrap(), free_port());
    let yaml = include_str!("commands/shop.yaml").replace("PORT", &port.to_string());
    fs::write(directory.path().join("shop.yaml"), yaml).unwrap();
    (directory, port)
}

/// The arguments that ask the directory.
fn offline(directory: &TempDir) -> [String; 4] {
    ["--config-dir", directory.path().to_str().unwrap(), "--namespace", "shop"].map(str::to_owned)
}

fn with<'a>(command: &[&'a str], target: &'a [String]) -> Vec<&'a str> {
    command.iter().copied().chain(target.iter().map(String::as_str)).collect()
}

/// A gateway of the shop, whose agent's port asks the proxy for what an application would tell.
fn gateway(directory: &Path) -> Setup {
    of_shop(Setup::router(), directory)
}

/// The same as a sidecar.
fn sidecar(directory: &Path) -> Setup {
    of_shop(Setup::sidecar(), directory)
}

fn of_shop(setup: Setup, directory: &Path) -> Setup {
    let stats = setup.interfaces().stats.rsplit(':').next().unwrap().to_owned();
    let annotations = format!(r#"{{"scrape":"true","port":"{stats}","path":"/stats/prometheus"}}"#);
    let probers = format!(r#"{{"/app-health/shop/livez":{{"tcpSocket":{{"port":{stats}}}}}}}"#);
    setup
        .config_dir(directory)
        .flags(&["--labels", "istio=ingressgateway", "--namespace", "shop"])
        // Names are resolved to addresses of the families it has.
        .variables(&[("INSTANCE_IPS", "127.0.0.1")])
        .variables(&[("ISTIO_PROMETHEUS_ANNOTATIONS", &annotations), ("ISTIO_KUBE_APP_PROBERS", &probers)])
}

#[test]
fn tables_are_those_of_istioctl() {
    let (directory, port) = shop();
    let target = offline(&directory);
    let rows = |section| {
        let table = printed(&with(&["config", section], &target));
        table
            .lines()
            .map(|line| {
                line.split("     ")
                    .map(str::trim)
                    .filter(|c| !c.is_empty())
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        rows("listeners"),
        [
            vec!["ADDRESSES", "PORT", "MATCH", "DESTINATION"],
            vec!["0.0.0.0", &port.to_string(), "ALL", &format!("Route: http.{port}")],
        ]
    );
    let table = format!("http.{port}");
    let host = format!("www.shop.com:{port}");
    let route = |path| vec![table.as_str(), host.as_str(), "www.shop.com", path, "web.shop"];
    assert_eq!(
        rows("routes"),
        [
            vec!["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"],
            route("/gone"),
            route("/cart*"),
            route("/*"),
        ]
    );
    assert_eq!(rows("clusters")[1], ["web.shop.svc.cluster.local", "80", "-", "outbound", "EDS"]);
    let endpoint = ["10.1.0.1:8080", "HEALTHY", "outbound|80||web.shop.svc.cluster.local"];
    assert_eq!(rows("endpoints")[1], endpoint);
}

#[test]
fn endpoints_at_unix_sockets_are_told_by_their_paths() {
    let directory = TempDir::new().unwrap();
    let entry = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: a, namespace: shop}, spec: {hosts: \
                 [a.com], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: \
                 [{address: 'unix:///run/a.sock'}, {address: 'unix://@a'}]}}";
    fs::write(directory.path().join("a.yaml"), entry).unwrap();
    let running = gateway(directory.path()).start();
    running.await_ready();
    let live = ["--admin".to_owned(), running.interfaces.admin.clone()];
    for target in [&live[..], &offline(&directory)] {
        let table = printed(&with(&["config", "endpoints"], target));
        let names: Vec<_> = table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(names, ["unix:///run/a.sock", "unix://@a"], "{table}");
    }
}

#[test]
fn json_and_yaml_are_envoys_objects() {
    let (directory, port) = shop();
    let target = offline(&directory);
    let routes: Value =
        serde_json::from_str(&printed(&with(&["config", "routes", "-o", "json"], &target))).unwrap();
    assert_eq!(routes[0]["name"], format!("http.{port}"));
    assert_eq!(routes[0]["virtual_hosts"][0]["routes"][0]["direct_response"]["status"], 410);
    let yaml = printed(&with(&["config", "routes", "-o", "yaml"], &target));
    assert!(yaml.contains(&format!("name: http.{port}")), "{yaml}");
}

#[test]
fn explain_names_every_decision_and_why_earlier_routes_lost() {
    let (directory, port) = shop();
    let target = offline(&directory);
    let url = format!("http://www.shop.com:{port}/basket");
    let text = printed(&with(&["explain", "request", "GET", &url], &target));
    for line in [
        &format!("listener      0.0.0.0_{port}"),
        "its domain `www.shop.com` is the name asked for",
        "not #1: the path is `/basket` (wants path exactly `/gone`)",
        "not #2: the path is `/basket` (wants path prefix `/cart`)",
        "written in VirtualService shop/web",
        "verdict: forwarded to outbound|80||web.shop.svc.cluster.local (2 endpoints)",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}

#[test]
fn explain_tells_every_change_made_on_the_way() {
    let (directory, port) = shop();
    let api = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: shop}
spec:
  hosts: [api.shop.com]
  gateways: [edge]
  http:
  - match: [{uri: {prefix: /v1/}}]
    rewrite: {uri: /, authority: api.internal}
    headers: {request: {set: {x-version: '1'}, remove: [x-debug]}}
    timeout: 3s
    retries: {attempts: 2, perTryTimeout: 1s, retryOn: 'connect-failure,503'}
    corsPolicy: {allowOrigins: [{exact: https://shop.com}], allowMethods: [GET]}
    route: [{destination: {host: web}}]
";
    fs::write(directory.path().join("api.yaml"), api).unwrap();
    let url = format!("http://api.shop.com:{port}/v1/items?all");
    let text = printed(&with(&["explain", "request", "GET", &url], &offline(&directory)));
    for line in [
        "path rewritten from `/v1/items?all` to `/items?all`",
        "authority rewritten to `api.internal`",
        "request header `x-version` set to `1`",
        "request header `x-debug` removed",
        "timeout 3s",
        "up to 2 retries on connect-failure,503, each try within 1s",
        "cross-origin requests are allowed from `https://shop.com`, methods GET",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}

#[test]
fn explain_tells_answers_of_the_proxys_own_with_their_flags() {
    let (directory, port) = shop();
    let target = offline(&directory);
    let verdict = |url: &str| {
        let text = printed(&with(&["explain", "request", "GET", url], &target));
        text.lines().last().unwrap().to_owned()
    };
    let at = |host_and_path: &str| {
        verdict(&format!("http://{}", host_and_path.replacen('/', &format!(":{port}/"), 1)))
    };
    assert_eq!(at("www.shop.com/gone"), "verdict: 410 answered by the route itself (0 bytes of body)");
    assert_eq!(at("www.other.com/"), "verdict: 404 NR route_not_found");
    let unknown = at("www.shop.com/cart");
    assert!(unknown.starts_with("verdict: 503 NC cluster_not_found (outbound|"), "{unknown}");
    assert_eq!(verdict("http://www.shop.com:1/"), "verdict: no listener: the connection is refused");
}

#[test]
fn a_running_agent_says_the_same_as_its_directory() {
    let (directory, port) = shop();
    let running = gateway(directory.path()).start();
    let target = offline(&directory);
    let live = ["--admin".to_owned(), running.interfaces.admin.clone()];
    running.await_ready();
    assert_eq!(printed(&["request", "get", "/ready", "--admin", &running.interfaces.admin]), "LIVE\n");
    for section in ["listeners", "routes", "clusters"] {
        let command = ["config", section];
        assert_eq!(printed(&with(&command, &live)), printed(&with(&command, &target)));
    }
    let url = format!("http://www.shop.com:{port}/basket");
    let command = ["explain", "request", "GET", &url, "-H", "x-a: b"];
    assert_eq!(printed(&with(&command, &live)), printed(&with(&command, &target)));
    let dump: Value = serde_json::from_str(&printed(&with(&["config", "all", "-o", "json"], &live))).unwrap();
    assert!(dump["configs"][0]["dynamic_active_clusters"][0]["last_updated"].is_string(), "{dump:#}");
}

/// Upper ends of Istio's buckets, in milliseconds.
const BUCKETS: &str =
    "0.5 1 5 10 25 50 100 250 500 1000 2500 5000 10000 30000 60000 300000 600000 1800000 3600000 +Inf";

#[test]
fn metrics_tell_what_was_served_by_destination_and_outcome() {
    let (directory, port) = shop();
    let running = gateway(directory.path()).start();
    running.await_ready();
    for path in ["/gone", "/gone", "/cart"] {
        let url = format!("http://127.0.0.1:{port}{path}");
        let curl = Command::new("curl").args(["-s", "-H", "Host: www.shop.com", &url]).output().unwrap();
        assert!(curl.status.success(), "curl is installed and reaches {url}");
    }
    let metrics = printed(&["request", "GET", "/stats/prometheus", "--admin", &running.interfaces.stats]);
    let value = |start: &str, holding: &[&str]| {
        let mut lines = metrics.lines().filter(|line| line.starts_with(start));
        let line = lines.find(|line| holding.iter().all(|part| line.contains(part)));
        line.unwrap_or_else(|| panic!("no {start} {holding:?} in\n{metrics}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    let gone = [r#"reporter="source""#, r#"response_code="410""#, r#"response_flags="-""#];
    assert_eq!(value("istio_requests_total{", &gone), "2");
    assert_eq!(value("istio_request_duration_milliseconds_count{", &gone), "2");
    assert_eq!(value("istio_requests_total{", &[r#"response_code="503""#, r#"response_flags="NC""#]), "1");
    let bounds: Vec<_> = metrics
        .lines()
        .filter(|line| {
            line.starts_with("istio_request_duration_milliseconds_bucket{") && line.contains("\"410\"")
        })
        .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next())
        .collect();
    assert_eq!(bounds.join(" "), BUCKETS);
    assert_eq!(value("istio_build{", &[r#"component="proxy""#]), "1");
    assert_eq!(value("postern_live", &[]), "1");
    assert_eq!(value("postern_config_findings{", &[r#"severity="warning""#]), "1");
    // The agent's port adds what the application says: here the proxy plays the application too.
    let merged = printed(&["request", "GET", "/stats/prometheus", "--admin", &running.interfaces.agent]);
    assert_eq!(merged.matches("istio_build{").count(), 2);
}

#[test]
fn the_log_level_changes_while_the_proxy_runs() {
    let (directory, _) = shop();
    let running = gateway(directory.path()).start();
    running.await_ready();
    let said = |path: &str| printed(&["request", "POST", path, "--admin", &running.interfaces.admin]);
    let told = said("/logging?level=info,dataplane=debug");
    assert!(told.starts_with("active loggers:\n  dataplane: debug\n  h2: error\n"), "{told}");
    let told = said("/logging?paths=dataplane:warning,h2:trace");
    assert!(told.starts_with("active loggers:\n  dataplane: warning\n  h2: trace\n"), "{told}");
    assert!(said("/logging?h2=critical").contains("\n  h2: error\n  postern_agent: info\n"));
    assert!(said("/logging").contains("\n  h2: error\n"));
    for wrong in
        ["/logging?nope=debug", "/logging?h2=loud", "/logging?h2=info&level=info", "/logging?paths=h2"]
    {
        let told = agent(&["request", "POST", wrong, "--admin", &running.interfaces.admin]);
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.starts_with("error: ") && told.contains("\nusage: /logging?<name>=<level>"), "{told}");
    }
    let wrong = agent(&["request", "POST", "/logging?level=loud", "--admin", &running.interfaces.admin]);
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("invalid log level `loud`"), "{wrong:?}");
}

#[test]
fn what_cannot_be_answered_says_why() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let said = |arguments: &[&str]| {
        let output = agent(arguments);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = said(&["config", "routes", "--admin", &nobody]);
    assert!(
        code == Some(1) && error.contains(&format!("cannot reach the admin interface at {nobody}")),
        "{error}"
    );
    let (code, error) = said(&["config", "routes", "--config-dir", "/nonexistent"]);
    assert!(code == Some(1) && error.contains("`/nonexistent`"), "{error}");
    let (code, error) = said(&["explain", "request", "GET", "/path", "--config-dir", "/"]);
    assert!(code == Some(1) && error.contains("`/path` is no whole URL"), "{error}");
    for (method, url, wrong) in [
        ("GET", "http://b:99999/", "`99999` in `http://b:99999/` is no port"),
        ("GET", "http://[::1]:0/", "`0` in `http://[::1]:0/` is no port"),
        ("G T", "http://b:80/", "`G T` is no method"),
    ] {
        let (code, error) = said(&["explain", "request", method, url, "--config-dir", "/"]);
        assert!(code == Some(1) && error.contains(wrong), "{error}");
    }
    let (code, error) = said(&["config", "route-tables"]);
    assert!(code == Some(2) && error.contains("possible values: listeners, routes"), "{error}");
    let (code, error) = said(&["wait", "--timeout", "200ms", "--status", &nobody]);
    assert!(code == Some(1) && error.contains("not ready within 200ms"), "{error}");
}

#[test]
fn gateways_of_other_namespaces_are_left_out_where_the_mesh_wants_it_so() {
    let (directory, _) = shop();
    let file = directory.path().join("shop.yaml");
    let yaml = fs::read_to_string(&file).unwrap();
    fs::write(&file, yaml.replacen("namespace: shop", "namespace: elsewhere", 1)).unwrap();
    for (scoped, listeners) in [("false", 1), ("true", 0)] {
        let variables = [("PILOT_SCOPE_GATEWAY_TO_NAMESPACE", scoped)];
        let running = gateway(directory.path()).variables(&variables).start();
        running.await_ready();
        let table = printed(&["config", "listeners", "--admin", &running.interfaces.admin]);
        assert_eq!(table.lines().count() - 1, listeners, "{scoped}: {table}");
    }
}
