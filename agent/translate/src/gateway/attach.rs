//! Which VirtualServices are attached to which servers, and for which hosts.

use std::{collections::HashMap, sync::Arc};

use resources::{GatewayRef, HostNamespace, Object, ResourceSet, VirtualService};
use snapshot::HostPattern;

use super::servers::SelectedServer;
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
            let Some(reach) = visibility::virtual_service(vs, &proxy.namespace) else { continue };
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

    /// What is attached to a server, in the order in which rules count: those seen by fewer namespaces first, then
    /// the oldest.
    pub(crate) fn of(&self, server: &SelectedServer<'_>) -> Vec<Attached<'a>> {
        let Some(index) = self.by_gateway.get(&server.reference) else { return Vec::new() };
        let mut attached = Vec::new();
        for host in &server.server().hosts {
            let Some(pattern) = pattern(&host.host) else { continue };
            let admits = |offer: &Offer<'_>| admits(&host.namespace, server, offer.vs.meta.namespace());
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

fn admits(namespace: &HostNamespace, server: &SelectedServer<'_>, of_rules: &str) -> bool {
    match namespace {
        HostNamespace::Any => true,
        HostNamespace::Own => server.gateway.meta.namespace() == of_rules,
        HostNamespace::Named(name) => name == of_rules,
    }
}
