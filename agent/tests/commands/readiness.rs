//! When a proxy says that it is ready, and what it says before.

use std::{fs, net::TcpListener, process::Command};

use rcgen::generate_simple_self_signed;
use tempfile::TempDir;

use super::{gateway, shop, sidecar};
use crate::support::{Agent, Client, Endpoint, agent, eventually, free_port, printed};

/// Waits until all these words stand in what is said against being ready.
fn expect_obstacle(running: &Agent, words: &[&str]) {
    running.until(&format!("{words:?} against being ready"), || {
        let output = agent(&["wait", "--timeout", "0s", "--status", &running.interfaces.status]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "it is ready");
        words.iter().all(|word| told.contains(word))
    });
}

#[test]
fn an_empty_configuration_is_as_good_as_any() {
    let directory = TempDir::new().unwrap();
    let running = gateway(directory.path()).start();
    running.await_ready();
}

#[test]
fn a_configuration_without_anything_valid_is_waited_out_and_told_why() {
    let (valid, _) = shop();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("shop.yaml");
    fs::write(&file, "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec: {}\n")
        .unwrap();
    let running = gateway(directory.path()).start();
    let words = ["503", "PRE_INITIALIZING", "nothing in the configuration is valid", "shop.yaml:"];
    expect_obstacle(&running, &words);
    let by_admin = agent(&["request", "GET", "/ready", "--admin", &running.interfaces.admin]);
    assert!(String::from_utf8_lossy(&by_admin.stdout).starts_with("PRE_INITIALIZING\n"), "{by_admin:?}");
    fs::copy(valid.path().join("shop.yaml"), &file).unwrap();
    running.await_ready();
    // What was valid goes on serving, so the proxy stays ready.
    fs::write(&file, "{").unwrap();
    let broken = || {
        printed(&["request", "GET", "/findings", "--admin", &running.interfaces.admin]).contains("error: ")
    };
    eventually("the file is read again", broken);
    running.await_ready();
}

#[test]
fn a_gateway_that_no_client_can_reach_waits_for_its_port() {
    let (directory, port) = shop();
    let other = TcpListener::bind(("0.0.0.0", port)).unwrap();
    let running = gateway(directory.path()).start();
    expect_obstacle(&running, &["no listener could be opened", &port.to_string()]);
    drop(other);
    running.await_ready();
}

#[test]
fn a_workload_that_must_be_known_waits_for_its_certificate() {
    let (directory, identity) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let of_identity = ["--identity-dir", identity.path().to_str().unwrap()];
    let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: all}\n\
                  spec: {mtls: {mode: STRICT}}\n";
    fs::write(directory.path().join("strict.yaml"), strict).unwrap();
    let nowhere = sidecar(directory.path()).start();
    expect_obstacle(&nowhere, &["the workload has no certificate", "cert-chain.pem", "--identity-dir"]);
    drop(nowhere);
    let running = sidecar(directory.path()).flags(&of_identity).start();
    expect_obstacle(&running, &["the workload has no certificate", "cannot be read"]);
    let certificate = generate_simple_self_signed(["shop.local".to_owned()]).unwrap();
    let pem = certificate.cert.pem();
    for (name, content) in [
        ("cert-chain.pem", &pem),
        ("root-cert.pem", &pem),
        ("key.pem", &certificate.signing_key.serialize_pem()),
    ] {
        fs::write(identity.path().join(name), content).unwrap();
    }
    running.await_ready();
    drop(running);
    // Where nobody must show a certificate none is waited for.
    fs::write(directory.path().join("strict.yaml"), strict.replace("STRICT", "PERMISSIVE")).unwrap();
    sidecar(directory.path()).start().await_ready();
}

#[test]
fn what_is_to_be_protected_must_be_known_at_the_start() {
    let strict = |namespace: &str, mode: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {{name: all, namespace: {namespace}}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
        )
    };
    let mutual = |mode: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: all}}\n\
             spec: {{host: a.com, trafficPolicy: {{tls: {{mode: {mode}}}}}}}\n"
        )
    };
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    // Something else is valid.
    fs::write(directory.path().join("other.yaml"), mutual("SIMPLE").replace("all", "other")).unwrap();
    for (wrong, right) in [
        (strict("shop", "STRCT"), strict("shop", "PERMISSIVE")),
        (strict("istio-system", "STRCT"), strict("istio-system", "PERMISSIVE")),
        (mutual("SIMPEL"), mutual("SIMPLE")),
    ] {
        fs::write(&file, &wrong).unwrap();
        let running = sidecar(directory.path()).start();
        expect_obstacle(&running, &["what is to be protected is not known", "a.yaml:", "mode"]);
        fs::write(&file, &right).unwrap();
        running.await_ready();
        // Now there is a version that counts.
        fs::write(&file, &wrong).unwrap();
        let admin = ["request", "GET", "/findings", "--admin", &running.interfaces.admin];
        eventually("the file is read again", || printed(&admin).contains("error: "));
        running.await_ready();
    }
    for of_others in [
        strict("elsewhere", "STRCT"),
        mutual("SIMPEL").replace("{name: all", "{namespace: elsewhere, name: all"),
    ] {
        fs::write(&file, of_others).unwrap();
        sidecar(directory.path()).start().await_ready();
    }
}

