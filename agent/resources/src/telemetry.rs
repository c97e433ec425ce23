//! `telemetry.istio.io` Telemetry: what is logged, counted and traced.

mod metrics;
mod tracing;

use std::collections::BTreeMap;

pub use metrics::{MetricMatch, MetricOverride, Metrics, TagOverride};
pub use tracing::{CustomTag, Tracing};

use crate::{
    Path, PolicyScope,
    decode::{Context, Decode, Fields, Shape, word_of},
    finding::Problem,
    yaml::Node,
};

/// Spec of a Telemetry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// Whom the settings are for.
    pub scope: PolicyScope,
    /// Traces.
    pub tracing: Vec<Tracing>,
    /// Metrics.
    pub metrics: Vec<Metrics>,
    /// Access logs.
    pub access_logging: Vec<AccessLogging>,
}

// Percentages are finite numbers, so equality is an equivalence.
impl Eq for Telemetry {}

impl Shape for Telemetry {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            scope: PolicyScope::read(fields),
            tracing: fields.planned("tracing").unwrap_or_default(),
            metrics: fields.or_default("metrics"),
            access_logging: fields.or_default("accessLogging"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        tracing::warn_of_several(self, at, context);
    }
}

/// Access log of some providers (`AccessLogging`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AccessLogging {
    /// Which side of calls is logged (`match.mode`).
    pub mode: WorkloadMode,
    /// Names of the providers that write; empty means the mesh's default.
    pub providers: Vec<AccessLogger>,
    /// Whether nothing is logged; absent means as the next wider Telemetry says.
    pub disabled: Option<bool>,
    /// CEL expression that decides what is logged; absent means all.
    pub filter: Option<String>,
}

impl Shape for AccessLogging {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let Selector(mode) = fields.or_default("match");
        let filter: Option<Filter> = fields.optional("filter");
        Self {
            mode,
            providers: fields.or_default("providers"),
            disabled: fields.optional("disabled"),
            filter: filter.map(|filter| filter.0).filter(|expression| !expression.is_empty()),
        }
    }
}

/// Which side of a call is meant (`WorkloadMode`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WorkloadMode {
    /// Both sides.
    #[default]
    ClientAndServer,
    /// The caller's; at a gateway all of it.
    Client,
    /// The callee's.
    Server,
}

impl Decode for WorkloadMode {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let words = [
            ("CLIENT_AND_SERVER", Self::ClientAndServer),
            ("CLIENT", Self::Client),
            ("SERVER", Self::Server),
        ];
        word_of(node, &words, at, context)
    }
}

/// `LogSelector` and `TracingSelector`.
#[derive(Default)]
struct Selector(WorkloadMode);

impl Shape for Selector {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.or_default("mode"))
    }
}

#[derive(Default)]
struct Filter(String);

impl Shape for Filter {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.or_default("expression"))
    }
}

/// Who writes an access log (`ProviderRef`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AccessLogger(pub String);

impl AccessLogger {
    /// Whether it is the log that every proxy of Istio has.
    pub fn is_own(&self) -> bool {
        self.0 == "envoy"
    }
}

impl Shape for AccessLogger {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let ProviderName(name) = ProviderName::read(fields);
        Self(name)
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        ProviderName(self.0.clone()).check(at, context);
    }
}

/// Name of an extension provider of the mesh (`ProviderRef`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProviderName(pub String);

impl Shape for ProviderName {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.required("name"))
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.0.is_empty() {
            context.error(&at.field("name"), Problem::new("is empty").expected("the name of a provider"));
        }
    }
}

