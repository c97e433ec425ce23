//! A gateway with certificates on disk, and how it is asked.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    ops::Deref,
    path::Path,
    process::{Command, Output},
    thread,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, IsCa, KeyPair,
    generate_simple_self_signed,
};

use crate::agent::{Agent, directory};
use crate::ports::free_port;

/// A running gateway; ended with the value.
pub(crate) struct Gateway {
    agent: Agent,
    pub(crate) http: u16,
    pub(crate) https: u16,
    /// TLS passed on unopened to `https`.
    pub(crate) through: u16,
    /// TLS opened and its bytes relayed.
    pub(crate) opened: u16,
}

impl Deref for Gateway {
    type Target = Agent;

    fn deref(&self) -> &Agent {
        &self.agent
    }
}

/// Writes `<name>.crt` and `<name>.key` for a host.
pub(crate) fn write_certificate(directory: &Path, name: &str, host: &str) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([host.to_owned()]).unwrap();
    fs::write(directory.join(format!("{name}.crt")), cert.pem()).unwrap();
    fs::write(directory.join(format!("{name}.key")), signing_key.serialize_pem()).unwrap();
}

/// A server that answers every request with 200 and the scheme it was told of.
pub(crate) fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    port
}

fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
            let scheme =
                text.lines().find_map(|line| line.strip_prefix("x-forwarded-proto: ")).unwrap_or("-");
            let length = scheme.len();
            _ = stream
                .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{scheme}").as_bytes());
        }
    }
}

impl Gateway {
    /// Serves a.com and b.com with certificates of their own, c.com with a key that does not belong, and s.com from a
    /// Secret.
    pub(crate) fn start() -> Self {
        let directory = directory();
        let [http, https, through, opened] = [(); 4].map(|()| free_port());
        let certificates = directory.path().join("certs");
        for (name, host) in [("a", "a.com"), ("b", "b.com"), ("c", "c.com"), ("s", "s.com"), ("m", "m.com")] {
            write_certificate(&certificates, name, host);
        }
        write_clients(&certificates);
        fs::copy(certificates.join("a.key"), certificates.join("c.key")).unwrap();
        let config = directory.path().join("config");
        fs::write(config.join("all.yaml"), resources(&certificates, (http, https), upstream())).unwrap();
        fs::write(config.join("connections.yaml"), connections(&certificates, https, (through, opened)))
            .unwrap();
        let agent = Agent::start(directory, &[]);
        let gateway = Self { agent, http, https, through, opened };
        gateway.await_port(https);
        gateway
    }

    pub(crate) fn certificate(&self, name: &str) -> String {
        self.certificates().join(format!("{name}.crt")).display().to_string()
    }

    /// Asks with curl, which trusts the certificate `trusted` only.
    pub(crate) fn curl(&self, url: &str, trusted: &str, more: &[&str]) -> Output {
        let resolve = ["a.com", "b.com", "c.com", "d.com", "s.com", "m.com"]
            .map(|host| ["--resolve".to_owned(), format!("{host}:{}:127.0.0.1", self.https)]);
        Command::new("curl")
            .args(["-sS", "--max-time", "10", "--cacert", &self.certificate(trusted)])
            .args(resolve.as_flattened())
            .args(more)
            .arg(url)
            .output()
            .unwrap()
    }

    pub(crate) fn https_url(&self, host: &str) -> String {
        format!("https://{host}:{}/", self.https)
    }
}

fn resources(certificates: &Path, (http, https): (u16, u16), upstream: u16) -> String {
    let pem = |ending: &str| fs::read_to_string(certificates.join(format!("s.{ending}"))).unwrap();
    let indented = |text: String| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s-credential}}\ntype: kubernetes.io/tls\nstringData:\n  \
         tls.crt: |\n{}  tls.key: |\n{}---\n",
        indented(pem("crt")),
        indented(pem("key")),
    );
    let from_secret = format!(
        "  - {{port: {{number: {https}, name: https-s, protocol: HTTPS}}, hosts: [s.com], tls: {{mode: SIMPLE, \
         credentialName: s-credential}}}}\n"
    );
    let certificates = certificates.display();
    let server = |name: &str| {
        format!(
            "  - {{port: {{number: {https}, name: https-{name}, protocol: HTTPS}}, hosts: [{name}.com], tls: {{mode: SIMPLE, \
             serverCertificate: {certificates}/{name}.crt, privateKey: {certificates}/{name}.key}}}}\n"
        )
    };
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  servers:\n  \
         - {{port: {{number: {http}, name: http, protocol: HTTP}}, hosts: ['*.com'], tls: {{httpsRedirect: true}}}}\n\
         {}{}{}{from_secret}---\n{secret}\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\nspec: {{hosts: ['*.com'], \
         gateways: [gw], http: [{{route: [{{destination: {{host: app}}}}]}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: app}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: v1\nkind: Endpoints\nmetadata: {{name: app}}\n\
         subsets: [{{addresses: [{{ip: 127.0.0.1}}], ports: [{{name: http, port: {upstream}}}]}}]\n",
        server("a"),
        server("b"),
        server("c"),
    )
}

/// An authority, a client certificate of it and one of another.
fn write_clients(directory: &Path) {
    let authority = || {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (trusted, other) = (authority(), authority());
    fs::write(directory.join("ca.crt"), trusted.pem()).unwrap();
    for (name, issuer) in [("client", &trusted), ("stranger", &other)] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["client.com".to_owned()]).unwrap();
        fs::write(directory.join(format!("{name}.crt")), params.signed_by(&key, issuer).unwrap().pem())
            .unwrap();
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// Mutual TLS for m.com, TLS for a.com passed on to the port that terminates it, and TLS for b.com opened to bytes.
fn connections(certificates: &Path, https: u16, (through, opened): (u16, u16)) -> String {
    let certificates = certificates.display();
    let files = |name: &str| {
        format!("serverCertificate: {certificates}/{name}.crt, privateKey: {certificates}/{name}.key")
    };
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: more}}\nspec:\n  servers:\n  \
         - {{port: {{number: {https}, name: https-m, protocol: HTTPS}}, hosts: [m.com], tls: {{mode: MUTUAL, {}, \
         caCertificates: {certificates}/ca.crt, subjectAltNames: [client.com]}}}}\n  \
         - {{port: {{number: {through}, name: tls, protocol: TLS}}, hosts: [a.com], tls: {{mode: PASSTHROUGH}}}}\n  \
         - {{port: {{number: {opened}, name: tls-opened, protocol: TLS}}, hosts: [b.com], tls: {{mode: SIMPLE, {}}}}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: more}}\nspec:\n  \
         hosts: [a.com, b.com, m.com]\n  gateways: [more]\n  \
         http: [{{route: [{{destination: {{host: app}}}}]}}]\n  \
         tls: [{{match: [{{sniHosts: [a.com]}}], route: [{{destination: {{host: own}}}}]}}]\n  \
         tcp: [{{match: [{{port: {opened}}}], route: [{{destination: {{host: app}}}}]}}]\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: own}}\nspec: {{ports: [{{port: 443}}]}}\n---\n\
         apiVersion: v1\nkind: Endpoints\nmetadata: {{name: own}}\n\
         subsets: [{{addresses: [{{ip: 127.0.0.1}}], ports: [{{port: {https}}}]}}]\n",
        files("m"),
        files("b"),
    )
}
