//! An agent's life: configuration that changes under it, configuration that breaks, and an orderly end.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::process::eventually;
use netns_tests::{Agent, AgentSetup, Network, Pod, Service, needs_root};

#[test]
fn a_changed_file_is_served_without_a_restart() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, gateway, backend) =
        (network.pod("client")?, network.pod("gateway")?, network.pod("backend")?);
    let _apps = (backend.http_app("old", 8081)?, backend.http_app("new", 8082)?);
    let agent = gateway_to("old", &gateway, &backend)?;
    client.get(gateway.at(8080), "shop.example", "/")?.expect_app("old")?;
    agent.write("route.yaml", &virtual_service("new"))?;
    eventually(RELOADED_WITHIN, || client.get(gateway.at(8080), "shop.example", "/")?.expect_app("new"))
}

#[test]
fn a_broken_file_is_refused_by_line_and_the_last_good_one_serves() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, gateway, backend) =
        (network.pod("client")?, network.pod("gateway")?, network.pod("backend")?);
    let _apps = (backend.http_app("old", 8081)?, backend.http_app("new", 8082)?);
    let agent = gateway_to("old", &gateway, &backend)?;
    agent.write(
        "route.yaml",
        &virtual_service("new").replace("hosts: [shop.example]", "hosts: [shop.example"),
    )?;
    // The list opened on line 6 has not ended when line 7 begins another key.
    agent.log_line("route.yaml:7:")?;
    client.get(gateway.at(8080), "shop.example", "/")?.expect_app("old")?;
    agent.ready()?;
    // Mended, it is taken up.
    agent.write("route.yaml", &virtual_service("new"))?;
    eventually(RELOADED_WITHIN, || client.get(gateway.at(8080), "shop.example", "/")?.expect_app("new"))
}

#[test]
fn sigterm_lets_running_requests_finish_and_exits_0() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, gateway, backend) =
        (network.pod("client")?, network.pod("gateway")?, network.pod("backend")?);
    let _app = backend.http_app("old", 8081)?;
    let mut agent = gateway_to("old", &gateway, &backend)?;
    let (reply, ready) = thread::scope(|scope| -> Result<_> {
        let running = scope.spawn(|| client.get(gateway.at(8080), "shop.example", "/delay/2"));
        thread::sleep(Duration::from_millis(500));
        agent.terminate()?;
        thread::sleep(Duration::from_millis(300));
        let ready = agent.ready();
        Ok((running.join().expect("a request does not panic")?, ready))
    })?;
    reply.expect_app("old")?;
    ensure!(ready.is_err(), "readiness still says 200 after SIGTERM");
    let status = agent.wait(Duration::from_secs(5))?;
    ensure!(status.code() == Some(0), "ended with {status}:\n{}", agent.log());
    Ok(())
}

#[test]
fn an_idle_agent_ends_at_once_on_sigterm() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = network.pod("server")?;
    pod.intercept()?;
    let mut agent = AgentSetup::sidecar().start(&pod)?;
    agent.terminate()?;
    let status = agent.wait(Duration::from_secs(3))?;
    ensure!(status.code() == Some(0), "ended with {status}:\n{}", agent.log());
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_named_and_the_exit_code_is_1() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = network.pod("server")?;
    let _squatter = pod.http_app("squatter", 15006)?;
    let mut agent = AgentSetup::sidecar().launch(&pod)?;
    let status = agent.wait(Duration::from_secs(5))?;
    ensure!(status.code() == Some(1), "ended with {status}");
    ensure!(agent.log().contains("15006"), "the port is not named:\n{}", agent.log());
    Ok(())
}

/// A router on port 8080 whose host `shop.example` leads to the application `app` in `backend`.
fn gateway_to<'p>(app: &str, gateway: &'p Pod, backend: &Pod) -> Result<Agent<'p>> {
    let service = |name, port| {
        let address = SocketAddr::new([10, 96, 0, 10].into(), port);
        Service::new(name, address, port).endpoint(backend.ip()).yaml()
    };
    AgentSetup::router()
        .file("gateway.yaml", GATEWAY)
        .file("services.yaml", service("old", 8081) + &service("new", 8082))
        .file("route.yaml", virtual_service(app))
        .start(gateway)
}

fn virtual_service(app: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: shop\nspec:\n  \
         hosts: [shop.example]\n  gateways: [shop]\n  http:\n  - route:\n    - destination: {{host: {app}}}\n"
    )
}

const RELOADED_WITHIN: Duration = Duration::from_secs(5);
const GATEWAY: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: shop
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: [shop.example]
";
