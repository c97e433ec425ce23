//! curl through the gateway.

use std::process::{Command, Stdio};

use super::{gateway::Gateway, python};
use crate::support::{free_port, skip};

/// Runs curl without a word about progress: what it prints. `None` when there is none here.
pub(super) fn curl(arguments: &[&str]) -> Option<String> {
    let Ok(output) = Command::new("curl").args(["-sS", "--max-time", "60"]).args(arguments).output() else {
        skip("there is no curl here");
        return None;
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Python's own server, which speaks HTTP/1.0 by default, and curl in every version it has.
#[test]
fn curl_in_every_version_and_the_http_server_of_python() {
    let Some(python) = python("http.server") else { return };
    let upstream = free_port();
    let gateway = Gateway::start(upstream, "http");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), vec![b'f'; 300_000]).unwrap();
    let mut server = Command::new(python)
        .args(["-m", "http.server", "--bind", "127.0.0.1", &upstream.to_string()])
        .current_dir(directory.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    gateway.await_port(upstream);
    let url = format!("http://127.0.0.1:{}/file", gateway.port);
    // An offer of HTTP/2 is not taken up.
    let versions =
        [("--http1.0", "1.1"), ("--http1.1", "1.1"), ("--http2", "1.1"), ("--http2-prior-knowledge", "2")];
    for (version, spoken) in versions {
        let shown = "%{http_version} %{http_code} %{size_download}";
        let Some(said) = curl(&["-o", "/dev/null", "-w", shown, version, &url]) else { break };
        assert_eq!(said, format!("{spoken} 200 300000"), "{version}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
}
