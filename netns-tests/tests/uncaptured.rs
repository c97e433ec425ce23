//! What the rules leave alone. No agent runs here: whatever is captured finds nobody and is refused.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use netns_tests::{Network, Pod, Rule, holds_only_by, needs_root};

#[test]
fn loopback_traffic_of_the_application_is_not_captured() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = intercepted(&network)?;
    let _app = pod.http_app("server", 8080)?;
    let to: SocketAddr = ([127, 0, 0, 1], 8080).into();
    let rules = [NOT_PROXY_UID_ON_LO, NOT_PROXY_GID_ON_LO, LOOPBACK_DESTINATION];
    holds_only_by(&rules, &pod, || Ok(()), |()| pod.get(to, "localhost", "/")?.expect_direct())
}

#[test]
fn the_pods_own_address_is_not_captured_for_the_application() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = intercepted(&network)?;
    let _app = pod.http_app("server", 8080)?;
    let rules = [NOT_PROXY_UID_ON_LO, NOT_PROXY_GID_ON_LO];
    holds_only_by(&rules, &pod, || Ok(()), |()| pod.get(pod.at(8080), "server", "/")?.expect_direct())
}

#[test]
fn ports_of_the_proxy_itself_are_not_captured_from_outside() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = intercepted(&network)?;
    let client = network.pod("client")?;
    for (port, rule) in [(15008, TUNNEL_IN), (15020, AGENT_IN), (15021, READY_IN), (15090, STATS_IN)] {
        let _app = pod.http_app("proxy", port)?;
        holds_only_by(
            &[rule],
            &pod,
            || Ok(()),
            |()| client.get(pod.at(port), "proxy", "/")?.expect_direct(),
        )?;
    }
    Ok(())
}

#[test]
fn the_proxys_user_is_exempt_towards_other_pods() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = intercepted(&network)?;
    let server = network.pod("server")?;
    let _app = server.http_app("server", 8080)?;
    let dial = || direct(pod.dial_as(1337, 0, server.at(8080))?);
    holds_only_by(&[PROXY_UID], &pod, || Ok(()), |()| dial())
}

#[test]
fn the_proxys_group_is_exempt_towards_other_pods() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = intercepted(&network)?;
    let server = network.pod("server")?;
    let _app = server.http_app("server", 8080)?;
    let dial = || direct(pod.dial_as(2000, 1337, server.at(8080))?);
    holds_only_by(&[PROXY_GID], &pod, || Ok(()), |()| dial())
}

#[test]
fn the_proxy_reaches_its_application_on_loopback_uncaptured() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = intercepted(&network)?;
    let _app = pod.http_app("server", 8080)?;
    let to: SocketAddr = ([127, 0, 0, 1], 8080).into();
    // Without the two owner rules the loopback rule On5 still lets it go.
    let rules = [PROXY_UID, PROXY_GID, NOT_PROXY_GID_ON_LO, LOOPBACK_DESTINATION];
    holds_only_by(&rules, &pod, || Ok(()), |()| direct(pod.dial_as(1337, 1337, to)?))
}

#[test]
fn the_tunnel_port_of_the_pod_is_not_captured_for_the_proxy() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = intercepted(&network)?;
    let _app = pod.http_app("tunnel", 15008)?;
    direct(pod.dial_as(1337, 1337, pod.at(15008))?)?;
    let _other = pod.http_app("other", 15009)?;
    ensure!(
        pod.dial_as(1337, 1337, pod.at(15009)).is_err(),
        "another port of the pod is captured for the proxy"
    );
    Ok(())
}

#[test]
fn nothing_is_captured_after_a_cleanup() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = intercepted(&network)?;
    let server = network.pod("server")?;
    let _apps = (pod.http_app("inside", 8080)?, server.http_app("outside", 8080)?);
    let out = || pod.get(server.at(8080), "outside", "/")?.expect_direct();
    let inward = || server.get(pod.at(8080), "inside", "/")?.expect_direct();
    ensure!(out().is_err() && inward().is_err(), "the rules capture nothing in the first place");
    pod.init(&["--cleanup"])?;
    out()?;
    inward()
}

fn intercepted(network: &Network) -> Result<Pod> {
    let pod = network.pod("server-pod")?;
    pod.intercept()?;
    Ok(pod)
}

fn direct((local, peer): (SocketAddr, SocketAddr)) -> Result<()> {
    ensure!(local == peer, "called from {peer}, but the client is {local}: something stands between");
    Ok(())
}

const NOT_PROXY_UID_ON_LO: Rule = Rule::v4("-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN");
const NOT_PROXY_GID_ON_LO: Rule = Rule::v4("-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN");
const LOOPBACK_DESTINATION: Rule = Rule::v4("-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN");
const PROXY_UID: Rule = Rule::v4("-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN");
const PROXY_GID: Rule = Rule::v4("-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN");
const TUNNEL_IN: Rule = Rule::v4("-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN");
const AGENT_IN: Rule = Rule::v4("-A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN");
const READY_IN: Rule = Rule::v4("-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN");
const STATS_IN: Rule = Rule::v4("-A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN");
