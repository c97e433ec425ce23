//! Which rules and services a captured call meets: by the port's protocol, the address, the Sidecar, and the rules of
//! VirtualServices for connections.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use netns_tests::{Agent, AgentSetup, Network, Pod, needs_root};

/// Only what is known is let through, so that what is reached was known.
const REGISTRY_ONLY: &str = "accessLogFile: /dev/stdout\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\n";

/// A Service with ports that all lead to one port of a pod.
fn service(name: &str, address: Ipv4Addr, ports: &[(u16, &str)], endpoint: SocketAddr) -> String {
    let mut yaml = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  clusterIP: {address}\n  ports:\n"
    );
    let mut slice = format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}-1, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nendpoints: [{{addresses: [{}]}}]\nports:\n",
        endpoint.ip()
    );
    for (number, fields) in ports {
        let port_name = fields.split(',').next().unwrap_or_default();
        let _ = writeln!(yaml, "  - {{port: {number}, name: {fields}}}");
        let _ = writeln!(slice, "- {{name: {port_name}, port: {}}}", endpoint.port());
    }
    yaml + &slice
}

fn virtual_service(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {name}, namespace: default}}\nspec: {{{spec}}}\n"
    )
}

fn entry(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: default}}\nspec: {{hosts: [{name}.com], {spec}}}\n"
    )
}

/// A sidecar of the client that knows this.
fn sidecar<'p>(client: &'p Pod, resources: &str) -> Result<Agent<'p>> {
    client.intercept()?;
    let setup = AgentSetup::sidecar().labels("app=client").mesh(REGISTRY_ONLY);
    setup.file("all.yaml", resources).start(client)
}

/// Which application answers a request, with `/HTTP` behind its name when the proxy took it for one; `closed` when
/// none does.
fn met(client: &Pod, to: impl Into<SocketAddr>, host: &str) -> String {
    let Ok(reply) = client.get(to.into(), host, "/") else { return "closed".into() };
    match reply.app() {
        Ok(app) if reply.body().contains("header x-request-id: ") => app + "/HTTP",
        Ok(app) => app,
        Err(_) => format!("{} {}", reply.status, reply.body()),
    }
}

const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);

/// Of a port whose protocol is not declared it is detected, but where servers speak first by custom.
#[test]
fn names_numbers_and_app_protocols_tell_what_is_spoken() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("app", 8080)?;
    let cases = [
        (9001, "http", "app/HTTP"),
        (9002, "web", "app/HTTP"),
        (9003, "tcp-http", "app"),
        (9004, "mysql", "app"),
        (9005, "a, appProtocol: kubernetes.io/ws", "app/HTTP"),
        (9006, "b, appProtocol: kubernetes.io/wss", "app"),
        (9007, "tcp, appProtocol: http", "app/HTTP"),
        (25, "mail", "app"),
        (53, "names", "app"),
        (3306, "data", "app"),
        (27017, "documents", "app"),
        (9008, "http-udp, protocol: UDP", "closed"),
    ];
    let ports = cases.map(|(number, fields, _)| (number, fields));
    let _agent = sidecar(&client, &service("web", VIRTUAL, &ports, server.at(8080)))?;
    for (number, fields, expected) in cases {
        let found = met(&client, (VIRTUAL, number), "web");
        ensure!(found == expected, "{number} {fields}: {found} instead of {expected}");
    }
    Ok(())
}

