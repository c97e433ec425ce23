//! Mesh-wide settings among the resources with a mistake in them.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{offline, sidecar, with};
use crate::support::{agent, eventually, printed};

const BAD: &str = "accessLogEncoding: XML";
const WORD: &str = "mesh.yaml:6:24: ConfigMap istio-system/istio: data[mesh]: accessLogEncoding: is not a known word (found `XML`";

fn write(directory: &Path, mode: &str, rest: &str) {
    let yaml = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |-\n    \
         {rest}\n    outboundTrafficPolicy: {{mode: {mode}}}\n"
    );
    fs::write(directory.join("mesh.yaml"), yaml).unwrap();
}

/// The last line of what `explain` says of a call to a host that nobody knows.
fn verdict(target: &[String]) -> String {
    let text = printed(&with(&["explain", "request", "GET", "http://unknown.example.com/"], target));
    text.lines().last().unwrap().to_owned()
}

const CLOSED: &str = "verdict: connection closed: nothing is served here (BlackHoleCluster)";
const OPEN: &str = "verdict: TCP relayed to PassthroughCluster";

#[test]
fn a_mistake_is_told_by_validate_and_beside_what_would_be_served() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), "REGISTRY_ONLY", BAD);
    let checked = agent(&["validate", directory.path().to_str().unwrap()]);
    let told = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.code() == Some(3) && told.contains(WORD), "{told}");
    let target = offline(&directory);
    let shown = agent(&with(&["config", "listeners"], &target));
    assert!(String::from_utf8_lossy(&shown.stderr).contains(WORD), "{shown:?}");
    assert_eq!(verdict(&target), CLOSED);
    // A policy that nobody can read opens nothing.
    write(directory.path(), "REGISTRI_ONLY", "");
    assert_eq!(verdict(&target), CLOSED);
    write(directory.path(), "ALLOW_ANY", BAD);
    assert!(verdict(&target).starts_with(OPEN));
}

#[test]
fn a_mistake_costs_only_its_field_at_the_start_and_nothing_later() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), "REGISTRY_ONLY", BAD);
    let running = sidecar(directory.path()).start();
    running.await_ready();
    let live = ["--admin".to_owned(), running.interfaces.admin.clone()];
    let findings = || printed(&with(&["request", "GET", "/findings"], &live));
    assert!(findings().contains(WORD), "{}", findings());
    assert_eq!(verdict(&live), CLOSED);
    write(directory.path(), "ALLOW_ANY", "");
    eventually("it is mended", || verdict(&live).starts_with(OPEN));
    assert!(!findings().contains("accessLogEncoding"), "{}", findings());
    // Broken again, the last good settings stay.
    write(directory.path(), "REGISTRY_ONLY", BAD);
    eventually("it is read again", || findings().contains(WORD));
    assert!(verdict(&live).starts_with(OPEN), "{}", verdict(&live));
}

#[test]
fn a_log_format_that_cannot_be_used_ends_no_start_and_is_told_while_it_runs() {
    let directory = TempDir::new().unwrap();
    let told = "mesh.yaml:6:22: MeshConfig: accessLogFormat: has the unknown operator `%NOPE%`";
    let wrong = "accessLogFormat: '%NOPE%'";
    write(directory.path(), "ALLOW_ANY", "");
    let running = sidecar(directory.path()).start();
    running.await_ready();
    let live = ["--admin".to_owned(), running.interfaces.admin.clone()];
    let findings = || printed(&with(&["request", "GET", "/findings"], &live));
    write(directory.path(), "ALLOW_ANY", wrong);
    eventually("it is told before a restart", || findings().contains(told));
    let anew = sidecar(directory.path()).start();
    anew.await_ready();
}

#[test]
fn hosts_that_nobody_knows_are_spoken_to_in_tls_where_the_mesh_says_so() {
    let directory = TempDir::new().unwrap();
    let ca = directory.path().join("ca.pem");
    let tls = |fields: &str| format!("ALLOW_ANY_DYNAMIC_DNS, tls: {{{fields}}}");
    let checked = tls(&format!("mode: SIMPLE, sni: out.com, caCertificates: {}", ca.display()));
    write(directory.path(), "ALLOW_ANY_DYNAMIC_DNS", "");
    let running = sidecar(directory.path()).start();
    running.await_ready();
    let live = ["--admin".to_owned(), running.interfaces.admin.clone()];
    let explained = || printed(&with(&["explain", "request", "GET", "http://unknown.example.com/"], &live));
    let answered = |path: &str| printed(&with(&["request", "GET", path], &live));
    assert!(explained().contains("on the port the client dialled\n"), "{}", explained());
    // The certificates of a setting that came after the start are read, too.
    write(directory.path(), &checked, "");
    eventually("it is in force", || explained().contains("443 for 80, in TLS"));
    assert!(
        answered("/findings").contains("outboundTrafficPolicy.tls.caCertificates"),
        "{}",
        answered("/findings")
    );
    fs::write(&ca, rcgen::generate_simple_self_signed(["a.com".to_owned()]).unwrap().cert.pem()).unwrap();
    eventually("the file is read", || !answered("/findings").contains("caCertificates"));
    // A mistake does not open the way in clear text.
    write(directory.path(), &tls("mode: ISTIO_MUTUAL"), "");
    assert_eq!(verdict(&offline(&directory)), CLOSED);
}
