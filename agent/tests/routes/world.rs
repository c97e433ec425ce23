//! The program with one HTTP port that the rules under test are for.

use std::ops::Deref;

use crate::support::{Agent, Message, Setup, eventually, free_port, gateway, send, virtual_service};

/// A running proxy; ended with the value.
pub(crate) struct World {
    agent: Agent,
    pub(crate) port: u16,
}

impl Deref for World {
    type Target = Agent;

    fn deref(&self) -> &Agent {
        &self.agent
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
    /// The hosts that it lets see at that port and at every other, all where nothing is said.
    pub(crate) egress: Option<[&'o str; 2]>,
    /// A port of the application's, which the sidecar then serves at `INGRESS`.
    pub(crate) application: Option<u16>,
    /// What callers speak there, HTTP where nothing is said.
    pub(crate) ingress_protocol: &'o str,
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
        let port = free_port();
        let (setup, listener) = if options.is_sidecar {
            (Setup::sidecar(), own_listener(port, options))
        } else {
            (Setup::router(), gateway("gw", port, "HTTP", ""))
        };
        let mesh = format!("accessLogFile: /dev/stdout\naccessLogFormat: \"{LOGGED}\"\n{}\n", options.mesh);
        let agent = setup
            .resources("listener.yaml", &listener)
            .resources("rules.yaml", &resources.join("---\n").replace("<PORT>", &port.to_string()))
            .mesh(&mesh)
            .flags(&["--namespace", "default", "--labels", "app=client,version=v1"])
            .flags(options.flags)
            .variables(options.variables)
            .start();
        agent.await_listener(if options.application.is_some() { INGRESS } else { "127.0.0.1" }, port);
        Self { agent, port }
    }

    /// Sends a request whose lines end with `\n`.
    pub(crate) fn send(&self, request: &str) -> Message {
        send(self.port, request)
    }

    /// Asks host `app` for a path.
    pub(crate) fn get(&self, path: &str) -> Message {
        self.send(&format!("GET {path} HTTP/1.1\nhost: app\n\n"))
    }

    /// What the access log says of the request with field `x-case: <case>`, after that.
    pub(crate) fn logged(&self, case: &str) -> String {
        let begin = format!("{case} ");
        let mut said = None;
        eventually(&format!("a line of {case}"), || {
            said = self.access_log().lines().find_map(|line| line.strip_prefix(&begin)).map(str::to_owned);
            said.is_some()
        });
        said.unwrap()
    }
}

fn own_listener(port: u16, options: &Options<'_>) -> String {
    let protocol = if options.ingress_protocol.is_empty() { "HTTP" } else { options.ingress_protocol };
    let ingress = options.application.map(|application| {
        format!(
            "  ingress:\n  - {{port: {{number: {port}, name: in, protocol: {protocol}}}, bind: {INGRESS}, captureMode: NONE, \
             defaultEndpoint: '127.0.0.1:{application}'}}\n"
        )
    });
    let ingress = ingress.unwrap_or_default();
    let [own, others] = options.egress.unwrap_or(["'*/*'"; 2]);
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: own}}\nspec:\n  egress:\n  \
         - {{port: {{number: {port}, name: http, protocol: HTTP}}, bind: 127.0.0.1, captureMode: NONE, hosts: [{own}]}}\n  \
         - {{hosts: [{others}]}}\n{ingress}"
    )
}

/// A VirtualService for every host of the gateway with these rules.
pub(crate) fn rules(http: &[&str]) -> String {
    virtual_service("rules", &format!("hosts: ['*'], gateways: [gw], http: [{}]", http.join(",\n  ")))
}
