//! The names that a proxy answers its workload's questions about.

use resources::{Files, ReadDefaults};
use translate::{Credentials, Proxy, ProxyKind, translate};

const SERVICES: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: prod}, spec: {clusterIPs: [10.96.0.1, 'fd00::1'], clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: other}, spec: {clusterIP: None, ports: [{name: tcp, port: 5432}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: db-1, namespace: other, labels: {kubernetes.io/service-name: db}}, addressType: IPv4, ports: [{name: tcp, port: 5432}], endpoints: [{addresses: [10.1.0.1]}, {addresses: [10.1.0.2]}, {addresses: [10.1.0.3], conditions: {ready: false}}]}
---
{apiVersion: v1, kind: Service, metadata: {name: secret, namespace: hidden, annotations: {networking.istio.io/exportTo: '.'}}, spec: {clusterIP: 10.96.0.9, ports: [{name: http, port: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: outside, namespace: prod}, spec: {hosts: [api.example.com, '*.wild.example.com'], addresses: [240.1.1.1], ports: [{number: 443, name: tls, protocol: TLS}], resolution: NONE}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: nowhere, namespace: prod}, spec: {hosts: [by-name.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}}
";

/// What a sidecar in `prod` says of a name, addresses joined; nothing when somebody else is to be asked.
fn answered(answers_dns: bool, name: &str) -> Option<String> {
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", SERVICES);
    let (set, findings) = files.resources();
    assert!(findings.is_empty(), "{findings:?}");
    let proxy = Proxy { answers_dns, ..Proxy::new(ProxyKind::Sidecar, "prod") };
    let snapshot = translate(&set, &Credentials::UNSEEN, &proxy).snapshot;
    let addresses = snapshot.names().addresses(name)?.iter().map(ToString::to_string);
    Some(addresses.collect::<Vec<_>>().join(" "))
}

#[test]
fn services_are_known_by_the_names_that_their_namespace_allows() {
    let web = Some("10.96.0.1 fd00::1".to_owned());
    for name in ["web", "web.prod", "web.prod.svc", "web.prod.svc.cluster.local"] {
        assert_eq!(answered(true, name), web, "{name}");
    }
    // Headless: the pods that are ready.
    for name in ["db.other", "db.other.svc.cluster.local"] {
        assert_eq!(answered(true, name).as_deref(), Some("10.1.0.1 10.1.0.2"), "{name}");
    }
    for name in ["api.example.com", "x.wild.example.com"] {
        assert_eq!(answered(true, name).as_deref(), Some("240.1.1.1"), "{name}");
    }
    for name in
        ["db", "secret.hidden.svc.cluster.local", "by-name.example.com", "wild.example.com", "x.db.other"]
    {
        assert_eq!(answered(true, name), None, "{name}");
    }
    assert_eq!(answered(false, "web"), None);
}