/// An object by names, read in order.
type ByName<T> = BTreeMap<String, T>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Resource, testing};

    fn text(spec: &str) -> String {
        format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: mesh}}\nspec: {spec}\n"
        )
    }

    fn telemetry(spec: &str) -> Telemetry {
        let Resource::Telemetry(object) = testing::valid(&text(spec)) else { panic!("no Telemetry") };
        object.spec.clone()
    }

    /// With a warning for what is not supported yet.
    fn of_the_future(spec: &str) -> Telemetry {
        let mut document = testing::document(&text(spec));
        let said: Vec<_> = document.findings.iter().map(ToString::to_string).collect();
        assert!(said[0].contains("spec.tracing: is not supported yet"), "{said:#?}");
        assert!(said[1].contains("reportingInterval: is not supported yet") && said.len() == 2, "{said:#?}");
        let Some(Resource::Telemetry(object)) = document.resources.pop() else { panic!("no Telemetry") };
        object.spec.clone()
    }

    #[test]
    fn access_logs_are_switched() {
        let read = telemetry(
            "{accessLogging: [{match: {mode: SERVER}, providers: [{name: envoy}], disabled: true, \
             filter: {expression: 'response.code >= 400'}}]}",
        );
        let log = &read.access_logging[0];
        assert_eq!((log.mode, log.disabled), (WorkloadMode::Server, Some(true)));
        assert!(log.providers[0].is_own());
        assert_eq!(log.filter.as_deref(), Some("response.code >= 400"));
        for spec in ["", "{}", "{accessLogging: [{}]}"] {
            telemetry(spec);
        }
    }

    #[test]
    fn traces_and_metrics_are_read() {
        let read = of_the_future(
            "{tracing: [{match: {mode: CLIENT}, providers: [{name: otel}], randomSamplingPercentage: 12.5, \
             disableSpanReporting: false, customTags: {a: {literal: {value: x}}, b: {environment: {name: N, \
             defaultValue: y}}, c: {header: {name: h}}, d: {formatter: {value: '%PROTOCOL%'}}}, \
             useRequestIdForTraceSampling: true, enableIstioTags: false, disableContextPropagation: true}], \
             metrics: [{providers: [{name: prometheus}], reportingInterval: 10s, overrides: [{match: \
             {metric: REQUEST_COUNT, mode: SERVER}, disabled: false, tagOverrides: {a: {operation: REMOVE}, \
             b: {value: 'request.host'}}}, {match: {customMetric: own}}]}]}",
        );
        let tracing = &read.tracing[0];
        assert_eq!(tracing.random_sampling_percentage, Some(12.5));
        let environment =
            CustomTag::Environment { name: "N".to_owned(), default_value: Some("y".to_owned()) };
        assert_eq!(tracing.custom_tags["b"], environment);
        let metrics = &read.metrics[0];
        assert_eq!(metrics.reporting_interval, Some(Duration::from_secs(10)));
        assert_eq!(metrics.overrides[0].tag_overrides["a"], TagOverride::Remove);
        assert_eq!(metrics.overrides[0].metric, MetricMatch::Standard("REQUEST_COUNT"));
        assert_eq!(metrics.overrides[1].metric, MetricMatch::Custom("own".to_owned()));
    }

    #[test]
    fn mistakes_are_one_message_each() {
        let cases = [
            (
                "{accessLogging: [{match: {mode: SEVRER}}]}",
                "accessLogging[0].match.mode: is not a known word",
            ),
            ("{accessLogging: [{providers: [{}]}]}", "accessLogging[0].providers[0].name: is missing"),
            ("{accessLogging: [{providers: [{name: ''}]}]}", "accessLogging[0].providers[0].name: is empty"),
            ("{accessLoging: [{}]}", "did you mean `accessLogging`?"),
            ("{tracing: [{}, {}]}", "spec.tracing: has several items, of which only the first counts"),
            (
                "{tracing: [{providers: [{name: a}, {name: b}]}]}",
                "spec.tracing[0].providers: has several items",
            ),
            (
                "{tracing: [{randomSamplingPercentage: 101}]}",
                "randomSamplingPercentage: is no percentage (found `101`",
            ),
            ("{tracing: [{randomSamplingPercentage: -1}]}", "randomSamplingPercentage: is no percentage"),
            ("{tracing: [{customTags: {a: {}}}]}", "customTags[a]: has no value (expected one of"),
            (
                "{tracing: [{customTags: {a: {literal: {value: x}, header: {name: y}}}}]}",
                "customTags[a]: has several values (found `literal, header`; expected one of",
            ),
            (
                "{tracing: [{customTags: {a: {literal: {value: ''}}}}]}",
                "customTags[a].literal.value: is empty",
            ),
            ("{tracing: [{customTags: {a: {header: {}}}}]}", "customTags[a].header.name: is missing"),
            (
                "{metrics: [{reportingInterval: 1us}]}",
                "reportingInterval: is not a whole number of milliseconds",
            ),
            ("{metrics: [{overrides: [{match: {metric: REQUESTS}}]}]}", "match.metric: is not a known word"),
            ("{metrics: [{overrides: [{match: {customMetric: ''}}]}]}", "match.customMetric: is empty"),
            (
                "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT, customMetric: a}}]}]}",
                "match: has both `metric` and `customMetric`",
            ),
            (
                "{metrics: [{overrides: [{tagOverrides: {a: {}}}]}]}",
                "tagOverrides[a].value: is missing with operation UPSERT",
            ),
            (
                "{metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE, value: b}}}]}]}",
                "tagOverrides[a].value: has no meaning with operation REMOVE",
            ),
        ];
        testing::assert_complaints(&cases, text);
    }
}
