//! Which VirtualServices are attached to which servers, and for which hosts.

use std::{collections::HashMap, sync::Arc};

use resources::{GatewayRef, HostNamespace, Object, Protocol, ResourceSet, Server, TlsMode, VirtualService};
use snapshot::HostPattern;

use crate::{
    hosts::{HostIndex, full_name, pattern},
    proxy::Proxy,
    visibility::{self, Reach},
};

/// VirtualServices by the Gateways they name, found by host.
pub(crate) struct Attachments<'a> {
    by_gateway: HashMap<GatewayRef, HostIndex<Offer<'a>>>,
}

/// A VirtualService that offers rules for a host.
#[derive(Clone, Copy)]
struct Offer<'a> {
    vs: &'a Object<VirtualService>,
    reach: Reach,
    /// Position by age.
    age: usize,
}

/// A VirtualService attached to a server for one host.
#[derive(Debug)]
pub(crate) struct Attached<'a> {
    pub(crate) vs: &'a Object<VirtualService>,
    /// What server and VirtualService have in common.
    pub(crate) host: HostPattern,
    rank: (Reach, usize),
}

impl<'a> Attachments<'a> {
    pub(crate) fn new(resources: &'a ResourceSet, proxy: &Proxy) -> Self {
        let mut by_gateway: HashMap<GatewayRef, HostIndex<Offer<'a>>> = HashMap::new();
        for (age, vs) in resources.virtual_services().iter().enumerate() {
            let Some(reach) = visibility::virtual_service(vs, proxy) else { continue };
            let offer = Offer { vs: Arc::as_ref(vs), reach, age };
            let hosts = vs.spec.hosts.iter().map(|host| full_name(host, vs.meta.namespace(), proxy));
            let patterns: Vec<HostPattern> = hosts.filter_map(|host| pattern(&host)).collect();
            for gateway in vs.spec.gateways.iter().filter(|gateway| **gateway != GatewayRef::Mesh) {
                let index = by_gateway.entry(gateway.clone()).or_default();
                patterns.iter().for_each(|pattern| index.insert(pattern, offer));
            }
        }
        Self { by_gateway }
    }

    /// What is attached to a server of the Gateway `reference`, in the order in which rules count: those seen by fewer
    /// namespaces first, then the oldest. What has no rules of the kind that the server follows is not.
    pub(crate) fn of(&self, server: &Server, reference: &GatewayRef) -> Vec<Attached<'a>> {
        let Some(index) = self.by_gateway.get(reference) else { return Vec::new() };
        let mut attached = Vec::new();
        for host in &server.hosts {
            let Some(pattern) = pattern(&host.host) else { continue };
            let admits = |offer: &Offer<'_>| {
                admits(&host.namespace, reference, offer.vs.meta.namespace())
                    && follows(server, &offer.vs.spec)
            };
            let meeting = index.meeting(&pattern).into_iter().filter(|(_, offer)| admits(offer));
            attached.extend(meeting.map(|(host, Offer { vs, reach, age })| Attached {
                vs,
                host,
                rank: (reach, age),
            }));
        }
        attached.sort_by(|a, b| (a.rank, &a.host).cmp(&(b.rank, &b.host)));
        attached.dedup_by(|a, b| a.rank == b.rank && a.host == b.host);
        attached
    }
}

/// Whether the namespace part of a server's host admits what is in namespace `of_rules`.
pub(super) fn admits(namespace: &HostNamespace, gateway: &GatewayRef, of_rules: &str) -> bool {
    match (namespace, gateway) {
        (HostNamespace::Any, _) => true,
        (HostNamespace::Named(name), _) => name == of_rules,
        (HostNamespace::Own, GatewayRef::Named { namespace, .. }) => namespace == of_rules,
        (HostNamespace::Own, GatewayRef::Mesh) => false,
    }
}

/// Whether a server follows rules of a kind that the VirtualService has.
pub(super) fn follows(server: &Server, rules: &VirtualService) -> bool {
    let mode = server.tls.as_ref().map_or(TlsMode::default(), |tls| tls.mode);
    match (server.port.protocol, mode) {
        (protocol, TlsMode::AutoPassthrough) if protocol.is_tls() => false,
        (protocol, TlsMode::Passthrough) if protocol.is_tls() => !rules.tls.is_empty(),
        (Protocol::Https, _) => !rules.http.is_empty(),
        (protocol, _) if protocol.is_http() => !rules.http.is_empty(),
        _ => !rules.tcp.is_empty(),
    }
}
