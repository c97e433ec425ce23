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
fn at_loopback_the_application_sees_the_clients_port_too() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("server", 8080)?;
    server.intercept_by_tproxy()?;
    let agent = localhost_sidecar(&server).start(&server)?;
    sees_address_and_port(&agent, &client, server.at(8080), client.ip())?;
    if network::has_ipv6() {
        sees_address_and_port(&agent, &client, server.at6(8080), client.ip6())?;
    }
    agent.access_log_line("inbound|8080||").map(drop)
}

#[test]
fn legacy_and_native_rules_keep_the_clients_address_and_port_too() -> Result<()> {
    needs_root!();
    for holder in [&["--force-iptables-binary", "legacy"][..], &["--native-nftables"]] {
        let network = Network::new()?;
        let (client, server) = (network.pod("client")?, network.pod("server")?);
        let _app = server.http_app("server", 8080)?;
        server.intercept_by_tproxy_with(holder)?;
        let _undeclared = server.http_app("server", 9999)?;
        let agent = localhost_sidecar(&server).start(&server)?;
        let families = [(server.ip(), client.ip()), (server.ip6(), client.ip6())];
        for (ip, seen) in families.into_iter().take(if network::has_ipv6() { 2 } else { 1 }) {
            sees_address_and_port(&agent, &client, (ip, 8080).into(), seen)?;
            passes_the_proxy(&agent, &client, (ip, 9999).into(), seen)?;
        }
    }
    Ok(())
}

#[test]
fn an_application_only_at_127_0_0_1_serves_clients_of_both_families() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app_at("server", LOCAL_APP)?;
    server.intercept_by_tproxy()?;
    let agent = localhost_sidecar(&server).start(&server)?;
    sees_address_and_port(&agent, &client, server.at(8080), client.ip())?;
    if network::has_ipv6() {
        client.get(server.at6(8080), "server", "/other-family")?.expect_app("server")?;
    }
    Ok(())
}

#[test]
fn a_client_keeps_its_port_from_request_to_request() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("server", 8080)?;
    server.intercept_by_tproxy()?;
    let _agent = localhost_sidecar(&server).start(&server)?;
    let url = format!("http://{}/", server.at(8080));
    let said = client.run(&["curl", "-sS", "--local-port", "45001", &url, &url])?;
    let seen = format!("peer: {}:45001", client.ip());
    ensure!(said.matches(&seen).count() == 2, "the application did not see {seen} twice:\n{said}");
    Ok(())
}

#[test]
fn where_the_clients_port_is_taken_its_address_is_kept() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let (_app, _owner) = (server.http_app("server", 8080)?, server.http_app("owner of the port", 45002)?);
    server.intercept_by_tproxy()?;
    let _agent = localhost_sidecar(&server).start(&server)?;
    let url = format!("http://{}/", server.at(8080));
    let said = client.run(&["curl", "-sS", "--local-port", "45002", &url])?;
    ensure!(said.contains(&format!("peer: {}:", client.ip())), "not from the client's address:\n{said}");
    ensure!(!said.contains(":45002"), "from a port that another socket has:\n{said}");
    Ok(())
}

#[test]
fn without_a_way_back_from_loopback_the_application_is_called_all_the_same() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("server", 8080)?;
    server.intercept_by_tproxy()?;
    // As Istio's own init leaves it.
    server.run(&["ip", "rule", "del", "from", "127.0.0.1", "ipproto", "tcp", "lookup", "133"])?;
    let agent = localhost_sidecar(&server).start(&server)?;
    agent.log_line("ip rule add from 127.0.0.1")?;
    client.get(server.at(8080), "server", "/")?.expect_app("server")
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

fn localhost_sidecar(server: &Pod) -> AgentSetup {
    let service = Service::new("server", SERVICE, 8080).endpoint(server.ip()).selects("server");
    let mesh = "accessLogFile: /dev/stdout\ninboundTrafficPolicy:\n  mode: LOCALHOST\n";
    AgentSetup::sidecar().tproxy().mesh(mesh).file("server.yaml", service.yaml())
}

fn sees_address_and_port(agent: &Agent<'_>, client: &Pod, to: SocketAddr, seen: IpAddr) -> Result<()> {
    for turn in 0..3 {
        let path = format!("/{turn}-{}", to.is_ipv4());
        let reply = client.get(to, "server", &path)?;
        reply.expect_app("server")?;
        reply.expect_peer(seen)?;
        ensure!(reply.peer()? == reply.local, "the application saw {}, not {}", reply.peer()?, reply.local);
        agent.access_log_line(&path)?;
    }
    Ok(())
}

fn passes_the_proxy(agent: &Agent<'_>, client: &Pod, to: SocketAddr, seen: IpAddr) -> Result<()> {
    let reply = client.get(to, "server", "/in")?;
    reply.expect_app("server")?;
    reply.expect_peer(seen)?;
    ensure!(reply.peer()? != reply.local, "the agent did not stand between");
    ensure!(reply.peer()?.port() < 32768, "from a port that clients use: {}", reply.peer()?);
    agent.access_log_line("/in").map(drop)
}

const LOCAL_APP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 7)), 80);
