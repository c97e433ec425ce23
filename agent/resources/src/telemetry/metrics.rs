//! Which metrics are kept, and under which labels.

use std::time::Duration;

use super::{ByName, ProviderName, WorkloadMode};
use crate::{
    Path,
    decode::{Context, Decode, Fields, Interval, Shape, word_of},
    finding::Problem,
    yaml::Node,
};

/// Metrics of some providers (`Metrics`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Metrics {
    /// Names of the providers; empty means the mesh's default.
    pub providers: Vec<ProviderName>,
    /// Changes, later ones winning.
    pub overrides: Vec<MetricOverride>,
    /// How often TCP connections that stay open are reported; 5 s when absent.
    pub reporting_interval: Option<Duration>,
}

impl Shape for Metrics {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let interval: Option<Interval> = fields.planned("reportingInterval");
        Self {
            providers: fields.or_default("providers"),
            overrides: fields.or_default("overrides"),
            reporting_interval: interval.map(Interval::get),
        }
    }
}

/// A change of some metrics (`MetricsOverrides`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MetricOverride {
    /// Which metrics.
    pub metric: MetricMatch,
    /// On which side of calls.
    pub mode: WorkloadMode,
    /// Whether they are not kept.
    pub disabled: Option<bool>,
    /// Changes of labels, by name.
    pub tag_overrides: ByName<TagOverride>,
}

impl Shape for MetricOverride {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let Selector { metric, mode } = fields.or_default("match");
        Self {
            metric,
            mode,
            disabled: fields.optional("disabled"),
            tag_overrides: fields.or_default("tagOverrides"),
        }
    }
}

/// Metrics by name (`MetricSelector`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum MetricMatch {
    /// All of them.
    #[default]
    All,
    /// One of Istio's own, as its interface spells it, such as `REQUEST_COUNT`.
    Standard(&'static str),
    /// A metric of this name.
    Custom(String),
}

#[derive(Default)]
struct Selector {
    metric: MetricMatch,
    mode: WorkloadMode,
}

impl Shape for Selector {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let standard: Option<StandardMetric> = fields.optional("metric");
        let custom: Option<String> = fields.optional("customMetric");
        let metric = match (standard, custom) {
            (Some(_), Some(_)) => {
                fields
                    .error_here(Problem::new("has both `metric` and `customMetric`").expected("one of them"));
                MetricMatch::All
            }
            (Some(StandardMetric("" | "ALL_METRICS")), None) | (None, None) => MetricMatch::All,
            (Some(StandardMetric(name)), None) => MetricMatch::Standard(name),
            (None, Some(name)) => {
                if name.is_empty() {
                    let problem = Problem::new("is empty").expected("the name of a metric");
                    fields.error("customMetric", problem);
                }
                MetricMatch::Custom(name)
            }
        };
        Self { metric, mode: fields.or_default("mode") }
    }
}

/// `IstioMetric`.
#[derive(Clone, Copy, Default)]
struct StandardMetric(&'static str);

const STANDARD: [&str; 11] = [
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
];

impl Decode for StandardMetric {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word_of(node, &STANDARD.map(|name| (name, Self(name))), at, context)
    }
}

/// What becomes of a label (`TagOverride`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TagOverride {
    /// It gets the value of this CEL expression.
    Upsert(String),
    /// It is taken away.
    Remove,
}

impl Default for TagOverride {
    fn default() -> Self {
        Self::Upsert(String::new())
    }
}

#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Operation {
    #[default]
    Upsert,
    Remove,
}

impl Decode for Operation {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word_of(node, &[("UPSERT", Self::Upsert), ("REMOVE", Self::Remove)], at, context)
    }
}

impl Shape for TagOverride {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let operation: Operation = fields.or_default("operation");
        let value: String = fields.or_default("value");
        match (operation, value.is_empty()) {
            (Operation::Upsert, true) => {
                let problem = Problem::new("is missing with operation UPSERT");
                fields.error("value", problem.expected("an expression").remedy("or use operation REMOVE"));
            }
            (Operation::Remove, false) => {
                let problem = Problem::new("has no meaning with operation REMOVE");
                fields.error("value", problem.remedy("remove it"));
            }
            _ => {}
        }
        if operation == Operation::Remove { Self::Remove } else { Self::Upsert(value) }
    }
}
