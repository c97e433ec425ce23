//! The story: what is raised, which requests are sent, and in which order their hops are told.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use netns_tests::{Agent, AgentSetup, Network, Pod, Reply, Service};

use crate::hop::{Hop, Port, Stage, tell_decision};
use crate::page::Page;

/// Raises the pods, sends the requests and writes what happened.
pub(crate) fn tell<W: Write>(page: &mut Page<W>) -> Result<()> {
    page.heading("Raising two pods, a gateway and a visitor, each in a network namespace of its own")?;
    let network = Network::new()?;
    let visitor = network.pod("visitor")?;
    let gateway = network.pod("gateway")?;
    let frontend = network.pod("frontend")?;
    let reviews = network.pod("reviews")?;
    let _apps = (frontend.http_app("frontend", 8080)?, reviews.http_app("reviews", 8080)?);
    for pod in [&frontend, &reviews] {
        pod.intercept().context("postern-init")?;
    }
    let config = config(&frontend, &reviews, &gateway);
    let start = |setup: AgentSetup, pod| setup.file("mesh.yaml", config.clone()).start(pod);
    let cast = Cast {
        gateway_agent: start(AgentSetup::router().labels("istio=ingressgateway,app=gateway"), &gateway)?,
        frontend_agent: start(AgentSetup::sidecar().labels("app=frontend"), &frontend)?,
        reviews_agent: start(AgentSetup::sidecar().labels("app=reviews"), &reviews)?,
        visitor: &visitor,
        gateway: &gateway,
        frontend: &frontend,
        reviews: &reviews,
    };
    introduce(page, &cast)?;
    outbound(page, &cast)?;
    through_the_gateway(page, &cast)?;
    own_service(page, &cast)?;
    readiness(page, &cast)?;
    page.heading("Done; the pods, the gateway and their rules are removed again")
}

struct Cast<'p> {
    visitor: &'p Pod,
    gateway: &'p Pod,
    gateway_agent: Agent<'p>,
    frontend: &'p Pod,
    frontend_agent: Agent<'p>,
    reviews: &'p Pod,
    reviews_agent: Agent<'p>,
}

fn introduce<W: Write>(page: &mut Page<W>, cast: &Cast<'_>) -> Result<()> {
    let Cast { visitor, gateway, frontend, reviews, .. } = cast;
    page.step("visitor", &format!("{}, a machine outside the mesh", visitor.ip()))?;
    page.step("gateway", &format!("{}, postern-agent proxy router", gateway.ip()))?;
    page.step("frontend", &format!("{}, an application, postern-init's rules, {SIDECAR}", frontend.ip()))?;
    page.step("reviews", &format!("{}, an application, postern-init's rules, {SIDECAR}", reviews.ip()))?;
    page.step("services", &format!("reviews {REVIEWS} → {}", reviews.at(8080)))?;
    page.step("services", &format!("frontend {FRONTEND} → {}", frontend.at(8080)))?;
    page.step("services", "virtual addresses: no machine has them, no route leads to them")
}

fn outbound<W: Write>(page: &mut Page<W>, cast: &Cast<'_>) -> Result<()> {
    let path = "/by-name";
    page.heading("1  The application in frontend calls the service reviews")?;
    page.text(&format!("GET http://reviews{path}, dialled at {REVIEWS}"))?;
    let (ours, theirs) = (Hop::begin(cast.frontend)?, Hop::begin(cast.reviews)?);
    let reply = cast.frontend.get(REVIEWS, "reviews", path)?;
    ours.tell(page, Stage::Outbound)?;
    tell_decision(page, cast.frontend, &cast.frontend_agent, (Port::Outbound, path))?;
    ours.tell(page, Stage::Upstream)?;
    arrival(page, cast, &theirs, path)?;
    answer(page, &reply)
}

