//! Text to resources: which documents are there, of which kind, and what is wrong with them.

mod kinds;
mod recognise;
mod stand_in;
#[cfg(test)]
mod tests;

use std::{num::NonZero, sync::Arc, thread};

#[cfg(test)]
pub(crate) use kinds::describe;
pub(crate) use kinds::no_effect;
use kinds::read_kind;
use recognise::{Unrecognised, recognise, warn_of_missing_version};

use crate::{
    AuthorizationPolicy, ConfigMap, DestinationRule, EndpointSlice, Endpoints, Gateway, Kind, Path,
    PeerAuthentication, Pod, RequestAuthentication, Secret, Service, ServiceEntry, Sidecar, Telemetry,
    VirtualService, WorkloadEntry,
    decode::{Context, Decode, Findings},
    finding::{Finding, Place, Problem, Rule, Severity},
    host,
    meta::{Meta, Metadata, Object, ResourceId, Timestamp},
    shown::name_or_quoted,
    yaml::{self, Node, Piece, Value},
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
    Node(Arc<Meta>),
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
            Self::Namespace(meta) | Self::Node(meta) => meta,
        }
    }

    /// Says since when it is there.
    pub(crate) fn set_appeared(&mut self, appeared: Option<Timestamp>) {
        self.meta_mut().appeared = appeared;
    }

    /// Whether it differs from another in nothing but where it is written and since when it is there.
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        let mut moved = self.clone();
        let (meta, there) = (moved.meta_mut(), other.meta());
        (meta.appeared, meta.place, meta.positions) =
            (there.appeared, there.place.clone(), there.positions.clone());
        moved == *other
    }

    fn meta_mut(&mut self) -> &mut Meta {
        match self {
            Self::Gateway(object) => &mut Arc::make_mut(object).meta,
            Self::VirtualService(object) => &mut Arc::make_mut(object).meta,
            Self::DestinationRule(object) => &mut Arc::make_mut(object).meta,
            Self::ServiceEntry(object) => &mut Arc::make_mut(object).meta,
            Self::WorkloadEntry(object) => &mut Arc::make_mut(object).meta,
            Self::Sidecar(object) => &mut Arc::make_mut(object).meta,
            Self::PeerAuthentication(object) => &mut Arc::make_mut(object).meta,
            Self::RequestAuthentication(object) => &mut Arc::make_mut(object).meta,
            Self::AuthorizationPolicy(object) => &mut Arc::make_mut(object).meta,
            Self::Telemetry(object) => &mut Arc::make_mut(object).meta,
            Self::Service(object) => &mut Arc::make_mut(object).meta,
            Self::EndpointSlice(object) => &mut Arc::make_mut(object).meta,
            Self::Endpoints(object) => &mut Arc::make_mut(object).meta,
            Self::Secret(object) => &mut Arc::make_mut(object).meta,
            Self::Pod(object) => &mut Arc::make_mut(object).meta,
            Self::ConfigMap(object) => &mut Arc::make_mut(object).meta,
            Self::Namespace(meta) | Self::Node(meta) => Arc::make_mut(meta),
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
    /// What stands in for those of them that must not be missed where there is no version before.
    pub stand_ins: Vec<Resource>,
    /// Whether something was refused whose name could not be learned, or skipped because its kind seems to be misspelt,
    /// so that any resource may stand behind it.
    pub has_nameless: bool,
    /// Everything noticed, in the order written.
    pub findings: Vec<Finding>,
}

/// Largest text that is read, in bytes.
const MAX_BYTES: usize = 64 << 20;

/// A thread for less costs more than it saves.
const BYTES_PER_THREAD: usize = 128 << 10;

/// Reads every resource in a YAML or JSON text of any number of documents; `source_name` is what findings call it.
///
/// A document or resource that is wrong costs only itself: the others are read, and findings tell what was refused.
/// At most 1,000 findings are kept. Texts over 64 MiB are refused whole. Long texts are read by several threads.
pub fn read(source_name: &str, text: &str, defaults: &ReadDefaults) -> Document {
    let file: Arc<str> = source_name.into();
    if text.len() > MAX_BYTES {
        let problem = Problem::new("is too large").found(format!("{} bytes", text.len()));
        let mut reader = Reader::new(file, defaults);
        reader.refuse_file(problem.expected(format!("at most {MAX_BYTES}")).remedy("split it"));
        return reader.finish();
    }
    let threads =
        thread::available_parallelism().map_or(1, NonZero::get).min(text.len() / BYTES_PER_THREAD + 1);
    read_in_pieces(&file, &Piece::several(text, threads), defaults)
}

/// Reads each piece by a thread of its own. What comes of it does not depend on how the text was cut, but for the words
/// about a document whose quotes or brackets never end.
fn read_in_pieces(file: &Arc<str>, pieces: &[Piece<'_>], defaults: &ReadDefaults) -> Document {
    let read = |piece: Piece<'_>| {
        let mut reader = Reader::new(Arc::clone(file), defaults);
        reader.read_text(piece);
        reader
    };
    let Some((first, others)) = pieces.split_first() else { return Document::default() };
    let reader = thread::scope(|scope| {
        let others: Vec<_> = others.iter().map(|piece| scope.spawn(|| read(*piece))).collect();
        others.into_iter().fold(read(*first), |reader, other| match other.join() {
            Ok(other) => reader.followed_by(other),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    });
    reader.finish()
}

struct Reader<'r> {
    file: Arc<str>,
    defaults: &'r ReadDefaults,
    findings: Findings,
    document: Document,
}

impl<'r> Reader<'r> {
    fn new(file: Arc<str>, defaults: &'r ReadDefaults) -> Self {
        Self { file, defaults, findings: Findings::default(), document: Document::default() }
    }

    /// Adds what the reader of the documents behind has read.
    fn followed_by(mut self, behind: Self) -> Self {
        self.document.resources.extend(behind.document.resources);
        self.document.refused.extend(behind.document.refused);
        self.document.stand_ins.extend(behind.document.stand_ins);
        self.document.has_nameless |= behind.document.has_nameless;
        self.findings.append(behind.findings);
        self
    }

    fn finish(self) -> Document {
        Document { findings: self.findings.into_list(&self.file), ..self.document }
    }

    fn read_text(&mut self, piece: Piece<'_>) {
        for document in yaml::documents(piece) {
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
            Err(Unrecognised::Misspelt(problem)) => {
                self.document.has_nameless = true;
                return self.push(Severity::Error, Rule::UnknownKind, place, problem);
            }
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
            (true, Some(id)) => {
                self.document.refused.push(id);
                self.stand_in(kind, node);
            }
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
            Some(id) => {
                self.document.refused.push(id);
                self.stand_in(kind, node);
            }
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
            let is_label = matches!(kind, Kind::Gateway | Kind::Service | Kind::Namespace);
            if is_label && metadata.name.len() > host::LONGEST_LABEL {
                let problem =
                    Problem::new(format!("is too long for the name of a {kind}")).found(&metadata.name);
                context.error(&at.field("name"), problem.expected("at most 63 characters"));
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
///
/// What can be no name is shown in its place: every finding repeats it, and it may be as long as a file.
fn quiet_id(kind: Kind, node: &Node<'_>, defaults: &ReadDefaults) -> Option<ResourceId> {
    let metadata = &node.member("metadata")?.value;
    let text = |name: &str| {
        metadata.member(name).and_then(|member| member.value.text()).filter(|text| !text.is_empty())
    };
    let namespace = match text("namespace") {
        _ if kind.is_cluster_wide() => "".into(),
        Some(namespace) => name_or_quoted(namespace).into(),
        None => defaults.namespace.clone(),
    };
    Some(ResourceId::new(kind, namespace, name_or_quoted(text("name")?)))
}
