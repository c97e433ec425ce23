//! Where a sidecar sends its application's calls: unknown destinations, names of services, headless ones, other names.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::process::eventually;
use netns_tests::{AgentSetup, Network, Pod, Service, needs_root};

/// A Sidecar of the namespace with this `outboundTrafficPolicy`, which sees everything.
fn sidecar(policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: all, namespace: default}}\n\
         spec:\n  egress: [{{hosts: ['*/*']}}]\n  {policy}\n"
    )
}

/// What becomes of an application's call to a host that no service is, and of one to a port that none has.
fn unknown(client: &Pod, stranger: &Pod) -> Result<(u16, String)> {
    let http = client.get(stranger.at(80), "stranger.example", "/")?;
    let opaque = match client.get(stranger.at(9999), "stranger.example", "/") {
        Ok(reply) => reply.app()?,
        Err(_) => "closed".to_owned(),
    };
    Ok((http.status, opaque))
}

#[test]
fn calls_to_unknown_destinations_are_a_matter_of_the_sidecar_and_else_of_the_mesh() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server, stranger) =
        (network.pod("client")?, network.pod("server")?, network.pod("stranger")?);
    let _apps = (
        server.http_app("server", 8080)?,
        stranger.http_app("stranger", 80)?,
        stranger.http_app("stranger", 9999)?,
    );
    client.intercept()?;
    let known = Service::new("server", REVIEWS, 8080).endpoint(server.ip()).yaml();
    const TO_SERVER: &str = "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: server.default.svc.cluster.local, port: {number: 80}}}";
    for (mesh, own, http, opaque) in [
        ("ALLOW_ANY", None, 200, "stranger"),
        ("ALLOW_ANY", Some(""), 200, "stranger"),
        ("ALLOW_ANY", Some("outboundTrafficPolicy: {}"), 502, "closed"),
        ("ALLOW_ANY", Some("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"), 502, "closed"),
        ("REGISTRY_ONLY", None, 502, "closed"),
        ("REGISTRY_ONLY", Some(""), 502, "closed"),
        ("REGISTRY_ONLY", Some("outboundTrafficPolicy: {mode: ALLOW_ANY}"), 200, "stranger"),
        ("REGISTRY_ONLY", Some(TO_SERVER), 200, "server"),
    ] {
        let mut setup = AgentSetup::sidecar()
            .labels("app=client")
            .mesh(&format!("outboundTrafficPolicy: {{mode: {mesh}}}\n"))
            .file("server.yaml", known.clone());
        if let Some(own) = own {
            setup = setup.file("sidecar.yaml", sidecar(own));
        }
        let _agent = setup.start(&client)?;
        let case = format!("mesh {mesh}, Sidecar {own:?}");
        client.get(REVIEWS, "server", "/")?.expect_app("server").context(case.clone())?;
        let seen = unknown(&client, &stranger).context(case.clone())?;
        ensure!(seen == (http, opaque.to_owned()), "{case}: {seen:?}");
    }
    Ok(())
}

