//! Which metrics are kept, and under which labels: what the Telemetry resources for a workload come to.

use std::collections::BTreeMap;

use resources::{
    Finding, MetricMatch, MetricOverride, Metrics, Object, Path, Problem, ResourceSet, TagOverride,
    Telemetry, WorkloadMode,
};
use snapshot::{LabelRule, Metric, MetricRule, MetricRules, SideRules};

use crate::{
    registry::Registry,
    telemetries::{levels, warning},
};

/// The provider that this proxy is: whoever scrapes it.
const OWN: &str = "prometheus";

/// The items of all levels one after the other, as in Istio: later ones win, and providers that one names hold for those
/// after it, too.
pub(crate) fn metric_rules(
    resources: &ResourceSet,
    registry: &Registry<'_>,
    findings: &mut Vec<Finding>,
) -> MetricRules {
    let levels = levels(resources, registry);
    findings.extend(levels.iter().flat_map(|telemetry| doubts(telemetry)));
    let mut rules = MetricRules::default();
    let (mut is_own, mut is_used) = (true, levels.iter().all(|level| level.spec.metrics.is_empty()));
    for item in levels.iter().flat_map(|telemetry| &telemetry.spec.metrics) {
        if !item.providers.is_empty() {
            is_own = names_own(item);
        }
        is_used |= is_own;
        for change in item.overrides.iter().filter(|_| is_own) {
            apply(change, &mut rules);
        }
    }
    if !is_used {
        let disabled = MetricOverride { disabled: Some(true), ..MetricOverride::default() };
        apply(&disabled, &mut rules);
    }
    rules
}

fn names_own(item: &Metrics) -> bool {
    item.providers.iter().any(|provider| provider.0 == OWN)
}

fn apply(change: &MetricOverride, rules: &mut MetricRules) {
    if change.mode != WorkloadMode::Server {
        apply_to(change, &mut rules.client);
    }
    if change.mode != WorkloadMode::Client {
        apply_to(change, &mut rules.server);
    }
}

fn apply_to(change: &MetricOverride, side: &mut SideRules) {
    for metric in Metric::ALL.into_iter().filter(|metric| is_meant(&change.metric, *metric)) {
        let rule: &mut MetricRule = side.entry(metric).or_default();
        rule.disabled = change.disabled.unwrap_or(rule.disabled);
        for (label, change) in &change.tag_overrides {
            let change = match change {
                TagOverride::Remove => Some(LabelRule::Remove),
                TagOverride::Upsert(expression) => LabelRule::of_expression(expression),
            };
            rule.labels.extend(label_name(label).zip(change));
        }
    }
}

/// The label of histograms that names their buckets: a second one would spoil the whole page.
const BUCKET: &str = "le";

/// A label's name as it can be scraped, if it can be had.
fn label_name(written: &str) -> Option<String> {
    let mut name = written.replace(|char: char| !char.is_ascii_alphanumeric() && char != '_', "_");
    if name.starts_with(|char: char| char.is_ascii_digit()) {
        name.insert(0, '_');
    }
    (name != BUCKET && !name.is_empty()).then_some(name)
}

fn is_meant(wanted: &MetricMatch, metric: Metric) -> bool {
    match wanted {
        MetricMatch::All => true,
        MetricMatch::Standard(name) => *name == standard_name(metric),
        MetricMatch::Custom(name) => metric.family().strip_prefix("istio_") == Some(name),
    }
}

/// What Telemetry calls a metric.
fn standard_name(metric: Metric) -> &'static str {
    match metric {
        Metric::RequestCount => "REQUEST_COUNT",
        Metric::RequestDuration => "REQUEST_DURATION",
        Metric::RequestSize => "REQUEST_SIZE",
        Metric::ResponseSize => "RESPONSE_SIZE",
        Metric::RequestMessages => "GRPC_REQUEST_MESSAGES",
        Metric::ResponseMessages => "GRPC_RESPONSE_MESSAGES",
        Metric::TcpOpened => "TCP_OPENED_CONNECTIONS",
        Metric::TcpClosed => "TCP_CLOSED_CONNECTIONS",
        Metric::TcpSent => "TCP_SENT_BYTES",
        Metric::TcpReceived => "TCP_RECEIVED_BYTES",
    }
}

/// What of a Telemetry is done otherwise than it says.
pub(crate) fn doubts(telemetry: &Object<Telemetry>) -> Vec<Finding> {
    let spec = Path::ROOT.field("spec");
    let list = spec.field("metrics");
    let mut findings = Vec::new();
    for (index, item) in telemetry.spec.metrics.iter().enumerate() {
        let at = list.index(index);
        let providers = at.field("providers");
        let others = item.providers.iter().enumerate().filter(|(_, provider)| provider.0 != OWN);
        for (position, provider) in others {
            let problem = Problem::new("is a provider that is not supported: nothing is counted for it");
            let problem = problem.found(&provider.0).expected("`prometheus`, which scrapes the proxy");
            findings.push(warning(telemetry, &providers.index(position).field("name"), problem));
        }
        let overrides = at.field("overrides");
        for (position, change) in item.overrides.iter().enumerate() {
            doubt(telemetry, change, &overrides.index(position), &mut findings);
        }
    }
    findings
}

fn doubt(telemetry: &Object<Telemetry>, change: &MetricOverride, at: &Path<'_>, findings: &mut Vec<Finding>) {
    if let MetricMatch::Custom(name) = &change.metric
        && !Metric::ALL.into_iter().any(|metric| is_meant(&change.metric, metric))
    {
        let problem = Problem::new("is a metric that there is not: the override has no effect").found(name);
        let problem = problem.expected("a name such as `requests_total`");
        findings.push(warning(telemetry, &at.field("match").field("customMetric"), problem));
    }
    let tags = at.field("tagOverrides");
    let mut names = BTreeMap::new();
    for (label, tag) in &change.tag_overrides {
        let problem = match label_name(label) {
            None => Some(
                Problem::new("is no name for a label: it is left out").found(label).remedy("choose another"),
            ),
            Some(name) => names.insert(name, label).map(|other| {
                let problem = Problem::new(format!("is the same label as `{other}` when it is scraped"));
                problem.found(label).remedy("give them names that differ in letters or digits")
            }),
        };
        findings.extend(problem.map(|problem| warning(telemetry, &tags.key(label), problem)));
        if let TagOverride::Upsert(expression) = tag
            && LabelRule::of_expression(expression).is_none()
        {
            let problem = Problem::new("is an expression that is not supported: the label stays as it is");
            let problem = problem.found(expression).expected(LabelRule::EXPECTED);
            findings.push(warning(telemetry, &tags.key(label).field("value"), problem));
        }
    }
}

#[cfg(test)]
mod tests;
