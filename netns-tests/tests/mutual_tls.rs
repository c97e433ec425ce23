//! Two sidecars that know each other, and what becomes of callers without one.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_tests::process::eventually;
use netns_tests::{Agent, AgentSetup, Network, Pod, Reply, Service, needs_root};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

/// What signs the certificates of the mesh.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Chain, key and roots of the workload with a service account.
    fn identity(&self, account: &str) -> Result<[String; 3]> {
        let mut params = CertificateParams::new([])?;
        params.subject_alt_names = vec![SanType::URI(spiffe(account).as_str().try_into()?)];
        let key = KeyPair::generate()?;
        Ok([params.signed_by(&key, &self.0)?.pem(), key.serialize_pem(), self.0.pem()])
    }
}

fn spiffe(account: &str) -> String {
    format!("spiffe://cluster.local/ns/default/sa/{account}")
}

/// A pod of the mesh as the cluster describes it.
fn described(pod: &Pod) -> String {
    let (name, ip) = (pod.name(), pod.ip());
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: default\n  \
         labels: {{app: {name}, security.istio.io/tlsMode: istio}}\n\
         spec: {{serviceAccountName: {name}}}\nstatus: {{phase: Running, podIP: {ip}, podIPs: [{{ip: {ip}}}]}}\n"
    )
}

/// The resources of a mesh in which both pods are called by their names.
fn mesh(one: &Pod, two: &Pod, more: &str) -> String {
    let service = |pod: &Pod, address| {
        Service::new(pod.name(), address, 8080).endpoint(pod.ip()).selects(pod.name()).yaml()
    };
    service(one, ONE) + &service(two, TWO) + &described(one) + &described(two) + more
}

fn sidecar<'p>(authority: &Authority, pod: &'p Pod, resources: &str) -> Result<Agent<'p>> {
    pod.intercept()?;
    let labels = format!("app={}", pod.name());
    let identity = authority.identity(pod.name())?;
    AgentSetup::sidecar().labels(&labels).identity(identity).file("mesh.yaml", resources).start(pod)
}

/// Calls `to` with a claim about a certificate that nobody has shown.
fn call(from: &Pod, to: SocketAddr, host: &str) -> Result<Reply> {
    from.request(
        to,
        &format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-forwarded-client-cert: URI=forged\r\nconnection: close\r\n\r\n"),
    )
}

/// The application must have been told of exactly this caller.
fn expect_caller(reply: &Reply, caller: Option<(&str, &str)>) -> Result<()> {
    let body = reply.body();
    let told = body.lines().find_map(|line| line.strip_prefix("header x-forwarded-client-cert: "));
    match (told, caller) {
        (None, None) => Ok(()),
        (Some(told), Some((from, to))) => {
            let (by, uri) = (format!("By={};Hash=", spiffe(to)), format!(";URI={}", spiffe(from)));
            ensure!(told.starts_with(&by) && told.contains(&uri), "expected {by}…{uri}, found {told}");
            ensure!(!told.contains("forged"), "the claim was believed: {told}");
            Ok(())
        }
        (told, caller) => anyhow::bail!("expected {caller:?}, found {told:?} in\n{body}"),
    }
}

#[test]
fn two_sidecars_speak_mutual_tls_without_being_told_to() -> Result<()> {
    needs_root!();
    let (authority, network) = (Authority::new()?, Network::new()?);
    let (one, two) = (network.pod("one")?, network.pod("two")?);
    let _apps = (one.http_app("one", 8080)?, two.http_app("two", 8080)?);
    let resources = mesh(&one, &two, "");
    let first = sidecar(&authority, &one, &resources)?;
    let second = sidecar(&authority, &two, &resources)?;
    expect_caller(&call(&one, TWO, "two")?, Some(("one", "two")))?;
    expect_caller(&call(&two, ONE, "one")?, Some(("two", "one")))?;
    // What was sent as server name shows that TLS was spoken on the wire.
    for (agent, name) in [(&second, "two"), (&first, "one")] {
        agent.access_log_line_with(&[
            "inbound|8080||",
            &format!("outbound_.80_._.{name}.default.svc.cluster.local"),
        ])?;
    }
    Ok(())
}

