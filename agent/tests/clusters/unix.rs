//! Endpoints at unix sockets: a ServiceEntry's, a WorkloadEntry's, and the workload behind a sidecar.

use std::{
    io::Write as _,
    net::{Shutdown, TcpStream},
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use tempfile::TempDir;

use super::{gateway::Gateway, http2, opaque, origination};
use crate::support::{Client, Setup, agent, authority::Authority, eventually, free_port, ok, printed, text};

/// Serves a unix socket, a path or `@` and a name, for as long as the process lasts; returns how many have connected.
fn serve(path: &str, behave: impl Fn(Client) + Send + Sync + 'static) -> Arc<AtomicUsize> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    };
    let listener = UnixListener::bind_addr(&address.unwrap()).unwrap();
    let (connections, behave) = (Arc::new(AtomicUsize::new(0)), Arc::new(behave));
    let counted = Arc::clone(&connections);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, SeqCst);
            let behave = Arc::clone(&behave);
            // What a client does with its stream, the kernel does for either kind.
            thread::spawn(move || behave(Client::of(TcpStream::from(OwnedFd::from(stream)))));
        }
    });
    connections
}

/// Answers every request with a name.
fn naming(name: &'static str) -> impl Fn(Client) + Send + Sync {
    move |mut client| {
        while client.message().is_ok() {
            client.send(ok(name));
        }
    }
}

/// Sockets with names of their own.
struct Sockets(TempDir);

impl Sockets {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// A name that is no file, and nobody else's.
    fn name(&self, name: &str) -> String {
        format!("@{}", self.path(name))
    }
}

/// `app.example.com` with one port and these endpoints, and a DestinationRule.
fn app(port: &str, endpoints: &[&str], policy: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|path| format!("{{address: 'unix://{path}'}}")).collect();
    let endpoints = endpoints.join(", ");
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: app}}\n\
         spec: {{hosts: [app.example.com], resolution: STATIC, ports: [{port}], endpoints: [{endpoints}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: app}}\n\
         spec: {{host: app.example.com, trafficPolicy: {{{policy}}}}}\n"
    )
}

const HTTP: &str = "{number: 80, name: http, protocol: HTTP}";
const TCP: &str = "{number: 81, name: tcp, protocol: TCP}";
const ROUND_ROBIN: &str = "loadBalancer: {simple: ROUND_ROBIN}";

