//! PeerAuthentication: what each mode does with each kind of caller on ports of each protocol, and which policy holds.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netns_tests::{AgentSetup, Network, Pod, needs_root};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// What signs the certificates of a mesh.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// A certificate of a workload with this SPIFFE id, and its key.
    fn issue(&self, id: &str) -> Result<(rcgen::Certificate, KeyPair)> {
        let mut params = CertificateParams::new([])?;
        params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.0)?, key))
    }

    /// Chain, key and roots of the server, PEM.
    fn identity(&self) -> Result<[String; 3]> {
        let (certificate, key) = self.issue("spiffe://cluster.local/ns/default/sa/server")?;
        Ok([certificate.pem(), key.serialize_pem(), self.0.pem()])
    }

    /// A client with that SPIFFE id which offers these protocols.
    fn client(&self, id: &str, protocols: &[&str]) -> Result<Arc<ClientConfig>> {
        let (certificate, key) = self.issue(id)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = builder()?.with_client_auth_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// A client without a certificate which offers these protocols.
fn anonymous(protocols: &[&str]) -> Result<Arc<ClientConfig>> {
    let mut config = builder()?.with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let trusting = Arc::new(Trusting(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(trusting))
}

/// Believes every server: what it asks of clients is what matters here.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What a caller sends.
enum Caller {
    /// These bytes.
    Clear(Vec<u8>),
    /// A request within TLS.
    Tls(Arc<ClientConfig>),
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: server\r\n\r\n";

/// What becomes of a call to an application that sends back what it hears, behind a line with an address. Where the
/// proxy takes that for HTTP it answers by itself.
fn outcome(client: &Pod, to: SocketAddr, caller: &Caller) -> Result<&'static str> {
    let stream = client.connect(to)?;
    Ok(match caller {
        Caller::Clear(bytes) => told(stream, bytes)?,
        Caller::Tls(config) => {
            let name = ServerName::try_from("server.test")?;
            let session = ClientConnection::new(Arc::clone(config), name)?;
            told(StreamOwned::new(session, stream), REQUEST)?
        }
    })
}

fn told(mut stream: impl Read + Write, sent: &[u8]) -> Result<&'static str> {
    // Whoever refuses may have gone before all is written.
    let _ = stream.write_all(sent).and_then(|()| stream.flush());
    let mut heard = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        let length = match stream.read(&mut bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                bail!("neither answered nor closed after {:?}", String::from_utf8_lossy(&heard))
            }
            Err(_) => 0,
        };
        heard.extend_from_slice(&bytes[..length]);
        match heard.first() {
            None if length == 0 => return Ok("closed"),
            Some(0x15) => return Ok("alert"),
            Some(0x16) => return Ok("TLS"),
            Some(b'H') if heard.starts_with(b"HTTP/1.1 502") => return Ok("HTTP"),
            Some(b'H') if heard.starts_with(b"HTTP/1.1 400") => return Ok("HTTP 400"),
            Some(b'1') if heard.ends_with(sent) => return Ok("TCP"),
            _ => ensure!(length > 0, "closed after {:?}", String::from_utf8_lossy(&heard)),
        }
    }
}

/// A Service of the pod with these ports, which are called like what they speak.
fn service(server: &Pod, ports: &[(u16, &str)]) -> String {
    let list = |more: &str| {
        let one = |(port, name): &(u16, &str)| format!("{{name: {name}-{port}, port: {port}{more}}}");
        ports.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: server, namespace: default}}\n\
         spec: {{clusterIP: 10.96.0.10, selector: {{app: server}}, ports: [{}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: server-1, namespace: default, labels: {{kubernetes.io/service-name: server}}}}\n\
         addressType: IPv4\nports: [{}]\nendpoints: [{{addresses: [{}]}}]\n",
        list(""),
        list(", protocol: TCP"),
        server.ip()
    )
}

/// Names of policies and what they say.
type Policies<'p> = &'p [(&'p str, &'p str)];

/// A PeerAuthentication `namespace/name`.
fn policy(name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("a namespace");
    let created = if name == "old" { 2024 } else { 2025 };
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{created}-01-01T00:00:00Z'}}\n\
         spec: {{{spec}}}\n"
    )
}

