//! An application's questions about names, captured on port 53 and answered by the agent.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Result, ensure};
use netns_tests::{AgentSetup, ISTIO_FLAGS, Network, Pod, Rule, Service, holds_only_by, needs_root};

#[test]
fn names_of_services_are_answered_by_the_agent_and_others_by_the_pods_name_server() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let (client, resolver) = (network.pod("client")?, network.pod("resolver")?);
    answer_everything_with(ELSEWHERE, &resolver)?;
    client.init(&[&["istio-iptables"], ISTIO_FLAGS, &["--redirect-dns", "--capture-all-dns"]].concat())?;
    let server = resolver.ip().to_string();
    let reviews = Service::new("reviews", ([10, 96, 0, 10], 80).into(), 8080).endpoint(resolver.ip());
    let setup = AgentSetup::sidecar()
        .labels("app=client")
        .variable("ISTIO_META_DNS_CAPTURE", "true")
        .variable("POSTERN_DNS_SERVERS", &*server)
        .file("reviews.yaml", reviews.yaml());
    holds_only_by(
        &[CAPTURED],
        &client,
        || setup.start(&client),
        |_| {
            ensure!(resolved(&client, &server, "reviews.default.svc.cluster.local", "")? == ["10.96.0.10"]);
            // By the search domain, and over a connection: rule 14 captures both.
            ensure!(
                resolved(&client, &server, "reviews", "search default.svc.cluster.local")? == ["10.96.0.10"]
            );
            ensure!(resolved(&client, &server, "reviews.default.svc", "options use-vc")? == ["10.96.0.10"]);
            ensure!(resolved(&client, &server, "elsewhere.example.com", "")? == [ELSEWHERE_TEXT]);
            Ok(())
        },
    )
}

/// The addresses that the C library finds for a name, with that name server and that line in its configuration.
fn resolved(pod: &Pod, server: &str, name: &str, line: &str) -> Result<Vec<String>> {
    let conf = pod.dir().join("resolv.conf");
    std::fs::write(&conf, format!("nameserver {server}\noptions timeout:2 attempts:1\n{line}\n"))?;
    let ask = format!("mount --bind {} /etc/resolv.conf && getent ahostsv4 {name}", conf.display());
    let found = pod.run(&["unshare", "-m", "sh", "-c", &ask])?;
    let mut addresses: Vec<_> =
        found.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    addresses.dedup();
    Ok(addresses)
}

/// A name server for the test: every name stands for one address.
fn answer_everything_with(address: [u8; 4], pod: &Pod) -> Result<()> {
    let at = SocketAddr::new(pod.ip(), 53);
    let socket = pod.namespace().within(|| UdpSocket::bind(at))?;
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let Some(name_end) = question[12..length].iter().position(|byte| *byte == 0) else { continue };
            let mut answer = question[..12 + name_end + 5].to_vec();
            // A response with one answer and nothing else: the name of the question, A, IN, a second, four bytes.
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
            answer.extend(address);
            _ = socket.send_to(&answer, from);
        }
    });
    Ok(())
}

const ELSEWHERE: [u8; 4] = [192, 0, 2, 7];
const ELSEWHERE_TEXT: &str = "192.0.2.7";
const CAPTURED: Rule = Rule::v4("-A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053");
