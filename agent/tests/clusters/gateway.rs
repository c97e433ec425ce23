//! A gateway that sends everything to one service.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{peers::Client, ports::free_port};

/// A running gateway; ended with the value.
pub(crate) struct Gateway {
    directory: TempDir,
    process: Child,
    /// HTTP for port 80 of `app.example.com`.
    pub(crate) http: u16,
    /// Opaque connections for its port 81.
    pub(crate) opaque: u16,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

impl Gateway {
    /// In front of `app.example.com` as these resources have it.
    pub(crate) fn start(resources: &str) -> Self {
        Self::start_with(resources, "", &[])
    }

    /// The same with these mesh settings and further flags.
    pub(crate) fn start_with(resources: &str, mesh: &str, flags: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let [http, opaque, admin, status, stats, agent] = [(); 6].map(|()| free_port());
        fs::create_dir(directory.path().join("config")).unwrap();
        fs::write(directory.path().join("mesh.yaml"), format!("accessLogFile: /dev/stdout\n{mesh}")).unwrap();
        fs::write(directory.path().join("config/gateway.yaml"), gateway(http, opaque)).unwrap();
        fs::write(directory.path().join("config/app.yaml"), resources).unwrap();
        let file = |name: &str| fs::File::create(directory.path().join(name)).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_postern-agent"))
            .args(["proxy", "router", "--namespace", "default", "--config-dir"])
            .arg(directory.path().join("config"))
            .arg("--mesh-config")
            .arg(directory.path().join("mesh.yaml"))
            .args(["--admin-port", &admin.to_string(), "--status-port", &status.to_string()])
            .args(["--stats-port", &stats.to_string(), "--agent-port", &agent.to_string()])
            // One worker: what each has for itself can be told exactly.
            .args(["--concurrency", "1"])
            .args(flags)
            .env("INSTANCE_IPS", "127.0.0.1")
            .stdout(file("access.log"))
            .stderr(file("log"))
            .spawn()
            .unwrap();
        let gateway = Self { directory, process, http, opaque };
        // A connection to find out whether it listens would go on to an endpoint.
        let ready = Command::new(env!("CARGO_BIN_EXE_postern-agent"))
            .args(["wait", "--timeout", "20s", "--status", &format!("127.0.0.1:{status}")])
            .status();
        assert!(ready.unwrap().success(), "{}", gateway.log());
        gateway
    }

    /// Other resources in place of those of `app.example.com`.
    pub(crate) fn change(&self, resources: &str) {
        let draft = self.directory.path().join("app.yaml");
        fs::write(&draft, resources).unwrap();
        fs::rename(draft, self.directory.path().join("config/app.yaml")).unwrap();
    }

    /// A new connection for HTTP.
    pub(crate) fn client(&self) -> Client {
        Client::connect(([127, 0, 0, 1], self.http).into())
    }

    /// A new opaque connection.
    pub(crate) fn opaque_client(&self) -> Client {
        Client::connect(([127, 0, 0, 1], self.opaque).into())
    }

    /// Waits for a line of the access log with all these texts.
    pub(crate) fn access_line(&self, texts: &[&str]) -> String {
        let mut found = None;
        eventually(&format!("{texts:?} in the access log"), || {
            let log = fs::read_to_string(self.directory.path().join("access.log")).unwrap();
            found = log.lines().find(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned);
            found.is_some()
        });
        found.unwrap()
    }

    /// What it has written down so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }
}

fn gateway(http: u16, opaque: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: gw}}
spec:
  servers:
  - {{port: {{number: {http}, name: http, protocol: HTTP}}, hosts: ['*']}}
  - {{port: {{number: {opaque}, name: tcp, protocol: TCP}}, hosts: ['*']}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: gw}}
spec:
  hosts: ['*']
  gateways: [gw]
  http:
  - match: [{{uri: {{prefix: /again}}}}]
    retries: {{attempts: 1, retryOn: 5xx}}
    route: [{{destination: {{host: app.example.com, port: {{number: 80}}}}}}]
  - match: [{{uri: {{prefix: /subset/v1}}}}]
    retries: {{attempts: 0}}
    route: [{{destination: {{host: app.example.com, subset: v1, port: {{number: 80}}}}}}]
  - retries: {{attempts: 0}}
    route: [{{destination: {{host: app.example.com, port: {{number: 80}}}}}}]
  tcp:
  - match: [{{port: {opaque}}}]
    route: [{{destination: {{host: app.example.com, port: {{number: 81}}}}}}]
"
    )
}

/// A ServiceEntry with these endpoints behind HTTP port 80 and opaque port 81, each with more fields of its own.
pub(crate) fn entry<'a>(endpoints: impl IntoIterator<Item = (SocketAddr, &'a str)>) -> String {
    let mut yaml = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: app}
spec:
  hosts: [app.example.com]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: tcp, protocol: TCP}]
  endpoints:
"
    .to_owned();
    for (address, more) in endpoints {
        let (ip, port) = (address.ip(), address.port());
        writeln!(yaml, "  - {{address: {ip}, ports: {{http: {port}, tcp: {port}}}, {more}}}").unwrap();
    }
    yaml
}

/// The same with a DestinationRule.
pub(crate) fn app(endpoints: &[SocketAddr], traffic_policy: &str) -> String {
    ruled(endpoints.iter().map(|address| (*address, "")), &format!("trafficPolicy: {traffic_policy}"))
}

/// The same with a DestinationRule that says more than `host`.
pub(crate) fn ruled<'a>(endpoints: impl IntoIterator<Item = (SocketAddr, &'a str)>, rule: &str) -> String {
    let entry = entry(endpoints);
    format!(
        "{entry}---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: app}}\n\
         spec:\n  host: app.example.com\n  {rule}\n"
    )
}
