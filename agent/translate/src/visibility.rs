//! Which resources a proxy sees (`exportTo`).

use resources::{DestinationRule, GatewayRef, Labels, Meta, Object, Service, ServiceEntry, VirtualService};

/// How widely a resource is exported. Narrower comes first where Istio orders by it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Reach {
    /// Its own namespace only (`.`).
    Private,
    /// Some namespaces.
    Namespaces,
    /// Every namespace.
    Public,
}

/// How widely a VirtualService is exported, or `None` when a proxy in `namespace` does not see it.
pub(crate) fn virtual_service(vs: &Object<VirtualService>, namespace: &str) -> Option<Reach> {
    reach(&vs.meta, vs.spec.export_to.iter().map(String::as_str), namespace)
}

/// How widely a DestinationRule is exported, or `None` when a proxy in `namespace` does not see it.
pub(crate) fn destination_rule(rule: &Object<DestinationRule>, namespace: &str) -> Option<Reach> {
    reach(&rule.meta, rule.spec.export_to.iter().map(String::as_str), namespace)
}

/// Whether a proxy in `namespace` sees a ServiceEntry.
pub(crate) fn sees_service_entry(entry: &Object<ServiceEntry>, namespace: &str) -> bool {
    reach(&entry.meta, entry.spec.export_to.iter().map(String::as_str), namespace).is_some()
}

/// Whether a proxy in `namespace` sees a Service; its annotation holds a comma-separated list.
pub(crate) fn sees_service(service: &Object<Service>, namespace: &str) -> bool {
    let written = service.meta.annotations.get("networking.istio.io/exportTo");
    let list =
        written.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|entry| !entry.is_empty());
    reach(&service.meta, list, namespace).is_some()
}

/// Whether the VirtualService's rules, or those of one match, are for this gateway.
pub(crate) fn names_gateway(gateways: &[GatewayRef], wanted: &GatewayRef) -> bool {
    gateways.contains(wanted)
}

/// Whether all labels of `wanted` are there.
pub(crate) fn has_labels(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn reach<'l>(meta: &Meta, export_to: impl Iterator<Item = &'l str>, namespace: &str) -> Option<Reach> {
    let (mut is_empty, mut sees, mut reach) = (true, false, Reach::Private);
    for entry in export_to {
        is_empty = false;
        let (entry_sees, entry_reach) = match entry {
            "*" => (true, Reach::Public),
            "." => (meta.namespace() == namespace, Reach::Private),
            "~" => (false, Reach::Private),
            name => (name == namespace, Reach::Namespaces),
        };
        sees |= entry_sees;
        reach = reach.max(entry_reach);
    }
    if is_empty { Some(Reach::Public) } else { sees.then_some(reach) }
}
