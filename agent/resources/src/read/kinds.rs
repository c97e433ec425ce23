//! How each kind is read, and what it is that has its fields.

use std::sync::Arc;

use super::Resource;
#[cfg(test)]
use crate::{
    AuthorizationPolicy, ConfigMap, DestinationRule, EndpointSlice, Endpoints, Gateway, PeerAuthentication,
    Pod, RequestAuthentication, Secret, Service, Sidecar, Telemetry, VirtualService, WorkloadEntry,
};
use crate::{
    Kind, Path,
    decode::{Context, Decode, Fields, Shape},
    finding::{Place, Problem, Rule},
    meta::{Meta, Metadata, Object, ResourceId},
    service_entry::WholeServiceEntry,
    yaml::Node,
};

/// Reads a resource of a kind whose metadata has been read.
pub(super) fn read_kind(
    kind: Kind,
    node: &Node<'_>,
    metadata: Metadata,
    place: Place,
    context: &mut Context<'_>,
) -> Resource {
    match kind {
        Kind::Gateway => Resource::Gateway(with_spec(node, metadata, place, context)),
        Kind::VirtualService => Resource::VirtualService(with_spec(node, metadata, place, context)),
        Kind::DestinationRule => Resource::DestinationRule(with_spec(node, metadata, place, context)),
        Kind::ServiceEntry => {
            let Object { meta, spec: WholeServiceEntry(spec) } = object(node, metadata, place, context);
            Resource::ServiceEntry(Arc::new(Object { meta, spec }))
        }
        Kind::WorkloadEntry => Resource::WorkloadEntry(with_spec(node, metadata, place, context)),
        Kind::Sidecar => Resource::Sidecar(with_spec(node, metadata, place, context)),
        Kind::PeerAuthentication => {
            Resource::PeerAuthentication(with_optional_spec(node, metadata, place, context))
        }
        Kind::RequestAuthentication => {
            Resource::RequestAuthentication(with_optional_spec(node, metadata, place, context))
        }
        Kind::AuthorizationPolicy => {
            Resource::AuthorizationPolicy(with_optional_spec(node, metadata, place, context))
        }
        Kind::Telemetry => Resource::Telemetry(with_optional_spec(node, metadata, place, context)),
        Kind::Service => Resource::Service(with_spec(node, metadata, place, context)),
        Kind::EndpointSlice => Resource::EndpointSlice(Arc::new(object(node, metadata, place, context))),
        Kind::Endpoints => Resource::Endpoints(Arc::new(object(node, metadata, place, context))),
        Kind::Secret => Resource::Secret(Arc::new(object(node, metadata, place, context))),
        Kind::Pod => Resource::Pod(Arc::new(object(node, metadata, place, context))),
        Kind::ConfigMap => Resource::ConfigMap(Arc::new(object(node, metadata, place, context))),
        Kind::Namespace => Resource::Namespace(Arc::new(finish_meta(metadata, place, context))),
        Kind::Node => Resource::Node(Arc::new(finish_meta(metadata, place, context))),
    }
}

/// Tells every field of a kind; a kind without a line here does not compile.
#[cfg(test)]
pub(crate) fn describe(kind: Kind, table: &mut crate::field_table::Table) {
    match kind {
        Kind::Gateway => Spec::<Gateway>::describe("", table),
        Kind::VirtualService => Spec::<VirtualService>::describe("", table),
        Kind::DestinationRule => Spec::<DestinationRule>::describe("", table),
        Kind::ServiceEntry => WholeServiceEntry::describe("", table),
        Kind::WorkloadEntry => Spec::<WorkloadEntry>::describe("", table),
        Kind::Sidecar => Spec::<Sidecar>::describe("", table),
        Kind::PeerAuthentication => OptionalSpec::<PeerAuthentication>::describe("", table),
        Kind::RequestAuthentication => OptionalSpec::<RequestAuthentication>::describe("", table),
        Kind::AuthorizationPolicy => OptionalSpec::<AuthorizationPolicy>::describe("", table),
        Kind::Telemetry => OptionalSpec::<Telemetry>::describe("", table),
        Kind::Service => Spec::<Service>::describe("", table),
        Kind::EndpointSlice => EndpointSlice::describe("", table),
        Kind::Endpoints => Endpoints::describe("", table),
        Kind::Secret => Secret::describe("", table),
        Kind::Pod => Pod::describe("", table),
        Kind::ConfigMap => ConfigMap::describe("", table),
        Kind::Namespace | Kind::Node => Metadata::describe("metadata", table),
    }
}

/// What is said of a kind that is read but not acted on yet.
pub(crate) fn no_effect(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::AuthorizationPolicy | Kind::RequestAuthentication => {
            Some("is not enforced yet: requests it would deny are let through")
        }
        _ => None,
    }
}

fn object<T: Decode>(
    node: &Node<'_>,
    metadata: Metadata,
    place: Place,
    context: &mut Context<'_>,
) -> Object<T> {
    let spec = T::decode(node, &Path::ROOT, context);
    Object { meta: finish_meta(metadata, place, context), spec }
}

fn finish_meta(metadata: Metadata, place: Place, context: &mut Context<'_>) -> Meta {
    // Of a refused resource its mistakes are enough to say.
    let kind = context.id.as_ref().filter(|_| !context.refused).map(|id| id.kind);
    if let Some(message) = kind.and_then(no_effect) {
        context.warning(Rule::NotSupported, &Path::ROOT, Problem::new(message).remedy("do not rely on it"));
    }
    let mut positions = std::mem::take(&mut context.positions);
    positions.shrink();
    let nameless = ResourceId::new(Kind::Namespace, "", "");
    Meta {
        // Without an identity the resource is refused and this value is dropped.
        id: context.id.clone().unwrap_or(nameless),
        labels: metadata.labels,
        annotations: metadata.annotations,
        creation_timestamp: metadata.creation_timestamp,
        appeared: None,
        place,
        positions,
    }
}

/// A resource whose contents stand under `spec`.
#[derive(Default)]
struct Spec<T>(T);

impl<T: Decode> Shape for Spec<T> {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["apiVersion", "kind", "metadata", "status"]);
        Self(fields.required("spec"))
    }
}

/// A resource that may say nothing under `spec`, which is then its default.
#[derive(Default)]
struct OptionalSpec<T>(T);

impl<T: Decode> Shape for OptionalSpec<T> {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["apiVersion", "kind", "metadata", "status"]);
        Self(fields.or_default("spec"))
    }
}

fn with_spec<T: Decode>(
    node: &Node<'_>,
    metadata: Metadata,
    place: Place,
    context: &mut Context<'_>,
) -> Arc<Object<T>> {
    let Object { meta, spec: Spec(spec) } = object(node, metadata, place, context);
    Arc::new(Object { meta, spec })
}

fn with_optional_spec<T: Decode>(
    node: &Node<'_>,
    metadata: Metadata,
    place: Place,
    context: &mut Context<'_>,
) -> Arc<Object<T>> {
    let Object { meta, spec: OptionalSpec(spec) } = object(node, metadata, place, context);
    Arc::new(Object { meta, spec })
}
