//! Entries whose endpoints are names, with a name server of the test's own.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::process::eventually;
use netns_tests::{AgentSetup, NameServer, Network, Pod, needs_root};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Longer than a name's second, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Nobody is there.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 99));
const PORT: u16 = 8080;

/// A ServiceEntry for a host at port 8080, with more of its `spec`.
fn entry(name: &str, host: &str, more: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{hosts: ['{host}'], ports: [{{number: {PORT}, name: http, protocol: HTTP}}], {more}}}\n"
    )
}

/// Every request of `first.test.com` has a connection of its own.
const NO_KEEP_ALIVE: &str = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
    metadata: {name: first, namespace: default}\n\
    spec: {host: first.test.com, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}}\n";

/// Which application answers a request for a host, or what the proxy answers.
fn met(client: &Pod, to: IpAddr, host: &str) -> Result<String> {
    let reply = client.get((to, PORT).into(), host, "/")?;
    reply.app().or_else(|_| Ok(format!("{} {}", reply.status, reply.body())))
}

#[test]
fn endpoints_that_are_names_are_where_these_say() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let (one, two) = (network.pod("one")?, network.pod("two")?);
    let _apps = (one.http_app("one", PORT)?, two.http_app("two", PORT)?);
    let names = NameServer::start(&server)?;
    for (name, addresses) in [
        ("both.example.com", &[one.ip(), two.ip()][..]),
        ("first.example.com", &[two.ip(), one.ip()]),
        ("own.example.com", &[two.ip()]),
        ("a.dynamic.com", &[one.ip()]),
        ("b.dynamic.com", &[two.ip()]),
    ] {
        names.set(name, addresses);
    }
    client.intercept()?;
    let resources = entry("both", "both.test.com", "resolution: DNS, endpoints: [{address: both.example.com}]")
        + &entry("first", "first.test.com", "resolution: DNS_ROUND_ROBIN, endpoints: [{address: first.example.com}]")
        + NO_KEEP_ALIVE
        // Without endpoints the host itself is the name.
        + &entry("own", "own.example.com", "resolution: DNS")
        + &entry("dynamic", "*.dynamic.com", "resolution: DYNAMIC_DNS");
    let setup = AgentSetup::sidecar().labels("app=client").name_server(names.address());
    let _agent = setup.file("entries.yaml", resources).start(&client)?;
    let ask = |host: &str| met(&client, NOWHERE, host);
    let twenty = |host: &str| (0..20).map(|_| ask(host)).collect::<Result<BTreeSet<_>>>();
    let found = twenty("both.test.com")?;
    ensure!(
        found == BTreeSet::from(["one".to_owned(), "two".to_owned()]),
        "every address is used: {found:?}"
    );
    let found = twenty("first.test.com")?;
    ensure!(found == BTreeSet::from(["two".to_owned()]), "the first address is used: {found:?}");
    for (host, expected) in [
        ("own.example.com", "two"),
        ("a.dynamic.com", "one"),
        ("b.dynamic.com", "two"),
        ("c.dynamic.com", "503 DNS resolution failure"),
    ] {
        let found = ask(host)?;
        ensure!(found == expected, "{host}: {found}");
    }
    let become_one = |host: &str| {
        eventually(PATIENCE, || {
            ensure!(ask(host)? == "one");
            Ok(())
        })
    };
    // Names are asked for again when their time is over.
    names.set("own.example.com", &[one.ip()]);
    become_one("own.example.com")?;
    // The last good address stays where there is none.
    names.set("own.example.com", &[]);
    let asked = names.asked("own.example.com");
    eventually(PATIENCE, || {
        ensure!(names.asked("own.example.com") > asked);
        Ok(())
    })?;
    // What the answer changes, if it changes anything, is known by then.
    thread::sleep(Duration::from_secs(1));
    let found = ask("own.example.com")?;
    ensure!(found == "one", "{found}");
    // Connections are made to the first address, whichever that is now.
    names.set("first.example.com", &[one.ip(), two.ip()]);
    become_one("first.test.com")
}