/// What a caller of the mesh says of its own callers is believed, and the caller named behind it.
#[test]
fn applications_are_told_of_callers_and_of_those_that_these_speak_for() -> Result<()> {
    needs_root!();
    let (authority, network) = (Authority::new()?, Network::new()?);
    let (gateway, server, plain) = (network.pod("one")?, network.pod("two")?, network.pod("plain")?);
    let _app = server.http_app("two", 8080)?;
    let resources = mesh(&gateway, &server, GATEWAY);
    let _server = sidecar(&authority, &server, &resources)?;
    let router = AgentSetup::router().identity(authority.identity("one")?).mesh(FORWARDING);
    let _router = router.file("mesh.yaml", resources).start(&gateway)?;
    let body = call(&plain, gateway.at(8080), "two.com")?.body();
    let told = body.lines().find_map(|line| line.strip_prefix("header x-forwarded-client-cert: "));
    let told = told.with_context(|| format!("the application was told of nobody: {body}"))?;
    let (begin, uri) = (format!("URI=forged,By={};Hash=", spiffe("two")), format!(";URI={}", spiffe("one")));
    ensure!(told.starts_with(&begin) && told.ends_with(&uri), "expected {begin}…{uri}, found {told}");
    Ok(())
}

/// A ServiceEntry `<name>.com` at port 80 whose endpoint is port 8080 of a pod, with more fields.
fn entry(name: &str, location: &str, pod: &Pod, more: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{hosts: [{name}.com], ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}], \
         resolution: STATIC, location: {location}, endpoints: [{{address: {}, {more}}}]}}\n",
        pod.ip()
    )
}

fn rule(host: &str, policy: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {host}, namespace: default}}\n\
         spec: {{host: {host}.com, trafficPolicy: {{{policy}}}}}\n"
    )
}

/// Unasked, mutual TLS is for endpoints of the mesh that say they speak it, and are whom they should be.
#[test]
fn mutual_tls_is_for_endpoints_that_speak_it_unless_a_rule_says_otherwise() -> Result<()> {
    needs_root!();
    let (authority, network) = (Authority::new()?, Network::new()?);
    let (one, two, plain) = (network.pod("one")?, network.pod("two")?, network.pod("plain")?);
    let _apps = (two.http_app("two", 8080)?, plain.http_app("plain", 8080)?);
    let (inside, outside) = ("MESH_INTERNAL", "MESH_EXTERNAL");
    let ready = "labels: {security.istio.io/tlsMode: istio}";
    let another = format!("{ready}, serviceAccount: another");
    let resources = mesh(&one, &two, "")
        + &entry("ready", inside, &two, ready)
        + &entry("silent", inside, &plain, "labels: {app: plain}")
        + &entry("outside", outside, &two, ready)
        + &entry("another", inside, &two, &another)
        + &entry("disabled", inside, &two, ready)
        + &rule("disabled", "tls: {mode: DISABLE}")
        + &entry("balanced", inside, &two, ready)
        + &rule("balanced", "loadBalancer: {simple: RANDOM}");
    let _first = sidecar(&authority, &one, &resources)?;
    let _second = sidecar(&authority, &two, &resources)?;
    const PROVED: Option<(&str, &str)> = Some(("one", "two"));
    for (host, app, caller) in [
        ("ready", "two", PROVED),
        ("outside", "two", None),
        ("disabled", "two", None),
        // A rule that says nothing of TLS leaves it.
        ("balanced", "two", PROVED),
    ] {
        let reply = call(&one, TWO, &format!("{host}.com"))?;
        reply.expect_app(app).context(host)?;
        expect_caller(&reply, caller).context(host)?;
    }
    // Nobody takes a claim away there.
    call(&one, TWO, "silent.com")?.expect_app("plain")?;
    let refused = call(&one, TWO, "another.com")?;
    ensure!(refused.status == 503, "an impostor was believed: {}", refused.status);
    Ok(())
}

