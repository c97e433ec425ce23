//! What the metrics call this workload.

use resources::Labels;
use snapshot::Workload;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_name_is_told_or_that_of_the_pod() {
        let told = own("pod", ("prod", "c1"), &Labels::new(), |name| Some(name.to_owned()));
        assert_eq!((told.name.as_str(), told.cluster.as_str()), ("ISTIO_META_WORKLOAD_NAME", "c1"));
        assert_eq!(own("pod", ("prod", "c1"), &Labels::new(), |_| None).canonical_service, "pod");
    }
}
