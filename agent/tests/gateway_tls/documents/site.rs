//! A gateway as the documents have it, with its authorities, and the clients of its ports.

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Output, Stdio},
    sync::Arc,
};

use crate::support::{self, Agent, Endpoint, Message, Setup, free_port, ok, openssl, service_at};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Keys of the certificates.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Rsa,
    Ecdsa,
}

impl Kind {
    fn new_key(self) -> &'static str {
        match self {
            Self::Rsa => "-newkey rsa:2048",
            Self::Ecdsa => "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1",
        }
    }

    /// What `openssl s_client` says of the server's signature.
    pub(super) fn signature(self) -> &'static str {
        match self {
            Self::Rsa => "Peer signature type: RSA-PSS",
            Self::Ecdsa => "Peer signature type: ECDSA",
        }
    }
}

/// A directory in which certificates are made.
pub(super) struct Site {
    kind: Kind,
    setup: Setup,
}

impl Site {
    /// With authorities `ca` and `other-ca`.
    pub(super) fn new(kind: Kind) -> Self {
        let site = Self { kind, setup: Setup::router() };
        for name in ["ca", "other-ca"] {
            let key = kind.new_key();
            site.openssl(&format!(
                "req {key} -nodes -sha256 -keyout {name}.key -x509 -days 3655 -out {name}.crt -subj /O=istio/CN={name}"
            ));
        }
        site
    }

    fn openssl(&self, arguments: &str) {
        openssl(&self.setup.certificates(), arguments);
    }

    /// Makes `<name>.crt` and `<name>.key` as the documents do.
    pub(super) fn certificate(&self, name: &str, authority: &str, names: &str) {
        let key = self.kind.new_key();
        self.openssl(&format!(
            "req {key} -nodes -sha256 -keyout {name}.key -out {name}.csr -subj /O=istio/CN={name}"
        ));
        let extensions = self.setup.certificates().join("extfile.cnf");
        fs::write(extensions, format!("subjectAltName = {names}\n")).unwrap();
        self.openssl(&format!(
            "x509 -req -days 3655 -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial \
             -extfile extfile.cnf -out {name}.crt"
        ));
    }

    /// Makes `<name>.crt` and `<name>.key` as Istio's own example does: without extensions, and so of X.509 version 1.
    pub(super) fn certificate_without_extensions(&self, name: &str, authority: &str) {
        let key = self.kind.new_key();
        self.openssl(&format!(
            "req -out {name}.csr {key} -nodes -keyout {name}.key -subj /CN={name}/O=organization"
        ));
        self.openssl(&format!(
            "x509 -req -sha256 -days 365 -CA {authority}.crt -CAkey {authority}.key -set_serial 1 -in {name}.csr \
             -out {name}.crt"
        ));
    }

    /// `kubectl create secret tls`.
    pub(super) fn tls_secret(&self, name: &str, certificate: &str) -> String {
        self.secret(
            name,
            &[("tls.crt", &format!("{certificate}.crt")), ("tls.key", &format!("{certificate}.key"))],
        )
    }

    /// `kubectl create secret generic --from-file`, with the authority of clients.
    pub(super) fn generic_secret(&self, name: &str, certificate: &str, authority: &str) -> String {
        let (certificate, key) = (format!("{certificate}.crt"), format!("{certificate}.key"));
        self.secret(
            name,
            &[("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", &format!("{authority}.crt"))],
        )
    }

    fn secret(&self, name: &str, files: &[(&str, &str)]) -> String {
        let mut yaml =
            format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData:\n");
        for (key, file) in files {
            let content = fs::read_to_string(self.setup.certificates().join(file)).unwrap();
            yaml += &format!("  {key}: |\n");
            yaml.extend(content.lines().map(|line| format!("    {line}\n")));
        }
        yaml
    }

    /// Resources whose paths are those of the certificates here.
    pub(super) fn mounted(&self, resources: &str) -> String {
        resources.replace("/CERTS/", &format!("{}/", self.setup.certificates().display()))
    }

    /// A Service whose endpoint terminates TLS itself.
    pub(super) fn tls_endpoint(&self, certificate: &str, service: &str, port: u16) -> String {
        let file = |ending: &str| self.setup.certificates().join(format!("{certificate}.{ending}"));
        let chain = CertificateDer::from_pem_file(file("crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(builder.with_no_client_auth().with_single_cert(vec![chain], key).unwrap());
        let endpoint = Endpoint::start(move |client| {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            answer(StreamOwned::new(session, client.0));
        });
        format!("---\n{}", service_at(service, ("http", port), endpoint.port()))
    }

    /// Starts the gateway with the resources of a document.
    pub(super) fn start(self, documents: &[&str]) -> Running {
        let ports = [80, 443, 31400].map(|port| (port, free_port()));
        let listed = ports.map(|(port, real)| format!("{{name: p{port}, port: {port}, targetPort: {real}}}"));
        let mut resources = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: istio-ingressgateway}}\n\
             spec: {{selector: {{istio: ingressgateway}}, ports: [{}]}}\n",
            listed.join(", ")
        );
        let endpoint = Endpoint::start(|client| answer(client.0));
        for (service, port) in [
            ("webapp", 8080),
            ("catalog", 80),
            ("httpbin", 8000),
            ("httpbin-a", 8000),
            ("httpbin-b", 8000),
            ("reviews", 9080),
        ] {
            resources += &format!("---\n{}", service_at(service, ("http", port), endpoint.port()));
        }
        for document in documents {
            resources += &format!("---\n{document}");
        }
        let labels =
            ["--labels", "istio=ingressgateway,app=my-ingress-gateway", "--namespace", "istio-system"];
        let agent = self.setup.resources("all.yaml", &resources).flags(&labels).start();
        let running = Running { agent, ports };
        running.agent.log_line(&["published version=1"]);
        running
    }
}

/// A gateway that runs.
pub(super) struct Running {
    agent: Agent,
    ports: [(u16, u16); 3],
}

impl Running {
    /// Where a port of the Service leads.
    pub(super) fn port(&self, declared: u16) -> u16 {
        self.ports.iter().find(|(port, _)| *port == declared).unwrap().1
    }

    /// Runs curl among the certificates; names and ports are the Service's.
    pub(super) fn curl(&self, arguments: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "10"]).current_dir(self.agent.certificates());
        for (port, real) in self.ports {
            curl.args(["--connect-to", &format!(":{port}:127.0.0.1:{real}")]);
        }
        curl.args(arguments).output().unwrap()
    }

    /// Runs `openssl s_client` among the certificates.
    pub(super) fn s_client(&self, port: u16, arguments: &[&str]) -> Output {
        Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{}", self.port(port))])
            .args(arguments)
            .current_dir(self.agent.certificates())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

/// Answers as httpbin does: `/status/<code>` with that code, all else with 200 and the head received.
fn answer(mut stream: impl Read + Write) {
    while let Ok(asked) = Message::read(&mut stream) {
        let path = asked.asks_for().split(' ').nth(1).unwrap_or_default();
        let answer = match path.strip_prefix("/status/") {
            Some(code) => support::answer(code.parse().unwrap(), "-=[ teapot ]=-"),
            None => ok(&format!("{}\r\n\r\n", asked.head)),
        };
        _ = stream.write_all(answer.as_bytes());
    }
}
