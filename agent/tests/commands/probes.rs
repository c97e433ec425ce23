//! Probes of the application that the kubelet sends to the agent.

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    process::Command,
};

use super::{gateway, shop};
use crate::support::{Client, agent};

#[test]
fn the_agents_port_asks_the_application() {
    let (directory, _) = shop();
    let running = gateway(directory.path()).start();
    running.await_ready();
    let asked = |path: &str| agent(&["request", "GET", path, "--admin", &running.interfaces.agent]);
    assert!(asked("/app-health/shop/livez").status.success());
    let unknown = asked("/app-health/shop/readyz");
    let told = String::from_utf8_lossy(&unknown.stdout);
    assert!(
        !unknown.status.success() && told.contains("no probe for /app-health/shop/readyz"),
        "{unknown:?}"
    );
}

#[test]
fn probes_that_nobody_can_ask_keep_the_proxy_from_starting() {
    let output = Command::new(env!("CARGO_BIN_EXE_postern-agent"))
        .args(["proxy", "sidecar", "--config-dir", "/tmp"])
        .env("ISTIO_KUBE_APP_PROBERS", r#"{"/app-health/web/livez": {"httpGet": {"port": "http"}}}"#)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("ISTIO_KUBE_APP_PROBERS: `/app-health/web/livez`: httpGet.port is `\"http\"`"),
        "{told}"
    );
}

#[test]
fn questions_that_take_long_do_not_shut_the_port() {
    let application = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = application.local_addr().unwrap().port();
    let probers = format!(
        r#"{{"/app-health/slow/livez":{{"httpGet":{{"path":"/","port":{port}}},"timeoutSeconds":600}}}}"#
    );
    let (directory, _) = shop();
    let running = gateway(directory.path()).variables(&[("ISTIO_KUBE_APP_PROBERS", &probers)]).start();
    running.await_ready();
    let agent = running.interfaces.agent.parse().unwrap();
    // One at a time, until as many wait as there may be.
    let slow: Vec<_> = (0..128)
        .map(|_| {
            let mut client = Client::connect(agent);
            client.send("GET /app-health/slow/livez HTTP/1.1\r\nhost: a\r\n\r\n");
            (client, application.accept().unwrap())
        })
        .collect();
    let mut kubelet = Client::connect(agent);
    kubelet.send("GET /healthz/ready HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(kubelet.answer().status(), 200);
    drop(slow);
}

#[test]
fn connections_that_say_nothing_push_out_no_probe() {
    let application = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = application.local_addr().unwrap().port();
    let probers = format!(
        r#"{{"/app-health/slow/livez":{{"httpGet":{{"path":"/","port":{port}}},"timeoutSeconds":60}}}}"#
    );
    let (directory, _) = shop();
    let running = gateway(directory.path()).variables(&[("ISTIO_KUBE_APP_PROBERS", &probers)]).start();
    running.await_ready();
    let agent = running.interfaces.agent.parse().unwrap();
    let mut kubelet = Client::connect(agent);
    kubelet.send("GET /app-health/slow/livez HTTP/1.1\r\nhost: a\r\n\r\n");
    let (mut asked, _) = application.accept().unwrap();
    let silent: Vec<_> = (0..300).map(|_| TcpStream::connect(agent).unwrap()).collect();
    // One that came last has been accepted once it is answered, and so were those before it.
    assert_eq!(
        Client::connect(agent).send("GET /healthz/ready HTTP/1.1\r\nhost: a\r\n\r\n").answer().status(),
        200
    );
    asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    assert_eq!(kubelet.answer().status(), 200);
    drop(silent);
}
