//! What only a running agent knows: where names are, who is left alone, and what was sent to whom.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::Command,
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

use super::gateway;
use crate::support::{agent, eventually, free_port, printed};

/// Answers every request with a status, one per connection.
fn answering(status: u16) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            _ = client.read(&mut [0; 4096]);
            _ = client.write_all(
                format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").as_bytes(),
            );
        }
    });
    address
}

/// Two endpoints of one service, and a service that is a name.
fn yaml(port: u16, bad: SocketAddr, good: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {port}, name: http, protocol: HTTP}}
    hosts: ['*.shop.com']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: shop}}
spec:
  hosts: [www.shop.com]
  gateways: [edge]
  http:
  - match: [{{uri: {{prefix: /named}}}}]
    route: [{{destination: {{host: named.example.com}}}}]
  - route: [{{destination: {{host: web.example.com}}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: web, namespace: shop}}
spec:
  hosts: [web.example.com]
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints:
  - {{address: 127.0.0.1, ports: {{http: {bad}}}}}
  - {{address: 127.0.0.1, ports: {{http: {good}}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: named, namespace: shop}}
spec:
  hosts: [named.example.com]
  resolution: DNS
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: localhost, ports: {{http: {good}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web, namespace: shop}}
spec:
  host: web.example.com
  trafficPolicy:
    loadBalancer: {{simple: ROUND_ROBIN}}
    outlierDetection: {{consecutive5xxErrors: 2, baseEjectionTime: 600s}}
",
        bad = bad.port(),
        good = good.port(),
    )
}

#[test]
fn health_names_and_counts_of_a_running_agent_are_shown() {
    let (bad, good, port) = (answering(500), answering(200), free_port());
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("shop.yaml"), yaml(port, bad, good)).unwrap();
    let running = gateway(directory.path()).start();
    running.await_ready();
    for _ in 0..10 {
        let url = format!("http://127.0.0.1:{port}/");
        let curl = Command::new("curl").args(["-s", "-H", "Host: www.shop.com", &url]).status().unwrap();
        assert!(curl.success());
    }
    let endpoints = || printed(&["config", "endpoints", "--admin", &running.interfaces.admin]);
    // Names may take longer to be resolved than the proxy waits for them.
    eventually("the name is resolved", || endpoints().contains("named.example.com"));
    let table = endpoints();
    let row = |address: SocketAddr, cluster: &str| {
        let address = address.to_string();
        let row =
            table.lines().find(|line| line.starts_with(&address) && line.contains(cluster)).unwrap_or("");
        row.split_whitespace().skip(1).take(2).collect::<Vec<_>>().join(" ")
    };
    assert!(table.starts_with("ENDPOINT"), "{table}");
    assert_eq!(row(bad, "web.example.com"), "HEALTHY FAILED", "{table}");
    assert_eq!(row(good, "web.example.com"), "HEALTHY OK", "{table}");
    assert_eq!(row(good, "named.example.com"), "HEALTHY OK", "{table}");

    let clusters = printed(&["request", "GET", "/clusters", "--admin", &running.interfaces.admin]);
    let of = |address: SocketAddr, field: &str| {
        let start = format!("outbound|80||web.example.com::{address}::{field}::");
        clusters.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or("missing").to_owned()
    };
    assert_eq!(of(bad, "health_flags"), "/failed_outlier_check", "{clusters}");
    assert_eq!(
        ["rq_error", "rq_total", "cx_total", "cx_active"].map(|field| of(bad, field)),
        ["2", "2", "2", "0"]
    );
    assert_eq!(["rq_success", "rq_total", "rq_active"].map(|field| of(good, field)), ["8", "8", "0"]);

    let explained = |path: &str| {
        let url = format!("http://www.shop.com:{port}{path}");
        printed(&["explain", "request", "GET", &url, "--admin", &running.interfaces.admin])
    };
    let text = explained("/");
    assert!(text.contains(&format!("not {bad}: it is ejected for its failures")), "{text}");
    assert!(text.contains(&format!("in turn among {good}\n")), "{text}");
    let text = explained("/named");
    assert!(text.contains(&format!("among {good}")), "{text}");

    let dump = printed(&["request", "GET", "/config_dump?include_eds", "--admin", &running.interfaces.admin]);
    let dump: Value = serde_json::from_str(&dump).unwrap();
    let assignments = dump["configs"][1]["dynamic_endpoint_configs"].as_array().unwrap();
    let unhealthy = assignments.iter().any(|entry| entry.to_string().contains("UNHEALTHY"));
    assert!(unhealthy, "{assignments:?}");
}

/// A listener whose port somebody has, told wherever the configuration is looked at, until it is open.
#[test]
fn a_listener_that_cannot_be_opened_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (bad, good) = (answering(500), answering(200));
    let directory = TempDir::new().unwrap();
    let yaml = yaml(port, bad, good).replace(
        "name: http, protocol: HTTP}\n    hosts",
        "name: http, protocol: HTTP}\n    bind: 127.0.0.1\n    hosts",
    );
    fs::write(directory.path().join("shop.yaml"), yaml).unwrap();
    let running = gateway(directory.path()).start();
    let told = || printed(&["request", "GET", "/findings", "--admin", &running.interfaces.admin]);
    eventually("it is told", || {
        let asked = agent(&["request", "GET", "/findings", "--admin", &running.interfaces.admin]);
        String::from_utf8_lossy(&asked.stdout).contains("Address already in use")
    });
    let shown = agent(&["config", "listeners", "--admin", &running.interfaces.admin]);
    let (table, said) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    assert!(table.contains(&port.to_string()) && said.contains("Address already in use"), "{table}{said}");
    let dump = printed(&["request", "GET", "/config_dump", "--admin", &running.interfaces.admin]);
    assert!(dump.contains("error_state"), "{dump}");
    let errors = || {
        let metrics = printed(&["request", "GET", "/stats/prometheus", "--admin", &running.interfaces.stats]);
        let name = r#"postern_config_findings{severity="error"} "#;
        metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned()
    };
    assert_eq!(errors(), "1");
    drop(taken);
    eventually("it is open", || !told().contains("Address already in use"));
    assert_eq!(errors(), "0");
    let shown = agent(&["config", "listeners", "--admin", &running.interfaces.admin]);
    assert!(!String::from_utf8_lossy(&shown.stderr).contains("Address already in use"), "{shown:?}");
}