/// Requests for hosts that no service is called by are a matter of port 80.
#[test]
fn rules_for_requests_hold_on_every_http_port_of_a_service_and_for_other_hosts_on_port_80() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("app", 8080)?;
    let ports = [
        (80, "http"),
        (81, "http-more"),
        (82, "web"),
        (83, "grpc"),
        (84, "tcp"),
        (443, "https"),
        (85, "tls"),
    ];
    const SAYING: &str = "http: [{directResponse: {status: 299, body: {string: rule}}}]";
    let resources = service("web", VIRTUAL, &ports, server.at(8080))
        + &virtual_service("web", &format!("hosts: [web], {SAYING}"))
        + &virtual_service("elsewhere", &format!("hosts: [elsewhere.com], {SAYING}"));
    let _agent = sidecar(&client, &resources)?;
    for (port, host, expected) in [
        (80, "web", "299 rule"),
        (81, "web", "299 rule"),
        (82, "web", "299 rule"),
        (83, "web", "299 rule"),
        // What is not HTTP as it is declared no rule for requests touches.
        (84, "web", "app"),
        (443, "web", "app"),
        (85, "web", "app"),
        (80, "elsewhere.com", "299 rule"),
        (81, "elsewhere.com", "502 "),
    ] {
        let found = met(&client, (VIRTUAL, port), host);
        ensure!(found == expected, "{host} at port {port}: {found} instead of {expected}");
    }
    Ok(())
}

#[test]
fn rules_for_connections_hold_by_address_port_and_caller_and_else_the_service_itself() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, old, new) = (network.pod("client")?, network.pod("old")?, network.pod("new")?);
    let _apps = (old.http_app("old", 5000)?, new.http_app("new", 5000)?);
    let cases = [
        (5001, "{port: 5001}", "new"),
        (5002, "{port: 5002, destinationSubnets: [10.96.0.0/16]}", "new"),
        (5003, "{port: 5003, destinationSubnets: [10.99.0.0/16, 10.96.0.10]}", "new"),
        (5004, "{port: 5004, destinationSubnets: [10.99.0.0/16]}", "old"),
        (5005, "{port: 5005, sourceLabels: {app: client}}", "new"),
        (5006, "{port: 5006, sourceLabels: {app: other}}", "old"),
        (5007, "{port: 5007, sourceNamespace: default}", "new"),
        (5008, "{port: 5008, sourceNamespace: other}", "old"),
        (5009, "{port: 5009, gateways: [mesh]}", "new"),
        (5010, "{port: 5010, gateways: [gw]}", "old"),
        (
            5011,
            "{port: 5011, destinationSubnets: [10.99.0.0/16]}, {port: 5011, sourceNamespace: default}",
            "new",
        ),
        (5012, "{port: 1}", "old"),
    ];
    let names = cases.map(|(number, ..)| (number, format!("tcp-{number}")));
    let ports: Vec<_> = names.iter().map(|(number, name)| (*number, name.as_str())).collect();
    let rule = |(_, matched, _): &(u16, &str, &str)| {
        format!("{{match: [{matched}], route: [{{destination: {{host: new}}}}]}}")
    };
    let spec = format!(
        "hosts: [old], gateways: [mesh, gw], tcp: [{}]",
        cases.iter().map(rule).collect::<Vec<_>>().join(", ")
    );
    let resources = service("old", VIRTUAL, &ports, old.at(5000))
        + &service("new", OTHER, &[(5000, "tcp")], new.at(5000))
        + &virtual_service("old", &spec);
    let _agent = sidecar(&client, &resources)?;
    for (port, matched, expected) in cases {
        let found = met(&client, (VIRTUAL, port), "any");
        ensure!(found == expected, "{matched}: {found} instead of {expected}");
    }
    Ok(())
}

/// The first flight of a client that asks for a server name, written by hand: version, random, no session, one suite,
/// no compression, the name.
fn hello(name: &str) -> Vec<u8> {
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).expect("short").to_be_bytes();
    let framed = |kind: &[u8], bytes: &[u8]| [kind, &length(bytes), bytes].concat();
    let names = framed(&[], &framed(&[0], name.as_bytes()));
    let extensions = framed(&[], &framed(&[0, 0], &names));
    let body = [&[3, 3], &[7; 32][..], &[0, 0, 2, 0x13, 1, 1, 0], &extensions].concat();
    framed(&[0x16, 3, 1], &framed(&[1, 0], &body))
}

/// The server name of what an echo is sent, and that it comes back.
fn echoes(client: &Pod, to: SocketAddr, name: &str) -> Result<()> {
    let hello = hello(name);
    let mut stream = client.connect(to)?;
    stream.write_all(&hello)?;
    let mut reader = BufReader::new(stream);
    reader.read_until(b'\n', &mut Vec::new())?;
    let mut echoed = vec![0; hello.len()];
    reader.read_exact(&mut echoed)?;
    ensure!(echoed == hello, "the server heard {echoed:?}");
    Ok(())
}

