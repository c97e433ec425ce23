//! All resources in force, by kind, in the order in which conflicts are decided.

use std::{collections::HashMap, sync::Arc};

use crate::{
    AuthorizationPolicy, ConfigMap, DestinationRule, EndpointSlice, Endpoints, Gateway, Meta, Object,
    PeerAuthentication, Pod, RequestAuthentication, Resource, ResourceId, Secret, Service, ServiceEntry,
    Sidecar, Telemetry, VirtualService, WorkloadEntry,
    finding::{Finding, Place, Problem, Rule, Severity},
    path::Path,
};

/// An immutable set of resources; cloning it is cheap.
///
/// Within a kind, resources are sorted by [`Meta::age`], so whoever comes first wins a conflict, whatever the order
/// of files or arrival.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ResourceSet {
    kinds: Arc<Kinds>,
    refused: Arc<[Refused]>,
}

/// A resource that is written and was refused. An earlier version of it may be in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// Its name.
    pub id: ResourceId,
    /// Where its first mistake is.
    pub place: Place,
}

impl Refused {
    pub(crate) fn new(id: ResourceId, file: &str, findings: &[Finding]) -> Self {
        let own = |finding: &&Finding| {
            finding.severity == Severity::Error && finding.resource.as_ref() == Some(&id)
        };
        let place = findings.iter().find(own).and_then(|finding| finding.place.clone());
        Self { id, place: place.unwrap_or_else(|| Place::whole(file)) }
    }
}

#[derive(Debug, Default, Eq, PartialEq)]
struct Kinds {
    gateways: Vec<Arc<Object<Gateway>>>,
    virtual_services: Vec<Arc<Object<VirtualService>>>,
    destination_rules: Vec<Arc<Object<DestinationRule>>>,
    service_entries: Vec<Arc<Object<ServiceEntry>>>,
    workload_entries: Vec<Arc<Object<WorkloadEntry>>>,
    sidecars: Vec<Arc<Object<Sidecar>>>,
    peer_authentications: Vec<Arc<Object<PeerAuthentication>>>,
    request_authentications: Vec<Arc<Object<RequestAuthentication>>>,
    authorization_policies: Vec<Arc<Object<AuthorizationPolicy>>>,
    telemetries: Vec<Arc<Object<Telemetry>>>,
    services: Vec<Arc<Object<Service>>>,
    endpoint_slices: Vec<Arc<Object<EndpointSlice>>>,
    endpoints: Vec<Arc<Object<Endpoints>>>,
    secrets: Vec<Arc<Object<Secret>>>,
    pods: Vec<Arc<Object<Pod>>>,
    config_maps: Vec<Arc<Object<ConfigMap>>>,
    namespaces: Vec<Arc<Meta>>,
    nodes: Vec<Arc<Meta>>,
}

impl ResourceSet {
    /// Puts resources in order.
    ///
    /// Of several resources with the same identity the one that was there first is kept, and of those the one written
    /// first (by file name, then by line); a finding for each of the others names both places.
    pub fn new(mut resources: Vec<Resource>) -> (Self, Vec<Finding>) {
        resources.sort_by(|a, b| {
            let key = |one: &'_ Resource| (one.meta().appeared, one.meta().place().clone());
            key(a).cmp(&key(b))
        });
        let mut first: HashMap<ResourceId, usize> = HashMap::with_capacity(resources.len());
        let mut kept: Vec<Resource> = Vec::with_capacity(resources.len());
        let mut findings = Vec::new();
        for resource in resources {
            match first.get(resource.id()) {
                Some(earlier) => findings.push(duplicate(&resource, &kept[*earlier])),
                None => {
                    first.insert(resource.id().clone(), kept.len());
                    kept.push(resource);
                }
            }
        }
        kept.sort_by(|a, b| a.meta().age().cmp(&b.meta().age()));
        let mut kinds = Kinds::default();
        kept.into_iter().for_each(|resource| kinds.add(resource));
        (Self { kinds: Arc::new(kinds), ..Self::default() }, findings)
    }

