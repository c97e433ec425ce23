//! The program as a gateway between clients and servers that other people wrote.
//!
//! `POSTERN_TEST_PYTHON` names an interpreter that has the packages `grpcio` and `websockets`; `H2SPEC` the program of
//! that name. What is not there is skipped, and that is said; with `REQUIRE_PEERS=1` it fails the test.

mod curl;
mod gateway;
mod h2spec;
mod nginx;
mod smuggling;
mod system_calls;

use std::{
    env,
    process::{Command, Stdio},
};

use self::gateway::Gateway;
use crate::support::{free_port, skip};

/// An interpreter that can import `package`.
fn python(package: &str) -> Option<String> {
    let python = env::var("POSTERN_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = format!("import {package}");
    let mut probe = Command::new(&python);
    let found =
        probe.args(["-c", &import]).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        skip(&format!("`{python}` has no package `{package}`; POSTERN_TEST_PYTHON may name one that has"));
    }
    found.then_some(python)
}

/// Runs a script that serves on one port and asks itself through a gateway.
fn talk_through_gateway(package: &str, script: &str, port_name: &str) {
    let Some(python) = python(package) else { return };
    let upstream = free_port();
    let gateway = Gateway::start(upstream, port_name);
    let script = format!("{}/tests/peers/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python)
        .arg(script)
        .args([upstream.to_string(), gateway.port.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.ends_with("ok\n"), "{said}{error}{}", gateway.log());
}

#[test]
fn grpc_calls_of_all_kinds_deadlines_and_cancellation() {
    talk_through_gateway("grpc", "grpc_echo.py", "grpc");
}

#[test]
fn websocket_messages_and_closing_handshake() {
    talk_through_gateway("websockets", "websocket_echo.py", "http");
}

#[test]
fn websocket_where_the_version_follows_the_client() {
    talk_through_gateway("websockets", "websocket_echo.py", "auto");
}

#[test]
fn the_http_client_and_server_of_python_on_one_connection() {
    talk_through_gateway("http.server", "http_echo.py", "http");
}
