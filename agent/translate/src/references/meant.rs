//! Which name was meant by one that does not exist.

use std::collections::HashMap;

use resources::{GatewayRef, did_you_mean, nearest};

use super::Checker;
use crate::{hosts::service_host, registry::Registry};

/// The first service with each first label.
fn namesakes<'r>(registry: &'r Registry<'_>) -> HashMap<&'r str, &'r str> {
    let mut namesakes = HashMap::new();
    for service in &registry.services {
        namesakes.entry(first_label(&service.host)).or_insert(service.host.as_str());
    }
    namesakes
}

fn first_label(host: &str) -> &str {
    host.split('.').next().unwrap_or(host)
}

impl Checker<'_, '_> {
    /// The service that `name.namespace` stands for in people's minds.
    pub(super) fn meant(&self, host: &str) -> Option<String> {
        let (name, rest) = host.split_once('.')?;
        let namespace = rest.split('.').next()?;
        let full = service_host(name, namespace, self.registry.proxy);
        self.registry.service(&full).map(|_| full)
    }

    /// What to do about a host that no service has: the namespace is the usual mistake, a typing error the next.
    pub(super) fn where_it_is(&self, host: &str) -> String {
        let namesakes = self.namesakes.get_or_init(|| namesakes(self.registry));
        if let Some(namesake) = namesakes.get(first_label(host)) {
            return format!("did you mean `{namesake}`?");
        }
        let near = did_you_mean(host, self.registry.services.iter().map(|service| service.host.as_str()));
        near.unwrap_or_else(|| "add the Service, or a ServiceEntry for what is outside the mesh".to_owned())
    }

    /// What to do about a Gateway that is not there: it is spelt nearly so, or in another namespace.
    pub(super) fn gateway_meant(&self, wanted: &GatewayRef) -> String {
        let GatewayRef::Named { namespace, name } = wanted else { return String::new() };
        let known = || self.gateways.iter().filter_map(named);
        let beside = known().filter(|(of, _)| of == namespace).map(|(_, name)| name);
        let near = nearest(name, beside).map(|near| (namespace.as_str(), near));
        match near.or_else(|| known().find(|(_, known)| known == name)) {
            Some((namespace, name)) => format!("did you mean `{namespace}/{name}`?"),
            None => "a Gateway of another namespace is named `namespace/name`".to_owned(),
        }
    }
}

fn named(gateway: &GatewayRef) -> Option<(&str, &str)> {
    match gateway {
        GatewayRef::Named { namespace, name } => Some((namespace, name)),
        GatewayRef::Mesh => None,
    }
}
