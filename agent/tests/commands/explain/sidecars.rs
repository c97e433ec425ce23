//! `explain request` about what a sidecar tells apart by address and server name, and which rules it follows.

use super::{explained, verdict};

/// Services that speak TLS: at an address of its own, at any, and in a range of addresses.
fn of_tls() -> String {
    let service = |name: &str, port: u16, endpoint: &str, addresses: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: {name}}}, \
             spec: {{hosts: [{name}.test], {addresses}resolution: STATIC, endpoints: [{{address: {endpoint}}}], \
             ports: [{{number: {port}, name: tls, protocol: TLS}}]}}}}\n---\n"
        )
    };
    service("own", 8443, "10.1.0.1", "addresses: [10.9.0.1], ")
        + &service("any", 9443, "10.1.0.2", "")
        + &service("range", 7443, "10.1.0.3", "addresses: [10.9.1.0/24], ")
}

/// Where others may be reached at the same address, the server name says who is meant; where nobody else is, nothing
/// has to.
#[test]
fn server_names_are_asked_for_only_where_an_address_is_shared() {
    let services = of_tls();
    let to = |name: &str, destination: &str| {
        let port = destination.rsplit(':').next().unwrap();
        verdict(&services, &["GET", &format!("https://{name}.test:{port}/"), "--dst", destination])
    };
    for (name, destination, cluster) in [
        ("own", "10.9.0.1:8443", "outbound|8443||own.test (1 endpoint)"),
        ("other", "10.9.0.1:8443", "outbound|8443||own.test (1 endpoint)"),
        ("any", "192.0.2.7:9443", "outbound|9443||any.test (1 endpoint)"),
        ("other", "192.0.2.7:9443", "PassthroughCluster (original destination)"),
        ("range", "10.9.1.7:7443", "outbound|7443||range.test (1 endpoint)"),
        ("other", "10.9.1.7:7443", "PassthroughCluster (original destination)"),
        ("range", "10.9.2.7:7443", "PassthroughCluster (original destination)"),
    ] {
        let expected = format!("TCP relayed to {cluster}; the bytes are not read as HTTP");
        assert_eq!(to(name, destination), expected, "{name} at {destination}");
    }
}

/// A Sidecar limits services; for those that are left rules count wherever they count without it.
#[test]
fn rules_for_services_that_a_sidecar_sees_need_not_be_seen_themselves() {
    const SERVICES: &str = "
{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: own, namespace: shop}, spec: {egress: [{hosts: [far/web.far.svc.cluster.local]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: far}, spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: hidden, namespace: far}, spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}}
---
";
    let rule = |namespace: &str, more: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: all, namespace: {namespace}}}, \
             spec: {{host: '*.far.svc.cluster.local', {more}trafficPolicy: {{loadBalancer: {{simple: RANDOM}}}}}}}}\n---\n"
        )
    };
    let followed = |rules: &str, host: &str| {
        let text = explained(&(SERVICES.to_owned() + rules), &["GET", &format!("http://{host}/")]);
        let by = text.lines().find_map(|line| line.trim().strip_prefix("policies of DestinationRule "));
        by.map(str::to_owned)
    };
    for (rules, expected) in [
        (rule("istio-system", ""), Some("istio-system/all")),
        (rule("far", "") + &rule("istio-system", ""), Some("far/all")),
        (rule("far", "exportTo: [.], ") + &rule("istio-system", ""), Some("istio-system/all")),
        (rule("shop", "exportTo: [.], ") + &rule("far", ""), Some("shop/all")),
        (rule("elsewhere", ""), None),
    ] {
        assert_eq!(followed(&rules, "web.far").as_deref(), expected, "{rules}");
        assert_eq!(followed(&rules, "hidden.far"), None, "{rules}");
    }
}

#[test]
fn a_service_that_a_sidecar_keeps_from_the_workload_is_named_with_it() {
    let yaml = "
{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: s, namespace: shop}, spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: [./seen.shop.svc.cluster.local]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: seen, namespace: shop}, spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: hidden, namespace: shop}, spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: away, namespace: far}, spec: {clusterIP: 10.96.0.3, ports: [{name: http, port: 80}]}}
";
    let told = |arguments: &[&str], host: &str| {
        let text = explained(yaml, &[&["GET"], arguments].concat());
        let line =
            format!("not {host}.svc.cluster.local: Sidecar shop/s does not import it (`egress[].hosts`)\n");
        assert!(text.contains(&line), "{arguments:?}: {text}");
    };
    told(&["http://hidden/"], "hidden.shop");
    told(&["http://hidden.shop/", "--dst", "10.96.0.2:80"], "hidden.shop");
    told(&["http://away.far/"], "away.far");
    told(&["http://away.far.svc.cluster.local/"], "away.far");
    for other in ["http://seen/", "http://away/", "http://hid/"] {
        let text = explained(yaml, &["GET", other]);
        assert!(!text.contains("does not import it"), "{other}: {text}");
    }
}
