//! Limits of the whole process: how they are told, and what clients see of them.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
};

use super::shop;
use crate::support::{Agent, PATIENCE, eventually, printed};

/// A connection that has had its answer, or none when it was closed.
fn served(port: u16) -> Option<TcpStream> {
    let mut client = TcpStream::connect(("127.0.0.1", port)).ok()?;
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(format!("GET /gone HTTP/1.1\r\nhost: www.shop.com:{port}\r\n\r\n").as_bytes()).ok()?;
    let mut start = [0; 12];
    client.read_exact(&mut start).ok()?;
    assert_eq!(&start, b"HTTP/1.1 410");
    Some(client)
}

/// A gateway told these variables, and its port.
fn gateway(variables: &[(&str, &str)]) -> (Agent, u16) {
    let (directory, port) = shop();
    let running = super::gateway(directory.path()).variables(variables).start();
    running.await_ready();
    (running, port)
}

#[test]
fn a_process_that_holds_more_than_its_limit_says_so_and_takes_no_connections() {
    let (running, port) = gateway(&[("POSTERN_MEMORY_LIMIT", "1000000")]);
    assert!(served(port).is_none());
    running.log_line(&["memory is short: new requests are answered with 503"]);
    // Its own interfaces are served: who looks for the reason finds it.
    let metrics = printed(&["request", "GET", "/stats?filter=refused", "--admin", &running.interfaces.admin]);
    let refused = metrics.lines().find(|line| line.contains("over_limit")).unwrap();
    assert!(!refused.ends_with(" 0"), "{metrics}");
}

#[test]
fn a_process_without_a_limit_serves() {
    let (running, port) = gateway(&[("POSTERN_MEMORY_LIMIT", "0")]);
    assert!(served(port).is_some());
    assert!(!running.log().contains("memory is short"), "{}", running.log());
}

/// Head of the answer to a request for `path` with a field more.
fn head_told(port: u16, path: &str, field: &str) -> String {
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: www.shop.com:{port}\r\nconnection: close\r\n{field}\r\n");
    client.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer.split("\r\n\r\n").next().unwrap().to_owned()
}

#[test]
fn at_the_edge_paths_and_names_that_deceive_go_no_further() {
    let told = |settings: &str| {
        let (_running, port) = gateway(&[("PROXY_CONFIG", settings)]);
        [head_told(port, "/%2Fgone?a", ""), head_told(port, "/gone", "a_b: 1\r\n")]
    };
    let [redirected, refused] = told(r#"{"connectionSettings":{"profile":"EDGE"}}"#);
    assert!(
        redirected.starts_with("HTTP/1.1 307 ") && redirected.contains("location: /gone?a"),
        "{redirected}"
    );
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    let other = r#"{"connectionSettings":{"profile":"EDGE","httpHeadersWithUnderscoresAction":"DROP_HEADER",
        "httpPathWithEscapedSlashesAction":"UNESCAPE_AND_FORWARD"}}"#;
    for served in told(other) {
        assert!(served.starts_with("HTTP/1.1 410 "), "{served}");
    }
}

#[test]
fn heads_are_as_large_as_the_variables_say() {
    let (_running, port) = gateway(&[("POSTERN_MAX_HEADERS_KB", "8"), ("POSTERN_MAX_HEADERS_COUNT", "150")]);
    for (lines, status) in [
        ("x: 1\r\n".repeat(149), "HTTP/1.1 410"),
        ("x: 1\r\n".repeat(150), "HTTP/1.1 431"),
        (format!("x: {}\r\n", "a".repeat(8000)), "HTTP/1.1 410"),
        (format!("x: {}\r\n", "a".repeat(8200)), "HTTP/1.1 431"),
    ] {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let head = format!("GET /gone HTTP/1.1\r\nhost: www.shop.com:{port}\r\n{lines}\r\n");
        client.write_all(head.as_bytes()).unwrap();
        let mut start = [0; 12];
        client.read_exact(&mut start).unwrap();
        assert_eq!(start.escape_ascii().to_string(), status);
    }
}

#[test]
fn connections_are_limited_over_all_workers() {
    const VARIABLE: &str = "ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS";
    let written = r#"{"connectionSettings":{"globalDownstreamConnectionLimit":2}}"#;
    two_connections_are_served(&[(VARIABLE, "2")]);
    two_connections_are_served(&[(VARIABLE, "1"), ("PROXY_CONFIG", written)]);
}

fn two_connections_are_served(variables: &[(&str, &str)]) {
    let (_running, port) = gateway(variables);
    let open = [served(port).unwrap(), served(port).unwrap()];
    assert!((0..5).all(|_| served(port).is_none()));
    drop(open);
    eventually("places are free", || served(port).is_some());
}

#[test]
fn settings_that_cannot_be_used_keep_the_proxy_from_starting() {
    for (name, value, expected) in [
        (
            "POSTERN_MEMORY_LIMIT",
            "1GiB",
            "invalid POSTERN_MEMORY_LIMIT `1GiB`: expected bytes as Kubernetes writes them, such as `512Mi`",
        ),
        (
            "ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS",
            "1GiB",
            "invalid ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS `1GiB`: expected a number of connections, \
             0 for no limit",
        ),
        (
            "POSTERN_MAX_HEADERS_KB",
            "1GiB",
            "invalid POSTERN_MAX_HEADERS_KB `1GiB`: expected a number of KiB, 1–256",
        ),
        (
            "POSTERN_MAX_HEADERS_COUNT",
            "1GiB",
            "invalid POSTERN_MAX_HEADERS_COUNT `1GiB`: expected a number of fields, 1–10000",
        ),
        (
            "POSTERN_UPGRADES",
            "websocket,h2c",
            "invalid POSTERN_UPGRADES `websocket,h2c`: `h2c` cannot be passed on: its requests would pass all routes \
             and policies unseen; remove it",
        ),
        (
            "POSTERN_UPGRADES",
            "websocket spdy/3.1",
            "invalid POSTERN_UPGRADES `websocket spdy/3.1`: `websocket spdy/3.1` is no protocol: expected names as",
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern-agent"));
        let output =
            command.args(["proxy", "router", "--config-dir", "/"]).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
    }
}
