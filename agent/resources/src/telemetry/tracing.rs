//! Which requests are traced, and what spans are told.

use super::{ByName, ProviderName, Selector, Telemetry, WorkloadMode};
use crate::{
    Path,
    decode::{Context, Fields, Shape},
    finding::{Problem, Rule},
};

/// Traces of some providers (`Tracing`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tracing {
    /// Which side of calls is traced (`match.mode`).
    pub mode: WorkloadMode,
    /// Names of the providers; only the first counts, as in Istio.
    pub providers: Vec<ProviderName>,
    /// Share of requests without a decision of their own that are traced, 0–100.
    pub random_sampling_percentage: Option<f64>,
    /// Whether spans are not sent.
    pub disable_span_reporting: Option<bool>,
    /// What spans are told besides, by name.
    pub custom_tags: ByName<CustomTag>,
    /// Whether the decision is kept in `x-request-id`.
    pub use_request_id_for_trace_sampling: Option<bool>,
    /// Whether spans carry Istio's own tags.
    pub enable_istio_tags: Option<bool>,
    /// Whether trace headers are not sent on.
    pub disable_context_propagation: Option<bool>,
}

impl Shape for Tracing {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let Selector(mode) = fields.or_default("match");
        Self {
            mode,
            providers: fields.or_default("providers"),
            random_sampling_percentage: fields.optional("randomSamplingPercentage"),
            disable_span_reporting: fields.optional("disableSpanReporting"),
            custom_tags: fields.or_default("customTags"),
            use_request_id_for_trace_sampling: fields.optional("useRequestIdForTraceSampling"),
            enable_istio_tags: fields.optional("enableIstioTags"),
            disable_context_propagation: fields.optional("disableContextPropagation"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if let Some(share) = self.random_sampling_percentage.filter(|share| !(0.0..=100.0).contains(share)) {
            let problem = Problem::new("is no percentage").found(share).expected("0–100");
            context.error(&at.field("randomSamplingPercentage"), problem);
        }
    }
}

/// Warns where Istio takes only the first of several.
pub(super) fn warn_of_several(telemetry: &Telemetry, at: &Path<'_>, context: &mut Context<'_>) {
    let several = || Problem::new("has several items, of which only the first counts").remedy("keep one");
    let tracing = at.field("tracing");
    if telemetry.tracing.len() > 1 {
        context.warning(Rule::Invalid, &tracing, several());
    }
    for (index, _) in telemetry.tracing.iter().enumerate().filter(|(_, tracing)| tracing.providers.len() > 1)
    {
        context.warning(Rule::Invalid, &tracing.index(index).field("providers"), several());
    }
}

/// Where the value of a tag comes from (`CustomTag`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CustomTag {
    /// This text.
    Literal(String),
    /// A variable of the proxy's environment.
    Environment {
        /// Its name.
        name: String,
        /// What stands for a variable that is not set.
        default_value: Option<String>,
    },
    /// A header of the request.
    Header {
        /// Its name.
        name: String,
        /// What stands for a header that is not there.
        default_value: Option<String>,
    },
    /// A format string of access logs.
    Formatter(String),
}

impl Default for CustomTag {
    fn default() -> Self {
        Self::Literal(String::new())
    }
}

impl Shape for CustomTag {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let tags = [
            ("literal", fields.optional("literal").map(|TagValue(value)| Self::Literal(value))),
            (
                "environment",
                fields
                    .optional("environment")
                    .map(|TagSource { name, default_value }| Self::Environment { name, default_value }),
            ),
            (
                "header",
                fields
                    .optional("header")
                    .map(|TagSource { name, default_value }| Self::Header { name, default_value }),
            ),
            ("formatter", fields.optional("formatter").map(|TagValue(value)| Self::Formatter(value))),
        ];
        let mut written: Vec<_> = tags.into_iter().filter_map(|(name, tag)| Some((name, tag?))).collect();
        let expected = "one of `literal`, `environment`, `header` and `formatter`";
        match written.len() {
            1 => {}
            0 => fields.error_here(Problem::new("has no value").expected(expected)),
            _ => {
                let names: Vec<_> = written.iter().map(|(name, _)| *name).collect();
                fields.error_here(
                    Problem::new("has several values").found(names.join(", ")).expected(expected),
                );
            }
        }
        written.pop().map(|(_, tag)| tag).unwrap_or_default()
    }
}

#[derive(Default)]
struct TagValue(String);

impl Shape for TagValue {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.required("value"))
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.0.is_empty() {
            context.error(&at.field("value"), Problem::new("is empty").expected("some text"));
        }
    }
}

#[derive(Default)]
struct TagSource {
    name: String,
    default_value: Option<String>,
}

impl Shape for TagSource {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { name: fields.required("name"), default_value: fields.optional("defaultValue") }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.name.is_empty() {
            context.error(&at.field("name"), Problem::new("is empty").expected("a name"));
        }
    }
}
