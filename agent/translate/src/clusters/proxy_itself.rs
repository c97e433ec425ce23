//! Endpoints that are the proxy itself.

use std::net::SocketAddr;

use resources::{Finding, Problem, Rule, Severity};

use crate::{
    proxy::Proxy,
    registry::{KnownPort, KnownService},
};

/// Says that an endpoint is the proxy itself.
pub(super) fn leads_to_proxy(
    (service, port): (&KnownService<'_>, &KnownPort<'_>),
    at: SocketAddr,
    proxy: &Proxy,
) -> Finding {
    let flag = proxy.own_port(at.port()).unwrap_or_default();
    let problem = Problem::new(format!(
        "leads to a port of the proxy itself ({flag}), where nobody else may come from loopback: the endpoint is left out"
    ));
    let problem = problem.found(at).remedy("write another endpoint, or give the proxy another port");
    let finding = service.port_finding(port.index, Rule::Conflict, problem);
    Finding { severity: Severity::Error, ..finding }
}
