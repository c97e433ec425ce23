//! Text to resources: which documents are there, of which kind, and what is wrong with them.

mod recognise;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use recognise::{Unrecognised, recognise, warn_of_missing_version};

use crate::{
    AuthorizationPolicy, ConfigMap, DestinationRule, EndpointSlice, Endpoints, Gateway, Kind, Path,
    PeerAuthentication, Pod, RequestAuthentication, Secret, Service, ServiceEntry, Sidecar, Telemetry,
    VirtualService, WorkloadEntry,
    decode::{Context, Decode, Fields, Findings, Shape},
    finding::{Finding, Place, Problem, Rule, Severity},
    meta::{Meta, Metadata, Object, ResourceId},
    yaml::{self, Node, Value},
};

/// What a text says about nothing in particular.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadDefaults {
    /// Namespace of resources that name none.
    pub namespace: Arc<str>,
}

impl Default for ReadDefaults {
    fn default() -> Self {
        Self { namespace: "default".into() }
    }
}

/// A resource of any kind that is read whole.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the variants are the kinds' own names")]
pub enum Resource {
    Gateway(Arc<Object<Gateway>>),
    VirtualService(Arc<Object<VirtualService>>),
    DestinationRule(Arc<Object<DestinationRule>>),
    ServiceEntry(Arc<Object<ServiceEntry>>),
    WorkloadEntry(Arc<Object<WorkloadEntry>>),
    Sidecar(Arc<Object<Sidecar>>),
    PeerAuthentication(Arc<Object<PeerAuthentication>>),
    RequestAuthentication(Arc<Object<RequestAuthentication>>),
    AuthorizationPolicy(Arc<Object<AuthorizationPolicy>>),
    Telemetry(Arc<Object<Telemetry>>),
    Service(Arc<Object<Service>>),
    EndpointSlice(Arc<Object<EndpointSlice>>),
    Endpoints(Arc<Object<Endpoints>>),
    Secret(Arc<Object<Secret>>),
    Pod(Arc<Object<Pod>>),
    ConfigMap(Arc<Object<ConfigMap>>),
    Namespace(Arc<Meta>),
}

impl Resource {
    /// Identity, labels and origin.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Gateway(object) => &object.meta,
            Self::VirtualService(object) => &object.meta,
            Self::DestinationRule(object) => &object.meta,
            Self::ServiceEntry(object) => &object.meta,
            Self::WorkloadEntry(object) => &object.meta,
            Self::Sidecar(object) => &object.meta,
            Self::PeerAuthentication(object) => &object.meta,
            Self::RequestAuthentication(object) => &object.meta,
            Self::AuthorizationPolicy(object) => &object.meta,
            Self::Telemetry(object) => &object.meta,
            Self::Service(object) => &object.meta,
            Self::EndpointSlice(object) => &object.meta,
            Self::Endpoints(object) => &object.meta,
            Self::Secret(object) => &object.meta,
            Self::Pod(object) => &object.meta,
            Self::ConfigMap(object) => &object.meta,
            Self::Namespace(meta) => meta,
        }
    }

    /// The name under which the resource is known.
    pub fn id(&self) -> &ResourceId {
        &self.meta().id
    }
}

/// What one text holds.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// The valid resources, in the order written.
    pub resources: Vec<Resource>,
    /// Resources that were refused but whose name is known.
    pub refused: Vec<ResourceId>,
    /// Whether something was refused whose name could not be learned, so that any resource may stand behind it.
    pub has_nameless: bool,
    /// Everything noticed, in the order written.
    pub findings: Vec<Finding>,
}

/// Largest text that is read, in bytes.
const MAX_BYTES: usize = 64 << 20;

