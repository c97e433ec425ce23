//! What a sidecar takes for its application: the listeners of a Sidecar resource, and where their calls go.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;

use anyhow::{Context, Result, ensure};
use netns_tests::{AgentSetup, Network, Pod, Service, needs_root};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A Sidecar for `app=server` with these listeners.
fn ingress(listeners: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: server, namespace: default}}\n\
         spec:\n  workloadSelector: {{labels: {{app: server}}}}\n  ingress:\n{listeners}"
    )
}

#[test]
fn calls_go_where_the_listener_of_their_port_leads() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _apps = (
        server.http_app_at("web", at_loopback(8080))?,
        server.http_app_at("opaque", at_loopback(8081))?,
        server.http_app("plain", 9083)?,
        server.http_app("other", 9084)?,
    );
    server.intercept()?;
    let listeners =
        "  - {port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:8080', \
                     connectionPool: {http: {http2MaxRequests: 1}}}
  - {port: {number: 9081, protocol: TCP, name: tcp}, defaultEndpoint: '127.0.0.1:8081'}
  - {port: {number: 9082, protocol: HTTP, name: own}, defaultEndpoint: '0.0.0.0:9084'}
  - {port: {number: 9083, protocol: HTTP, name: plain}}\n";
    let _agent = AgentSetup::sidecar().file("sidecar.yaml", ingress(listeners)).start(&server)?;
    for (port, app, peer) in [
        (9080, "web", LOOPBACK),
        (9081, "opaque", LOOPBACK),
        (9082, "other", PASSTHROUGH),
        (9083, "plain", PASSTHROUGH),
        // No listener names it.
        (9084, "other", PASSTHROUGH),
    ] {
        let reply = client.get(server.at(port), "server", "/").with_context(|| format!("port {port}"))?;
        reply
            .expect_app(app)
            .and_then(|()| reply.expect_peer(peer))
            .with_context(|| format!("port {port}"))?;
    }
    // One request at a time, as the listener has it.
    let answers = at_once(&client, server.at(9080))?;
    ensure!(answers.contains(&200) && answers.contains(&503), "{answers:?}");
    Ok(())
}

/// Of several Services with a port of the pod the oldest says what is spoken there, and the others are named.
#[test]
fn the_oldest_service_tells_the_protocol_of_a_port() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("web", 8080)?;
    server.intercept()?;
    for (http, tcp, is_http) in [(2024, 2025, true), (2025, 2024, false)] {
        let service = |name: &str, host: u8, created: u16| {
            let service = Service::new(name, ([10, 96, 0, host], 80).into(), 8080).port_name(name);
            let created = format!("creationTimestamp: '{created}-01-01T00:00:00Z', name: {name}, namespace");
            service.selects("server").endpoint(server.ip()).yaml().replacen(
                &format!("name: {name}, namespace"),
                &created,
                1,
            )
        };
        let services = service("http", 10, http) + &service("tcp", 11, tcp);
        let agent = AgentSetup::sidecar().file("services.yaml", services).start(&server)?;
        let reply = client.get(server.at(8080), "server", "/")?;
        reply.expect_app("web")?;
        let found = reply.body().contains("header x-request-id: ");
        ensure!(found == is_http, "created in {http} and {tcp}: {}", reply.body());
        agent.log_line(if is_http { "Service default/tcp" } else { "Service default/http" })?;
    }
    Ok(())
}

#[test]
fn a_sidecar_limits_what_comes_in_on_every_port() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("web", 8080)?;
    server.intercept()?;
    let service = Service::new("server", ([10, 96, 0, 10], 80).into(), 8080).selects("server");
    const LIMIT: &str = "apiVersion: networking.istio.io/v1\nkind: Sidecar\n\
        metadata: {name: server, namespace: default}\n\
        spec: {egress: [{hosts: ['*/*']}], inboundConnectionPool: {http: {http2MaxRequests: 1}}}\n";
    let agent = AgentSetup::sidecar()
        .file("server.yaml", service.endpoint(server.ip()).yaml())
        .file("sidecar.yaml", LIMIT)
        .start(&server)?;
    let statuses = at_once(&client, server.at(8080))?;
    ensure!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
    agent.access_log_line_with(&["\" 503 UO ", " inbound|8080||"])?;
    Ok(())
}

/// What three requests that take a second each are answered when they come at the same time.
fn at_once(client: &Pod, to: SocketAddr) -> Result<Vec<u16>> {
    thread::scope(|scope| {
        let ask = || client.get(to, "server", "/delay/1").map(|reply| reply.status);
        let asking: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asked| asked.join().expect("no panic")).collect()
    })
}

