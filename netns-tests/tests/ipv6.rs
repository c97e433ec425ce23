//! The same over IPv6: another table, another passthrough address.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};
use netns_tests::{AgentSetup, Network, Rule, Service, holds_only_by, needs_root, network, root};

/// Returns early where the kernel has no IPv6, as [`needs_root!`] does without root.
macro_rules! needs_ipv6 {
    () => {
        needs_root!();
        if !network::has_ipv6() {
            root::skip("a kernel with IPv6");
            return Ok(());
        }
    };
}

#[test]
fn outbound_requests_go_where_the_agent_chose_over_ipv6() -> Result<()> {
    needs_ipv6!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("server", 8080)?;
    client.intercept()?;
    let service = Service::new("server", VIRTUAL, 8080).endpoint(server.ip6());
    let setup = AgentSetup::sidecar().labels("app=client").file("server.yaml", service.yaml());
    holds_only_by(
        &[OUTBOUND],
        &client,
        || setup.start(&client),
        |agent| {
            let reply = client.get(VIRTUAL, "server", "/six")?;
            reply.expect_app("server")?;
            reply.expect_peer(client.ip6())?;
            let line = agent.access_log_line("/six")?;
            ensure!(line.contains(&format!(" {VIRTUAL} ")), "no original destination {VIRTUAL} in\n{line}");
            Ok(())
        },
    )
}

#[test]
fn inbound_requests_reach_the_application_from_6() -> Result<()> {
    needs_ipv6!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("server", 8080)?;
    server.intercept()?;
    let service = Service::new("server", VIRTUAL, 8080).endpoint(server.ip6()).selects("server");
    let setup = AgentSetup::sidecar().file("server.yaml", service.yaml());
    holds_only_by(
        &[INBOUND],
        &server,
        || setup.start(&server),
        |_| {
            let reply = client.get(server.at6(8080), "server", "/")?;
            reply.expect_app("server")?;
            reply.expect_peer(PASSTHROUGH)
        },
    )
}

#[test]
fn an_undeclared_port_reaches_the_application_from_6() -> Result<()> {
    needs_ipv6!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("undeclared", 9999)?;
    server.intercept()?;
    holds_only_by(
        &[PASSTHROUGH_ON_LO],
        &server,
        || AgentSetup::sidecar().start(&server),
        |_| client.get(server.at6(9999), "server", "/")?.expect_peer(PASSTHROUGH),
    )
}

#[test]
fn loopback_and_own_address_are_not_captured_over_ipv6() -> Result<()> {
    needs_ipv6!();
    let network = Network::new()?;
    let pod = network.pod("server")?;
    let _app = pod.http_app("server", 8080)?;
    pod.intercept()?;
    let loopback = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 8080);
    let rules = [NOT_PROXY_UID_ON_LO, NOT_PROXY_GID_ON_LO];
    holds_only_by(&rules, &pod, || Ok(()), |()| pod.get(pod.at6(8080), "server", "/")?.expect_direct())?;
    let rules = [NOT_PROXY_UID_ON_LO, NOT_PROXY_GID_ON_LO, LOOPBACK_DESTINATION];
    holds_only_by(&rules, &pod, || Ok(()), |()| pod.get(loopback, "server", "/")?.expect_direct())
}

#[test]
fn readiness_answers_from_outside_uncaptured_over_ipv6() -> Result<()> {
    needs_ipv6!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    server.intercept()?;
    let _app = server.http_app("ready", 15021)?;
    holds_only_by(
        &[READY_IN],
        &server,
        || Ok(()),
        |()| client.get(server.at6(15021), "ready", "/")?.expect_direct(),
    )
}

const PASSTHROUGH: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));
const VIRTUAL: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0x10)), 80);

const OUTBOUND: Rule = Rule::v6("-A ISTIO_OUTPUT -j ISTIO_REDIRECT");
const INBOUND: Rule = Rule::v6("-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT");
const PASSTHROUGH_ON_LO: Rule = Rule::v6("-A ISTIO_OUTPUT -s ::6/128 -o lo -j RETURN");
const NOT_PROXY_UID_ON_LO: Rule = Rule::v6("-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN");
const NOT_PROXY_GID_ON_LO: Rule = Rule::v6("-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN");
const LOOPBACK_DESTINATION: Rule = Rule::v6("-A ISTIO_OUTPUT -d ::1/128 -j RETURN");
const READY_IN: Rule = Rule::v6("-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN");
