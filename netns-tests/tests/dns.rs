//! An application's questions about names, captured on port 53 and answered by the agent.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use netns_tests::{
    AgentSetup, ISTIO_FLAGS, NameServer, Network, Pod, Rule, Service, holds_only_by, needs_root,
};

#[test]
fn names_of_services_are_answered_by_the_agent_and_others_by_the_pods_name_server() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, resolver) = (network.pod("client")?, network.pod("resolver")?);
    NameServer::start(&resolver)?.set("elsewhere.example.com", &[ELSEWHERE]);
    client.init(&[&["istio-iptables"], ISTIO_FLAGS, &["--redirect-dns", "--capture-all-dns"]].concat())?;
    let server = resolver.ip().to_string();
    let reviews = Service::new("reviews", ([10, 96, 0, 10], 80).into(), 8080).endpoint(resolver.ip());
    let setup = AgentSetup::sidecar()
        .labels("app=client")
        .variable("ISTIO_META_DNS_CAPTURE", "true")
        .variable("POSTERN_DNS_SERVERS", &*server)
        .file("reviews.yaml", reviews.yaml());
    holds_only_by(
        &[CAPTURED],
        &client,
        || setup.start(&client),
        |_| {
            ensure!(resolved(&client, &server, "reviews.default.svc.cluster.local", "")? == ["10.96.0.10"]);
            // By the search domain, and over a connection: rule 14 captures both.
            ensure!(
                resolved(&client, &server, "reviews", "search default.svc.cluster.local")? == ["10.96.0.10"]
            );
            ensure!(resolved(&client, &server, "reviews.default.svc", "options use-vc")? == ["10.96.0.10"]);
            ensure!(resolved(&client, &server, "elsewhere.example.com", "")? == [ELSEWHERE.to_string()]);
            Ok(())
        },
    )
}

#[test]
fn entries_without_addresses_get_some_and_pods_and_other_names_are_known() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, one, two) = (network.pod("client")?, network.pod("one")?, network.pod("two")?);
    let _apps = (one.http_app("one", 5432)?, two.http_app("two", 5432)?);
    NameServer::start(&one)?.set("db-2.db.default.svc.cluster.local", &[ELSEWHERE]);
    client.init(&[&["istio-iptables"], ISTIO_FLAGS, &["--redirect-dns", "--capture-all-dns"]].concat())?;
    let server = one.ip().to_string();
    let setup = AgentSetup::sidecar()
        .labels("app=client")
        .variable("ISTIO_META_DNS_CAPTURE", "true")
        .variable("ISTIO_META_DNS_AUTO_ALLOCATE", "true")
        .variable("POSTERN_DNS_SERVERS", &*server)
        .file("one.yaml", database("one", one.ip()))
        .file("two.yaml", database("two", two.ip()))
        .file("db.yaml", stateful_set(&[one.ip(), two.ip()]));
    let _agent = setup.start(&client)?;
    let found = |name: &str| {
        let found = resolved(&client, &server, name, "search default.svc.cluster.local")?;
        ensure!(found.len() == 1, "{name} stands for {found:?}");
        Ok(found[0].parse::<IpAddr>()?)
    };
    // One port, and each name an address that leads to its own.
    let addresses = [found("one.example.com")?, found("two.example.com")?];
    ensure!(addresses.iter().all(|ip| ip.to_string().starts_with("240.240.")), "{addresses:?}");
    client.get((addresses[0], 5432).into(), "any", "/")?.expect_app("one")?;
    client.get((addresses[1], 5432).into(), "any", "/")?.expect_app("two")?;
    // Pods of a headless service by name, and a Service that is another name of an entry.
    ensure!(found("db-0.db")? == one.ip() && found("db-1.db.default.svc.cluster.local")? == two.ip());
    ensure!(found("store")? == addresses[1]);
    ensure!(found("db-2.db.default.svc.cluster.local")? == ELSEWHERE);
    Ok(())
}

/// A ServiceEntry on a port that others have, too.
fn database(name: &str, ip: IpAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  hosts: [{name}.example.com]\n  resolution: STATIC\n  \
         ports: [{{number: 5432, name: tcp, protocol: TCP}}]\n  endpoints: [{{address: {ip}}}]\n"
    )
}

/// A headless Service whose pods have names, and a Service that is another name.
fn stateful_set(ips: &[IpAddr]) -> String {
    let pods = ips.iter().enumerate().map(|(n, ip)| format!("- {{addresses: [{ip}], hostname: db-{n}}}\n"));
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: db, namespace: default}}\n\
         spec: {{clusterIP: None, ports: [{{name: tcp, port: 5432}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: store, namespace: default}}\n\
         spec: {{type: ExternalName, externalName: two.example.com}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: db-1, namespace: default, labels: {{kubernetes.io/service-name: db}}}}\n\
         addressType: IPv4\nports: [{{name: tcp, port: 5432}}]\nendpoints:\n{}",
        pods.collect::<String>()
    )
}

/// The addresses that the C library finds for a name, with that name server and that line in its configuration.
fn resolved(pod: &Pod, server: &str, name: &str, line: &str) -> Result<Vec<String>> {
    let conf = pod.dir().join("resolv.conf");
    std::fs::write(&conf, format!("nameserver {server}\noptions timeout:2 attempts:1\n{line}\n"))?;
    let ask = format!("mount --bind {} /etc/resolv.conf && getent ahostsv4 {name}", conf.display());
    let found = pod.run(&["unshare", "-m", "sh", "-c", &ask])?;
    let mut addresses: Vec<_> =
        found.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    addresses.dedup();
    Ok(addresses)
}

const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const CAPTURED: Rule = Rule::v4("-A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053");
