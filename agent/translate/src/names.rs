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
        add_pods(service, registry, &mut table);
    }
    add_aliases(registry, &mut table);
    table
}

/// The names that pods behind a headless service have below it, as those of a StatefulSet do.
fn add_pods(service: &KnownService<'_>, registry: &Registry<'_>, table: &mut NameTable) {
    let Origin::Kubernetes(object) = service.origin else { return };
    if !matches!(service.reached, Reached::AtEndpoints) {
        return;
    }
    for (hostname, addresses) in service.named_pods() {
        let name = format!("{hostname}.{}", object.meta.name());
        table.add(service_domains(&name, object.meta.namespace(), &[], registry.proxy), &addresses);
    }
}

/// ExternalName services stand for what their targets do, where those are services that are known here.
fn add_aliases(registry: &Registry<'_>, table: &mut NameTable) {
    let mut aliases: Vec<_> = registry.aliases().map(|(name, _)| name).collect();
    aliases.sort_unstable();
    for name in aliases {
        let target = registry.resolve(name);
        let Some(addresses) = table.addresses(target).map(<[IpAddr]>::to_vec) else { continue };
        if let Some(object) = registry.alias(name) {
            let names = service_domains(object.meta.name(), object.meta.namespace(), &[], registry.proxy);
            table.add(names, &addresses);
        }
    }
}

/// Its own addresses, or those of the endpoints where clients choose among them.
fn addresses(service: &KnownService<'_>) -> Vec<IpAddr> {
    match service.reached {
        Reached::At(_) => service.ips().collect(),
        Reached::AtEndpoints => {
            let endpoints = service.ports.iter().flat_map(|port| service.endpoints(port));
            let ips: BTreeSet<IpAddr> = endpoints.filter_map(|endpoint| endpoint.ip()).collect();
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