#[test]
fn a_permissive_port_serves_callers_without_a_sidecar_and_a_strict_one_does_not() -> Result<()> {
    needs_root!();
    let (authority, network) = (Authority::new()?, Network::new()?);
    let (client, server, plain) = (network.pod("one")?, network.pod("two")?, network.pod("plain")?);
    let _app = server.http_app("two", 8080)?;
    let resources = mesh(&client, &server, "");
    let _client = sidecar(&authority, &client, &resources)?;
    let agent = sidecar(&authority, &server, &resources)?;
    let reply = call(&plain, server.at(8080), "two")?;
    reply.expect_app("two")?;
    expect_caller(&reply, None)?;
    agent.write("strict.yaml", STRICT)?;
    // Published within a moment: until then clear text is served.
    let refused = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        call(&plain, server.at(8080), "two").is_err()
    });
    ensure!(refused, "a STRICT port went on serving clear text:\n{}", agent.log());
    agent.access_log_line_with(&[" NR filter_chain_not_found "])?;
    let told = agent.log_line("clear text refused: only TLS is served here (mutual TLS is STRICT)")?;
    for place in [format!("downstream={}", plain.ip()), format!("destination={}", server.at(8080))] {
        ensure!(told.contains(&place), "no `{place}` in {told}");
    }
    expect_caller(&call(&client, TWO, "two")?, Some(("one", "two")))
}

/// A port of undeclared protocol takes as long as a client is given to speak first, once for the whole way; nobody else
/// waits.
#[test]
fn whoever_speaks_first_is_heard_through_both_sidecars() -> Result<()> {
    needs_root!();
    let (authority, network) = (Authority::new()?, Network::new()?);
    let (one, two) = (network.pod("one")?, network.pod("two")?);
    let _apps = (two.banner_app(2525, BANNER)?, two.echo_app(7000)?);
    let service = |port_name, address, port| {
        Service::new(port_name, address, port).port_name(port_name).endpoint(two.ip()).selects("two").yaml()
    };
    let services = [("tcp-mail", TCP_MAIL, 2525), ("mail", MAIL, 2525), ("echo", ECHO, 7000)];
    let more: String = services.map(|(name, address, port)| service(name, address, port)).concat();
    let resources = mesh(&one, &two, &more);
    let _first = sidecar(&authority, &one, &resources)?;
    let second = sidecar(&authority, &two, &resources)?;
    let declared = fast(SILENCE, || ensure_is(&one.listen_to(TCP_MAIL, PATIENCE)?, BANNER))?;
    // Once for the whole way, not at each of the two.
    let detected = fast(2 * SILENCE, || ensure_is(&one.listen_to(MAIL, PATIENCE)?, BANNER))?;
    let client = fast(SILENCE, || {
        let mut stream = one.connect(ECHO)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"hello")?;
        let mut told = String::new();
        BufReader::new(&stream).read_line(&mut told)?;
        ensure!(told.ends_with('\n'), "the echo says {told:?}");
        Ok(())
    })?;
    eprintln!(
        "a server first: {declared:?} where declared, {detected:?} where detected; the client first: {client:?}"
    );
    ensure!(detected >= SILENCE, "nobody was given the time to speak: {detected:?}");
    second.access_log_line_with(&["inbound|2525||", "outbound_.2525_._.mail.default.svc.cluster.local"])?;
    Ok(())
}

/// Waits until the only line of a proxy's metrics that begins so and has all these labels has this value.
fn await_metric(pod: &Pod, name: &str, labels: &[&str], value: usize) -> Result<()> {
    let stats = ([127, 0, 0, 1], 15090).into();
    eventually(PATIENCE, || {
        let metrics = pod.get(stats, "localhost", "/stats/prometheus")?.body();
        let begin = format!("{name}{{");
        let of_name: Vec<_> = metrics.lines().filter(|line| line.starts_with(&begin)).collect();
        let has_all = |line: &&&str| labels.iter().all(|label| line.contains(label));
        let found: Vec<_> = of_name.iter().filter(has_all).collect();
        let is_so = matches!(found.as_slice(), [line] if line.ends_with(&format!(" {value}")));
        ensure!(is_so, "no {value} of {labels:?} in {of_name:#?}");
        Ok(())
    })
}

