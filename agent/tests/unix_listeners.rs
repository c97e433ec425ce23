//! Gateways and sidecars that listen on unix sockets.

use std::{
    fs,
    net::TcpStream,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    path::Path,
    process::Command,
};

use tempfile::TempDir;

use crate::support::{Agent, Client, Endpoint, Setup, has, service_at, text, virtual_service};

/// A gateway at a unix socket, before a service with this endpoint at port 80.
fn resources(path: &str, protocol: &str, endpoint: &Endpoint) -> String {
    let rule = match protocol {
        "HTTP" => "http: [{route: [{destination: {host: web}}]}]",
        _ => "tcp: [{route: [{destination: {host: web}}]}]",
    };
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  servers:\n  \
         - {{port: {{number: 0, name: own, protocol: {protocol}}}, hosts: ['*'], bind: 'unix://{path}'}}\n---\n{}---\n{}",
        virtual_service("gw", &format!("hosts: ['*'], gateways: [gw], {rule}")),
        service_at("web", (if protocol == "HTTP" { "http" } else { "tcp" }, 80), endpoint.port()),
    )
}

fn start(resources: &str) -> Agent {
    let mesh = "accessLogFile: /dev/stdout\n";
    let setup = Setup::router().resources("gateway.yaml", resources).mesh(mesh);
    setup.flags(&["--namespace", "default"]).start()
}

fn address(path: &str) -> SocketAddr {
    match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).unwrap(),
        None => SocketAddr::from_pathname(path).unwrap(),
    }
}

/// What a client does with its stream, the kernel does for either kind.
fn connected(path: &str) -> Option<Client> {
    let stream = UnixStream::connect_addr(&address(path)).ok()?;
    Some(Client::of(TcpStream::from(OwnedFd::from(stream))))
}

fn connect(agent: &Agent, path: &str) -> Client {
    let mut client = None;
    agent.until(&format!("a listener at {path}"), || {
        client = connected(path);
        client.is_some()
    });
    client.unwrap()
}

struct Sockets(TempDir);

