//! What the metrics call the two sides of a call.

use resources::Labels;
use snapshot::Workload;

/// What Istio writes where it knows nothing.
pub(crate) const UNKNOWN: &str = "unknown";

/// This workload: named by `ISTIO_META_WORKLOAD_NAME`, else like its pod, the rest from labels as in Istio.
pub(crate) fn own(
    pod: &str,
    (namespace, cluster): (&str, &str),
    labels: &Labels,
    variable: impl Fn(&str) -> Option<String>,
) -> Workload {
    let name = variable("ISTIO_META_WORKLOAD_NAME").unwrap_or_else(|| pod.to_owned());
    Workload { cluster, ..Workload::of_labels(&name, namespace, labels) }.to_owned()
}

/// The labels of one side of a call, `source` or `destination`.
pub(crate) fn labels(side: &str, workload: &Workload, principal: &str) -> String {
    let pairs = [
        ("workload", workload.name.as_str()),
        ("workload_namespace", &workload.namespace),
        ("principal", principal),
        ("app", &workload.app),
        ("version", &workload.version),
        ("canonical_service", &workload.canonical_service),
        ("canonical_revision", &workload.canonical_revision),
        ("cluster", &workload.cluster),
    ];
    let pairs = pairs.map(|(name, value)| {
        let value = if value.is_empty() { UNKNOWN } else { value };
        format!("{side}_{name}=\"{}\"", escaped(value))
    });
    pairs.join(",")
}

/// A label's value as the text format wants it.
pub(crate) fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_name_is_told_or_that_of_the_pod() {
        let told = own("pod", ("prod", "c1"), &Labels::new(), |name| Some(name.to_owned()));
        assert_eq!((told.name.as_str(), told.cluster.as_str()), ("ISTIO_META_WORKLOAD_NAME", "c1"));
        assert_eq!(own("pod", ("prod", "c1"), &Labels::new(), |_| None).canonical_service, "pod");
    }

    #[test]
    fn what_is_not_known_is_said_so() {
        let workload = Workload { app: "a".to_owned(), ..Workload::default() };
        let labels = labels("source", &workload, "");
        assert!(labels.contains("source_app=\"a\",source_version=\"unknown\""), "{labels}");
        assert!(labels.contains("source_principal=\"unknown\""), "{labels}");
    }

    #[test]
    fn values_cannot_end_their_quotes() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
