//! Which Telemetry resources are for a workload.

use std::sync::Arc;

use resources::{
    Finding, Labels, Object, Path, PolicyScope, Problem, ResourceSet, Rule, Severity, Telemetry,
};

use crate::{proxy::Proxy, registry::Registry};

/// Those for the proxy, widest first: of the root namespace, of the proxy's, of the workload. Of several at one level the
/// oldest.
pub(crate) fn levels<'r>(resources: &'r ResourceSet, registry: &Registry<'_>) -> Vec<&'r Object<Telemetry>> {
    let proxy = registry.proxy;
    let in_namespace = |namespace: &str| {
        let namespace = namespace.to_owned();
        resources.telemetries().iter().map(Arc::as_ref).filter(move |t| t.meta.namespace() == namespace)
    };
    let is_wide = |telemetry: &&Object<Telemetry>| {
        let PolicyScope { selector, target_refs } = &telemetry.spec.scope;
        selector.as_ref().is_none_or(Labels::is_empty) && target_refs.is_empty()
    };
    let of_root = in_namespace(&proxy.mesh.root_namespace).find(is_wide);
    let is_root = proxy.namespace == proxy.mesh.root_namespace;
    let of_namespace = in_namespace(&proxy.namespace).filter(|_| !is_root).find(is_wide);
    let of_workload = in_namespace(&proxy.namespace)
        .find(|telemetry| !is_wide(telemetry) && is_meant(&telemetry.spec.scope, proxy, registry));
    [of_root, of_namespace, of_workload].into_iter().flatten().collect()
}

/// Whether a policy of the proxy's namespace names its workload: by labels, or by a service in front of it.
fn is_meant(scope: &PolicyScope, proxy: &Proxy, registry: &Registry<'_>) -> bool {
    let has = |(key, value): (&String, &String)| proxy.labels.get(key) == Some(value);
    let by_labels = scope.selector.as_ref().is_some_and(|labels| labels.iter().all(has));
    let by_service = scope.target_refs.iter().filter(|target| target.kind == "Service").any(|target| {
        let mut own = registry.of_workload();
        own.any(|service| service.short_name() == target.name)
    });
    by_labels || by_service
}

/// Says that something in a Telemetry is not done as it says.
pub(crate) fn warning(telemetry: &Object<Telemetry>, at: &Path<'_>, problem: Problem) -> Finding {
    telemetry.meta.finding(Severity::Warning, Rule::NotSupported, at, problem)
}
