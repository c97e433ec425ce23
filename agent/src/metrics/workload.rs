//! What the metrics call this workload.

use resources::Labels;

/// The workload's names in Istio's labels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) app: String,
    pub(crate) version: String,
    pub(crate) canonical_service: String,
    pub(crate) canonical_revision: String,
    pub(crate) cluster: String,
    /// SPIFFE identity, when it has one.
    pub(crate) principal: String,
}

/// What Istio writes where it knows nothing.
pub(crate) const UNKNOWN: &str = "unknown";

impl Workload {
    /// Names as Istio works them out: `ISTIO_META_WORKLOAD_NAME` and `ISTIO_META_CLUSTER_ID` from the environment,
    /// the rest from labels.
    pub(crate) fn new(
        pod: &str,
        namespace: &str,
        labels: &Labels,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let label = |names: &[&str]| names.iter().find_map(|name| labels.get(*name)).cloned();
        let name = variable("ISTIO_META_WORKLOAD_NAME").unwrap_or_else(|| pod.to_owned());
        let canonical = label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
        let revision =
            label(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
        let unknown = || UNKNOWN.to_owned();
        Self {
            app: label(&["app"]).unwrap_or_else(unknown),
            version: label(&["version"]).unwrap_or_else(unknown),
            canonical_service: canonical.unwrap_or_else(|| name.clone()),
            canonical_revision: revision.unwrap_or_else(|| "latest".to_owned()),
            cluster: variable("ISTIO_META_CLUSTER_ID").unwrap_or_else(|| "Kubernetes".to_owned()),
            principal: unknown(),
            namespace: namespace.to_owned(),
            name,
        }
    }

    /// A workload nobody knows.
    pub(crate) fn unknown() -> Self {
        let unknown = || UNKNOWN.to_owned();
        Self {
            name: unknown(),
            namespace: unknown(),
            app: unknown(),
            version: unknown(),
            canonical_service: unknown(),
            canonical_revision: unknown(),
            cluster: unknown(),
            principal: unknown(),
        }
    }

    /// The labels of one side of a request, `source` or `destination`.
    pub(crate) fn labels(&self, side: &str) -> String {
        let pairs = [
            ("workload", &self.name),
            ("workload_namespace", &self.namespace),
            ("principal", &self.principal),
            ("app", &self.app),
            ("version", &self.version),
            ("canonical_service", &self.canonical_service),
            ("canonical_revision", &self.canonical_revision),
            ("cluster", &self.cluster),
        ];
        let pairs = pairs.map(|(name, value)| format!("{side}_{name}=\"{}\"", escaped(value)));
        pairs.join(",")
    }
}

/// A label's value as the text format wants it.
pub(crate) fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_labels_as_in_istio() {
        let labels: Labels =
            [("app", "reviews"), ("version", "v2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let workload = Workload::new("reviews-7d4-x", "prod", &labels, |_| None);
        assert_eq!(
            (workload.canonical_service.as_str(), workload.canonical_revision.as_str()),
            ("reviews", "v2")
        );
        let nameless = Workload::new("pod", "prod", &Labels::new(), |name| Some(name.to_owned()));
        assert_eq!((nameless.name.as_str(), nameless.app.as_str()), ("ISTIO_META_WORKLOAD_NAME", "unknown"));
        assert_eq!(nameless.canonical_service, nameless.name);
    }

    #[test]
    fn values_cannot_end_their_quotes() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