/// Logs and metrics name the clusters that Istio has for them.
#[test]
fn calls_to_unknown_destinations_are_told_by_what_became_of_them() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server, stranger) =
        (network.pod("client")?, network.pod("server")?, network.pod("stranger")?);
    let _apps = (stranger.http_app("stranger", 80)?, stranger.http_app("stranger", 9999)?);
    client.intercept()?;
    let known = Service::new("server", REVIEWS, 8080).endpoint(server.ip()).yaml();
    for (mode, http, opaque, [status, flags]) in [
        ("ALLOW_ANY", " 200 - via_upstream ", " 0 - - ", ["200", "-"]),
        ("REGISTRY_ONLY", " 502 - direct_response ", " 0 UH - ", ["502", "UH"]),
    ] {
        let mesh = format!("accessLogFile: /dev/stdout\noutboundTrafficPolicy: {{mode: {mode}}}\n");
        let setup = AgentSetup::sidecar().labels("app=client").mesh(&mesh).file("server.yaml", known.clone());
        let agent = setup.start(&client)?;
        unknown(&client, &stranger).context(mode)?;
        let cluster = if mode == "ALLOW_ANY" { "PassthroughCluster" } else { "BlackHoleCluster" };
        agent.access_log_line_with(&[&format!("{opaque}- \"-\""), &format!(" {cluster} ")])?;
        agent.access_log_line_with(&[
            http,
            "stranger.example",
            if status == "200" { cluster } else { " - " },
        ])?;
        let service = format!("destination_service=\"{cluster}\",destination_service_name=\"{cluster}\"");
        eventually(Duration::from_secs(30), || {
            let stats = ([127, 0, 0, 1], 15090).into();
            let metrics = client.get(stats, "localhost", "/stats/prometheus")?.body();
            for (family, label) in [
                ("istio_requests_total{", format!("response_code=\"{status}\"")),
                ("istio_tcp_connections_opened_total{", format!("response_flags=\"{flags}\"")),
                ("istio_tcp_connections_closed_total{", format!("response_flags=\"{flags}\"")),
            ] {
                let has_all =
                    |line: &str| line.starts_with(family) && line.contains(&service) && line.contains(&label);
                ensure!(metrics.lines().any(has_all), "no {family} {label} of {cluster} in {metrics}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// By the Host, not the address that was dialled; short names only in the service's own namespace.
#[test]
fn a_service_answers_to_each_of_its_names() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, one, two) = (network.pod("client")?, network.pod("one")?, network.pod("two")?);
    let _apps = (one.http_app("reviews", 8080)?, two.http_app("ratings", 8080)?);
    client.intercept()?;
    let far = Service::new("ratings", RATINGS, 8080).endpoint(two.ip()).yaml();
    let _agent = AgentSetup::sidecar()
        .labels("app=client")
        .mesh("outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n")
        .file("reviews.yaml", Service::new("reviews", REVIEWS, 8080).endpoint(one.ip()).yaml())
        .file("ratings.yaml", far.replace("namespace: default", "namespace: other"))
        .start(&client)?;
    for (host, app) in [
        ("reviews", Some("reviews")),
        ("reviews.default", Some("reviews")),
        ("reviews.default.svc", Some("reviews")),
        ("reviews.default.svc.cluster.local", Some("reviews")),
        ("reviews.default.svc.cluster.local.", Some("reviews")),
        ("REVIEWS:80", Some("reviews")),
        ("reviews:8888", Some("reviews")),
        ("10.96.0.10", Some("reviews")),
        ("10.96.0.10:80", Some("reviews")),
        ("ratings.other", Some("ratings")),
        ("ratings.other.svc.cluster.local", Some("ratings")),
        ("ratings", None),
        ("reviews.other", None),
        ("reviews.default.svc.cluster", None),
    ] {
        for dialled in [REVIEWS, RATINGS, two.at(80)] {
            let reply = client.get(dialled, host, "/")?;
            match app {
                Some(app) => reply.expect_app(app).context(host)?,
                None => ensure!(reply.status == 502, "{host} at {dialled}: {}", reply.status),
            }
        }
    }
    Ok(())
}

/// `loadBalancer.simple: PASSTHROUGH`: the Host chooses the service, and the caller the address.
#[test]
fn calls_go_where_they_were_going_where_the_rule_says_so() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, one, two) = (network.pod("client")?, network.pod("one")?, network.pod("two")?);
    let _apps = (one.http_app("one", 80)?, two.http_app("two", 80)?);
    client.intercept()?;
    let service = Service::new("reviews", REVIEWS, 80).endpoint(one.ip()).yaml();
    for (simple, app) in [("ROUND_ROBIN", "one"), ("PASSTHROUGH", "two")] {
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: reviews, namespace: default}}\n\
             spec: {{host: reviews, trafficPolicy: {{loadBalancer: {{simple: {simple}}}}}}}\n"
        );
        let setup = AgentSetup::sidecar().labels("app=client").file("reviews.yaml", service.clone());
        let agent = setup.file("rule.yaml", rule).start(&client)?;
        client.get(two.at(80), "reviews", &format!("/{simple}"))?.expect_app(app).context(simple)?;
        let of_service = "outbound|80||reviews.default.svc.cluster.local";
        agent.access_log_line_with(&[&format!("/{simple} "), of_service])?;
    }
    Ok(())
}

#[test]
fn tls_to_elsewhere_passes_a_port_on_which_some_service_speaks_http() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server, stranger) =
        (network.pod("client")?, network.pod("server")?, network.pod("stranger")?);
    let _apps = (server.http_app("server", 8080)?, stranger.echo_app(443)?);
    client.intercept()?;
    let address = SocketAddr::new(REVIEWS.ip(), 443);
    let service = Service::new("server", address, 8080).endpoint(server.ip());
    let _agent =
        AgentSetup::sidecar().labels("app=client").file("server.yaml", service.yaml()).start(&client)?;
    client.get(address, "server", "/")?.expect_app("server")?;
    let mut stream = client.connect(stranger.at(443))?;
    stream.write_all(b"\x16\x03\x01\0\x05\x01\0\0\x01\0\n")?;
    let mut reader = BufReader::new(stream);
    let (mut greeting, mut echo) = (Vec::new(), Vec::new());
    reader.read_until(b'\n', &mut greeting)?;
    reader.read_until(b'\n', &mut echo)?;
    ensure!(echo == b"\x16\x03\x01\0\x05\x01\0\0\x01\0\n", "the server heard {echo:?}");
    Ok(())
}

