//! Calls to the agent's own capture ports would come back to it for ever; it refuses them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::process::eventually;
use netns_tests::{Agent, AgentSetup, Network, needs_root};

#[test]
fn capture_ports_called_from_outside_are_refused() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    server.intercept()?;
    let agent = AgentSetup::sidecar().start(&server)?;
    let idle = agent.descriptors()?;
    client.expect_refused(server.at(15006))?;
    client.expect_refused(server.at(15001))?;
    serves_without_a_loop(&agent, idle)
}

#[test]
fn capture_ports_called_by_the_application_are_refused() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (pod, other) = (network.pod("server")?, network.pod("other")?);
    pod.intercept()?;
    let agent = AgentSetup::sidecar().start(&pod)?;
    let idle = agent.descriptors()?;
    for port in [15001, 15006] {
        let loopback: SocketAddr = ([127, 0, 0, 1], port).into();
        // Captured with the agent's own port as original destination; not captured at all; likewise.
        pod.expect_refused(other.at(port))?;
        pod.expect_refused(loopback)?;
        pod.expect_refused(pod.at(port))?;
    }
    serves_without_a_loop(&agent, idle)
}

fn serves_without_a_loop(agent: &Agent<'_>, idle: usize) -> Result<()> {
    eventually(Duration::from_secs(2), || {
        let held = agent.descriptors()?;
        ensure!(held <= idle + 2, "{held} descriptors are held instead of {idle}");
        Ok(())
    })?;
    agent.ready()
}
