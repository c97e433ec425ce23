//! Which endpoints a Service or a ServiceEntry has.

use std::collections::BTreeSet;

use super::gateway::Gateway;
use crate::support::{Endpoint, eventually, free_port, ok, pod};

/// Servers called `one`, `two` and `three` at three addresses and one port.
fn pods() -> ([Endpoint; 3], u16) {
    let port = free_port();
    let start = |(n, name)| Endpoint::answering_at(pod(n, port), move |_, _| ok(name));
    ([(1, "one"), (2, "two"), (3, "three")].map(start), port)
}

/// A Service that the rules of `app.example.com` lead to.
fn service(spec: &str, more: &str) -> String {
    whole_service(spec, "{name: http, port: 80}", more)
}

/// The same with another port.
pub(crate) fn service_with(port: &str, more: &str) -> String {
    whole_service("", port, more)
}

fn whole_service(spec: &str, port: &str, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: app}}
spec:
  hosts: [app.example.com]
  gateways: [gw]
  http: [{{route: [{{destination: {{host: web, port: {{number: 80}}}}}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{{spec}ports: [{port}]}}
---
{more}"
    )
}

/// Its endpoints, at a port of that name and number.
pub(crate) fn slice((name, port): (&str, u16), endpoints: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\n\
         ports: [{{name: other, port: 1}}, {{name: {name}, port: {port}}}]\nendpoints:\n{endpoints}"
    )
}

/// Everybody who answers.
fn met(gateway: &Gateway) -> BTreeSet<String> {
    let mut client = gateway.client();
    (0..40)
        .map(|_| client.get("/"))
        .map(|answer| if answer.status() == 200 { answer.body } else { answer.status().to_string() })
        .collect()
}

#[test]
fn endpoints_are_those_that_are_ready_or_else_those_that_still_serve() {
    const UNREADY: &str = "publishNotReadyAddresses: true, ";
    let (_servers, port) = pods();
    let one = |conditions: &str| format!("- {{addresses: [127.0.1.1], {conditions}}}\n");
    let two = |conditions: &str| format!("- {{addresses: [127.0.1.2], {conditions}}}\n");
    const READY: &str = "conditions: {ready: true}";
    const NOT: &str = "conditions: {ready: false}";
    const LEAVING: &str = "conditions: {ready: false, serving: true, terminating: true}";
    const GONE: &str = "conditions: {ready: false, serving: false, terminating: true}";
    let slices = [
        ("", one(READY) + &two("conditions: {}"), "one two"),
        ("", one(READY) + &two(""), "one two"),
        ("", one(READY) + &two(NOT), "one"),
        ("", one(READY) + &two(LEAVING), "one"),
        ("", one(NOT) + &two(LEAVING), "two"),
        ("", one(GONE) + &two(LEAVING), "two"),
        ("", one(NOT) + &two(GONE), "503"),
        (UNREADY, one(READY) + &two(NOT), "one two"),
        (UNREADY, one(READY) + &two(LEAVING), "one two"),
        (UNREADY, one(NOT), "one"),
    ];
    for (spec, endpoints, expected) in slices {
        let gateway = Gateway::start(&service(spec, &slice(("http", port), &endpoints)));
        let met = met(&gateway).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(met, expected, "{spec}{endpoints}");
    }
}

#[test]
fn endpoints_objects_count_where_there_is_no_slice() {
    let (_servers, port) = pods();
    let listed = |ready: &str, unready: &str| {
        let ips = |names: &str| {
            names.split_whitespace().map(|n| format!("{{ip: 127.0.1.{n}}}")).collect::<Vec<_>>().join(", ")
        };
        format!(
            "apiVersion: v1\nkind: Endpoints\nmetadata: {{name: web}}\nsubsets:\n- addresses: [{}]\n  \
             notReadyAddresses: [{}]\n  ports: [{{name: http, port: {port}}}]\n",
            ips(ready),
            ips(unready)
        )
    };
    let both = format!("{}---\n{}", listed("1 2", ""), slice(("http", port), "- {addresses: [127.0.1.3]}\n"));
    for (spec, more, expected) in [
        ("", listed("1 2", "3"), "one two"),
        ("publishNotReadyAddresses: true, ", listed("1", "2"), "one two"),
        ("", listed("", "3"), "503"),
        ("", both, "three"),
    ] {
        let gateway = Gateway::start(&service(spec, &more));
        let met = met(&gateway).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(met, expected, "{spec}{more}");
    }
}

/// The port of a ServiceEntry's endpoint: its own, else `targetPort`, else `number`.
#[test]
fn endpoints_of_entries_have_ports_of_their_own() {
    let (servers, port) = pods();
    let own = servers[0].address.port();
    let entry = |ports: &str, endpoint: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: app}}\nspec:\n  \
             hosts: [app.example.com]\n  resolution: STATIC\n  ports: [{ports}]\n  endpoints: [{endpoint}]\n"
        )
    };
    let other = "{number: 81, name: tcp, protocol: TCP}";
    for (ports, endpoint) in [
        (
            format!("{{number: 80, name: http, protocol: HTTP, targetPort: 1}}, {other}"),
            format!("{{address: 127.0.1.1, ports: {{http: {own}}}}}"),
        ),
        (
            format!("{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}, {other}"),
            "{address: 127.0.1.1, ports: {tcp: 1}}".to_owned(),
        ),
    ] {
        let gateway = Gateway::start(&entry(&ports, &endpoint));
        assert_eq!(met(&gateway), BTreeSet::from(["one".to_owned()]), "{ports} {endpoint}");
    }
}

#[test]
fn workloads_are_selected_by_their_labels() {
    let (_servers, port) = pods();
    let text = format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: app}}
spec:
  hosts: [app.example.com]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}, {{number: 81, name: tcp, protocol: TCP}}]
  workloadSelector: {{labels: {{app: web}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: vm}}
spec: {{address: 127.0.1.1, labels: {{app: web}}, weight: 3}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: other}}
spec: {{address: 127.0.1.3, labels: {{app: other}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
status: {{podIP: 127.0.1.2, phase: Running}}
"
    );
    let gateway = Gateway::start(&text);
    assert_eq!(met(&gateway), BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    let mut client = gateway.client();
    let heavy = (0..200).filter(|_| client.get("/").body == "one").count();
    assert!((110..190).contains(&heavy), "three of four go to the one that weighs 3: {heavy} of 200");
}

#[test]
fn endpoints_come_and_go_without_an_error() {
    let (_servers, port) = pods();
    let all = [1, 2, 3].map(|n| format!("- {{addresses: [127.0.1.{n}]}}\n"));
    let gateway = Gateway::start(&service("", &slice(("http", port), &all[0])));
    let mut client = gateway.client();
    for (endpoints, name) in [(&all[1], "two"), (&all[2], "three"), (&all[0], "one")] {
        gateway.change(&service("", &slice(("http", port), endpoints)));
        eventually(name, || {
            let answer = client.get("/");
            assert_eq!(answer.status(), 200, "{}", gateway.log());
            answer.body == name
        });
    }
}
