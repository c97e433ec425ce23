//! The labels of a series, as Istio has them and as Telemetry changes them.

use std::borrow::Cow;

use snapshot::{LabelRule, MetricRule, Workload};

/// What Istio writes where it knows nothing.
pub(crate) const UNKNOWN: &str = "unknown";

/// The labels of one side of a call.
type Side = [&'static str; 8];

pub(crate) const SOURCE: Side = [
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_canonical_service",
    "source_canonical_revision",
    "source_cluster",
];

pub(crate) const DESTINATION: Side = [
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_cluster",
];

/// Names and values in order.
#[derive(Debug, Default)]
pub(crate) struct Labels(Vec<(Cow<'static, str>, String)>);

impl Labels {
    pub(crate) fn push(&mut self, name: &'static str, value: &str) {
        self.0.push((name.into(), value.to_owned()));
    }

    /// Adds what is known of one side.
    pub(crate) fn push_side(&mut self, side: &Side, workload: &Workload, principal: &str) {
        let values = [
            workload.name.as_str(),
            &workload.namespace,
            principal,
            &workload.app,
            &workload.version,
            &workload.canonical_service,
            &workload.canonical_revision,
            &workload.cluster,
        ];
        for (name, value) in side.iter().zip(values) {
            self.push(name, if value.is_empty() { UNKNOWN } else { value });
        }
    }

    /// The text of all of them, changed as a rule says; `cluster` is the name of the cluster.
    pub(crate) fn changed(mut self, rule: &MetricRule, cluster: &str) -> String {
        // Istio's expressions read what a call was, which no other change of a label alters.
        let values: Vec<_> =
            rule.labels.iter().map(|(name, change)| (name, self.after(change, cluster))).collect();
        for (name, value) in values {
            self.set(name, value);
        }
        let pairs = self.0.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
        pairs.collect::<Vec<_>>().join(",")
    }

    /// What a change makes of a label; `None` takes it away.
    fn after(&self, change: &LabelRule, cluster: &str) -> Option<String> {
        match change {
            LabelRule::Remove => None,
            LabelRule::Text(text) => Some(text.clone()),
            LabelRule::Label(other) => Some(self.value(other).unwrap_or(UNKNOWN).to_owned()),
            LabelRule::Cluster => Some(cluster.to_owned()),
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: Option<String>) {
        let at = self.0.iter().position(|(known, _)| known == name);
        match (at, value) {
            (Some(at), Some(value)) => self.0[at].1 = value,
            (Some(at), None) => _ = self.0.remove(at),
            (None, Some(value)) => self.0.push((name.to_owned().into(), value)),
            (None, None) => {}
        }
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
    fn what_is_not_known_is_said_so() {
        let workload = Workload { app: "a".to_owned(), ..Workload::default() };
        let mut labels = Labels::default();
        labels.push_side(&SOURCE, &workload, "");
        let labels = labels.changed(&MetricRule::default(), "");
        assert!(labels.contains("source_app=\"a\",source_version=\"unknown\""), "{labels}");
        assert!(labels.contains("source_principal=\"unknown\""), "{labels}");
    }

    #[test]
    fn labels_are_removed_changed_and_added() {
        let labels = || {
            let mut labels = Labels::default();
            labels.push("response_code", "200");
            labels.push("source_app", "a");
            labels
        };
        let rule = |name: &str, change| {
            let labels = [(name.to_owned(), change)].into();
            MetricRule { disabled: false, labels }
        };
        for (name, change, expected) in [
            ("source_app", LabelRule::Remove, "response_code=\"200\""),
            ("nothing", LabelRule::Remove, "response_code=\"200\",source_app=\"a\""),
            ("source_app", LabelRule::Text("b\"".to_owned()), "response_code=\"200\",source_app=\"b\\\"\""),
            (
                "code",
                LabelRule::Label("response_code"),
                "response_code=\"200\",source_app=\"a\",code=\"200\"",
            ),
            ("to", LabelRule::Cluster, "response_code=\"200\",source_app=\"a\",to=\"cluster\""),
        ] {
            assert_eq!(labels().changed(&rule(name, change), "cluster"), expected);
        }
    }

    #[test]
    fn values_are_those_before_any_change() {
        let mut labels = Labels::default();
        labels.push("response_code", "200");
        labels.push("request_protocol", "http");
        let changes = [
            ("request_protocol", LabelRule::Label("response_code")),
            ("response_code", LabelRule::Remove),
            ("status", LabelRule::Label("response_code")),
            ("via", LabelRule::Label("request_protocol")),
        ];
        let labels_of_rule = changes.map(|(name, change)| (name.to_owned(), change)).into();
        let changed = labels.changed(&MetricRule { disabled: false, labels: labels_of_rule }, "");
        assert_eq!(changed, "request_protocol=\"200\",status=\"200\",via=\"http\"");
    }

    #[test]
    fn values_cannot_end_their_quotes() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