#[test]
fn rules_for_tls_hold_by_server_name_on_ports_of_tls() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _apps = (server.echo_app(8443)?, server.echo_app(9443)?);
    const ELSEWHERE: &str = "route: [{destination: {host: other}}]";
    let rule = |matched: &str| format!("{{match: [{{{matched}}}], {ELSEWHERE}}}");
    let one = "sniHosts: [a.ruled.com], port: 443";
    let two = "sniHosts: [b.ruled.com], destinationSubnets: [10.99.0.0/16]";
    let three = "sniHosts: [a.missed.com], sourceLabels: {app: other}";
    let four = "sniHosts: [a.missed.com], port: 444";
    let endpoint = format!("endpoints: [{{address: {}, ports: {{tls: 8443}}}}]", server.ip());
    let at = format!("resolution: STATIC, ports: [{{number: 443, name: tls, protocol: TLS}}], {endpoint}");
    let wildcard = |name: &str, address: Ipv4Addr| {
        entry(name, &format!("addresses: [{address}], {at}"))
            .replace("hosts: [", "hosts: ['*.")
            .replace(".com], addresses", ".com'], addresses")
    };
    let rules = |name: &str, rules: [String; 2]| {
        virtual_service(name, &format!("hosts: ['*.{name}.com'], tls: [{}]", rules.join(", ")))
    };
    let (missed, anywhere) = (Ipv4Addr::new(10, 96, 0, 12), Ipv4Addr::new(10, 96, 0, 13));
    let resources = wildcard("ruled", VIRTUAL)
        + &wildcard("missed", missed)
        + &service("other", OTHER, &[(443, "tls")], server.at(9443))
        + &entry("one", &at)
        + &entry("two", &at)
        + &rules("ruled", [rule(one), rule(two)])
        + &rules("missed", [rule(three), rule(four)]);
    let agent = sidecar(&client, &resources)?;
    const OF_RULE: &str = "outbound|443||other.default.svc.cluster.local";
    for (address, name, cluster) in [
        (VIRTUAL, "a.ruled.com", Some(OF_RULE)),
        // Where one rule fits the port, names without a rule have nowhere to go.
        (VIRTUAL, "b.ruled.com", None),
        (VIRTUAL, "c.ruled.com", None),
        (missed, "a.missed.com", Some("outbound|443||*.missed.com")),
        (missed, "b.missed.com", Some("outbound|443||*.missed.com")),
        (OTHER, "other", Some(OF_RULE)),
        // A service with an address of its own takes every name, those that share all addresses only their own.
        (OTHER, "one.com", Some(OF_RULE)),
        (anywhere, "one.com", Some("outbound|443||one.com")),
        (anywhere, "two.com", Some("outbound|443||two.com")),
        (anywhere, "three.com", None),
    ] {
        let echoed = echoes(&client, (address, 443).into(), name);
        let Some(cluster) = cluster else {
            ensure!(echoed.is_err(), "{name} was served");
            continue;
        };
        echoed.with_context(|| name.to_owned())?;
        agent.access_log_line_with(&[&format!(" {cluster} "), &format!(" {address}:443 ")])?;
    }
    Ok(())
}

