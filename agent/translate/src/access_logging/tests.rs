use resources::{Files, ReadDefaults};
use snapshot::Logged::{Everything, Nothing};

use super::*;
use crate::{Credentials, Proxy, ProxyKind, translate};

/// What is logged at the client's and the server's side, and what is said of it. A line is the metadata and the spec of
/// a Telemetry.
fn outcome(has_log: bool, telemetries: &str) -> ([Logged; 2], Vec<String>) {
    let mut files = Files::new(ReadDefaults { namespace: "ns".into() });
    let mut text: String = telemetries
        .lines()
        .map(|line| {
            let (meta, spec) = line.trim().split_once(' ').unwrap();
            format!(
                "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {meta}\nspec: {spec}\n---\n"
            )
        })
        .collect();
    text += "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n";
    files.replace_file("a.yaml", &text);
    let (set, mut findings) = files.resources();
    let mut proxy = Proxy::new(ProxyKind::Sidecar, "ns");
    proxy.labels.insert("app".to_owned(), "web".to_owned());
    proxy.mesh.access_log = has_log;
    let translation = translate(&set, &Credentials::UNSEEN, &proxy);
    findings.extend(translation.findings);
    let snapshot::AccessLogging { client, server } = translation.snapshot.access_logging().clone();
    ([client, server], findings.iter().map(ToString::to_string).collect())
}

fn logged(has_log: bool, telemetries: &str) -> [Logged; 2] {
    let (logged, findings) = outcome(has_log, telemetries);
    assert!(findings.is_empty(), "{findings:#?}");
    logged
}

const ROOT: &str = r#"{"name":"r","namespace":"istio-system"}"#;
const OWN: &str = r#"{"name":"n"}"#;

#[test]
fn the_mesh_decides_where_no_telemetry_says_anything() {
    assert_eq!(logged(true, ""), [Everything, Everything]);
    assert_eq!(logged(false, ""), [Nothing, Nothing]);
    assert_eq!(logged(true, &format!("{OWN} {{}}")), [Everything, Everything]);
}

#[test]
fn the_log_is_switched_on_and_off_by_side() {
    let of = |has_log, item: &str| logged(has_log, &format!("{OWN} {{accessLogging: [{item}]}}"));
    assert_eq!(of(true, "{disabled: true}"), [Nothing, Nothing]);
    assert_eq!(of(false, "{providers: [{name: envoy}]}"), [Everything, Everything]);
    assert_eq!(of(true, "{match: {mode: CLIENT}, disabled: true}"), [Nothing, Everything]);
    let one_each =
        "{providers: [{name: envoy}], match: {mode: SERVER}}, {disabled: true, match: {mode: CLIENT}}";
    assert_eq!(of(true, one_each), [Nothing, Everything]);
    let filter = Logged::What(LogFilter::parse("response.code >= 400").unwrap());
    let filtered = "{match: {mode: SERVER}, filter: {expression: 'response.code >= 400'}}";
    assert_eq!(of(true, filtered), [Everything, filter]);
}

#[test]
fn the_narrowest_level_has_the_last_word() {
    let off = "{accessLogging: [{disabled: true}]}";
    let on = "{accessLogging: [{providers: [{name: envoy}]}]}";
    let selecting = |selector: &str, rest: &str| format!("{{{selector}, {}", &rest[1..]);
    assert_eq!(logged(true, &format!("{ROOT} {off}")), [Nothing, Nothing]);
    assert_eq!(logged(true, &format!("{ROOT} {off}\n{OWN} {on}")), [Everything, Everything]);
    for selector in ["selector: {matchLabels: {app: web}}", "targetRefs: [{kind: Service, name: web}]"] {
        let own = selecting(selector, off);
        let workload = r#"{"name":"w"}"#;
        assert_eq!(logged(true, &format!("{OWN} {on}\n{workload} {own}")), [Nothing, Nothing], "{selector}");
        let other = own.replace("web", "other");
        let unmoved = logged(true, &format!("{OWN} {on}\n{workload} {other}"));
        assert_eq!(unmoved, [Everything, Everything], "{selector}");
        let in_root = ROOT.replace("\"r\"", "\"s\"");
        assert_eq!(logged(true, &format!("{in_root} {own}")), [Everything, Everything], "{selector}");
    }
    let elsewhere = r#"{"name":"e","namespace":"elsewhere"}"#;
    assert_eq!(logged(true, &format!("{elsewhere} {off}")), [Everything, Everything]);
}

#[test]
fn what_cannot_be_done_is_said_once() {
    let said = |has_log, item: &str| {
        let (logged, findings) = outcome(has_log, &format!("{OWN} {{accessLogging: [{item}]}}"));
        let [finding] = &findings[..] else { panic!("{findings:#?}") };
        (logged, finding.clone())
    };
    let (logged, finding) = said(true, "{providers: [{name: otel}]}");
    assert_eq!(logged, [Nothing, Nothing]);
    assert!(
        finding.contains("accessLogging[0].providers[0].name: is a provider that is not supported"),
        "{finding}"
    );
    let (logged, finding) = said(true, "{providers: [{name: otel}, {name: envoy}]}");
    assert_eq!(logged, [Everything, Everything]);
    assert!(finding.contains("(found `otel`; expected `envoy`"), "{finding}");
    let (logged, finding) = said(false, "{disabled: false}");
    assert_eq!(logged, [Nothing, Nothing]);
    assert!(finding.contains("accessLogging[0]: names no provider, and the mesh has none"), "{finding}");
    let (logged, finding) = said(true, "{filter: {expression: \"request.path == '/'\"}}");
    assert_eq!(logged, [Everything, Everything]);
    let wanted = "filter.expression: is not understood from `request.path == '/'` on: everything is logged";
    assert!(finding.contains(wanted), "{finding}");
}
