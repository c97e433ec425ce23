//! Gateways configured as the usual examples print it, called as they print it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use netns_tests::{AgentSetup, Network, Pod, Reply, Service, needs_root, root};

#[test]
fn coolstore_gateway_answers_its_host_and_404_to_others() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, gateway, backend) =
        (network.pod("client")?, network.pod("gateway")?, network.pod("webapp")?);
    let _app = backend.http_app("webapp", 8080)?;
    let setup = router(&gateway, COOLSTORE).file("webapp.yaml", service("webapp", 80, 8080, backend.ip()));
    let _agent = setup.start(&gateway)?;
    // Port 80 of the Gateway is port 8080 of its pod, by the gateway's own Service.
    let get = |host: &str| client.get(gateway.at(8080), host, "/api/catalog?page=1");
    get("webapp.istioinaction.io")?.expect_app("webapp")?;
    get("webapp.istioinaction.io")?.expect_peer(gateway.ip())?;
    ensure!(
        get("webapp.istioinaction.io")?.header("server") == Some("istio-envoy"),
        "the gateway is not named"
    );
    ensure!(get("WEBAPP.istioinaction.io:8080")?.path()? == "/api/catalog?page=1", "the path has changed");
    expect_404(&get("catalog.istioinaction.io")?)?;
    expect_404(&get(&gateway.ip().to_string())?)
}

#[test]
fn httpbin_gateway_routes_only_the_prefixes_it_names() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, gateway, backend) =
        (network.pod("client")?, network.pod("gateway")?, network.pod("httpbin")?);
    let _app = backend.http_app("httpbin", 80)?;
    let setup = router(&gateway, HTTPBIN).file("httpbin.yaml", service("httpbin", 8000, 80, backend.ip()));
    let _agent = setup.start(&gateway)?;
    let get = |path: &str| client.get(gateway.at(6280), "192.168.0.62:6280", path);
    let teapot = get("/status/418")?;
    ensure!(teapot.status == 418 && teapot.app()? == "httpbin", "/status/418 is answered {}", teapot.status);
    get("/headers")?.expect_app("httpbin")?;
    get("/delay/0")?.expect_app("httpbin")?;
    expect_404(&get("/")?)?;
    expect_404(&get("/Status/418")?)
}

#[test]
fn httpbin_dual_gateway_tells_two_hosts_apart_in_either_spelling() -> Result<()> {
    needs_root!();
    for example in [DUAL, DUAL_TWO_SERVERS] {
        let network = Network::new()?;
        let (client, gateway) = (network.pod("client")?, network.pod("gateway")?);
        let (a, b) = (network.pod("httpbin-a")?, network.pod("httpbin-b")?);
        let _apps = (a.http_app("httpbin-a", 80)?, b.http_app("httpbin-b", 80)?);
        let _agent = router(&gateway, example)
            .file("a.yaml", service("httpbin-a", 8000, 80, a.ip()))
            .file("b.yaml", service("httpbin-b", 8000, 80, b.ip()))
            .start(&gateway)?;
        let get = |host: &str, path| client.get(gateway.at(8080), &format!("{host}.{AKS}"), path);
        let teapot = get("httpbin-a", "/status/418")?;
        ensure!(
            teapot.status == 418 && teapot.app()? == "httpbin-a",
            "/status/418 is answered {}",
            teapot.status
        );
        get("httpbin-b", "/headers")?.expect_app("httpbin-b")?;
        expect_404(&get("httpbin-b", "/status/418")?)?;
        expect_404(&get("httpbin-a", "/headers")?)?;
        expect_404(&get("httpbin-c", "/headers")?)?;
    }
    Ok(())
}

#[test]
fn demo_gateway_sends_every_path_to_forecast() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, gateway, backend) =
        (network.pod("client")?, network.pod("gateway")?, network.pod("forecast")?);
    let _app = backend.http_app("forecast", 8123)?;
    let setup = router(&gateway, DEMO).file("forecast.yaml", service("forecast", 8123, 8123, backend.ip()));
    let _agent = setup.start(&gateway)?;
    client.get(gateway.at(8080), "wistio.cc", "/anything")?.expect_app("forecast")?;
    expect_404(&client.get(gateway.at(8080), "www.wistio.cc", "/anything")?)
}