impl Sockets {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

/// What Envoy 1.40 sends and logs of clients that have no address: nothing is added to `x-forwarded-for`, and the path
/// stands for both ends.
#[test]
fn requests_come_by_paths_and_names_and_are_told_as_by_envoy() {
    let sockets = Sockets::new();
    for path in [sockets.path("edge.sock"), format!("@{}", sockets.path("edge"))] {
        let endpoint = Endpoint::named("here");
        let agent = start(&resources(&path, "HTTP", &endpoint));
        let mut client = connect(&agent, &path);
        assert_eq!(client.get("/").body, "here");
        let plain = endpoint.last();
        assert_eq!(plain.field("x-forwarded-for"), None);
        assert_eq!(plain.field("x-envoy-external-address"), None);
        assert_eq!(plain.field("x-forwarded-proto"), Some("http"));
        let said = "x-forwarded-for: 192.0.2.9\r\nx-forwarded-proto: https\r\nx-request-id: mine\r\n";
        assert_eq!(client.ask("/", said).answer().status(), 200);
        let told = endpoint.last();
        assert_eq!(told.field("x-forwarded-for"), Some("192.0.2.9"));
        assert_eq!(told.field("x-forwarded-proto"), Some("http"), "a gateway believes nobody");
        assert_ne!(told.field("x-request-id"), Some("mine"));
        agent.access_line(&[&format!(" {path} {path} - ")]);
        let listeners = Client::connect(agent.interfaces.admin.parse().unwrap()).get("/listeners").body;
        assert!(listeners.contains(&format!("{path}_0::{path}\n")), "{listeners}");
        let dump =
            Client::connect(agent.interfaces.admin.parse().unwrap()).get("/listeners?format=json").body;
        let compact: String = dump.split_whitespace().collect();
        assert!(compact.contains(&format!(r#""local_address":{{"pipe":{{"path":"{path}"}}}}"#)), "{dump}");
    }
}

/// What is logged of one field says nothing of the others.
#[test]
fn lines_tell_what_clients_without_address_have_asked() {
    let (sockets, endpoint) = (Sockets::new(), Endpoint::named("here"));
    let path = sockets.path("edge.sock");
    let format = "%REQ(:PATH)% %REQ(X-FORWARDED-FOR)% %REQ(X-ENVOY-EXTERNAL-ADDRESS)% %REQ(:AUTHORITY)%\n";
    let agent = Setup::router()
        .resources("gateway.yaml", &resources(&path, "HTTP", &endpoint))
        .mesh(&format!("accessLogFile: /dev/stdout\naccessLogFormat: {format:?}\n"))
        .flags(&["--namespace", "default"])
        .start();
    let mut client = connect(&agent, &path);
    client.get("/alone");
    client.ask("/told", "x-forwarded-for: 192.0.2.8\r\nx-forwarded-for: 192.0.2.9\r\n").answer();
    agent.access_line(&["/alone - - app.example.com"]);
    agent.access_line(&["/told 192.0.2.8,192.0.2.9 - app.example.com"]);
}

#[test]
fn curl_is_served() {
    if !has("curl") {
        return;
    }
    let (sockets, endpoint) = (Sockets::new(), Endpoint::named("here"));
    let path = sockets.path("edge.sock");
    let agent = start(&resources(&path, "HTTP", &endpoint));
    drop(connect(&agent, &path));
    for http2 in [&[][..], &["--http2-prior-knowledge"]] {
        let mut curl = Command::new("curl");
        let curl = curl.args(["-sS", "--unix-socket", &path, "http://web.test/"]).args(http2);
        assert_eq!(text(&curl.output().unwrap()), "here");
    }
}

#[test]
fn opaque_connections_pass_and_are_nobodys_to_the_proxy_protocol() {
    let sockets = Sockets::new();
    let path = sockets.path("raw.sock");
    let endpoint = Endpoint::start(|mut client| {
        let lines = [client.line(), client.line()];
        client.send(format!("{}\n", lines.join("|")));
    });
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web}\n\
                spec: {host: web, trafficPolicy: {proxyProtocol: {version: V1}}}\n";
    let agent = start(&(resources(&path, "TCP", &endpoint) + rule));
    assert_eq!(connect(&agent, &path).send("hello\n").line(), "PROXY UNKNOWN|hello");
    agent.access_line(&[&format!(" {path} {path} - ")]);
}

#[test]
fn a_socket_stays_while_it_is_listened_on_and_its_file_goes_with_it() {
    let (sockets, endpoint) = (Sockets::new(), Endpoint::named("here"));
    let [first, second] = ["first.sock", "second.sock"].map(|name| sockets.path(name));
    let agent = start(&resources(&first, "HTTP", &endpoint));
    let mut client = connect(&agent, &first);
    // Another rule, and the same socket.
    let slow = resources(&first, "HTTP", &endpoint)
        .replace("{route:", "{headers: {response: {add: {x-new: a}}}, route:");
    agent.replace("gateway.yaml", &slow);
    agent.until("the change", || client.get("/").field("x-new").is_some());
    agent.replace("gateway.yaml", &resources(&second, "HTTP", &endpoint));
    assert_eq!(connect(&agent, &second).get("/").body, "here");
    assert!(!Path::new(&first).exists(), "the file of a listener that is gone");
    let terminated = Command::new("kill").arg(agent.process_id().to_string()).status().unwrap();
    assert!(terminated.success());
    agent.await_end();
    assert!(!Path::new(&second).exists(), "a file that nobody listens on any more");
}

#[test]
fn what_somebody_has_left_is_replaced_and_what_somebody_has_is_not() {
    let (sockets, endpoint) = (Sockets::new(), Endpoint::named("here"));
    let stale = sockets.path("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    let agent = start(&resources(&stale, "HTTP", &endpoint));
    assert_eq!(connect(&agent, &stale).get("/").body, "here");

    let (taken, file) = (sockets.path("taken.sock"), sockets.path("notes"));
    let _owner = UnixListener::bind(&taken).unwrap();
    fs::write(&file, "mine").unwrap();
    for path in [&taken, &file] {
        agent.replace("gateway.yaml", &resources(path, "HTTP", &endpoint));
        agent.log_line(&[
            &format!("cannot listen on {path} for {path}_0"),
            "Address already in use",
            "ss -lxp",
        ]);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert!(Path::new(&taken).exists());
    let nowhere = sockets.path("no/such/edge.sock");
    agent.replace("gateway.yaml", &resources(&nowhere, "HTTP", &endpoint));
    agent.log_line(&[&format!("cannot listen on {nowhere}"), "No such file", "make or mount its directory"]);
}

/// A workload calls through its sidecar without an address: what is asked for is a Host, or there is one service.
#[test]
fn a_workload_calls_through_the_unix_sockets_of_its_sidecar() {
    let sockets = Sockets::new();
    let (by_host, raw) = (sockets.path("http.sock"), format!("@{}", sockets.path("raw")));
    let web = Endpoint::named("web");
    let echo = Endpoint::start(|mut client| {
        let line = client.line();
        client.send(format!("{line} back\n"));
    });
    let listener = |path: &str, protocol: &str, hosts: &str| {
        format!(
            "  - {{port: {{number: 0, protocol: {protocol}, name: own}}, bind: 'unix://{path}', captureMode: NONE, \
             hosts: [{hosts}]}}\n"
        )
    };
    let resources = format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: own}}\nspec:\n  egress:\n{}{}---\n{}---\n{}",
        listener(&by_host, "HTTP", "./web.default.svc.cluster.local, '*/nowhere.test'"),
        listener(&raw, "TCP", "./echo.default.svc.cluster.local"),
        service_at("web", ("http", 80), web.port()),
        service_at("echo", ("tcp", 81), echo.port()),
    ) + "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: nowhere}\n\
         spec: {hosts: [nowhere.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}\n";
    let setup = Setup::sidecar().resources("sidecar.yaml", &resources).mesh("accessLogFile: /dev/stdout\n");
    let agent = setup.flags(&["--namespace", "default"]).start();
    let mut client = connect(&agent, &by_host);
    for (host, status) in
        [("web", 200), ("web.default.svc.cluster.local:80", 200), ("echo", 502), ("a.test", 502)]
    {
        client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        assert_eq!(client.answer().status(), status, "{host}");
    }
    // Whoever connects here was on the way to nobody else.
    client.send("GET / HTTP/1.1\r\nhost: nowhere.test\r\n\r\n");
    assert_eq!(client.answer().status(), 503);
    agent.access_line(&[" 503 UH no_healthy_upstream", "outbound|80||nowhere.test"]);
    assert_eq!(connect(&agent, &raw).send("hello\n").line(), "hello back");
    agent.access_line(&["outbound|80||web.default.svc.cluster.local", &format!(" {by_host} {by_host} - ")]);
    agent.access_line(&["outbound|81||echo.default.svc.cluster.local", &format!(" {raw} {raw} - ")]);
}
