//! The program with a directory of resources, and short ways to write those.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    ports::free_port,
    wire::{Message, Upstream, send},
};

/// A running proxy; ended with the value.
pub(crate) struct World {
    directory: TempDir,
    process: Child,
    pub(crate) port: u16,
}

impl Drop for World {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// How the program is run besides its resources.
#[derive(Default)]
pub(crate) struct Options<'o> {
    pub(crate) variables: &'o [(&'o str, &'o str)],
    pub(crate) flags: &'o [&'o str],
    /// Mesh-wide settings beside those of the access log.
    pub(crate) mesh: &'o str,
    /// A sidecar that has the port as a listener of its own, for HTTP to services that have it.
    pub(crate) is_sidecar: bool,
    /// A port of the application's, which the sidecar then serves at `INGRESS`.
    pub(crate) application: Option<u16>,
}

/// Where callers of a sidecar's application connect to, an address with a port of its own.
pub(crate) const INGRESS: &str = "127.0.0.5";

/// What a line of the access log says.
const LOGGED: &str = "%REQ(X-CASE)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %ROUTE_NAME% \
    %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(:PATH)% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_REQUEST_ATTEMPT_COUNT%";

impl World {
    /// A gateway that serves every host on one port, in namespace `default`.
    pub(crate) fn gateway(resources: &[String]) -> Self {
        Self::start(resources, &Options::default())
    }

    /// `<PORT>` in resources stands for the port.
    pub(crate) fn start(resources: &[String], options: &Options<'_>) -> Self {
        let directory = TempDir::new().unwrap();
        let ports = [(); 7].map(|()| free_port());
        let [port, admin, status, stats, agent, outbound, inbound] = ports.map(|port| port.to_string());
        let config = directory.path().join("config");
        fs::create_dir(&config).unwrap();
        let listener = if options.is_sidecar {
            own_listener(&port, options.application)
        } else {
            gateway("gw", &port, "HTTP", "")
        };
        fs::write(config.join("listener.yaml"), listener).unwrap();
        fs::write(config.join("rules.yaml"), resources.join("---\n").replace("<PORT>", &port)).unwrap();
        let mesh = directory.path().join("mesh.yaml");
        let settings =
            format!("accessLogFile: /dev/stdout\naccessLogFormat: \"{LOGGED}\"\n{}\n", options.mesh);
        fs::write(&mesh, settings).unwrap();
        let file = |name: &str| fs::File::create(directory.path().join(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern-agent"));
        command.args(["proxy", if options.is_sidecar { "sidecar" } else { "router" }]);
        if options.is_sidecar {
            command.args(["--outbound-port", &outbound, "--inbound-port", &inbound]);
        }
        let process = command
            .args(["--namespace", "default", "--labels", "app=client,version=v1", "--config-dir"])
            .arg(&config)
            .arg("--mesh-config")
            .arg(&mesh)
            .args(["--admin-port", &admin, "--status-port", &status])
            .args(["--stats-port", &stats, "--agent-port", &agent])
            .args(options.flags)
            .envs(options.variables.iter().copied())
            .stdout(file("access.log"))
            .stderr(file("log"))
            .spawn()
            .unwrap();
        let world = Self { directory, process, port: ports[0] };
        world.await_listener(if options.application.is_some() { INGRESS } else { "127.0.0.1" }, ports[0]);
        world
    }

    pub(crate) fn await_port(&self, port: u16) {
        self.await_listener("127.0.0.1", port);
    }

    fn await_listener(&self, host: &str, port: u16) {
        let start = Instant::now();
        while TcpStream::connect((host, port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "nobody listens: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a request whose lines end with `\n`.
    pub(crate) fn send(&self, request: &str) -> Message {
        send(self.port, request)
    }

    /// Asks host `app` for a path.
    pub(crate) fn get(&self, path: &str) -> Message {
        self.send(&format!("GET {path} HTTP/1.1\nhost: app\n\n"))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    pub(crate) fn access_log(&self) -> String {
        fs::read_to_string(self.directory.path().join("access.log")).unwrap()
    }

    /// What the access log says of the request with field `x-case: <case>`, after that.
    pub(crate) fn logged(&self, case: &str) -> String {
        let (start, begin) = (Instant::now(), format!("{case} "));
        loop {
            let log = self.access_log();
            if let Some(line) = log.lines().find_map(|line| line.strip_prefix(&begin)) {
                return line.to_owned();
            }
            assert!(start.elapsed() < Duration::from_secs(10), "no {case} in {log}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A Gateway in `default` with one server; `more` follows its hosts.
pub(crate) fn gateway(name: &str, port: &str, protocol: &str, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  servers:\n  \
         - {{port: {{number: {port}, name: own, protocol: {protocol}}}, hosts: ['*']{more}}}\n"
    )
}

fn own_listener(port: &str, application: Option<u16>) -> String {
    let ingress = application.map(|application| {
        format!(
            "  ingress:\n  - {{port: {{number: {port}, name: http-in, protocol: HTTP}}, bind: {INGRESS}, captureMode: NONE, \
             defaultEndpoint: '127.0.0.1:{application}'}}\n"
        )
    });
    let ingress = ingress.unwrap_or_default();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: own}}\nspec:\n  egress:\n  \
         - {{port: {{number: {port}, name: http, protocol: HTTP}}, bind: 127.0.0.1, captureMode: NONE, hosts: ['*/*']}}\n  \
         - {{hosts: ['*/*']}}\n{ingress}"
    )
}

/// A VirtualService `name`, `namespace/name` or `namespace/name@time of creation`, and its `spec`.
pub(crate) fn virtual_service(name: &str, spec: &str) -> String {
    let (name, created) = name.split_once('@').unwrap_or((name, "2026-01-01T00:00:00Z"));
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}, \
         creationTimestamp: '{created}'}}\nspec: {{{spec}}}\n"
    )
}

/// A VirtualService for every host of the gateway with these rules.
pub(crate) fn rules(http: &[&str]) -> String {
    virtual_service("rules", &format!("hosts: ['*'], gateways: [gw], http: [{}]", http.join(",\n  ")))
}

/// A Service `name` or `namespace/name` at port 80 with this endpoint.
pub(crate) fn service(name: &str, upstream: &Upstream) -> String {
    service_at(name, "http", upstream.port)
}

/// A Service `name` or `namespace/name` whose port 80 has this name, with one endpoint.
pub(crate) fn service_at(name: &str, port_name: &str, port: u16) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{ports: [{{name: {port_name}, port: 80}}]}}\n---\n\
         apiVersion: v1\nkind: Endpoints\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         subsets: [{{addresses: [{{ip: 127.0.0.1}}], ports: [{{name: {port_name}, port: {port}}}]}}]\n"
    )
}
