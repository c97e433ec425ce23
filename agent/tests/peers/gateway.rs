//! A gateway in front of one port of this machine.

use std::ops::Deref;

use crate::{
    gateway_tls::write_certificate,
    support::{Agent, Setup, free_port, service_at, virtual_service},
};

/// A running gateway; ended with the value.
pub(crate) struct Gateway {
    agent: Agent,
    pub(crate) port: u16,
    /// The same over TLS.
    pub(crate) https: u16,
}

impl Deref for Gateway {
    type Target = Agent;

    fn deref(&self) -> &Agent {
        &self.agent
    }
}

impl Gateway {
    /// Sends everything to `upstream`, the port of a Service that is called `port_name`, which decides the protocol.
    pub(crate) fn start(upstream: u16, port_name: &str) -> Self {
        let [port, https] = [(); 2].map(|()| free_port());
        let setup = Setup::router();
        write_certificate(&setup.certificates(), "own", "localhost");
        let files = setup.certificates().display().to_string();
        let gateway = format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  servers:\n  \
             - {{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ['*']}}\n  \
             - {{port: {{number: {https}, name: https, protocol: HTTPS}}, hosts: ['*'], tls: {{mode: SIMPLE, \
             serverCertificate: {files}/own.crt, privateKey: {files}/own.key}}}}\n",
        );
        let rules = "hosts: ['*'], gateways: [gw], http: [{route: [{destination: {host: app}}]}]";
        let agent = setup
            .mesh("accessLogFile: /dev/stdout\n")
            .resources("gateway.yaml", &gateway)
            .resources("rules.yaml", &virtual_service("vs", rules))
            .resources("app.yaml", &service_at("app", (port_name, 80), upstream))
            .start();
        agent.await_port(port);
        agent.await_port(https);
        Self { agent, port, https }
    }
}