/// Reads every resource in a YAML or JSON text of any number of documents; `source_name` is what findings call it.
///
/// A document or resource that is wrong costs only itself: the others are read, and findings tell what was refused.
/// At most 1,000 findings are kept. Texts over 64 MiB are refused whole.
pub fn read(source_name: &str, text: &str, defaults: &ReadDefaults) -> Document {
    let mut reader = Reader {
        file: source_name.into(),
        defaults,
        findings: Findings::default(),
        document: Document::default(),
    };
    if text.len() > MAX_BYTES {
        let problem = Problem::new("is too large").found(format!("{} bytes", text.len()));
        reader.refuse_file(problem.expected(format!("at most {MAX_BYTES}")).remedy("split it"));
    } else {
        reader.read_text(text);
    }
    Document { findings: reader.findings.into_list(&reader.file), ..reader.document }
}

struct Reader<'r> {
    file: Arc<str>,
    defaults: &'r ReadDefaults,
    findings: Findings,
    document: Document,
}

impl Reader<'_> {
    fn read_text(&mut self, text: &str) {
        for document in yaml::documents(text) {
            match document {
                Ok(node) => self.read_document(&node, Inherited::default()),
                Err(error) => {
                    let place = self.whole().at(error.position);
                    self.refuse_nameless(place, error.problem);
                }
            }
        }
    }

    /// Reads one resource or list.
    fn read_document(&mut self, node: &Node<'_>, list: Inherited<'_>) {
        let place = self.whole().at(node.position);
        if !matches!(node.value, Value::Object(_)) {
            let problem = Problem::new("a document is no resource").found(node.form());
            return self.refuse_nameless(
                place,
                problem.expected("an object with `apiVersion`, `kind` and `metadata`"),
            );
        }
        let kind_of = |name: &str| text_of(node, name).map(str::to_owned);
        let Some(kind_name) = kind_of("kind").or(list.kind.map(str::to_owned)) else {
            let near = kind_of("Kind").map_or("give it a `kind`", |_| "write `kind` in lower case");
            return self.refuse_nameless(place, Problem::new("a document has no `kind`").remedy(near));
        };
        if let (Some(of), Some(items)) = (kind_name.strip_suffix("List"), node.member("items")) {
            let kind = (!of.is_empty()).then_some(of);
            let api_version = kind.and_then(|_| text_of(node, "apiVersion"));
            return self.read_list(&items.value, Inherited { kind, api_version });
        }
        self.read_resource(&kind_name, node, list.api_version, place);
    }

    fn read_list(&mut self, items: &Node<'_>, list: Inherited<'_>) {
        match &items.value {
            Value::List(items) => items.iter().for_each(|item| self.read_document(item, list)),
            _ if items.is_null() => {}
            _ => {
                let problem =
                    Problem::new("the `items` of a list have the wrong type").found(items.describe());
                self.refuse_nameless(
                    self.whole().at(items.position),
                    problem.expected("a list of resources"),
                );
            }
        }
    }

    fn read_resource(&mut self, kind_name: &str, node: &Node<'_>, of_list: Option<&str>, place: Place) {
        let api_version = text_of(node, "apiVersion").or(of_list);
        let kind = match recognise(kind_name, api_version, node) {
            Ok(kind) => kind,
            Err(Unrecognised::Kind(rule, problem)) => return self.skip(rule, place, problem),
            Err(Unrecognised::Version(kind, problem)) => return self.refuse_version(kind, node, problem),
        };
        let mut context = Context::new(&self.file, &mut self.findings, node.position);
        context.hides_values = kind == Kind::Secret;
        context.is_planned = no_effect(kind).is_some();
        let metadata = read_metadata(kind, node, self.defaults, &mut context);
        if api_version.is_none() {
            warn_of_missing_version(kind, node, &mut context);
        }
        let resource = read_kind(kind, node, metadata, place, &mut context);
        let (refused, id) = (context.refused, context.id);
        match (refused, id) {
            (false, _) => self.document.resources.push(resource),
            (true, Some(id)) => self.document.refused.push(id),
            (true, None) => self.document.has_nameless = true,
        }
    }

    /// A known kind in a version that is not: nothing else about it is worth saying.
    fn refuse_version(&mut self, kind: Kind, node: &Node<'_>, problem: Problem) {
        let mut context = Context::new(&self.file, &mut self.findings, node.position);
        context.id = quiet_id(kind, node, self.defaults);
        let at = Path::ROOT.field("apiVersion");
        if let Some(member) = node.member("apiVersion") {
            context.positions.record(&at, member.value.position);
        }
        context.error(&at, problem);
        match context.id {
            Some(id) => self.document.refused.push(id),
            None => self.document.has_nameless = true,
        }
    }

    fn skip(&mut self, rule: Rule, place: Place, problem: Problem) {
        self.push(Severity::Warning, rule, place, problem);
    }

    fn refuse_nameless(&mut self, place: Place, problem: Problem) {
        self.document.has_nameless = true;
        self.push(Severity::Error, Rule::Syntax, place, problem);
    }

    fn refuse_file(&mut self, problem: Problem) {
        self.refuse_nameless(self.whole(), problem);
    }

    fn push(&mut self, severity: Severity, rule: Rule, place: Place, problem: Problem) {
        let place = Some(place);
        self.findings.push(Finding { severity, rule, place, resource: None, path: String::new(), problem });
    }

    fn whole(&self) -> Place {
        Place::whole(self.file.clone())
    }
}

