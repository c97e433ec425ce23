//! Findings across resources without a proxy at hand, for `validate`.

use std::collections::BTreeSet;

use resources::{Finding, GatewayRef, Labels, ResourceSet};

use crate::{
    Credentials, MeshOptions, Proxy, ProxyKind, access_logging, credentials::doubtful_pairs, metrics,
    mutual_tls, translate,
};

/// What any proxy that these resources speak of would find: conflicts, references that lead nowhere, rules that no
/// request reaches.
///
/// Translates once for every kind of gateway that some Gateway selects and once for a sidecar in every namespace that
/// has a Service or a VirtualService. Each finding is returned once, sorted by place.
pub fn review(resources: &ResourceSet, credentials: &Credentials<'_>, cluster_domain: &str) -> Vec<Finding> {
    let proxies =
        gateways(resources).into_iter().chain(without_gateways(resources)).chain(sidecars(resources));
    let found = proxies.flat_map(|proxy| {
        let proxy = Proxy { cluster_domain: cluster_domain.to_owned(), ..proxy };
        translate(resources, credentials, &proxy).findings
    });
    let mut findings: Vec<Finding> = found.collect();
    findings.extend(doubtful_pairs(resources, credentials));
    findings.extend(resources.telemetries().iter().flat_map(|telemetry| access_logging::doubts(telemetry)));
    findings.extend(resources.telemetries().iter().flat_map(|telemetry| metrics::doubts(telemetry)));
    findings.extend(mutual_tls::without_effect(resources, &MeshOptions::default().root_namespace));
    findings.sort_by_cached_key(|finding| (finding.place.clone(), finding.path.clone(), finding.to_string()));
    findings.dedup();
    findings
}

/// One gateway for each selector, in the namespace of the Service in front of it when there is one.
fn gateways(resources: &ResourceSet) -> Vec<Proxy> {
    let mut seen = BTreeSet::new();
    let distinct = resources.gateways().iter().filter(|gateway| seen.insert(&gateway.spec.selector));
    let proxy = |gateway: &std::sync::Arc<resources::Object<resources::Gateway>>| {
        let selector = &gateway.spec.selector;
        let in_front = |labels: &Labels| {
            !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let service = resources.services().iter().find(|service| in_front(&service.spec.selector));
        let namespace = service.map_or(gateway.meta.namespace(), |service| service.meta.namespace());
        let labels = service.map_or(selector, |service| &service.spec.selector).clone();
        Proxy { labels, ..Proxy::new(ProxyKind::Router, namespace) }
    };
    distinct.map(proxy).collect()
}

/// One gateway that no Gateway selects where rules name some all the same, so that these are told.
fn without_gateways(resources: &ResourceSet) -> Option<Proxy> {
    let names_some = |gateways: &[GatewayRef]| gateways.iter().any(|gateway| *gateway != GatewayRef::Mesh);
    let rule = resources.virtual_services().iter().find(|vs| names_some(&vs.spec.gateways));
    let rule = rule.filter(|_| resources.gateways().is_empty())?;
    Some(Proxy::new(ProxyKind::Router, rule.meta.namespace()))
}

/// One sidecar in every namespace that may have some, and one for every workload that a Sidecar is for.
fn sidecars(resources: &ResourceSet) -> Vec<Proxy> {
    let services = resources.services().iter().map(|service| service.meta.namespace());
    let rules =
        resources.virtual_services().iter().filter(|vs| vs.spec.is_for_mesh()).map(|vs| vs.meta.namespace());
    let entries = resources.service_entries().iter().map(|entry| entry.meta.namespace());
    let scopes = resources.sidecars().iter().map(|sidecar| sidecar.meta.namespace());
    let plain =
        services.chain(rules).chain(entries).chain(scopes).map(|namespace| (namespace, Labels::new()));
    let selected = resources
        .sidecars()
        .iter()
        .filter_map(|sidecar| Some((sidecar.meta.namespace(), sidecar.spec.workload_selector.clone()?)));
    let distinct: BTreeSet<(&str, Labels)> = plain.chain(selected).collect();
    let proxy = |(namespace, labels)| Proxy { labels, ..Proxy::new(ProxyKind::Sidecar, namespace) };
    distinct.into_iter().map(proxy).collect()
}