#[test]
fn requests_reach_paths_and_names_on_connections_that_stay() {
    let sockets = Sockets::new();
    for path in [sockets.path("a.sock"), sockets.name("a")] {
        let connections = serve(&path, naming("here"));
        let gateway = Gateway::start(&app(HTTP, &[&path], ""));
        let mut client = gateway.client();
        assert_eq!([client.get("/1").body, client.get("/2").body], ["here", "here"]);
        assert_eq!(connections.load(SeqCst), 1, "{path}");
        // `%UPSTREAM_HOST%`, a cluster, and an address of ours that there is none of.
        gateway.access_line(&[&format!(r#" "{path}" outbound|80||app.example.com - "#)]);
        let clusters = Client::connect(gateway.interfaces.admin.parse().unwrap()).get("/clusters").body;
        assert!(
            clusters.contains(&format!("outbound|80||app.example.com::{path}::rq_success::2\n")),
            "{clusters}"
        );
        let statuses =
            Client::connect(gateway.interfaces.admin.parse().unwrap()).get("/clusters?format=json");
        let pipe = format!(r#"{{"pipe":{{"path":"{path}"}}}}"#);
        let compact: String = statuses.body.split_whitespace().collect();
        assert!(compact.contains(&pipe), "{}", statuses.body);
        let url = format!("http://app.example.com:{}/", gateway.http);
        let explained = printed(&["explain", "request", "GET", &url, "--admin", &gateway.interfaces.admin]);
        assert!(explained.contains(&path), "{explained}");
    }
}

#[test]
fn a_socket_that_is_not_there_fails_in_envoys_words_and_is_not_asked_again_at_once() {
    let sockets = Sockets::new();
    let (absent, present) = (sockets.path("absent.sock"), sockets.path("present.sock"));
    let gateway = Gateway::start(&app(HTTP, &[&absent], ""));
    let answer = gateway.client().get("/");
    assert_eq!(answer.status(), 503);
    let reset =
        "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    assert!(answer.body.starts_with(reset), "{}", answer.body);
    let reason = format!("immediate_connect_error:_No_such_file_or_directory|remote_address:{absent}");
    let details = format!("upstream_reset_before_response_started{{remote_connection_failure|{reason}}}");
    gateway.access_line(&[" 503 UF ", &details, &format!("\"{reason}\""), &format!(r#""{absent}""#)]);

    serve(&present, naming("present"));
    gateway.change(&app(HTTP, &[&absent, &present], ROUND_ROBIN));
    // Whoever is met first, the next try goes to the other.
    gateway.until("the other socket", || gateway.client().get("/again").body == "present");
    for _ in 0..6 {
        assert_eq!(gateway.client().get("/again").body, "present");
    }
}

#[test]
fn a_socket_that_fails_is_ejected() {
    let sockets = Sockets::new();
    let [bad, good] = ["bad", "good"].map(|name| sockets.path(name));
    serve(&bad, |mut client| {
        while client.message().is_ok() {
            client.send("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n");
        }
    });
    serve(&good, naming("good"));
    let policy = format!(
        "{ROUND_ROBIN}, outlierDetection: {{consecutive5xxErrors: 1, interval: 10m, baseEjectionTime: 10m}}"
    );
    let gateway = Gateway::start(&app(HTTP, &[&bad, &good], &policy));
    eventually("the ejection", || gateway.client().get("/").status() == 500);
    for _ in 0..6 {
        assert_eq!(gateway.client().get("/").body, "good");
    }
    let clusters = Client::connect(gateway.interfaces.admin.parse().unwrap()).get("/clusters").body;
    let line = format!("outbound|80||app.example.com::{bad}::health_flags::/failed_outlier_check\n");
    assert!(clusters.contains(&line), "{clusters}");
}

#[test]
fn http2_and_tls_are_spoken_there_as_anywhere() {
    let sockets = Sockets::new();
    let path = sockets.path("h2.sock");
    serve(&path, http2::answer_no_content);
    let gateway = Gateway::start(&app("{number: 80, name: http2, protocol: HTTP2}", &[&path], ""));
    assert_eq!(gateway.client().get("/").status(), 204);

    let authority = Authority::new();
    let path = sockets.path("tls.sock");
    serve(&path, origination::telling(authority.server(&authority.issue("app.example.com"))));
    let ca = sockets.path("ca.crt");
    std::fs::write(&ca, authority.pem()).unwrap();
    for (more, status, told) in [
        (", sni: app.example.com, subjectAltNames: [app.example.com]", 200, "app.example.com anonymous"),
        ("", 200, "app.example.com anonymous"),
        (", subjectAltNames: [other.test]", 503, ""),
    ] {
        let gateway = Gateway::start(&app(
            HTTP,
            &[&path],
            &format!("tls: {{mode: SIMPLE, caCertificates: {ca}{more}}}"),
        ));
        let answer = gateway.client().get("/");
        assert_eq!(answer.status(), status, "{more}");
        assert!(status != 200 || answer.body == told, "{more}: {}", answer.body);
    }
    // Nobody asks for a host, and the socket has no address that a certificate could be for.
    let gateway =
        Gateway::start(&app(TCP, &[&path], &format!("tls: {{mode: SIMPLE, caCertificates: {ca}}}")));
    assert_eq!(gateway.opaque_client().get("/").body, "- anonymous");
}

#[test]
fn opaque_bytes_pass_both_ways_however_many_and_each_side_ends_for_itself() {
    const MANY: usize = 5 << 20;
    let sockets = Sockets::new();
    let path = sockets.name("echo");
    serve(&path, |mut client| {
        let all = client.rest();
        client.send(all);
    });
    let gateway = Gateway::start(&app(TCP, &[&path], ""));
    let mut client = gateway.opaque_client();
    let mut sending = client.0.try_clone().unwrap();
    let bytes: Vec<u8> = (0..MANY).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let sent = bytes.clone();
    thread::spawn(move || {
        sending.write_all(&sent).unwrap();
        sending.shutdown(Shutdown::Write).unwrap();
    });
    assert!(client.rest() == bytes);
    gateway.access_line(&[&format!(r#""{path}" outbound|81||app.example.com - "#)]);
}

/// As Envoy does it: the addresses are those of the client's connection.
#[test]
fn endpoints_are_told_the_client_by_the_proxy_protocol() {
    let sockets = Sockets::new();
    let path = sockets.path("proxied.sock");
    serve(&path, opaque::tell_header);
    for (version, start) in [("V1", "PROXY TCP4"), ("V2", "v2")] {
        let gateway = Gateway::start(&app(TCP, &[&path], &format!("proxyProtocol: {{version: {version}}}")));
        let mut client = gateway.opaque_client();
        let own = client.0.local_addr().unwrap().port();
        let told = format!("{start} 127.0.0.1 127.0.0.1 {own} {}", gateway.opaque);
        assert_eq!(client.send("x\n").line(), told);
    }
}

#[test]
fn a_sidecar_hands_calls_to_the_socket_of_its_workload() {
    let sockets = Sockets::new();
    let path = sockets.path("app.sock");
    serve(&path, naming("workload"));
    let port = free_port();
    let sidecar = format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: own}}\nspec:\n  ingress:\n  \
         - {{port: {{number: {port}, name: http, protocol: HTTP}}, bind: 127.0.0.1, captureMode: NONE, \
         defaultEndpoint: 'unix://{path}'}}\n"
    );
    let agent = Setup::sidecar()
        .resources("sidecar.yaml", &sidecar)
        .mesh("accessLogFile: /dev/stdout\n")
        .flags(&["--namespace", "default"])
        .start();
    agent.await_port(port);
    assert_eq!(Client::local(port).get("/").body, "workload");
    agent.access_line(&[&format!(r#""{path}" inbound|{port}|| - "#)]);
}

/// Where an endpoint is lost, so that the others serve, its ServiceEntry says why.
#[test]
fn a_path_that_the_kernel_does_not_take_is_told_when_it_is_read() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("app.yaml");
    std::fs::write(&file, app(HTTP, &[&format!("/{}", "a".repeat(107))], "")).unwrap();
    let validated = agent(&["validate", file.to_str().unwrap()]);
    let told = text(&validated);
    assert!(!validated.status.success());
    let message = "spec.endpoints[0].address: is a path of 108 bytes, more than a unix socket can have";
    assert!(told.contains(message) && told.contains("at most 107 bytes"), "{told}");
}
