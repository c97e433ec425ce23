//! What the rules hand to the agent, and what the agent makes of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use netns_tests::{AgentSetup, Network, Rule, Service, holds_only_by, needs_root};

#[test]
fn outbound_requests_go_where_the_agent_chose_by_host() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, one, two) = (network.pod("client")?, network.pod("one")?, network.pod("two")?);
    let _apps = (one.http_app("reviews-1", 8080)?, two.http_app("ratings-1", 8080)?);
    client.intercept()?;
    let setup = AgentSetup::sidecar()
        .labels("app=client")
        .file("reviews.yaml", Service::new("reviews", REVIEWS, 8080).endpoint(one.ip()).yaml())
        .file("ratings.yaml", Service::new("ratings", RATINGS, 8080).endpoint(two.ip()).yaml());
    holds_only_by(
        &[OUTBOUND],
        &client,
        || setup.start(&client),
        |_| {
            let reply = client.get(REVIEWS, "reviews", "/1")?;
            reply.expect_app("reviews-1")?;
            // The proxy's own connection, not the application's.
            reply.expect_peer(client.ip())?;
            ensure!(reply.peer()? != reply.local, "the agent did not stand between");
            client.get(RATINGS, "ratings.default.svc.cluster.local", "/2")?.expect_app("ratings-1")?;
            // Istio routes by Host, not by the address that was dialled.
            client.get(REVIEWS, "ratings", "/3")?.expect_app("ratings-1")
        },
    )
}

#[test]
fn endpoints_of_a_service_share_its_requests() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, one, two) = (network.pod("client")?, network.pod("one")?, network.pod("two")?);
    let _apps = (one.http_app("reviews-1", 8080)?, two.http_app("reviews-2", 8080)?);
    client.intercept()?;
    let service = Service::new("reviews", REVIEWS, 8080).endpoint(one.ip()).endpoint(two.ip());
    let _agent =
        AgentSetup::sidecar().labels("app=client").file("reviews.yaml", service.yaml()).start(&client)?;
    let mut answered = [0, 0];
    for _ in 0..60 {
        let reply = client.get(REVIEWS, "reviews", "/")?;
        answered[usize::from(reply.app()? == "reviews-2")] += 1;
    }
    ensure!(answered.iter().all(|count| *count >= 10), "60 requests were shared {answered:?}");
    Ok(())
}

#[test]
fn inbound_requests_reach_the_application_from_127_0_0_6() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("server", 8080)?;
    server.intercept()?;
    let service = Service::new("server", REVIEWS, 8080).endpoint(server.ip()).selects("server");
    let setup = AgentSetup::sidecar().file("server.yaml", service.yaml());
    holds_only_by(
        &[INBOUND],
        &server,
        || setup.start(&server),
        |_| {
            let reply = client.get(server.at(8080), "server", "/in")?;
            reply.expect_app("server")?;
            reply.expect_peer(PASSTHROUGH)
        },
    )
}

#[test]
fn an_undeclared_port_reaches_the_application_from_127_0_0_6() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("undeclared", 9999)?;
    server.intercept()?;
    holds_only_by(
        &[PASSTHROUGH_ON_LO],
        &server,
        || AgentSetup::sidecar().start(&server),
        |_| {
            let reply = client.get(server.at(9999), "server", "/undeclared")?;
            reply.expect_app("undeclared")?;
            reply.expect_peer(PASSTHROUGH)
        },
    )
}

#[test]
fn a_call_to_its_own_service_passes_the_proxy_twice() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = network.pod("server")?;
    let _app = pod.http_app("server", 8080)?;
    pod.intercept()?;
    let service = Service::new("server", REVIEWS, 8080).endpoint(pod.ip()).selects("server");
    let setup = AgentSetup::sidecar().file("server.yaml", service.yaml());
    holds_only_by(
        &[OWN_SERVICE],
        &pod,
        || setup.start(&pod),
        |agent| {
            let reply = pod.get(REVIEWS, "server", "/own-service")?;
            reply.expect_app("server")?;
            // Without the rule the outbound half would reach the application itself, from the pod's address.
            reply.expect_peer(PASSTHROUGH)?;
            agent.access_log_line("inbound|8080||").map(drop)
        },
    )
}

#[test]
fn the_access_log_tells_the_original_destination() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("server", 8080)?;
    client.intercept()?;
    let service = Service::new("server", REVIEWS, 8080).endpoint(server.ip());
    let agent =
        AgentSetup::sidecar().labels("app=client").file("server.yaml", service.yaml()).start(&client)?;
    client.get(REVIEWS, "server", "/logged")?.expect_app("server")?;
    let line = agent.access_log_line("/logged")?;
    for expected in [
        "\"GET /logged HTTP/1.1\" 200 - via_upstream".to_string(),
        format!("\"{}\" outbound|80||server.default.svc.cluster.local", server.at(8080)),
        format!(" {REVIEWS} {}:", client.ip()),
    ] {
        ensure!(line.contains(&expected), "no `{expected}` in the access log line\n{line}");
    }
    Ok(())
}

#[test]
fn registry_only_refuses_what_no_service_names() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _apps = (server.http_app("server", 8080)?, server.http_app("stranger", 9999)?);
    client.intercept()?;
    let service = Service::new("server", REVIEWS, 8080).endpoint(server.ip());
    let _agent = AgentSetup::sidecar()
        .labels("app=client")
        .file("server.yaml", service.yaml())
        .mesh("outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n")
        .start(&client)?;
    client.get(REVIEWS, "server", "/")?.expect_app("server")?;
    let unknown = client.get(REVIEWS, "stranger.example", "/")?;
    ensure!(unknown.status == 502, "an unknown host on a known port is answered {}", unknown.status);
    client.expect_refused(server.at(9999))
}

const PASSTHROUGH: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
const REVIEWS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
const RATINGS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 11)), 80);

const OUTBOUND: Rule = Rule::v4("-A ISTIO_OUTPUT -j ISTIO_REDIRECT");
const INBOUND: Rule = Rule::v4("-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT");
const PASSTHROUGH_ON_LO: Rule = Rule::v4("-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN");
const OWN_SERVICE: Rule = Rule::v4(
    "-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 \
     -j ISTIO_IN_REDIRECT",
);