/// `inboundTrafficPolicy: LOCALHOST`: applications that listen at 127.0.0.1 only.
#[test]
fn where_the_mesh_says_so_calls_go_to_loopback() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app_at("web", at_loopback(8080))?;
    server.intercept()?;
    let service = Service::new("server", ([10, 96, 0, 10], 80).into(), 8080).selects("server");
    let setup = AgentSetup::sidecar().file("server.yaml", service.endpoint(server.ip()).yaml());
    for (mode, reached) in [("PASSTHROUGH", false), ("LOCALHOST", true)] {
        let mesh = format!("inboundTrafficPolicy: {{mode: {mode}}}\n");
        let _agent = setup.clone().mesh(&mesh).start(&server)?;
        let reply = client.get(server.at(8080), "server", "/")?;
        match reached {
            true => reply.expect_app("web")?,
            false => ensure!(reply.status == 503, "{mode}: {}", reply.status),
        }
    }
    Ok(())
}

/// An authority, and a certificate and key of it, as files in a pod's directory: `ca.pem`, `<name>.pem`, `<name>.key`.
fn write_certificates(pod: &Pod, names: &[&str]) -> Result<()> {
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(pod.dir().join("ca.pem"), authority.pem())?;
    for name in names {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([format!("{name}.example")])?;
        // Told apart from its authority by name.
        params.distinguished_name.push(DnType::CommonName, *name);
        fs::write(pod.dir().join(format!("{name}.pem")), params.signed_by(&key, &authority)?.pem())?;
        fs::write(pod.dir().join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}

/// TLS of clients outside the mesh is terminated where PeerAuthentication leaves it to the Sidecar.
#[test]
fn a_listener_with_tls_of_its_own_takes_nothing_else() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app_at("web", at_loopback(8080))?;
    server.intercept()?;
    write_certificates(&server, &["server", "client"])?;
    let files = server.dir().display();
    let tls = |mode: &str, more: &str| {
        format!(
            "tls: {{mode: {mode}, serverCertificate: {files}/server.pem, privateKey: {files}/server.key{more}}}"
        )
    };
    let listener = |number: u16, protocol: &str, tls: &str| {
        format!(
            "  - {{port: {{number: {number}, protocol: {protocol}, name: p{number}}}, \
             defaultEndpoint: '127.0.0.1:8080', {tls}}}\n"
        )
    };
    let mutual = tls("MUTUAL", &format!(", caCertificates: {files}/ca.pem"));
    let simple = tls("SIMPLE", "");
    let listeners = listener(9443, "HTTPS", &simple)
        + &listener(9444, "TLS", &simple)
        + &listener(9445, "HTTPS", &mutual)
        + &listener(9446, "HTTP", &simple);
    let policy = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                  metadata: {name: server, namespace: default}\nspec:\n  \
                  selector: {matchLabels: {app: server}}\n  \
                  portLevelMtls: {9443: {mode: DISABLE}, 9444: {mode: DISABLE}, 9445: {mode: DISABLE}}\n";
    let agent = AgentSetup::sidecar()
        .file("sidecar.yaml", ingress(&listeners))
        .file("policy.yaml", policy)
        .start(&server)?;
    let (ca, certificate, key) =
        (format!("{files}/ca.pem"), format!("{files}/client.pem"), format!("{files}/client.key"));
    let curl = |port: u16, more: &[&str]| {
        let resolve = format!("server.example:{port}:{}", server.ip());
        let url = format!("https://server.example:{port}/");
        let common = ["curl", "-sS", "--http1.1", "--max-time", "10", "--cacert", &ca, "--resolve", &resolve];
        client.run(&[&common, more, &[&url]].concat())
    };
    // HTTP within, so that the proxy speaks it, and bytes within.
    let through = curl(9443, &[])?;
    ensure!(through.contains("app: web") && through.contains("header x-forwarded-proto: https"), "{through}");
    let opaque = curl(9444, &[])?;
    ensure!(opaque.contains("app: web") && !opaque.contains("header x-forwarded-proto"), "{opaque}");
    ensure!(curl(9445, &["--cert", &certificate, "--key", &key])?.contains("app: web"));
    ensure!(curl(9445, &[]).is_err(), "a client without a certificate is served");
    for port in [9443, 9444, 9445] {
        client.expect_refused(server.at(port))?;
    }
    // Where mutual TLS of the mesh is not off the settings have no effect, and that is said.
    client.get(server.at(9446), "server", "/")?.expect_app("web")?;
    agent.log_line("spec.ingress[3].tls: has no effect while port 9446 takes mutual TLS of the mesh")?;
    Ok(())
}

fn at_loopback(port: u16) -> SocketAddr {
    SocketAddr::new(LOOPBACK, port)
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PASSTHROUGH: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
