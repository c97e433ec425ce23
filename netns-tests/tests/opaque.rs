//! Bytes that are no HTTP, and servers that speak first.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::{AgentSetup, Network, Rule, Service, fires, needs_root};

#[test]
fn opaque_bytes_reach_the_original_destination_and_come_back_whole() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _echo = server.echo_app(7000)?;
    client.intercept()?;
    let _agent = AgentSetup::sidecar().labels("app=client").start(&client)?;
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (peer, local, received) = fires(&OUTBOUND, &client, || {
        let stream = client.connect(server.at(7000))?;
        let mut reader = BufReader::new(&stream);
        let mut received = Vec::new();
        let mut greeting = String::new();
        thread::scope(|scope| {
            let writer =
                scope.spawn(|| (&stream).write_all(&sent).and_then(|()| stream.shutdown(Shutdown::Write)));
            reader.read_line(&mut greeting)?;
            reader.read_to_end(&mut received)?;
            writer.join().expect("the writer does not panic")
        })?;
        let peer: SocketAddr = greeting.trim_end().parse()?;
        Ok((peer, stream.local_addr()?, received))
    })?;
    ensure!(received == sent, "{} bytes came back of {}", received.len(), sent.len());
    ensure!(
        peer.ip() == client.ip() && peer != local,
        "the echo was called from {peer}, the client is {local}"
    );
    Ok(())
}

#[test]
fn a_server_that_speaks_first_is_heard_through_the_clients_sidecar() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _mail = server.banner_app(2525, BANNER)?;
    client.intercept()?;
    let service = Service::new("mail", MAIL, 2525).port_name("mail").endpoint(server.ip());
    let _agent =
        AgentSetup::sidecar().labels("app=client").file("mail.yaml", service.yaml()).start(&client)?;
    let undeclared = fires(&OUTBOUND, &client, || client.listen_to(server.at(2525), SPEAKS_WITHIN))?;
    ensure!(undeclared == BANNER, "undeclared port: heard {undeclared:?}");
    // A port whose name tells no protocol: the proxy has to find out, and the client waits for the server.
    let auto = client.listen_to(MAIL, SPEAKS_WITHIN)?;
    ensure!(auto == BANNER, "port of undeclared protocol: heard {auto:?}");
    Ok(())
}

#[test]
fn a_server_that_speaks_first_is_heard_through_its_own_sidecar() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _apps = (server.banner_app(2525, BANNER)?, server.banner_app(2526, BANNER)?);
    server.intercept()?;
    let service = Service::new("mail", MAIL, 2526).port_name("mail").endpoint(server.ip()).selects("server");
    let _agent = AgentSetup::sidecar().file("mail.yaml", service.yaml()).start(&server)?;
    for port in [2525, 2526] {
        let heard = fires(&INBOUND, &server, || client.listen_to(server.at(port), SPEAKS_WITHIN))?;
        ensure!(heard == BANNER, "port {port}: heard {heard:?}");
    }
    Ok(())
}

#[test]
fn a_client_that_speaks_first_late_is_still_understood() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let _app = server.http_app("slow", 8080)?;
    client.intercept()?;
    let _agent = AgentSetup::sidecar().labels("app=client").start(&client)?;
    let stream = client.connect(server.at(8080))?;
    thread::sleep(Duration::from_millis(700));
    let reply = netns_tests::client::exchange(
        &stream,
        "GET /late HTTP/1.1\r\nhost: slow\r\nconnection: close\r\n\r\n",
    )?;
    reply.expect_app("slow")
}

#[test]
fn a_health_check_of_http_1_0_that_names_no_host_reaches_the_application() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    let (outside, plain) = (network.pod("outside")?, network.pod("plain")?);
    let _apps = (server.http_app("served", 8080)?, plain.http_app("dialled", 8080)?);
    client.intercept()?;
    server.intercept()?;
    // A port whose name tells no protocol, beside one that nobody declares.
    let auto = SocketAddr::from(([10, 96, 0, 26], 8080));
    let service = Service::new("checked", auto, 8080).port_name("checked").endpoint(plain.ip());
    let _agents = (
        AgentSetup::sidecar().labels("app=client").file("checked.yaml", service.yaml()).start(&client)?,
        AgentSetup::sidecar().start(&server)?,
    );
    for (rule, pod, from, to, app) in [
        (&OUTBOUND, &client, &client, auto, "dialled"),
        (&OUTBOUND, &client, &client, plain.at(8080), "dialled"),
        (&INBOUND, &server, &outside, server.at(8080), "served"),
    ] {
        fires(rule, pod, || from.request(to, "OPTIONS / HTTP/1.0\r\nconnection: close\r\n\r\n"))?
            .expect_app(app)?;
    }
    Ok(())
}

const BANNER: &str = "220 mail.example ESMTP\r\n";
const SPEAKS_WITHIN: Duration = Duration::from_secs(2);
const MAIL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 25)), 2525);

const OUTBOUND: Rule = Rule::v4("-A ISTIO_OUTPUT -j ISTIO_REDIRECT");
const INBOUND: Rule = Rule::v4("-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT");