    /// The same, which tells what was refused.
    pub(crate) fn without(self, refused: Vec<Refused>) -> Self {
        Self { refused: refused.into(), ..self }
    }

    /// What is written and was refused, for those who miss it.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Gateways, oldest first.
    pub fn gateways(&self) -> &[Arc<Object<Gateway>>] {
        &self.kinds.gateways
    }

    /// VirtualServices, oldest first.
    pub fn virtual_services(&self) -> &[Arc<Object<VirtualService>>] {
        &self.kinds.virtual_services
    }

    /// DestinationRules, oldest first.
    pub fn destination_rules(&self) -> &[Arc<Object<DestinationRule>>] {
        &self.kinds.destination_rules
    }

    /// ServiceEntries, oldest first.
    pub fn service_entries(&self) -> &[Arc<Object<ServiceEntry>>] {
        &self.kinds.service_entries
    }

    /// WorkloadEntries, oldest first.
    pub fn workload_entries(&self) -> &[Arc<Object<WorkloadEntry>>] {
        &self.kinds.workload_entries
    }

    /// Sidecars, oldest first.
    pub fn sidecars(&self) -> &[Arc<Object<Sidecar>>] {
        &self.kinds.sidecars
    }

    /// PeerAuthentications, oldest first.
    pub fn peer_authentications(&self) -> &[Arc<Object<PeerAuthentication>>] {
        &self.kinds.peer_authentications
    }

    /// RequestAuthentications, oldest first.
    pub fn request_authentications(&self) -> &[Arc<Object<RequestAuthentication>>] {
        &self.kinds.request_authentications
    }

    /// AuthorizationPolicies, oldest first.
    pub fn authorization_policies(&self) -> &[Arc<Object<AuthorizationPolicy>>] {
        &self.kinds.authorization_policies
    }

    /// Telemetry resources, oldest first.
    pub fn telemetries(&self) -> &[Arc<Object<Telemetry>>] {
        &self.kinds.telemetries
    }

    /// Services, oldest first.
    pub fn services(&self) -> &[Arc<Object<Service>>] {
        &self.kinds.services
    }

    /// EndpointSlices, oldest first.
    pub fn endpoint_slices(&self) -> &[Arc<Object<EndpointSlice>>] {
        &self.kinds.endpoint_slices
    }

    /// Endpoints, oldest first.
    pub fn endpoints(&self) -> &[Arc<Object<Endpoints>>] {
        &self.kinds.endpoints
    }

    /// Secrets, oldest first.
    pub fn secrets(&self) -> &[Arc<Object<Secret>>] {
        &self.kinds.secrets
    }

    /// Pods, oldest first.
    pub fn pods(&self) -> &[Arc<Object<Pod>>] {
        &self.kinds.pods
    }

    /// ConfigMaps, oldest first.
    pub fn config_maps(&self) -> &[Arc<Object<ConfigMap>>] {
        &self.kinds.config_maps
    }

    /// Namespaces, oldest first; of these only the metadata matters.
    pub fn namespaces(&self) -> &[Arc<Meta>] {
        &self.kinds.namespaces
    }

    /// Nodes, oldest first; of these only the metadata matters.
    pub fn nodes(&self) -> &[Arc<Meta>] {
        &self.kinds.nodes
    }

    /// Number of resources.
    pub fn len(&self) -> usize {
        let kinds = &*self.kinds;
        kinds.gateways.len()
            + kinds.virtual_services.len()
            + kinds.destination_rules.len()
            + kinds.service_entries.len()
            + kinds.workload_entries.len()
            + kinds.sidecars.len()
            + kinds.peer_authentications.len()
            + kinds.request_authentications.len()
            + kinds.authorization_policies.len()
            + kinds.telemetries.len()
            + kinds.services.len()
            + kinds.endpoint_slices.len()
            + kinds.endpoints.len()
            + kinds.secrets.len()
            + kinds.pods.len()
            + kinds.config_maps.len()
            + kinds.namespaces.len()
            + kinds.nodes.len()
    }

