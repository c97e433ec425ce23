//! Programs that other people wrote, behind and before sidecars. What is not there is skipped, and that is said.

use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::process::{Process, eventually};
use netns_tests::{AgentSetup, Network, Pod, Service, needs_root};

#[test]
fn nginx_and_curl_between_two_sidecars() -> Result<()> {
    needs_root!();
    if !runs("nginx", &["-v"]) || !runs("curl", &["--version"]) {
        return skip("nginx and curl are needed");
    }
    let network = Network::new()?;
    let (client, server) = (network.pod("client")?, network.pod("server")?);
    client.intercept()?;
    server.intercept()?;
    let service = Service::new("web", WEB, 8080).endpoint(server.ip()).selects("web");
    let setup = |app| AgentSetup::sidecar().labels(app).file("web.yaml", service.yaml());
    let _agents = (setup("app=client").start(&client)?, setup("app=web").start(&server)?);
    let _nginx = nginx(&server)?;
    let url = |path: &str| format!("http://{WEB}{path}");
    let curl = |arguments: &[&str]| {
        let always = ["curl", "-sS", "--max-time", "20", "-H", "host: web"];
        client.run(&[&always[..], arguments].concat())
    };
    eventually(Duration::from_secs(20), || {
        let said = curl(&[&url("/hello")])?;
        ensure!(said == "HTTP/1.1 http", "{said}");
        Ok(())
    })?;
    let sizes = ["-o", "/dev/null", "-w", "%{http_code} %{size_download}"];
    for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
        for (path, expected) in
            [("/file", "200 300000"), ("/chunked", "200 300000"), ("/last", "200 4"), ("/none", "404 153")]
        {
            let said = curl(&[&sizes[..], &[version, &url(path)]].concat())?;
            ensure!(said == expected, "{version} {path}: {said}");
        }
        let said = curl(&["-I", "-o", "/dev/null", "-w", "%{http_code}", version, &url("/file")])?;
        ensure!(said == "200", "{version} HEAD: {said}");
    }
    // Answered before the body is there.
    let file = format!("@{}", server.dir().join("file").display());
    let code = ["-o", "/dev/null", "-w", "%{http_code}", "--http1.1", "--data-binary", &file];
    let said = curl(&[&code[..], &[&url("/small")]].concat())?;
    ensure!(said == "413", "a body that is too large: {said}");
    Ok(())
}

#[test]
fn grpc_calls_of_all_kinds_through_the_sidecar_out_and_in() -> Result<()> {
    needs_root!();
    talk_to_itself("grpc", "grpc_echo.py", "grpc")
}

#[test]
fn websocket_messages_through_the_sidecar_out_and_in() -> Result<()> {
    needs_root!();
    talk_to_itself("websockets", "websocket_echo.py", "http")?;
    talk_to_itself("websockets", "websocket_echo.py", "auto")
}

/// Says that a test is skipped, and why, unless nothing that other people wrote may be missing (`REQUIRE_PEERS=1`).
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn skip(why: &str) -> Result<()> {
    ensure!(env::var("REQUIRE_PEERS").as_deref() != Ok("1"), "{why}, and REQUIRE_PEERS=1 forbids to skip");
    eprintln!("skipped: {why}");
    Ok(())
}

/// Runs a script that serves and asks itself by the address of a Service.
fn talk_to_itself(package: &str, script: &str, port_name: &str) -> Result<()> {
    let python = env::var("POSTERN_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !runs(&python, &["-c", &format!("import {package}")]) {
        return skip(&format!(
            "`{python}` has no package `{package}`; POSTERN_TEST_PYTHON may name one that has"
        ));
    }
    let network = Network::new()?;
    let pod = network.pod("echo")?;
    pod.intercept()?;
    let service = Service::new("echo", WEB, 50051).port_name(port_name).endpoint(pod.ip()).selects("echo");
    let setup = AgentSetup::sidecar().labels("app=echo").file("echo.yaml", service.yaml());
    let agent = setup.start(&pod)?;
    let script = format!("{}/../agent/tests/peers/{script}", env!("CARGO_MANIFEST_DIR"));
    let said = pod.run(&[&python, &script, "0.0.0.0:50051", &WEB.to_string()])?;
    ensure!(said == "ok\n", "{said}");
    agent.access_log_line("inbound|50051||").map(drop)
}

/// Whether a program is there and content.
fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// nginx on port 8080 of `pod`.
fn nginx(pod: &Pod) -> Result<Process> {
    let dir = pod.dir();
    fs::write(dir.join("file"), vec![b'f'; 300_000])?;
    fs::write(dir.join("nginx.conf"), NGINX.replace("DIR", &dir.display().to_string()))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-e").arg("stderr").arg("-c").arg(dir.join("nginx.conf"));
    Process::spawn(pod.namespace(), "nginx", dir, command)
}

/// `/chunked` comes in chunks for who speaks HTTP/1.1; `/last` closes its connection; `/small` takes no large bodies.
const NGINX: &str = "
user root;
daemon off;
worker_processes 1;
pid DIR/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path DIR/body;
  proxy_temp_path DIR/proxy;
  fastcgi_temp_path DIR/fastcgi;
  uwsgi_temp_path DIR/uwsgi;
  scgi_temp_path DIR/scgi;
  server {
    listen 8080;
    root DIR;
    location = /hello { return 200 '$server_protocol $http_x_forwarded_proto'; }
    location = /chunked {
      alias DIR/file;
      default_type text/plain;
      sub_filter_types text/plain;
      sub_filter none-such x;
    }
    location = /last { keepalive_timeout 0; return 200 last; }
    location = /small { client_max_body_size 1k; proxy_pass http://127.0.0.1:1; }
  }
}
";

const WEB: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
