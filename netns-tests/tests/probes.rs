//! The kubelet's probes of a captured application, which it sends to the agent.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use netns_tests::{AgentSetup, Network, Rule, fires, needs_root};

#[test]
fn probes_reach_the_application_past_the_proxy() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (kubelet, server) = (network.pod("kubelet")?, network.pod("server")?);
    let _app = server.http_app("server", 8080)?;
    server.intercept()?;
    let probers = r#"{"/app-health/server/readyz": {"httpGet": {"path": "/ready", "port": 8080}}}"#;
    let agent = AgentSetup::sidecar().variable("ISTIO_KUBE_APP_PROBERS", probers).start(&server)?;
    fires(&PASSTHROUGH_ON_LO, &server, || {
        let reply = kubelet.get(server.at(15020), "server", "/app-health/server/readyz")?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.body());
        // What the application says is passed on: whom it saw, and what for.
        ensure!(reply.body().contains("/ready"), "{}", reply.body());
        ensure!(reply.body().contains(&PASSTHROUGH.to_string()), "{}", reply.body());
        Ok(())
    })?;
    // The log is written in batches: what comes later shows that it is complete.
    kubelet.get(server.at(8080), "server", "/through")?.expect_app("server")?;
    agent.access_log_line("/through")?;
    ensure!(!agent.access_log().contains("/ready"), "it went through the proxy: {}", agent.access_log());
    Ok(())
}

const PASSTHROUGH_ON_LO: Rule = Rule::v4("-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN");
const PASSTHROUGH: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
