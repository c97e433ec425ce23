use super::*;
use crate::{Resource, WorkloadAddress, testing};

fn text(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: se}}\nspec: {{{spec}}}\n"
    )
}

fn entry(spec: &str) -> ServiceEntry {
    let resource = testing::valid(&text(spec));
    let Resource::ServiceEntry(object) = resource else { panic!("no ServiceEntry") };
    object.spec.clone()
}

const HTTP: &str = "ports: [{number: 80, name: http, protocol: HTTP}]";

#[test]
fn every_field_is_read() {
    let read = entry(
        "hosts: [A.com, '*.b.com'], addresses: [10.0.0.1, 10.1.0.0/16, 'fd00::/64'], location: MESH_INTERNAL, \
         resolution: STATIC, exportTo: ['~'], \
         ports: [{number: 80, name: http, protocol: http, targetPort: 8080}], \
         endpoints: [{address: 10.0.0.9, ports: {http: 8081}}, {address: 'unix:///run/a'}]",
    );
    assert_eq!(read.hosts, ["a.com", "*.b.com"]);
    let addresses: Vec<_> = read.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1/32", "10.1.0.0/16", "fd00::/64"]);
    assert_eq!((read.location, read.resolution), (Location::MeshInternal, Resolution::Static));
    let port = ServiceEntryPort {
        number: 80,
        name: "http".to_owned(),
        transport: IpProtocol::Tcp,
        protocol: Some(Protocol::Http),
        target_port: Some(8080),
    };
    assert_eq!(read.ports, [port]);
    assert_eq!(read.endpoints[0].ports["http"], 8081);
    assert_eq!(read.endpoints[1].address, Some(WorkloadAddress::Unix("/run/a".to_owned())));
    assert_eq!(&*read.export_to[0], "~");
    let selected = entry(&format!(
        "hosts: [a.com], {HTTP}, resolution: STATIC, workloadSelector: {{labels: {{app: a}}}}"
    ));
    assert_eq!(selected.workload_selector.unwrap()["app"], "a");
}

#[test]
fn the_protocol_of_a_port_follows_its_field_then_its_name() {
    let read = entry(
        "hosts: [a.com], addresses: [10.0.0.1], ports: [{number: 1, name: tcp-a, protocol: GRPC}, {number: 2, name: http-a}, \
         {number: 3, name: a}, {number: 53, name: dns, protocol: UDP}, {number: 4, name: tcp-b, protocol: ''}]",
    );
    let protocols: Vec<_> =
        read.ports.iter().map(|port| (port.transport, port.application_protocol())).collect();
    let expected = [
        (IpProtocol::Tcp, Some(Protocol::Grpc)),
        (IpProtocol::Tcp, Some(Protocol::Http)),
        (IpProtocol::Tcp, None),
        (IpProtocol::Udp, Some(Protocol::Tcp)),
        (IpProtocol::Tcp, Some(Protocol::Tcp)),
    ];
    assert_eq!(protocols, expected);
}

#[test]
fn names_ports_and_addresses_are_checked() {
    testing::assert_complaints(
        &[
            ("ports: []", "spec.hosts: is missing"),
            ("hosts: []", "spec.hosts: has a length out of range (found `0`; expected 1–256 hosts)"),
            ("hosts: ['*']", "spec.hosts[0]: is too wide"),
            ("hosts: ['a b']", "spec.hosts[0]: is not a host name"),
            ("hosts: ['*a.com']", "spec.hosts[0]: is a partial wildcard, which Istio matches by suffix"),
            (
                "hosts: [a.com], ports: [{number: 80, name: a}, {number: 81, name: a}]",
                "spec.ports[1].name: is the name of another port",
            ),
            (
                "hosts: [a.com], ports: [{number: 80, name: a}, {number: 80, name: b}]",
                "spec.ports[1].number: is a port of this ServiceEntry already",
            ),
            ("hosts: [a.com], ports: [{number: 0, name: a}]", "spec.ports[0].number: is out of range"),
            ("hosts: [a.com], ports: [{number: 65536, name: a}]", "spec.ports[0].number: is out of range"),
            ("hosts: [a.com], ports: [{number: 80}]", "spec.ports[0].name: is missing"),
            ("hosts: [a.com], ports: [{number: 80, name: 'a b'}]", "spec.ports[0].name: is not a port name"),
            ("hosts: [a.com], ports: [{number: 80, name: a, protocol: HTTTP}]", "did you mean `HTTP`?"),
            (
                "hosts: [a.com], ports: [{number: 80, name: a, targetPort: 70000}]",
                "spec.ports[0].targetPort: is out of range",
            ),
            (
                "hosts: [a.com], addresses: [10.0.0.300]",
                "spec.addresses[0]: is no address (found `10.0.0.300`",
            ),
            ("hosts: [a.com], addresses: [10.0.0.0/33]", "spec.addresses[0]: is no address"),
            (
                "hosts: [a.com], addresses: [10.0.0.0/8], resolution: DNS",
                "spec.addresses[0]: is a range, which resolution DNS cannot serve",
            ),
            (
                "hosts: [a.com], ports: [{number: 90, name: a, protocol: TCP}]",
                "spec.ports[0]: takes, at sidecars, every TCP connection to port 90",
            ),
            ("hosts: [a.com], exportTo: ['~', b]", "spec.exportTo: holds `~` and other namespaces"),
            ("hosts: [a.com], resolution: STATC", "did you mean `STATIC`?"),
            ("hosts: [a.com], location: MESH", "spec.location: is not a known word"),
            ("hosts: [a.com], adresses: []", "did you mean `addresses`?"),
        ],
        text,
    );
}