fn through_the_gateway<W: Write>(page: &mut Page<W>, cast: &Cast<'_>) -> Result<()> {
    let path = "/reviews/latest";
    page.heading("2  The visitor calls the gateway, which routes by host and path")?;
    page.text(&format!("GET http://shop.example{path}, dialled at {}", cast.gateway.at(8080)))?;
    let theirs = Hop::begin(cast.reviews)?;
    let reply = cast.visitor.get(cast.gateway.at(8080), "shop.example", path)?;
    tell_decision(page, cast.gateway, &cast.gateway_agent, (Port::Gateway, path))?;
    arrival(page, cast, &theirs, path)?;
    answer(page, &reply)?;
    let reply = cast.visitor.get(cast.gateway.at(8080), "elsewhere.example", path)?;
    page.step(
        "gateway",
        &format!("asked for elsewhere.example instead, it answers {}: no such host", reply.status),
    )
}

fn own_service<W: Write>(page: &mut Page<W>, cast: &Cast<'_>) -> Result<()> {
    let path = "/myself";
    page.heading("3  The application in reviews calls its own service, and gets itself")?;
    page.text(&format!("GET http://reviews{path}, dialled at {REVIEWS}"))?;
    let hop = Hop::begin(cast.reviews)?;
    let reply = cast.reviews.get(REVIEWS, "reviews", path)?;
    hop.tell(page, Stage::Outbound)?;
    tell_decision(page, cast.reviews, &cast.reviews_agent, (Port::Outbound, path))?;
    hop.tell(page, Stage::OwnPod)?;
    tell_decision(page, cast.reviews, &cast.reviews_agent, (Port::Inbound, path))?;
    hop.tell(page, Stage::Application)?;
    answer(page, &reply)
}

fn readiness<W: Write>(page: &mut Page<W>, cast: &Cast<'_>) -> Result<()> {
    let probe = cast.reviews.at(15021);
    page.heading("4  A probe from outside asks whether reviews is ready")?;
    page.text(&format!("GET http://{probe}/healthz/ready"))?;
    let hop = Hop::begin(cast.reviews)?;
    let reply = cast.visitor.get(probe, "reviews", "/healthz/ready")?;
    hop.tell(page, Stage::Probe)?;
    page.step("answer", &format!("{} from the agent itself", reply.status))
}

/// A request for `path` arrives at reviews from another machine.
fn arrival<W: Write>(page: &mut Page<W>, cast: &Cast<'_>, hop: &Hop<'_>, path: &str) -> Result<()> {
    hop.tell(page, Stage::Inbound)?;
    tell_decision(page, cast.reviews, &cast.reviews_agent, (Port::Inbound, path))?;
    hop.tell(page, Stage::Application)
}

fn answer<W: Write>(page: &mut Page<W>, reply: &Reply) -> Result<()> {
    page.step(
        "answer",
        &format!("{} from {}, which was called from {}", reply.status, reply.app()?, reply.peer()?),
    )
}

fn config(frontend: &Pod, reviews: &Pod, gateway: &Pod) -> String {
    let front: SocketAddr = SocketAddr::new([10, 96, 0, 80].into(), 80);
    let services = [
        Service::new("reviews", REVIEWS, 8080).endpoint(reviews.ip()).selects("reviews"),
        Service::new("frontend", FRONTEND, 8080).endpoint(frontend.ip()).selects("frontend"),
        Service::new("gateway", front, 8080).endpoint(gateway.ip()).selects("gateway"),
    ];
    services.iter().map(Service::yaml).collect::<String>() + SHOP
}

const SIDECAR: &str = "postern-agent proxy sidecar";
const REVIEWS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 10)), 80);
const FRONTEND: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 11)), 80);
const SHOP: &str = "\
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: shop
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [shop.example]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: shop
spec:
  hosts: [shop.example]
  gateways: [shop]
  http:
  - match:
    - uri: {prefix: /reviews}
    route:
    - destination: {host: reviews, port: {number: 80}}
  - route:
    - destination: {host: frontend, port: {number: 80}}
";
