use resources::{Files, ReadDefaults};
use snapshot::Direction::{Gateway, Inbound, Outbound};

use super::*;
use crate::{Credentials, Proxy, ProxyKind, translate};

/// What becomes of the metrics, and what is said of it. Each is the namespace of a Telemetry and its `metrics`.
fn outcome(telemetries: &[(&str, &str)]) -> (MetricRules, Vec<String>) {
    let mut files = Files::new(ReadDefaults { namespace: "ns".into() });
    let text = |(namespace, metrics): &(&str, &str)| {
        format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: a, namespace: {namespace}}}\n\
             spec: {{metrics: {metrics}}}\n---\n"
        )
    };
    files.replace_file("a.yaml", &telemetries.iter().map(text).collect::<String>());
    let (set, mut findings) = files.resources();
    let translation = translate(&set, &Credentials::UNSEEN, &Proxy::new(ProxyKind::Sidecar, "ns"));
    findings.extend(translation.findings);
    let said = findings.iter().map(ToString::to_string).collect();
    (translation.snapshot.metric_rules().clone(), said)
}

fn rules(telemetries: &[(&str, &str)]) -> MetricRules {
    let (rules, said) = outcome(telemetries);
    assert!(said.is_empty(), "{said:#?}");
    rules
}

#[test]
fn metrics_are_left_out_by_name_and_side() {
    use Metric::{RequestCount, RequestMessages, TcpSent};
    let off = |item: &str| rules(&[("ns", &format!("[{{overrides: [{item}]}}]"))]);
    for (item, expected) in [
        ("{disabled: true}", [true; 4]),
        ("{match: {metric: REQUEST_COUNT}, disabled: true}", [true, true, false, false]),
        ("{match: {metric: REQUEST_COUNT, mode: CLIENT}, disabled: true}", [true, false, false, false]),
        ("{match: {mode: SERVER}, disabled: true}", [false, true, false, false]),
        ("{match: {customMetric: request_messages_total}, disabled: true}", [false, false, true, false]),
        ("{disabled: true}, {match: {metric: TCP_SENT_BYTES}, disabled: false}", [true, true, true, false]),
    ] {
        let rules = off(item);
        let of = |direction, metric| rules.of(direction, metric).disabled;
        assert_eq!(of(Outbound, RequestCount), of(Gateway, RequestCount), "{item}");
        let told = [
            of(Outbound, RequestCount),
            of(Inbound, RequestCount),
            of(Outbound, RequestMessages),
            of(Outbound, TcpSent),
        ];
        assert_eq!(told, expected, "{item}");
    }
}

#[test]
fn labels_change_level_by_level() {
    let root = "[{overrides: [{tagOverrides: {a: {operation: REMOVE}, b: {value: \"'x'\"}}}]}]";
    let own = "[{providers: [{name: prometheus}], overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: {a: \
         {value: xds.cluster_name}, c-d: {value: \"'y'\"}}}]}]";
    let rules = rules(&[("istio-system", root), ("ns", own)]);
    let labels = |metric| {
        let labels = &rules.of(Inbound, metric).labels;
        labels.iter().map(|(name, change)| format!("{name} {change:?}")).collect::<Vec<_>>()
    };
    assert_eq!(labels(Metric::RequestCount), ["a Cluster", "b Text(\"x\")", "c_d Text(\"y\")"]);
    assert_eq!(labels(Metric::RequestSize), ["a Remove", "b Text(\"x\")"]);
}

#[test]
fn other_providers_get_nothing_and_what_is_not_done_is_told() {
    let (elsewhere, said) = outcome(&[("ns", "[{providers: [{name: stackdriver}]}]")]);
    assert!(elsewhere.of(Inbound, Metric::TcpOpened).disabled);
    assert!(
        said.len() == 1 && said[0].contains("metrics[0].providers[0].name: is a provider that is not"),
        "{said:?}"
    );
    let both = outcome(&[("ns", "[{providers: [{name: stackdriver}, {name: prometheus}]}]")]).0;
    assert_eq!(both, MetricRules::default());
    let (unchanged, said) = outcome(&[(
        "ns",
        "[{overrides: [{match: {customMetric: mine}, disabled: true}, {tagOverrides: {h: {value: request.host}}}]}]",
    )]);
    assert!(unchanged.of(Inbound, Metric::RequestCount).labels.is_empty());
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].contains("overrides[0].match.customMetric: is a metric that there is not"), "{said:#?}");
    assert!(
        said[1].contains("overrides[1].tagOverrides[h].value: is an expression that is not supported"),
        "{said:#?}"
    );
}

#[test]
fn no_label_spoils_what_is_scraped() {
    let item = "[{overrides: [{tagOverrides: {1st: {value: \"'x'\"}, a.b: {value: \"'y'\"}, a_b: {value: \"'z'\"}, \
         le: {value: \"'7'\"}}}]}]";
    let (rules, said) = outcome(&[("ns", item)]);
    let labels: Vec<_> = rules.of(Inbound, Metric::RequestDuration).labels.keys().collect();
    assert_eq!(labels, ["_1st", "a_b"]);
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(
        said[0].contains("tagOverrides[a_b]: is the same label as `a.b` when it is scraped"),
        "{said:#?}"
    );
    assert!(said[1].contains("tagOverrides[le]: is no name for a label: it is left out"), "{said:#?}");
}
