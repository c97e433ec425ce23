//! Which resources a proxy sees (`exportTo`).

use resources::{
    DefaultExportTo, DestinationRule, GatewayRef, Labels, Meta, Object, Service, ServiceEntry, VirtualService,
};

use crate::proxy::Proxy;

/// Who looks: a namespace, and who sees what says nothing of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Viewer<'v> {
    pub(crate) namespace: &'v str,
    pub(crate) defaults: &'v DefaultExportTo,
}

impl<'v> From<&'v Proxy> for Viewer<'v> {
    fn from(proxy: &'v Proxy) -> Self {
        Self { namespace: &proxy.namespace, defaults: &proxy.mesh.defaults.export_to }
    }
}

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

/// How widely a VirtualService is exported, or `None` when the viewer does not see it.
pub(crate) fn virtual_service<'v>(
    vs: &Object<VirtualService>,
    viewer: impl Into<Viewer<'v>>,
) -> Option<Reach> {
    let viewer = viewer.into();
    let defaults = &viewer.defaults.virtual_services;
    reach(&vs.meta, vs.spec.export_to.iter().map(String::as_str), (viewer.namespace, defaults))
}

/// How widely a DestinationRule is exported, or `None` when the viewer does not see it.
pub(crate) fn destination_rule<'v>(
    rule: &Object<DestinationRule>,
    viewer: impl Into<Viewer<'v>>,
) -> Option<Reach> {
    let viewer = viewer.into();
    let defaults = &viewer.defaults.destination_rules;
    reach(&rule.meta, rule.spec.export_to.iter().map(String::as_str), (viewer.namespace, defaults))
}

/// Whether the viewer sees a ServiceEntry.
pub(crate) fn sees_service_entry<'v>(entry: &Object<ServiceEntry>, viewer: impl Into<Viewer<'v>>) -> bool {
    let viewer = viewer.into();
    let written = entry.spec.export_to.iter().map(String::as_str);
    reach(&entry.meta, written, (viewer.namespace, &viewer.defaults.services)).is_some()
}

/// Whether the viewer sees a Service; its annotation holds a comma-separated list.
pub(crate) fn sees_service<'v>(service: &Object<Service>, viewer: impl Into<Viewer<'v>>) -> bool {
    let viewer = viewer.into();
    let written = service.meta.annotations.get("networking.istio.io/exportTo");
    let list =
        written.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|entry| !entry.is_empty());
    reach(&service.meta, list, (viewer.namespace, &viewer.defaults.services)).is_some()
}

/// Whether the VirtualService's rules, or those of one match, are for this gateway.
pub(crate) fn names_gateway(gateways: &[GatewayRef], wanted: &GatewayRef) -> bool {
    gateways.contains(wanted)
}

/// Whether all labels of `wanted` are there.
pub(crate) fn has_labels(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn reach<'l>(
    meta: &Meta,
    export_to: impl Iterator<Item = &'l str>,
    (namespace, defaults): (&str, &[String]),
) -> Option<Reach> {
    let written = reach_of(meta, export_to, namespace);
    written
        .or_else(|| reach_of(meta, defaults.iter().map(String::as_str), namespace))
        .map_or(Some(Reach::Public), |(sees, reach)| sees.then_some(reach))
}

/// Whether the namespace is among those written, and how wide they are; `None` when none are.
fn reach_of<'l>(
    meta: &Meta,
    export_to: impl Iterator<Item = &'l str>,
    namespace: &str,
) -> Option<(bool, Reach)> {
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
    (!is_empty).then_some((sees, reach))
}
