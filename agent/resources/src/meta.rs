//! Who a resource is, how it is labelled, and where it is written.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::Serialize;

use crate::{
    Kind, Path,
    decode::{Context, Decode, Fields, Shape},
    finding::{Finding, Place, Problem, Rule, Severity},
    host,
    labels::check_labels,
    yaml::{Node, Position},
};

/// Labels, annotations and selectors.
pub type Labels = BTreeMap<String, String>;

/// A resource of one kind with its metadata.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Object<T> {
    /// Identity, labels and origin.
    pub meta: Meta,
    /// What the kind itself says.
    pub spec: T,
}

/// What all kinds share.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Meta {
    /// Kind, namespace and name.
    pub id: ResourceId,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.annotations`.
    pub annotations: Labels,
    /// `metadata.creationTimestamp`; resources from files mostly have none.
    pub creation_timestamp: Option<Timestamp>,
    /// When it came, where it was not among the first: it counts as created then if nothing else is written.
    pub(crate) appeared: Option<Timestamp>,
    pub(crate) place: Place,
    pub(crate) positions: Positions,
}

impl Meta {
    /// The key by which conflicts are decided: the smallest wins. Oldest first, then name, then namespace in byte
    /// order; without a timestamp a resource counts as older than any with one, as in Istio, unless it came while others
    /// were in force: then it is younger than these.
    pub fn age(&self) -> (Option<Timestamp>, &str, &str) {
        (self.creation_timestamp.or(self.appeared), &self.id.name, &self.id.namespace)
    }

    /// What [`Self::age`] will be after a restart.
    fn written_age(&self) -> (Option<Timestamp>, &str, &str) {
        (self.creation_timestamp, &self.id.name, &self.id.namespace)
    }

    /// Why it wins a conflict with another, in words that follow its name. What was there first may not be after a
    /// restart.
    pub fn comes_first(&self, other: &Self) -> &'static str {
        if self.age() < other.age() && self.written_age() > other.written_age() {
            "which was there first (after a restart the order of names decides)"
        } else {
            "which comes first"
        }
    }

    /// The resource's namespace.
    pub fn namespace(&self) -> &str {
        &self.id.namespace
    }

    /// The resource's name.
    pub fn name(&self) -> &str {
        &self.id.name
    }

    /// Where the resource begins.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where the value at `path` is written; when it is not, the innermost part of the path that is.
    pub fn place_of(&self, path: &Path<'_>) -> Place {
        self.positions.find(path).map_or_else(|| self.place.clone(), |found| self.place.at(found))
    }

    /// Whether there is a value at `path`.
    pub fn writes(&self, path: &Path<'_>) -> bool {
        self.positions.exactly(path).is_some()
    }

    /// A finding about this resource at `path`.
    pub fn finding(&self, severity: Severity, rule: Rule, path: &Path<'_>, problem: Problem) -> Finding {
        let place = Some(self.place_of(path));
        Finding { severity, rule, place, resource: Some(self.id.clone()), path: path.to_string(), problem }
    }
}

/// The name under which a resource is known: kind, namespace and name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ResourceId {
    /// The kind.
    pub kind: Kind,
    /// The namespace; empty for kinds that live outside namespaces.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ResourceId {
    /// Puts an identity together.
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return write!(f, "{} {}", self.kind, self.name);
        }
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Reads `2026-01-02T03:04:05Z`, the only form the Kubernetes API writes.
    fn parse(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok().map(i64::from);
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
        let shaped = text.len() == 20 && marks.iter().all(|(at, mark)| text.as_bytes()[*at] == *mark);
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let real =
            (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
        let days = days_since_1970(year, month, day);
        (shaped && real).then_some(Self(((days * 24 + hour) * 60 + minute) * 60 + second))
    }
}

/// Days of the Gregorian calendar, counted in years that begin in March so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

impl Decode for Timestamp {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context);
        Self::parse(&text).unwrap_or_else(|| {
            let problem = Problem::new("is not a timestamp").found(&text).expected("`2026-01-02T03:04:05Z`");
            context.warning(Rule::Invalid, at, problem);
            Self::default()
        })
    }
}

/// `metadata` as written; the namespace is filled in by the reader.
#[derive(Default)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
    pub(crate) creation_timestamp: Option<Timestamp>,
}

impl Shape for Metadata {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&[
            "generateName",
            "selfLink",
            "uid",
            "resourceVersion",
            "generation",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "ownerReferences",
            "finalizers",
            "managedFields",
            "clusterName",
        ]);
        Self {
            name: fields.required("name"),
            namespace: fields.optional("namespace"),
            labels: fields.or_default("labels"),
            annotations: fields.or_default("annotations"),
            creation_timestamp: fields.optional("creationTimestamp"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if !self.name.is_empty() && !host::is_resource_name(&self.name) {
            let problem = Problem::new("is not a resource name").found(&self.name);
            let form = "at most 253 lower-case letters, digits, `-` and `.`";
            context.error(&at.field("name"), problem.expected(form));
        }
        if let Some(namespace) = self.namespace.as_ref().filter(|n| !n.is_empty() && !host::is_namespace(n)) {
            let problem = Problem::new("is not a namespace name").found(namespace);
            context.error(&at.field("namespace"), problem.expected("lower-case letters, digits and `-`"));
        }
        check_labels(&self.labels, &at.field("labels"), context);
    }
}

/// Where each value of a resource is written, found by the hash of its path.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Positions(Vec<(u32, Position)>);

impl Positions {
    /// None yet, with room for those of a small resource.
    pub(crate) fn with_room() -> Self {
        Self(Vec::with_capacity(64))
    }

    pub(crate) fn record(&mut self, path: &Path<'_>, position: Position) {
        self.0.push((path.hash(), position));
    }

    /// The position of `path` or of the nearest part around it. Reads everything: it runs once per finding.
    pub(crate) fn find(&self, path: &Path<'_>) -> Option<Position> {
        let around = std::iter::successors(Some(path), |path| path.parent());
        around.filter_map(|path| self.exactly(path)).next()
    }

    fn exactly(&self, path: &Path<'_>) -> Option<Position> {
        self.0.iter().find(|(hash, _)| *hash == path.hash()).map(|(_, position)| *position)
    }

    pub(crate) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_count_seconds() {
        assert_eq!(Timestamp::parse("1970-01-01T00:00:00Z"), Some(Timestamp(0)));
        assert_eq!(Timestamp::parse("2000-02-29T12:00:00Z"), Some(Timestamp(951_825_600)));
        assert_eq!(Timestamp::parse("2026-11-21T00:00:00Z"), Some(Timestamp(1_795_219_200)));
        for text in
            ["", "2026-13-01T00:00:00Z", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00", "é026-01-01T00:00:0Z"]
        {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