/// What the items of a list of one kind need not say, as the Kubernetes API leaves it out there.
#[derive(Clone, Copy, Default)]
struct Inherited<'l> {
    kind: Option<&'l str>,
    api_version: Option<&'l str>,
}

fn text_of<'n>(node: &'n Node<'_>, name: &str) -> Option<&'n str> {
    node.member(name).and_then(|member| member.value.text())
}

fn read_metadata(
    kind: Kind,
    node: &Node<'_>,
    defaults: &ReadDefaults,
    context: &mut Context<'_>,
) -> Metadata {
    context.id = quiet_id(kind, node, defaults);
    let at = Path::ROOT.field("metadata");
    match node.member("metadata") {
        Some(member) => {
            context.positions.record(&at, member.key_position);
            let metadata = Metadata::decode(&member.value, &at, context);
            if kind == Kind::Gateway && metadata.name.contains('.') {
                let problem = Problem::new("holds a dot, which the name of a Gateway cannot");
                let problem = problem.found(&metadata.name).expected("letters, digits and `-`");
                context.error(&at.field("name"), problem);
            }
            metadata
        }
        None => {
            context.error(&at, Problem::new("is missing").remedy("give the resource a `metadata.name`"));
            Metadata::default()
        }
    }
}

/// The identity as far as it can be read, without a word about mistakes.
fn quiet_id(kind: Kind, node: &Node<'_>, defaults: &ReadDefaults) -> Option<ResourceId> {
    let metadata = &node.member("metadata")?.value;
    let text = |name: &str| {
        metadata.member(name).and_then(|member| member.value.text()).filter(|text| !text.is_empty())
    };
    let namespace = match text("namespace") {
        _ if kind.is_cluster_wide() => "".into(),
        Some(namespace) => namespace.into(),
        None => defaults.namespace.clone(),
    };
    Some(ResourceId::new(kind, namespace, text("name")?))
}

fn read_kind(
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
        Kind::ServiceEntry => Resource::ServiceEntry(with_spec(node, metadata, place, context)),
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
    }
}

/// Tells every field of a kind; a kind without a line here does not compile.
#[cfg(test)]
pub(crate) fn describe(kind: Kind, table: &mut crate::field_table::Table) {
    match kind {
        Kind::Gateway => Spec::<Gateway>::describe("", table),
        Kind::VirtualService => Spec::<VirtualService>::describe("", table),
        Kind::DestinationRule => Spec::<DestinationRule>::describe("", table),
        Kind::ServiceEntry => Spec::<ServiceEntry>::describe("", table),
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
        Kind::Namespace => Metadata::describe("metadata", table),
    }
}

/// What is said of a kind that is read but not acted on yet.
pub(crate) fn no_effect(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::AuthorizationPolicy | Kind::RequestAuthentication => {
            Some("is not enforced yet: requests it would deny are let through")
        }
        Kind::Telemetry => Some("is not supported yet and has no effect"),
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
