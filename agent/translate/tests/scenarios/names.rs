//! The names that a proxy answers its workload's questions about.

use resources::{Files, ReadDefaults};
use translate::{Credentials, Proxy, ProxyKind, translate};

const SERVICES: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: prod}, spec: {clusterIPs: [10.96.0.1, 'fd00::1'], clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: other}, spec: {clusterIP: None, ports: [{name: tcp, port: 5432}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: db-1, namespace: other, labels: {kubernetes.io/service-name: db}}, addressType: IPv4, ports: [{name: tcp, port: 5432}], endpoints: [{addresses: [10.1.0.1], hostname: db-0}, {addresses: [10.1.0.2], hostname: db-1}, {addresses: [10.1.0.3], hostname: db-2, conditions: {ready: false}}]}
---
{apiVersion: v1, kind: Service, metadata: {name: store, namespace: prod}, spec: {type: ExternalName, externalName: db.other.svc.cluster.local}}
---
{apiVersion: v1, kind: Service, metadata: {name: far, namespace: prod}, spec: {type: ExternalName, externalName: www.example.org}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: given, namespace: prod}, spec: {hosts: [given.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}, status: {conditions: [], addresses: [{host: given.example.com, value: 240.240.7.7}, {host: given.example.com, value: '2001:2::7'}, {host: given.example.com, value: soon}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: refusing, namespace: prod, labels: {networking.istio.io/enable-autoallocate-ip: 'false'}}, spec: {hosts: [refusing.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: passed-on, namespace: prod}, spec: {hosts: [passed-on.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}}
---
{apiVersion: v1, kind: Service, metadata: {name: secret, namespace: hidden, annotations: {networking.istio.io/exportTo: '.'}}, spec: {clusterIP: 10.96.0.9, ports: [{name: http, port: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: outside, namespace: prod}, spec: {hosts: [api.example.com, '*.wild.example.com'], addresses: [240.1.1.1], ports: [{number: 443, name: tls, protocol: TLS}], resolution: NONE}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: nowhere, namespace: prod}, spec: {hosts: [by-name.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}}
";

/// What a sidecar in `prod` says of a name, addresses joined; nothing when somebody else is to be asked.
fn answered(answers_dns: bool, name: &str) -> Option<String> {
    answered_by(&Proxy { answers_dns, ..Proxy::new(ProxyKind::Sidecar, "prod") }, name)
}

fn answered_by(proxy: &Proxy, name: &str) -> Option<String> {
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", SERVICES);
    let (set, findings) = files.resources();
    assert!(findings.is_empty(), "{findings:?}");
    let snapshot = translate(&set, &Credentials::UNSEEN, proxy).snapshot;
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

#[test]
fn pods_of_headless_services_have_names_below_it() {
    for (name, address) in [
        ("db-0.db.other", Some("10.1.0.1")),
        ("db-1.db.other.svc.cluster.local", Some("10.1.0.2")),
        ("db-2.db.other", None),
        ("db-0.db", None),
        ("db-0.store", None),
    ] {
        assert_eq!(answered(true, name).as_deref(), address, "{name}");
    }
}

#[test]
fn other_names_of_known_services_stand_for_what_those_do() {
    for name in ["store", "store.prod.svc.cluster.local"] {
        assert_eq!(answered(true, name).as_deref(), Some("10.1.0.1 10.1.0.2"), "{name}");
    }
    // The pod's name server knows where this leads.
    assert_eq!(answered(true, "far.prod.svc.cluster.local"), None);
}

/// The entry's own, else what the control plane gave, else one of the proxy's choice where that is asked for.
#[test]
fn entries_without_addresses_may_get_some() {
    let proxy = |allocates_addresses, ips: &[&str]| Proxy {
        answers_dns: true,
        allocates_addresses,
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        ..Proxy::new(ProxyKind::Sidecar, "prod")
    };
    let both = ["10.0.0.1", "fd00::1"];
    for (ips, given, own) in [
        (&[][..], "240.240.7.7", "240.240.155.166"),
        (&both[..1], "240.240.7.7", "240.240.155.166"),
        (&both[1..], "2001:2::7", "2001:2::f0f0:9ba6"),
        (&both, "240.240.7.7 2001:2::7", "240.240.155.166 2001:2::f0f0:9ba6"),
    ] {
        for allocates in [true, false] {
            let proxy = proxy(allocates, ips);
            let answered = |name: &str| answered_by(&proxy, name);
            assert_eq!(answered("given.example.com").as_deref(), Some(given), "{ips:?}");
            let own = Some(own).filter(|_| allocates);
            assert_eq!(answered("by-name.example.com").as_deref(), own, "{ips:?}");
            assert_eq!(answered("api.example.com").as_deref(), Some("240.1.1.1"));
            for none in ["refusing.example.com", "passed-on.example.com"] {
                assert_eq!(answered(none), None, "{none}");
            }
        }
    }
}
