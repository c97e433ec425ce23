//! Which Gateways are for the proxy.

use std::sync::Arc;

use resources::{Finding, Object, Path, Problem, ResourceSet, Rule, Severity};
use snapshot::ForeignGateway;

use super::{attach::Attachments, servers::SelectedServer};
use crate::proxy::Proxy;

/// The servers of all Gateways that select the proxy, in the order in which they count: Gateways by age, servers as
/// written.
pub(crate) fn selected<'s>(
    resources: &'s ResourceSet,
    attachments: &Attachments<'s>,
    proxy: &Proxy,
) -> Vec<SelectedServer<'s>> {
    let servers = |gateway: &'s Arc<Object<resources::Gateway>>| {
        let reference = super::reference(gateway);
        let server = move |(index, server)| {
            let attached = attachments.of(server, &reference);
            SelectedServer { gateway, index, reference: reference.clone(), attached }
        };
        gateway.spec.servers.iter().enumerate().map(server)
    };
    let chosen = resources.gateways().iter().filter(|gateway| selects(gateway, proxy));
    chosen.flat_map(servers).collect()
}

/// Whether the Gateway is for this proxy.
pub(super) fn selects(gateway: &Object<resources::Gateway>, proxy: &Proxy) -> bool {
    let labels = gateway.spec.selector.iter().all(|(key, value)| proxy.labels.get(key) == Some(value));
    labels && (!proxy.mesh.scope_gateways_to_namespace || gateway.meta.namespace() == proxy.namespace)
}

/// The Gateways that are for other proxies, each with the reason.
pub(crate) fn foreign(resources: &ResourceSet, proxy: &Proxy) -> impl Iterator<Item = ForeignGateway> {
    let others = resources.gateways().iter().filter(|gateway| !selects(gateway, proxy));
    others.map(|gateway| {
        let wanted = gateway.spec.selector.iter().find(|(key, value)| proxy.labels.get(*key) != Some(value));
        let because = match wanted {
            Some((key, value)) => match proxy.labels.get(key) {
                Some(own) => format!("it selects proxies with {key}={value}, and this one has {key}={own}"),
                None => format!("it selects proxies with {key}={value}, and this one has no label {key}"),
            },
            None => format!("it counts in namespace {} only", gateway.meta.namespace()),
        };
        let ports = gateway.spec.servers.iter().map(|server| server.port.number).collect();
        ForeignGateway { name: gateway.meta.id.to_string(), ports, because }
    })
}

/// Says of every Gateway that it selects other proxies: worth saying when none selects this one.
pub(crate) fn not_selected(resources: &ResourceSet, proxy: &Proxy) -> Vec<Finding> {
    let pairs = |labels: &resources::Labels| {
        let pairs: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if pairs.is_empty() { "none".to_owned() } else { pairs.join(",") }
    };
    let spec = Path::ROOT.field("spec");
    let finding = |gateway: &Arc<Object<resources::Gateway>>| {
        let problem = Problem::new("does not select this proxy, and no other Gateway does")
            .found(format!("this proxy's labels: {}", pairs(&proxy.labels)))
            .expected(pairs(&gateway.spec.selector))
            .remedy("correct the `selector`, or start the proxy with these --labels");
        gateway.meta.finding(Severity::Warning, Rule::UnknownReference, &spec.field("selector"), problem)
    };
    resources.gateways().iter().map(finding).collect()
}