#[test]
fn the_printed_curl_commands_work() -> Result<()> {
    needs_root!();
    if !root::starts("curl") {
        root::skip("the program curl");
        return Ok(());
    }
    let network = Network::new()?;
    let (client, gateway, backend) =
        (network.pod("client")?, network.pod("gateway")?, network.pod("webapp")?);
    let _apps = (backend.http_app("webapp", 8080)?, backend.http_app("httpbin", 80)?);
    // Container runtimes let every user of a pod listen below 1024; without a Service to translate, the agent does.
    gateway.namespace().sysctl("ipv4/ip_unprivileged_port_start", "0");
    gateway.namespace().ip(&["addr", "add", "192.168.0.62/32", "dev", "eth0"])?;
    client.namespace().ip(&["route", "add", "192.168.0.62/32", "via", &gateway.ip().to_string()])?;
    let _agent = AgentSetup::router()
        .file("coolstore.yaml", COOLSTORE)
        .file("httpbin-gateway.yaml", HTTPBIN)
        .file("webapp.yaml", service("webapp", 80, 8080, backend.ip()))
        .file("httpbin.yaml", service("httpbin", 8000, 80, backend.ip()))
        .start(&gateway)?;

    let printed = ["http://localhost/api/catalog", "-H", "Host: webapp.istioinaction.io"];
    let (status, body) = curl(&gateway, &printed)?;
    ensure!(status == 200 && body.contains("app: webapp"), "curl {printed:?}: {status} {body:?}");
    let (status, body) = curl(&gateway, &["http://localhost/api/catalog"])?;
    ensure!(status == 404 && body.is_empty(), "without the Host: {status} {body:?}");
    let (status, body) = curl(&client, &["http://192.168.0.62:6280/status/418"])?;
    ensure!(status == 418 && body.contains("app: httpbin"), "/status/418: {status} {body:?}");
    Ok(())
}

/// A gateway with the example and the Service that Istio installs in front of its ingress gateway.
fn router(gateway: &Pod, example: &str) -> AgentSetup {
    let http = SocketAddr::new([10, 96, 0, 80].into(), 80);
    let front = Service::new("istio-ingressgateway", http, 8080).endpoint(gateway.ip()).selects("gateway");
    AgentSetup::router()
        .labels("istio=ingressgateway,app=gateway")
        .file("example.yaml", example)
        .file("istio-ingressgateway.yaml", front.yaml())
}

fn service(name: &str, port: u16, target_port: u16, endpoint: IpAddr) -> String {
    Service::new(name, SocketAddr::new([10, 96, 0, 9].into(), port), target_port).endpoint(endpoint).yaml()
}

fn expect_404(reply: &Reply) -> Result<()> {
    ensure!(reply.status == 404, "status {} instead of 404, body {:?}", reply.status, reply.body());
    ensure!(reply.body().is_empty(), "404 with a body: {:?}", reply.body());
    Ok(())
}

/// Status and body of what `curl ARGS` fetches in the pod.
fn curl(pod: &Pod, args: &[&str]) -> Result<(u16, String)> {
    let fixed = ["curl", "--silent", "--show-error", "--max-time", "5", "--write-out", "\n%{http_code}"];
    let printed = pod.run(&[&fixed, args].concat())?;
    let (body, status) = printed.rsplit_once('\n').context("curl printed no status")?;
    Ok((status.parse()?, body.to_string()))
}

const AKS: &str = "7cb9a9b7b318440399a0.eastus.aksapp.io";
const COOLSTORE: &str = include_str!("examples/coolstore-gateway.yaml");
const HTTPBIN: &str = include_str!("examples/httpbin-gateway.yaml");
const DUAL: &str = include_str!("examples/httpbin-dual-gateway.yaml");
const DUAL_TWO_SERVERS: &str = include_str!("examples/httpbin-dual-gateway-two-servers.yaml");
const DEMO: &str = include_str!("examples/demo-gateway.yaml");