/// Both ends tell the same call, each from its side.
#[test]
fn metrics_of_both_sides_name_caller_and_called() -> Result<()> {
    needs_root!();
    let (authority, network) = (Authority::new()?, Network::new()?);
    let (one, two) = (network.pod("one")?, network.pod("two")?);
    let _apps = (two.http_app("two", 8080)?, two.echo_app(7000)?);
    let echo = Service::new("echo", ECHO, 7000).port_name("tcp").endpoint(two.ip()).selects("two").yaml();
    let resources = mesh(&one, &two, &echo);
    let _first = sidecar(&authority, &one, &resources)?;
    let _second = sidecar(&authority, &two, &resources)?;
    for _ in 0..3 {
        call(&one, TWO, "two")?.expect_app("two")?;
    }
    let mut stream = one.connect(ECHO)?;
    stream.write_all(b"hello\n")?;
    let mut reader = BufReader::new(stream);
    let mut heard = String::new();
    reader.read_line(&mut heard)?;
    reader.read_line(&mut heard)?;
    drop(reader);
    const CALLER: [&str; 3] =
        [r#"source_workload="one""#, r#"source_app="one""#, r#"source_workload_namespace="default""#];
    const CALLED: [&str; 3] = [
        r#"destination_workload="two""#,
        r#"destination_app="two""#,
        r#"destination_workload_namespace="default""#,
    ];
    const PRINCIPALS: [&str; 3] = [
        r#"source_principal="spiffe://cluster.local/ns/default/sa/one""#,
        r#"destination_principal="spiffe://cluster.local/ns/default/sa/two""#,
        r#"connection_security_policy="mutual_tls""#,
    ];
    const UNKNOWN: [&str; 1] = [r#"connection_security_policy="unknown""#];
    let of = |service: &str| {
        [
            format!(r#"destination_service="{service}.default.svc.cluster.local""#),
            format!(r#"destination_service_name="{service}""#),
        ]
    };
    let (http, tcp) = (of("two"), of("echo"));
    for (pod, reporter, security) in
        [(&one, r#"reporter="source""#, &UNKNOWN[..]), (&two, r#"reporter="destination""#, &PRINCIPALS[..])]
    {
        let expect = |name: &str, service: &[String; 2], more: &[&str], value: usize| {
            let service = service.each_ref().map(String::as_str);
            let labels = [&[reporter], &CALLER[..], &CALLED, security, &service, more].concat();
            await_metric(pod, name, &labels, value)
        };
        let requests = [r#"request_protocol="http""#, r#"response_code="200""#, r#"response_flags="-""#];
        expect("istio_requests_total", &http, &requests, 3)?;
        expect("istio_request_duration_milliseconds_count", &http, &requests, 3)?;
        let connections = [r#"request_protocol="tcp""#, r#"response_flags="-""#];
        expect("istio_tcp_connections_opened_total", &tcp, &connections, 1)?;
        expect("istio_tcp_connections_closed_total", &tcp, &connections, 1)?;
        expect("istio_tcp_received_bytes_total", &tcp, &connections, "hello\n".len())?;
        expect("istio_tcp_sent_bytes_total", &tcp, &connections, heard.len())?;
    }
    Ok(())
}

fn ensure_is(found: &str, expected: &str) -> Result<()> {
    ensure!(found == expected, "heard {found:?}");
    Ok(())
}

/// The shortest time that something takes; the machine may be busy.
/// The time of the first attempt that takes less than `limit`: on a busy machine that may be one of many, and where there
/// is something that is waited for there is none.
fn fast(limit: Duration, attempt: impl Fn() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let start = Instant::now();
        attempt()?;
        let taken = start.elapsed();
        if taken < limit {
            return Ok(taken);
        }
        ensure!(
            begun.elapsed() < BUSY,
            "kept waiting each time, at last for {taken:?}, not less than {limit:?}"
        );
    }
}

/// How long a machine may be so busy that no attempt is fast.
const BUSY: Duration = Duration::from_secs(40);
const BANNER: &str = "220 mail.example ESMTP\r\n";
const PATIENCE: Duration = Duration::from_secs(5);
/// What a client is given to speak first.
const SILENCE: Duration = Duration::from_millis(50);
const TCP_MAIL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 25)), 2525);
const MAIL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 26)), 2525);
const ECHO: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 27)), 7000);

/// For callers of a gateway that passes on what they say of themselves.
const GATEWAY: &str = "---\napiVersion: networking.istio.io/v1\nkind: Gateway\n\
    metadata: {name: gateway, namespace: default}\nspec: {selector: {istio: ingressgateway}, \
    servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: [two.com]}]}\n\
    ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: two, namespace: default}\n\
    spec: {hosts: [two.com], gateways: [gateway], http: [{route: [{destination: {host: two}}]}]}\n";
const FORWARDING: &str =
    "defaultConfig: {gatewayTopology: {forwardClientCertDetails: ALWAYS_FORWARD_ONLY}}\n";
const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
    metadata: {name: strict, namespace: default}\nspec: {mtls: {mode: STRICT}}\n";
const ONE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 21)), 80);
const TWO: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 22)), 80);