/// By the mesh's policy requests for hosts that nobody knows go where their names say, and not where callers were going.
#[test]
fn unknown_hosts_are_found_by_name_where_the_mesh_says_so() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let (one, two) = (network.pod("one")?, network.pod("two")?);
    let _apps = (one.http_app("one", PORT)?, two.http_app("two", PORT)?);
    let names = NameServer::start(&server)?;
    names.set("somewhere.example.com", &[one.ip()]);
    client.intercept()?;
    for (mode, known, unknown) in
        [("ALLOW_ANY", "two", "two"), ("ALLOW_ANY_DYNAMIC_DNS", "one", "503 DNS resolution failure")]
    {
        let setup = AgentSetup::sidecar().labels("app=client").name_server(names.address());
        let mesh = format!("accessLogFile: /dev/stdout\noutboundTrafficPolicy: {{mode: {mode}}}\n");
        let _agent = setup.mesh(&mesh).start(&client)?;
        for (host, expected) in [("somewhere.example.com", known), ("nowhere.example.com", unknown)] {
            let found = met(&client, two.ip(), host)?;
            ensure!(found == expected, "{mode}, {host}: {found}");
        }
    }
    Ok(())
}

/// Answers each connection to a port of a pod, in TLS with a certificate of its own for `host`, with the server name it
/// was asked for and the request's first line. Returns what to trust in, PEM.
fn tls_app(pod: &Pod, port: u16, host: &str) -> Result<String> {
    let certified = rcgen::generate_simple_self_signed([host.to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)?;
    let config = Arc::new(config);
    let at = pod.at(port);
    let listener = pod.namespace().within(|| TcpListener::bind(at))?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let Ok(session) = ServerConnection::new(Arc::clone(&config)) else { return };
            let mut reader = BufReader::new(StreamOwned::new(session, stream));
            let mut request = String::new();
            // Clients that do not believe the certificate end here.
            if reader.read_line(&mut request).is_err() {
                continue;
            }
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
                line.clear();
            }
            let stream = reader.get_mut();
            let body = format!("{} {}", stream.conn.server_name().unwrap_or("-"), request.trim_end());
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes()).and_then(|()| stream.flush());
        }
    });
    Ok(certified.cert.pem())
}

/// With `outboundTrafficPolicy.tls` requests in clear text for hosts that nobody knows leave in TLS: those that were
/// going to port 80 to 443, others to the port they were going to.
#[test]
fn unknown_hosts_are_spoken_to_in_tls_where_the_mesh_says_so() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server, one) = (network.pod("client")?, network.pod("server")?, network.pod("one")?);
    let names = NameServer::start(&server)?;
    const HOST: &str = "somewhere.example.com";
    for host in [HOST, "impostor.example.com"] {
        names.set(host, &[one.ip()]);
    }
    client.intercept()?;
    for (port, secure) in [(80, 443), (PORT, PORT)] {
        let ca = client.dir().join("ca.pem");
        std::fs::write(&ca, tls_app(&one, secure, HOST)?)?;
        let mesh = format!(
            "accessLogFile: /dev/stdout\noutboundTrafficPolicy: {{mode: ALLOW_ANY_DYNAMIC_DNS, \
             tls: {{mode: SIMPLE, caCertificates: {}}}}}\n",
            ca.display()
        );
        let setup = AgentSetup::sidecar().labels("app=client").name_server(names.address());
        let agent = setup.mesh(&mesh).start(&client)?;
        let reply = client.get((NOWHERE, port).into(), HOST, "/path")?;
        let expected = format!("{HOST} GET /path HTTP/1.1");
        ensure!(reply.status == 200 && reply.body() == expected, "{port}: {} {}", reply.status, reply.body());
        agent.access_log_line_with(&[&format!("\"{}\" ", one.at(secure)), " AllowAnyDynamicDNSCluster "])?;
        // Whoever shows another's certificate is not believed.
        let reply =
            client.get((NOWHERE, port).into(), "impostor.example.com", "/path").context("impostor")?;
        ensure!(reply.status == 503, "{port}: an impostor was believed: {} {}", reply.status, reply.body());
    }
    Ok(())
}
