//! What `validate` is told without a proxy.

use resources::{Files, ReadDefaults, Rule};
use translate::review;

use crate::support;

fn reviewed(scenario: &str) -> Vec<String> {
    let path = support::inputs().into_iter().find(|path| path.ends_with(format!("{scenario}.yaml"))).unwrap();
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", &std::fs::read_to_string(path).unwrap());
    let (set, _) = files.resources();
    let findings = review(&set, "cluster.local");
    findings.iter().map(|finding| format!("{:?} {}", finding.rule, finding.path)).collect()
}

#[test]
fn gateways_and_sidecars_are_both_reviewed() {
    let found = reviewed("unknown-references");
    assert!(found.contains(&format!("{:?} spec.gateways[1]", Rule::UnknownReference)), "{found:#?}");
    assert!(found.contains(&format!("{:?} spec.http[0].route[0].destination.host", Rule::UnknownReference)));
    let found = reviewed("sidecar");
    assert!(found.contains(&format!("{:?} spec.hosts[0]", Rule::Conflict)), "{found:#?}");
    let found = reviewed("gateway-shared-host");
    assert!(found.contains(&format!("{:?} spec.http[1]", Rule::Shadowed)), "{found:#?}");
}

#[test]
fn a_good_configuration_has_no_findings() {
    for scenario in
        ["coolstore", "demo", "httpbin", "httpbin-tls", "httpbin-dual-one-server", "sidecar-endpoints"]
    {
        assert_eq!(reviewed(scenario), Vec::<String>::new(), "{scenario}");
    }
}