    /// Whether there is no resource at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Kinds {
    fn add(&mut self, resource: Resource) {
        match resource {
            Resource::Gateway(object) => self.gateways.push(object),
            Resource::VirtualService(object) => self.virtual_services.push(object),
            Resource::DestinationRule(object) => self.destination_rules.push(object),
            Resource::ServiceEntry(object) => self.service_entries.push(object),
            Resource::WorkloadEntry(object) => self.workload_entries.push(object),
            Resource::Sidecar(object) => self.sidecars.push(object),
            Resource::PeerAuthentication(object) => self.peer_authentications.push(object),
            Resource::RequestAuthentication(object) => self.request_authentications.push(object),
            Resource::AuthorizationPolicy(object) => self.authorization_policies.push(object),
            Resource::Telemetry(object) => self.telemetries.push(object),
            Resource::Service(object) => self.services.push(object),
            Resource::EndpointSlice(object) => self.endpoint_slices.push(object),
            Resource::Endpoints(object) => self.endpoints.push(object),
            Resource::Secret(object) => self.secrets.push(object),
            Resource::Pod(object) => self.pods.push(object),
            Resource::ConfigMap(object) => self.config_maps.push(object),
            Resource::Namespace(meta) => self.namespaces.push(meta),
            Resource::Node(meta) => self.nodes.push(meta),
        }
    }
}

pub(crate) fn duplicate(loser: &Resource, winner: &Resource) -> Finding {
    let (place, own) = (winner.meta().place(), loser.meta().place());
    let why = if own < place { ", for it was there first; after a restart this one is" } else { "" };
    let problem = Problem::new(format!("is written a second time and left out; {place} is in force{why}"));
    let problem = problem.remedy("remove or rename one of the two");
    loser.meta().finding(Severity::Error, Rule::Duplicate, &Path::ROOT, problem)
}

#[cfg(test)]
mod tests {
    use crate::{Files, ReadDefaults, ResourceSet};

    fn gateway(name: &str, namespace: &str, created: &str) -> String {
        let created =
            if created.is_empty() { String::new() } else { format!(", creationTimestamp: '{created}'") };
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: {namespace}{created}}}\n\
             spec: {{servers: [{{port: {{number: 80, name: a, protocol: HTTP}}, hosts: ['*']}}]}}\n---\n"
        )
    }

    fn names(set: &ResourceSet) -> Vec<String> {
        set.gateways()
            .iter()
            .map(|gateway| format!("{}/{}", gateway.meta.namespace(), gateway.meta.name()))
            .collect()
    }

    #[test]
    fn age_then_name_then_namespace_decides() {
        let text = gateway("b", "ns1", "2024-01-02T00:00:00Z")
            + &gateway("a", "ns2", "2024-01-02T00:00:00Z")
            + &gateway("z", "ns1", "2024-01-01T00:00:00Z")
            + &gateway("a", "ns1", "2024-01-02T00:00:00Z")
            + &gateway("y", "ns1", "");
        let mut files = Files::new(ReadDefaults::default());
        files.replace_file("a.yaml", &text);
        assert_eq!(names(&files.resources().0), ["ns1/y", "ns1/z", "ns1/a", "ns2/a", "ns1/b"]);
    }

    #[test]
    fn the_first_file_wins_a_duplicate_and_both_places_are_named() {
        let mut files = Files::new(ReadDefaults::default());
        files.replace_file("b.yaml", &gateway("gw", "ns", ""));
        files.replace_file("a.yaml", &("\n".to_owned() + &gateway("gw", "ns", "")));
        let (set, findings) = files.resources();
        assert_eq!(set.gateways()[0].meta.place().to_string(), "a.yaml:2:1");
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].to_string(),
            "b.yaml:1:1: Gateway ns/gw: is written a second time and left out; a.yaml:2:1 is in force (remove or rename one of the two)"
        );
    }
}
