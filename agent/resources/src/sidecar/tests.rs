use super::*;
use crate::{Resource, testing};

fn text(spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: sc}}\nspec: {{{spec}}}\n")
}

fn sidecar(spec: &str) -> Sidecar {
    let resource = testing::valid(&text(spec));
    let Resource::Sidecar(object) = resource else { panic!("no Sidecar") };
    object.spec.clone()
}

const PORT: &str = "port: {number: 80, protocol: HTTP, name: http}";

#[test]
fn every_field_is_read() {
    let resource = testing::valid(&text(
        "workloadSelector: {labels: {app: a}}, inboundConnectionPool: {tcp: {maxConnections: 3}}, \
         outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: out, port: {number: 80}}}, \
         ingress: [{port: {number: 9080, protocol: HTTP, name: a}, bind: 0.0.0.0, captureMode: IPTABLES, \
           defaultEndpoint: 'unix:///run/a', connectionPool: {http: {maxRetries: 1}}, \
           tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}}], \
         egress: [{port: {number: 3306, protocol: MYSQL, name: b}, bind: 127.0.0.1, captureMode: NONE, hosts: [./*]}, \
           {hosts: ['*/A.com', 'ns/*.b.com', '~/*', '~ns/c.com']}]",
    ));
    let Resource::Sidecar(object) = resource else { panic!("no Sidecar") };
    let read = object.spec.clone();
    assert_eq!(read.workload_selector.unwrap()["app"], "a");
    let ingress = &read.ingress[0];
    assert_eq!((ingress.port.number, ingress.port.protocol), (9080, Some(Protocol::Http)));
    assert_eq!(ingress.default_endpoint, Some(IngressEndpoint::Unix("/run/a".to_owned())));
    assert_eq!((ingress.bind.unwrap().is_unspecified(), ingress.capture_mode), (true, CaptureMode::Iptables));
    assert_eq!(read.egress[0].bind.as_deref(), Some("127.0.0.1"));
    let hosts: Vec<_> = read.egress[1].hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["*/a.com", "ns/*.b.com", "~/*", "~ns/c.com"]);
    let host = |index: usize| {
        let host = &read.egress[1].hosts[index];
        (host.namespace.clone(), host.is_excluded)
    };
    assert_eq!(host(2), (EgressNamespace::None, false));
    assert_eq!(host(3), (EgressNamespace::Named("ns".to_owned()), true));
    let outbound = read.outbound_traffic_policy.unwrap();
    assert_eq!(outbound.mode, OutboundTrafficPolicy::AllowAny);
    assert_eq!(outbound.egress_proxy.unwrap().host, "out");
}

#[test]
fn an_outbound_policy_without_mode_refuses() {
    let read = sidecar("outboundTrafficPolicy: {}");
    assert_eq!(read.outbound_traffic_policy.unwrap().mode, OutboundTrafficPolicy::RegistryOnly);
}

#[test]
fn ingress_listeners_are_checked() {
    let of = |fields: &str| text(&format!("ingress: [{{{fields}}}]"));
    let port = |more: &str| format!("{PORT}, {more}");
    testing::assert_complaints(
        &[
            ("bind: 10.0.0.1", "spec.ingress[0].port: is missing"),
            ("port: {protocol: HTTP, name: a}", "spec.ingress[0].port.number: is missing or zero"),
            ("port: {number: 70000, protocol: HTTP, name: a}", "port.number: is out of range"),
            (
                &format!("{PORT}}}, {{{PORT}"),
                "spec.ingress[1].port.number: is the port of an earlier listener",
            ),
            (&port("bind: 'unix:///run/a'"), "spec.ingress[0].bind: is no address to listen on"),
            (&port("defaultEndpoint: '10.0.0.1:80'"), "defaultEndpoint: is no place in the workload"),
            (&port("defaultEndpoint: '127.0.0.1'"), "defaultEndpoint: is no place in the workload"),
            (&port("defaultEndpoint: '127.0.0.1:0'"), "defaultEndpoint: is no place in the workload"),
            (&port("captureMode: TPROXY"), "captureMode: is not a known word"),
            (
                &port("tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k, subjectAltNames: [a]}"),
                "tls.subjectAltNames: is not for Sidecars",
            ),
            (
                &port("tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k, httpsRedirect: true}"),
                "tls.httpsRedirect: is not for Sidecars",
            ),
            (&port("tls: {mode: SIMPLE, credentialName: a}"), "tls.credentialName: is not for Sidecars"),
            (&port("tls: {mode: ISTIO_MUTUAL}"), "tls.mode: is no mode of a Sidecar (found `ISTIO_MUTUAL`"),
            (
                "port: {number: 1, protocol: TCP, name: a}, connectionPool: {http: {maxRetries: 1}}",
                "connectionPool.http: has no effect on a port that is not HTTP",
            ),
        ],
        of,
    );
    for endpoint in ["127.0.0.1:1", "0.0.0.0:1", "'[::1]:1'", "'[::]:1'", "'unix:///a'", "''"] {
        sidecar(&format!("ingress: [{{{}}}]", port(&format!("defaultEndpoint: {endpoint}"))));
    }
}

