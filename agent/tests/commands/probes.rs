//! Probes of the application that the kubelet sends to the agent.

use std::process::Command;

use super::{gateway, shop};
use crate::support::agent;

#[test]
fn the_agents_port_asks_the_application() {
    let (directory, _) = shop();
    let running = gateway(directory.path()).start();
    running.await_ready();
    let asked = |path: &str| agent(&["request", "GET", path, "--admin", &running.interfaces.agent]);
    assert!(asked("/app-health/shop/livez").status.success());
    let unknown = asked("/app-health/shop/readyz");
    let told = String::from_utf8_lossy(&unknown.stdout);
    assert!(
        !unknown.status.success() && told.contains("no probe for /app-health/shop/readyz"),
        "{unknown:?}"
    );
}

#[test]
fn probes_that_nobody_can_ask_keep_the_proxy_from_starting() {
    let output = Command::new(env!("CARGO_BIN_EXE_postern-agent"))
        .args(["proxy", "sidecar", "--config-dir", "/tmp"])
        .env("ISTIO_KUBE_APP_PROBERS", r#"{"/app-health/web/livez": {"httpGet": {"port": "http"}}}"#)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("ISTIO_KUBE_APP_PROBERS: `/app-health/web/livez`: httpGet.port is `\"http\"`"),
        "{told}"
    );
}
