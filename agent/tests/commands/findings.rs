//! What a running agent says is wrong, beyond mistakes in resources.

use crate::support::{Agent, Setup, eventually, free_port, printed};

fn findings(running: &Agent) -> String {
    printed(&["request", "GET", "/findings", "--admin", &running.interfaces.admin])
}

fn server(port: &str, more: &str) -> String {
    format!("{{port: {{number: {port}, name: h{port}, protocol: HTTP}}, hosts: ['*']{more}}}")
}

fn gateway(servers: &[String]) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: edge}}, spec: {{servers: [{}]}}}}\n",
        servers.join(", ")
    )
}

#[test]
fn names_that_cannot_be_resolved_are_told_until_nobody_wants_them() {
    let entry = |resolution: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: far}}, spec: {{hosts: \
             [nobody.invalid], resolution: {resolution}, ports: [{{number: 80, name: http, protocol: HTTP}}]}}}}\n"
        )
    };
    let running = Setup::router().resources("far.yaml", &entry("DNS")).start();
    running.await_ready();
    let wanted = "warning: cannot resolve `nobody.invalid`, an endpoint of outbound|80||nobody.invalid: ";
    eventually("it is asked for in vain", || findings(&running).contains(wanted));
    let told = findings(&running);
    assert!(told.contains("; there is no endpoint until it is (look at the ServiceEntry's"), "{told}");
    let metrics = printed(&["request", "GET", "/stats/prometheus", "--admin", &running.interfaces.stats]);
    assert!(metrics.contains("postern_config_findings{severity=\"warning\"} 1\n"), "{metrics}");
    running.replace("far.yaml", &entry("NONE"));
    eventually("nobody wants it", || findings(&running).is_empty());
}

#[test]
fn ports_of_the_proxy_itself_are_no_gateways() {
    let setup = Setup::router();
    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    let [status, stats, admin, free] = [
        port(&setup.interfaces().status),
        port(&setup.interfaces().stats),
        port(&setup.interfaces().admin),
        free_port().to_string(),
    ];
    let servers =
        [server(&status, ""), server(&stats, ", bind: 127.0.0.1"), server(&admin, ""), server(&free, "")];
    let running = setup.resources("gateway.yaml", &gateway(&servers)).start();
    running.await_ready();
    let told = findings(&running);
    for (index, flag) in ["--status-port", "--stats-port", "--admin-port"].into_iter().enumerate() {
        let wanted = format!(
            "spec.servers[{index}].port: is a port of the proxy itself ({flag}): the server is left out"
        );
        assert!(
            told.lines().any(|line| line.starts_with("error: ") && line.contains(&wanted)),
            "{wanted}\n{told}"
        );
    }
    assert_eq!(told.lines().count(), 3, "{told}");
    // The admin interface has one address only.
    let elsewhere = gateway(&[server(&admin, ", bind: 127.0.0.2"), server(&free, "")]);
    running.replace("gateway.yaml", &elsewhere);
    eventually("it is not in the way", || findings(&running).is_empty());
}

#[test]
fn a_gateway_serves_without_the_certificate_it_was_told_of_and_says_so() {
    let servers = [server(&free_port().to_string(), "")];
    let running = Setup::router()
        .resources("gateway.yaml", &gateway(&servers))
        .flags(&["--identity-dir", "/nonexistent/certificates"])
        .start();
    running.await_ready();
    let told = findings(&running);
    assert!(
        told.contains("warning: the gateway's own certificate: cannot be read: No such file")
            && told.contains("found `/nonexistent/certificates/cert-chain.pem`"),
        "{told}"
    );
}