#[test]
fn egress_listeners_are_checked() {
    let of = |fields: &str| text(&format!("egress: [{fields}]"));
    let hosts = |hosts: &str| format!("{{hosts: [{hosts}]}}");
    testing::assert_complaints(
        &[
            ("{bind: 127.0.0.1}", "spec.egress[0].hosts: is missing"),
            ("{hosts: []}", "spec.egress[0].hosts: is empty"),
            (&hosts("a.com"), "spec.egress[0].hosts[0]: names no namespace (found `a.com`"),
            (&hosts("ns/web"), "spec.egress[0].hosts[0]: is a short name"),
            (&hosts("ns/*web.com"), "spec.egress[0].hosts[0]: is a partial wildcard"),
            (&hosts("'n s/a.com'"), "spec.egress[0].hosts[0]: names no namespace"),
            (&hosts("ns/a.com, ns/a.com"), "spec.egress[0].hosts[1]: is written twice"),
            (&hosts("'*/*', ns/a.com"), "spec.egress[0].hosts[0]: takes in every other host"),
            (
                "{hosts: [./*]}, {hosts: ['*/*']}",
                "spec.egress[0]: has no port and is not the last of its list",
            ),
            (
                "{port: {number: 0, protocol: HTTP, name: a}, hosts: [./*]}",
                "spec.egress[0].port.number: is missing or zero",
            ),
            ("{bind: localhost, hosts: [./*]}", "spec.egress[0].bind: is no address to listen on"),
            ("{bind: 'unix://', hosts: [./*]}", "spec.egress[0].bind: is no path of a unix socket"),
            (
                "{bind: 'unix:///a', captureMode: IPTABLES, hosts: [./*]}",
                "spec.egress[0].captureMode: cannot redirect to a unix socket",
            ),
            (
                "{bind: 'unix:///a', port: {number: 1, protocol: TCP, name: a}, hosts: [./*]}",
                "spec.egress[0].port.number: a unix socket has no port",
            ),
        ],
        of,
    );
    sidecar("egress: [{bind: 'unix:///a', port: {number: 0, protocol: TCP, name: a}, hosts: [./*]}]");
}

#[test]
fn something_is_set_and_a_proxy_of_egress_gets_calls() {
    testing::assert_complaints(
        &[
            ("", "spec: sets nothing (expected at least one of `ingress`"),
            ("workloadSelector: {labels: {a: b}}", "spec: sets nothing"),
            ("outboundTrafficPolicy: {}, workloadSelector: {}", "spec.workloadSelector: names no label"),
            (
                "outboundTrafficPolicy: {mode: REGISTRY_ONLY, egressProxy: {host: a, port: {number: 1}}}",
                "egressProxy: has no calls to take with mode REGISTRY_ONLY",
            ),
            (
                "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a}}",
                "egressProxy.port: is missing (expected `number`)",
            ),
            ("outboundTrafficPolicy: {mode: ALLOWANY}", "did you mean `ALLOW_ANY`?"),
            ("inboundConnectionPool: {}", "spec.inboundConnectionPool: is empty"),
            ("egres: [], outboundTrafficPolicy: {}", "did you mean `egress`?"),
        ],
        text,
    );
}
