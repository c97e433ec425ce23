use super::*;
use crate::{Resource, testing};

fn text(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{{spec}}}\n")
}

fn service(spec: &str) -> Service {
    let Resource::Service(object) = testing::valid(&text(spec)) else { panic!("no Service") };
    object.spec.clone()
}

fn port(name: &str, port: u16, app_protocol: Option<&str>) -> ServicePort {
    let app_protocol = app_protocol.map(str::to_owned);
    ServicePort { name: name.to_owned(), port, app_protocol, ..ServicePort::default() }
}

#[test]
fn the_protocol_of_a_port_follows_its_name() {
    for (name, number, expected) in [
        ("http", 1, Some(Protocol::Http)),
        ("http-web", 1, Some(Protocol::Http)),
        ("HTTP-web", 1, Some(Protocol::Http)),
        ("http2-x", 1, Some(Protocol::Http2)),
        ("grpc-web-x", 1, Some(Protocol::GrpcWeb)),
        ("grpc-x", 1, Some(Protocol::Grpc)),
        ("tcp-http", 1, Some(Protocol::Tcp)),
        ("httpweb", 1, None),
        ("web-http", 1, None),
        ("", 80, None),
        ("", 3306, Some(Protocol::Tcp)),
        ("http", 3306, Some(Protocol::Http)),
    ] {
        assert_eq!(port(name, number, None).application_protocol(), expected, "{name} {number}");
    }
}

#[test]
fn app_protocol_wins_over_the_name() {
    assert_eq!(port("tcp", 1, Some("http")).application_protocol(), Some(Protocol::Http));
    assert_eq!(port("tcp", 1, Some("kubernetes.io/h2c")).application_protocol(), Some(Protocol::Http2));
    assert_eq!(port("http", 1, Some("kubernetes.io/wss")).application_protocol(), Some(Protocol::Https));
    assert_eq!(port("http", 1, Some("example.com/own")).application_protocol(), None);
}

#[test]
fn addresses_of_both_families_are_kept_once() {
    let spec = "clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 'fd00::1'], ports: [{port: 80, targetPort: web}]";
    let service = service(spec);
    assert_eq!(service.cluster_ips.len(), 2);
    assert!(!service.is_headless);
    assert_eq!(service.ports[0].target_port, Some(TargetPort::Name("web".to_owned())));
}

#[test]
fn headless_and_external_services_have_no_address() {
    let headless = service("clusterIP: None, ports: [{port: 80, targetPort: 8080}]");
    assert!(headless.is_headless && headless.cluster_ips.is_empty());
    assert_eq!(service("type: ExternalName, externalName: a.com").external_name.as_deref(), Some("a.com"));
    assert_eq!(service("externalName: a.com").external_name, None);
}

#[test]
fn a_service_without_selector_selects_nobody() {
    let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
    assert!(service("selector: {app: web}").selects(&labels));
    assert!(!service("selector: {app: web, v: '1'}").selects(&labels));
    assert!(!service("").selects(&labels));
}

#[test]
fn bad_ports_and_addresses_are_refused() {
    for (spec, wrong) in [
        ("ports: [{port: 0}]", "spec.ports[0].port: is out of range (found `0`"),
        ("ports: [{port: 70000}]", "spec.ports[0].port: is out of range"),
        ("ports: [{port: 80, targetPort: 70000}]", "spec.ports[0].targetPort: is out of range"),
        (
            "ports: [{name: http-a, port: 80}, {name: http-b, port: 80}]",
            "spec.ports[1].port: is a port of this Service already",
        ),
        (
            "ports: [{name: http, port: 80}, {name: http, port: 81}]",
            "spec.ports[1].name: is the name of another port",
        ),
        ("ports: [{name: http, port: 80}, {port: 81}]", "spec.ports[1].name: is missing although"),
        (
            "ports: [{name: web-http, port: 80}]",
            "spec.ports[0].name: begins with no known protocol (found `web-http`; expected such as `http`,",
        ),
        ("ports: [{port: 80, protocol: tcp}]", "did you mean `TCP`?"),
        ("ports: [{port: 80, appProtocol: htpt}]", "spec.ports[0].appProtocol: is not a known protocol"),
        ("clusterIP: 10.0.0.300", "spec.clusterIP: is no IP address"),
        ("ports: [{port: 80, targetport: 8080}]", "did you mean `targetPort`?"),
    ] {
        let findings = testing::findings(&text(spec));
        assert_eq!(findings.len(), 1, "{spec}: {findings:#?}");
        assert!(findings[0].contains(wrong), "{spec}: {findings:#?}");
    }
}