/// Nobody is at a Service's own address here. The kernel would remember a call of the proxy to it for two minutes, and
/// leave alone whatever the application sends there from the same port.
#[test]
fn the_address_of_an_http_service_is_never_dialled_for_a_client_that_is_slow_to_speak() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("server", 8080)?;
    client.intercept()?;
    let service = Service::new("server", REVIEWS, 8080).endpoint(server.ip());
    let _agent =
        AgentSetup::sidecar().labels("app=client").file("server.yaml", service.yaml()).start(&client)?;
    // For a stranger's address it is: whoever is there may speak first, on any port.
    for (to, dialled) in [(RATINGS, true), (REVIEWS, false)] {
        let stream = client.connect(to)?;
        let address = to.ip().to_string();
        let tracked = || client.run(&["conntrack", "-L", "--orig-dst", &address]);
        let is_dialled = || Ok::<_, anyhow::Error>(tracked()?.contains("UNREPLIED"));
        if dialled {
            let seen = (0..100).any(|_| {
                std::thread::sleep(Duration::from_millis(50));
                is_dialled().unwrap_or_default()
            });
            ensure!(seen, "{to} was not dialled: {}", tracked()?);
        } else {
            // Much longer than the proxy waits before it dials.
            std::thread::sleep(Duration::from_millis(500));
            netns_tests::client::exchange(&stream, "GET / HTTP/1.1\r\nhost: server\r\n\r\n")?
                .expect_app("server")?;
            ensure!(!is_dialled()?, "{to} was dialled: {}", tracked()?);
        }
    }
    Ok(())
}

/// A headless Service with these pods behind its ports 8080 (HTTP) and 7000.
fn headless(ips: [IpAddr; 2]) -> String {
    let [one, two] = ips;
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: db, namespace: default}}\n\
         spec: {{clusterIP: None, ports: [{{name: http, port: 8080}}, {{name: tcp, port: 7000}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: db-1, namespace: default, labels: {{kubernetes.io/service-name: db}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: 8080}}, {{name: tcp, port: 7000}}]\n\
         endpoints: [{{addresses: [{one}]}}, {{addresses: [{two}]}}]\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: store, namespace: default}}\n\
         spec: {{type: ExternalName, externalName: db.default.svc.cluster.local}}\n"
    )
}

#[test]
fn pods_of_a_headless_service_share_requests_while_clients_choose_for_other_protocols() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, one, two) = (network.pod("client")?, network.pod("one")?, network.pod("two")?);
    let _apps = (one.http_app("one", 8080)?, two.http_app("two", 8080)?);
    let _opaque = (one.http_app("one", 7000)?, two.http_app("two", 7000)?);
    client.intercept()?;
    // Nothing else is let through, so that what is reached was known.
    let agent = AgentSetup::sidecar()
        .labels("app=client")
        .mesh("accessLogFile: /dev/stdout\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\n")
        .file("db.yaml", headless([one.ip(), two.ip()]))
        .start(&client)?;
    for host in ["db", "db-0.db.default.svc.cluster.local", "store", "store.default.svc.cluster.local"] {
        let mut met = [0, 0];
        for _ in 0..40 {
            met[usize::from(client.get(one.at(8080), host, "/")?.app()? == "two")] += 1;
        }
        ensure!(met.iter().all(|count| *count >= 5), "{host}: {met:?}");
    }
    for (pod, app) in [(&one, "one"), (&two, "two")] {
        for _ in 0..5 {
            client.get(pod.at(7000), "anything", "/")?.expect_app(app)?;
        }
    }
    agent.access_log_line(&format!(
        "{} outbound|7000||db.default.svc.cluster.local",
        format_args!("\"{}\"", one.at(7000))
    ))?;
    ensure!(client.get(one.at(8080), "elsewhere.example", "/")?.status == 502);
    Ok(())
}

const REVIEWS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
const RATINGS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 11)), 80);