#[test]
fn modes_hold_for_callers_by_what_they_speak() -> Result<()> {
    needs_root!();
    let (authority, stranger, network) = (Authority::new()?, Authority::new()?, Network::new()?);
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    server.intercept()?;
    const OWN: &str = "spiffe://cluster.local/ns/default/sa/client";
    let callers = [
        ("a request", Caller::Clear(REQUEST.to_vec())),
        ("other bytes", Caller::Clear(b"hello\n".to_vec())),
        ("TLS that is not the mesh's", Caller::Clear(hello(&["h2"])?)),
        ("TLS of the mesh for HTTP", Caller::Tls(authority.client(OWN, &["istio-http/1.1", "istio"])?)),
        ("TLS of the mesh", Caller::Tls(authority.client(OWN, &["istio-peer-exchange", "istio"])?)),
        ("no certificate", Caller::Tls(anonymous(&["istio"])?)),
        ("another mesh's", Caller::Tls(stranger.client(OWN, &["istio"])?)),
        ("another domain", Caller::Tls(authority.client("spiffe://other/ns/a/sa/b", &["istio"])?)),
        ("no SPIFFE id", Caller::Tls(authority.client("https://cluster.local/ns/a/sa/b", &["istio"])?)),
    ];
    const NOBODY: [&str; 4] = ["closed"; 4];
    let table = [
        ("http", "PERMISSIVE", ["HTTP", "HTTP 400", "alert", "HTTP", "HTTP"], NOBODY),
        ("http", "STRICT", ["closed", "closed", "TLS", "HTTP", "HTTP"], NOBODY),
        ("http", "DISABLE", ["HTTP", "HTTP 400", "HTTP 400", "closed", "closed"], NOBODY),
        ("tcp", "PERMISSIVE", ["TCP", "TCP", "TCP", "TCP", "TCP"], NOBODY),
        ("tcp", "STRICT", ["closed", "closed", "TLS", "TCP", "TCP"], NOBODY),
        ("tcp", "DISABLE", ["TCP", "TCP", "TCP", "closed", "closed"], NOBODY),
        ("https", "PERMISSIVE", ["TCP", "TCP", "TCP", "TCP", "TCP"], NOBODY),
        // Of no declared protocol.
        ("any", "PERMISSIVE", ["HTTP", "TCP", "TCP", "HTTP", "TCP"], NOBODY),
        ("any", "STRICT", ["closed", "closed", "TLS", "HTTP", "TCP"], NOBODY),
        ("any", "DISABLE", ["HTTP", "TCP", "TCP", "closed", "closed"], NOBODY),
    ];
    let numbered = || (9000_u16..).zip(&table);
    let ports: Vec<_> = numbered().map(|(port, (protocol, ..))| (port, *protocol)).collect();
    let _apps = ports.iter().map(|(port, _)| server.echo_app(*port)).collect::<Result<Vec<_>>>()?;
    let mut modes = String::new();
    for (port, (_, mode, ..)) in numbered() {
        write!(modes, "{port}: {{mode: {mode}}}, ")?;
    }
    let spec = format!("selector: {{matchLabels: {{app: server}}}}, portLevelMtls: {{{modes}}}");
    let agent = AgentSetup::sidecar()
        .identity(authority.identity()?)
        .file("server.yaml", service(&server, &ports) + &policy("default/ports", &spec))
        .start(&server)?;
    for (port, (protocol, mode, known, unknown)) in numbered() {
        for ((caller, sends), expected) in callers.iter().zip(known.iter().chain(unknown)) {
            let case = || format!("{mode} {protocol} port, {caller}");
            let met = outcome(&client, server.at(port), sends).with_context(case)?;
            ensure!(met == *expected, "{}: {met} instead of {expected}\n{}", case(), agent.log());
        }
    }
    Ok(())
}

/// The first flight of a client that offers these protocols.
fn hello(protocols: &[&str]) -> Result<Vec<u8>> {
    let mut session = ClientConnection::new(anonymous(protocols)?, "elsewhere.test".try_into()?)?;
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes)?;
    Ok(bytes)
}

/// Whether two ports accept callers in clear text.
fn accept_clear_text(client: &Pod, server: &Pod) -> Result<[bool; 2]> {
    let clear = Caller::Clear(b"hello\n".to_vec());
    let accepts = |port| outcome(client, server.at(port), &clear).map(|met| met == "TCP");
    Ok([accepts(9000)?, accepts(9001)?])
}

/// Each case differs from the one before, so that its policies are seen to be there.
#[test]
fn the_policy_nearest_to_the_port_holds() -> Result<()> {
    needs_root!();
    let (authority, network) = (Authority::new()?, Network::new()?);
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    server.intercept()?;
    let _apps = (server.echo_app(9000)?, server.echo_app(9001)?);
    let agent = AgentSetup::sidecar()
        .identity(authority.identity()?)
        .file("server.yaml", service(&server, &[(9000, "tcp"), (9001, "tcp")]))
        .start(&server)?;
    const STRICT: &str = "mtls: {mode: STRICT}";
    const PERMISSIVE: &str = "mtls: {mode: PERMISSIVE}";
    const UNSET: &str = "mtls: {mode: UNSET}";
    const OWN: &str = "selector: {matchLabels: {app: server}}";
    let own = |rest: &str| format!("{OWN}, {rest}");
    let [root, namespace, workload] = ["istio-system/root", "default/namespace", "default/workload"];
    let cases: [(Policies<'_>, [bool; 2]); 11] = [
        (&[], [true, true]),
        (&[(root, STRICT)], [false, false]),
        (&[(root, STRICT), (namespace, PERMISSIVE)], [true, true]),
        (&[(root, STRICT), (namespace, UNSET)], [false, false]),
        // Istio ignores selectors in the root namespace, and their policies with them.
        (&[(root, &own(STRICT))], [true, true]),
        (&[(namespace, PERMISSIVE), (workload, &own(STRICT))], [false, false]),
        (
            &[(workload, &own("mtls: {mode: STRICT}, portLevelMtls: {9001: {mode: PERMISSIVE}}"))],
            [false, true],
        ),
        (
            &[
                (root, STRICT),
                (namespace, PERMISSIVE),
                (workload, &own("portLevelMtls: {9001: {mode: STRICT}}")),
            ],
            [true, false],
        ),
        (&[(workload, "selector: {matchLabels: {app: other}}, mtls: {mode: STRICT}")], [true, true]),
        (&[("default/old", STRICT), ("default/a-young", PERMISSIVE)], [false, false]),
        (&[(root, STRICT), (namespace, STRICT), (workload, &own("mtls: {mode: DISABLE}"))], [true, true]),
    ];
    for (policies, expected) in cases {
        let yaml: String = policies.iter().map(|(name, spec)| policy(name, spec)).collect();
        agent.write("policies.yaml", &yaml)?;
        let start = Instant::now();
        loop {
            let met = accept_clear_text(&client, &server)?;
            if met == expected {
                break;
            }
            ensure!(
                start.elapsed() < LIMIT,
                "{policies:?}: {met:?} instead of {expected:?}\n{}",
                agent.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(20);
