//! What routes follow from beside the VirtualService they are written in.

use std::{collections::BTreeMap, sync::Arc};

use resources::{DestinationRule, GatewayRef, Object, ResourceSet};

use crate::{clusters::Clusters, gateway, registry::Registry, rules::Outdated};

/// Everything outside a VirtualService that its routes and the findings about its references follow from, for one
/// proxy.
///
/// Endpoints are not among it: that they come and go changes no route.
#[derive(Debug, Default)]
pub(crate) struct RouteDependencies {
    targets: Targets,
    named: References,
}

/// What destinations may lead to: routes hold the positions of clusters.
#[derive(Debug, Default, PartialEq)]
struct Targets {
    clusters: Vec<String>,
    services: Vec<KnownName>,
    /// What ExternalNames stand for.
    aliases: BTreeMap<String, String>,
}

/// A service as far as a destination can name it.
#[derive(Debug, PartialEq)]
struct KnownName {
    host: String,
    namespace: String,
    ports: Vec<u16>,
}

/// What else rules name.
#[derive(Debug, Default)]
struct References {
    gateways: Vec<GatewayRef>,
    destination_rules: Vec<Arc<Object<DestinationRule>>>,
    /// Hosts of services that the workload's Sidecar does not import: naming them is no mistake.
    hidden: Vec<String>,
}

impl RouteDependencies {
    /// Takes in what these are now; says what no longer holds of what was made before.
    pub(crate) fn update(
        &mut self,
        resources: &ResourceSet,
        registry: &Registry<'_>,
        clusters: &Clusters,
    ) -> Option<Outdated> {
        let targets = !self.targets.are_those_of(registry, clusters);
        let named = !self.named.are_those_of(resources, registry);
        if targets {
            self.targets = Targets::of(registry, clusters);
        }
        if named {
            self.named = References::of(resources, registry);
        }
        match (targets, named) {
            (true, _) => Some(Outdated::Everything),
            (false, true) => Some(Outdated::References),
            (false, false) => None,
        }
    }
}

impl Targets {
    fn of(registry: &Registry<'_>, clusters: &Clusters) -> Self {
        let services = registry.services.iter().map(|service| KnownName {
            host: service.host.clone(),
            namespace: service.meta().namespace().to_owned(),
            ports: service.ports.iter().map(|port| port.number).collect(),
        });
        Self {
            clusters: clusters.list.iter().map(|cluster| cluster.name.clone()).collect(),
            services: services.collect(),
            aliases: registry.aliases().map(|(name, target)| (name.to_owned(), target.to_owned())).collect(),
        }
    }

    // Compared in place: mostly they are the same, and a mesh has thousands.
    fn are_those_of(&self, registry: &Registry<'_>, clusters: &Clusters) -> bool {
        let names = clusters.list.iter().map(|cluster| &cluster.name);
        let mut aliases = registry.aliases();
        self.clusters.iter().eq(names)
            && self.services.len() == registry.services.len()
            && self.services.iter().zip(&registry.services).all(|(known, service)| {
                known.host == service.host
                    && known.namespace == service.meta().namespace()
                    && known.ports.iter().copied().eq(service.ports.iter().map(|port| port.number))
            })
            && self.aliases.len() == registry.aliases().count()
            && aliases.all(|(name, target)| self.aliases.get(name).is_some_and(|known| known == target))
    }
}

impl References {
    fn of(resources: &ResourceSet, registry: &Registry<'_>) -> Self {
        Self {
            gateways: gateways(resources).collect(),
            destination_rules: resources.destination_rules().to_vec(),
            hidden: registry.hidden().map(str::to_owned).collect(),
        }
    }

    fn are_those_of(&self, resources: &ResourceSet, registry: &Registry<'_>) -> bool {
        let (known, now) = (&self.destination_rules, resources.destination_rules());
        known.len() == now.len()
            && known.iter().zip(now).all(|(known, now)| Arc::ptr_eq(known, now))
            && self.gateways.iter().cloned().eq(gateways(resources))
            && self.hidden.iter().map(String::as_str).eq(registry.hidden())
    }
}

fn gateways(resources: &ResourceSet) -> impl Iterator<Item = GatewayRef> {
    resources.gateways().iter().map(|gateway| gateway::reference(gateway))
}