#[test]
fn addresses_of_service_entries_are_virtual_or_ranges_or_everybodys() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, one, two) = (network.pod("client")?, network.pod("one")?, network.pod("two")?);
    let _http = (one.http_app("one", 81)?, two.http_app("two", 81)?);
    let _opaque = (one.http_app("one", 9100)?, two.http_app("two", 9101)?, one.http_app("one", 9102)?);
    let endpoint = format!("endpoints: [{{address: {}, ports: {{p: 9101}}}}]", two.ip());
    let port =
        |number: u16, protocol: &str| format!("ports: [{{number: {number}, name: p, protocol: {protocol}}}]");
    let resources = entry("none", &format!("{}, resolution: NONE", port(81, "HTTP")))
        + &entry("range", &format!("addresses: [10.77.0.0/24], {}, resolution: NONE", port(9100, "TCP")))
        + &entry("static", &format!("addresses: [10.99.0.0/24], {}, resolution: STATIC, {endpoint}", port(9104, "TCP")))
        + &entry("everybody", &format!("{}, resolution: STATIC, {endpoint}", port(9102, "TCP")))
        // On one port of every address: requests for the service's names, and all else.
        + &entry("mixed", &format!("{}, resolution: STATIC, {endpoint}", port(9103, "TCP")))
        + &service("web", VIRTUAL, &[(9103, "http")], one.at(81));
    let _agent = sidecar(&client, &resources)?;
    for (to, host, expected) in [
        // The host chooses the service, and the caller the address.
        (one.at(81), "none.com", "one/HTTP"),
        (two.at(81), "none.com", "two/HTTP"),
        (one.at(81), "other.com", "502 "),
        (one.at(9100), "any", "one"),
        ((OTHER, 9100).into(), "any", "closed"),
        ((IpAddr::from([10, 99, 0, 77]), 9104).into(), "any", "two"),
        ((IpAddr::from([10, 98, 0, 77]), 9104).into(), "any", "closed"),
        // Even where another server is.
        (one.at(9102), "any", "two"),
        ((OTHER, 9102).into(), "any", "two"),
        ((VIRTUAL, 9103).into(), "web", "one/HTTP"),
        ((OTHER, 9103).into(), "web", "one/HTTP"),
    ] {
        let found = met(&client, to, host);
        ensure!(found == expected, "{host} at {to}: {found} instead of {expected}");
    }
    client.request((OTHER, 9103).into(), "no request\r\n\r\n")?.expect_app("two")
}

/// A Sidecar `namespace/name` with these hosts, and with more behind.
fn egress(name: &str, hosts: &str, more: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("a namespace");
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{egress: [{{hosts: [{hosts}]}}], outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}{more}}}\n"
    )
}

#[test]
fn services_are_those_that_the_nearest_sidecar_lets_see() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("app", 8080)?;
    client.intercept()?;
    let services = service("web", VIRTUAL, &[(80, "http"), (5000, "tcp")], server.at(8080))
        + &service("other", OTHER, &[(80, "http"), (5000, "tcp")], server.at(8080));
    let only = |host: &str| format!("'./{host}.default.svc.cluster.local'");
    let own = |name: &str| format!(", workloadSelector: {{labels: {{app: {name}}}}}");
    let [root, namespace, workload] = ["istio-system/root", "default/namespace", "default/workload"];
    // The services that are seen, as the Sidecars have it.
    for (sidecars, [web, other]) in [
        (String::new(), [true, true]),
        (egress(namespace, &only("web"), ""), [true, false]),
        (
            egress(namespace, &only("other"), "") + &egress(workload, &only("web"), &own("client")),
            [true, false],
        ),
        (
            egress(namespace, &only("other"), "") + &egress(workload, &only("web"), &own("else")),
            [false, true],
        ),
        (egress(root, "'*/web.default.svc.cluster.local'", ""), [true, false]),
        // `.` is the namespace of the workload.
        (egress(root, &only("web"), ""), [true, false]),
        (egress(root, &only("other"), "") + &egress(namespace, "'default/*'", ""), [true, true]),
        (egress(namespace, "'~/*'", ""), [false, false]),
        (egress(namespace, "'*/*', '~default/other.default.svc.cluster.local'", ""), [true, false]),
    ] {
        let agent = AgentSetup::sidecar().labels("app=client").mesh(REGISTRY_ONLY);
        let _agent = agent.file("all.yaml", services.clone() + &sidecars).start(&client)?;
        for (address, host, seen) in [(VIRTUAL, "web", web), (OTHER, "other", other)] {
            let found = [80, 5000].map(|port| met(&client, (address, port), host));
            let is_seen = found.map(|met| met.starts_with("app"));
            ensure!(is_seen == [seen, seen], "{host}: {is_seen:?} with {sidecars}");
        }
    }
    Ok(())
}
