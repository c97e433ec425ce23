//! The program as a gateway with certificates on disk, asked by curl and openssl.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, IsCa, KeyPair,
    generate_simple_self_signed,
};
use tempfile::TempDir;

/// A running gateway; ended with the value.
struct Gateway {
    directory: TempDir,
    process: Child,
    http: u16,
    https: u16,
    /// TLS passed on unopened to `https`.
    through: u16,
    /// TLS opened and its bytes relayed.
    opened: u16,
    admin: u16,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Writes `<name>.crt` and `<name>.key` for a host.
fn write_certificate(directory: &Path, name: &str, host: &str) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([host.to_owned()]).unwrap();
    fs::write(directory.join(format!("{name}.crt")), cert.pem()).unwrap();
    fs::write(directory.join(format!("{name}.key")), signing_key.serialize_pem()).unwrap();
}

/// A server that answers every request with 200 and the scheme it was told of.
fn upstream() -> u16 {
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
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let [http, https, through, opened, admin, status, stats, agent] = [(); 8].map(|()| free_port());
        let certificates = directory.path().join("certs");
        fs::create_dir(&certificates).unwrap();
        for (name, host) in [("a", "a.com"), ("b", "b.com"), ("c", "c.com"), ("s", "s.com"), ("m", "m.com")] {
            write_certificate(&certificates, name, host);
        }
        write_clients(&certificates);
        fs::copy(certificates.join("a.key"), certificates.join("c.key")).unwrap();
        let config = directory.path().join("config");
        fs::create_dir(&config).unwrap();
        fs::write(config.join("all.yaml"), resources(&certificates, (http, https), upstream())).unwrap();
        fs::write(config.join("connections.yaml"), connections(&certificates, https, (through, opened)))
            .unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_postern-agent"))
            .args(["proxy", "router", "--config-dir"])
            .arg(&config)
            .args(["--admin-port", &admin.to_string(), "--status-port", &status.to_string()])
            .args(["--stats-port", &stats.to_string(), "--agent-port", &agent.to_string()])
            .stderr(fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let gateway = Self { directory, process, http, https, through, opened, admin };
        gateway.await_port(https);
        gateway
    }

    fn await_port(&self, port: u16) {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    fn certificate(&self, name: &str) -> String {
        self.directory.path().join("certs").join(format!("{name}.crt")).display().to_string()
    }

    /// Asks with curl, which trusts the certificate `trusted` only.
    fn curl(&self, url: &str, trusted: &str, more: &[&str]) -> Output {
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

    fn https_url(&self, host: &str) -> String {
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

fn has(program: &str) -> bool {
    let found =
        Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: there is no {program} here");
    }
    found
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn curl_gets_the_certificate_and_the_protocol_it_asks_for() {
    if !has("curl") {
        return;
    }
    let gateway = Gateway::start();
    let version = ["-w", " %{http_version}"];
    for (host, trusted, more, expected) in [
        ("a.com", "a", &["--http1.1"][..], "https 1.1"),
        ("b.com", "b", &["--http2"], "https 2"),
        ("a.com", "a", &["--tlsv1.3"], "https 2"),
        ("s.com", "s", &[], "https 2"),
        ("b.com", "b", &["--tls-max", "1.2", "--http1.1"], "https 1.1"),
    ] {
        let output = gateway.curl(&gateway.https_url(host), trusted, &[&version[..], more].concat());
        assert_eq!(text(&output), expected, "{host} {more:?}");
    }
    // Each name has its own certificate; a name that nobody serves is closed.
    assert!(!gateway.curl(&gateway.https_url("a.com"), "b", &[]).status.success());
    assert!(!gateway.curl(&gateway.https_url("d.com"), "a", &[]).status.success());
    let redirected = gateway.curl(
        &format!("http://127.0.0.1:{}/x?y", gateway.http),
        "a",
        &["-H", "host: a.com", "-w", "%{http_code} %{redirect_url}"],
    );
    assert_eq!(text(&redirected), "301 https://a.com/x?y");
}

#[test]
fn a_key_that_does_not_belong_costs_its_own_server_and_is_named() {
    if !has("curl") {
        return;
    }
    let gateway = Gateway::start();
    assert!(!gateway.curl(&gateway.https_url("c.com"), "c", &[]).status.success());
    assert_eq!(text(&gateway.curl(&gateway.https_url("a.com"), "a", &[])), "https");
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("key does not match certificate")).unwrap();
    assert!(line.contains("Gateway default/gw: spec.servers[3].tls.privateKey: cannot be used"), "{line}");
    // Nor does the dump tell what a key is.
    let dump = text(&gateway.curl(&format!("http://127.0.0.1:{}/config_dump", gateway.admin), "a", &[]));
    assert!(dump.contains("[redacted]") && dump.contains("file-cert:"), "{dump}");
    let key = fs::read_to_string(gateway.directory.path().join("certs/a.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!dump.contains(secret) && !log.contains(secret));
}

#[test]
fn a_certificate_replaced_on_disk_is_for_new_connections() {
    if !has("curl") || !has("openssl") {
        return;
    }
    let gateway = Gateway::start();
    let mut old = Command::new("openssl")
        .args(["s_client", "-quiet", "-servername", "a.com", "-verify_return_error", "-CAfile"])
        .args([&gateway.certificate("a"), "-connect", &format!("127.0.0.1:{}", gateway.https)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ask = || {
        old.stdin.as_mut().unwrap().write_all(b"GET / HTTP/1.1\r\nhost: a.com\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\nhttps") {
            old.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        answer
    };
    assert!(ask().starts_with(b"HTTP/1.1 200"));
    write_certificate(&gateway.directory.path().join("certs"), "a", "a.com");
    let start = Instant::now();
    // curl trusts the new certificate only.
    while !gateway.curl(&gateway.https_url("a.com"), "a", &[]).status.success() {
        assert!(start.elapsed() < Duration::from_secs(15), "{}", gateway.log());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(ask().starts_with(b"HTTP/1.1 200"));
    _ = old.kill();
    _ = old.wait();
}

#[test]
fn a_client_certificate_is_asked_for_and_judged() {
    if !has("curl") {
        return;
    }
    let gateway = Gateway::start();
    let shown = |name: &str| {
        let key = gateway.directory.path().join(format!("certs/{name}.key")).display().to_string();
        ["--cert".to_owned(), gateway.certificate(name), "--key".to_owned(), key]
    };
    let ask = |name: Option<&str>, more: &[&str]| {
        let shown = name.map(shown).into_iter().flatten().collect::<Vec<_>>();
        let more: Vec<&str> = shown.iter().map(String::as_str).chain(more.iter().copied()).collect();
        gateway.curl(&gateway.https_url("m.com"), "m", &more)
    };
    assert_eq!(text(&ask(Some("client"), &[])), "https");
    for name in [Some("stranger"), None] {
        assert!(!ask(name, &[]).status.success(), "{name:?}");
        // In TLS 1.2 the handshake itself fails, so that curl always sees the alert.
        let refused = ask(name, &["--tls-max", "1.2"]);
        assert!(text(&refused).contains("alert"), "{name:?}: {}", text(&refused));
    }
}

#[test]
fn tls_is_passed_on_unopened_or_opened_to_bytes() {
    if !has("curl") {
        return;
    }
    let gateway = Gateway::start();
    for (host, port) in [("a", gateway.through), ("b", gateway.opened)] {
        let resolve = format!("{host}.com:{port}:127.0.0.1");
        let more = ["--http1.1", "--resolve", &resolve];
        let output = gateway.curl(&format!("https://{host}.com:{port}/"), host, &more);
        // The bytes of b.com reach the endpoint as the client sent them, without a word about the scheme.
        assert_eq!(text(&output), if host == "a" { "https" } else { "-" }, "{}", gateway.log());
    }
}

#[test]
fn a_name_that_nobody_serves_gets_an_alert_for_it() {
    if !has("openssl") {
        return;
    }
    let gateway = Gateway::start();
    let output = Command::new("openssl")
        .args(["s_client", "-servername", "nobody.org", "-connect", &format!("127.0.0.1:{}", gateway.https)])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(text(&output).contains("unrecognized name"), "{}", text(&output));
}
