//! Capture by TPROXY: the application sees the client's own address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use netns_tests::{Agent, AgentSetup, Network, Pod, Service, needs_root, network, root};

#[test]
fn a_declared_http_port_sees_the_clients_address() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("server", 8080)?;
    server.intercept_by_tproxy()?;
    let service = Service::new("server", SERVICE, 8080).endpoint(server.ip()).selects("server");
    let agent = AgentSetup::sidecar().tproxy().file("server.yaml", service.yaml()).start(&server)?;
    passes_the_proxy(&agent, &client, server.at(8080), client.ip())?;
    agent.access_log_line("inbound|8080||").map(drop)
}

#[test]
fn an_undeclared_port_sees_the_clients_address_over_ipv6_too() -> Result<()> {
    needs_root!();
    if !network::has_ipv6() {
        root::skip("a kernel with IPv6");
        return Ok(());
    }
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("server", 9999)?;
    server.intercept_by_tproxy()?;
    let agent = AgentSetup::sidecar().tproxy().start(&server)?;
    passes_the_proxy(&agent, &client, server.at(9999), client.ip())?;
    passes_the_proxy(&agent, &client, server.at6(9999), client.ip6())
}

#[test]
fn each_client_has_connections_of_its_own_to_the_application() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (one, two, server) = (network.pod("one")?, network.pod("two")?, network.pod("server")?);
    let _app = server.http_app("server", 8080)?;
    server.intercept_by_tproxy()?;
    let agent = AgentSetup::sidecar().tproxy().start(&server)?;
    for _ in 0..3 {
        passes_the_proxy(&agent, &one, server.at(8080), one.ip())?;
        passes_the_proxy(&agent, &two, server.at(8080), two.ip())?;
    }
    Ok(())
}

#[test]
fn opaque_connections_keep_the_clients_address() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.echo_app(7000)?;
    server.intercept_by_tproxy()?;
    let agent = AgentSetup::sidecar().tproxy().start(&server)?;
    let talk = format!(
        "printf ping | timeout 5 bash -c 'exec 3<>/dev/tcp/{}/7000; cat >&3; head -c 20 <&3'",
        server.ip()
    );
    let heard = client.run(&["bash", "-c", &talk])?;
    ensure!(heard.starts_with(&format!("{}:", client.ip())), "the application saw {heard}");
    agent.access_log_line("InboundPassthroughCluster").map(drop)
}

#[test]
fn a_call_to_its_own_service_passes_the_proxy_twice() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = network.pod("server")?;
    let _app = pod.http_app("server", 8080)?;
    pod.intercept_by_tproxy()?;
    let service = Service::new("server", SERVICE, 8080).endpoint(pod.ip()).selects("server");
    let agent = AgentSetup::sidecar().tproxy().file("server.yaml", service.yaml()).start(&pod)?;
    pod.get(SERVICE, "server", "/own-service")?.expect_app("server")?;
    agent.access_log_line("outbound|80||server")?;
    agent.access_log_line("inbound|8080||").map(drop)
}

#[test]
fn without_the_capability_the_agent_says_what_to_do() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let server = network.pod("server")?;
    let Err(error) = AgentSetup::sidecar().tproxy().uid(1337).start(&server) else {
        anyhow::bail!("it started without CAP_NET_ADMIN");
    };
    let said = format!("{error:#}");
    for expected in ["CAP_NET_ADMIN", "securityContext", "--interception-mode REDIRECT"] {
        ensure!(said.contains(expected), "no `{expected}` in\n{said}");
    }
    Ok(())
}

fn passes_the_proxy(agent: &Agent<'_>, client: &Pod, to: SocketAddr, seen: IpAddr) -> Result<()> {
    let reply = client.get(to, "server", "/in")?;
    reply.expect_app("server")?;
    reply.expect_peer(seen)?;
    ensure!(reply.peer()? != reply.local, "the agent did not stand between");
    agent.access_log_line("/in").map(drop)
}

const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 7)), 80);
