//! What names of services stand for, for a workload that asks its proxy (`ISTIO_META_DNS_CAPTURE`).

use std::{collections::BTreeSet, net::IpAddr};

use snapshot::{HostPattern, NameTable};

use crate::{
    hosts::{pattern, service_domains},
    registry::{KnownService, Origin, Reached, Registry},
    sidecar_scope::SidecarScope,
};

/// The names of all services that have addresses; who asks for others is sent on.
pub(crate) fn names(registry: &Registry<'_>, scope: &SidecarScope<'_>) -> NameTable {
    let mut table = NameTable::default();
    if !registry.proxy.answers_dns {
        return table;
    }
    let known = |service: &&KnownService<'_>| scope.knows(service.meta().namespace(), &service.host);
    for service in registry.services.iter().filter(known) {
        let addresses = addresses(service);
        if !addresses.is_empty() {
            table.add(names_of(service, registry), &addresses);
        }
    }
    table
}

/// Its own addresses, or those of the endpoints where clients choose among them.
fn addresses(service: &KnownService<'_>) -> Vec<IpAddr> {
    match service.reached {
        Reached::At(_) => service.ips().collect(),
        Reached::AtEndpoints => {
            let endpoints = service.ports.iter().flat_map(|port| service.endpoints(port));
            let ips: BTreeSet<IpAddr> =
                endpoints.filter_map(|endpoint| Some(endpoint.address()?.ip())).collect();
            ips.into_iter().collect()
        }
        Reached::Anywhere => Vec::new(),
    }
}

fn names_of(service: &KnownService<'_>, registry: &Registry<'_>) -> Vec<HostPattern> {
    match service.origin {
        Origin::Kubernetes(object) => {
            service_domains(object.meta.name(), object.meta.namespace(), &[], registry.proxy)
        }
        Origin::Entry(_) => {
            pattern(&service.host).into_iter().filter(|host| *host != HostPattern::Any).collect()
        }
    }
}
