//! A gateway that sends everything to one service.

use std::{fmt::Write as _, net::SocketAddr, ops::Deref};

use crate::support::{Agent, Client, Setup, free_port};

/// A running gateway; ended with the value.
pub(crate) struct Gateway {
    agent: Agent,
    /// HTTP for port 80 of `app.example.com`.
    pub(crate) http: u16,
    /// Opaque connections for its port 81.
    pub(crate) opaque: u16,
}

impl Deref for Gateway {
    type Target = Agent;

    fn deref(&self) -> &Agent {
        &self.agent
    }
}

impl Gateway {
    /// In front of `app.example.com` as these resources have it.
    pub(crate) fn start(resources: &str) -> Self {
        Self::start_with(resources, "", &[])
    }

    /// The same with these mesh settings and further flags.
    pub(crate) fn start_with(resources: &str, mesh: &str, flags: &[&str]) -> Self {
        Self::start_told(resources, mesh, flags, &[])
    }

    /// The same in a container that has so much memory.
    pub(crate) fn start_within(resources: &str, memory: &str) -> Self {
        Self::start_told(resources, "", &[], &[("POSTERN_MEMORY_LIMIT", memory)])
    }

    fn start_told(resources: &str, mesh: &str, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let [http, opaque] = [(); 2].map(|()| free_port());
        let agent = Setup::router()
            .resources("gateway.yaml", &gateway(http, opaque))
            .resources("app.yaml", resources)
            .mesh(&format!("accessLogFile: /dev/stdout\n{mesh}"))
            // One worker: what each has for itself can be told exactly.
            .flags(&["--namespace", "default", "--concurrency", "1"])
            .flags(flags)
            // Names are resolved to addresses of the families it has.
            .variables(&[("INSTANCE_IPS", "127.0.0.1")])
            .variables(variables)
            .start();
        // A connection to find out whether it listens would go on to an endpoint.
        agent.await_ready();
        Self { agent, http, opaque }
    }

    /// Other resources in place of those of `app.example.com`.
    pub(crate) fn change(&self, resources: &str) {
        self.replace("app.yaml", resources);
    }

    /// A new connection for HTTP.
    pub(crate) fn client(&self) -> Client {
        Client::local(self.http)
    }

    /// A new opaque connection.
    pub(crate) fn opaque_client(&self) -> Client {
        Client::local(self.opaque)
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