#[test]
fn endpoints_fit_the_resolution() {
    let of = |fields: &str| text(&format!("hosts: [a.com], {HTTP}, {fields}"));
    testing::assert_complaints(
        &[
            (
                "resolution: STATIC, workloadSelector: {labels: {a: b}}, endpoints: [{address: 10.0.0.1}]",
                "spec.workloadSelector: is written beside `endpoints`",
            ),
            (
                "workloadSelector: {labels: {a: b}}",
                "spec.workloadSelector: has no effect with resolution NONE",
            ),
            ("resolution: STATIC, workloadSelector: {}", "spec.workloadSelector: names no label"),
            (
                "resolution: STATIC, workloadSelector: {labels: {a: 'b*'}}",
                "workloadSelector.labels[a]: is not a label value",
            ),
            ("endpoints: [{address: 10.0.0.1}]", "spec.endpoints: has no meaning with resolution NONE"),
            (
                "resolution: STATIC, endpoints: [{address: b.com}]",
                "spec.endpoints[0].address: is a name, which resolution STATIC does not look up",
            ),
            (
                "resolution: DNS, endpoints: [{address: 'unix:///run/a'}]",
                "spec.endpoints[0].address: is a unix socket, which resolution DNS cannot look up",
            ),
            ("resolution: DNS, endpoints: [{address: 'a b'}]", "spec.endpoints[0].address: is no address"),
            (
                "resolution: DNS_ROUND_ROBIN, endpoints: [{address: b.com}, {address: c.com}]",
                "spec.endpoints: has several items with resolution DNS_ROUND_ROBIN",
            ),
            (
                "resolution: STATIC, endpoints: [{address: 10.0.0.1, ports: {https: 443}}]",
                "spec.endpoints[0].ports[https]: is no port of this ServiceEntry",
            ),
            (
                "resolution: STATIC, endpoints: [{address: 'unix:///run/a', ports: {http: 1}}]",
                "spec.endpoints[0].ports: is written for a unix socket",
            ),
            (
                "resolution: STATIC, endpoints: [{labels: {a: b}}]",
                "spec.endpoints[0].address: is missing (expected",
            ),
        ],
        of,
    );
    testing::assert_complaints(
        &[
            (
                "hosts: ['*.a.com'], resolution: DNS",
                "spec.hosts[0]: is a wildcard, which resolution DNS cannot look up",
            ),
            (
                "hosts: [a.com], resolution: STATIC, endpoints: [{address: 'unix:///run/a'}]",
                "spec.endpoints[0].address: is a unix socket, but the ServiceEntry has several ports or none",
            ),
            (
                "hosts: [a.com, b.com], addresses: [10.0.0.1], resolution: STATIC, ports: [{number: 1, name: tcp}], workloadSelector: {labels: {a: b}}",
                "spec.ports[0]: is for several hosts, which this protocol does not tell apart",
            ),
        ],
        text,
    );
    entry(&format!("hosts: ['*.a.com'], resolution: DNS, {HTTP}, endpoints: [{{address: b.com}}]"));
}

#[test]
fn names_looked_up_per_request_are_wildcards_of_protocols_with_names() {
    let of = |fields: &str| text(&format!("resolution: DYNAMIC_DNS, {fields}"));
    testing::assert_complaints(
        &[
            (
                "hosts: ['*.a.com'], addresses: [10.0.0.1]",
                "spec.addresses: has no meaning with resolution DYNAMIC_DNS",
            ),
            (
                "hosts: ['*.a.com'], endpoints: [{address: b.com}]",
                "spec.endpoints: has no meaning with resolution DYNAMIC_DNS",
            ),
            ("hosts: [a.com]", "spec.hosts[0]: is no wildcard (found `a.com`"),
            (
                "hosts: ['*.a.com'], ports: [{number: 1, name: a, protocol: HTTPS}]",
                "spec.ports[0].protocol: does not carry the name to look up",
            ),
        ],
        of,
    );
    entry("hosts: ['*.a.com'], resolution: DYNAMIC_DNS, ports: [{number: 443, name: tls, protocol: TLS}]");
}