/// What is asked of clients is not known, but it may be that they come encrypted.
#[test]
fn nobody_comes_in_clear_text_before_it_is_known_whether_they_may() {
    let app = Endpoint::named("app");
    let port = free_port();
    let ingress = format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: shop, namespace: shop}}\n\
         spec: {{ingress: [{{port: {{number: {port}, protocol: HTTP, name: http}}, captureMode: NONE, \
         bind: 127.0.0.1, defaultEndpoint: '{}'}}]}}\n",
        app.address
    );
    let peers = |mode: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {{name: all, namespace: shop}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
        )
    };
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("peers.yaml");
    fs::write(directory.path().join("sidecar.yaml"), ingress).unwrap();
    fs::write(&file, peers("STRCT")).unwrap();
    let running = sidecar(directory.path()).start();
    expect_obstacle(&running, &["what is to be protected is not known"]);
    running.await_port(port);
    assert!(Client::local(port).ask("/", "").message().is_err(), "clear text is served");
    assert_eq!(app.requests(), 0);
    running.log_line(&["clear text is refused until it is known which mutual TLS is asked of clients"]);
    fs::write(&file, peers("PERMISSIVE")).unwrap();
    running.await_ready();
    assert_eq!(Client::local(port).get("/").body, "app");
    // Now there is a version that counts, and what comes beside it takes nothing away.
    fs::write(&file, peers("STRCT")).unwrap();
    fs::write(directory.path().join("more.yaml"), peers("STRCT").replace("all", "more")).unwrap();
    let admin = ["request", "GET", "/findings", "--admin", &running.interfaces.admin];
    eventually("the files are read again", || {
        let findings = printed(&admin);
        findings.contains("peers.yaml:") && findings.contains("more.yaml:")
    });
    assert_eq!(Client::local(port).get("/").body, "app");
}

#[test]
fn a_pod_has_settings_of_its_own_proxy() {
    let (directory, port) = shop();
    let variables = [("PROXY_CONFIG", r#"{"concurrency":2,"gatewayTopology":{"proxyProtocol":{}}}"#)];
    let running = gateway(directory.path()).variables(&variables).start();
    running.await_ready();
    let url = format!("http://127.0.0.1:{port}/gone");
    let asked = |flags: &[&str]| {
        let curl = Command::new("curl").args(["-s", "-H", "Host: www.shop.com", &url]).args(flags).output();
        curl.unwrap().status.success()
    };
    assert!(asked(&["--haproxy-protocol"]) && !asked(&[]), "the mesh asks for no PROXY header, the pod does");
}

#[test]
fn a_pod_says_what_its_proxy_puts_into_heads() {
    let (directory, port) = shop();
    let variables = [("PROXY_CONFIG", r#"{"proxyHeaders":{"server":{"value":"shop"}}}"#)];
    let running = gateway(directory.path()).variables(&variables).start();
    running.await_ready();
    let url = format!("http://127.0.0.1:{port}/gone");
    let output = Command::new("curl").args(["-si", "-H", "Host: www.shop.com", &url]).output().unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(answer.starts_with("HTTP/1.1 410 ") && answer.contains("\r\nserver: shop\r\n"), "{answer}");
    let dump = printed(&["request", "GET", "/config_dump", "--admin", &running.interfaces.admin]);
    assert!(dump.contains(r#""server_name": "shop""#), "{dump}");
}

#[test]
fn settings_of_the_pod_that_cannot_be_read_keep_the_proxy_from_starting() {
    let output = Command::new(env!("CARGO_BIN_EXE_postern-agent"))
        .args(["proxy", "router", "--config-dir", "/tmp"])
        .env("PROXY_CONFIG", r#"{"gatewayTopology": {"numTrustedProxies": -1}}"#)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("PROXY_CONFIG:1:") && told.contains(": gatewayTopology.numTrustedProxies: "),
        "{told}"
    );
    assert!(told.contains("PROXY_CONFIG is refused, see above"), "{told}");
}
