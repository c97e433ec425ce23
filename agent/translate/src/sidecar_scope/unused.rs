//! Listeners of a Sidecar that nothing goes through, and why.

use std::collections::BTreeSet;

use resources::{EgressListener, Finding, Path, Problem, Rule, Severity};

use super::{SidecarScope, Through, number, unix};

impl SidecarScope<'_> {
    /// What is wrong with listeners that nothing goes through, given those that something does.
    pub(crate) fn unused_egress(&self, used: &BTreeSet<Through>) -> Vec<Finding> {
        let Some(sidecar) = self.sidecar else { return Vec::new() };
        let spec = Path::ROOT.field("spec");
        let list = spec.field("egress");
        let unused = self.egress().iter().enumerate().filter(|(at, listener)| {
            let is_reached = self.proxy.ports.is_some() || self.proxy.is_dialled(listener.capture_mode);
            listener.port.is_some() && is_reached && !used.contains(&Through(*at))
        });
        let finding = |(at, listener): (usize, &EgressListener)| {
            let item = list.index(at);
            let (field, rule, problem) = self.unused(at, listener);
            sidecar.meta.finding(Severity::Warning, rule, &item.field(field), problem)
        };
        unused.map(finding).collect()
    }

    fn unused(&self, at: usize, listener: &EgressListener) -> (&'static str, Rule, Problem) {
        let protocol = listener.port.as_ref().and_then(|port| port.protocol);
        match unix(listener) {
            Some(path) if self.first_at(path) != at => {
                let first = self.first_at(path);
                let problem =
                    Problem::new(format!("is that of egress[{first}], too: the listener is left out"));
                let problem = problem.found(format!("unix://{path}"));
                (
                    "bind",
                    Rule::Conflict,
                    problem.remedy("write the hosts of both in one listener, or use another path"),
                )
            }
            Some(_) => {
                let spoken = match protocol {
                    Some(protocol) if protocol.is_http() => "a service that speaks HTTP",
                    _ => "a service",
                };
                let problem = Problem::new(format!("names no host of {spoken}: the listener is not opened"));
                (
                    "hosts",
                    Rule::UnknownReference,
                    problem.remedy("write hosts of services as `namespace/host`"),
                )
            }
            None => {
                let port = number(listener).unwrap_or_default();
                let problem = Problem::new(format!(
                    "names no host of a service with port {port}: the listener has no effect"
                ));
                let remedy = "write hosts of services that have the port, as `namespace/host`";
                ("hosts", Rule::UnknownReference, problem.remedy(remedy))
            }
        }
    }
}
