//! A gateway with certificates on disk, and how it is asked.

use std::{
    fs,
    ops::Deref,
    path::Path,
    process::{Command, Output},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, IsCa, KeyPair,
    generate_simple_self_signed,
};

use crate::support::{Agent, Endpoint, Setup, free_port, ok, service, service_at};

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

/// Answers every request with 200 and the scheme that it is told of.
pub(crate) fn upstream() -> Endpoint {
    Endpoint::answering(|asked, _| ok(asked.field("x-forwarded-proto").unwrap_or("-")))
}

impl Gateway {
    /// Serves a.com and b.com with certificates of their own, c.com with a key that does not belong, and s.com from a
    /// Secret.
    pub(crate) fn start() -> Self {
        let setup = Setup::router();
        let [http, https, through, opened] = [(); 4].map(|()| free_port());
        let certificates = setup.certificates();
        for (name, host) in [("a", "a.com"), ("b", "b.com"), ("c", "c.com"), ("s", "s.com"), ("m", "m.com")] {
            write_certificate(&certificates, name, host);
        }
        write_clients(&certificates);
        fs::copy(certificates.join("a.key"), certificates.join("c.key")).unwrap();
        let agent = setup
            .resources("all.yaml", &resources(&certificates, (http, https), &upstream()))
            .resources("connections.yaml", &connections(&certificates, https, (through, opened)))
            .start();
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

fn resources(certificates: &Path, (http, https): (u16, u16), upstream: &Endpoint) -> String {
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
         gateways: [gw], http: [{{route: [{{destination: {{host: app}}}}]}}]}}\n---\n{}",
        server("a"),
        server("b"),
        server("c"),
        service("app", upstream),
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
         tcp: [{{match: [{{port: {opened}}}], route: [{{destination: {{host: app}}}}]}}]\n---\n{}",
        files("m"),
        files("b"),
        service_at("own", ("https", 443), https),
    )
}
