//! Wrong settings of the command line and the environment: each is told with its place, its value and what is expected.

use std::{fs, process::Command};

use tempfile::TempDir;

use super::with;
use crate::support::{agent, free_port, printed, text};

/// What a proxy says that does not start with this variable, and its exit code.
fn refused(variable: &str, value: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern-agent"));
    let output = command
        .args(["proxy", "router", "--config-dir", "/nonexistent"])
        .env(variable, value)
        .output()
        .unwrap();
    (output.status.code(), text(&output))
}

#[test]
fn a_variable_is_blamed_for_its_own_value() {
    for (variable, value, flag) in [
        ("POD_NAMESPACE", "", "--namespace <NS>"),
        ("POD_NAMESPACE", "Bad_NS", "--namespace <NS>"),
        ("INSTANCE_IP", "foo", "--ip <ADDR>"),
        ("ISTIO_CPU_LIMIT", "2.5", "--concurrency <N>"),
        ("TERMINATION_DRAIN_DURATION_SECONDS", "x", "--drain-duration <DURATION>"),
        ("ISTIO_META_INTERCEPTION_MODE", "both", "--interception-mode <INTERCEPTION_MODE>"),
    ] {
        let (code, said) = refused(variable, value);
        let wanted = format!("value '{value}' in environment variable {variable} (for '{flag}')");
        assert!(code == Some(2) && said.contains(&wanted), "no `{wanted}` in\n{said}");
    }
}

#[test]
fn a_namespace_is_a_name_of_kubernetes_everywhere() {
    for command in [
        &["proxy", "sidecar", "--config-dir", "/nonexistent"][..],
        &["validate", "/nonexistent"],
        &["config", "routes", "--config-dir", "/nonexistent"],
    ] {
        for wrong in ["", "Bad_NS"] {
            let output = agent(&[command, &["--namespace", wrong]].concat());
            let said = text(&output);
            assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
            assert!(said.contains("for '--namespace <NS>'"), "{said}");
            assert!(
                said.contains("expected the name of a Kubernetes namespace") || wrong.is_empty(),
                "{said}"
            );
        }
    }
}

#[test]
fn mesh_settings_may_be_in_the_config_map_that_istio_has_them_in() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("mesh.yml.txt");
    let verdict = |yaml: &str| {
        fs::write(&file, yaml).unwrap();
        let target = [
            "--config-dir".to_owned(),
            directory.path().display().to_string(),
            "--mesh-config".to_owned(),
            file.display().to_string(),
        ];
        let command = ["explain", "request", "GET", "http://unknown.example.com/"];
        let output = agent(&with(&command, &target));
        (output.status.code(), text(&output))
    };
    let map =
        |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: mine}}\ndata:\n  {data}\n");
    let closed = "outboundTrafficPolicy: {mode: REGISTRY_ONLY}";
    for yaml in
        [closed.to_owned(), map(&format!("mesh: |-\n    {closed}")), map(&format!("mesh: '{closed}'"))]
    {
        let (code, said) = verdict(&yaml);
        assert!(
            code == Some(0) && said.contains("nothing is served here (BlackHoleCluster)"),
            "{yaml}\n{said}"
        );
        assert!(!said.contains("is not a field"), "{said}");
    }
    let (code, said) = verdict(&map("mesh: |-\n    outboundTrafficPolicy: {mode: CLOSED}"));
    assert!(code == Some(1) && said.contains("data[mesh]: outboundTrafficPolicy.mode"), "{said}");
    let (code, said) = verdict(&map("other: '{}'"));
    assert!(code == Some(1) && said.contains("is a ConfigMap without `data.mesh`"), "{said}");
    let (code, said) = verdict(&map("mesh: ''").replace("ConfigMap", "Secret"));
    assert!(code == Some(1) && said.contains("is another resource; expected the ConfigMap"), "{said}");
    let (code, said) = verdict(&[map("mesh: ''"), map("mesh: ''")].join("---\n"));
    assert!(code == Some(1) && said.contains("is written a second time"), "{said}");
    let (code, said) = verdict(&[map("mesh: ''"), map("mesh: ''").replace("mine", "other")].join("---\n"));
    assert!(code == Some(1) && said.contains("holds 2 ConfigMaps"), "{said}");
}

#[test]
fn who_is_waited_for_in_vain_is_named_with_its_own_flag() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let said = text(&agent(&["wait", "--timeout", "200ms", "--status", &nobody]));
    let wanted = format!(
        "cannot reach the readiness interface at {nobody}; is the agent running there (--status HOST:PORT)?"
    );
    assert!(said.contains(&wanted), "{said}");
    assert!(printed(&["wait", "--help"]).contains("--status"));
}
